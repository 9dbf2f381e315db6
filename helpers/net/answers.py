"""What a server's answer means: which are final, which may be mended by another try, and when that is due.

Scryfall's rules: https://scryfall.com/docs/api (10 requests a second; 429 means to stop for a while).
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
REFUSALS = frozenset(f"HTTP {status}" for status in REFUSED_STATUS)  # as FetchFailed says it
PLACEHOLDER_HOST = "errors.scryfall.com"  # where Scryfall redirects to for a picture it does not have

MAX_BACKOFF_SECONDS = 60.0
PAUSE_SECONDS = 30.0  # after a 429 that does not say how long
MIN_PAUSE_SECONDS = 1.0  # "Retry-After: 0" is no leave to hammer


class MissingPicture(Exception):
    """The server has no such picture: 404, 410, or a redirect to its placeholder."""


class FetchFailed(Exception):
    """The URL could not be fetched; the text says why."""


class Refused(FetchFailed):
    """400, 401, 403: it is about who asks."""


class BadBody(Exception):
    """Raised by a caller's `accept`: the bytes came, but they are not what was asked for."""


class TryAgain(Exception):
    """A try failed; another one may help, when it is due."""


class Passing(Exception):
    """A failure that another try may mend."""

    got_further = False  # it came after a good part of a large file, so it does not count as a try


class BadRange(Passing):
    """The rest of a file can't be had; all of it may be."""


class PauseWanted(Exception):
    """The server asks for a pause of `seconds`."""

    def __init__(self, seconds: float, why: str, *, is_try: bool) -> None:
        self.seconds, self.why, self.is_try = seconds, why, is_try


@dataclass(slots=True)
class Attempts:
    """What has been tried for one URL, and when the next try is due (monotonic seconds)."""

    tries: int = 0
    pauses: int = 0
    not_before: float = -float("inf")
    refused_before: bool = False  # by an earlier run: that says nothing about this one


def judge(response: urllib3.BaseHTTPResponse) -> None:
    """Raise what the status means, unless it is an answer with the bytes that were asked for."""
    status = response.status
    if status in (200, 206):
        return
    asked = retry_after_seconds(response.headers.get("Retry-After"), response.headers.get("Date"))
    if status == 429:
        pause = PAUSE_SECONDS if asked is None else max(MIN_PAUSE_SECONDS, asked)
        raise PauseWanted(pause, "429 Too Many Requests", is_try=False)  # the picture is not to blame
    if status == 416:
        raise BadRange("HTTP 416")
    if status == 503 and asked and asked <= MAX_PAUSE_SECONDS:  # a longer one is about that picture, not about us
        raise PauseWanted(max(MIN_PAUSE_SECONDS, asked), "503 Service Unavailable", is_try=True)
    if status < 200:
        raise Passing(f"HTTP {status}")  # the answer itself is behind it, where http.client does not look
    if status in GONE_STATUS:
        raise MissingPicture(f"HTTP {status}")
    if status in REFUSED_STATUS:
        raise Refused(f"HTTP {status}")
    raise (Passing if status in PASSING_STATUS else FetchFailed)(f"HTTP {status}")


def continues(response: urllib3.BaseHTTPResponse, start: int) -> bool:
    """Whether this is the part from byte `start` to the end; else it is the whole file. BadRange for another part."""
    if response.status != 206:
        return False
    where = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if not where or int(where[1]) != start:
        raise BadRange(f"asked for the bytes from {start:,}, got {response.headers.get('Content-Range')!r}")
    return True


def next_hop(url: str, location: str) -> str:
    """Where a redirect leads; MissingPicture where that is the placeholder, FetchFailed where it is not followed."""
    try:
        target = urljoin(url, location)
        parts = urlsplit(target)
        host = parts.hostname
    except ValueError as error:
        raise FetchFailed(f"redirected to no address: {error}") from error
    if host == PLACEHOLDER_HOST:
        raise MissingPicture("redirected to Scryfall's placeholder")
    if parts.scheme != urlsplit(url).scheme:
        raise FetchFailed(f"refused: redirected to another scheme, {target}")
    return target


def backoff_seconds(failures: int) -> float:
    """How long to wait after the `failures`-th failure in a row: 1, 2, 4, 8, 16 … 60 s, and up to a quarter more.

    The jitter keeps workers that failed together from coming back together.
    """
    return min(float(2 ** min(failures - 1, 6)) * (1 + random.random() / 4), MAX_BACKOFF_SECONDS)


def retry_after_seconds(header: str | None, date: str | None = None) -> float | None:
    """Read a Retry-After header, seconds or an HTTP date (RFC 9110, 10.2.3); None where it says nothing usable.

    A date is compared with the answer's own `date`, if it has one: this machine's clock may be wrong, or jump.
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
    """The innermost cause in a few words; requests wraps it three times over."""
    inner = innermost(error)
    text = str(inner) if len(str(inner)) < 200 else str(inner)[:200] + "…"
    return f"{type(inner).__name__}: {text}" if text else type(inner).__name__


def innermost(error: BaseException) -> BaseException:
    """What first went wrong."""
    while True:
        cause = getattr(error, "reason", None) or next((a for a in error.args if isinstance(a, BaseException)), None)
        if not isinstance(cause, BaseException):
            return error
        error = cause
