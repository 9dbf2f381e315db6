"""Stage 1, card list -> image cache: many workers download the pictures of all faces that are not there yet.

Two runs may share one cache: each file appears whole and in one step, so at worst both download the same picture. That
is why runs don't lock each other out (only the list is downloaded by one run at a time).
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path

import msgspec

from helpers.artifacts import CACHE_LOCK, DOWNLOAD_REPORT
from helpers.atomic_io import filesystem_time_ns, require_replaceable, writable_folder
from helpers.cards.bulk_list import FRESH_FOR, ensure_card_list
from helpers.cards.card_list import FaceTally, iter_faces, logged_faces
from helpers.cards.faces import CardFace, Selection
from helpers.cards.image_cache import ImageCache
from helpers.cards.sizes import MEAN_BYTES
from helpers.download.doubt import host_of
from helpers.download.pool import FetchPool
from helpers.download.report import (
    Checked,
    DownloadReport,
    LastReport,
    Status,
    Wanted,
    failures_of,
    nothing_to_retry,
    read_last,
)
from helpers.errors import Category, DiskFull, ExitCode, PipelineError
from helpers.locks import shared_folder
from helpers.machine_limits import affordable_workers, require_room
from helpers.net.throttle import TurnedAway
from helpers.session import DownloadSession, Http
from helpers.talk import Progress, say, warn

MAX_NAME_LENGTH = 200  # of a card, in the report
WITNESSES_IN_CACHE = 2
WITNESSES_SPREAD = (0.236, 0.618, 1.0)  # by the golden ratio, so that no regular pattern misses all of them


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run has to do: the pictures, and what is known about them beforehand."""

    selection: Selection
    retry: bool  # only what the last report lists
    wanted: Callable[[], Iterable[Wanted]]  # streamed afresh at each call
    total: int
    absent: int  # have no file in the cache
    listed: Callable[[], Iterable[Wanted]]  # by the card list: what an earlier run may have fetched


def download(
    cache: Path,
    selection: Selection,
    http: Http,
    *,
    refresh: bool = False,
    newest: bool = False,
    offline: bool = False,
    retry_failed: bool = False,
) -> DownloadReport:
    """Fetch the pictures of the selected faces into `cache` and leave a report beside them.

    `refresh` fetches the card list again, `newest` asks for a newer one, `offline` never uses the network,
    `retry_failed` fetches only what the last report lists. Raises PipelineError (exit 1) if there is no list or no
    room, or the folder can't be written to. If the server rejects us, the report says so to `require_enough`.
    """
    folder = writable_folder(cache, "--cache")
    report = DownloadReport(folder)
    if selection.limit == 0:
        say("--limit 0: no faces wanted, nothing to download")
        return report
    require_replaceable(folder / DOWNLOAD_REPORT, "the report", "move it away")
    last = read_last(folder)
    http = replace(http, workers=affordable_workers(http.workers))
    session = DownloadSession(http)
    with shared_folder(folder, CACHE_LOCK):
        online = None if offline else session
        listed = None if retry_failed else _list(folder, selection, online, refresh, newest)
        plan = _list_plan(folder, selection, listed) if listed else _retry_plan(folder, selection, last)
        checked = last.checked if last else None
        covered = checked is not None and checked.selection.covers(plan.selection)
        if not offline:
            require_room(folder, plan.absent, MEAN_BYTES[plan.selection.image_key])
        if retry_failed and last:
            report.counts[Status.PRESENT] = last.already_present + last.fetched
        known_whole = ImageCache(folder, checked_until_ns=checked.until_ns if covered and checked else 0)
        pool = FetchPool(known_whole, online, http.workers, partial(_witnesses, folder, plan))
        with _reported(report, plan, last, http.api_url):
            _fetch(plan, pool, report)
    return report


def require_enough(report: DownloadReport, max_failures: float = 100.0) -> None:
    """Raise PipelineError (exit 2) if pictures were wanted and none is there, or more than `max_failures` % failed.

    Also if the server rejected us (TurnedAway): exit 2 if nothing is there, else 1.
    """
    if report.ended_by is not None:
        report.ended_by.exit_code = report.ended_by.exit_code if report.present else ExitCode.NO_IMAGES
        raise report.ended_by
    if not report.total:
        return
    failed_percent = 100 * report.failures / report.total
    if report.present and failed_percent <= max_failures:
        return
    first = report.first_failure
    raise PipelineError.of(
        Category.NETWORK,
        f"more than {max_failures:g} % of the pictures could not be downloaded"
        if report.present
        else "none of the pictures could be downloaded",
        details=f"{report.failures:,} of {report.total:,} failed"
        + (f"; first failure: {first.wanted.url}: {first.reason}" if first else ""),
        suggestion="see download_report.json in the cache directory, then run the same command again",
        exit_code=ExitCode.NO_IMAGES,
    )


# ---------------------------------------------------------------------------------------------------- what is wanted


def _list(folder: Path, selection: Selection, session: DownloadSession | None, refresh: bool, newest: bool) -> Path:
    """The card list, downloaded if none is kept or a newer one is wanted."""
    keep_for = timedelta(0) if newest else FRESH_FOR
    return ensure_card_list(folder, selection.kind, session, refresh=refresh, keep_for=keep_for)


