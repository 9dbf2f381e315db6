"""Text read off a card -> the names of the index that it may be, and how much it says for each.

A title strip's text has errors, and more than the title: a mana cost read as digits, pieces of the frame. So names are
compared by edit distance. One likeness says little: some name is always near. What counts is how far it stands out from
the names of all other cards; and each error costs a short name more than a long one.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from helpers.cards.faces import CardFace
from helpers.recognise.ranking import NO_ROWS

OcrText = tuple[str, float]  # what was read, and the recogniser's confidence, 0..1

MIN_CONFIDENCE = 0.5  # of a text: below, most are not even letters of the title
OTHERS_SHARE = 0.5  # of the best other name's similarity; evidence is what is above that
MIN_OTHER = 0.5  # what that similarity is at least taken for: in a small index, the name that is near may be missing

FULL_TITLE = 1 - OTHERS_SHARE * MIN_OTHER  # the most evidence that there can be

# Evidence from which a title is taken for read. Chosen on views of 420 clean cards, blurred, shrunk, tilted and so on,
# against 35,000 names most of which were put together of others: cards whose own name was left out gave at most 0.53.
TITLE_READ_FROM = 0.55
# Evidence above this counts in a ranking. Chosen on simulated photographs, see docs/choices.md.
TITLE_COUNTS_FROM = 0.35

_MARKS = re.compile("[\u0300-\u036f]")  # combining accents, not those of kana
_LETTERS = str.maketrans({"æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"})
_COST = re.compile(r"[\W\d_]+$")  # a mana cost, read as digits and signs at the end
_SIGNS = re.compile(r"[\W_]+")
_SIDES = " // "


@dataclass(frozen=True, slots=True)
class NameRead:
    """A name that was perhaps read."""

    name: str  # as the index has it: of a face, of one side, or a printed name
    rows: NDArray[np.int64]  # [R], those of the index that have it
    similarity: float  # 0..1: 1 - edit distance / length of the longer, both normalised
    evidence: float  # 0 to 0.75: the similarity, less OTHERS_SHARE of that of the best name of any other card


class Titles:
    """The names of an index's rows, read on the first search. Safe to use from several threads.

    A row has its face's name, its printed name, and of "A // B" each side, too: what may stand on it as its title.
    """

    def __init__(self, faces: Sequence[CardFace]) -> None:
        """`faces`: the rows' metadata, such as `StoredIndex.records()`."""
        self._faces = faces

    def search(self, texts: Sequence[OcrText], count: int = 5, masked: NDArray[np.int64] = NO_ROWS) -> list[NameRead]:
        """The names most like any of `texts`, best first, one for each card, at most `count`.

        Names less than half as like as the best are left out; nothing is found if no text has letters and
        MIN_CONFIDENCE. A text is what was read, and how confidently, 0..1. `masked`: rows that the index seems to lack.
        """
        names = self._names
        likeness = names.likeness(texts, names.only_in(masked))
        found: dict[int, NameRead] = {}
        for name in likeness.best().tolist():
            if len(found) == count:
                break
            read = NameRead(names.shown[name], names.rows(name), *likeness.of([name]))
            found.setdefault(int(names.cards[name]), read)
        return [*found.values()]

    @cached_property
    def _names(self) -> _Names:
        return _Names.of(self._faces)


@dataclass(frozen=True, slots=True)
class _Likeness:
    """How like each name [S] is to that of some texts which it is most like."""

    similarity: NDArray[np.float32]
    cards: NDArray[np.int32]  # of the names
    first: float  # the best similarity
    second: float  # that of the best name of another card
    first_card: int

    @classmethod
    def of_names(cls, similarity: NDArray[np.float32], cards: NDArray[np.int32]) -> _Likeness:
        """0 to all names if there are none."""
        if not len(cards):
            return cls(similarity, cards, 0.0, 0.0, -1)
        best = similarity.argmax()
        others = similarity[cards != cards[best]]
        return cls(similarity, cards, float(similarity[best]), float(others.max(initial=0)), int(cards[best]))

    def best(self) -> NDArray[np.int64]:
        """The names more than half as like as the best, best first."""
        some = np.flatnonzero(self.similarity > self.first / 2)
        return some[np.argsort(-self.similarity[some], kind="stable")]

    def of(self, names: list[int]) -> tuple[float, float]:
        """The similarity and the evidence of a card that has these `names`."""
        if not names:
            return 0.0, 0.0
        similarity = float(self.similarity[names].max())
        other = self.second if (self.cards[names] == self.first_card).any() else self.first
        return similarity, max(0.0, similarity - OTHERS_SHARE * max(other, MIN_OTHER))


