"""Picture -> the cards in it, prepared and embedded as the index's manifest says.

As a library: docs/python.md.
"""

from __future__ import annotations

import dataclasses
import operator
import os
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from PIL import Image

from helpers.artifacts import IndexFolder
from helpers.cards.faces import CardFace, Records
from helpers.cards.image_cache import ImageCache
from helpers.embed.model_source import ModelSource, find_model, prefer_cached_weights
from helpers.errors import Category, PipelineError, first_line
from helpers.index.store import StoredIndex
from helpers.recognise.collector import NO_LINE
from helpers.recognise.printed import READ, Print, most_said, printings
from helpers.recognise.ranking import NO_ROWS, CutOut, Ranker, Ranking
from helpers.recognise.reading import Reader
from helpers.recognise.seen import COVERED, Printed, Seen, cards_among
from helpers.talk import say, warn
from helpers.validation import DECODE_ERRORS, BrokenImage, read_photo

if TYPE_CHECKING:
    from helpers.embed.embedder import Embedder
    from helpers.index.manifest import Recognition
    from helpers.recognise.regions import Photo, Region
    from helpers.recognise.verifying import Verifier
    from helpers.recognise.where import Where

DETECT = ("auto", "off", "all")  # which cards to look for in a picture, see `ask`
VERIFY = ("auto", "off")  # whether cards that are not sure are compared with the best names' pictures
SEARCH = ("auto", "exact", "hnsw")  # how the rows nearest to a vector are found; auto: exact where that is quick
EXACT_UP_TO = 64_000_000  # values of all rows: 250,000 of 256 dimensions; see docs/choices.md
ROUND = 12  # regions that are embedded at a time, the most promising first
MAX_IDLE_ROUNDS = 3  # without another sure card: then the rest of the regions are no cards
MAX_EMBEDDED = 240  # regions of a picture
MAX_BATCH = 64  # pictures that are held in memory and given to the model at a time

Folder: TypeAlias = "IndexFolder | str | os.PathLike[str]"
Quad: TypeAlias = "tuple[tuple[float, float], ...]"
Picture: TypeAlias = "str | os.PathLike[str] | Image.Image | NDArray[np.uint8]"


@dataclass(frozen=True, slots=True)
class Match:
    """A face and how similar it is: `score` is the cosine, less the hash's share (see `ranking`)."""

    rank: int
    score: float
    face: CardFace


@dataclass(frozen=True, slots=True)
class Card:
    """A card in a picture, and the faces it may be, best first."""

    quad: Quad | None  # corners from its own top left, clockwise; None: the whole picture
    orientation: int  # degrees clockwise that it is turned in the picture: 0, 90, 180, 270
    matches: tuple[Match, ...]
    names: tuple[tuple[Match, ...], ...]  # the same by name, the best first: as many names, and of each all its faces
    margin: float | None  # from the best score to that of the best other name; None if there is no other
    gap: float | None  # to the mean of the ten best other names
    sure: bool | None  # None: not known
    printings: tuple[Match, ...] = ()  # the faces of the best name that it may be, best first
    printing_sure: bool | None = None  # whether it is the first of them; None: it has no match
    confidence: float | None = None  # that the best name is right, 0..1; None: not known
    read: Printed | None = None  # what was read on it; None: it was not asked for
    verified: int | None = None  # corners that match the art of the best name's picture; None: it was not compared


@dataclass(frozen=True, slots=True)
class Seconds:
    """How long an answer took."""

    read: float = 0.0
    detect: float = 0.0
    embed: float = 0.0
    search: float = 0.0
    ocr: float = 0.0
    verify: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:
        """How long both took."""
        return Seconds(*map(operator.add, dataclasses.astuple(self), dataclasses.astuple(other)))


@dataclass(frozen=True, slots=True)
class Answer:
    """The result: the cards, the clearest first, or the reason why it could not be answered.

    For one picture; after a vote, for all of them: then `image` is empty and `size` 0, 0.
    """

    image: str
    cards: tuple[Card, ...] = ()
    error: str | None = None
    size: tuple[int, int] = (0, 0)  # width, height of the upright picture
    embedded: int = 0  # regions
    seconds: Seconds = field(default=Seconds(), compare=False)
    left_out: tuple[Answer, ...] = ()  # pictures that had no vote, each with its error

    @property
    def found(self) -> bool:
        """Whether a card was found in the picture, rather than the whole of it asked."""
        return any(card.quad is not None for card in self.cards)


