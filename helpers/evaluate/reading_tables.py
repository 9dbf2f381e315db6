"""Tables of what reading is worth."""

from collections.abc import Iterator, Sequence

from helpers.evaluate.findings import Fusion, ReadAt, Reading, ReadingMs
from helpers.evaluate.tables import aligned

Row = tuple[str, ...]

NAMED = ("damage", "named by looks", "and by print", "title read", "right of these", "line read", "right of these")
PRINTINGS = ("cards", "right by looks", "and by print", "sure by looks", "right of these", "sure", "right of these")
SIZES = ("faces, about", "names", "named by looks", "and by print")
CHOICES = ("which name", "weight of looks", "of print", "standard error", "read_weight", "log loss", "Brier score")
CONFIDENCE = ("is it right", "read_weight", "slope", "even", "log loss", "Brier score")


def report(found: Reading) -> str:
    """All of it, for a terminal."""
    parts = [
        f"READING: {found.queries:,} queries among {found.rows:,} rows, every card read, sure or not\n"
        f"{aligned([NAMED, *named(found)])}\n{of_strangers(found)}",
        f"Printings, of cards named right both ways\n{aligned([PRINTINGS, *printings(found)])}",
        f"By the number of rows, all conditions\n{aligned([SIZES, *sizes(found)])}",
        milliseconds(found.ms),
        _fusion(found.fusion) if found.fusion else "Too few queries to fit weights",
    ]
    return "\n\n".join(parts)


def named(found: Reading) -> Iterator[Row]:
    """Condition by condition, then all."""
    for at in (*found.at, found.overall):
        yield str(at.condition), *map(str, _shares(at))


def _shares(at: ReadAt) -> Sequence[object]:
    return at.without, at.with_print, at.titles, at.titles_right, at.lines, at.lines_right


def of_strangers(found: Reading) -> str:
    """One line."""
    return f"Titles read of strangers, their own name masked, all of them wrong: {found.strangers_read}"


def printings(found: Reading) -> Iterator[Row]:
    """Of cards with more than one, and of all."""
    for one in found.printings:
        by_looks, by_print = (one.sure_without, one.sure_right_without), (one.sure, one.sure_right)
        yield one.cards, *map(str, (one.without, one.with_print, *by_looks, *by_print))


def sizes(found: Reading) -> Iterator[Row]:
    """The same queries among some of the names."""
    for at in found.by_size:
        yield f"{at.rows:,}", f"{at.names:,}", str(at.without), str(at.with_print)


def milliseconds(found: ReadingMs) -> str:
    """One line."""
    each = {
        "titles": found.titles,
        "collector line": found.collector_line,
        "text all over the card": found.anywhere,
        "matching": found.matching,
    }
    return "Milliseconds a card (median): " + ", ".join(
        f"{what} {'N/A' if ms is None else f'{ms:.1f}'}" for what, ms in each.items()
    )


def choices(found: Fusion) -> Iterator[Row]:
    """Weights for the name."""
    for one in found.choices:
        ratio = "N/A" if one.read_weight is None else f"{one.read_weight:.2f}"
        error = "" if one.print_error is None else f"{one.print_error:.2f}"
        weights = (f"{one.looks:.2f}", f"{one.print:.2f}", error, ratio)
        yield one.name, *weights, f"{one.log_loss:.4f}", f"{one.brier:.4f}"


def confidence(found: Fusion) -> Iterator[Row]:
    """Weights for how likely it is right."""
    for one in found.confidence:
        weights = (f"{value:.2f}" for value in (one.read_weight, one.slope, one.even))
        yield one.name, *weights, f"{one.log_loss:.4f}", f"{one.brier:.4f}"


def how_fitted(found: Fusion) -> str:
    """What the losses are of."""
    return (
        f"Losses are of cards that weights were not fitted on ({found.folds} folds by card). Which name: "
        f"{found.queries:,} queries, P in proportion to exp(looks x score + print x evidence); a standard error near "
        f"{found.prior:g} means that these don't say how much print should count. Is it right: "
        f"{found.known:,} queries of known cards and {found.strangers:,} of strangers, "
        "P = 1 / (1 + exp(-slope x (margin + gap - even)))"
    )


def _fusion(found: Fusion) -> str:
    tables = (aligned([CHOICES, *choices(found)]), aligned([CONFIDENCE, *confidence(found)]))
    return "\n\n".join((*tables, how_fitted(found)))
