"""Scryfall's bulk list: downloaded once, kept beside the pictures.

Every stage reads the kept list, so all of them see the same faces.
Rules: https://scryfall.com/docs/api/bulk-data.

On disk, in the cache directory: `<kind>-<version>.jsonl.gz`, and `<kind>.list.json`, which names it and says when it
was downloaded. The description is replaced last, so it never names an incomplete file. A partial list ends in `.part`;
the next run resumes it (see resumable). A dump that was put there by hand (`<kind>*.json`, `.jsonl`, gzipped or not) is
used if there is no description.
"""

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from helpers.artifacts import CACHE_LOCK, LIST_LOCK, PART_SUFFIX
from helpers.atomic_io import atomic_write_json, utc_timestamp
from helpers.cards.card_list import count_cards, may_be_asked
from helpers.cards.faces import LIST_KINDS
from helpers.errors import BAD_JSON, Category, PipelineError
from helpers.locks import Held, shared_folder, sole_holder
from helpers.net.answers import BadBody
from helpers.net.resumable import Resumable
from helpers.net.throttle import TurnedAway
from helpers.session import DownloadSession, Http
from helpers.talk import say, warn

FRESH_FOR = timedelta(hours=24)  # Scryfall asks clients to cache data for at least that long
LOOK_AGAIN_SECONDS = 0.2  # to see whether another run has finished downloading the list
_DUMP_ENDINGS = (".jsonl.gz", ".json.gz", ".jsonl", ".json")


class _Bulk(msgspec.Struct):
    type: str
    updated_at: str | None = None
    jsonl_download_uri: str | None = None
    compressed_size: int | None = None  # bytes of the file as downloaded
    download_uri: str | None = None  # until 2026-07-20


class _BulkList(msgspec.Struct):
    data: list[msgspec.Raw]


class KeptList(msgspec.Struct):
    """The description of a kept list: where it came from and when it was last known to be current."""

    kind: str
    file: str
    api_url: str
    url: str
    updated_at: str | None
    checked_at: str  # ISO 8601, UTC
    cards: int


# ------------------------------------------------------------------------------------------------------ fetched, kept


def ensure_card_list(
    cache: Path, kind: str, session: DownloadSession | None, *, refresh: bool, keep_for: timedelta | None
) -> Path:
    """Return the path of the card list of `kind`; download it if none is kept. `session` None: never use the network.

    A kept list is used as is for `keep_for` (None: for ever); after that, Scryfall is asked whether `updated_at` has
    changed. A list from another server is replaced, unless kept for ever: then it is the one the pictures came from,
    whoever served it. `refresh` downloads the list in any case. Raises PipelineError (Network Error) if no list can be
    downloaded; without `refresh`, and if `keep_for` is not 0, an older list of the same server is then used with a
    warning.
    """
    kept = _kept_description(cache, kind)
    path = cache / kept.file if kept else _newest_dump(cache, kind)
    if session is None:
        if path is None:
            raise PipelineError.of(
                Category.NETWORK,
                f"there is no {kind} list in {cache}, and --offline forbids fetching it",
                details=f"received --offline --cache {cache}",
                suggestion=_other_kinds(cache)
                or f"run download_images.py --kind {kind} without --offline, or name a cache that has the list",
            )
        return path
    foreign = kept is not None and kept.api_url != session.http.api_url and keep_for is not None
    if path and not refresh and not foreign and _is_fresh(path, kind, kept, keep_for):
        return path
    try:
        return _fetch(cache, kind, session, None if refresh or foreign else kept)
    except PipelineError as error:
        if path is None or refresh or foreign or keep_for == timedelta(0) or error.category is not Category.NETWORK:
            raise
        if isinstance(error, TurnedAway):  # it would reject requests for pictures, too
            raise
        warn(f"{error}; using the list kept in {path}")
        return path


def server_of(cache: Path, kind: str) -> str | None:
    """The --api-url that the list of `kind` in `cache` was downloaded with; None if there is no such list."""
    kept = _kept_description(cache, kind)
    return kept.api_url if kept else None


def kept_list(cache: Path, kind: str, http: Http, *, refresh: bool, offline: bool) -> Path:
    """The list for a build: the one the download used, whatever its age; downloaded only if there is none."""
    session = None if offline else DownloadSession(replace(http, workers=1))
    return ensure_card_list(cache, kind, session, refresh=refresh, keep_for=None)


def _other_kinds(cache: Path) -> str:
    there = [kind for kind in LIST_KINDS if _newest_dump(cache, kind)]
    return f"use --kind {there[0]}, which has been downloaded" if there else ""


def _is_fresh(path: Path, kind: str, kept: KeptList | None, keep_for: timedelta | None) -> bool:
    if keep_for is None:
        return True
    if kept is None:
        return not _is_ours(path, kind)  # a dump put there by hand is wanted as is; the age of ours is unknown
    return _age(kept) < keep_for


