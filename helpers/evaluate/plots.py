"""The plots of an evaluation, as SVG that stands in a page and takes its colours.

Matplotlib draws with stand-ins for colours, which become the page's own: so one plot serves light and dark.
"""

from __future__ import annotations

import math
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha1
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers.evaluate.findings import Distorted, Reading, Samples, Search, Size
from helpers.html_page import escaped
from helpers.recognise.evaluation import Share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PIXELS_PER_INCH = 96
_COLOURS = {  # stand-in -> of the page, see `html_page.head`
    "#010203": "currentColor",
    "#010204": "var(--line)",
    "#010205": "var(--truth)",
    "#010206": "var(--right)",
    "#010207": "var(--wrong)",
    "#010208": "var(--doubt)",
}
_TEXT, _LINE, _BLUE, _GREEN, _RED, _ORANGE = _COLOURS
_STYLE = {
    "svg.fonttype": "none",  # text stays text: small, and it can be searched
    "svg.hashsalt": "plots",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "axes.edgecolor": _TEXT,
    "axes.labelcolor": _TEXT,
    "axes.titlesize": 10,
    "text.color": _TEXT,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
    "legend.frameon": False,
}


def damage(kind: str, levels: Sequence[Distorted], lowest: float) -> str:
    """Recall@1 by name against the amount of one kind of damage, with intervals; percent from `lowest` up."""
    with _plot(220, 190, _described(f"Recall at 1, {kind}", levels)) as (axes, drawn):
        shares = [level.by_name.at_1 for level in levels]
        _with_intervals(axes, range(len(shares)), shares, _BLUE)
        axes.set_title(f"{kind}, {levels[0].condition.unit}".rstrip(", "), loc="left")
        axes.set_xticks(range(len(levels)), [f"{level.condition.amount:g}" for level in levels])
        axes.set_xlim(-0.5, len(levels) - 0.5)
        axes.set_ylim(lowest, 101)
        axes.set_ylabel("named first, %")
    return drawn[0]


def lowest_shown(levels: Sequence[Distorted]) -> float:
    """Where the scale of `damage` begins, in percent: the same for all, so that they can be compared."""
    return max(0, 10 * math.floor(10 * min(level.by_name.at_1.low for level in levels) - 0.01))


def search(found: Search) -> str:
    """Recall@10 against latency, each point an efSearch; exact search is marked."""
    told = [f"efSearch {at.ef_search}: {_percent(at.recall_at_10):.2f} % in {at.ms:.2f} ms" for at in found.at]
    alt = f"Recall at 10 against latency. {'; '.join(told)}; exact search: 100 % in {found.exact.ms:.2f} ms"
    with _plot(480, 300, alt) as (axes, drawn):
        times = [at.ms for at in found.at]
        axes.plot(times, [_percent(at.recall_at_10) for at in found.at], color=_BLUE, linewidth=1)
        _with_intervals(axes, times, [at.recall_at_10 for at in found.at], _BLUE)
        for place, at in enumerate(found.at):
            own = at.ef_search == found.ef_search
            axes.annotate(
                str(at.ef_search),
                (at.ms, _percent(at.recall_at_10)),
                xytext=(4, (-12, 6)[place % 2]),  # neighbours may be close
                textcoords="offset points",
                weight="bold" if own else "normal",
            )
        axes.plot([found.exact.ms], [100], "D", color=_ORANGE, markersize=8, label="exact search")
        axes.set_xscale("log")
        axes.set_xlabel("milliseconds a query, one at a time (median)")
        axes.set_ylabel("recall@10, %")
        axes.plot([], [], "o-", color=_BLUE, label="HNSW, by efSearch")
        axes.legend(loc="lower right")
        _plain(axes.xaxis)
    return drawn[0]


def certainty(samples: Samples, sure_above: float, suggested: float | None) -> str:
    """How margin + gap is distributed over right answers, wrong ones, and strangers."""
    groups = (
        (f"right ({len(samples.right):,})", samples.right, _GREEN, "-"),
        (f"wrong ({len(samples.wrong):,})", samples.wrong, _RED, "--"),
        (f"stranger ({len(samples.stranger):,})", samples.stranger, _ORANGE, "-."),
    )
    every = [value for _, values, _, _ in groups for value in values] or [0.0, 1.0]
    bins = np.linspace(min(*every, 0.0), max(*every, sure_above), 41)
    medians = [f"{label} median {np.median(values):.2f}" for label, values, _, _ in groups if values]
    alt = f"Distribution of margin plus gap: {'; '.join(medians)}; sure from {sure_above:g}"
    with _plot(480, 300, alt) as (axes, drawn):
        for label, values, colour, line in groups:
            if values:
                counts, _ = np.histogram(values, bins)
                axes.stairs(100 * counts / len(values), bins, color=colour, linestyle=line, linewidth=1.6, label=label)
        axes.axvline(sure_above, color=_TEXT, linewidth=1.2, label=f"sure from {sure_above:g}")
        if suggested is not None:
            axes.axvline(suggested, color=_BLUE, linewidth=1.2, linestyle=":", label=f"suggested {suggested:.3f}")
        axes.set_xlabel("margin + gap")
        axes.set_ylabel("of its kind, %")
        axes.legend(loc="upper right")
    return drawn[0]


