"""What was found out about an index: all that evaluation.json holds.

Each section is None where it was not measured; `Conditions.left_out` says why. Every share has its counts and a 95 %
interval, by card: what shows the same card is not independent; of photographs, by photograph. Every section says how
many rows the index had.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from helpers.evaluate.photographs import Photographs
from helpers.index.manifest import Recognition
from helpers.recognise.evaluation import Share

EVALUATION_VERSION = "1.0.0"
MOST_MISSES = 24  # that are kept, and shown of each kind


class Condition(msgspec.Struct, frozen=True):
    """One kind of damage at one amount, as `camera.DISTORTIONS` has them."""

    kind: str
    amount: float
    unit: str

    def __str__(self) -> str:
        return f"{self.kind} {self.amount:g} {self.unit}".rstrip()


class Whitened(msgspec.Struct, frozen=True):
    """The whitening that the index carries."""

    dimensions: int
    ridge: float  # in mean eigenvalues


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured, of what, and how: no figure means anything without it."""

    version: str = EVALUATION_VERSION
    timestamp: str  # ISO 8601, UTC, of the evaluation
    tool_version: str
    built: str  # the manifest's timestamp
    rows: int  # N
    names: int  # different ones
    illustrations: int  # different ones; a row without an illustration_id counts as its name
    width: int  # D
    model: str
    whitened: Whitened | None  # None: queries rank by raw vectors
    hashes: bool  # whether the index has difference hashes
    recognition: Recognition  # how the product's own answer ranks, and when it is sure
    search: str  # how the candidates were found, in words
    seed: int
    rounds: int  # each with its own cards and its own damage
    cards: int  # asked in each round, each under every condition
    minutes: float  # that the sample was sized to
    device: str
    precision: str
    pictures_per_second: float  # distorted, embedded
    seconds: dict[str, float]  # by section
    left_out: tuple[str, ...]  # sentences: what was not measured, and why


# ------------------------------------------------------------------------------------------------------------- search


class AtEfSearch(msgspec.Struct, frozen=True):
    """HNSW at one efSearch against exact search. A row that ties with the true one counts as found.

    Intervals are by the row that queries were made of: one may be asked under every condition.
    """

    ef_search: int
    recall_at_1: Share
    recall_at_10: Share  # of 10 rows for each query
    ms: float  # median of one query at a time
    ms_of_12: float  # median of a batch of 12, a query


class ExactSearch(msgspec.Struct, frozen=True):
    """The same vectors compared with every row."""

    ms: float
    ms_of_12: float


class Int8(msgspec.Struct, frozen=True):
    """The browser's int8 rows asked with the same float queries, against float rows; exact search on both sides."""

    same_first_name: Share
    recall_at_10: Share


class Clusters(msgspec.Struct, frozen=True):
    """Near-identical rows, as reprints make them: what they do to HNSW at the index's own efSearch.

    Rows are linked if the cosine of what is left of them without the mean row is at least `cosine`; a cluster is what
    hangs together.
    """

    cosine: float
    clusters: int
    rows: int  # in clusters
    largest: int  # rows
    recall_at_10_inside: Share  # of queries made from rows in clusters
    recall_at_10_outside: Share


class Search(msgspec.Struct, frozen=True):
    """Does the search find what is nearest? Not whether that is the right card."""

    rows: int
    width: int  # of the vectors that are searched
    queries: int
    made_of: str  # what the queries are, in words
    ef_search: int  # that the index carries
    at: tuple[AtEfSearch, ...]
    exact: ExactSearch
    self_recall: Share  # of all rows: asked with its own vector, it comes first or ties
    int8: Int8
    clusters: Clusters | None  # None: too many rows to compare each with each


# ------------------------------------------------------------------------------------------------------------- camera


class Mean(msgspec.Struct, frozen=True):
    """A mean with its 95 % interval, by card; 0 to 1."""

    value: float
    low: float
    high: float
    total: int


