"""The threads of a download: some send requests, others check and store what arrives.

There are two kinds so that a connection never waits for a decoder or a disk: with 32 workers and 50 ms of latency that
would halve the rate. A failed picture goes back to the requesting threads, and the one that takes it waits out its
backoff: each failure slows down requests to a server in trouble, rather than just moving them to other pictures.
"""

import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256

from helpers.cards.image_cache import ImageCache
from helpers.download.doubt import Doubt, Odd, Witnesses
from helpers.download.report import Outcome, Status, Wanted
from helpers.machine_limits import usable_cores
from helpers.net.answers import Attempts, FetchFailed, MissingPicture, Refused, TryAgain
from helpers.net.throttle import Stopped, TurnedAway
from helpers.session import DownloadSession
from helpers.validation import BrokenImage, NotAPicture, check_image, is_unchanged

AHEAD_PER_WORKER = 3  # pictures in flight per worker; bounds memory, since lists are streamed
KEEPERS = min(4, usable_cores() + 1)  # one waits for the disk; each may hold a decoded picture of 96 MB
GRACE_SECONDS = 2.0  # for threads to finish the file they are writing when the run is interrupted


@dataclass(slots=True)
class _Task:
    """A picture in flight; `body` is what the server sent."""

    wanted: Wanted
    attempts: Attempts = field(default_factory=Attempts)
    body: bytes | None = None
    broken_file: bool = False  # a broken file is in its place
    odd: Odd | None = None  # it was refused


