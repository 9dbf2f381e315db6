"""`make bench-choices`: how to rank, by evidence from an untuned, the shipped and a tuned encoder.

MODELS=folder,folder names model folders (`cards`: the shipped one); TABLES some of those below. Synthetic queries are
simulated photographs of every real card at strengths 0.5 and 1.0, two seeds each, and each card's picture cut out with
corners 0, 3 and 6 % off; real ones the cut-outs of `bench_tune`. The index is the cards' 1,050 clean pictures, searched
exactly. All is by name. Settings are chosen on the synthetic queries alone, on half of the cards, and reported on the
other half. A stranger is a query with the rows of its name masked; "accepted" are known cards that are named and reach
the threshold that 2 % of the strangers on other folds reach. Vectors are made once and kept, see tests/features.py.
"""

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

from helpers.embed.model_source import LOCAL_DIR, SHIPPED, find_model
from helpers.embed.vectors import SCALE_FACTOR, quantize, unit_rows
from helpers.evaluate.tables import aligned
from helpers.index.whitening import NEAR, Whitening
from helpers.machine_limits import usable_cores
from helpers.recognise.evaluation import MAX_STRANGERS, Share, held_out, threshold
from helpers.recognise.ranking import OTHER_NAMES
from helpers.talk import Progress
from helpers.validation import decode_image
from tests.conftest import REAL, ROOT
from tests.cutouts import ENOUGH
from tests.features import USUAL, Features, Rows, Seen, Way
from tests.made_rows import Like
from tests.searching import exact_or_graph, graphs