@dataclass(frozen=True, slots=True)
class View:
    """A picture that was looked at: its regions, and those of them that were embedded."""

    size: tuple[int, int]  # width, height of the upright picture
    regions: tuple[Region, ...]
    seen: tuple[Seen, ...]
    seconds: Seconds

    def cards(self, detect: str = "auto") -> list[Seen]:
        """The regions that are cards, the clearest first; `detect` as in `QueryEngine.ask`."""
        return cards_among(self.seen, detect)


def open_index(folder: Folder) -> StoredIndex:
    """The files of an index; PipelineError if there is none."""
    return StoredIndex(folder if isinstance(folder, IndexFolder) else IndexFolder(Path(folder)))


def find_model_of(stored: StoredIndex) -> ModelSource:
    """Find the model of an index, before torch is imported; PipelineError if it is a local one that does not exist."""
    source = find_model(stored.manifest.model.name, stored.manifest.model.pretrained or "")
    prefer_cached_weights(source, offline=False)
    return source


def check_weights(stored: StoredIndex, fingerprint: str) -> None:
    """PipelineError (Configuration Error) if the index was built with an image tower of other weights."""
    model = stored.manifest.model
    if fingerprint != model.weights_sha256:
        raise PipelineError.of(
            Category.CONFIGURATION,
            "the model's weights are not the ones the index was built with",
            details=f"{model.name}, {model.pretrained or 'its own weights'}",
            suggestion="restore the old weights, or rebuild the index with build_embeddings.py",
        )


def embedder_of(stored: StoredIndex, device: str, *, exact: bool = False) -> Embedder:
    """Load the model of an index; PipelineError if it would embed a picture differently than the index was.

    It computes as the index was made, if the device is fast at that; `exact`: in fp32.
    """
    from helpers.embed.embedder import Embedder  # torch: seconds
    from helpers.embed.precision import precision_of_query

    manifest = stored.manifest
    embedder = Embedder.load(manifest.source, manifest.preparation, device)
    check_weights(stored, embedder.fingerprint)
    built = manifest.settings
    differs = built.differences(replace(embedder.settings, precision=built.precision))
    if differs:
        raise PipelineError.of(
            Category.CONFIGURATION,
            "a picture would be preprocessed or embedded differently than the index was",
            details="; ".join(differs),
            suggestion="restore the model's configuration, or the open_clip version the index was built with, or "
            "rebuild it with build_embeddings.py",
        )
    if not exact:
        embedder.use(precision_of_query(embedder.device, built.precision))
    return embedder


def open_ranker(
    stored: StoredIndex,
    records: Records,
    among: NDArray[np.int64] | None,
    *,
    ef_search: int | None = None,
    recognition: Recognition | None = None,
    raw: bool = False,
    search: str = SEARCH[0],
) -> Ranker:
    """What ranks cut-outs against the rows of an index; the arguments as in `QueryEngine.load`."""
    from helpers.index.faiss_index import CardIndex  # its home, see there

    whitening = None if raw else stored.whitening()
    index = CardIndex.of(stored, whitening)
    how, index.ef_search = how_searched(stored, search, ef_search, whitened=whitening is not None)
    settings = recognition or stored.manifest.recognition_by(whitened=whitening is not None)
    return Ranker(index, stored.hashes(), records, settings, whitening, among, exact=how == "exact")


def how_searched(stored: StoredIndex, search: str, ef_search: int | None, *, whitened: bool) -> tuple[str, int]:
    """What `search`, one of SEARCH, means for an index: "exact" or "hnsw", and the efSearch of the latter.

    "auto" is exact where that takes no longer than the rest of a query: than to embed the regions of a picture.
    """
    manifest, width, own = stored.manifest, stored.width, stored.manifest.parameters.hnsw_ef_search
    if whitened and manifest.whitening:
        width, own = manifest.whitening.dimensions, manifest.whitening.hnsw_ef_search
    quick = ef_search is None and stored.count * width <= EXACT_UP_TO
    return "exact" if search == "exact" or (search == "auto" and quick) else "hnsw", ef_search or own


def pictures_of(stored: StoredIndex, cache: str | os.PathLike[str] | None = None) -> ImageCache:
    """The pictures of an index's cards: in `cache` if it is given, else where the index was built from."""
    return ImageCache(Path(cache or stored.pictures or "image_cache"))


def verifier_of(ranker: Ranker, cache: ImageCache) -> Verifier | None:
    """What compares cards with their pictures; without the directory of these it says so and returns None."""
    if not cache.exists:
        say(f"There is no directory {cache.root}: cards are not compared with its pictures; --cache names another")
        return None
    from helpers.recognise.verifying import Verifier  # cv2

    return Verifier(ranker, cache)


