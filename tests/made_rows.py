"""Generated vectors and hashes: spread like those of real cards, printings of a card as clusters of near-twins."""

import numpy as np
from numpy.typing import NDArray

from helpers.embed.vectors import unit_rows

MOST_PRINTINGS = 20
LIKE_A_PHOTOGRAPH = 0.7  # centred cosine of a query with its row: the shipped encoder's median at strength 1.0

Rows = NDArray[np.float32]


class Like:
    """Makes rows that are spread like given ones.

    Cards are drawn from a normal distribution with the mean and the covariance of the real rows: a graph then meets as
    many directions as among real cards, and as unequal ones. Each card has 1 to 20 printings, few of them many (the
    logarithm is uniform). Printings mostly show the same picture, scanned anew or in another frame: with a centred
    cosine of 0.9 to 0.99, one value for all printings of a card. (Of the real cards, which are of few sets, pairs with
    one name mostly show two pictures, at 0.5 to 0.85.)
    """

    def __init__(self, real: Rows, rng: np.random.Generator) -> None:
        self._mean = real.mean(axis=0, dtype=np.float64).astype(np.float32)
        centred = real - self._mean
        values, axes = np.linalg.eigh(np.asarray(centred.T @ centred / len(real), np.float64))
        self._factor = np.asarray(axes * np.sqrt(values.clip(min=0)), np.float32).T  # [D, D]
        self._rng = rng

    def _drawn(self, count: int) -> Rows:
        return np.asarray(self._rng.standard_normal((count, len(self._factor)), np.float32) @ self._factor)

    def rows(self, count: int) -> Rows:
        """Unit rows float32 [count, D], printings of a card apart from each other as in a list by set."""
        return self.printings(printed(count, self._rng))[self._rng.permutation(count)]

    def printings(self, card: NDArray[np.int64]) -> Rows:
        """Unit rows float32 [N, D] of these cards int64 [N], numbered from 0."""
        count = int(card.max()) + 1
        alike = self._rng.uniform(0.9, 0.99, count).astype(np.float32)[card, None]
        rows = np.sqrt(alike) * self._drawn(count)[card] + np.sqrt(1 - alike) * self._drawn(len(card))
        return unit_rows(self._mean + rows)

    def reprinted(self, rows: Rows) -> Rows:
        """Another printing of each row."""
        alike = self._rng.uniform(0.9, 0.99, (len(rows), 1)).astype(np.float32)
        return self._moved(rows, np.sqrt(alike))  # to their common picture; to each other the square of it

    def seen(self, rows: Rows) -> Rows:
        """The rows as photographs would show them: moved along the directions in which cards differ."""
        return self._moved(rows, np.float32(LIKE_A_PHOTOGRAPH))

    def _moved(self, rows: Rows, cosine: Rows | np.float32) -> Rows:
        """The rows at about this centred cosine to themselves."""
        centred, by = rows - self._mean, self._drawn(len(rows))
        by *= np.linalg.norm(centred, axis=1, keepdims=True) / np.linalg.norm(by, axis=1, keepdims=True)
        return unit_rows(np.asarray(self._mean + cosine * centred + np.sqrt(1 - cosine**2) * by, np.float32))


def printed(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which card each of `count` printings is of, int64 [count], in order: few cards have many, see `Like`."""
    printings = np.exp(rng.uniform(0, np.log(MOST_PRINTINGS + 1), count)).astype(np.int64)
    return np.repeat(np.arange(count), printings)[:count]


def typical(width: int = 512, count: int = 4096) -> Rows:
    """Unit rows float32 [count, width], spread as the shipped encoder spreads 1,050 real cards, without any of them.

    Their mean has a norm of 0.44; the variance along the k-th axis falls as exp(-k / 80) / sqrt(k): the first takes
    6.4 %, 32 take 59 %, 128 take 92 %.
    """
    rng, k = np.random.default_rng(0), np.arange(1, width + 1)
    spread = np.sqrt(np.exp(-k / 80) / np.sqrt(k)).astype(np.float32)
    axes = np.linalg.qr(rng.standard_normal((width, width)))[0].astype(np.float32)
    rows = (rng.standard_normal((count, width), np.float32) * spread) @ axes * np.sqrt(0.81 / np.square(spread).sum())
    return unit_rows(np.float32(0.44 / np.sqrt(width)) + rows)


def moved(rows: NDArray[np.float32], cosine: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """The rows moved to about this cosine with themselves."""
    noise = unit_rows(rng.standard_normal(rows.shape, dtype=np.float32))
    return unit_rows(np.float32(cosine) * rows + np.float32(np.sqrt(1 - cosine**2)) * noise)


def flipped(hashes: NDArray[np.uint8], share: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The hashes with this share of their bits inverted."""
    return hashes ^ np.packbits(rng.random((len(hashes), 256)) < share, axis=1)
