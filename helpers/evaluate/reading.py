"""Is a card named better if it is read, and which printing is it?

The damaged pictures that are asked anyway are made again and read; then they are ranked as a query ranks a card that
was cut out. So both ways answer the same pictures. Every card is read, those whose look makes them sure, too: what that
is worth must not depend on when a query reads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from helpers.evaluate.answers import Answers, Catalogue
from helpers.evaluate.asking import clearness
from helpers.evaluate.dense import Dense, Way
from helpers.evaluate.findings import (
    ChoiceFound,
    Condition,
    ConfidenceFound,
    Fusion,
    PrintingsRead,
    ReadAt,
    ReadAtSize,
    Reading,
    ReadingMs,
)
from helpers.evaluate.fusion import PRIOR, ChoiceFit, Choices, Logistic, Loss, fitted_choice, logistic, logistic_loss
from helpers.evaluate.queries import CONDITIONS, Queries, Source, condition_of, picture_of, render
from helpers.recognise.collector import NO_LINE, CollectorLine, agreeing
from helpers.recognise.evaluation import FOLDS, Share, folds
from helpers.recognise.printed import Print, Texts, printings
from helpers.recognise.ranking import CANDIDATES, NO_EVIDENCE, NO_ROWS, CutOut, Ranker, Ranking
from helpers.recognise.seen import Printed

if TYPE_CHECKING:
    from helpers.recognise.reading import Reader
    from helpers.talk import Progress

CONDITIONS_READ = tuple(condition_of(*one) for one in (("corners", 6), ("mixed", 0.5), ("mixed", 1)))
ALL = Condition("all", len(CONDITIONS_READ), "conditions")
SHARES = (1 / 16, 1 / 4, 1.0)  # of the names
TIMED = ("titles", "collector line", "anywhere", "matching")
LEAST = 20  # queries of each kind, for a fit

_T = TypeVar("_T")
Rows = NDArray[np.int64]


class _Scored(NamedTuple):
    """The rows that compete for a query."""

    rows: Rows  # [C]
    looks: NDArray[np.float32]  # [C], scores
    print: NDArray[np.float32]  # [C], evidence


class _AtSize(NamedTuple):
    """Whether a query was named right among so many names."""

    without: bool
    with_print: bool


@dataclass(frozen=True, slots=True)
class _Read:
    """A query, and what became of it."""

    card: str
    row: int
    condition: int
    printed: Printed
    without: Ranking
    with_print: Ranking
    scored: _Scored
    as_stranger: _Scored | None  # with its own name masked; None: it is not asked so
    misread: bool  # whether a title is read then
    at_sizes: tuple[_AtSize, ...]


@dataclass(slots=True)
class Reads:
    """Reads queries, and asks an index with what it read."""

    ranker: Ranker
    reader: Reader
    print: Print
    catalogue: Catalogue
    source: Source
    dense: Dense
    way: Way  # to rank as the product does, if every row is a candidate
    took: dict[str, list[float]] = field(default_factory=dict)  # seconds

    def all(self, asked: Queries, given: Answers, seconds: float, progress: Progress) -> Reading:
        """Read queries under CONDITIONS_READ for so many seconds, at least one card's; `given`: the answers of `asked`.

        `progress` counts pictures.
        """
        some = np.flatnonzero(np.isin(asked.condition, CONDITIONS_READ))
        until = time.monotonic() + seconds
        read: list[_Read] = []
        for place in some.tolist():
            if time.monotonic() > until and len(read) % len(CONDITIONS_READ) == 0 and read:
                break
            read.append(self._read(asked[place : place + 1], given.rankings[place]))
            progress.advance()
        return _found(read, self)

    # --------------------------------------------------------------------------------------------------- one query

    def _read(self, one: Queries, ranking: Ranking) -> _Read:
        row, condition, round = int(one.row[0]), int(one.condition[0]), int(one.round[0])
        own = int(self.catalogue.names.of[row])
        masked = np.sort(self.catalogue.names.rows(own))
        is_stranger = own % 2 == 1 and not self.ranker.leaves_none(masked)
        texts = self._texts(row, condition, round, masked if is_stranger else NO_ROWS)
        printed = self.print.compared(texts)
        looked = CutOut(ranking, one.vectors[0], one.dhashes[0])
        read = self._timed("matching", lambda: self.print.ranked(looked, self.print.compared(texts)))
        return _Read(
            card=self.catalogue.keys[row],
            row=row,
            condition=condition,
            printed=printed,
            without=ranking,
            with_print=read.ranking,
            scored=self._scored(read),
            as_stranger=self._as_stranger(one, texts, masked) if is_stranger else None,
            misread=is_stranger and self.print.compared(texts, masked).title is not None,
            at_sizes=tuple(self._at_sizes(one, texts, own)),
        )

    def _texts(self, row: int, condition: int, round: int, masked: Rows) -> Texts:
        """What is printed on a card; all over it where no title of a row that is not `masked` is in its place."""
        from helpers.recognise.regions import Photo  # cv2

        card = picture_of(self.source.records[row], self.source.cache)
        photo = Photo(render(card, CONDITIONS[condition], self.source.seed, round, row))
        whole = photo.whole()
        titles = self._timed("titles", lambda: self.reader.titles(photo, whole))
        texts = Texts(titles, self._timed("collector line", lambda: self.reader.collector_lines(photo, whole)))
        if self.print.compared(texts, masked).title is None:
            return texts._replace(anywhere=self._timed("anywhere", lambda: self.reader.anywhere(photo, whole)))
        return texts

    def _as_stranger(self, one: Queries, texts: Texts, masked: Rows) -> _Scored:
        (ranking,) = self.ranker.answer(one.vectors, one.dhashes, masked)
        cut_out = CutOut(ranking, one.vectors[0], one.dhashes[0])
        return self._scored(self.print.ranked(cut_out, self.print.compared(texts, masked), masked))

    def _scored(self, read: CutOut) -> _Scored:
        rows = read.evidence.rows
        return _Scored(rows, self.ranker.scores(replace(read, evidence=NO_EVIDENCE), rows), read.evidence.strength)

    def _at_sizes(self, one: Queries, texts: Texts, own: int) -> Iterator[_AtSize]:
        """The same among some of the names, all rows of each; the card's own is always one of them."""
        names = self.catalogue.names
        ((_, scores),) = self.dense.scored(one, [self.way])
        places = np.random.default_rng((self.source.seed, int(one.round[0]))).permutation(names.count)
        places = places - (places > places[own])  # among the others
        for count in self.counts:
            there = (places < count - 1)[names.of] | (names.of == own)
            masked = np.flatnonzero(~there)
            kept = np.flatnonzero(there)
            kept = kept[np.argsort(-scores[self.way][0, kept], kind="stable")[:CANDIDATES]]
            ranking = self.ranker.order(np.sort(kept), scores[self.way][0, np.sort(kept)])
            cut_out = CutOut(ranking, one.vectors[0], one.dhashes[0])
            read = self.print.ranked(cut_out, self.print.compared(texts, masked), masked)
            yield _AtSize(*(bool(names.of[each.rows[0]] == own) for each in (ranking, read.ranking)))

    def _timed(self, what: str, do: Callable[[], _T]) -> _T:
        started = time.perf_counter()
        done = do()
        self.took.setdefault(what, []).append(time.perf_counter() - started)
        return done

    @property
    def counts(self) -> list[int]:
        """Of names, at each size."""
        return sorted({max(1, round(share * self.catalogue.names.count)) for share in SHARES})

    def ms(self, what: str) -> float | None:
        """The median; None if it was never done."""
        took = self.took.get(what)
        return round(1000 * median(took), 1) if took else None


