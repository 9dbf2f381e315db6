"""A page for a browser: photographs beside what they were recognised as."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from os.path import relpath
from pathlib import Path
from urllib.parse import quote

_HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>MTG Image DB: what was recognised</title>
<style>
body { font: 16px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #222; }
section { display: flex; gap: 1rem; flex-wrap: wrap; border-top: 1px solid #ccc; padding: 1rem 0; }
figure { margin: 0; width: 9.5rem; } img { height: 13rem; max-width: 100%; object-fit: contain; border-radius: .4rem; }
figcaption { font-size: .8rem; } .right { outline: 4px solid #2a8f3c; } .wrong { outline: 4px solid #c23b2b; }
h2 { font-size: 1rem; width: 100%; margin: 0; }
.outlined { position: relative; width: fit-content; } .outlined img { display: block; border-radius: 0; }
.large { width: auto; max-width: 100%; } .large img { height: 32rem; }
svg { position: absolute; inset: 0; width: 100%; height: 100%; }
polygon { fill: none; stroke: #2f6fde; stroke-width: 3; vector-effect: non-scaling-stroke; }
polygon.right { stroke: #2a8f3c; } polygon.wrong { stroke: #c23b2b; stroke-dasharray: 9 5; }
</style></head><body>
"""


Points = Sequence[tuple[float, float]]
_CLASS = {None: "", True: ' class="right"', False: ' class="wrong"'}


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture with a line below it, and whether it is the right one (None: not applicable)."""

    picture: Path
    caption: str
    right: bool | None = None
    size: tuple[int, int] = (0, 0)  # width, height, upright: what the outlines refer to
    outlines: Sequence[tuple[Points, bool | None]] = ()  # right, wrong, or the truth
    large: bool = False


def page(title: str, explanation: str, rows: list[tuple[str, list[Shown]]], folder: Path) -> str:
    """HTML of `rows`, each a heading and its pictures, for a file in `folder`: pictures are named relative to it."""
    sections = [
        f"<section><h2>{escape(head)}</h2>{''.join(_figure(s, folder) for s in row)}</section>" for head, row in rows
    ]
    return f"{_HEAD}<h1>{escape(title)}</h1><p>{escape(explanation)}</p>\n" + "\n".join(sections) + "\n</body></html>\n"


def _figure(shown: Shown, folder: Path) -> str:
    source, caption = quote(os.fsencode(relpath(shown.picture, folder))), escape(shown.caption)
    image = f'<img src="{source}" alt="{caption}"{_CLASS[shown.right]}>'
    if shown.outlines:
        polygons = "".join(
            f'<polygon points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"{_CLASS[right]}/>'
            for points, right in shown.outlines
        )
        width, height = shown.size
        image = f'<div class="outlined">{image}<svg viewBox="0 0 {width} {height}">{polygons}</svg></div>'
    large = ' class="large"' if shown.large else ""
    return f"<figure{large}>{image}<figcaption>{caption}</figcaption></figure>"
