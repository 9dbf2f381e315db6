"""A page for a browser: photographs beside what they were recognised as."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from os.path import relpath
from pathlib import Path
from urllib.parse import quote

from helpers.html_page import END, head, polygon

_STYLE = """
section { display: flex; gap: 1rem; flex-wrap: wrap; border-top: 1px solid var(--line); padding: 1rem 0; }
figure { margin: 0; width: 9.5rem; } img { height: 13rem; max-width: 100%; object-fit: contain; border-radius: .4rem; }
figcaption { font-size: .8rem; } .right { outline: 4px solid var(--right); } .wrong { outline: 4px solid var(--wrong); }
h2 { font-size: 1rem; width: 100%; margin: 0; }
.outlined { position: relative; width: fit-content; } .outlined img { display: block; border-radius: 0; }
svg { position: absolute; inset: 0; width: 100%; height: 100%; }
polygon.right { stroke: #2a8f3c; outline: none; }
polygon.wrong { stroke: #c23b2b; stroke-dasharray: 9 5; outline: none; }
"""

Points = Sequence[tuple[float, float]]
_CLASS = {None: "", True: ' class="right"', False: ' class="wrong"'}
_KIND = {True: "right", False: "wrong"}


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture with a line below it, and whether it is the right one (None: not applicable)."""

    picture: Path
    caption: str
    right: bool | None = None
    size: tuple[int, int] = (0, 0)  # width, height, upright: what the outlines refer to
    outlines: Sequence[tuple[Points, bool]] = ()  # right or wrong


def page(title: str, explanation: str, rows: list[tuple[str, list[Shown]]], folder: Path) -> str:
    """HTML of `rows`, each a heading and its pictures, for a file in `folder`: pictures are named relative to it."""
    sections = [
        f"<section><h2>{escape(head)}</h2>{''.join(_figure(s, folder) for s in row)}</section>" for head, row in rows
    ]
    start = head("what was recognised", _STYLE, sources=None)
    return f"{start}<h1>{escape(title)}</h1><p>{escape(explanation)}</p>\n" + "\n".join(sections) + f"\n{END}"


def _figure(shown: Shown, folder: Path) -> str:
    source, caption = quote(os.fsencode(relpath(shown.picture, folder))), escape(shown.caption)
    image = f'<img src="{source}" alt="{caption}"{_CLASS[shown.right]}>'
    if shown.outlines:
        polygons = "".join(polygon(points, _KIND[right]) for points, right in shown.outlines)
        width, height = shown.size
        image = f'<div class="outlined">{image}<svg viewBox="0 0 {width} {height}">{polygons}</svg></div>'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