# --------------------------------------------------------------------------------------------------------- all of them


def _found(read: Sequence[_Read], reads: Reads) -> Reading:
    rows = len(reads.catalogue.keys)
    under = {CONDITIONS[number]: [one for one in read if one.condition == number] for number in CONDITIONS_READ}
    return Reading(
        rows=rows,
        queries=len(read),
        at=tuple(_at(condition, some, reads) for condition, some in under.items()),
        overall=_at(ALL, read, reads),
        strangers_read=_share((one, one.misread) for one in read if one.as_stranger is not None),
        printings=tuple(_printings(read, reads)),
        by_size=tuple(
            ReadAtSize(
                rows=round(rows * count / reads.catalogue.names.count),
                names=count,
                without=_share((one, one.at_sizes[place].without) for one in read),
                with_print=_share((one, one.at_sizes[place].with_print) for one in read),
            )
            for place, count in enumerate(reads.counts)
        ),
        ms=ReadingMs(*(reads.ms(what) for what in TIMED)),
        fusion=_fusion(read, reads),
    )


def _share(pairs: Iterator[tuple[_Read, bool]]) -> Share:
    some = list(pairs)
    return Share.of([one.card for one, _ in some], [hit for _, hit in some])


def _at(condition: Condition, some: Sequence[_Read], reads: Reads) -> ReadAt:
    names, faces = reads.catalogue.names.of, reads.source.records
    own = {one.row: faces[one.row] for one in some}
    numbered = [one for one in some if own[one.row].set and own[one.row].collector_number]
    titled = [one for one in some if one.printed.title is not None]
    lined = [one for one in numbered if _has_line(one)]
    return ReadAt(
        condition=condition,
        without=_share((one, _first(one.without, reads) == names[one.row]) for one in some),
        with_print=_share((one, _first(one.with_print, reads) == names[one.row]) for one in some),
        titles=_share((one, one.printed.title is not None) for one in some),
        titles_right=_share((one, bool(names[one.row] in names[one.printed.evidence.rows])) for one in titled),
        lines=_share((one, _has_line(one)) for one in numbered),
        lines_right=_share((one, bool(agreeing(one.printed.line, [own[one.row]]))) for one in lined),
    )


