"""The line at the bottom of a card: text read there -> collector number, set and language; which faces agree with it.

As printed since 1998 (https://mtg.wiki/page/Collector_number):

- Exodus to 2014: `158/249`, in the line of the artist and the copyright.
- M15 (2014) to 2022: `158/249 C` over `IMA • EN`; ★ in place of • on foils.
- Since 2023: `C 0158` over `IMA • EN`. Tokens `T 0003`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from helpers.cards.faces import CardFace

MIN_CONFIDENCE = 0.6  # of a text: below, codes are made up
LANGUAGES = {  # as printed -> Scryfall's code
    **{"EN": "en", "FR": "fr", "DE": "de", "IT": "it", "SP": "es", "ES": "es", "PT": "pt", "RU": "ru", "PH": "ph"},
    **{"JP": "ja", "JA": "ja", "KR": "ko", "KO": "ko", "CS": "zhs", "CT": "zht"},
}
FIRST_NUMBERS, FIRST_CODES = "1998-06", "2014-07"  # when Exodus and M15 were released
TOKENS = ("token", "double_faced_token", "emblem")  # layouts whose set has a t before the code that is printed

_DIGIT = "[0-9OoQIl|SBZ]"  # and what is read for one
_DIGITS = str.maketrans("OoQIl|SBZ", "000111582")
_FRACTION = re.compile(rf"(?<![\w/])({_DIGIT}{{1,4}})([a-z]?)[★*†]?\s?/\s?({_DIGIT}{{2,4}})")
_AFTER_RARITY = re.compile(rf"^\W*([BCLMPRSTU])\s?({_DIGIT}{{3,4}})([a-z]?)[★*†]?(?=\s|$)")
_ALONE = re.compile(r"^\W*(\d{3,4}[a-z]?|[A-Z]\d{1,2})[★*†]?(\s[BCLMPRSTU])?\W*$")
_LANGUAGE = f"({'|'.join(LANGUAGES)})(?![a-z0-9])"
_CODE = re.compile(rf"(?:^|\s)\W*([A-Z0-9]{{3,5}})\s*[^\w\s/]\s*{_LANGUAGE}|^\W*([A-Z0-9]{{3,5}})\s+{_LANGUAGE}")
_YEARS = range(1993, 2050)  # of copyrights
_MIN_TOTAL = 30  # of a set; what is less, and has no zero before it, may be power and toughness
_ALIKE = str.maketrans("0qd1l52869", "oooiiszbgg")
_ELSEWHERE = re.compile(r"(\w{3,5})-(\w+)")  # a number of The List: the set and number of the first printing


@dataclass(frozen=True, slots=True)
class CollectorLine:
    """What is legible of it; None is not."""

    number: str | None = None  # without leading zeros and ★, such as 158, 12a, S5
    set: str | None = None  # the code in lower case, as read: letters and digits that look alike may be mixed up
    lang: str | None = None  # Scryfall's code

    @property
    def legible(self) -> bool:
        """Whether it says anything about the printing."""
        return self.number is not None or self.set is not None

    def __str__(self) -> str:
        return " ".join(filter(None, [self.set and self.set.upper(), self.number, self.lang])) or "not legible"

    @classmethod
    def parse(cls, texts: Sequence[tuple[str, float]]) -> CollectorLine:
        """Read texts of the bottom of a card, each with the recogniser's confidence 0..1, in any order.

        They may overlap or be something else. Of several numbers, the one in the surest form counts, then the one
        that was read with most confidence.
        """
        legible = [text for text, sure in sorted(texts, key=lambda read: -read[1]) if sure >= MIN_CONFIDENCE]
        code, lang = next(filter(None, map(_code, legible)), (None, None))
        forms = (_of_fraction, _after_rarity, *([_alone] if code else []))
        numbers = (number for form in forms for number in map(form, legible) if number)
        return cls(next(numbers, None), code, lang)


NO_LINE = CollectorLine()


def _code(text: str) -> tuple[str, str] | None:
    """The set and the language, as in `IMA • EN`."""
    for found in _CODE.finditer(text):
        code, lang = filter(None, found.groups())
        if not code.isdigit():
            return code.lower(), LANGUAGES[lang]
    return None


def _of_fraction(text: str) -> str | None:
    """The number, as in `158/249`."""
    for found in _FRACTION.finditer(text):
        number, total = found[1].translate(_DIGITS), found[3].translate(_DIGITS)
        written = sum(map(str.isdigit, found[1] + found[3]))
        is_total = int(total) not in _YEARS and (len(total) > 2 or int(total) >= _MIN_TOTAL)
        if is_total and 2 * written > len(number + total):
            return _plain(number + found[2])
    return None


def _after_rarity(text: str) -> str | None:
    """The number, as in `C 0158`."""
    found = _AFTER_RARITY.match(text)
    if not found or not any(map(str.isdigit, found[2])):
        return None
    number = found[2].translate(_DIGITS)
    return None if found[1] == "C" and int(number) in _YEARS else _plain(number + found[3])  # that may have been a ©


def _alone(text: str) -> str | None:
    """The number of a promotional card, as in `034 R`, `12a` or `S5`, if the line has nothing else."""
    found = _ALONE.match(text)
    return _plain(found[1]) if found and not (found[1].isdigit() and int(found[1]) in _YEARS) else None


def _plain(number: str) -> str:
    return number.strip("★†*").lstrip("0") or "0"


def agreeing(line: CollectorLine, faces: Sequence[CardFace]) -> list[CardFace]:
    """Those of `faces`, printings of one name, that have all that is legible of `line`; all of them if nothing is.

    None if the line contradicts them all: it was read wrong, or the card is another. A code or number whose letters and
    digits only look alike counts where none is the same. Of several faces, the language picks, if any has it. A reprint
    in The List (`plst`, `IMA-158`) shows its first printing's line, so it agrees as well. Cards older than Exodus have
    no number and those older than M15 no code, so they agree with none.
    """
    if line.number is None and line.set is None:
        return list(faces)
    same = [face for face in faces if any(_fits(line, *printed) for printed in _printed(face))]
    blurred = CollectorLine(_blurred(line.number), _blurred(line.set))
    alike = (face for face in faces if any(_fits(blurred, *map(_blurred, printed)) for printed in _printed(face)))
    found = same or list(alike)
    return [face for face in found if face.lang == line.lang] or found


def _fits(line: CollectorLine, code: str | None, number: str | None) -> bool:
    return line.set in (None, code) and line.number in (None, number)


def _blurred(text: str | None) -> str | None:
    return None if text is None else text.lower().translate(_ALIKE)


def _printed(face: CardFace) -> list[tuple[str, str]]:
    """The set codes and numbers that may be printed on a face: Scryfall adds to both."""
    released = face.released_at or "9"  # not known: it may be
    if released < FIRST_NUMBERS:
        return []
    if released < FIRST_CODES:
        return [("", _plain(face.collector_number))]
    found = [(face.set, _plain(face.collector_number))]
    if elsewhere := _ELSEWHERE.fullmatch(face.collector_number):
        found.append((elsewhere[1].lower(), _plain(elsewhere[2])))
    if face.layout in TOKENS and face.set.startswith("t"):
        found.append((face.set[1:], found[0][1]))
    return found
