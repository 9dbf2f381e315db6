"""Stage 1, card list -> image cache: every face's picture that is not there yet, fetched by many workers at once."""

import json
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from pathlib import Path

from helpers.about import VERSION
from helpers.artifacts import CACHE_LOCK, DOWNLOAD_REPORT
from helpers.atomic_io import atomic_write_json, shared_folder, utc_timestamp, writable_folder
from helpers.cli_validation import DownloadArgs
from helpers.errors import Category, PipelineError
from helpers.image_cache import ImageCache
from helpers.records import CardFace
from helpers.scryfall import FRESH_FOR, counted_faces, ensure_card_list
from helpers.session import BadBody, DownloadSession, FetchFailed, MissingPicture
from helpers.talk import Progress, human_bytes, percent, say
from helpers.validation import BrokenImage, decode_image

EXIT_NOTHING_FETCHED = 2
FACES_AHEAD_PER_WORKER = 4  # bounds memory: faces are streamed, not held
GRACE_SECONDS = 2.0  # for workers to finish the file they are writing when the run is interrupted


class Status(Enum):
    """How it ended for one face."""

    PRESENT = "already present"
    FETCHED = "fetched"
    MISSING = "missing at the server"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one face's picture."""

    face: CardFace
    status: Status
    size_bytes: int = 0
    reason: str = ""


