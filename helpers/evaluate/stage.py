"""Index and pictures -> findings: damaged pictures are asked, in as large a sample as the time allows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from helpers.about import VERSION
from helpers.artifacts import IndexFolder
from helpers.atomic_io import utc_timestamp
from helpers.cards.faces import Records
from helpers.cards.image_cache import ImageCache
from helpers.embed.embedder import Embedder
from helpers.embed.stage import plan_workers
from helpers.errors import Category, PipelineError
from helpers.evaluate.answers import Answers, Catalogue, answers
from helpers.evaluate.cameras import baselines, camera, misses
from helpers.evaluate.dense import Dense, Way
from helpers.evaluate.findings import Baselines, Conditions, Findings, Reading, Whitened
from helpers.evaluate.phash import phash
from helpers.evaluate.photographs import measure as photographs
from helpers.evaluate.queries import CONDITIONS, ROUNDS, Queries, Source, picture_of
from helpers.evaluate.reading import CONDITIONS_READ, Reads
from helpers.evaluate.request import Request
from helpers.evaluate.search import SearchedIndex, measured_search
from helpers.evaluate.size import CONDITION as size_asked
from helpers.evaluate.size import size
from helpers.evaluate.strangers import CONDITIONS_ASKED as strangers_asked
from helpers.evaluate.strangers import strangers
from helpers.index.store import StoredIndex
from helpers.lookahead import in_order
from helpers.recognise.printed import Print
from helpers.recognise.query import (
    QueryEngine,
    embedder_of,
    find_model_of,
    how_searched,
    open_ranker,
    pictures_of,
    verifier_of,
)
from helpers.recognise.ranking import Ranker
from helpers.recognise.reading import Reader
from helpers.talk import Progress, say
from helpers.validation import BrokenImage

if TYPE_CHECKING:
    from helpers.recognise.verifying import Verifier

MOST_PHASHED = 5_000  # rows: the baseline needs all their pictures, 5 ms each
FOR_QUERIES = 0.7  # of the time that is left after the first cards; the rest is for what is not sized
FOR_SEARCH = 0.15  # of all the time
FOR_READING = 0.25  # likewise
FOR_READING_ALONE = 0.7  # if nothing else is measured


@dataclass(slots=True)
class _Clock:
    """How much time is left, and where it went."""

    minutes: float
    started: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Time a section."""
        before = time.monotonic()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - before, 2)

    @property
    def left(self) -> float:
        """Seconds."""
        return 60 * self.minutes - (time.monotonic() - self.started)


@dataclass(frozen=True, slots=True)
class _Subject:
    """A loaded index, and its model."""

    stored: StoredIndex
    records: Records
    catalogue: Catalogue
    ranker: Ranker
    embedder: Embedder


@dataclass(frozen=True, slots=True)
class _Own:
    """What it takes to ask an index about its own cards."""

    subject: _Subject
    source: Source | None  # None: there are no pictures, and nothing needs any
    rows: NDArray[np.float32]  # [N, D]
    dense: Dense
    left_out: tuple[str, ...]  # as in `Conditions`


def evaluate(request: Request) -> Findings:
    """Measure how good an index is; PipelineError if it or its pictures can't be read."""
    clock = _Clock(request.minutes)
    with clock.section("loading"):
        subject = _load(request)
    shown, left_out = None, tuple[str, ...]()
    if request.photos:  # first: one that can't be read should not end minutes of work
        with clock.section("photographs"):
            verifier, left_out = _verifier(request, subject)
            engine = QueryEngine(subject.stored, subject.ranker, subject.embedder, request.options.read, verifier)
            shown = photographs(engine, request.photos, request.options)
        clock.started += clock.seconds["photographs"]  # `minutes` does not size that
    found = _of_own_cards(request, subject, clock) if request.damages else Findings(conditions=_none(request, subject))
    conditions = replace(found.conditions, seconds=clock.seconds, left_out=(*left_out, *found.conditions.left_out))
    return replace(found, photographs=shown, conditions=conditions)