def _list_plan(folder: Path, selection: Selection, card_list: Path) -> Plan:
    """Plan every selected face of the card list."""

    def again() -> Iterator[Wanted]:
        return map(_wanted, iter_faces(card_list, selection, FaceTally()))

    return _plan(folder, selection, again, again, map(_wanted, logged_faces(card_list, selection)))


def _retry_plan(folder: Path, selection: Selection, last: LastReport | None) -> Plan:
    """Plan what the last report lists, as it lists it; the card list is not read."""
    if last is None:
        raise nothing_to_retry(folder)
    if last.selection != msgspec.structs.replace(selection, limit=last.limit):
        warn(f"the last download had other flags; its failures are retried: {last.selection}")
    if not last.complete:
        warn("the last download was cut short: run the same command without --retry-failed for the rest")

    def wanted() -> Iterator[Wanted]:
        return (failure.outcome.wanted for failure in islice(failures_of(folder), selection.limit))

    def listed() -> Iterator[Wanted]:
        with suppress(PipelineError):  # no list is needed here
            card_list = ensure_card_list(folder, last.selection.kind, None, refresh=False, keep_for=None)
            yield from map(_wanted, iter_faces(card_list, last.selection, FaceTally()))

    plan = _plan(folder, last.selection, wanted, listed, wanted(), retry=True)
    if not plan.total:
        say("The last report lists no failures: nothing to retry")
    return plan


def _wanted(face: CardFace) -> Wanted:
    return Wanted(face.image_url, face.name[:MAX_NAME_LENGTH], face.face_id[:MAX_NAME_LENGTH])


def _plan(
    folder: Path,
    selection: Selection,
    again: Callable[[], Iterable[Wanted]],
    listed: Callable[[], Iterable[Wanted]],
    wanted: Iterable[Wanted],
    *,
    retry: bool = False,
) -> Plan:
    """Count the pictures in a separate pass, for the ETA and the disk space."""
    cache = ImageCache(folder)
    total = absent = 0
    for picture in wanted:
        total += 1
        absent += not os.path.exists(cache.path_for(picture.url))  # noqa: PTH110  # half the time of pathlib's
    return Plan(selection, retry, again, total, absent, listed)


def _witnesses(folder: Path, plan: Plan, host: str) -> Iterator[str]:
    """Pictures at `host` that are likely to exist: some that are in the cache, then some from all over the list."""
    cache = ImageCache(folder)
    listed = (picture.url for picture in plan.listed() if host_of(picture.url) == host)
    yield from islice((url for url in listed if cache.path_for(url).exists()), WITNESSES_IN_CACHE)
    places = {int(plan.total * share - 0.5) for share in WITNESSES_SPREAD}
    spread = [picture.url for i, picture in enumerate(plan.wanted()) if i in places and host_of(picture.url) == host]
    yield from reversed(spread)  # the last first: what is refused now stands at the beginning


# --------------------------------------------------------------------------------------------------- how it is fetched


@contextmanager
def _reported(report: DownloadReport, plan: Plan, last: LastReport | None, api_url: str) -> Iterator[None]:
    """Write the report when the block ends, however it ends: an interrupted run leaves one, too."""
    started = time.monotonic()
    failed = True
    try:
        yield
        failed = False
    except TurnedAway as error:
        report.ended_by = error
        failed = False
    except DiskFull:
        fetched = report.counts[Status.FETCHED]
        mean = report.size_bytes / fetched if fetched else MEAN_BYTES[plan.selection.image_key]
        require_room(report.folder, max(1, plan.absent - fetched), mean)  # says how much more is needed
        raise
    finally:
        report.seconds = time.monotonic() - started
        try:
            _write(report, plan, last, api_url)
        except PipelineError as error:
            if not failed:
                raise
            warn(f"no report was written: {error}")  # the user must see what ended the run


def _write(report: DownloadReport, plan: Plan, last: LastReport | None, api_url: str) -> None:
    if plan.retry and not plan.total:
        return  # the last report still holds
    complete = last.complete if plan.retry and last else report.complete
    checked = last.checked if last else None
    if plan.retry or (not complete and last and last.selection == plan.selection):
        report.carry_over(failures_of(report.folder), ImageCache(report.folder))
    elif complete and not report.broken_files:  # else a file found broken would count as checked
        checked = Checked(plan.selection, filesystem_time_ns(report.folder))
    report.write(plan.selection, api_url, complete=complete, checked=checked)


def _fetch(plan: Plan, pool: FetchPool, report: DownloadReport) -> None:
    """Fetch what is missing, and count the outcome of each picture."""
    report.not_reached = plan.total
    with Progress("Downloading", plan.total, "pictures", report.progress_note) as progress:
        for outcome in pool.outcomes(plan.wanted()):
            report.add(outcome)
            report.not_reached = max(0, report.not_reached - 1)
            if outcome.status is Status.PRESENT:
                progress.already()
            else:
                progress.advance()
    report.complete, report.not_reached = True, 0
