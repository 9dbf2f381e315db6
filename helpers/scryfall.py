"""Scryfall's bulk list: had once, kept beside the pictures, read as a stream of card faces.

Every stage reads the kept list, so that all of them see the very same faces. Two forms are read: one object a line
(`*.jsonl.gz`, since 2026-07-20) and the JSON array of before, which has one object a line too; either may be gzipped.
Rules: https://scryfall.com/docs/api/bulk-data and https://scryfall.com/docs/api/layouts.

On disk, in the cache directory: `<kind>-<version>.jsonl.gz`, and `<kind>.list.json`, which names it and says when it
was had. The description is replaced last, so it never names a file that is not whole. A dump that was put there by
hand (`<kind>*.json`, `.jsonl`, gzipped or not) is used where there is no description.
"""

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NoReturn
from urllib.parse import urlsplit

import msgspec

from helpers.artifacts import CACHE_LOCK
from helpers.atomic_io import atomic_path, atomic_write_bytes, indented_json, shared_folder, utc_timestamp
from helpers.errors import Category, PipelineError
from helpers.records import LIST_KINDS, PLACEHOLDER_STATUS, SHOWN_KEY, CardFace, image_key_order
from helpers.session import BadBody, DownloadSession
from helpers.talk import say, warn

FRESH_FOR = timedelta(hours=24)  # Scryfall asks to keep what was fetched for at least that long
PLACEHOLDER_NAME = "soon.jpg"  # https://errors.scryfall.com/soon.jpg
_SHOWN_KEYS = image_key_order(SHOWN_KEY)
_GZIP_MAGIC = b"\x1f\x8b"
_DUMP_ENDINGS = (".jsonl.gz", ".json.gz", ".jsonl", ".json")


# --------------------------------------------------------------------------------------- the shape of Scryfall's JSON
# Only what is read is declared, and nearly all of it may be missing or null: layouts come and go, and none may stop us.


class _Face(msgspec.Struct, gc=False):
    name: str | None = None
    oracle_id: str | None = None
    illustration_id: str | None = None
    colors: list[str] | None = None
    artist: str | None = None
    image_uris: dict[str, Any] | None = None


class _Card(msgspec.Struct, gc=False):
    id: str
    name: str
    oracle_id: str | None = None
    illustration_id: str | None = None
    set: str | None = None
    collector_number: str | None = None
    frame: str | None = None
    layout: str | None = None
    lang: str | None = None
    colors: list[str] | None = None
    artist: str | None = None
    scryfall_uri: str | None = None
    image_status: str | None = None
    image_uris: dict[str, Any] | None = None
    card_faces: list[_Face] | None = None


class _Bulk(msgspec.Struct):
    type: str
    updated_at: str | None = None
    jsonl_download_uri: str | None = None
    download_uri: str | None = None  # until 2026-07-20


class _BulkList(msgspec.Struct):
    data: list[_Bulk]


class KeptList(msgspec.Struct):
    """What is written beside a kept list: where it came from and when it was last found to be the newest."""

    kind: str
    file: str
    api_url: str
    url: str
    updated_at: str | None
    checked_at: str  # ISO 8601, UTC
    cards: int


# ----------------------------------------------------------------------------------------------------------- had, kept


def ensure_card_list(
    cache: Path, kind: str, api_url: str, session: DownloadSession | None, *, refresh: bool, keep_for: timedelta | None
) -> Path:
    """Return the path of the card list of `kind`; fetch it where none is kept.

    A kept list is used as it is for `keep_for` (None: for ever); after that Scryfall is asked whether `updated_at` has
    moved. One of another server than `api_url` is fetched again, unless it is kept for ever: then it is what was
    downloaded, whoever served it. `refresh` fetches the list in any case. `session` None: never use the network. Raises
    PipelineError (Network Error) where no list can be had; where an older one is kept, that is used with a warning.
    """
    kept = _kept_description(cache, kind)
    path = cache / kept.file if kept else _newest_dump(cache, kind)
    if session is None:
        if path is None:
            raise PipelineError.of(
                Category.NETWORK,
                f"there is no {kind} list in {cache} and --offline forbids to fetch it",
                details=f"received --offline --cache {cache}",
                suggestion=_other_kinds(cache)
                or f"run download_images.py --kind {kind} without --offline, or name a cache that has the list",
            )
        return path
    foreign = kept is not None and kept.api_url != api_url and keep_for is not None
    if path and not refresh and not foreign and _is_fresh(path, kind, kept, keep_for):
        return path
    try:
        return _fetch(cache, kind, api_url, session, None if refresh or foreign else kept)
    except PipelineError as error:
        if path is None or refresh or foreign or error.category is not Category.NETWORK:
            raise
        warn(f"{error}; going on with the list kept in {path}")
        return path