def size(found: Size) -> str:
    """Recall@1 against the number of cards in the index, and what the fitted tail says beyond them."""
    told = [f"{at.rows:,} cards: {_percent(at.recall_at_1):.1f} %" for at in found.at]
    beyond = [one for one in found.tail.predicted if one.extrapolated] if found.tail else []
    told += [f"{one.rows:,}, extrapolated: {100 * one.recall_at_1:.1f} %" for one in beyond]
    with _plot(480, 300, f"Recall at 1 against the size of the index. {'; '.join(told)}") as (axes, drawn):
        measured = [at.rows for at in found.at]
        _with_intervals(axes, measured, [at.recall_at_1 for at in found.at], _BLUE)
        axes.plot([], [], "o", color=_BLUE, label="measured")
        if found.tail:
            spans = [(measured[0], measured[-1], "-", "fitted")]
            if beyond:
                last = max(one.rows for one in beyond)
                spans.append((measured[-1], last, "--", "extrapolated, not measured"))
            for first, end, line, label in spans:
                rows = np.geomspace(first, end, 50)
                recall = 100 * np.clip(1 - found.tail.a * rows**found.tail.b, 0, 1)
                axes.plot(rows, recall, line, color=_BLUE if line == "-" else _ORANGE, linewidth=1.2, label=label)
            axes.plot([one.rows for one in beyond], [100 * one.recall_at_1 for one in beyond], "x", color=_ORANGE)
        _name_axes_of_sizes(axes)
    return drawn[0]


def _name_axes_of_sizes(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_xlabel("faces in the index")
    axes.set_ylabel("named first, %")
    axes.legend(loc="lower left")
    _plain(axes.xaxis)


def reading(found: Reading) -> str:
    """Recall@1 against the number of cards in the index, by looks alone and by print, too."""
    places = [at.rows for at in found.by_size]
    ways = {
        "by looks alone": ([at.without for at in found.by_size], _ORANGE, 0.97),
        "by print, too": ([at.with_print for at in found.by_size], _BLUE, 1.03),  # so that bars don't cover each other
    }
    told = [
        f"{name}, {rows:,} cards: {_percent(share):.1f} %"
        for name, (shares, _, _) in ways.items()
        for rows, share in zip(places, shares, strict=True)
    ]
    with _plot(480, 300, f"Recall at 1 against the size of the index. {'; '.join(told)}") as (axes, drawn):
        for name, (shares, colour, moved) in ways.items():
            beside = [rows * moved for rows in places]
            _with_intervals(axes, beside, shares, colour)
            axes.plot(beside, [_percent(share) for share in shares], color=colour, linewidth=1, label=name)
        _name_axes_of_sizes(axes)
    return drawn[0]


def _described(title: str, levels: Sequence[Distorted]) -> str:
    each = [
        f"{level.condition.amount:g} {level.condition.unit}: {_percent(level.by_name.at_1):.1f} %" for level in levels
    ]
    return f"{title}. {'; '.join(each)}"


def _percent(share: Share) -> float:
    return 100 * share.hits / share.total if share.total else float("nan")


def _with_intervals(axes: Axes, places: Sequence[float] | range, shares: Sequence[Share], colour: str) -> None:
    """Points with their 95 % intervals."""
    values = np.array([_percent(share) for share in shares])
    below = np.maximum(0, values - [100 * share.low for share in shares])
    above = np.maximum(0, [100 * share.high for share in shares] - values)
    axes.errorbar(list(places), values, [below, above], fmt="o", color=colour, markersize=4, capsize=3, linewidth=1.2)


def _plain(axis: Any) -> None:
    """Ordinary numbers on a logarithmic scale."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1,) if high > 500 * low else (1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


@contextmanager
def _plot(width: int, height: int, alt: str) -> Iterator[tuple[Axes, list[str]]]:
    """Yield axes to draw on, and a list that has the finished SVG afterwards; sizes in pixels."""
    matplotlib = _matplotlib()
    from matplotlib.figure import Figure

    drawn: list[str] = []
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width / PIXELS_PER_INCH, height / PIXELS_PER_INCH), layout="constrained")
        axes = figure.subplots()
        yield axes, drawn
        drawn.append(_svg(figure, alt, width))


@lru_cache(1)
def _matplotlib() -> Any:
    """The library, which takes a second and would write its list of fonts into the user's home."""
    kept = os.environ.get("MPLCONFIGDIR")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MPLCONFIGDIR"] = folder
        try:
            import matplotlib
            import matplotlib.font_manager
        finally:
            del os.environ["MPLCONFIGDIR"]
            if kept is not None:
                os.environ["MPLCONFIGDIR"] = kept
    return matplotlib


def _svg(figure: Figure, alt: str, width: int) -> str:
    """The figure as an element of a page: its colours, no names but its own, as wide as there is room."""
    file = StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    for stand_in, colour in _COLOURS.items():
        text = text.replace(stand_in, colour)
    text = re.sub(r"font: ([^;'\"]*?)'[^']*'[^;\"]*", r"font: \1system-ui, sans-serif", text)
    own = sha1(text.encode()).hexdigest()[:8]
    text = re.sub(r'\bid="([^"]+)"', rf'id="{own}-\1"', text)
    text = re.sub(r"url\(#", f"url(#{own}-", text)
    text = re.sub(r'href="#', f'href="#{own}-', text)
    box = re.search(r'viewBox="[^"]+"', text)
    inside = text[text.index(">") + 1 :]
    label = f'role="img" aria-label="{escaped(alt)}"'
    return (
        f'<svg {box[0] if box else ""} width="{width}" {label} xmlns:xlink="http://www.w3.org/1999/xlink">'
        + re.sub(r"\s*\n\s*", " ", inside).strip()
    )