class FetchPool:
    """Downloads pictures into `cache` through `session`, `workers` requests at a time; without one, only checks it.

    The threads are daemons, unlike an executor's: one that hangs in a silent connection must not hold up Ctrl-C.
    """

    def __init__(
        self,
        cache: ImageCache,
        session: DownloadSession | None,
        workers: int,
        witnesses: Witnesses,
    ) -> None:
        self._cache, self._session, self._workers = cache, session, workers
        self._doubt = Doubt(session, witnesses) if session else None
        self._to_ask: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._to_keep: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Outcome | Odd | BaseException] = queue.SimpleQueue()

    def outcomes(self, pictures: Iterable[Wanted]) -> Iterator[Outcome]:
        """Yield the outcome of each picture as it becomes known; an exception in any thread ends the run."""
        threads = [self._start(partial(self._keep, self._session), self._to_keep) for _ in range(KEEPERS)]
        if self._session:
            ask = partial(self._ask, self._session)
            threads += [self._start(ask, self._to_ask) for _ in range(self._workers)]
        coming = iter(pictures)
        under_way = 0
        most = self._workers * AHEAD_PER_WORKER
        try:
            while True:
                while under_way < most and (wanted := next(coming, None)) is not None:
                    if (known := self._at_a_glance(wanted)) is not None:
                        yield known
                    else:
                        under_way += 1
                if not under_way:
                    break
                came = self._done.get()
                under_way -= not isinstance(came, Odd) or came.outcome is not None
                if isinstance(came, Stopped):
                    most = 0  # another thread's exception, which is on its way, is the reason
                    continue
                if isinstance(came, BaseException):
                    raise came
                yield from self._heed(came)
            if not most:
                raise Stopped
            yield from self._doubt.rest(ask=True) if self._doubt else ()
        except Exception:
            self._stop(threads)
            yield from self._left_over()
            yield from self._doubt.rest(ask=False) if self._doubt else ()
            raise
        finally:
            self._stop(threads)

    def _heed(self, came: Outcome | Odd) -> Iterator[Outcome]:
        if self._doubt:
            yield from self._doubt.heed(came)
        elif isinstance(came, Outcome):
            yield came

    def _at_a_glance(self, wanted: Wanted) -> Outcome | None:
        """The outcome of a picture if it is clear at once; else None, and the picture is queued."""
        path = self._cache.path_for(wanted.url)
        if is_unchanged(path, self._cache.checked_until_ns):
            return Outcome(wanted, Status.PRESENT)
        is_new = not os.path.lexists(path)
        if is_new and not self._session:
            return Outcome(wanted, Status.FAILED, reason="not in the cache, and --offline forbids fetching it")
        (self._to_ask if is_new else self._to_keep).put(_Task(wanted))
        return None

    def _ask(self, session: DownloadSession, task: _Task) -> None:
        """Send one request."""
        wanted = task.wanted
        try:
            task.body = session.try_picture(wanted.url, task.attempts)
        except TryAgain:
            self._to_ask.put(task)
        except MissingPicture as error:
            self._done.put(Outcome(wanted, Status.MISSING, reason=str(error), broken_file=task.broken_file))
        except Refused as error:
            outcome = Outcome(wanted, Status.FAILED, reason=str(error), broken_file=task.broken_file)
            task.odd = Odd(wanted, str(error), str(error), error.meaning, outcome)
            self._to_keep.put(task)  # behind the pictures that came before it
        except (FetchFailed, TurnedAway) as error:
            if isinstance(error, TurnedAway):
                self._done.put(error)  # first: it ends the run
            self._done.put(Outcome(wanted, Status.FAILED, reason=str(error), broken_file=task.broken_file))
        else:
            self._to_keep.put(task)

    def _keep(self, session: DownloadSession | None, task: _Task) -> None:
        """Check what arrived, or what is already there."""
        if task.odd:
            self._done.put(task.odd)
            return
        if session and task.body is not None:
            self._store(session, task, task.body)
            return
        wanted, path = task.wanted, self._cache.path_for(task.wanted.url)
        if self._cache.has(wanted.url):
            self._done.put(Outcome(wanted, Status.PRESENT))
        elif path.is_dir():
            self._done.put(Outcome(wanted, Status.FAILED, reason="a directory of that name is in the cache"))
        elif session:
            task.broken_file = True
            self._to_ask.put(task)
        else:
            reason = "broken, and --offline forbids fetching it again"
            self._done.put(Outcome(wanted, Status.FAILED, reason=reason, broken_file=True))

    def _store(self, session: DownloadSession, task: _Task, body: bytes) -> None:
        wanted, task.body = task.wanted, None
        try:
            check_image(body)
        except BrokenImage as error:
            sign = str(error) if isinstance(error, NotAPicture) else sha256(body).hexdigest()
            self._done.put(Odd(wanted, sign, str(error)))
            try:
                session.failed(task.attempts, str(error))
            except FetchFailed as last:
                self._done.put(Outcome(wanted, Status.FAILED, reason=str(last), broken_file=task.broken_file))
            else:
                self._to_ask.put(task)
            return
        self._cache.store(wanted.url, body)
        self._done.put(Outcome(wanted, Status.FETCHED, len(body)))

    def _start(self, do: Callable[[_Task], None], jobs: "queue.SimpleQueue[_Task | None]") -> threading.Thread:
        def work() -> None:
            while (job := jobs.get()) is not None:
                try:
                    do(job)
                except Stopped as stopped:
                    self._done.put(stopped)
                except BaseException as error:  # noqa: BLE001  # re-raised by whoever takes it from the queue
                    self._done.put(error)
                    return

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def _left_over(self) -> Iterator[Outcome]:
        """The outcomes of pictures that had arrived when the run was cut short."""
        while not self._done.empty():
            came = self._done.get()
            outcome = came.outcome if isinstance(came, Odd) else came
            if isinstance(outcome, Outcome):
                yield outcome

    def _stop(self, threads: list[threading.Thread]) -> None:
        if self._session:
            self._session.close()  # threads about to send a request end with Stopped
        for jobs in (self._to_ask, self._to_keep):
            for _ in threads:
                jobs.put(None)  # behind what has arrived: that is still stored
        deadline = time.monotonic() + GRACE_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        threads.clear()