def _other_kinds(cache: Path) -> str:
    there = [kind for kind in LIST_KINDS if _newest_dump(cache, kind)]
    return f"use --kind {there[0]}, the list that was downloaded there" if there else ""


def _is_fresh(path: Path, kind: str, kept: KeptList | None, keep_for: timedelta | None) -> bool:
    if keep_for is None:
        return True
    if kept is None:
        return not _is_ours(path, kind)  # a dump put there by hand is wanted; of ours, nobody knows the age any more
    return _age(kept) < keep_for


def _fetch(cache: Path, kind: str, api_url: str, session: DownloadSession, kept: KeptList | None) -> Path:
    """Ask for the description of the list, and for the list itself where it is another than the `kept` one."""
    bulk_url = f"{api_url}/bulk-data"
    if not session.reachable(bulk_url):  # not worth half a minute of retries: nothing has begun yet
        raise PipelineError.of(
            Category.NETWORK,
            f"{api_url} can't be reached",
            details=f"no answer to {bulk_url}",
            suggestion=f"check the connection and --api-url; with a {kind} list in the cache use --offline; "
            "without a network try the built-in sample: make demo",
        )
    offer, url = _offer(bulk_url, kind, session)
    now = utc_timestamp()
    with shared_folder(cache, CACHE_LOCK):
        if kept and offer.updated_at and kept.updated_at == offer.updated_at:
            kept.checked_at = now
            path = cache / kept.file
        else:
            path = cache / _list_name(kind, offer.updated_at or now, url)
            say(f"Fetching the {kind} list from {url}")
            with atomic_path(path) as part:
                cards = session.get_large(url, part, lambda part: _count_cards(part, url))
            kept = KeptList(kind, path.name, api_url, url, offer.updated_at, now, cards)
        atomic_write_bytes(_description_path(cache, kind), indented_json(kept))
        for old in _dumps(cache, kind):
            if old.name != path.name and _is_ours(old, kind):
                old.unlink(missing_ok=True)  # its successor is here; dumps put there by hand stay
    return path


def _offer(bulk_url: str, kind: str, session: DownloadSession) -> tuple[_Bulk, str]:
    """What the server says of its list of `kind`, and the list's address."""
    try:
        offers = msgspec.json.decode(session.get_small(bulk_url), type=_BulkList).data
    except msgspec.MsgspecError as error:
        raise PipelineError.of(
            Category.NETWORK,
            f"{bulk_url} did not answer with Scryfall's list of bulk files",
            details=str(error),
            suggestion="check --api-url; it must name a server that speaks Scryfall's API",
        ) from error
    offer = next((offer for offer in offers if offer.type == kind), None)
    url = offer and (offer.jsonl_download_uri or offer.download_uri)
    if not offer or not url:
        raise PipelineError.of(
            Category.NETWORK,
            f"{bulk_url} offers no {kind} list",
            details=f"it offers {', '.join(offer.type for offer in offers) or 'nothing'}",
            suggestion="choose another --kind, or check --api-url",
        )
    return offer, url


def _count_cards(part: Path, url: str) -> int:
    """Decode a list to its end, before it gets its name; BadBody if it is none."""
    try:
        cards = sum(1 for _ in _read_cards(part, FaceTally(), shown_as=url))
    except PipelineError as error:
        raise BadBody(f"{error}: {error.problems[0].details}") from error
    if not cards:
        raise BadBody("the list holds no cards")
    return cards


def _list_name(kind: str, updated_at: str, url: str) -> str:
    version = re.sub(r"\D", "", updated_at)[:14].ljust(14, "0")
    ending = next((ending for ending in _DUMP_ENDINGS if urlsplit(url).path.endswith(ending)), ".jsonl.gz")
    return f"{kind}-{version}{ending}"


def _description_path(cache: Path, kind: str) -> Path:
    return cache / f"{kind}.list.json"


