"""A second look at what is printed on cards: it is read where that may change the answer, and compared with the index.

Nothing is guessed: what is not legible, or what no card of the index has, counts for none.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from helpers.cards.faces import CardFace
from helpers.recognise.collector import NO_LINE, CollectorLine, agreeing
from helpers.recognise.ranking import NO_EVIDENCE, NO_ROWS, CutOut, Evidence, Ranker, Ranking
from helpers.recognise.reading import Reader, Text
from helpers.recognise.seen import MAX_LOOKED_AT, Printed, Seen, cards_among, in_doubt
from helpers.recognise.titles import FULL_TITLE, TITLE_COUNTS_FROM, TITLE_READ_FROM, Titles

if TYPE_CHECKING:
    from helpers.recognise.regions import Photo, Region

READ = ("auto", "off", "always")  # which cards to read; auto: those whose name or printing is not sure
LINE_EVIDENCE = 0.1  # of set and number: a digit may be wrong, and a token may have the same


class Texts(NamedTuple):
    """What was read on a card, before it is compared with an index."""

    titles: Sequence[Text]  # where titles are
    bottom: Sequence[Text]  # where collector lines are
    anywhere: Sequence[Text] = ()  # along its edges; none if that was not needed


class Print:
    """Reads cards and compares what they say with an index; safe to use from several threads."""

    def __init__(self, reader: Reader, ranker: Ranker, faces: Sequence[CardFace], *, always: bool) -> None:
        """`faces`: the metadata of the index's rows; `always`: read cards that are sure, too."""
        self._reader = reader
        self._ranker = ranker
        self._titles = Titles(faces)
        self._always = always

    def look_again(self, photo: Photo, seen: list[Seen], detect: str) -> list[Seen]:
        """The same regions of a picture, ranked by what is printed, too, where that may change the answer."""
        cards = cards_among(seen, detect)
        sure = [one for one in cards if one.sure]
        read: dict[int, Seen] = {}
        for place, one in enumerate(in_doubt(seen, sure)[:MAX_LOOKED_AT]):
            read[id(one)] = self._with(one, self._all(photo, one, anywhere=place == 0))
        for one in sure[:MAX_LOOKED_AT]:
            if self._always:
                read[id(one)] = self._with(one, self._all(photo, one, anywhere=False))
            elif len(printings(self._ranker, one.ranking)[0]) > 1:
                read[id(one)] = self._with(one, Printed(line=self._line(photo, one.region)))
        return [read.get(id(one), one) for one in seen]

    def _line(self, photo: Photo, region: Region) -> CollectorLine:
        return CollectorLine.parse(self._reader.collector_lines(photo, region))

    def _all(self, photo: Photo, seen: Seen, *, anywhere: bool) -> Printed:
        """Title and collector line; `anywhere`: if no title is where most cards have it, look along all edges."""
        region, reader = seen.region, self._reader
        texts = Texts(reader.titles(photo, region), ())
        printed = self.compared(texts, seen.masked)
        if printed.title is None and anywhere:
            texts = texts._replace(anywhere=reader.anywhere(photo, region))
            printed = self.compared(texts, seen.masked)
        if not len(printed.evidence.rows) and not seen.ranking.likely:
            return printed  # hardly a card
        return self.compared(texts._replace(bottom=reader.collector_lines(photo, region)), seen.masked)

    def compared(self, texts: Texts, masked: NDArray[np.int64] = NO_ROWS) -> Printed:
        """What the texts of a card say, as if the index lacked the rows `masked`."""
        title, evidence = self._title([*texts.titles, *texts.anywhere], masked)
        return Printed(title, CollectorLine.parse(texts.bottom), evidence)

    def _title(self, texts: Sequence[Text], masked: NDArray[np.int64]) -> tuple[str | None, Evidence]:
        best = next(iter(self._titles.search(texts, 1, masked=masked)), None)
        if best is None or best.evidence <= TITLE_COUNTS_FROM:
            return None, NO_EVIDENCE
        share = min(1.0, (best.evidence - TITLE_COUNTS_FROM) / (FULL_TITLE - TITLE_COUNTS_FROM))
        name = best.name if best.evidence >= TITLE_READ_FROM else None
        return name, Evidence(best.rows, np.full(len(best.rows), share, np.float32))

    def _with(self, seen: Seen, printed: Printed) -> Seen:
        return dataclasses.replace(seen, cut_out=self.ranked(seen.cut_out, printed, seen.masked), printed=printed)

    def ranked(self, cut_out: CutOut, printed: Printed, masked: NDArray[np.int64] = NO_ROWS) -> CutOut:
        """A cut-out, ranked by what was read on it, too.

        Every row with the title that was read is a candidate then; if none was, every row of the best name.
        """
        rows, named = cut_out.ranking.rows, printed.evidence.rows
        if not len(named) and printed.line.legible and len(rows):
            named = self._ranker.rows_of([self._ranker.faces(rows[:1])[0].name])
        rows = np.setdiff1d(np.union1d(rows, named), masked)
        strength = printed.evidence.of(rows)
        if printed.line.number and printed.line.set:
            faces = self._ranker.faces(rows)
            agreed = {face.face_id for face in agreeing(printed.line, faces)}
            strength += np.float32(LINE_EVIDENCE) * np.array([face.face_id in agreed for face in faces], np.bool_)
        cut_out = dataclasses.replace(cut_out, evidence=cut_out.evidence + Evidence(rows, strength))
        return dataclasses.replace(cut_out, ranking=self._ranker.reranked(cut_out, masked))


class Printings(NamedTuple):
    """Which of the best name's faces a card may be."""

    places: list[int]  # in a ranking, best first
    sure: bool  # it is the only one, and nothing speaks against it


def printings(ranker: Ranker, ranking: Ranking, line: CollectorLine = NO_LINE) -> Printings:
    """Which of the best name's faces in a ranking, of at least one row, a card with this collector line may be.

    The line goes first, if it is legible and any face agrees. Of several, those stay whose scores are so near to the
    best one's that they can't be told apart by looks. If the line agrees with none, no printing is sure.
    """
    faces = ranker.faces(ranking.rows)
    own = [place for place, face in enumerate(faces) if face.name == faces[0].name]
    agreed = {face.face_id for face in (agreeing(line, [faces[place] for place in own]) if line.legible else ())}
    among = [place for place in own if not agreed or faces[place].face_id in agreed]
    reach = ranker.settings.printing_reach
    near = [place for place in among if ranking.scores[among[0]] - ranking.scores[place] <= reach]
    return Printings(near, len(near) == 1 and (bool(agreed) or not line.legible))


def most_said(printed: Iterable[Printed | None]) -> Printed | None:
    """What was read most often on several pictures of one card; None if none was read."""
    read = [one for one in printed if one is not None]
    if not read:
        return None
    titles = Counter(one.title for one in read if one.title)
    lines = Counter(one.line for one in read if one.line.legible)
    return Printed(
        max(titles, key=titles.__getitem__, default=None), max(lines, key=lines.__getitem__, default=NO_LINE)
    )