@dataclass(slots=True)
class DownloadReport:
    """Counts outcomes, keeps the failures, and says how it went."""

    counts: Counter[Status] = field(default_factory=Counter)
    size_bytes: int = 0
    failures: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Count one face."""
        self.counts[outcome.status] += 1
        self.size_bytes += outcome.size_bytes
        if outcome.reason:
            self.failures.append(outcome)

    @property
    def total(self) -> int:
        """Faces looked at."""
        return self.counts.total()

    @property
    def present(self) -> int:
        """Faces whose picture is in the cache now."""
        return self.counts[Status.PRESENT] + self.counts[Status.FETCHED]

    def progress_note(self) -> str:
        """Bytes and failures so far, for the progress line."""
        return f"{human_bytes(self.size_bytes)}, {len(self.failures)} failed"

    def summary(self) -> str:
        """What the user reads at the end."""
        fetched = self.counts[Status.FETCHED]
        rate = f"{fetched / self.seconds:.1f} pictures/s" if fetched and self.seconds else "N/A"
        return "\n".join(
            [
                f"Faces: {self.total:,}",
                f"  already present: {self.counts[Status.PRESENT]:,}",
                f"  fetched: {fetched:,} ({human_bytes(self.size_bytes)} in {self.seconds:.1f} s, {rate})",
                f"  missing at the server: {self.counts[Status.MISSING]:,}",
                f"  failed: {self.counts[Status.FAILED]:,}",
                f"Success rate: {percent(self.present, self.total)}",
                *([f"Each failure and its reason: {DOWNLOAD_REPORT} in the cache directory"] if self.failures else []),
            ]
        )

    def write(self, path: Path, args: DownloadArgs, *, complete: bool) -> None:
        """Write the report file: the counts, and every failure with its URL, card and reason.

        The time of a complete one says, too, until when its pictures were found whole: see ImageCache.
        """
        atomic_write_json(
            path,
            {
                "version": VERSION,
                "timestamp": utc_timestamp(),
                "complete": complete,
                "kind": args.kind,
                "image_key": args.image_key,
                "limit": args.limit,
                "api_url": args.api_url,
                "total_faces": self.total,
                "already_present": self.counts[Status.PRESENT],
                "fetched": self.counts[Status.FETCHED],
                "missing": self.counts[Status.MISSING],
                "failed": self.counts[Status.FAILED],
                "size_bytes": self.size_bytes,
                "seconds": round(self.seconds, 3),
                "failures": [
                    {
                        "url": outcome.face.image_url,
                        "card": outcome.face.name,
                        "face_id": outcome.face.face_id,
                        "status": outcome.status.name.lower(),
                        "reason": outcome.reason,
                    }
                    for outcome in self.failures
                ],
            },
        )


def download(args: DownloadArgs) -> DownloadReport:
    """Bring the pictures of the list's faces into the cache and leave a report beside them.

    Raises PipelineError: where the list can't be had or the folder not written to (exit 1), where none of the pictures
    is there in the end or too many failed (exit 2).
    """
    folder = writable_folder(args.cache, "--cache")
    report_path = folder / DOWNLOAD_REPORT
    cache = ImageCache(folder, checked_until_ns=_checked_until_ns(report_path, args))
    session = DownloadSession(
        user_agent=args.user_agent,
        workers=args.workers,
        connect_timeout=args.timeout_connect,
        read_timeout=args.timeout_read,
        max_retries=args.max_retries,
    )
    report = DownloadReport()
    if args.limit == 0:
        say("--limit 0: no faces wanted, nothing to download")
        return report
    with shared_folder(cache.root, CACHE_LOCK):
        card_list = ensure_card_list(
            folder,
            args.kind,
            args.api_url,
            None if args.offline else session,
            refresh=args.refresh,
            keep_for=FRESH_FOR,
        )
        faces, total = counted_faces(card_list, args.image_key, args.limit)
        started = time.monotonic()
        fetch = _offline_fetch(cache) if args.offline else _fetch(cache, session)
        try:
            with Progress("Downloading", total, "pictures", report.progress_note) as progress:
                for outcome in _in_parallel(fetch, faces, args.workers, session.close):
                    report.add(outcome)
                    progress.advance()
        finally:  # a run that is broken off leaves its report too
            report.seconds = time.monotonic() - started
            report.write(report_path, args, complete=report.total == total)
    return report


def require_enough(report: DownloadReport, args: DownloadArgs) -> None:
    """PipelineError (exit 2) where pictures were wanted and none is there, or more than --max-failures failed."""
    if not report.total:
        return
    first = (
        f"first failure: {report.failures[0].face.image_url}: {report.failures[0].reason}" if report.failures else ""
    )
    failed_percent = 100 * len(report.failures) / report.total
    if report.present and failed_percent <= args.max_failures:
        return
    raise PipelineError.of(
        Category.NETWORK,
        f"more than {args.max_failures:g} % of the pictures could not be had"
        if report.present
        else "none of the pictures could be had",
        details=f"{len(report.failures):,} of {report.total:,} failed; {first}",
        suggestion=f"see {DOWNLOAD_REPORT} in the cache directory, then run the same command again"
        + (" without --offline" if args.offline else ""),
        exit_code=EXIT_NOTHING_FETCHED,
    )


def _checked_until_ns(report_path: Path, args: DownloadArgs) -> int:
    """When a run that looked at every face of this one came to its end; 0 where none did."""
    try:
        last = json.loads(report_path.read_bytes())
        same_faces = [last["kind"], last["image_key"]] == [args.kind, args.image_key]
        if last["complete"] and same_faces and last["limit"] in (None, args.limit):
            return report_path.stat().st_mtime_ns
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no report, or none of ours: then every file is decoded, which is only slower
    return 0


def _fetch(cache: ImageCache, session: DownloadSession) -> Callable[[CardFace], Outcome]:
    def whole(body: bytes) -> bytes:
        try:
            decode_image(body)
        except BrokenImage as error:
            raise BadBody(str(error)) from error
        return body

    def fetch(face: CardFace) -> Outcome:
        if cache.has(face.image_url):
            return Outcome(face, Status.PRESENT)
        if cache.path_for(face.image_url).is_dir():
            return Outcome(face, Status.FAILED, reason="a directory has its name in the cache")
        try:
            body = session.get_picture(face.image_url, whole)
        except MissingPicture as error:
            return Outcome(face, Status.MISSING, reason=str(error))
        except FetchFailed as error:
            return Outcome(face, Status.FAILED, reason=str(error))
        cache.store(face.image_url, body)
        return Outcome(face, Status.FETCHED, len(body))

    return fetch


def _offline_fetch(cache: ImageCache) -> Callable[[CardFace], Outcome]:
    def look(face: CardFace) -> Outcome:
        if cache.has(face.image_url):
            return Outcome(face, Status.PRESENT)
        return Outcome(face, Status.FAILED, reason="not in the cache, and --offline forbids to fetch it")

    return look


def _in_parallel(
    work: Callable[[CardFace], Outcome], faces: Iterable[CardFace], workers: int, stop: Callable[[], None]
) -> Iterator[Outcome]:
    """Yield `work(face)` for each face as it gets done, `workers` at a time; an exception of `work` ends it all.

    The threads are daemons, unlike an executor's: one that hangs in a silent connection must not hold up Ctrl-C.
    """
    todo: queue.SimpleQueue[CardFace | None] = queue.SimpleQueue()
    done: queue.SimpleQueue[Outcome | BaseException] = queue.SimpleQueue()

    def labour() -> None:
        while (face := todo.get()) is not None:
            try:
                done.put(work(face))
            except BaseException as error:  # noqa: BLE001  # raised again by whoever takes it from the queue
                done.put(error)
                return

    threads = [threading.Thread(target=labour, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    coming = iter(faces)
    under_way = 0
    try:
        while True:
            for face in islice(coming, workers * FACES_AHEAD_PER_WORKER - under_way):
                todo.put(face)
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