def _fetch(cache: Path, kind: str, session: DownloadSession, kept: KeptList | None) -> Path:
    """Fetch the description of the list, and the list itself if it differs from the `kept` one."""
    api_url = session.http.api_url
    bulk_url = f"{api_url}/bulk-data"
    if not session.reachable(bulk_url):  # not worth half a minute of retries: nothing has begun yet
        proxy = session.proxy_for(bulk_url)
        raise PipelineError.of(
            Category.NETWORK,
            f"{api_url} can't be reached",
            details=f"no answer from {bulk_url}" + (f" through the proxy {proxy}" if proxy else ""),
            suggestion=("check that the proxy runs, or unset HTTPS_PROXY, HTTP_PROXY and ALL_PROXY; " if proxy else "")
            + f"check the connection and --api-url; with the list of {kind} in the cache use --offline; "
            "without a network try the built-in sample: make demo",
        )
    offer, url = _offer(bulk_url, kind, session)
    with shared_folder(cache, CACHE_LOCK), _sole_fetcher(cache) as waited:
        if waited:  # the other run may have fetched what we want
            kept = _kept_description(cache, kind)
        now = utc_timestamp()
        if kept and offer.updated_at and kept.updated_at == offer.updated_at and kept.api_url == api_url:
            kept.checked_at = now
            path = cache / kept.file
        else:
            path = cache / _list_name(kind, offer.updated_at or now, url)
            say(f"Fetching the {kind} list from {url}")
            target = Resumable(path, url)
            cards = session.get_large(target, offer.compressed_size if offer.jsonl_download_uri else None, _count_cards)
            target.finish()
            kept = KeptList(kind, path.name, api_url, url, offer.updated_at, now, cards)
        atomic_write_json(_description_path(cache, kind), kept)
        for old in (*_dumps(cache, kind), *_pieces(cache, kind)):
            if old.name != path.name and _is_ours(old, kind):
                old.unlink(missing_ok=True)  # its successor is here; dumps put there by hand stay
    return path


@contextmanager
def _sole_fetcher(cache: Path) -> Iterator[bool]:
    """Be the only run that downloads a list into `cache`; yields whether it had to wait for another one."""
    waited = False
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(sole_holder(cache / LIST_LOCK, "another run is fetching a list into this cache"))
                break
            except Held as error:
                if not waited:
                    say(f"{error}: waiting for it")
                waited = True
                time.sleep(LOOK_AGAIN_SECONDS)
        yield waited


def _offer(bulk_url: str, kind: str, session: DownloadSession) -> tuple[_Bulk, str]:
    """The server's description of its list of `kind`, and the list's address."""
    try:
        entries = msgspec.json.decode(session.get_small(bulk_url), type=_BulkList).data
    except BAD_JSON as error:
        raise PipelineError.of(
            Category.NETWORK,
            f"{bulk_url} did not answer with Scryfall's list of bulk files",
            details=str(error),
            suggestion="check --api-url; it must name a server that speaks Scryfall's API",
        ) from error
    offers = []
    for entry in entries:
        with suppress(*BAD_JSON):  # other kinds may change shape
            offers.append(msgspec.json.decode(entry, type=_Bulk))
    offer = next((offer for offer in offers if offer.type == kind), None)
    url = offer and (offer.jsonl_download_uri or offer.download_uri)
    if not offer or not url:
        raise PipelineError.of(
            Category.NETWORK,
            f"{bulk_url} offers no {kind} list",
            details=f"it offers {', '.join(offer.type for offer in offers) or 'nothing'}",
            suggestion="choose another --kind, or check --api-url",
        )
    if not may_be_asked(url):
        raise PipelineError.of(
            Category.NETWORK,
            f"the address of the {kind} list is not an acceptable one",
            details=f"{bulk_url} offers {url!r}",
            suggestion="check --api-url; with a list in the cache, --offline uses that",
        )
    return offer, url


def _count_cards(fetched: Resumable) -> int:
    """Decode a list to its end before it gets its name; BadBody if it is not a whole list."""
    try:
        cards = count_cards(fetched.part, shown_as=fetched.url)
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
    except (OSError, *BAD_JSON) as error:
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


def _pieces(cache: Path, kind: str) -> list[Path]:
    """Partial downloads of lists."""
    return [path for path in cache.glob(f"{kind}-*{PART_SUFFIX}") if _is_ours(path, kind)]


def expected_cards(card_list: Path) -> int | None:
    """How many cards `card_list` had when it was downloaded; None if it was put there by hand."""
    for kind in LIST_KINDS:
        kept = _kept_description(card_list.parent, kind)
        if kept and kept.file == card_list.name:
            return kept.cards
    return None


def kept_lists(cache: Path) -> list[Path]:
    """Every complete list in `cache`, of all kinds, including those put there by hand."""
    return [path for kind in LIST_KINDS for path in _dumps(cache, kind)]


def kept_files(cache: Path) -> list[Path]:
    """The lists downloaded into `cache`, of all kinds, whole or partial, and their descriptions."""
    found = [path for kind in LIST_KINDS for path in _dumps(cache, kind) if _is_ours(path, kind)]
    found += [path for kind in LIST_KINDS for path in _pieces(cache, kind)]
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
    return age if age >= timedelta(0) else timedelta.max  # the clock was set back
