"""The pages for a browser have this in common: their frame, light and dark, and pictures as part of the file."""

from base64 import b64encode
from collections.abc import Iterable
from html import escape
from io import BytesIO

from PIL import Image

from helpers.talk import printable

_HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
{policy}<title>MTG Image DB: {title}</title>
<style>
:root {{ color-scheme: light dark; --text: #222; --page: #fff; --soft: #666; --line: #ccc;
  --right: #1d7f33; --wrong: #c23b2b; --truth: #2f6fde; --doubt: #a35f00; }}
@media (prefers-color-scheme: dark) {{ :root {{ --text: #e4e4e4; --page: #17191c; --soft: #a3a7ad; --line: #44484f;
  --right: #4cc468; --wrong: #ff7b6b; --truth: #7fadff; --doubt: #ffb04a; }} }}
body {{ font: 16px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem;
  color: var(--text); background: var(--page); }}
a {{ color: var(--truth); }}
polygon {{ fill: none; stroke-width: 3; vector-effect: non-scaling-stroke; stroke-linejoin: round; }}
{style}</style></head><body>
"""
END = "</body></html>\n"


def head(title: str, style: str, sources: str | None = "data:") -> str:
    """How a page begins, up to its body.

    `sources`: where its pictures may come from, and nothing else may be fetched; None: pictures are files beside it.
    """
    policy = ""
    if sources is not None:
        rule = f"default-src 'none'; img-src {sources}; style-src 'unsafe-inline'"
        policy = f'<meta http-equiv="Content-Security-Policy" content="{rule}">\n'
    return _HEAD.format(policy=policy, title=escaped(title), style=style)


def escaped(text: str) -> str:
    """`text` for a page, whatever is in it."""
    return escape(printable(text))


def as_address(picture: Image.Image, side: int, quality: int = 85) -> str:
    """A picture as JPEG, reduced to `side` pixels at most, as an address that holds it."""
    small = picture.copy()
    small.thumbnail((side, side))
    file = BytesIO()
    small.save(file, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}"


def polygon(points: Iterable[tuple[float, float]], kind: str = "") -> str:
    """An outline in a picture's SVG; `kind` is its class."""
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    named = f' class="{kind}"' if kind else ""
    return f'<polygon points="{corners}"{named}/>'


def drawn_on(address: str, size: tuple[int, int], shapes: str, alt: str, width: int) -> str:
    """The picture at `address`, whose own size is `size`, with shapes on it; shown `width` pixels wide at most."""
    across, down = size
    image = f'<image href="{address}" width="{across}" height="{down}"/>'
    label = f'role="img" aria-label="{escaped(alt)}"'
    return f'<svg viewBox="0 0 {across} {down}" width="{min(across, width)}" {label}>{image}{shapes}</svg>'