class QueryEngine:
    """A loaded index with the model that made it; safe to use from several threads."""

    def __init__(
        self,
        stored: StoredIndex,
        ranker: Ranker,
        embedder: Embedder,
        read: str = "off",
        verifier: Verifier | None = None,
    ) -> None:
        """`read`: one of READ; `verifier`: compares cards that are not sure with pictures."""
        self.stored = stored
        self._verifier = verifier
        reader = None if read == "off" else Reader.load()
        self._print = None if reader is None else Print(reader, ranker, stored.records(), always=read == "always")
        self._embedder = embedder
        self.ranker = ranker

    @classmethod
    def load(
        cls,
        folder: Folder,
        *,
        ef_search: int | None = None,
        device: str = "auto",
        recognition: Recognition | None = None,
        where: Where | None = None,
        raw: bool = False,
        search: str = SEARCH[0],
        sure_above: float | None = None,
        read: str = READ[0],
        verify: str = VERIFY[0],
        cache: str | os.PathLike[str] | None = None,
    ) -> QueryEngine:
        """Load the index of `folder` and its model; PipelineError if the files disagree.

        `ef_search`, `recognition` and its `sure_above` override the index's own. `where`: which rows may be the answer;
        PipelineError (Invalid Arguments) if it leaves none. `raw`: compare vectors as they are, even
        if the index has whitened ones. `search`: one of SEARCH. `read`: one of READ. `verify`: one
        of VERIFY; `cache`: the cards' pictures for it, in place of those that the index was built from.
        """
        _check("read", read, READ)
        _check("verify", verify, VERIFY)
        stored = open_index(folder)
        records = stored.records()
        among = None if where is None else where.rows(records)
        find_model_of(stored)
        say(f"Loading the model {stored.manifest.source} and {stored.count:,} rows")
        stored.hash_ahead(whitened=not raw and stored.manifest.whitening is not None)
        embedder = embedder_of(stored, device)
        ranker = open_ranker(
            stored, records, among, ef_search=ef_search, recognition=recognition, raw=raw, search=search
        )
        if sure_above is not None:
            ranker.settings = replace(ranker.settings, sure_above=sure_above)
        _warn_of_older(stored, ranker, raw=raw)
        verifier = None if verify == "off" else verifier_of(ranker, pictures_of(stored, cache))
        return cls(stored, ranker, embedder, read, verifier)

    def __len__(self) -> int:
        return self.stored.count

    def embed(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """The vectors of whole pictures, as the index's were made: unit rows float32 [B, D].

        BrokenImage or FileNotFoundError if one is no picture.
        """
        rows = [np.empty((0, self.stored.width), np.float32)]
        for start in range(0, len(pictures), MAX_BATCH):
            rows.append(self._embedder.embed([_opened(picture) for picture in pictures[start : start + MAX_BATCH]]))
        return np.concatenate(rows)

    def ask(self, picture: Picture, k: int = 5, *, detect: str = "auto", without: Collection[str] = ()) -> Answer:
        """Find the cards in a picture, each with the `k` nearest faces.

        `picture`: a path, a Pillow image, or RGB as uint8 [H, W, 3]. `detect`: "auto", the cards that are found in it
        and sure or likely, else the best guess; "all", every region that may be a card; "off", the whole picture.
        `without`: names that are masked, as if the index lacked them.
        """
        view, answer = self._tried(picture, detect, without)
        if view is None:
            return answer
        return dataclasses.replace(answer, cards=tuple(self.card(one, k) for one in view.cards(detect)))

    def ask_each(self, pictures: Iterable[Picture], k: int = 5, *, detect: str = "auto") -> Iterator[Answer]:
        """`ask` for each picture, in order, as they come."""
        return (self.ask(picture, k, detect=detect) for picture in pictures)

    def vote(self, pictures: Iterable[Picture], k: int = 5, *, detect: str = "auto") -> Answer:
        """Find the one card that several pictures show, frames of a video say: the `k` nearest faces to all of them.

        Of each picture the strongest region votes, as `ask` finds it. Every face that any of them proposes is scored by
        all, and its scores are averaged: what noise, blur or a reflection adds to one frame it does not to the others.
        Pictures that can't be answered are `left_out`; the answer has an error if all are.
        """
        voters: list[Seen] = []
        left_out: list[Answer] = []
        embedded, seconds = 0, Seconds()
        for picture in pictures:
            view, answer = self._tried(picture, detect)
            seconds += answer.seconds
            embedded += answer.embedded
            if view is None:
                left_out.append(answer)
            else:
                voters.append(view.cards()[0])
        if not voters:
            error = "none of the pictures could be answered" if left_out else "no picture"
            return Answer("", error=error, left_out=tuple(left_out))
        card = self._voted(voters, k)
        return Answer("", (card,), embedded=embedded, seconds=seconds, left_out=tuple(left_out))

    def _voted(self, voters: Sequence[Seen], k: int) -> Card:
        """The card that regions of several pictures show; most of them must have a card's shape for it to be sure."""
        ranking = self.ranker.together([seen.cut_out for seen in voters])
        card_shaped = 2 * sum(seen.region.card_shaped for seen in voters) > len(voters)
        read = most_said(seen.printed for seen in voters)
        return self._card(None, 0, ranking, k, card_shaped=card_shaped, read=read)

    def _tried(self, picture: Picture, detect: str, without: Collection[str] = ()) -> tuple[View | None, Answer]:
        """`look`; the answer lacks only its cards, or it says why there is no view."""
        image = os.fspath(picture) if isinstance(picture, (str, os.PathLike)) else ""
        try:
            view = self.look(picture, detect=detect, without=without)
        except FileNotFoundError:
            return None, Answer(image, error="no such file")
        except BrokenImage as error:
            return None, Answer(image, error=str(error))
        return view, Answer(image, size=view.size, embedded=len(view.seen), seconds=view.seconds)

    def look(self, picture: Picture, *, detect: str = "auto", without: Collection[str] = ()) -> View:
        """Rank the regions of a picture that may be cards, as `ask` does; BrokenImage or FileNotFoundError.

        PipelineError (Invalid Arguments) if `detect` is none of DETECT.
        """
        _check("detect", detect, DETECT)
        from helpers.recognise.regions import Photo  # cv2

        masked = self.ranker.rows_of(without) if without else NO_ROWS
        started = time.monotonic()
        photo = Photo(_opened(picture))
        read = time.monotonic()
        regions, hashes = photo.hashed(photo.regions() if detect != "off" else [photo.whole()])
        bits = self.ranker.nearest_hashes(hashes, masked)
        detected = time.monotonic()
        seen, embedding = self._embed_in_rounds(photo, regions, hashes, bits, masked)
        searched = time.monotonic()
        seen = seen if self._verifier is None else self._verifier.look_again(photo, seen, detect)
        verified = time.monotonic()
        seen = seen if self._print is None else self._print.look_again(photo, seen, detect)
        seconds = Seconds(
            read=read - started,
            detect=detected - read,
            embed=embedding,
            search=searched - detected - embedding,
            verify=verified - searched,
            ocr=time.monotonic() - verified,
        )
        return View(photo.picture.size, tuple(regions), tuple(seen), seconds)

    def card(self, seen: Seen, k: int = 5) -> Card:
        """A region as a card, with its `k` nearest faces."""
        region, ranking = seen.region, self.ranker.together([seen.cut_out], seen.masked)
        quad = None if region.whole else tuple((float(x), float(y)) for x, y in region.quad)
        card = self._card(quad, region.orientation, ranking, k, card_shaped=region.card_shaped, read=seen.printed)
        name = card.matches[0].face.name if card.matches else ""
        return dataclasses.replace(card, verified=None if seen.inliers is None else seen.inliers.get(name))

    def knows(self, name: str) -> bool:
        """Whether a face of the index has this name."""
        return bool(len(self.ranker.rows_of([name])))

    def _embed_in_rounds(
        self,
        photo: Photo,
        regions: Sequence[Region],
        hashes: NDArray[np.uint8],
        bits: NDArray[np.int32] | None,
        masked: NDArray[np.int64],
    ) -> tuple[list[Seen], float]:
        """Embed and rank the regions, the most promising first, until no more cards turn up.

        What a sure card covers is left out. Returns the seconds spent on embedding, too.
        """
        left = most_promising_first(len(regions), bits)
        if self.ranker.leaves_none(masked):
            left = []
        seen: list[Seen] = []
        idle, embedding = 0, 0.0
        while left and idle < MAX_IDLE_ROUNDS and len(seen) < MAX_EMBEDDED:
            now, left = left[:ROUND], left[ROUND:]
            started = time.monotonic()
            vectors = self.embed([photo.cut_out(regions[place], self._embedder.preparation.size) for place in now])
            embedding += time.monotonic() - started
            rankings = self.ranker.rank(vectors, hashes[now], masked)
            cut_outs = map(CutOut, rankings, vectors, hashes[now])
            new = [Seen(regions[place], cut_out, masked) for place, cut_out in zip(now, cut_outs, strict=True)]
            seen += new
            sure = [one.region for one in new if one.sure]
            left = [p for p in left if not any(card.covers(regions[p]) > COVERED for card in sure)]
            idle = 0 if sure else idle + 1
        return seen, embedding

    def _card(
        self,
        quad: Quad | None,
        orientation: int,
        ranking: Ranking,
        k: int,
        *,
        card_shaped: bool,
        read: Printed | None = None,
    ) -> Card:
        may_be, sure = (
            printings(self.ranker, ranking, NO_LINE if read is None else read.line) if len(ranking.rows) else ([], None)
        )
        order = [*may_be, *(place for place in range(len(ranking.rows)) if place not in may_be)]
        matches = matches_of(self.ranker.faces(ranking.rows[order]), ranking.scores[order])
        return Card(
            quad,
            orientation,
            matches[:k],
            by_name(matches)[:k],
            ranking.margin,
            ranking.gap,
            sure=ranking.sure and card_shaped,
            printings=matches[: len(may_be)],
            printing_sure=sure,
            confidence=self.ranker.settings.confidence(ranking.margin, ranking.gap) if card_shaped else None,
            read=read,
        )


def _warn_of_older(stored: StoredIndex, ranker: Ranker, *, raw: bool) -> None:
    """An index of an earlier version lacks what recognises more cards."""
    if not ranker.has_hashes or (stored.manifest.parameters.whiten is None and not raw):
        lacks = "hashes" if not ranker.has_hashes else "whitening"
        warn(f"this index has no {lacks}: fewer cards are recognised; build it again with build_embeddings.py")


def _check(option: str, value: str, allowed: Sequence[str]) -> None:
    """PipelineError (Invalid Arguments) if the value is none of those that are allowed."""
    if value not in allowed:
        raise PipelineError.of(
            Category.INVALID_ARGUMENTS,
            f"{option} must be one of {', '.join(allowed)}",
            details=f"received {value!r}",
            suggestion=f"use {allowed[0]}",
        )


def most_promising_first(count: int, bits: NDArray[np.int32] | None) -> list[int]:
    """The numbers of `count` regions, clearest outline first, in the order in which to ask them.

    Those with the clearest outlines and those with the nearest hashes take turns: a reflection spoils a card's hash, a
    card that lies on it its outline.
    """
    if bits is None:
        return list(range(count))
    nearest = np.argsort(np.argsort(bits, kind="stable"), kind="stable")
    order: list[int] = np.argsort(np.minimum(nearest, np.arange(count)), kind="stable").tolist()
    return order


def matches_of(faces: Sequence[CardFace], scores: NDArray[np.float32]) -> tuple[Match, ...]:
    """Faces with their scores [C], best first."""
    return tuple(
        Match(rank, float(score), face) for rank, (face, score) in enumerate(zip(faces, scores, strict=True), 1)
    )


def by_name(matches: Sequence[Match]) -> tuple[tuple[Match, ...], ...]:
    """The matches of each name, in the order in which the names come first."""
    names: dict[str, list[Match]] = {}
    for match in matches:
        names.setdefault(match.face.name, []).append(match)
    return tuple(map(tuple, names.values()))


def straightened(picture: Picture, cards: Iterable[Card], height: int) -> list[Image.Image]:
    """What was asked of each card of a picture, upright: its cut-out, `height` pixels, or all of the picture."""
    from helpers.recognise.regions import Photo, Region  # cv2

    photo = Photo(_opened(picture))
    return [
        photo.cut_out(photo.whole(card.orientation) if card.quad is None else Region(np.array(card.quad)), height)
        for card in cards
    ]


def _opened(picture: Picture) -> Image.Image:
    """The picture, upright and opaque; BrokenImage or FileNotFoundError if there is none."""
    from helpers.embed.preprocess import as_seen

    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
            raise BrokenImage(f"not RGB as uint8 [H, W, 3]: {picture.dtype} {list(picture.shape)}")
        return Image.fromarray(picture)
    image = picture if isinstance(picture, Image.Image) else read_photo(Path(picture))
    if not all(image.size):
        raise BrokenImage("it has no pixels")
    try:
        image.load()  # of an image that was only opened Pillow has not read the pixels
        return as_seen(image)
    except DECODE_ERRORS as error:
        raise BrokenImage(f"damaged picture: {first_line(error)}") from error
