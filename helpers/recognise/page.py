"""Answers as a page for a browser, in one file: each picture with its cards outlined, and what they were matched with.

Without scripts, and nothing is fetched (but for `remote` pictures): all pictures are in it, as data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import TextIO, TypeGuard

from PIL import Image

from helpers.atomic_io import atomic_path, require_replaceable, writable_folder
from helpers.cards.faces import CardFace
from helpers.cards.image_cache import ImageCache
from helpers.embed.preprocess import as_seen
from helpers.html_page import END, as_address, drawn_on, escaped, head, polygon
from helpers.recognise.query import Answer, Card, Match, straightened
from helpers.recognise.showing import Asked, how_sure, where
from helpers.talk import text_of
from helpers.validation import BrokenImage, read_image, read_photo

PICTURE_SIDE = 1000  # pixels of the longer side of a picture that was asked, at most
CARD_HEIGHT = 340  # pixels
_KEPT = 256  # pictures of cards, 25 KB each: several pictures often show the same card

_STYLE = """
h2 { font-size: 1.1rem; border-top: 1px solid var(--line); padding-top: 1rem; overflow-wrap: anywhere; }
h3 { font-size: .95rem; margin: 1.2rem 0 .4rem; font-weight: 600; } h3 small { color: var(--soft); font-weight: 400; }
svg { display: block; max-width: 100%; max-height: 85vh; }
text { font-weight: 700; text-anchor: middle; dominant-baseline: central; fill: #fff; stroke: #000;
  stroke-width: .15em; paint-order: stroke; }