def _verifier(request: Request, subject: _Subject) -> tuple[Verifier | None, tuple[str, ...]]:
    """What compares photographs with the index's pictures, and what was left out: as in `QueryEngine.load`."""
    if request.options.verify == "off":
        return None, ()
    cache = pictures_of(subject.stored, request.cache)
    verifier = verifier_of(subject.ranker, cache)
    return verifier, () if verifier else (f"comparing photographs with pictures: no directory {cache.root}",)


def _of_own_cards(request: Request, subject: _Subject, clock: _Clock) -> Findings:
    with clock.section("loading"):
        own = _own(request, subject)
    sections, catalogue = request.sections, subject.catalogue
    asked, unread = _ask(own, request, clock)
    left_out = [*own.left_out, *unread]
    compared, given = _answered(own, request, asked, clock)
    unknown = by_size = searched = read = None
    if "strangers" in sections:
        suggests = subject.ranker.settings.hash_weight == subject.stored.manifest.recognition.hash_weight
        if not suggests:
            left_out.append("a suggested threshold: queries rank by the index's hash weight, not by --hash-weight")
        with clock.section("strangers"):
            unknown = strangers(subject.ranker, asked, given, catalogue, suggests=suggests)
    if "size" in sections:
        with clock.section("size"):
            by_size = size(own.dense, _product_s_way(own.dense), asked, catalogue, request.seed)
    if "reading" in sections:
        with clock.section("reading"):
            read, more = _read(own, asked, given, _for_reading(request))
        left_out += more
    if "index" in sections:
        with clock.section("search"):
            searched, more = measured_search(_searched(own), asked, own.rows, FOR_SEARCH * 60 * request.minutes)
        left_out += more
    has_camera = "camera" in sections
    return Findings(
        conditions=_conditions(request, subject, asked, clock, left_out),
        search=searched,
        camera=camera(asked, given, catalogue) if has_camera else None,
        baselines=compared,
        strangers=unknown,
        size=by_size,
        reading=read,
        misses=misses(asked, given, catalogue) if has_camera else (),
    )


# ------------------------------------------------------------------------------------------------------------ loading


def _load(request: Request) -> _Subject:
    stored = StoredIndex(IndexFolder(request.index))
    find_model_of(stored)
    say(f"Loading the model {stored.manifest.source} and {stored.count:,} rows")
    stored.hash_ahead(whitened=stored.manifest.whitening is not None)
    embedder = embedder_of(stored, request.device)
    records = stored.records()
    ranker = open_ranker(stored, records, None)
    if request.hash_weight is not None:
        ranker.settings = replace(ranker.settings, hash_weight=request.hash_weight)
    return _Subject(stored, records, Catalogue.of(records), ranker, embedder)


def _own(request: Request, subject: _Subject) -> _Own:
    stored, left_out = subject.stored, list[str]()
    source = _source(request, subject)
    rows = np.ascontiguousarray(stored.vectors())
    whitening, dhashes = stored.whitening(), stored.hashes()
    if source is None:
        left_out.append("distorted pictures as queries of the search: the pictures of the index were not found")
    if whitening is None:
        left_out.append("whitened vectors: the index has no whitening")
    phashes = _phashes(source, left_out) if source and "camera" in request.sections else None
    if dhashes is None:
        left_out.append("difference hashes: the index has none")
    hashes = {"pHash": phashes, "dHash": dhashes} if request.needs_pictures else {}
    there = {name: np.asarray(each) for name, each in hashes.items() if each is not None}
    weights = _hash_weights(stored, request.hash_weight)
    dense = Dense.of(rows, whitening, there, weights, centred="camera" in request.sections)
    return _Own(subject, source, rows, dense, tuple(left_out))


def _hash_weights(stored: StoredIndex, given: float | None) -> dict[str, float]:
    """The weight of the hash beside each form of vectors: the one that is `given`, or what fits the form."""
    raw, whitened = (stored.manifest.recognition_by(whitened=each).hash_weight for each in (False, True))
    weights = {"raw": raw, "centred": raw, "whitened": whitened}
    return weights if given is None else dict.fromkeys(weights, given)


