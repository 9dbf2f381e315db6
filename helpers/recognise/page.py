"""Answers as a page for a browser, in one file: each picture with its cards outlined, and what they were matched with.

Without scripts, and nothing is fetched (but for `remote` pictures): all pictures are in it, as data.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TextIO, TypeGuard

from PIL import Image

from helpers.atomic_io import atomic_path, require_replaceable, writable_folder
from helpers.cards.faces import CardFace
from helpers.cards.image_cache import ImageCache
from helpers.embed.preprocess import as_seen
from helpers.recognise.query import Answer, Card, Match, straightened
from helpers.recognise.showing import Asked, how_sure, where
from helpers.talk import printable, text_of
from helpers.validation import BrokenImage, read_image, read_photo

PICTURE_SIDE = 1000  # pixels of the longer side of a picture that was asked, at most
CARD_HEIGHT = 340  # pixels
_KEPT = 256  # pictures of cards, 25 KB each: several pictures often show the same card

_HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src {sources}; style-src 'unsafe-inline'">
<title>MTG Image DB: which cards are these?</title>
<style>
body {{ font: 16px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #222;
  background: #fff; }}
h2 {{ font-size: 1.1rem; border-top: 1px solid #ccc; padding-top: 1rem; overflow-wrap: anywhere; }}
h3 {{ font-size: .95rem; margin: 1.2rem 0 .4rem; font-weight: 600; }} h3 small {{ color: #666; font-weight: 400; }}
svg {{ display: block; max-width: 100%; max-height: 85vh; }}
polygon {{ fill: none; stroke-width: 3; vector-effect: non-scaling-stroke; stroke-linejoin: round; }}
text {{ font-weight: 700; text-anchor: middle; dominant-baseline: central; fill: #fff; stroke: #000;
  stroke-width: .15em; paint-order: stroke; }}
.sure polygon {{ stroke: #19c24a; }} .unsure polygon {{ stroke: #ff9d00; stroke-dasharray: 9 5; }}
h3.sure b {{ color: #137d32; }} h3.unsure b {{ color: #a35f00; }} .error {{ color: #b3261e; }}
.row {{ display: flex; flex-wrap: wrap; gap: .8rem; align-items: flex-start; }}
figure {{ margin: 0; width: 10.5rem; }} figure.asked {{ padding-right: .8rem; border-right: 2px solid #ccc; }}
figure img {{ display: block; max-width: 100%; max-height: 15rem; width: auto; height: auto; border-radius: .5rem; }}
.placeholder {{ display: flex; align-items: center; justify-content: center; text-align: center; aspect-ratio: 63 / 88;
  padding: .5rem; box-sizing: border-box; border: 1px dashed #888; border-radius: .5rem; color: #555; }}
figcaption {{ font-size: .8rem; margin-top: .3rem; overflow-wrap: anywhere; }}
</style></head><body>
<h1>Which cards are these?</h1>
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
        file.write(_HEAD.format(sources="data: https: http:" if remote else "data:"))

    def end(self) -> None:
        """Write the page's end."""
        self._file.write("</body></html>\n")

    def add(self, asked: Asked, answer: Answer) -> None:
        """What was asked, and the answer."""
        self._file.write(f"<section><h2>{_text(asked.title)}</h2>\n")
        for one in (answer, *answer.left_out):
            if one.error is not None:
                self._file.write(
                    f'<p class="error">{_text(": ".join(filter(None, (text_of(one.image), one.error))))}</p>\n'
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
        caption = f"{match.rank}. {match.score:.4f}<br>{_text(face.name)}<br>{printing}"
        return f"<figure>{self._picture(face)}<figcaption>{caption}</figcaption></figure>\n"

    def _picture(self, face: CardFace) -> str:
        data = _cached_as_data(self._cache.path_for(face.image_url))
        if data is None and self._remote and _is_web(face.card_url):
            data = face.card_url
        return _img(data, face.name) if data else f'<div class="placeholder">{_text(face.name)}</div>'


def _outlined(picture: Image.Image, cards: Sequence[Card]) -> str:
    """The picture, with the outlines of the cards that are parts of it."""
    width, height = picture.size
    outlines = []
    for number, card in enumerate(cards, 1):
        if card.quad is not None:
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in card.quad)
            x, y = (sum(corner[axis] for corner in card.quad) / 4 for axis in (0, 1))
            number_at = f'<text x="{x:.1f}" y="{y:.1f}" font-size="{max(width, height) / 25:.1f}">{number}</text>'
            outlines.append(f'<g class="{_class(card)}"><polygon points="{points}"/>{number_at}</g>')
    image = f'<image href="{_as_data(picture, PICTURE_SIDE)}" width="{width}" height="{height}"/>'
    shown_width = min(width, PICTURE_SIDE)
    return f'<svg viewBox="0 0 {width} {height}" width="{shown_width}" role="img">{image}{"".join(outlines)}</svg>\n'


def _read(path: str) -> Image.Image | None:
    """The picture as it was asked; None if it is none or was removed since."""
    try:
        return as_seen(read_photo(Path(path)))
    except (BrokenImage, FileNotFoundError):
        return None


def _asked_figure(picture: Image.Image) -> str:
    return f'<figure class="asked">{_img(_as_data(picture, CARD_HEIGHT), "as it was asked")}</figure>\n'


def _heading(number: int, asked: Asked, card: Card) -> str:
    if not asked.pictures:
        return ""  # words: neither place nor certainty
    place = f" <small>{where(card)}</small>" if asked.is_picture else ""
    return f'<h3 class="{_class(card)}">{number}. <b>{how_sure(card)}</b>{place}</h3>\n'


def _class(card: Card) -> str:
    return "sure" if card.sure else "unsure"


def _text(text: str) -> str:
    return escape(printable(text))


def _linked(text: str, address: str | None) -> str:
    return f'<a href="{escape(address)}" rel="noreferrer">{_text(text)}</a>' if _is_web(address) else _text(text)


def _is_web(address: str | None) -> TypeGuard[str]:
    """Whether it is an address that a browser fetches, not a script."""
    return address is not None and address.startswith(("https://", "http://"))


def _img(address: str, alt: str) -> str:
    return f'<img src="{escape(address)}" alt="{_text(alt)}" loading="lazy" referrerpolicy="no-referrer">'


@lru_cache(_KEPT)
def _cached_as_data(path: Path) -> str | None:
    """The card's picture at `path` as an address; None if there is none."""
    try:
        return _as_data(as_seen(read_image(path)), CARD_HEIGHT)
    except (BrokenImage, FileNotFoundError):
        return None


def _as_data(picture: Image.Image, side: int) -> str:
    """A picture, reduced to `side` pixels at most, as an address that holds it."""
    small = picture.copy()
    small.thumbnail((side, side))
    file = BytesIO()
    small.save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}"
