"""One throttle for all workers: it decides when a request may be sent.

If a server asks for a pause, every worker pauses. Afterwards requests resume gently: one alone, then one more at a time
for each answer (slow start, as in TCP: RFC 5681, 3.1), so that a server still in trouble meets a single request and not
all workers at once. Silence allows one more, too, but later. A run begins the same way, with a few. urllib3's Retry
can't do that: it knows only one request, so each worker would pause by itself while the others carry on and earn a ban.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from helpers.errors import Category, PipelineError
from helpers.talk import warn

FIRST_REQUESTS = 4  # at a time, when a run begins; one after a pause
MAX_PAUSE_SECONDS = 600.0
MAX_PAUSES_IN_A_ROW = 10  # a server that answers nothing but 429 ends the run
MAX_OWN_PAUSE_SECONDS = 60.0
SILENCE_SECONDS = 0.25


class Stopped(Exception):
    """The run ended while a request was waiting or in flight."""


class TurnedAway(PipelineError):
    """The server rejects our requests, or wants too long a pause (Network Error); the whole run ends."""


class Throttle:
    """Allows at most `workers` requests in flight, fewer after a pause, none during one.

    Times are seconds of a monotonic clock, so setting the system clock does not affect pauses; `now` and `sleep` are
    there for tests.
    """

    def __init__(
        self, workers: int, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self._workers, self._now, self._sleep = workers, now, sleep
        self._changed = threading.Condition()
        self._stopped = False
        self._window = min(FIRST_REQUESTS, workers)  # requests that may be in flight
        self._grown_at = now()
        self._under_way = 0  # in this round: requests sent before a pause no longer count after it
        self._round = 0
        self._paused_until = self._next_from = -float("inf")
        self._pauses_in_a_row = 0
        self._is_held = False

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until a request may be sent; it is in flight until the block ends. Raises Stopped once the run ends."""
        entered = self._enter()
        try:
            yield
        finally:
            with self._changed:
                if entered == self._round:
                    self._under_way -= 1
                self._changed.notify()

    def _enter(self) -> int:
        while True:
            with self._changed:
                if self._stopped:
                    raise Stopped
                if self._is_held:
                    self._changed.wait()
                    continue
                pause = max(self._paused_until, self._next_from) - self._now()
                if pause <= 0:
                    self._grow_in_silence()
                    if self._under_way < self._window:
                        self._under_way += 1
                        return self._round
                    self._changed.wait(SILENCE_SECONDS)
                    continue
            self._sleep(pause)

    def _grow_in_silence(self) -> None:
        """If nothing is answered at all, allow one more request now and then: a few may just hang."""
        now = self._now()
        if self._under_way >= self._window and now - max(self._grown_at, self._paused_until) >= SILENCE_SECONDS:
            self._window = min(self._window + 1, self._workers)
            self._grown_at = now

    def answered(self) -> None:
        """Note a normal answer: one more request may be in flight, if many are (RFC 7661: else it shows nothing).

        During a pause it is ignored: it answers a request sent before the pause.
        """
        with self._changed:
            if self._now() < self._paused_until:
                return
            if 2 * self._under_way > self._window:
                self._window = min(self._window + 1, self._workers)
                self._grown_at = self._now()
            self._pauses_in_a_row = 0
            self._changed.notify()

    def pause(self, seconds: float, why: str) -> None:
        """Pause every worker for `seconds`, longer if earlier pauses did not help; TurnedAway if that is too much."""
        if seconds > MAX_PAUSE_SECONDS:
            self.stop()
            raise _turned_away(f"it asks for a pause of {seconds:.0f} s ({why} with Retry-After)")
        with self._changed:
            now = self._now()
            if now >= self._paused_until:  # only the first worker: the others' requests were already in flight
                seconds = max(seconds, min(2.0**self._pauses_in_a_row, MAX_OWN_PAUSE_SECONDS))
                self._pauses_in_a_row += 1
                warn(f"{why}: every worker pauses for {seconds:.0f} s")
            self._paused_until = max(self._paused_until, now + seconds)
            self._window, self._under_way = 1, 0
            self._round += 1
            if self._pauses_in_a_row > MAX_PAUSES_IN_A_ROW:
                self.stop()
                raise _turned_away(f"{MAX_PAUSES_IN_A_ROW} pauses in a row, and it asks for another ({why})")

    def narrow(self) -> None:
        """Allow one request at a time, and the next a moment later, until there is a normal answer."""
        with self._changed:
            self._window = 1
            self._grown_at = self._next_from = self._now() + SILENCE_SECONDS

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let nobody send a request during the block; afterwards they resume gently, as after a pause."""
        with self._changed:
            self._is_held = True
        try:
            yield
        finally:
            with self._changed:
                self._is_held, self._window, self._grown_at = False, 1, self._now()
                self._changed.notify_all()

    def stop(self) -> None:
        """Wake all waiting workers; they raise Stopped."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


def _turned_away(details: str) -> TurnedAway:
    return TurnedAway.of(
        Category.NETWORK,
        "the server does not want more requests for now",
        details=details,
        suggestion="run the same command again later, with fewer --workers; what was downloaded is kept",
    )