class Recall(msgspec.Struct, frozen=True):
    """How far up the right answer is. Its rank is 1 + how many others are shown before it."""

    at_1: Share
    at_5: Share
    mrr: Mean  # mean reciprocal rank; 0 for what is not among the candidates


class Distorted(msgspec.Struct, frozen=True):
    """The product's own answers under one condition."""

    condition: Condition
    by_name: Recall
    by_illustration: Recall  # reprints that share their art are one
    by_seed: tuple[Share, ...]  # recall@1 by name of each round


class Camera(msgspec.Struct, frozen=True):
    """How often is the right card named when its picture is damaged as cameras, hands and finders do?"""

    rows: int
    queries: int
    at: tuple[Distorted, ...]


class Variant(msgspec.Struct, frozen=True):
    """One way to rank, and its recall@1 by name."""

    name: str
    recall_at_1: tuple[Share, ...]  # in the order of `Baselines.conditions`
    overall: Share  # all conditions, the same number of queries each
    hash_weight: float | None = None  # of the hash beside vectors, by their form; None: the product's, or no such sum


class Baselines(msgspec.Struct, frozen=True):
    """The same queries ranked in other ways, by comparison with every row: what is each part worth?

    The first variant is the product's own answer, which is right if the name that it shows first is. In the others a
    name that ties with the right one counts as behind it: that favours hashes, which have few different scores.
    """

    rows: int
    conditions: tuple[Condition, ...]
    variants: tuple[Variant, ...]


# ---------------------------------------------------------------------------------------------------------- strangers


class StrangersAt(msgspec.Struct, frozen=True):
    """One condition: shares of the cards that were named right and sure, and of strangers that were sure.

    A stranger is the same query with all rows of the card's name masked.
    """

    condition: Condition
    known: Share  # named right and sure, by the index's own rule
    strangers: Share  # sure, by the same rule
    known_held_out: Share  # the same by thresholds that were chosen on other cards
    strangers_held_out: Share


class Samples(msgspec.Struct, frozen=True):
    """margin + gap of some answers, for a histogram."""

    right: tuple[float, ...]
    wrong: tuple[float, ...]
    stranger: tuple[float, ...]


class Strangers(msgspec.Struct, frozen=True):
    """When the product is sure, is it right? And does it know what it does not know?"""

    rows: int
    sure_above: float  # margin + gap, the index's own rule
    at: tuple[StrangersAt, ...]
    overall: StrangersAt  # its condition is "all"
    max_strangers: float  # share of them that a chosen threshold may accept
    thresholds: tuple[float, ...]  # of the folds, each chosen on the cards of the others
    # chosen on all cards, so nothing is reported on it, and rounded up to thousandths; None: no strangers to choose it
    # on, or another hash weight than the index's own
    suggested: float | None
    samples: Samples


# --------------------------------------------------------------------------------------------------------------- size


class AtSize(msgspec.Struct, frozen=True):
    """Recall@1 by name among some of the rows; smaller samples are part of larger ones."""

    rows: int  # about: what so many names have on average
    names: int  # that compete, the right one among them
    recall_at_1: Share


class Predicted(msgspec.Struct, frozen=True):
    """What the fitted tail says of an index of `rows`."""

    rows: int
    recall_at_1: float
    extrapolated: bool  # more rows than were measured


class Tail(msgspec.Struct, frozen=True):
    """A curve through the errors: share of wrong answers = a * rows ** b, by least squares on logarithms."""

    formula: str
    a: float
    b: float
    predicted: tuple[Predicted, ...]


class Size(msgspec.Struct, frozen=True):
    """How does recall fall with the number of cards in the index?"""

    condition: Condition
    way: str  # to rank, in words
    at: tuple[AtSize, ...]  # the last one is all rows
    tail: Tail | None  # None: fewer than three sizes with any error


# ------------------------------------------------------------------------------------------------------------ reading


class ReadAt(msgspec.Struct, frozen=True, kw_only=True):
    """What reading is worth under one condition, to the same queries."""

    condition: Condition
    without: Share  # named right by looks alone
    with_print: Share  # and by what was read, too
    titles: Share  # of which a title was taken for that of a card of the index
    titles_right: Share  # of these
    lines: Share  # whose collector number and set were legible, of cards that have both in the index
    lines_right: Share  # of these: they agree with the card


