"""What a server's answer means: whether it is final or worth a retry, and when to retry.

Scryfall's rules: https://scryfall.com/docs/api (10 requests a second; 429 means pause).
"""

import email.utils
import random
import re
import time
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import urllib3

from helpers.net.throttle import MAX_PAUSE_SECONDS

PASSING_STATUS = frozenset({500, 502, 503, 504})
GONE_STATUS = frozenset({404, 410})
REFUSED_STATUS = frozenset({400, 401, 403})
REFUSALS = frozenset(f"HTTP {status}" for status in REFUSED_STATUS)  # as FetchFailed words it
PLACEHOLDER_HOST = "errors.scryfall.com"  # Scryfall redirects there for a picture it does not have

MAX_BACKOFF_SECONDS = 60.0
PAUSE_SECONDS = 30.0  # after a 429 without a usable Retry-After
MIN_PAUSE_SECONDS = 1.0  # "Retry-After: 0" is no licence to hammer


class MissingPicture(Exception):
    """The server has no such picture: 404, 410, or a redirect to its placeholder."""


class FetchFailed(Exception):
    """The URL could not be fetched; the text says why."""


class Refused(FetchFailed):
    """400, 401, 403: the server objects to the client rather than to the URL."""


class BadBody(Exception):
    """Raised by a caller's `accept`: the body arrived, but is not what was requested."""


class TryAgain(Exception):
    """An attempt failed; a retry may help, once it is due."""


class Passing(Exception):
    """A transient failure: a retry may help."""

    got_further = False  # a good part of a large file arrived first, so earlier tries no longer count


class BadRange(Passing):
    """The download can't be resumed; starting over may work."""


class PauseWanted(Exception):
    """The server asks for a pause of `seconds`."""

    def __init__(self, seconds: float, why: str, *, is_try: bool) -> None:
        self.seconds, self.why, self.is_try = seconds, why, is_try


@dataclass(slots=True)
class Attempts:
    """The attempts made for one URL, and when the next is due (monotonic seconds)."""

    tries: int = 0
    pauses: int = 0
    not_before: float = -float("inf")
    refused_before: bool = False  # in an earlier run, so another refusal is no news about the server


def judge(response: urllib3.BaseHTTPResponse) -> None:
    """Raise the exception that the status stands for; return if the body is what was requested."""
    status = response.status
    if status in (200, 206):
        return
    asked = retry_after_seconds(response.headers.get("Retry-After"), response.headers.get("Date"))
    if status == 429:
        pause = PAUSE_SECONDS if asked is None else max(MIN_PAUSE_SECONDS, asked)
        raise PauseWanted(pause, "429 Too Many Requests", is_try=False)  # the picture is not to blame
    if status == 416:
        raise BadRange("HTTP 416")
    if status == 503 and asked and asked <= MAX_PAUSE_SECONDS:  # a longer one concerns that picture, not us
        raise PauseWanted(max(MIN_PAUSE_SECONDS, asked), "503 Service Unavailable", is_try=True)
    if status < 200:
        raise Passing(f"HTTP {status}")  # the real response follows it, but http.client does not read that
    if status in GONE_STATUS:
        raise MissingPicture(f"HTTP {status}")
    if status in REFUSED_STATUS:
        raise Refused(f"HTTP {status}")
    raise (Passing if status in PASSING_STATUS else FetchFailed)(f"HTTP {status}")


def continues(response: urllib3.BaseHTTPResponse, start: int) -> bool:
    """Whether this is the file from byte `start` on (else it is the whole file). Raises BadRange for any other part."""
    if response.status != 206:
        return False
    where = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if not where or int(where[1]) != start:
        raise BadRange(f"requested bytes from {start:,}, got {response.headers.get('Content-Range')!r}")
    return True


def next_hop(url: str, location: str) -> str:
    """Return a redirect's target; MissingPicture if it is the placeholder, FetchFailed if it must not be followed."""
    try:
        target = urljoin(url, location)
        parts = urlsplit(target)
        host = parts.hostname
    except ValueError as error:
        raise FetchFailed(f"redirected to an invalid address: {error}") from error
    if host == PLACEHOLDER_HOST:
        raise MissingPicture("redirected to Scryfall's placeholder")
    if parts.scheme != urlsplit(url).scheme:
        raise FetchFailed(f"refused: redirected to another scheme, {target}")
    return target


def backoff_seconds(failures: int) -> float:
    """Backoff after the `failures`-th failure in a row: 1, 2, 4, 8, 16 … s plus up to 25 % jitter, at most 60 s.

    The jitter keeps workers that failed together from retrying together.
    """
    return min(float(2 ** min(failures - 1, 6)) * (1 + random.random() / 4), MAX_BACKOFF_SECONDS)


def retry_after_seconds(header: str | None, date: str | None = None) -> float | None:
    """Parse a Retry-After header, seconds or an HTTP date (RFC 9110, 10.2.3); None if it is unusable.

    A date is compared with the response's own `date`, if it has one: this machine's clock may be wrong, or jump.
    """
    if not header:
        return None
    if header.strip().isdecimal() and header.isascii():
        return float(header)
    try:
        until = email.utils.parsedate_to_datetime(header).timestamp()
    except (ValueError, OverflowError):
        return None
    try:
        now = email.utils.parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError):
        now = time.time()
    return max(0.0, until - now)


def reason(error: Exception) -> str:
    """The innermost cause in a few words; requests wraps it in three layers."""
    inner = innermost(error)
    text = str(inner) if len(str(inner)) < 200 else str(inner)[:200] + "…"
    return f"{type(inner).__name__}: {text}" if text else type(inner).__name__


def innermost(error: BaseException) -> BaseException:
    """The root cause."""
    while True:
        cause = getattr(error, "reason", None) or next((a for a in error.args if isinstance(a, BaseException)), None)
        if not isinstance(cause, BaseException):
            return error
        error = cause
