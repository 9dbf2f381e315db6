"""The stand-in's injected faults, and its request log."""

import hashlib
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from helpers.cli_validation import BrokenRule
from helpers.errors import Problem

LIST = "list:"  # before a kind: the fault affects the list and its description, not the pictures


class Fault(Enum):
    """A fault to inject."""

    TOO_MANY = "429"  # with Retry-After
    TOO_MANY_BARE = "429-bare"  # without
    UNAVAILABLE = "503"
    RESET = "reset"  # the connection is reset before a response
    TRUNCATED = "truncated"  # half the body, then the connection is closed
    HTML = "html"  # status 200, and an HTML page
    SOON = "soon"  # a redirect to Scryfall's placeholder
    SLOW = "slow"  # the body trickles in
    NOT_FOUND = "404"

    @property
    def stays(self) -> bool:
        """Whether retrying never helps."""
        return self in (Fault.SOON, Fault.NOT_FOUND)


@dataclass(frozen=True, slots=True)
class Share:
    """`percent` of the URLs (the list's or the pictures') have `fault`; or one in `every` requests has."""

    fault: Fault
    percent: float
    of_list: bool
    every: int = 0


def fault_shares(flag: str, text: str) -> tuple[Share, ...]:
    """Option rule: comma-separated KIND=PERCENT (default 100 %) or KIND@N, each optionally after list:."""
    shares = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        kind, counted, every = part.removeprefix(LIST).partition("@")
        kind, given, percent = kind.partition("=")
        try:
            fault = Fault(kind)
        except ValueError:
            raise _broken(flag, part, "name a known kind of fault") from None
        try:
            share = Share(
                fault,
                0.0 if counted else float(percent) if given else 100.0,
                part.startswith(LIST),
                int(every) if counted else 0,
            )
        except ValueError:
            raise _broken(flag, part, "give the share as a percentage, or N as a whole number") from None
        if not 0 <= share.percent <= 100 or share.every < 0 or (counted and not share.every):
            raise _broken(flag, part, "give shares of 0 to 100 percent, or an N of 1 or more")
        shares.append(share)
    for of_list in (False, True):
        if sum(share.percent for share in shares if share.of_list == of_list) > 100:
            raise _broken(flag, text, "add up to at most 100 percent")
    return tuple(shares)


def _broken(flag: str, part: str, rule: str) -> BrokenRule:
    kinds = ", ".join(fault.value for fault in Fault)
    return BrokenRule(
        Problem(
            f"{flag} must {rule}",
            f"received {flag} {part}",
            f"use {flag} 503=5,reset=2,429@3000 or {flag} list:503; kinds: {kinds}",
        )
    )


@dataclass(slots=True)
class FaultPlan:
    """Which URL fails how. The same seed and URLs give the same faults, in whatever order they are requested.

    A URL fails `times` times before it recovers; 0: forever.
    """

    shares: tuple[Share, ...] = ()
    times: int = 1
    seed: int = 0
    _given: Counter[str] = field(default_factory=Counter)
    _asked: Counter[bool] = field(default_factory=Counter)  # requests so far, for the list or not
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next_fault(self, path: str, *, of_list: bool) -> Fault | None:
        """How this request for `path` fails, if it does."""
        with self._lock:
            self._asked[of_list] += 1
            asked = self._asked[of_list]
        for share in self.shares:
            if share.every and share.of_list == of_list and asked % share.every == 0:
                return share.fault
        draw = int.from_bytes(hashlib.sha1(f"{self.seed} {path}".encode()).digest()[:8], "big") / 2**64 * 100
        for share in self.shares:
            if share.of_list != of_list:
                continue
            draw -= share.percent
            if draw < 0:
                return share.fault if self._is_due(path, share.fault) else None
        return None

    def _is_due(self, path: str, fault: Fault) -> bool:
        with self._lock:
            self._given[path] += 1
            return fault.stays or self.times == 0 or self._given[path] <= self.times


class RequestLog:
    """A JSON line per request: when it came, what it requested, its User-Agent, and the response."""

    def __init__(self, path: Path | None) -> None:
        self._file = open(path, "a", encoding="utf-8") if path else None  # noqa: SIM115  # open as long as it serves
        self._lock = threading.Lock()

    def add(self, **fields: Any) -> None:
        """Write one whole line and flush it: killing the server loses nothing."""
        if self._file is None:
            return
        with self._lock:
            print(json.dumps({"time": round(time.time(), 4), **fields}), file=self._file, flush=True)
