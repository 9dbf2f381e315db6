"""`make bench-tune`: what a tuning on drawn cards gains on real cut-outs, by steps, cards, variety and width.

TABLES (steps,cards,variety,width) says which tables, STEPS (400) how many steps of 48 pictures each tuning but those of
the first takes, COUNT (5000) how many cards are drawn. Tunings are kept in encoder/bench/, so that an interrupted run
goes on. The real cards must be there: an index of their clean pictures is asked about every cut-out, with corners as
they are and 3 % and 6 % off, five seeds each, and about a simulated photograph of each picture; by name. FOLDER=DIR
measures one model folder instead: FOLDER=models/cards.
"""

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from helpers.embed.dhash import HASH_BITS, dhash
from helpers.embed.embedder import Embedder
from helpers.embed.model_source import find_model
from helpers.embed.preprocess import Preparation
from helpers.evaluate.tables import aligned
from helpers.index.whitening import Whitening
from helpers.recognise.evaluation import Share
from helpers.tune.request import Recipe
from tests.conftest import REAL, ROOT
from tests.cutouts import ERRORS, Cutout, RealCards, parts, read

ENCODER = ROOT / "encoder"
KEPT = ENCODER / "bench"
TABLES = os.environ.get("TABLES", "steps,cards,variety,width").split(",")
STEPS, COUNT = int(os.environ.get("STEPS", "400")), int(os.environ.get("COUNT", "5000"))
HELD_OUT = 4  # percent
SIMULATED = 1.0  # strength of the simulated photographs
WEIGHT, RIDGE = 1.0, 1.0  # of the hash, of the whitening
OLD_FRAMES = {"1993", "1997", "2003", "2015"}

Rows = NDArray[np.float32]


class Asked:
    """Cut-outs of photographs of the real cards and simulated photographs, with difference hashes."""

    def __init__(self) -> None:
        self.cards = RealCards()
        self.pictures: list[Image.Image] = []
        self.seen: list[Cutout] = []
        for picture, cutout in (*self.cards.photographed(), *self.cards.simulated(SIMULATED)):
            self.pictures.append(picture)
            self.seen.append(cutout)
        self.hashes = np.stack([dhash(picture) for picture in self.pictures])
        self.clean_hashes = np.stack([dhash(picture) for picture in self.cards.clean])

    def measure(self, model: str) -> list[list[str]]:
        """A line for each way to compare: recall@1 by name at each corner error."""
        embedder = Embedder.load(find_model(model, "openai"), Preparation(384, "pad"), "auto")
        clean, asked = (np.concatenate([embedder.embed(part) for part in parts(all_)])
                        for all_ in (self.cards.clean, self.pictures))  # fmt: skip
        whitening = Whitening.fit(clean, RIDGE)
        assert whitening is not None
        bits = [(self.clean_hashes ^ one) for one in self.hashes]
        differing = np.stack([np.unpackbits(one, axis=1).sum(axis=1, dtype=np.float32) for one in bits]) / HASH_BITS
        rounded = np.rint(clean * 127) / 127
        scores = {
            "vector": asked @ clean.T,
            "vector, int8": asked @ rounded.T,
            "vector, whitened": whitening(asked) @ whitening(clean).T,
        }
        scores["with the hash"] = scores["vector"] - WEIGHT * differing
        scores["whitened, with the hash"] = scores["vector, whitened"] - WEIGHT * differing
        errors = (*ERRORS, SIMULATED)
        return [[way, *(str(self._share(found, error)) for error in errors)] for way, found in scores.items()]

    def _share(self, scores: Rows, error: float) -> Share:
        which = [i for i, cutout in enumerate(self.seen) if cutout.error == error]
        first = self.cards.names[scores[which].argmax(axis=1)]
        hits = [found == self.seen[i].name for i, found in zip(which, first.tolist(), strict=True)]
        return Share.of([self.seen[i].photo for i in which], hits)


def tuned(name: str, steps: int, *flags: object, table: Path = ENCODER / "cards" / "pictures.csv") -> str:
    """A model tuned on drawn cards for about so many steps, made unless it is there."""
    out = KEPT / name
    epochs = steps * Recipe().batch / (len(read(table)) * (1 - HELD_OUT / 100))
    if not (out / "open_clip_config.json").exists() or (out / "tuning.pt").exists():
        words = ("--pictures", ENCODER / "cards", "--table", table)
        start = ("--model", f"local-dir:{ENCODER / 'model'}", "--held-out", HELD_OUT, "--out", out)
        _run("scripts/tune_model.py", *words, *start, "--epochs", epochs, *flags)
    return f"local-dir:{out}"


def _run(script: str, *words: object) -> None:
    if code := subprocess.run([sys.executable, str(ROOT / script), *map(str, words)], check=False).returncode:
        sys.exit(code)


def some_cards(name: str, wanted: Callable[[dict[str, str]], bool], count: int) -> Path:
    """A table of the first `count` drawn pictures that are `wanted`."""
    rows = [row for row in read(ENCODER / "cards" / "pictures.csv") if wanted(row)][:count]
    KEPT.mkdir(parents=True, exist_ok=True)
    table = KEPT / f"{name}.csv"
    with open(table, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return table


def models(table: str) -> dict[str, str]:
    """The models of a table, by what is told of them."""
    if table == "steps":
        return {f"{n} steps": tuned(f"steps-{n}", n) for n in (40, 200, 600, 1200)}
    if table == "cards":
        counts = (100, 300, 1200, 5000)
        tables = {n: some_cards(f"cards-{n}", lambda _: True, n) for n in counts}
        return {f"{n:,} cards": tuned(f"cards-{n}-{STEPS}", STEPS, table=tables[n]) for n in counts}
    if table == "variety":
        plain = {
            "modern frame only": lambda row: row["frame"] == "2015" and not row["treatment"] and row["lang"] == "en",
            "frames of all eras": lambda row: not row["treatment"] and row["lang"] == "en",
            "all": lambda _: True,
        }
        found = {}
        for number, (name, wanted) in enumerate(plain.items()):
            kept = f"variety-{number}-{STEPS}"
            found[f"{name}, 1,000 cards"] = tuned(kept, STEPS, table=some_cards(kept, wanted, 1000))
        return found
    widths = (64, 128, 256, 512)
    return {f"width {n}": tuned(f"width-{n}-{STEPS}", STEPS, "--width", n) for n in widths}


def main() -> None:
    if not (REAL / "cards.csv").is_file():
        sys.exit(f"no real cards at {REAL}; set MTG_REAL_DATA to the folder that has them")
    if folder := os.environ.get("FOLDER"):
        show(Asked(), {folder: f"local-dir:{folder}"})
        return
    if not (ENCODER / "cards" / "pictures.csv").exists():
        _run("scripts/draw_cards.py", "--out", ENCODER / "cards", "--count", COUNT, "--seed", 5)
    _run("scripts/make_offline_model.py", "--out", ENCODER / "model")
    cutouts = Asked()
    show(cutouts, {"before": f"local-dir:{ENCODER / 'model'}"})
    for table in TABLES:
        show(cutouts, models(table))


def show(cutouts: Asked, found: dict[str, str]) -> None:
    """Print a table."""
    head = ["", "", "corners as they are", "3 % off", "6 % off", "simulated photographs"]
    rows = [[name, *line] for name, model in found.items() for line in cutouts.measure(model)]
    print(aligned([head, *rows]), f"\nindex of {len(cutouts.cards.clean):,} faces\n", flush=True)


if __name__ == "__main__":
    main()