def _source(request: Request, subject: _Subject) -> Source | None:
    """What makes queries; None if there are no pictures and nothing needs any."""
    stored = subject.stored
    unneeded = request.cache is None and not request.needs_pictures
    if unneeded and not (stored.pictures and stored.pictures.is_dir()):
        return None
    cache, workers = ImageCache(_pictures(stored, request.cache)), plan_workers(subject.embedder)
    conditions = conditions_of(request.sections)
    return Source(subject.records, cache, subject.embedder, workers, request.seed, stored.width, conditions)


def conditions_of(sections: Sequence[str]) -> tuple[int, ...]:
    """The places in CONDITIONS under which these sections ask, in order; the search and the camera under all."""
    needed = {"strangers": strangers_asked, "size": (size_asked,), "reading": CONDITIONS_READ}
    some = {number for section in sections for number in needed.get(section, ())}
    return tuple(range(len(CONDITIONS))) if {"index", "camera"} & {*sections} else tuple(sorted(some))


def _pictures(stored: StoredIndex, cache: Path | None) -> Path:
    """Where the pictures of an index are: in `cache`, or where it says; PipelineError if there is no such directory."""
    folder = cache or stored.pictures
    if folder is None or not folder.is_dir():
        raise PipelineError.of(
            Category.CONFIGURATION,
            "the pictures of the index were not found",
            details=f"there is no directory {folder}" if folder else "the index does not say where they are",
            suggestion="name the directory that it was built from: --cache DIR",
        )
    return folder


def _phashes(source: Source, left_out: list[str]) -> NDArray[np.uint8] | None:
    """The perceptual hash of every row's picture, uint8 [N, 32]; None, and the reason, if that can't be had."""
    count = len(source.records)
    if count > MOST_PHASHED:
        left_out.append(f"pHash: it needs every row's picture, and is left out above {MOST_PHASHED:,} rows")
        return None

    def hashed(row: int) -> NDArray[np.uint8]:
        return phash(picture_of(source.records[row], source.cache))

    found = []
    workers = source.workers.loaders
    with (
        Progress("Hashing", count, "pictures") as progress,
        closing(in_order(hashed, range(count), workers=workers, ahead=4 * workers)) as coming,
    ):
        for row, future in coming:
            try:
                found.append(future.result())
            except (FileNotFoundError, BrokenImage):
                name = source.records[row].name
                left_out.append(f"pHash: it needs every row's picture, and that of row {row:,} ({name}) can't be read")
                return None
            progress.advance()
    return np.stack(found)


# ------------------------------------------------------------------------------------------------------------- asking


def _ask(own: _Own, request: Request, clock: _Clock) -> tuple[Queries, list[str]]:
    """Ask a card of each round first, then as many more as there is time for to answer; and what was left out."""
    if own.source is None:
        return Queries.none(own.subject.stored.width), []
    before = clock.left
    first = _asked(own.source, slice(0, 1), clock)
    if not len(first) and request.cache is None and not request.needs_pictures:
        return first, ["distorted pictures as queries of the search: the pictures of the index can't be read"]
    if not len(first):
        raise PipelineError.of(
            Category.VALIDATION,
            "the pictures of the index can't be read",
            details=f"none of {ROUNDS} that were tried is in {own.source.cache.root}",
            suggestion="name the directory that it was built from: --cache DIR",
        )
    _answered(own, request, first, clock)
    each = before - clock.left
    more = min(int(FOR_QUERIES * (clock.left - _for_reading(request)) / each), own.subject.stored.count - 1)
    parts = [first]
    if more > 0:
        parts.append(_asked(own.source, slice(1, 1 + more), clock))
    asked = Queries.joined(parts)
    planned = ROUNDS * (1 + max(0, more))
    unread = planned - len(asked) // len(own.source.conditions)
    return asked, [f"{unread:,} of {planned:,} cards: their pictures can't be read"] if unread else []