def _has_line(one: _Read) -> bool:
    return bool(one.printed.line.number and one.printed.line.set)


def _first(ranking: Ranking, reads: Reads) -> int:
    """The name that comes first; -1 if nothing does."""
    return int(reads.catalogue.names.of[ranking.rows[0]]) if len(ranking.rows) else -1


# ----------------------------------------------------------------------------------------------------------- printings


def _printings(read: Sequence[_Read], reads: Reads) -> Iterator[PrintingsRead]:
    names = reads.catalogue.names
    named = [one for one in read if _first(one.without, reads) == _first(one.with_print, reads) == names.of[one.row]]
    several = [one for one in named if len(names.rows(int(names.of[one.row]))) > 1]
    yield _printing_recall("with more than one printing", several, reads)
    yield _printing_recall("all", named, reads)


def _printing_recall(cards: str, some: Sequence[_Read], reads: Reads) -> PrintingsRead:
    without = [_first_printing(one.without, NO_LINE, reads) for one in some]
    read = [_first_printing(one.with_print, one.printed.line, reads) for one in some]

    def right(found: Sequence[tuple[int, bool]], *, sure: bool = False) -> Share:
        pairs = zip(some, found, strict=True)
        return _share((one, row == one.row) for one, (row, is_sure) in pairs if is_sure or not sure)

    def sure(found: Sequence[tuple[int, bool]]) -> Share:
        return _share((one, is_sure) for one, (_, is_sure) in zip(some, found, strict=True))

    return PrintingsRead(
        cards=cards,
        without=right(without),
        with_print=right(read),
        sure_without=sure(without),
        sure_right_without=right(without, sure=True),
        sure=sure(read),
        sure_right=right(read, sure=True),
    )


def _first_printing(ranking: Ranking, line: CollectorLine, reads: Reads) -> tuple[int, bool]:
    """The row of the printing that a card is or most likely is, and whether that is sure."""
    places, sure = printings(reads.ranker, ranking, line)
    return int(ranking.rows[places[0]]), sure


