"""Stage 1, card list -> image cache: every face's picture that is not there yet, fetched by many workers at once.

Two runs may share one cache: a file gets its name whole and in one step, so the worst that happens is that both fetch
the same picture. That is why nobody is locked out of it (the list alone is fetched by one run at a time).
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from helpers.artifacts import CACHE_LOCK
from helpers.atomic_io import filesystem_time_ns, shared_folder, writable_folder
from helpers.cards.bulk_list import FRESH_FOR, ensure_card_list
from helpers.cards.card_list import FaceTally, iter_faces, told_faces
from helpers.cards.faces import MEAN_BYTES, CardFace
from helpers.cards.image_cache import ImageCache
from helpers.cli_validation import DownloadArgs
from helpers.download.pool import FetchPool
from helpers.download.report import (
    Checked,
    DownloadReport,
    LastReport,
    Selection,
    Status,
    Wanted,
    failures_of,
    nothing_to_retry,
    read_last,
    require_place,
)
from helpers.errors import Category, DiskFull, PipelineError
from helpers.machine_limits import affordable_workers, require_room
from helpers.net.throttle import TurnedAway
from helpers.session import REFUSALS, DownloadSession
from helpers.talk import Progress, say, warn

EXIT_NOTHING_FETCHED = 2
LONGEST_NAME = 200  # of a card, in the report
SAMPLE = 8  # pictures whose sizes are asked for where the room seems to be short


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run has before it: the pictures, and what is known of them beforehand."""

    selection: Selection
    wanted: Callable[[], Iterable[Wanted]]  # streamed anew at each call
    total: int
    absent: int  # have no file in the cache
    sample: tuple[Wanted, ...]  # some of these


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
    require_place(folder)
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
        if args.retry_failed and last:
            report.counts[Status.PRESENT] = last.already_present + last.fetched
        pool = FetchPool(cache, None if args.offline else session, workers, _refused_before(folder))
        with _reported(report, args, plan, last):
            _bring(plan, pool, report)
    return report


def _refused_before(folder: Path) -> frozenset[str]:
    return frozenset(failure.url for failure in failures_of(folder) if failure.reason in REFUSALS)


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
    asked_for = Selection(args.kind, args.image_key, last.limit, args.filters.to_json())
    if last.selection != asked_for:
        warn(f"the last download was another one, and its failures are tried again: {last.selection}")
    if not last.complete:
        warn("the last download was broken off: without --retry-failed the same command goes on with the rest")

    def wanted() -> Iterator[Wanted]:
        return (failure.wanted for failure in islice(failures_of(args.cache), args.limit))

    plan = _plan(args, last.selection, wanted, wanted())
    if not plan.total:
        say("The last report lists no failure: nothing to try again")
    return plan


def _wanted(face: CardFace) -> Wanted:
    return Wanted(face.image_url, face.name[:LONGEST_NAME], face.face_id[:LONGEST_NAME])


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
    if args.retry_failed and not plan.total:
        return  # nothing was done that the last report does not say
    complete = last.complete if args.retry_failed and last else report.complete
    checked = last.checked if last else None
    if args.retry_failed or (not complete and last and last.selection == plan.selection):
        report.carry_over(failures_of(report.folder), ImageCache(report.folder))
    elif complete and not report.broken_files:  # else one that was found broken would count as checked
        checked = Checked(plan.selection, filesystem_time_ns(report.folder))
    report.write(plan.selection, args.api_url, complete=complete, checked=checked)


def _bring(plan: Plan, pool: FetchPool, report: DownloadReport) -> None:
    """Fetch what is not there, and count what becomes of each picture."""
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
