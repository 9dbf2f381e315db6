"""Stage 1, card list -> image cache: every face's picture that is not there yet, fetched by many workers at once.

Two runs may share one cache: a file gets its name whole and in one step, so the worst that happens is that both fetch
the same picture. That is why nobody is locked out of it (the list alone is fetched by one run at a time).
"""

import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from helpers.artifacts import CACHE_LOCK
from helpers.atomic_io import filesystem_time_ns, shared_folder, writable_folder
from helpers.card_list import FaceTally, iter_faces, told_faces
from helpers.cli_validation import DownloadArgs
from helpers.download_report import (
    Checked,
    DownloadReport,
    Failure,
    LastReport,
    Outcome,
    Selection,
    Status,
    Wanted,
    nothing_to_retry,
    read_last,
)
from helpers.errors import Category, DiskFull, PipelineError
from helpers.image_cache import ImageCache
from helpers.machine_limits import affordable_workers, require_room
from helpers.records import MEAN_BYTES, CardFace
from helpers.scryfall import FRESH_FOR, ensure_card_list
from helpers.session import BadBody, DownloadSession, FetchFailed, MissingPicture
from helpers.talk import Progress, say, warn
from helpers.throttle import TurnedAway
from helpers.validation import BrokenImage, check_image

EXIT_NOTHING_FETCHED = 2
AHEAD_PER_WORKER = 4  # bounds memory: faces are streamed, not held
SAMPLE = 8  # pictures whose sizes are asked for where the room seems to be short
GRACE_SECONDS = 2.0  # for workers to finish the file they are writing when the run is interrupted


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run has before it: the pictures, and what is known of them beforehand."""

    selection: Selection
    wanted: Callable[[], Iterable[Wanted]]  # streamed anew at each call
    total: int
    absent: int  # have no file in the cache
    sample: tuple[Wanted, ...]  # some of these
    failed_before: dict[str, Failure] = field(default_factory=dict)  # by URL: what a retry has not come to yet


def download(args: DownloadArgs) -> DownloadReport:
    """Bring the pictures of the list's faces into the cache and leave a report beside them.

    Raises PipelineError (exit 1): where the list can't be had, or the folder not written to, or it has no room. Where
    the server turns us away, the report says so, for `require_enough`.
    """
    folder = writable_folder(args.cache, "--cache")
    report = DownloadReport(folder)
    if args.limit == 0:
        say("--limit 0: no faces wanted, nothing to download")
        return report
    last = read_last(folder)
    workers = affordable_workers(args.workers)
    session = DownloadSession(
        api_url=args.api_url,
        user_agent=args.user_agent,
        workers=workers,
        connect_timeout=args.timeout_connect,
        read_timeout=args.timeout_read,
        max_retries=args.max_retries,
    )
    with shared_folder(folder, CACHE_LOCK):
        plan = _retry_plan(args, last) if args.retry_failed else _list_plan(args, session)
        checked = last.checked if last else None
        covered = checked is not None and checked.selection.covers(plan.selection)
        cache = ImageCache(folder, checked_until_ns=checked.until_ns if covered and checked else 0)
        if not args.offline:
            _require_room(plan, folder, session)
        with _reported(report, args, plan, last):
            if args.retry_failed and last:
                report.counts[Status.PRESENT] = last.already_present + last.fetched
            _bring(plan, cache, None if args.offline else session, workers, report)
    return report


def require_enough(report: DownloadReport, args: DownloadArgs) -> None:
    """PipelineError where pictures were wanted and none is there, or more than --max-failures failed (exit 2).

    And where the server turned us away: exit 2 if nothing is there, else 1.
    """
    if report.ended_by is not None:
        report.ended_by.exit_code = report.ended_by.exit_code if report.present else EXIT_NOTHING_FETCHED
        raise report.ended_by
    if not report.total:
        return
    failed_percent = 100 * report.failures / report.total
    if report.present and failed_percent <= args.max_failures:
        return
    first = report.first_failure
    raise PipelineError.of(
        Category.NETWORK,
        f"more than {args.max_failures:g} % of the pictures could not be had"
        if report.present
        else "none of the pictures could be had",
        details=f"{report.failures:,} of {report.total:,} failed"
        + (f"; first failure: {first.wanted.url}: {first.reason}" if first else ""),
        suggestion="see download_report.json in the cache directory, then run the same command again"
        + (" without --offline" if args.offline else ""),
        exit_code=EXIT_NOTHING_FETCHED,
    )


# ---------------------------------------------------------------------------------------------------- what is wanted


def _list_plan(args: DownloadArgs, session: DownloadSession) -> Plan:
    """Every face of the card list, which is fetched where none is kept."""
    card_list = ensure_card_list(
        args.cache,
        args.kind,
        args.api_url,
        None if args.offline else session,
        refresh=args.refresh,
        keep_for=FRESH_FOR,
    )

    def again() -> Iterator[Wanted]:
        faces = iter_faces(card_list, args.image_key, args.limit, FaceTally(), args.filters)
        return map(_wanted, faces)

    selection = Selection(args.kind, args.image_key, args.limit, args.filters.to_json())
    told = map(_wanted, told_faces(card_list, args.image_key, args.limit, args.filters))
    return _plan(args, selection, again, told)


def _retry_plan(args: DownloadArgs, last: LastReport | None) -> Plan:
    """What the last report lists, as it lists it: no list is read."""
    if last is None:
        raise nothing_to_retry(args.cache)
    wanted = [failure.wanted for failure in islice(last.failures, args.limit)]
    if not wanted:
        say("The last report lists no failure: nothing to try again")
    plan = _plan(args, last.selection, lambda: wanted, wanted)
    return replace(plan, failed_before={failure.url: failure for failure in last.failures})


def _wanted(face: CardFace) -> Wanted:
    return Wanted(face.image_url, face.name, face.face_id)


def _plan(
    args: DownloadArgs, selection: Selection, again: Callable[[], Iterable[Wanted]], wanted: Iterable[Wanted]
) -> Plan:
    """Count beforehand, in a pass of its own: for the ETA, and for the room on the disk."""
    cache = ImageCache(args.cache)
    total = absent = 0
    sample: list[Wanted] = []
    for picture in wanted:
        total += 1
        if not os.path.exists(cache.path_for(picture.url)):  # noqa: PTH110  # half the time of pathlib's, 540,000 times
            absent += 1
            if len(sample) < SAMPLE:
                sample.append(picture)
    return Plan(selection, again, total, absent, tuple(sample))


def _require_room(plan: Plan, folder: Path, session: DownloadSession) -> None:
    """DiskFull where the pictures won't fit, by Scryfall's mean size, and by that of a sample too."""
    try:
        require_room(folder, plan.absent, MEAN_BYTES[plan.selection.image_key])
    except DiskFull:
        sizes = [size for picture in plan.sample if (size := session.content_length(picture.url))]
        if not sizes:
            raise
        require_room(folder, plan.absent, sum(sizes) / len(sizes))


# ----------------------------------------------------------------------------------------------------- how it is had


@contextmanager
def _reported(report: DownloadReport, args: DownloadArgs, plan: Plan, last: LastReport | None) -> Iterator[None]:
    """Write the report when the block ends, however it does; a run that is broken off leaves one too."""
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
        require_room(report.folder, max(1, plan.absent - fetched), mean)  # says how much more it takes
        raise
    finally:
        report.seconds = time.monotonic() - started
        try:
            _write(report, args, plan, last)
        except PipelineError as error:
            if not failed:
                raise
            warn(f"no report: {error}")  # what broke the run off is what the user must read


def _write(report: DownloadReport, args: DownloadArgs, plan: Plan, last: LastReport | None) -> None:
    checked = last.checked if last else None
    complete = report.total == plan.total
    if args.retry_failed and last:
        if not last.failures:
            return  # nothing was done that an earlier report does not say
        complete = last.complete
        for failure in plan.failed_before.values():
            report.add_again(failure)
    elif complete:
        checked = Checked(plan.selection, filesystem_time_ns(report.folder / CACHE_LOCK))
    report.write(plan.selection, args.api_url, complete=complete, checked=checked)


def _bring(
    plan: Plan, cache: ImageCache, session: DownloadSession | None, workers: int, report: DownloadReport
) -> None:
    """Fetch what is not there, and count what becomes of each picture; without a session only look."""

    def at_a_glance(wanted: Wanted) -> Outcome | None:
        return Outcome(wanted, Status.PRESENT) if cache.is_known_whole(wanted.url) else None

    work = _fetch(cache, session) if session else _offline_fetch(cache)
    stop = session.close if session else lambda: None
    with Progress("Downloading", plan.total, "pictures", report.progress_note) as progress:
        for outcome in _in_parallel(at_a_glance, work, plan.wanted(), workers, stop):
            report.add(outcome)
            plan.failed_before.pop(outcome.wanted.url, None)
            if outcome.status is Status.PRESENT:
                progress.already()
            else:
                progress.advance()


def _fetch(cache: ImageCache, session: DownloadSession) -> Callable[[Wanted], Outcome]:
    decoders = threading.BoundedSemaphore(os.cpu_count() or 1)  # more at a time are no faster, but need more memory

    def whole(body: bytes) -> bytes:
        try:
            with decoders:
                check_image(body)
        except BrokenImage as error:
            raise BadBody(str(error)) from error
        return body

    def fetch(wanted: Wanted) -> Outcome:
        if cache.has(wanted.url):
            return Outcome(wanted, Status.PRESENT)
        if cache.path_for(wanted.url).is_dir():
            return Outcome(wanted, Status.FAILED, reason="a directory has its name in the cache")
        try:
            body = session.get_picture(wanted.url, whole)
        except MissingPicture as error:
            return Outcome(wanted, Status.MISSING, reason=str(error))
        except FetchFailed as error:
            return Outcome(wanted, Status.FAILED, reason=str(error))
        cache.store(wanted.url, body)
        return Outcome(wanted, Status.FETCHED, len(body))

    return fetch


def _offline_fetch(cache: ImageCache) -> Callable[[Wanted], Outcome]:
    def look(wanted: Wanted) -> Outcome:
        if cache.has(wanted.url):
            return Outcome(wanted, Status.PRESENT)
        return Outcome(wanted, Status.FAILED, reason="not in the cache, and --offline forbids to fetch it")

    return look


def _in_parallel(
    at_a_glance: Callable[[Wanted], Outcome | None],
    work: Callable[[Wanted], Outcome],
    pictures: Iterable[Wanted],
    workers: int,
    stop: Callable[[], None],
) -> Iterator[Outcome]:
    """Yield what becomes of each picture as it gets known: `at_a_glance`, or by `work`, which `workers` do at a time.

    An exception of `work` ends it all. The threads are daemons, unlike an executor's: one that hangs in a silent
    connection must not hold up Ctrl-C.
    """
    todo: queue.SimpleQueue[Wanted | None] = queue.SimpleQueue()
    done: queue.SimpleQueue[Outcome | BaseException] = queue.SimpleQueue()

    def labour() -> None:
        while (wanted := todo.get()) is not None:
            try:
                done.put(work(wanted))
            except BaseException as error:  # noqa: BLE001  # raised again by whoever takes it from the queue
                done.put(error)
                return

    threads = [threading.Thread(target=labour, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    coming = iter(pictures)
    under_way = 0
    try:
        while True:
            while under_way < workers * AHEAD_PER_WORKER and (wanted := next(coming, None)) is not None:
                if (known := at_a_glance(wanted)) is not None:
                    yield known
                else:
                    todo.put(wanted)
                    under_way += 1
            if not under_way:
                return
            outcome = done.get()
            under_way -= 1
            if isinstance(outcome, BaseException):
                raise outcome
            yield outcome
    finally:
        stop()
        for _ in threads:
            todo.put(None)
        deadline = time.monotonic() + GRACE_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