# -------------------------------------------------------------------------------------------------------------- fusion


def _fusion(read: Sequence[_Read], reads: Reads) -> Fusion | None:
    """What the weights should be; None if there are too few queries."""
    fold = folds([one.card for one in read])
    each = [_choice(one, reads) for one in read]
    among = [place for place, choice in enumerate(each) if choice is not None]
    known = np.array([one.as_stranger is None for one in read], bool)
    least = min(known.sum(), (~known).sum(), len(among))
    if least < LEAST or len(set(fold[among].tolist())) < FOLDS or reads.catalogue.names.count < LEAST:
        return None
    choices, own = Choices.of([choice for choice in each if choice is not None]), reads.ranker.settings.read_weight
    fits = {
        name: fitted_choice(choices, fold[among], weight)
        for name, weight in {"fitted": None, "the index's own read_weight": own, "by looks alone": 0.0}.items()
    }
    return Fusion(
        folds=FOLDS,
        prior=PRIOR,
        queries=len(among),
        choices=tuple(
            ChoiceFound(
                name=name,
                looks=fit.looks,
                print=fit.print,
                print_error=fit.print_error,
                read_weight=fit.read_weight,
                log_loss=fit.held_out.log,
                brier=fit.held_out.brier,
            )
            for name, fit in fits.items()
        ),
        known=int(known.sum()),
        strangers=int((~known).sum()),
        confidence=tuple(_confidence(read, fold, fits["fitted"], reads)),
    )


def _choice(one: _Read, reads: Reads) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Scores and evidence of the best row of each name, the right one first; None if that does not compete."""
    rows, looks, evidence = one.scored
    order = np.argsort(-(looks + reads.ranker.settings.read_weight * evidence), kind="stable")
    names, first = np.unique(reads.catalogue.names.of[rows[order]], return_index=True)
    best, right = order[first], names == reads.catalogue.names.of[one.row]
    if not right.any():
        return None
    best = np.concatenate([best[right], best[~right]])
    return looks[best].astype(np.float64), evidence[best].astype(np.float64)


def _confidence(
    read: Sequence[_Read], fold: NDArray[np.int64], fit: ChoiceFit, reads: Reads
) -> Iterator[ConfidenceFound]:
    own = reads.ranker.settings
    chance, right = np.zeros(len(read)), np.zeros(len(read), bool)
    for i, by_rest in enumerate(fit.read_weights):
        clear, named = _cleared(read, own.read_weight if by_rest is None else by_rest, reads)
        part = fold == i
        chance[part], right[part] = logistic(clear[~part], named[~part])(clear[part]), named[part]
    weight = own.read_weight if fit.read_weight is None else fit.read_weight
    yield _found_confidence("fitted", weight, logistic(*_cleared(read, weight, reads)), logistic_loss(chance, right))
    recorded, (clear, right) = Logistic(own.slope, own.even), _cleared(read, own.read_weight, reads)
    yield _found_confidence("the index's own", own.read_weight, recorded, logistic_loss(recorded(clear), right))


def _found_confidence(name: str, read_weight: float, by: Logistic, loss: Loss) -> ConfidenceFound:
    return ConfidenceFound(
        name=name, read_weight=read_weight, slope=by.slope, even=by.even, log_loss=loss.log, brier=loss.brier
    )


def _cleared(read: Sequence[_Read], read_weight: float, reads: Reads) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Give margin + gap [Q] by this weight, and whether the first name is right [Q]: of a stranger none is."""
    clear, right = [], []
    for one in read:
        rows, looks, evidence = one.as_stranger or one.scored
        ranking = reads.ranker.order(rows, looks + np.float32(read_weight) * evidence)
        clear.append(clearness(ranking) or 0.0)
        right.append(one.as_stranger is None and _first(ranking, reads) == reads.catalogue.names.of[one.row])
    return np.array(clear), np.array(right)