.sure polygon { stroke: #19c24a; } .unsure polygon { stroke: #ff9d00; stroke-dasharray: 9 5; }
h3.sure b { color: var(--right); } h3.unsure b { color: var(--doubt); } .error { color: var(--wrong); }
.row { display: flex; flex-wrap: wrap; gap: .8rem; align-items: flex-start; }
figure { margin: 0; width: 10.5rem; } figure.asked { padding-right: .8rem; border-right: 2px solid var(--line); }
figure img { display: block; max-width: 100%; max-height: 15rem; width: auto; height: auto; border-radius: .5rem; }
.placeholder { display: flex; align-items: center; justify-content: center; text-align: center; aspect-ratio: 63 / 88;
  padding: .5rem; box-sizing: border-box; border: 1px dashed var(--soft); border-radius: .5rem; color: var(--soft); }
figcaption { font-size: .8rem; margin-top: .3rem; overflow-wrap: anywhere; }
"""


@contextmanager
def page_at(out: Path, cache: ImageCache, *, remote: bool) -> Iterator[Callable[[Asked, Answer], None]]:
    """Yield what adds an answer to a page, which becomes the file `out` if the block succeeds.

    PipelineError at once if it can't be written.
    """
    writable_folder(out.parent, "--html")
    require_replaceable(out, "the --html file", "pass a file, new or existing: --html report.html")
    with atomic_path(out) as part, open(part, "w", encoding="utf-8") as file:
        page = Page(file, cache, remote=remote)
        yield page.add
        page.end()


class Page:
    """A page that is being written; each answer goes to its file at once."""

    def __init__(self, file: TextIO, cache: ImageCache, *, remote: bool) -> None:
        """`cache` has the matched cards' pictures; `remote`: link to those that it lacks, as the index names them."""
        self._file, self._cache, self._remote = file, cache, remote
        sources = "data: https: http:" if remote else "data:"
        file.write(head("which cards are these?", _STYLE, sources) + "<h1>Which cards are these?</h1>\n")

    def end(self) -> None:
        """Write the page's end."""
        self._file.write(END)

    def add(self, asked: Asked, answer: Answer) -> None:
        """What was asked, and the answer."""
        self._file.write(f"<section><h2>{escaped(asked.title)}</h2>\n")
        for one in (answer, *answer.left_out):
            if one.error is not None:
                self._file.write(
                    f'<p class="error">{escaped(": ".join(filter(None, (text_of(one.image), one.error))))}</p>\n'
                )
        if answer.error is None:
            self._file.write(self._answered(asked, answer))
        self._file.write("</section>\n")

    def _answered(self, asked: Asked, answer: Answer) -> str:
        pictures = list(filter(None, map(_read, asked.pictures)))
        outlined, cuts = "", [""] * len(answer.cards)
        if asked.is_picture and pictures:
            (picture,) = pictures
            outlined = _outlined(picture, answer.cards)
            cuts = [_asked_figure(cut) for cut in straightened(picture, answer.cards, CARD_HEIGHT)]
        elif pictures:
            outlined = f'<div class="row">{"".join(map(_asked_figure, pictures))}</div>\n'
        rows = [
            _heading(number, asked, card) + self._row(card.matches, cut)
            for number, (card, cut) in enumerate(zip(answer.cards, cuts, strict=True), 1)
        ]
        return outlined + ("".join(rows) or "<p>no card</p>\n")

    def _row(self, matches: Sequence[Match], first: str = "") -> str:
        return f'<div class="row">{first}{"".join(map(self._figure, matches))}</div>\n'

    def _figure(self, match: Match) -> str:
        face = match.face
        printing = _linked(face.printing, face.scryfall_uri)
        caption = f"{match.rank}. {match.score:.4f}<br>{escaped(face.name)}<br>{printing}"
        return f"<figure>{self._picture(face)}<figcaption>{caption}</figcaption></figure>\n"

    def _picture(self, face: CardFace) -> str:
        data = _cached_as_data(self._cache.path_for(face.image_url))
        if data is None and self._remote and _is_web(face.card_url):
            data = face.card_url
        return _img(data, face.name) if data else f'<div class="placeholder">{escaped(face.name)}</div>'


def _outlined(picture: Image.Image, cards: Sequence[Card]) -> str:
    """The picture, with the outlines of the cards that are parts of it."""
    width, height = picture.size
    outlines = []
    for number, card in enumerate(cards, 1):
        if card.quad is not None:
            x, y = (sum(corner[axis] for corner in card.quad) / 4 for axis in (0, 1))
            number_at = f'<text x="{x:.1f}" y="{y:.1f}" font-size="{max(width, height) / 25:.1f}">{number}</text>'
            outlines.append(f'<g class="{_class(card)}">{polygon(card.quad)}{number_at}</g>')
    address = as_address(picture, PICTURE_SIDE)
    return drawn_on(address, picture.size, "".join(outlines), "the picture that was asked", PICTURE_SIDE) + "\n"


def _read(path: str) -> Image.Image | None:
    """The picture as it was asked; None if it is none or was removed since."""
    try:
        return as_seen(read_photo(Path(path)))
    except (BrokenImage, FileNotFoundError):
        return None


def _asked_figure(picture: Image.Image) -> str:
    return f'<figure class="asked">{_img(as_address(picture, CARD_HEIGHT), "as it was asked")}</figure>\n'


def _heading(number: int, asked: Asked, card: Card) -> str:
    if not asked.pictures:
        return ""  # words: neither place nor certainty
    place = f" <small>{where(card)}</small>" if asked.is_picture else ""
    return f'<h3 class="{_class(card)}">{number}. <b>{how_sure(card)}</b>{place}</h3>\n'


def _class(card: Card) -> str:
    return "sure" if card.sure else "unsure"


def _linked(text: str, address: str | None) -> str:
    return f'<a href="{escape(address)}" rel="noreferrer">{escaped(text)}</a>' if _is_web(address) else escaped(text)


def _is_web(address: str | None) -> TypeGuard[str]:
    """Whether it is an address that a browser fetches, not a script."""
    return address is not None and address.startswith(("https://", "http://"))


def _img(address: str, alt: str) -> str:
    return f'<img src="{escape(address)}" alt="{escaped(alt)}" loading="lazy" referrerpolicy="no-referrer">'


@lru_cache(_KEPT)
def _cached_as_data(path: Path) -> str | None:
    """The card's picture at `path` as an address; None if there is none."""
    try:
        return as_address(as_seen(read_image(path)), CARD_HEIGHT)
    except (BrokenImage, FileNotFoundError):
        return None
