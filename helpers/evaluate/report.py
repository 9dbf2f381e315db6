"""Findings as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from helpers.evaluate.findings import Baselines, Camera, Conditions, Findings, Mean, Search, Size, Strangers
from helpers.evaluate.photograph_tables import report as of_photographs
from helpers.evaluate.photographs import Photographs
from helpers.evaluate.reading_tables import report as of_reading
from helpers.evaluate.tables import aligned


def report(findings: Findings) -> str:
    """All sections, one after the other."""
    parts = [
        _conditions(findings.conditions),
        _search(findings.search) if findings.search else "",
        _camera(findings.camera) if findings.camera else "",
        _baselines(findings.baselines) if findings.baselines else "",
        _strangers(findings.strangers) if findings.strangers else "",
        _size(findings.size) if findings.size else "",
        of_reading(findings.reading) if findings.reading else "",
        _photographs(findings.photographs) if findings.photographs else "",
    ]
    return "\n\n".join(filter(None, parts))


def headline(findings: Findings) -> str:
    """One or two lines that say how good the index is; empty if its pictures were not asked."""
    if findings.camera is None:
        return ""
    named = {(one.condition.kind, one.condition.amount): one.by_name.at_1 for one in findings.camera.at}
    lines = [
        f"Named first among {findings.camera.rows:,} faces: {named['corners', 0]} as is, "
        f"{named['corners', 6]} with corners up to 6 % off"
    ]
    if findings.strangers is not None:
        at = {(one.condition.kind, one.condition.amount): one for one in findings.strangers.at}
        lines.append(
            f"Named and sure: {at['corners', 0].known} as is, {at['corners', 6].known} with corners off; "
            f"sure of a card that is not there: {findings.strangers.overall.strangers}"
        )
    return "\n".join(lines)


def _conditions(found: Conditions) -> str:
    whitened = f"whitened to {found.whitened.dimensions}" if found.whitened else "not whitened"
    lines = [
        f"Index of {found.rows:,} faces, {found.names:,} names, {found.illustrations:,} illustrations, "
        f"built {found.built}",
        f"Model {found.model}, {found.width} dimensions, {whitened}; hash weight {found.recognition.hash_weight:g}; "
        f"sure from margin + gap {found.recognition.sure_above:g}; search: {found.search}",
        *(
            [
                f"{found.cards} cards in each of {found.rounds} rounds, seed {found.seed}; "
                f"{found.pictures_per_second:g} pictures/s on {found.device} in {found.precision}"
            ]
            if found.cards
            else []
        ),
        "Shares are hits/total with a 95 % interval, by card; of photographs, by photograph",
        *(f"Left out: {sentence}" for sentence in found.left_out),
    ]
    return "\n".join(lines)


def _search(found: Search) -> str:
    rows = [["efSearch", "recall@1", "recall@10", "ms alone", "ms of 12"]]
    for at in found.at:
        own = f"{at.ef_search} *" if at.ef_search == found.ef_search else str(at.ef_search)
        rows.append([own, str(at.recall_at_1), str(at.recall_at_10), f"{at.ms:.3f}", f"{at.ms_of_12:.3f}"])
    rows.append(["exact", "", "", f"{found.exact.ms:.3f}", f"{found.exact.ms_of_12:.3f}"])
    rest = [
        ["found by itself", str(found.self_recall)],
        ["int8: the same name first", str(found.int8.same_first_name)],
        ["int8: recall@10", str(found.int8.recall_at_10)],
    ]
    if found.clusters:
        near = found.clusters
        what = f"{near.clusters:,} of {near.rows:,} rows, the largest of {near.largest:,}"
        rest += [
            [f"clusters (centred cosine >= {near.cosine:g})", what],
            ["recall@10 in clusters", str(near.recall_at_10_inside)],
            ["recall@10 outside", str(near.recall_at_10_outside)],
        ]
    title = f"SEARCH: {found.queries:,} queries ({found.made_of}) among {found.rows:,} rows of width {found.width}"
    return f"{title}\n{aligned(rows)}\n* the index's own\n\n{aligned(rest)}"


def _camera(found: Camera) -> str:
    head = ["Damage", "recall@1", "recall@5", "MRR", "recall@1 by illustration", "recall@1 by round"]
    rows = [head]
    for at in found.at:
        name = at.by_name
        rounds = " ".join(f"{share.hits}/{share.total}" for share in at.by_seed)
        cells = [str(at.condition), str(name.at_1), str(name.at_5), _mean(name.mrr), str(at.by_illustration.at_1)]
        rows.append([*cells, rounds])
    return f"CAMERA: {found.queries:,} queries among {found.rows:,} rows\n{aligned(rows)}"


def _mean(mean: Mean) -> str:
    return f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"


def _baselines(found: Baselines) -> str:
    columns = list(_columns(found))
    rows = [["Recall@1 by name", "hash weight", *(title for title, _ in columns), "all conditions"]]
    for variant in found.variants:
        weight = "" if variant.hash_weight is None else f"{variant.hash_weight:g}"
        shares = (str(variant.recall_at_1[place]) for _, place in columns)
        rows.append([variant.name, weight, *shares, str(variant.overall)])
    return (
        f"BASELINES: the same queries, ranked in other ways, among {found.rows:,} rows\n{aligned(rows)}\n"
        "But for the product's answer a tie counts as right, which favours hashes"
    )


def _columns(found: Baselines) -> Iterator[tuple[str, int]]:
    """A few conditions that fit a terminal; evaluation.json has all."""
    for place, condition in enumerate(found.conditions):
        if condition.kind in ("corners", "mixed") and condition.amount in (0, 6, 1):
            yield str(condition), place


def _strangers(found: Strangers) -> str:
    rows: list[Sequence[str]] = [
        ["", "named and sure", "strangers sure", "named and accepted, held out", "strangers accepted, held out"]
    ]
    for at in (*found.at, found.overall):
        shares = (at.known, at.strangers, at.known_held_out, at.strangers_held_out)
        rows.append([str(at.condition), *map(str, shares)])
    by = f"sure from margin + gap {found.sure_above:g}"
    suggested = "none" if found.suggested is None else f"{found.suggested:.3f}"
    chosen = f"{min(found.thresholds):.3f} to {max(found.thresholds):.3f}" if found.thresholds else "none"
    return (
        f"STRANGERS: the cards' own rows masked, among {found.rows:,} rows; {by}\n{aligned(rows)}\n"
        f"Threshold that at most {100 * found.max_strangers:g} % of the strangers reach: {suggested} "
        f"(of the folds: {chosen})"
    )


def _size(found: Size) -> str:
    rows = [["Rows, about", "names", "recall@1"]]
    rows += [[f"{at.rows:,}", f"{at.names:,}", str(at.recall_at_1)] for at in found.at]
    text = f"SIZE: {found.condition}, {found.way}, by the number of rows\n{aligned(rows)}"
    if found.tail is None:
        return f"{text}\nToo few sizes with errors to fit a tail"
    guesses = ", ".join(
        f"{100 * one.recall_at_1:.1f} % among {one.rows:,}{' (extrapolated)' if one.extrapolated else ''}"
        for one in found.tail.predicted
    )
    return f"{text}\nTail: {found.tail.formula}, a = {found.tail.a:.3g}, b = {found.tail.b:.3g}: {guesses}"


def _photographs(found: Photographs) -> str:
    turns = found.options.turns
    turned = "as they are" if turns == (0,) else f"turned by {', '.join(map(str, turns))} degrees"
    return (
        f"PHOTOGRAPHS: {turned}, among {found.rows:,} rows; cards that are visible to {found.options.min_visible:g} or "
        f"more; read: {found.options.read}; intervals by photograph\n\n{of_photographs(found)}"
    )
