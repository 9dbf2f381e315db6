"""An evaluation as a page for a browser: one file without scripts, in which all plots and pictures are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

from PIL import Image

from helpers.cards.image_cache import ImageCache
from helpers.errors import PipelineError
from helpers.evaluate import plots, reading_tables
from helpers.evaluate.asking import FIRST, AskedPhoto, names_of, opened
from helpers.evaluate.findings import (
    MOST_MISSES,
    Baselines,
    Camera,
    Conditions,
    Distorted,
    Findings,
    Miss,
    Reading,
    Search,
    Size,
    Strangers,
)
from helpers.evaluate.photograph_tables import read_on
from helpers.evaluate.photographs import Photographs, Way
from helpers.evaluate.queries import picture_of, render
from helpers.html_page import END, as_address, drawn_on, escaped, head, polygon
from helpers.index.store import StoredIndex
from helpers.recognise.evaluation import FOLDS, FOUND, LOST, MAX_STRANGERS, Share
from helpers.talk import text_of, warn
from helpers.validation import BrokenImage

MAX_PICTURES = 1_900_000  # bytes of all pictures, as they stand in the page
PICTURE_SIDE = 260  # pixels of a card's longer side
PHOTO_SIDE = 720  # pixels of a photograph's

Rendered: TypeAlias = "Callable[[Miss], Image.Image | None]"
Pictured: TypeAlias = "Callable[[int], Image.Image | None]"

_STYLE = """
h2 { border-top: 1px solid var(--line); padding-top: 1.2rem; margin-top: 2.2rem; }
h3 { font-size: 1rem; overflow-wrap: anywhere; }
figure { margin: 1rem 0; } figcaption, .note { color: var(--soft); font-size: .88rem; max-width: 62rem; }
figure > svg, .panels svg { display: block; max-width: 100%; height: auto; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: .6rem; }
.scroll { overflow-x: auto; margin-bottom: .4rem; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td, th[scope=row] { white-space: nowrap; }
.misses { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 1.4rem; }
.miss { border: 1px solid var(--line); border-radius: .5rem; padding: .7rem; }
.three { display: grid; grid-template-columns: repeat(3, 1fr); gap: .5rem; }
.three figure { margin: 0; } .three img, .absent { width: 100%; aspect-ratio: 63 / 88; object-fit: contain; }
.three figcaption { overflow-wrap: anywhere; } .miss p { margin: .5rem 0 0; font-size: .88rem; }
.absent { display: flex; align-items: center; justify-content: center; border: 1px dashed var(--line);
  box-sizing: border-box; color: var(--soft); font-size: .8rem; text-align: center; }
span.wrong { color: var(--wrong); } span.is { color: var(--right); }
polygon { stroke: var(--truth); } polygon.right { stroke: #2a8f3c; }
polygon.wrong { stroke: #e0402e; stroke-dasharray: 9 5; }
summary { cursor: pointer; }
@media (max-width: 30rem) { body { margin: 1rem auto; } th[scope=row] { white-space: normal; }
  .misses { grid-template-columns: 1fr; } }
"""


def page(found: Findings, *, asked: Rendered, card: Pictured) -> str:
    """The findings as HTML.

    `asked` gives a missed query's picture as it was asked, `card` that of a row; None where there is none any more.
    """
    pictures = _Pictures()
    parts = [head("how well does this index recognise?", _STYLE), *_summary(found)]
    if found.camera:
        parts += _camera(found.camera, found.conditions)
    if found.baselines:
        parts += _baselines(found.baselines)
    if found.strangers:
        parts += _strangers(found.strangers)
    if found.size:
        parts += _size(found.size)
    if found.reading:
        parts += _reading(found.reading)
    if found.search:
        parts += _search(found.search)
    if found.photographs:
        parts += _photographs(found.photographs, pictures)
    if found.camera or found.misses:
        parts += _misses(found.misses, pictures, asked, card)
    return "\n".join([*parts, END])


def page_of(found: Findings, stored: StoredIndex, cache: Path | None) -> str:
    """`page` with the pictures of an index: in `cache`, or where it says; none, with a warning, if it was rebuilt."""
    folder, records = cache or stored.pictures, stored.records()
    if stored.manifest.timestamp != found.conditions.built:
        warn("The index was built anew meanwhile: the page has no pictures of its cards")
        folder = None

    def card(row: int) -> Image.Image | None:
        try:
            return picture_of(records[row], ImageCache(folder)) if folder else None
        except (FileNotFoundError, BrokenImage):
            return None

    def asked(miss: Miss) -> Image.Image | None:
        clean = card(miss.row)
        return clean and render(clean, miss.condition, found.conditions.seed, miss.round, miss.row)

    return page(found, asked=asked, card=card)


class _Pictures:
    """Pictures as addresses, until there is no room for more."""

    def __init__(self) -> None:
        self._left = MAX_PICTURES

    def add(self, picture: Image.Image, side: int) -> str | None:
        """The picture's address; None if there is no room for it."""
        address = as_address(picture.convert("RGB"), side, quality=78)
        if len(address) > self._left:
            return None
        self._left -= len(address)
        return address


# ------------------------------------------------------------------------------------------------------------ summary


def _summary(found: Findings) -> Iterator[str]:
    at = found.conditions
    yield "<h1>How well does this index recognise cards?</h1>"
    whitened = f", whitened to {at.whitened.dimensions} dimensions" if at.whitened else ""
    yield (
        f"<p>An index of {at.rows:,} faces with {at.names:,} different names, made with the model {escaped(at.model)} "
        f"({at.width} dimensions{whitened}{', with difference hashes' if at.hashes else ', without hashes'}). "
        f"A score is the cosine less {at.recognition.hash_weight:g} times the share of differing bits; an answer is "
        f"sure from margin + gap {at.recognition.sure_above:g}.</p>"
    )
    lines = list(_headlines(found))
    if lines:
        yield f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>"
    yield (
        f'<p class="note">Shares have their counts and a 95 % interval in brackets, by card; of photographs, by '
        f"photograph. {_sample(at)} "
        f"Measured {escaped(at.timestamp)} with version {escaped(at.tool_version)} on {escaped(at.device)} in "
        f"{escaped(at.precision)}; the index was built {escaped(at.built)}.</p>"
    )
    if at.left_out:
        yield f'<p class="note">Left out: {escaped("; ".join(at.left_out))}</p>'


def _sample(at: Conditions) -> str:
    if not at.cards:
        return ""
    cards = f"{at.cards:,} card{'s' * (at.cards != 1)}"
    return f"Each of {at.rounds} rounds asks {cards} under every condition (seed {at.seed})."


def _headlines(found: Findings) -> Iterator[str]:
    """What most people want to know."""
    if found.camera:
        for level in _named_levels(found.camera):
            condition = escaped(str(level.condition))
            yield f"{condition}: {level.by_name.at_1} of queries named right, {_of(found.camera.rows)}"
    if found.strangers:
        overall = found.strangers.overall
        yield f"Named right and sure: {overall.known}; strangers called sure: {overall.strangers}"
    if found.photographs:
        for way in found.photographs.ways:
            for group in way.groups[:1]:
                yield f"Photographs, {escaped(way.way)}: {group.named} of known cards named first"


def _named_levels(camera: Camera) -> list[Distorted]:
    """Corners as is and worst, and everything mixed."""
    by_kind = {kind: list(some) for kind, some in groupby(camera.at, lambda one: one.condition.kind)}
    corners = by_kind.get("corners", [])
    return [*corners[:1], *corners[1:][-1:], *by_kind.get("mixed", [])[-1:]]


def _of(rows: int) -> str:
    return f"among {rows:,} faces"


# ------------------------------------------------------------------------------------------------------------ sections


def _camera(found: Camera, at: Conditions) -> Iterator[str]:
    lowest = plots.lowest_shown(found.at)
    kinds = [(kind, list(some)) for kind, some in groupby(found.at, lambda one: one.condition.kind)]
    yield "<h2>Damaged pictures</h2>"
    panels = "".join(plots.damage(kind, levels, lowest) for kind, levels in kinds)
    totals = sorted({level.by_name.at_1.total for level in found.at})
    yield _figure(
        f'<div class="panels">{panels}</div>',
        f"How often the first answer has the right name when a clean picture is damaged in one way, by how much. Each "
        f"point is {' or '.join(f'{total:,}' for total in totals)} queries in {at.rounds} rounds, {_of(found.rows)}; "
        f"{found.queries:,} queries in all. Bars are 95 % intervals. The scale begins at {lowest:g} %.",
    )
    rows = [
        (
            *(str(level.condition), level.by_name.at_1, level.by_name.at_5, f"{level.by_name.mrr.value:.3f}"),
            *(level.by_illustration.at_1, level.by_illustration.at_5, _span(level.by_seed)),
        )
        for level in found.at
    ]
    columns = ("damage", "name, first", "in the first 5", "MRR", "illustration, first", "in the first 5", "by round")
    note = (
        f"The same in figures, {_of(found.rows)}. MRR: mean reciprocal rank of the right name. Illustration: reprints "
        "with the same art count as one. By round: lowest and highest share of first answers with the right name."
    )
    yield f"<details><summary>Counts and intervals</summary>{_table(columns, rows, note)}</details>"


def _span(shares: Sequence[Share]) -> str:
    values = [100 * share.hits / share.total for share in shares if share.total]
    return f"{min(values):.1f} to {max(values):.1f} %" if values else "N/A"


def _baselines(found: Baselines) -> Iterator[str]:
    yield "<h2>What each part is worth</h2>"
    columns = ("ranked by", "hash weight", "all conditions", *map(str, found.conditions))
    rows = [
        (one.name, "" if one.hash_weight is None else f"{one.hash_weight:g}", one.overall, *one.recall_at_1)
        for one in found.variants
    ]
    note = (
        f"First answers with the right name, {_of(found.rows)}: the same queries ranked in other ways, each by "
        "comparison with every row. The first line is what this index answers; in the others a tie counts as right, "
        "which favours hashes."
    )
    yield _table(columns, rows, note)


def _strangers(found: Strangers) -> Iterator[str]:
    yield "<h2>When it is sure</h2>"
    samples, overall = found.samples, found.overall
    suggested = "" if found.suggested is None else f" Dotted: {found.suggested:.3f}, chosen on all cards asked here."
    yield _figure(
        plots.certainty(samples, found.sure_above, found.suggested),
        f"Margin + gap of {len(samples.right):,} right and {len(samples.wrong):,} wrong answers, and of "
        f"{len(samples.stranger):,} strangers: the same queries with all rows of the card's name masked. Each kind "
        f"adds up to 100 %. {_of(found.rows).capitalize()}; the line is where this index is sure.{suggested}",
    )
    chosen = ", ".join(f"{value:.3f}" for value in found.thresholds) or "none"
    columns = ("damage", "known: right and sure", "strangers: sure", "known, held out", "strangers, held out")
    rows = [
        (damage, one.known, one.strangers, one.known_held_out, one.strangers_held_out)
        for damage, one in (("all", overall), *((str(one.condition), one) for one in found.at))
    ]
    note = (
        f"{_of(found.rows).capitalize()}, sure from margin + gap {found.sure_above:g}. Held out: by thresholds that at "
        f"most {100 * found.max_strangers:g} % of the strangers of other cards reach ({len(found.thresholds)} folds: "
        f"{chosen})."
    )
    yield _table(columns, rows, note)


def _size(found: Size) -> Iterator[str]:
    yield "<h2>More cards</h2>"
    asked = found.at[-1].recall_at_1.total
    tail = " There were too few errors to fit a curve."
    if found.tail:
        tail = (
            f" The curve is {escaped(found.tail.formula)} with a = {found.tail.a:.3g}, b = {found.tail.b:.3g}, fitted "
            f"to sizes of up to {found.at[-1].rows:,}; dashed, it is an extrapolation that nothing here confirms."
        )
    yield _figure(
        plots.size(found),
        f"First answers with the right name against the faces in the index: {asked:,} queries at the largest size, "
        f"{escaped(str(found.condition))}, {escaped(found.way)}. Smaller samples are parts of larger ones.{tail}",
    )
    rows: list[tuple[object, ...]] = [(f"{at.rows:,}", f"{at.names:,}", at.recall_at_1, "measured") for at in found.at]
    predicted = found.tail.predicted if found.tail else ()
    rows += [
        (f"{one.rows:,}", "", f"{100 * one.recall_at_1:.1f} %", "extrapolated") for one in predicted if one.extrapolated
    ]
    note = f"{escaped(str(found.condition))}, {escaped(found.way)}."
    yield _table(("faces, about", "names", "named first", ""), rows, note)


def _reading(found: Reading) -> Iterator[str]:
    yield "<h2>Reading the card</h2>"
    note = (
        f"Pictures of the index's own cards, {_of(found.rows)}, named by what they look like, and by what is read on "
        f"them, too: every card was read, sure or not. A title is read if it fits one of the index, a collector line "
        f"if number and set are legible. {reading_tables.of_strangers(found)}. "
        f"{escaped(reading_tables.milliseconds(found.ms))}."
    )
    yield _table(reading_tables.NAMED, reading_tables.named(found), note)
    yield _figure(
        plots.reading(found),
        f"The same {found.queries:,} queries among some of the names and all of them, up to {found.rows:,} faces. "
        "Smaller samples are parts of larger ones.",
    )
    yield _table(reading_tables.SIZES, reading_tables.sizes(found), "All conditions together.")
    note = (
        f"Of queries named right both ways, {_of(found.rows)}: whether the first printing is the right one. Sure: no "
        "other printing is within reach."
    )
    yield _table(reading_tables.PRINTINGS, reading_tables.printings(found), note)
    if found.fusion:
        fitted = escaped(reading_tables.how_fitted(found.fusion))
        note = f"What is read counts read_weight times as much as what a card looks like, {_of(found.rows)}."
        yield _table(reading_tables.CHOICES, reading_tables.choices(found.fusion), note)
        yield _table(reading_tables.CONFIDENCE, reading_tables.confidence(found.fusion), f"{fitted}.")


def _search(found: Search) -> Iterator[str]:
    yield "<h2>Search</h2>"
    yield _figure(
        plots.search(found),
        "How many of the true ten nearest rows HNSW finds, and how long a query takes, by efSearch (bold: the index's "
        "own); the diamond is "
        f"exact search, by comparison with every row. {found.queries:,} queries ({escaped(found.made_of)}) "
        f"{_of(found.rows)} of {found.width} dimensions. Bars are 95 % intervals. This says nothing "
        "about whether the nearest is the right card.",
    )
    columns = ("efSearch", "recall@1", "recall@10", "ms, one query", "ms a query of 12")
    rows: list[tuple[object, ...]] = [
        (at.ef_search, at.recall_at_1, at.recall_at_10, f"{at.ms:.3f}", f"{at.ms_of_12:.3f}") for at in found.at
    ]
    rows.append(("exact", "all", "all", f"{found.exact.ms:.3f}", f"{found.exact.ms_of_12:.3f}"))
    yield _table(columns, rows, f"{found.queries:,} queries {_of(found.rows)}; the index carries {found.ef_search}.")
    more: list[tuple[object, ...]] = [
        ("rows that find themselves first, or a twin", found.self_recall),
        ("int8: same first name", found.int8.same_first_name),
        ("int8: recall@10", found.int8.recall_at_10),
    ]
    note = f"{_of(found.rows).capitalize()}; int8 as the browser's file has it, against float rows."
    if (near := found.clusters) is not None:
        more += [
            ("recall@10 of queries from clusters", near.recall_at_10_inside),
            ("recall@10 of the others", near.recall_at_10_outside),
        ]
        note += (
            f" Clusters: {near.rows:,} rows in {near.clusters:,}, the largest of {near.largest:,}, linked by a cosine "
            f"of {near.cosine:g} or more, without the mean row."
        )
    yield _table(("", "share"), more, note)


def _photographs(found: Photographs, pictures: _Pictures) -> Iterator[str]:
    yield "<h2>Photographs</h2>"
    for way in found.ways:
        yield f"<h3>{escaped(way.way.capitalize())}</h3>"
        yield from _way(way, found)
    yield from _missed_photographs(found.answers, pictures)


def _way(way: Way, found: Photographs) -> Iterator[str]:
    if way.groups:
        columns = ("", "photographs", "outline found", "named first", f"in the first {FIRST}", "of these sure", *LOST)
        rows = [
            (
                *(one.title, one.photos, one.outlined, one.named, one.in_first, one.sure),
                *(one.lost[where] for where in LOST),
            )
            for one in way.groups
        ]
        note = (
            f"{_of(found.rows).capitalize()}, cards that are visible to {found.options.min_visible:g} or more; "
            f"intervals by photograph. An outline is found from an IoU of {FOUND:g}. Sure is of the cards named "
            "first. The last columns count the others by where they were lost."
        )
        yield _table(columns, rows, note)
    if read := read_on(way):
        note = (
            f"{_of(found.rows).capitalize()}, read: {found.options.read}. Titles are of the cards answered; printings "
            "of the cards named first whose printing the labels say and the index has."
        )
        yield _table(read[0], read[1:], note)
    if way.strangers:
        lines = [(one.title, one.sure, one.read) for one in way.strangers]
        head = ("strangers", "pictures with something sure", "with a title read")
        yield _table(head, lines, _of(found.rows).capitalize() + ".")
    if way.threshold:
        yield (
            f"<p>With the margin + gap that at most {100 * MAX_STRANGERS:g} % of the strangers on other photographs "
            f"reach ({FOLDS} folds), {way.threshold.known} of known cards are named and accepted, and "
            f"{way.threshold.strangers} of strangers are accepted.</p>"
        )
    total = way.seconds["total"]
    took = f"a median of {total.median:.2f} s each, at most {total.max:.2f} s"
    yield f'<p class="note">{way.pictures:,} pictures, {took}.</p>'


# ------------------------------------------------------------------------------------------------------------- misses


def _missed_photographs(answers: Sequence[AskedPhoto], pictures: _Pictures) -> Iterator[str]:
    """The pictures with a card that was not named first, or a sure card too many."""
    missed = [(one, said) for one in answers if (said := list(_wrong_with(one)))]
    yield f"<h3>What was missed on photographs: {len(missed)} of {len(answers)} pictures</h3>"
    if not missed:
        return
    yield (
        '<p class="note">Blue: where cards are; green: a right answer; red: another. In brackets: margin + gap. All '
        f"answers are in evaluation.json. Shown: at most {MOST_MISSES}, while there is room.</p>"
    )
    for one, said in missed[:MOST_MISSES]:
        title = f"{text_of(Path(one.photo).name)}, {one.way}, turned by {one.turn}: {'; '.join(said)}"
        shown = _outlined(one, pictures)
        yield _figure(shown, f"{escaped(title)}. Answered: {escaped(names_of(one.cards) or 'nothing')}")


def _wrong_with(one: AskedPhoto) -> Iterator[str]:
    wrong = [one.cards[card] for card in one.extra if one.cards[card].sure and one.scored]
    strangers = [card for card in one.strangers or () if card.sure]
    yield from (f"{label.name}, lost: {label.lost}" for label in one.scored if label.lost)
    if wrong:
        yield f"sure, but not on it: {names_of(wrong)}"
    if strangers:
        yield f"sure of a stranger: {names_of(strangers)}"


def _outlined(one: AskedPhoto, pictures: _Pictures) -> str:
    try:
        picture = opened(Path(one.photo))
    except PipelineError:
        return '<p class="note">The photograph is no longer there.</p>'
    address = pictures.add(picture, PHOTO_SIDE)
    if address is None:
        return ""
    shapes = [polygon(label.quad) for label in one.scored if label.quad]
    kinds = ["wrong" if place in one.extra else "right" for place in range(len(one.cards))]
    shapes += [polygon(card.quad, kind) for card, kind in zip(one.cards, kinds, strict=True) if card.quad]
    return drawn_on(address, one.photo_size, "".join(shapes), "photograph with outlines", PHOTO_SIDE)


def _misses(misses: Sequence[Miss], pictures: _Pictures, asked: Rendered, card: Pictured) -> Iterator[str]:
    yield "<h2>The worst misses</h2>"
    if not misses:
        yield "<p>No damaged picture was answered with another name.</p>"
        return
    shown = []
    for miss in misses[:MOST_MISSES]:
        three = (asked(miss), card(miss.answered_row), card(miss.row))
        addresses = [None if picture is None else pictures.add(picture, PICTURE_SIDE) for picture in three]
        shown.append(_miss(miss, addresses))
    yield (
        f'<p class="note">{len(shown)} of the {len(misses):,} misses that evaluation.json lists, the worst first: '
        "sure ones, then those that stood clearest.</p>"
    )
    yield f'<div class="misses">{"".join(shown)}</div>'


def _miss(miss: Miss, addresses: Sequence[str | None]) -> str:
    pieces = (
        ("asked", miss.name, escaped(str(miss.condition))),
        ("answered", miss.answered_name, f"{_coloured(miss.answered_name, 'wrong')}, {miss.answered_score:.3f}"),
        ("right", miss.name, f"{_coloured(miss.name, 'is')}{'' if miss.score is None else f', {miss.score:.3f}'}"),
    )
    figures = "".join(
        _figure(_image(address, f"{kind}: {name}"), f"{kind}: {caption}")
        for address, (kind, name, caption) in zip(addresses, pieces, strict=True)
    )
    rank = "not among the candidates" if miss.rank is None else f"at place {miss.rank}"
    clear = "" if miss.margin is None or miss.gap is None else f"; margin + gap {miss.margin + miss.gap:.3f}"
    told = f"The right name is {rank}{clear}{', sure' * miss.sure}."
    return f'<div class="miss"><div class="three">{figures}</div><p>{told}</p></div>'


def _coloured(name: str, kind: str) -> str:
    return f'<span class="{kind}">{escaped(name)}</span>'


def _image(address: str | None, alt: str) -> str:
    if address is None:
        return '<div class="absent">no picture</div>'
    return f'<img src="{address}" alt="{escaped(alt)}" loading="lazy">'


# ------------------------------------------------------------------------------------------------------------- pieces


def _figure(content: str, caption: str) -> str:
    return f"<figure>{content}<figcaption>{caption}</figcaption></figure>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]], note: str) -> str:
    """A table that scrolls by itself where it is wider than the page; `note` is HTML."""
    heads = "".join(f'<th scope="col">{escaped(column)}</th>' for column in columns)
    lines = "".join(f"<tr>{_line(row)}</tr>" for row in rows)
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"
    return _figure(f'<div class="scroll">{table}</div>', note)


def _line(row: Sequence[object]) -> str:
    first, *others = (escaped(str(cell)) for cell in row)
    return f'<th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in others)}'
