"""Tables of how well labelled photographs were recognised."""

from collections.abc import Sequence

from helpers.evaluate.asking import FIRST, WHOLE
from helpers.evaluate.photographs import Photographs, Threshold, Way
from helpers.evaluate.tables import aligned
from helpers.recognise.evaluation import FOLDS, FOUND, LOST, MAX_STRANGERS


def report(found: Photographs) -> str:
    """Everything that was asked, one way after the other."""
    return "\n\n".join(map(_of_way, found.ways))


def _of_way(way: Way) -> str:
    parts = [way.way.upper()]
    if way.groups:
        parts += [_named(way), _lost(way), aligned(read) if (read := read_on(way)) else ""]
    parts += [_strangers(way), _threshold(way.threshold), _seconds(way)]
    return "\n\n".join(filter(None, parts))


def _named(way: Way) -> str:
    """Which cards were found and named."""
    head = ["", "photos", "cards", f"outline found (IoU >= {FOUND:g})", "median IoU", "named first"]
    rows = [[*head, f"in the first {FIRST}"]]
    for group in way.groups:
        overlap = "N/A" if group.median_overlap is None else f"{group.median_overlap:.3f}"
        counts = (group.photos, group.cards, group.outlined, overlap, group.named, group.in_first)
        rows.append([group.title, *map(str, counts)])
    return aligned(_without(rows, (3, 4)) if way.way != WHOLE else rows)


def _lost(way: Way) -> str:
    """Where the others were lost, what was answered beside them, and what was sure."""
    rows = [["", *(f"lost: {where}" for where in LOST), "cards beside", "of these sure", "sure of those named first"]]
    for group in way.groups:
        counts = (*(group.lost[where] for where in LOST), group.beside, group.beside_sure, group.sure)
        rows.append([group.title, *map(str, counts)])
    return aligned(_without(rows, (1, 2, 3)) if way.way != WHOLE else rows)


def read_on(way: Way) -> list[list[str]]:
    """What was read on the answered cards, and which printing they are; none if nothing is known of either."""
    head = ["", "title read, of answered cards", "right of these", "printing right", "printing sure", "right of these"]
    rows = [head]
    for group in way.groups:
        printing = (group.printing, group.printing_sure, group.printing_sure_right)
        rows.append([group.title, *map(str, (group.read, group.read_right, *printing))])
    return rows if any(group.read.hits or group.printing.total for group in way.groups) else []


def _strangers(way: Way) -> str:
    rows = [["Strangers", "pictures with something sure", "with a title read"]]
    rows += [[one.title, str(one.sure), str(one.read)] for one in way.strangers]
    return aligned(rows) if way.strangers else ""


def _threshold(found: Threshold | None) -> str:
    if found is None:
        return ""
    least, most = ("-inf" if value is None else f"{value:.3f}" for value in (found.least, found.most))
    return (
        f"With the margin + gap that at most {100 * MAX_STRANGERS:g} % of the strangers on other photographs reach "
        f"({FOLDS} folds: {least} to {most}):\n"
        f"  known cards named and accepted  {found.known}\n"
        f"  strangers accepted  {found.strangers}"
    )


def _seconds(way: Way) -> str:
    """How long a picture took, and how many of its regions were embedded."""
    rows = [["Seconds a picture", "median", "max"]]
    rows += [[step, f"{took.median:.2f}", f"{took.max:.2f}"] for step, took in way.seconds.items()]
    return aligned([*rows, ["regions embedded", f"{way.embedded.median:g}", f"{way.embedded.max:g}"]])


def _without(rows: Sequence[Sequence[str]], columns: Sequence[int]) -> list[list[str]]:
    return [[cell for column, cell in enumerate(row) if column not in columns] for row in rows]