def _asked(source: Source, cards: slice, clock: _Clock) -> Queries:
    each = cards.stop - cards.start
    count = each * ROUNDS * len(source.conditions)
    say(f"Asking {count:,} pictures: {ROUNDS} rounds of {each} cards under {len(source.conditions)} conditions")
    with clock.section("asking"), Progress("Asking", count, "pictures") as progress:
        return source.ask(cards, progress)


def _answered(own: _Own, request: Request, asked: Queries, clock: _Clock) -> tuple[Baselines | None, Answers]:
    """The product's answers, and for the section camera those of other ways to rank."""
    catalogue = own.subject.catalogue
    with clock.section("answering"):
        given = answers(own.subject.ranker, asked, catalogue)
    if "camera" not in request.sections:
        return None, given
    with clock.section("comparing"):
        return baselines(own.dense, asked, given, catalogue), given


def _for_reading(request: Request) -> float:
    """Seconds that are spent on it."""
    alone = {*request.sections} <= {"reading", "photographs"}
    share = FOR_READING_ALONE if alone else FOR_READING
    return 60 * request.minutes * share if "reading" in request.sections else 0.0


def _read(own: _Own, asked: Queries, given: Answers, seconds: float) -> tuple[Reading | None, list[str]]:
    """What reading is worth, and what was left out."""
    try:
        reader = Reader()
    except ImportError as error:
        return None, [f"reading: {error}"]
    if own.source is None:
        return None, []
    subject = own.subject
    reads = Reads(
        ranker=subject.ranker,
        reader=reader,
        print=Print(reader, subject.ranker, subject.records, always=True),
        catalogue=subject.catalogue,
        source=own.source,
        dense=own.dense,
        way=_product_s_way(own.dense),
    )
    with Progress("Reading", 0, "pictures") as progress:
        return reads.all(asked, given, seconds, progress), []


def _product_s_way(dense: Dense) -> Way:
    """What the product's answer comes down to, if every row is a candidate."""
    return Way("whitened" if "whitened" in dense.vectors else "raw", "dHash" if "dHash" in dense.hashes else None)


def _searched(own: _Own) -> SearchedIndex:
    whitening = own.dense.whitening
    rows = own.rows if whitening is None else own.dense.vectors["whitened"]
    return SearchedIndex(own.subject.ranker.index, rows, whitening, own.subject.catalogue.names)


def _none(request: Request, subject: _Subject) -> Conditions:
    """The conditions where none of the index's own cards was asked."""
    return _conditions(request, subject, Queries.none(subject.stored.width), _Clock(request.minutes), [])


def _conditions(
    request: Request, subject: _Subject, asked: Queries, clock: _Clock, left_out: Sequence[str]
) -> Conditions:
    stored, catalogue, embedder = subject.stored, subject.catalogue, subject.embedder
    manifest = stored.manifest
    has = manifest.whitening
    how, ef_search = how_searched(stored, "auto", None, whitened=has is not None)
    readable = len(asked) // max(1, len(conditions_of(request.sections)))
    return Conditions(
        timestamp=utc_timestamp(),
        tool_version=VERSION,
        built=manifest.timestamp,
        rows=stored.count,
        names=catalogue.names.count,
        illustrations=catalogue.illustrations.count,
        width=stored.width,
        model=str(manifest.source),
        whitened=Whitened(has.dimensions, has.ridge) if has else None,
        hashes=subject.ranker.has_hashes,
        recognition=subject.ranker.settings,
        search="exact" if how == "exact" else f"HNSW, efSearch {ef_search}",
        seed=request.seed,
        rounds=ROUNDS,
        cards=round(readable / ROUNDS),
        minutes=request.minutes,
        device=embedder.device,
        precision=embedder.precision,
        pictures_per_second=round(len(asked) / max(clock.seconds.get("asking", 0.0), 0.01), 1),
        seconds={},  # at the end
        left_out=tuple(left_out),
    )