class PrintingsRead(msgspec.Struct, frozen=True, kw_only=True):
    """How often is the first printing right, of cards that were named right without and with reading?"""

    cards: str  # which of them, in words
    without: Share  # by looks alone
    with_print: Share  # by the collector line first
    sure_without: Share  # how many were sure
    sure_right_without: Share  # of these
    sure: Share
    sure_right: Share


class ReadAtSize(msgspec.Struct, frozen=True, kw_only=True):
    """Recall@1 by name among some of the rows, all conditions together; samples as in `AtSize`."""

    rows: int
    names: int
    without: Share
    with_print: Share


class ReadingMs(msgspec.Struct, frozen=True):
    """Medians of one card; None: nothing of the kind was done."""

    titles: float | None
    collector_line: float | None
    anywhere: float | None  # text all over the card, where titles say nothing
    matching: float | None  # what was read, with the index, and ranking by it


class ChoiceFound(msgspec.Struct, frozen=True, kw_only=True):
    """A conditional logit: P(name) in proportion to exp(looks x score by looks + print x evidence by print)."""

    name: str  # what it uses
    looks: float  # weights, fitted to all queries
    print: float
    print_error: float | None  # standard error, as large as the prior's if the queries don't say; None: not fitted
    read_weight: float | None  # print / looks; None: looks say nothing for a name
    log_loss: float  # held out, as all that follows; in nats
    brier: float


class ConfidenceFound(msgspec.Struct, frozen=True, kw_only=True):
    """P(the first name is right) = 1 / (1 + exp(-slope x (margin + gap - even)))."""

    name: str  # whose weights they are
    read_weight: float  # that the names are ranked by
    slope: float
    even: float
    log_loss: float  # held out, or of recorded weights, which were not chosen on these cards
    brier: float


class Fusion(msgspec.Struct, frozen=True):
    """Weights for what is read, fitted to the queries of this section; losses by cards that they were not fitted on."""

    folds: int  # by card
    prior: float  # standard deviation of a weight
    queries: int  # whose right name is among those that compete
    choices: tuple[ChoiceFound, ...]  # fitted, with the index's own read_weight, by looks alone
    known: int  # queries for confidence: of cards that the index has,
    strangers: int  # and of those whose own name is masked; every second card is one
    confidence: tuple[ConfidenceFound, ...]  # fitted, the index's own


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """Is a card named better if it is read, and which printing is it? Every card is read, sure or not."""

    rows: int
    queries: int
    at: tuple[ReadAt, ...]
    overall: ReadAt  # its condition is "all"
    strangers_read: Share  # of queries whose own name is masked: those of which a title was taken for another card's
    printings: tuple[PrintingsRead, ...]
    by_size: tuple[ReadAtSize, ...]
    ms: ReadingMs
    fusion: Fusion | None  # None: too few queries


# ------------------------------------------------------------------------------------------------------------- misses


class Miss(msgspec.Struct, frozen=True):
    """A query that was answered with another name. `queries.render` makes its picture again."""

    condition: Condition
    round: int
    row: int  # asked
    name: str
    rank: int | None  # of the right name; None: not among the candidates
    score: float | None  # of the right name
    answered_row: int
    answered_name: str
    answered_score: float
    margin: float | None
    gap: float | None
    sure: bool


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found out."""

    conditions: Conditions
    search: Search | None = None
    camera: Camera | None = None
    baselines: Baselines | None = None
    strangers: Strangers | None = None
    size: Size | None = None
    reading: Reading | None = None
    photographs: Photographs | None = None
    misses: tuple[Miss, ...] = ()  # the worst first: sure ones, then those that stood clearest


def read_findings(file: Path) -> Findings:
    """What evaluation.json holds; OSError, or one of `errors.BAD_JSON` if it is something else."""
    return msgspec.json.decode(file.read_bytes(), type=Findings)