def _kept_description(cache: Path, kind: str) -> KeptList | None:
    path = _description_path(cache, kind)
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=KeptList)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, OSError) as error:
        warn(f"{path} can't be read: {error}")
        return None
    if (cache / kept.file).name != kept.file or not (cache / kept.file).is_file():
        return None
    return kept


def _dumps(cache: Path, kind: str) -> list[Path]:
    names = (f"{kind}*", f"{kind.replace('_', '-')}*")
    found = {
        path for name in names for path in cache.glob(name) if path.name.endswith(_DUMP_ENDINGS) and path.is_file()
    }
    return sorted(found - {_description_path(cache, kind)})


def kept_files(cache: Path) -> list[Path]:
    """The lists that were fetched into `cache`, of all kinds, and their descriptions."""
    found = [path for kind in LIST_KINDS for path in _dumps(cache, kind) if _is_ours(path, kind)]
    return [*found, *filter(Path.is_file, (_description_path(cache, kind) for kind in LIST_KINDS))]


def _is_ours(path: Path, kind: str) -> bool:
    return re.fullmatch(rf"{kind}-\d{{14}}\.\S+", path.name) is not None


def _newest_dump(cache: Path, kind: str) -> Path | None:
    return max(_dumps(cache, kind), key=lambda path: path.stat().st_mtime, default=None)


def _age(kept: KeptList) -> timedelta:
    try:
        age = datetime.now(timezone.utc) - datetime.fromisoformat(kept.checked_at)
    except (ValueError, TypeError):
        return timedelta.max
    return age if age >= timedelta(0) else timedelta.max  # a clock that was set back


# --------------------------------------------------------------------------------------------------------------- read


@dataclass(slots=True)
class FaceTally:
    """What a pass over a list met."""

    cards: int = 0
    faces: int = 0
    placeholders: int = 0
    without_picture: int = 0
    repeated_urls: int = 0
    unreadable: int = 0  # lines that are JSON, but no card as we know it
    unreadable_example: str = ""

    def __str__(self) -> str:
        text = (
            f"{self.cards:,} cards, {self.faces:,} faces; left out: {self.placeholders:,} placeholders, "
            f"{self.without_picture:,} without a picture, {self.repeated_urls:,} repeated pictures"
        )
        if self.unreadable:
            text += f", {self.unreadable:,} unreadable cards (the first: {self.unreadable_example})"
        return text


def iter_faces(path: Path, image_key: str, limit: int | None, tally: FaceTally) -> Iterator[CardFace]:
    """Yield the faces of the list at `path` in its order, at most `limit`, counting into `tally` what is left out.

    One picture is one face: a URL that was seen before is left out. A card of a shape that we don't know is left out
    too, for one oddity must not cost the other 100,000. Raises PipelineError (Validation Error) with the line where the
    list is damaged, or where no card at all can be read.
    """
    return islice(_distinct_faces(path, image_key, tally), limit)


def told_faces(path: Path, image_key: str, limit: int | None) -> Iterator[CardFace]:
    """`iter_faces`; says at the end what was met and what was left out."""
    tally = FaceTally()
    yield from iter_faces(path, image_key, limit, tally)
    say(f"{path.name}: {tally}")


def counted_faces(path: Path, image_key: str, limit: int | None) -> tuple[Iterator[CardFace], int]:
    """`iter_faces`, and how many there will be: counted in a pass of its own, for the ETA."""
    total = sum(1 for _ in told_faces(path, image_key, limit))
    return iter_faces(path, image_key, limit, FaceTally()), total


def _distinct_faces(path: Path, image_key: str, tally: FaceTally) -> Iterator[CardFace]:
    seen: set[bytes] = set()  # digests: 540,000 URLs would be three times the memory
    keys = image_key_order(image_key)
    for card in _read_cards(path, tally, shown_as=str(path)):
        tally.cards += 1
        for face in _faces_of(card, keys, tally):
            digest = hashlib.sha1(face.image_url.encode()).digest()
            if digest in seen:
                tally.repeated_urls += 1
                continue
            seen.add(digest)
            tally.faces += 1
            yield face


def _faces_of(card: _Card, keys: tuple[str, ...], tally: FaceTally) -> Iterator[CardFace]:
    """One face for each side that has pictures of its own, else one for the card."""
    sides = [(i, face) for i, face in enumerate(card.card_faces or []) if face.image_uris]
    if not sides:
        yield from _face_of(card, None, card.card_faces or [], keys, tally)
        return
    tally.without_picture += len(card.card_faces or []) - len(sides)
    for i, side in sides:
        yield from _face_of(card, i, [side], keys, tally)