@dataclass(frozen=True, slots=True)
class _Names:
    """The distinct normalised names of an index [S], and the rows that have each."""

    number: dict[str, int]  # of each, in order
    names: list[str]
    shown: list[str]  # how a face has it
    cards: NDArray[np.int32]  # a number for the card of the first face that has it
    starts: NDArray[np.int64]  # [S + 1], where the rows of each begin
    all_rows: NDArray[np.int64]

    @classmethod
    def of(cls, faces: Sequence[CardFace]) -> _Names:
        number: dict[str, int] = {}
        shown: list[str] = []
        cards: dict[str, int] = {}
        card_of, names, rows = array("i"), array("q"), array("q")
        known: dict[tuple[str, str | None], list[int]] = {}  # reprints are not normalised again
        for row, face in enumerate(faces):
            own = known.get((face.name, face.printed_name))
            if own is None:
                card = cards.setdefault(face.card_name, len(cards))
                normal = _normalised_names(face)
                for name, text in normal.items():
                    if name not in number:
                        number[name] = len(number)
                        shown.append(text)
                        card_of.append(card)
                own = known[face.name, face.printed_name] = [number[name] for name in normal]
            names.extend(own)
            rows.extend([row] * len(own))
        of_rows = np.array(names, np.int64)
        starts = np.concatenate([[0], np.bincount(of_rows, minlength=len(number)).cumsum()])
        by_name = np.array(rows, np.int64)[np.argsort(of_rows, kind="stable")]
        return cls(number, list(number), shown, np.array(card_of, np.int32), starts, by_name)

    def rows(self, name: int) -> NDArray[np.int64]:
        """The rows that have it, in order."""
        return self.all_rows[self.starts[name] : self.starts[name + 1]]

    def only_in(self, rows: NDArray[np.int64]) -> list[int]:
        """The names that no other row has."""
        within = np.zeros(1 + max(self.all_rows.max(initial=-1), rows.max(initial=-1)), np.bool_)
        within[rows] = True
        has_others = np.zeros(len(self.names), np.bool_)
        has_others[np.repeat(np.arange(len(self.names)), np.diff(self.starts))[~within[self.all_rows]]] = True
        return np.flatnonzero(~has_others).tolist() if len(rows) else []

    def likeness(self, texts: Sequence[OcrText], left_out: Sequence[int]) -> _Likeness:
        """How like each name is to some text that is legible; 0 where none is."""
        from rapidfuzz.distance import Levenshtein
        from rapidfuzz.process import cdist

        forms = sorted({form for text, sure in texts if sure >= MIN_CONFIDENCE for form in _forms(text)})
        most = np.zeros(len(self.cards), np.float32)
        for similarity in cdist(forms, self.names, scorer=Levenshtein.normalized_similarity, dtype=np.float32):
            np.maximum(most, similarity, out=most)
        most[left_out] = 0
        return _Likeness.of_names(most, self.cards)


def _normalised_names(face: CardFace) -> dict[str, str]:
    """What may be printed on a face as its title, normalised -> as it is."""
    whole = [name for name in (face.name, face.printed_name) if name]
    found = {normalised(name): name for text in whole for name in (text, *text.split(_SIDES))}
    return {normal: name for normal, name in found.items() if normal}


def normalised(text: str) -> str:
    """Only letters and digits, in one case, without accents: OCR loses spaces and makes up signs."""
    text = text.casefold()
    if not text.isascii():
        plain = _MARKS.sub("", unicodedata.normalize("NFKD", text)).translate(_LETTERS).casefold()
        text = unicodedata.normalize("NFC", plain)
    return _SIGNS.sub("", text)


def _forms(text: str) -> set[str]:
    """What a text may say as a title: all of it, or without a mana cost."""
    plain = unicodedata.normalize("NFKC", text)  # ② -> 2
    return {normalised(plain), normalised(_COST.sub("", plain))} - {""}
