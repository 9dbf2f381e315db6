import threading
import time
from collections.abc import Callable

import pytest

from helpers.net.throttle import Stopped, Throttle, TurnedAway


class Crowd:
    """Workers that ask again and again; how many were under way at a time is noted."""

    def __init__(self, throttle: Throttle, workers: int) -> None:
        self.throttle = throttle
        self.lock = threading.Lock()
        self.under_way: list[str] = []
        self.seen: list[int] = []
        self.may_end = threading.Semaphore(0)
        self.threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]
        for thread in self.threads:
            thread.start()

    def _work(self) -> None:
        try:
            while True:
                with self.throttle.turn():
                    with self.lock:
                        self.under_way.append("")
                    self.may_end.acquire()
                    with self.lock:
                        self.under_way.pop()
                    self.throttle.answered()
        except Stopped:
            pass

    def settled(self) -> int:
        """How many are under way when no more come."""
        count, since = -1, time.monotonic()
        while time.monotonic() - since < 0.1:
            with self.lock:
                now = len(self.under_way)
            if now != count:
                count, since = now, time.monotonic()
            time.sleep(0.005)
        return count

    def end(self) -> None:
        self.throttle.stop()
        for _ in self.threads:
            self.may_end.release()
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive()


def answers(crowd: Crowd, count: int) -> int:
    for _ in range(count):
        crowd.may_end.release()
    return crowd.settled()


def test_a_run_begins_with_a_few_and_each_answer_allows_one_more() -> None:
    crowd = Crowd(Throttle(9, now=lambda: 0.0), 9)  # no time passes, so silence allows none
    try:
        assert crowd.settled() == 4
        assert [answers(crowd, n) for n in (1, 1, 2, 1, 1, 3)] == [5, 6, 8, 9, 9, 9]
    finally:
        crowd.end()


def test_a_server_that_never_answers_gets_one_request_more_now_and_then() -> None:
    crowd = Crowd(Throttle(3), 3)
    try:
        deadline = time.monotonic() + 30
        while crowd.settled() < 3:
            assert time.monotonic() < deadline
    finally:
        crowd.end()


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.time = 0.0
        self.changed = threading.Condition()

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        until = self.time + seconds
        with self.changed:
            self.changed.wait_for(lambda: self.time >= until, 10)

    def go_to(self, moment: float) -> None:
        with self.changed:
            self.time = moment
            self.changed.notify_all()


def test_after_a_pause_one_asks_first_and_the_others_follow(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    throttle = Throttle(4, clock.now, clock.sleep)
    crowd = Crowd(throttle, 4)
    try:
        answers(crowd, 8)
        throttle.pause(30, "429")
        throttle.pause(30, "429")  # of one that was on its way
        assert answers(crowd, 4) == 0
        clock.go_to(29)
        assert crowd.settled() == 0
        clock.go_to(30)
        assert crowd.settled() == 1
        assert answers(crowd, 1) == 2
        assert answers(crowd, 2) == 4
    finally:
        crowd.end()
    assert capsys.readouterr().err.count("every worker pauses for 30 s") == 1


def test_a_longer_pause_wins_and_a_shorter_one_does_not() -> None:
    clock = Clock()
    throttle = Throttle(1, clock.now, clock.sleep)
    for seconds in (5, 20, 10):
        throttle.pause(seconds, "429")
    throttle._sleep = clock.go_to
    with throttle.turn():
        assert clock.time == 20


def end(act: Callable[[], None]) -> str:
    with pytest.raises(TurnedAway) as caught:
        act()
    return caught.value.render()


def test_nobody_asks_while_all_are_held_and_then_one_does() -> None:
    throttle = Throttle(9, now=lambda: 0.0)
    crowd = Crowd(throttle, 9)
    try:
        with throttle.held():
            assert answers(crowd, 4) == 0
        assert [crowd.settled(), answers(crowd, 1)] == [1, 2]
    finally:
        crowd.end()


def test_a_narrowed_throttle_lets_one_ask_at_a_time_until_there_is_an_answer() -> None:
    clock = Clock()
    throttle = Throttle(9, clock.now, clock.sleep)
    throttle.narrow()
    crowd = Crowd(throttle, 9)
    try:
        assert crowd.settled() == 0
        clock.go_to(0.4)
        assert [crowd.settled(), answers(crowd, 1)] == [1, 2]
    finally:
        crowd.end()


def test_a_pause_of_more_than_ten_minutes_ends_the_run() -> None:
    Throttle(1).pause(600, "429")
    assert "601 s" in end(lambda: Throttle(1).pause(601, "429"))


def test_requests_from_before_a_pause_hold_nobody_up_after_it() -> None:
    clock = Clock()
    throttle = Throttle(2, clock.now, clock.sleep)
    entered = throttle.turn()
    entered.__enter__()
    throttle.pause(5, "429")
    clock.go_to(5)
    with throttle.turn():  # the one from before is still under way, and the window is 1
        pass
    entered.__exit__(None, None, None)
    assert throttle._under_way == 0


def test_pauses_that_do_not_help_get_longer_but_not_beyond_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    throttle = Throttle(1, clock.now, clock.sleep)
    for _ in range(10):
        clock.go_to(clock.time + 1000)
        throttle.pause(1, "503")
    told = [int(line.rpartition(" for ")[2].split()[0]) for line in capsys.readouterr().err.splitlines()]
    assert told == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    clock.go_to(clock.time + 1000)
    throttle.answered()
    throttle.pause(1, "503")
    assert "for 1 s" in capsys.readouterr().err