RIDGES, WIDTHS, WEIGHTS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0), (64, 128, 256, 512), (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
SYNTHETIC = (
    *(f"simulated {strength}, seed {seed}" for seed in (0, 1) for strength in (0.5, 1.0)),
    *(f"corners {error}%" for error in (0, 3, 6)),
)
PHOTOGRAPHS = "photographs"
HASH = "dHash 256"
SIGNALS = ("margin + gap", "margin", "gap", "score")

Scores = torch.Tensor  # float32 [Q, N]
Floats = NDArray[np.float64]


# ------------------------------------------------------------------------------------------------------- the queries


@dataclass(frozen=True, slots=True)
class Queries:
    """Sets of queries, one after the other."""

    sets: NDArray[np.str_]  # [Q] the set that each belongs to
    groups: NDArray[np.int64]  # [Q] which photograph it is of, or which card
    names: NDArray[np.str_]  # [Q]
    hashes: dict[str, NDArray[np.uint8]]

    @classmethod
    def of(cls, features: Features, names: Sequence[str]) -> "Queries":
        """All of the sets `names`."""
        seen = [features.seen(name) for name in names]
        sets = [_set_names(name, one) for name, one in zip(names, seen, strict=True)]
        groups = [one.photos if name == PHOTOGRAPHS else one.names for name, one in zip(names, seen, strict=True)]
        kinds = seen[0].hashes
        return cls(
            np.concatenate(sets),
            np.unique(np.concatenate(groups), return_inverse=True)[1],
            np.concatenate([one.names for one in seen]),
            {kind: np.concatenate([one.hashes[kind] for one in seen]) for kind in kinds},
        )

    @property
    def half(self) -> NDArray[np.bool_]:
        """Whether a query's card is in the half by which settings are chosen."""
        _, name = np.unique(self.names, return_inverse=True)
        return np.asarray(np.random.default_rng(5).permutation(name.max() + 1)[name] % 2 == 0)


def _set_names(name: str, seen: Seen) -> NDArray[np.str_]:
    if name != PHOTOGRAPHS:
        return np.full(len(seen.names), name.partition(", seed")[0])
    return np.array([f"photographs {error:.0%}" for error in seen.errors])


class Index:
    """The rows of the clean pictures, and whose they are."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        known, first, name = np.unique(seen.names, return_index=True, return_inverse=True)
        self.names, self._first, self._name = known, first, name
        self._others = np.setdiff1d(np.arange(len(name)), first)

    def __len__(self) -> int:
        return len(self._name)

    def best_of_names(self, scores: Scores) -> Scores:
        """[Q, N] -> the best score of each name, [Q, names]."""
        best = scores[:, self._first]
        for row in self._others.tolist():
            name = self._name[row]
            best[:, name] = torch.maximum(best[:, name], scores[:, row])
        return best


class Judged(NamedTuple):
    """What was named, and how clearly, with the card in the index and with its rows masked."""

    right: NDArray[np.bool_]  # [Q]
    known: dict[str, Floats]  # by signal, [Q]
    strangers: dict[str, Floats]


def judge(index: Index, scores: Scores, names: NDArray[np.str_]) -> Judged:
    """Judge the scores [Q, N] of queries for cards of these names."""
    values, found = torch.topk(index.best_of_names(scores), OTHER_NAMES + 2)
    values, own = values.double(), found == torch.from_numpy(np.searchsorted(index.names, names))[:, None]
    others = torch.argsort(own.int(), dim=1, stable=True)[:, : OTHER_NAMES + 1]  # without its own name
    return Judged(own[:, 0].numpy(), _signals(values[:, :-1]), _signals(values.gather(1, others)))


def _signals(values: torch.Tensor) -> dict[str, Floats]:
    """Of the scores of names, best first, [Q, 1 + OTHER_NAMES]."""
    best, others = values[:, 0].numpy(), values[:, 1:].numpy()
    margin, gap = best - others[:, 0], best - others.mean(axis=1)
    return {"margin + gap": margin + gap, "margin": margin, "gap": gap, "score": best}


def differing(ours: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> torch.Tensor:
    """The share of bits in which hashes [Q, bytes] and [N, bytes] differ, float32 [Q, N]."""
    signs = [torch.from_numpy(np.unpackbits(each, axis=1)).float() * 2 - 1 for each in (ours, theirs)]
    return (1 - signs[0] @ signs[1].T / signs[0].shape[1]) / 2


# ----------------------------------------------------------------------------------------------------- ways to compare


class Compared(NamedTuple):
    """A way to compare vectors."""

    kind: str  # raw, centred, whitened
    ridge: float = 0.0
    width: int = 0
    weighed: bool = True

    def __str__(self) -> str:
        if self.kind != "whitened":
            return self.kind
        return f"whitened {self.width}, ridge {self.ridge:g}{'' if self.weighed else ', all rows alike'}"


RAW, CENTRED = Compared("raw"), Compared("centred")


def whitened(ridge: float, width: int = 512, *, weighed: bool = True) -> Compared:
    """A whitening."""
    return Compared("whitened", ridge, width, weighed)


def fitted(rows: Rows, way: Compared) -> Callable[[Rows], Rows]:
    """How vectors are compared among an index's rows."""
    if way.kind == "raw":
        return lambda some: some
    if way.kind == "centred":
        mean = rows.mean(axis=0)
        return lambda some: unit_rows(some - mean)
    with patch("helpers.index.whitening.NEAR", NEAR if way.weighed else math.inf):
        whitening = Whitening.fit(rows, way.ridge, way.width)
    assert whitening is not None
    return whitening


class Encoder(NamedTuple):
    """The vectors of one model: of the index and of the queries."""

    clean: Rows
    asked: Rows

    @classmethod
    def of(
        cls, features: Features, model: str, sets: Sequence[str], way: Way = USUAL, index: str = "clean"
    ) -> "Encoder":
        """All of these sets."""
        asked = np.concatenate([features.rows(model, name, way) for name in sets])
        return cls(features.rows(model, index, way), asked)

    def cosines(self, way: Compared) -> Scores:
        """float32 [Q, N]."""
        compared = fitted(self.clean, way)
        return torch.from_numpy(compared(self.asked)) @ torch.from_numpy(compared(self.clean)).T


# --------------------------------------------------------------------------------------------------------- the figures


def share_of(groups: NDArray[np.int64], hits: NDArray[np.bool_]) -> Share:
    """Of hits [N], each of one of these groups [N]."""
    return Share.of(groups, hits)  # type: ignore[arg-type]  # arrays of numbers do, and are quicker


def recall(queries: Queries, judged: Judged, which: NDArray[np.bool_]) -> Share:
    """Named first, of some queries."""
    return share_of(queries.groups[which], judged.right[which])


def accepted(
    queries: Queries, judged: Judged, which: NDArray[np.bool_], signal: str = SIGNALS[0]
) -> tuple[Share, Share]:
    """Known cards named and accepted, and strangers accepted, by thresholds from other folds."""
    groups = queries.groups[which]
    known = np.where(judged.right, judged.known[signal], -np.inf)[which]
    found = held_out(known, groups, judged.strangers[signal][which], groups)  # type: ignore[arg-type]  # likewise
    return share_of(groups, found.known), share_of(groups, found.strangers)


# ----------------------------------------------------------------------------------------------------------- the tables


Setting = tuple[Compared, float]  # how vectors are compared, and the hash's weight
# For the tables after the first: what it chose, so that each can be printed alone
RAW_BEST: Setting = (RAW, 2.0)
CHOSEN: Setting = (whitened(1.0, 256), 3.0)
OF_TUNED: Setting = (whitened(1.0, 256), 2.0)


class Bench:
    """What all tables need."""

    def __init__(self, features: Features) -> None:
        sets = (*SYNTHETIC, PHOTOGRAPHS)
        self.features = features
        self.index = Index(features.seen("clean"))
        self.queries = Queries.of(features, sets)
        self.encoders = {model: Encoder.of(features, model, sets) for model in features.models}
        self.differing = differing(self.queries.hashes[HASH], self.index.seen.hashes[HASH])
        self.synthetic = ~np.char.startswith(self.queries.sets, PHOTOGRAPHS)
        photos, count = np.unique(self.queries.groups[~self.synthetic], return_counts=True)
        self.grid = self.queries.groups == photos[count.argmax()]  # one photograph of 34 cards

    def which(self) -> dict[str, NDArray[np.bool_]]:
        """The queries of each set, of all synthetic ones, and of the photographs without the grid."""
        found = {"all synthetic": self.synthetic}
        for name in dict.fromkeys(self.queries.sets.tolist()):
            found[name] = self.queries.sets == name
        for name in [name for name in found if name.startswith(PHOTOGRAPHS)]:
            found[f"{name}, no grid"] = found[name] & ~self.grid
        return found

    def chosen(self, model: str) -> Setting:
        """For this model, tuned or not."""
        return OF_TUNED if find_model(self.features.models[model], "").tuning else CHOSEN

    def judged(self, model: str, way: Compared, weight: float) -> Judged:
        """One way to rank."""
        return judge(self.index, self.encoders[model].cosines(way) - weight * self.differing, self.queries.names)


def ways() -> list[Compared]:
    """All that are compared."""
    alike = [whitened(ridge, width, weighed=False) for width in (512, 256) for ridge in (0.1, 1.0)]
    return [RAW, CENTRED, *(whitened(ridge, width) for width in reversed(WIDTHS) for ridge in RIDGES), *alike]


def ranking(bench: Bench) -> None:
    """Table 1: raw, centred, whitened; with and without the hash."""
    found = {model: _sweep(bench, model) for model in bench.encoders}
    total = int(bench.synthetic.sum())
    head = ["", "", *(f"hash x {weight:g}" for weight in WEIGHTS)]
    titles = {"recall": "named first", "accepted": "named and accepted at 2 % of strangers, held-out folds"}
    for what, title in titles.items():
        rows = []
        for model, settings in found.items():
            for way in ways():
                cells: Iterable[Share] = (getattr(settings[way, weight], what) for weight in WEIGHTS)
                rows.append([model, str(way), *(f"{s.hits} [{100 * s.low:.1f}, {100 * s.high:.1f}]" for s in cells)])
        show(f"1. Of {total:,} synthetic queries, {len(bench.index):,} rows: {title}", [head, *rows])
    for models in (tuple(found), tuple(found)[:1], tuple(found)[1:]):
        _choose(bench, {model: found[model] for model in models})


class Tried(NamedTuple):
    """What a setting does on the synthetic queries."""

    recall: Share
    accepted: Share
    right: NDArray[np.bool_]


Sweep = dict[Setting, Tried]


def _sweep(bench: Bench, model: str) -> Sweep:
    """Recall and accepted on the synthetic queries, and which of them were right, by setting."""
    found: Sweep = {}
    names = bench.queries.names
    progress = Progress(f"ranking, {model}", len(ways()), "ways")
    for way in ways():
        cosines = bench.encoders[model].cosines(way)
        for weight in WEIGHTS:
            judged = judge(bench.index, cosines - weight * bench.differing, names)
            known, _ = accepted(bench.queries, judged, bench.synthetic)
            share = recall(bench.queries, judged, bench.synthetic)
            found[way, weight] = Tried(share, known, judged.right[bench.synthetic])
        progress.advance()
    return found


def _choose(bench: Bench, found: dict[str, Sweep]) -> None:
    """The best settings by half of the cards, and what they do on the other half."""
    half = bench.queries.half[bench.synthetic]
    groups = np.concatenate([bench.queries.groups[bench.synthetic]] * len(found))
    settings = next(iter(found.values()))

    def share(setting: Setting, some: NDArray[np.bool_]) -> Share:
        hits = np.concatenate([sweep[setting].right for sweep in found.values()])
        which = np.tile(some, len(found))
        return share_of(groups[which], hits[which])

    families: dict[str, list[Compared]] = {"raw": [RAW], "centred": [CENTRED]}
    families |= {f"whitened {width}": [whitened(ridge, width) for ridge in RIDGES] for width in reversed(WIDTHS)}
    rows = [["", "chosen", "recall, half that chose", "recall, other half", "accepted, all"]]
    for family, members in families.items():
        best = max((s for s in settings if s[0] in members), key=lambda setting: share(setting, half).hits)
        taken = sum(sweep[best].accepted.hits for sweep in found.values())
        cells = [str(share(best, half)), str(share(best, ~half)), f"{taken}/{len(groups)}"]
        rows.append([family, f"{best[0]}, hash x {best[1]:g}", *cells])
    show(f"1. Chosen by {', '.join(found)}", rows)


def sets(bench: Bench) -> None:
    """Table 1a: the chosen ways against raw vectors with the hash, on every set."""
    for model in bench.encoders:
        way, weight = bench.chosen(model)
        wide = way._replace(width=512)
        usual = [RAW_BEST, (RAW, 0.0), (way, weight), (way, 0.0), (wide, weight), (wide, 0.0), (CENTRED, weight)]
        judged = [bench.judged(model, *setting) for setting in usual]
        rows = [["", *(f"{way}, hash x {weight:g}" for way, weight in usual), "only raw / only chosen", "worse?"]]
        for name, which in bench.which().items():
            shares = [recall(bench.queries, one, which) for one in judged]
            raw, chosen = judged[0].right[which], judged[2].right[which]
            only = f"{int((raw & ~chosen).sum())} / {int((chosen & ~raw).sum())}"
            worse = "WORSE" if shares[2].hits / shares[2].total < shares[0].low else ""
            rows.append([name, *map(str, shares), only, worse])
        show(f"1. {model}: recall@1 by name, {len(bench.index):,} rows", rows)
        rows = [["", *(f"{way}, hash x {weight:g}" for way, weight in usual)]]
        for name, which in bench.which().items():
            rows.append([name, *(str(accepted(bench.queries, one, which)[0]) for one in judged)])
        show(f"1. {model}: named and accepted at {MAX_STRANGERS:.0%} of the set's strangers, held-out folds", rows)


def weights(bench: Bench) -> None:
    """Table 1c: whether the best weight moves with the number of cards."""
    order = np.random.default_rng(7).permutation(len(bench.index.names))
    for model, encoder in bench.encoders.items():
        rows = [["", "names in the index", "queries", *(f"hash x {weight:g}" for weight in WEIGHTS[1:])]]
        for way in (RAW, CHOSEN[0], whitened(CHOSEN[0].ridge)):
            cosines = bench.index.best_of_names(encoder.cosines(way))
            hashed = bench.index.best_of_names(-bench.differing)  # of the few cards with two pictures, by either
            for count in (len(order) // 8, len(order) // 4, len(order) // 2, len(order)):
                kept = np.sort(order[:count])
                names = bench.index.names[kept]
                some = bench.synthetic & np.isin(bench.queries.names, names)
                cells = []
                for weight in WEIGHTS[1:]:
                    scores = cosines[some][:, kept] + weight * hashed[some][:, kept]
                    right = names[scores.argmax(dim=1).numpy()] == bench.queries.names[some]
                    share = share_of(bench.queries.groups[some], right)
                    cells.append(f"{share.hits} [{100 * share.low:.1f}, {100 * share.high:.1f}]")
                rows.append([str(way), f"{count:,}", f"{int(some.sum()):,}", *cells])
        show(f"1. {model}: named first by the size of the index, synthetic queries", rows)


REPRINTED, PRINTINGS = 20, 100


def duplicates(bench: Bench) -> None:
    """Table 1b: what reprints do to a whitening, with near-duplicates weighed down and without.

    To the index come 100 more rows of each of 20 cards, at centred cosines of 0.9 to 0.99 to each other: two thirds of
    the rows then show 20 pictures, as basic lands do in a list of all printings.
    """
    for model, encoder in bench.encoders.items():
        rng = np.random.default_rng(3)
        like = Like(encoder.clean, rng)
        again = rng.choice(len(encoder.clean), REPRINTED, replace=False)
        rows = np.concatenate([encoder.clean, like.reprinted(encoder.clean[np.repeat(again, PRINTINGS)])])
        asked = bench.synthetic & ~np.isin(bench.queries.names, bench.index.seen.names[again])
        table = [["fitted to", "", "named first, vector alone", f"hash x {CHOSEN[1]:g}"]]
        for title, fit_to in (("the 1,050 rows", encoder.clean), ("with the reprints", rows)):
            for weighed in (True, False):
                way = whitened(CHOSEN[0].ridge, CHOSEN[0].width, weighed=weighed)
                map_ = fitted(fit_to, way)
                cosines = torch.from_numpy(map_(encoder.asked)) @ torch.from_numpy(map_(encoder.clean)).T
                judged = [
                    judge(bench.index, cosines - weight * bench.differing, bench.queries.names)
                    for weight in (0.0, CHOSEN[1])
                ]
                table.append([title, str(way), *(str(recall(bench.queries, one, asked)) for one in judged)])
        show(f"1b. {model}: queries of cards that were not reprinted, {len(bench.index):,} rows", table)


def int8(bench: Bench) -> None:
    """Table 2: the rows of the index as int8, the query in float32."""
    rows = [["", "", "scale", "same first name", "recall", "with the hash: same", "recall"]]
    for model, encoder in bench.encoders.items():
        chosen = bench.chosen(model)
        for way, weight in (RAW_BEST, chosen, (chosen[0]._replace(width=512), chosen[1])):
            compared = fitted(encoder.clean, way)
            index, asked = compared(encoder.clean), torch.from_numpy(compared(encoder.asked))
            spread = math.sqrt(1 / index.shape[1])
            scales = {"float32": 0.0, "127": 127.0, "max": SCALE_FACTOR / float(np.abs(index).max())}
            scales |= {f"{sigmas} sigma": SCALE_FACTOR / sigmas / spread for sigmas in (3, 4, 5, 6)}
            exact: list[NDArray[np.int64]] = []
            for name, scale in scales.items():
                some = quantize(index, scale).astype(np.float32) / np.float32(scale) if scale else index
                cells = []
                for i, w in enumerate((0.0, weight)):
                    scores = asked @ torch.from_numpy(some).T - w * bench.differing
                    first = bench.index.best_of_names(scores).argmax(dim=1).numpy()
                    exact += [first] * (not scale)
                    right = bench.index.names[first] == bench.queries.names
                    groups = bench.queries.groups.tolist()
                    cells += [
                        str(share_of(groups, (first == exact[i]).tolist())),
                        str(share_of(groups, right.tolist())),
                    ]
                rows.append([model, str(way), name, *cells])
    show(f"2. int8, {len(bench.queries.names):,} queries of all sets, {len(bench.index):,} rows", rows)


def sure(bench: Bench) -> None:
    """Table 3: by what to tell strangers, and from which value on."""
    named = bench.which()
    synthetic = [name for name in named if not name.startswith((PHOTOGRAPHS, "all"))]
    for model in bench.encoders:
        rows = [["", "by", "threshold", *(f"accepted, {name}" for name in named if not name.startswith("all"))]]
        chosen = bench.chosen(model)
        for way, weight in (RAW_BEST, chosen, (RAW, 0.0), (chosen[0], 0.0)):
            judged = bench.judged(model, way, weight)
            for signal in SIGNALS:
                least = max(threshold(judged.strangers[signal][named[name]]) for name in synthetic)
                known = judged.right & (judged.known[signal] >= least)
                passed = judged.strangers[signal] >= least
                cells = []
                for name, which in named.items():
                    if name.startswith("all"):
                        continue
                    groups = bench.queries.groups[which].tolist()
                    known_, passed_ = share_of(groups, known[which].tolist()), share_of(groups, passed[which].tolist())
                    cells.append(f"{known_}; strangers {passed_.hits}/{passed_.total}")
                rows.append([f"{way}, hash x {weight:g}", signal, f"{least:.3f}", *cells])
        show(f"3. {model}: the least threshold that 2 % of the strangers reach at most, on every synthetic set", rows)
        _by_size(bench, model)


def _by_size(bench: Bench, model: str) -> None:
    """The same threshold in smaller indexes."""
    both = RAW_BEST, bench.chosen(model)
    rows = [["names in the index", *(f"{way}, hash x {weight:g}" for way, weight in both)]]
    order = np.random.default_rng(7).permutation(len(bench.index.names))
    for count in (len(order) // 8, len(order) // 4, len(order) // 2, len(order)):
        kept = np.sort(order[:count])
        cells = []
        for way, weight in both:
            scores = bench.index.best_of_names(bench.encoders[model].cosines(way) - weight * bench.differing)
            values, names = scores[:, kept], bench.index.names[kept]
            own = torch.from_numpy(names[None] == bench.queries.names[:, None])
            strangers = _signals(torch.topk(values.masked_fill(own, -9.0), OTHER_NAMES + 1)[0].double())[SIGNALS[0]]
            cells.append(f"{threshold(strangers[bench.synthetic]):.3f}")
        rows.append([f"{count:,}", *cells])
    show(f"3. {model}: the threshold of margin + gap by the size of the index, all synthetic queries", rows)


SMALLER = ("simulated, every third", "corners 6%, every third", PHOTOGRAPHS)


def _two(bench: Bench) -> list[str]:
    return list(bench.encoders)[:2]


def preparation(bench: Bench) -> None:
    """Table 4: how pictures are prepared; only the 290 tall scans are large enough to be decoded at half size."""
    features = bench.features
    queries = Queries.of(features, SMALLER)
    difference = differing(queries.hashes[HASH], bench.index.seen.hashes[HASH])
    places = {name: queries.sets == name for name in dict.fromkeys(queries.sets.tolist())}
    tall = np.isin(queries.names, bench.index.seen.names[[card.height > 600 for card in features.cards.clean]])
    for model in _two(bench):
        rows = [["", "", "queries", "accepted", *places]]
        tried = [(way, "clean") for way in (USUAL, Way(224), Way(384, "crop"), Way(224, "crop"))]
        for way, index in (*tried, (Way(224), "clean, decoded at half size")):
            encoder = Encoder.of(features, model, SMALLER, way, index)
            for compared, weight in (RAW_BEST, bench.chosen(model), (RAW, 0.0), (CHOSEN[0], 0.0)):
                judged = judge(bench.index, encoder.cosines(compared) - weight * difference, queries.names)
                for asked, some in (("all", np.ones(len(tall), bool)), ("of tall scans", tall)):
                    cells = (str(recall(queries, judged, which & some)) for which in places.values())
                    taken = str(accepted(queries, judged, some)[0])
                    rows.append([f"{way}{index[5:]}", f"{compared}, hash x {weight:g}", asked, taken, *cells])
        show(f"4. {model}: preparation, {len(bench.index):,} rows", rows)
    _rates(features)


def _rates(features: Features) -> None:
    """Milliseconds to decode and prepare a scan of 488 x 680, one core, the least of five rounds."""
    files = [file for file, card in zip(features.cards.files, features.cards.clean, strict=True) if card.height > 600]
    data = [file.read_bytes() for file in files[:100]]
    model = next(iter(features.models))
    tried: dict[str, tuple[Way, tuple[int, int] | None]] = {
        **{str(way): (way, None) for way in (USUAL, Way(224), Way(384, "crop"), Way(224, "crop"))},
        f"{Way(224)}, decoded at half size": (Way(224), ENOUGH),
    }
    torch.set_num_threads(1)
    least = dict.fromkeys(tried, math.inf)
    for _ in range(5):
        for name, (way, at_least) in tried.items():
            prepare = features.embedder(model, way).prepare
            started = time.thread_time()
            for one in data:
                prepare(decode_image(one, at_least=at_least))
            least[name] = min(least[name], 1000 * (time.thread_time() - started) / len(data))
    torch.set_num_threads(usable_cores())
    usual = least[str(USUAL)]
    rows = [[name, f"{each:.2f} ms", f"{each / usual:.2f}"] for name, each in least.items()]
    show("4. To decode and prepare a JPEG of 488 x 680, on one core", [["", "a picture", "of the usual"], *rows])


def hashes(bench: Bench) -> None:
    """Table 5: which hash is the best partner."""
    named = bench.which()
    for model in bench.encoders:
        rows = [["", "", "weight", "accepted, all synthetic", *(f"recall, {name}" for name in named)]]
        for way in (RAW, CHOSEN[0]):
            cosines = bench.encoders[model].cosines(way)
            for kind, ours in bench.queries.hashes.items():
                difference = differing(ours, bench.index.seen.hashes[kind])
                tried = [
                    judge(bench.index, cosines - weight * difference, bench.queries.names) for weight in WEIGHTS[1:]
                ]
                half = bench.synthetic & bench.queries.half
                best = max(range(len(tried)), key=lambda i: int(tried[i].right[half].sum()))
                shares = [str(recall(bench.queries, tried[best], which)) for which in named.values()]
                taken = str(accepted(bench.queries, tried[best], bench.synthetic)[0])
                rows.append([str(way), kind, f"{WEIGHTS[1:][best]:g}", taken, *shares])
        show(f"5. {model}: the hash, its weight chosen on half of the cards, {len(bench.index):,} rows", rows)
    rows = [["", *named]]
    for kind, ours in bench.queries.hashes.items():
        judged = judge(bench.index, -differing(ours, bench.index.seen.hashes[kind]), bench.queries.names)
        rows.append([kind, *(str(recall(bench.queries, judged, which)) for which in named.values())])
    show(f"5. The hash alone, {len(bench.index):,} rows", rows)


def art(bench: Bench) -> None:
    """Table 6: the art as a second vector."""
    queries = Queries.of(bench.features, SMALLER)
    difference = differing(queries.hashes[HASH], bench.index.seen.hashes[HASH])
    places = {name: queries.sets == name for name in dict.fromkeys(queries.sets.tolist())}
    for model in _two(bench):
        card, only = (Encoder.of(bench.features, model, SMALLER, way) for way in (USUAL, Way(art=True)))
        whole, second = card.cosines(CHOSEN[0]), only.cosines(CHOSEN[0])
        rows = [["", "hash", "accepted, all", *places]]
        for name, cosines in (("card", whole), ("art", second), ("card and art", whole + second)):
            for weight in (0.0, 1.5, 3.0, 4.0, 6.0, 8.0):
                judged = judge(bench.index, cosines - weight * difference, queries.names)
                taken = str(accepted(queries, judged, np.ones(len(queries.names), bool))[0])
                rows.append([name, f"x {weight:g}", taken, *(str(recall(queries, judged, w)) for w in places.values())])
        show(f"6. {model}: the art as a second vector, both {CHOSEN[0]}, {len(bench.index):,} rows", rows)


def searching(bench: Bench) -> None:
    """Table 7: how to make a graph."""
    graphs(bench.features, _two(bench)[-1], CHOSEN[0].ridge, CHOSEN[0].width)


def exact(bench: Bench) -> None:
    """Table 8: exact search or the graph."""
    exact_or_graph(bench.features, _two(bench)[-1], CHOSEN[0].ridge)


def models() -> dict[str, str]:
    """The models by name: an untuned one first."""
    if named := os.environ.get("MODELS"):
        folders = named.split(",")
        return {Path(name).name: name if name == SHIPPED else f"{LOCAL_DIR}{name}" for name in folders}
    base = ROOT / "encoder" / "model"
    if not base.exists():
        subprocess.run(
            [sys.executable, str(ROOT / "scripts" / "make_offline_model.py"), "--out", str(base)], check=True
        )
    return {"untuned": f"{LOCAL_DIR}{base}", SHIPPED: SHIPPED}


def show(title: str, rows: Iterable[Sequence[str]]) -> None:
    """Print a table."""
    print(f"{title}\n{aligned(list(rows))}\n", flush=True)


TABLES: dict[str, Callable[[Bench], None]] = {
    "ranking": ranking,
    "sets": sets,
    "weights": weights,
    "duplicates": duplicates,
    "int8": int8,
    "sure": sure,
    "preparation": preparation,
    "hashes": hashes,
    "art": art,
    "graphs": searching,
    "exact": exact,
}


def main() -> None:
    if not (REAL / "cards.csv").is_file():
        sys.exit(f"no real cards at {REAL}; set MTG_REAL_DATA to the folder that has them")
    bench = Bench(Features(models()))
    for table in os.environ.get("TABLES", ",".join(TABLES)).split(","):
        TABLES[table](bench)


if __name__ == "__main__":
    main()