def _face_of(
    card: _Card, side: int | None, faces: list[_Face], keys: tuple[str, ...], tally: FaceTally
) -> Iterator[CardFace]:
    """The face with index `side` (None: the whole card, whose `faces` share its picture), if it has a picture."""
    own = faces[0] if side is not None else None
    uris = (own.image_uris if own else card.image_uris) or {}
    image_url = _pick(uris, keys)
    if image_url is None:
        tally.without_picture += 1
        return
    if card.image_status in PLACEHOLDER_STATUS or image_url.partition("?")[0].endswith("/" + PLACEHOLDER_NAME):
        tally.placeholders += 1
        return
    first = faces[0] if faces else _Face()
    colors = own.colors if own and own.colors is not None else card.colors
    yield CardFace(
        name=(own and own.name) or card.name,
        scryfall_id=card.id,
        face_id=card.id if side is None else f"{card.id}:face:{side}",
        oracle_id=card.oracle_id or first.oracle_id,
        illustration_id=first.illustration_id if own else card.illustration_id or first.illustration_id,
        set=card.set or "",
        collector_number=card.collector_number or "",
        frame=card.frame,
        layout=card.layout,
        lang=card.lang,
        colors=colors or [],
        image_url=image_url,
        card_url=_pick(uris, _SHOWN_KEYS) or image_url,
        scryfall_uri=card.scryfall_uri,
        card_name=card.name,
        artist=(own and own.artist) or card.artist,
    )


def _pick(uris: dict[str, Any], keys: tuple[str, ...]) -> str | None:
    return next((url for key in keys if _is_address(url := uris.get(key))), None)


def _is_address(url: object) -> bool:
    """Whether `url` is something to fetch: never `file:`, and only what urlsplit can take apart."""
    if not isinstance(url, str) or not url.startswith(("https://", "http://")):
        return False
    if "[" not in url and "]" not in url:  # what urlsplit stumbles over; the test keeps it out of the common way
        return True
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:
        return False


def _read_cards(path: Path, tally: FaceTally, shown_as: str) -> Iterator[_Card]:
    """Decode the list card by card, counting the unreadable into `tally`."""
    decode = msgspec.json.Decoder(_Card).decode
    number = read = 0
    with _open_list(path) as lines:
        try:
            for number, raw in enumerate(lines, 1):
                line = raw.strip().rstrip(b",")
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if line in (b"", b"[", b"]", b"[]"):
                    continue
                if line[:1] == b"[":  # an array whose first or last object shares its line with the bracket
                    line = line[1:]
                if line[-1:] == b"]":
                    line = line[:-1]
                try:
                    card = decode(line)
                except msgspec.ValidationError as error:
                    tally.unreadable += 1
                    tally.unreadable_example = tally.unreadable_example or f"line {number:,}: {error}"
                    continue
                read += 1
                yield card
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            _damaged(shown_as, number, str(error))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            _damaged(shown_as, number + 1, f"the gzip data is broken off or damaged: {error}")
    if tally.unreadable and not read:
        _damaged(shown_as, number, f"no card can be read; {tally.unreadable_example}")


@contextmanager
def _open_list(path: Path) -> Iterator[BinaryIO]:
    """Open a list, decoding gzip exactly once where the file begins like it, whatever its name says."""
    try:
        file = open(path, "rb")  # noqa: SIM115  # held by the block below
    except OSError as error:
        raise PipelineError.of(
            Category.CONFIGURATION,
            "the card list can't be read",
            details=f"{path}: {error.strerror or error}",
            suggestion="run the same command again; another run may just have replaced it by a newer one",
        ) from error
    with file:
        magic = file.read(2)
        file.seek(0)
        if magic == _GZIP_MAGIC:
            with gzip.open(file, "rb") as plain:
                yield plain  # type: ignore[misc]  # GzipFile is a binary stream, though not declared as BinaryIO
        else:
            yield file


def _damaged(shown_as: str, line: int, reason: str) -> NoReturn:
    raise PipelineError.of(
        Category.VALIDATION,
        "the card list is damaged",
        details=f"{shown_as}, line {line:,}: {reason}",
        suggestion="fetch it again with --refresh",
    )
