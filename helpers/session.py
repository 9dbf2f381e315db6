"""The HTTP session that all workers share: one connection pool, one way to retry, one pause. Only user of requests.

A request ends in one of three ways: its bytes, `MissingPicture` (the server says there is none; never retried) or
`FetchFailed` (after the last retry). urllib3's Retry is not used: its first wait is 0 s, it can't retry a body that
does not decode, and each worker would sit out a 429 by itself while the others go on and earn a ban.
Scryfall's rules: https://scryfall.com/docs/api (10 requests a second, 429 means to stop for a while).
"""

import email.utils
import queue
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import NewConnectionError

from helpers.errors import Category, PipelineError
from helpers.talk import human_bytes, warn
from helpers.validation import LARGEST_PICTURE_BYTES

T = TypeVar("T")
B = TypeVar("B", bytes, Path)

PASSING_STATUS = frozenset({500, 502, 503, 504})
GONE_STATUS = frozenset({404, 410})
PLACEHOLDER_HOST = "errors.scryfall.com"  # where Scryfall redirects to for a picture it does not have

LIST_INTERVAL_SECONDS = 0.1  # at most 10 requests a second for the list and its description
LONGEST_WAIT_SECONDS = 60.0
PAUSE_SECONDS = 30.0  # after a 429 that does not say how long
SHORTEST_PAUSE_SECONDS = 1.0  # "Retry-After: 0" is no leave to hammer
LONGEST_PAUSE_SECONDS = 600.0
MOST_PAUSES_IN_A_ROW = 10  # a server that answers nothing but 429 ends the run
PROBE_TIMEOUT_SECONDS = 4.0
MOST_REDIRECTS = 5
LARGEST_DESCRIPTION_BYTES = 4_000_000
_CHUNK_BYTES = 1 << 16


class MissingPicture(Exception):
    """The server has no such picture: 404, 410, or a redirect to its placeholder."""


class FetchFailed(Exception):
    """The URL could not be fetched; the text says why."""


class BadBody(Exception):
    """Raised by a caller's `accept`: the bytes came, but they are not what was asked for."""


class Stopped(Exception):
    """The session was closed while a request was waiting or under way."""


class _Passing(Exception):
    """A failure that another try may mend."""


class _TooManyRequests(Exception):
    def __init__(self, pause_seconds: float) -> None:
        self.pause_seconds = pause_seconds


class DownloadSession:
    """A pooled session for `workers` threads. All times are in seconds; `now` and `sleep` are there for tests."""

    def __init__(
        self,
        *,
        user_agent: str,
        workers: int,
        connect_timeout: float,
        read_timeout: float,
        max_retries: int,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._stop = threading.Event()
        self._sleep = sleep or self._stop.wait
        self._now = now
        self._timeout = (connect_timeout, read_timeout)
        self._max_retries = max_retries
        self._lock = threading.Lock()
        self._next_list_request = -float("inf")
        self._paused_until = -float("inf")
        self._pauses_in_a_row = 0
        self._http = requests.Session()
        # A pool smaller than the workers would throw connections away; retries are ours, see above.
        adapter = HTTPAdapter(pool_connections=workers, pool_maxsize=workers, max_retries=0)
        self._http.mount("https://", adapter)
        self._http.mount("http://", adapter)
        # identity: a gzip file must arrive as it is, to be decoded exactly once.
        self._http.headers.update({"User-Agent": user_agent, "Accept": "*/*", "Accept-Encoding": "identity"})

    def reachable(self, url: str) -> bool:
        """Whether there is a server at `url`. One that is slow or drops the connection is: that is for the retries."""
        within = self._timeout[0] + PROBE_TIMEOUT_SECONDS
        return probe(url, str(self._http.headers["User-Agent"]), self._timeout[0], within) is not None

    def close(self) -> None:
        """Wake every worker that waits, make those under way stop at their next chunk, drop the connections."""
        self._stop.set()
        self._http.close()

    def get_picture(self, url: str, accept: Callable[[bytes], T]) -> T:
        """Fetch `url` and return what `accept` makes of its bytes; a BadBody from `accept` is retried.

        Raises MissingPicture, FetchFailed, Stopped; PipelineError where the server wants us gone.
        """
        return self._with_retries(lambda: _accepted(accept, self._read(url, LARGEST_PICTURE_BYTES)))

    def get_small(self, url: str) -> bytes:
        """Fetch a description, at most 10 requests a second; PipelineError (Network Error) where it can't be had."""
        return self._list_request(url, lambda: self._read(url, LARGEST_DESCRIPTION_BYTES))

    def get_large(self, url: str, target: Path, accept: Callable[[Path], T]) -> T:
        """Fetch `url` into the file `target` and return what `accept` makes of that; a BadBody from it is retried.

        At most 10 requests a second; PipelineError (Network Error) where it can't be had.
        """

        def once() -> T:
            with self._open(url) as response, open(target, "wb") as file:
                self._copy(response, file.write)
            return _accepted(accept, target)

        return self._list_request(url, once)

    def _list_request(self, url: str, once: Callable[[], T]) -> T:
        def paced() -> T:
            with self._lock:
                start = max(self._now(), self._next_list_request)
                self._next_list_request = start + LIST_INTERVAL_SECONDS
            self._wait(start - self._now())
            return once()

        try:
            return self._with_retries(paced)
        except (MissingPicture, FetchFailed) as error:
            raise PipelineError.of(
                Category.NETWORK,
                "the card list could not be had",
                details=f"{url}: {error}",
                suggestion="check the connection and --api-url; with a list in the cache, --offline uses that",
            ) from error

    def _with_retries(self, once: Callable[[], T]) -> T:
        tries = 0
        while True:
            self._sit_out_pause()
            try:
                answer = once()
            except _TooManyRequests as error:
                self._pause_everyone(error.pause_seconds)  # no try is used up: the picture is not to blame
                continue
            except _Passing as failure:
                tries += 1
                if tries > self._max_retries:
                    raise FetchFailed(f"{failure} ({tries} {'try' if tries == 1 else 'tries'})") from failure
                self._wait(backoff_seconds(tries))
                continue
            self._pauses_in_a_row = 0
            return answer

    def _open(self, url: str) -> requests.Response:
        """One GET; redirects are followed by hand, since the placeholder must be seen before it is fetched."""
        for _ in range(MOST_REDIRECTS + 1):
            try:
                response = self._http.get(url, stream=True, allow_redirects=False, timeout=self._timeout)
            except (requests.ConnectionError, requests.Timeout) as error:
                raise _Passing(_reason(error)) from error
            except (requests.RequestException, ValueError) as error:  # ValueError: an address that is none
                raise FetchFailed(_reason(error)) from error
            if not response.is_redirect:
                return self._judged(response)
            response.close()
            try:
                url = urljoin(url, response.headers["location"])
                host = urlsplit(url).hostname
            except ValueError as error:
                raise FetchFailed(f"redirected to no address: {error}") from error
            if host == PLACEHOLDER_HOST:
                raise MissingPicture("redirected to Scryfall's placeholder")
        raise FetchFailed(f"more than {MOST_REDIRECTS} redirects")

    def _judged(self, response: requests.Response) -> requests.Response:
        status = response.status_code
        if status == 200:
            return response
        retry_after = response.headers.get("Retry-After")
        response.close()
        if status == 429:
            asked = retry_after_seconds(retry_after)
            raise _TooManyRequests(PAUSE_SECONDS if asked is None else max(SHORTEST_PAUSE_SECONDS, asked))
        if status in GONE_STATUS:
            raise MissingPicture(f"HTTP {status}")
        raise (_Passing if status in PASSING_STATUS else FetchFailed)(f"HTTP {status}")

    def _read(self, url: str, most_bytes: int) -> bytes:
        body = bytearray()

        def add(chunk: bytes) -> None:
            body.extend(chunk)
            if len(body) > most_bytes:
                raise FetchFailed(f"the body is larger than {human_bytes(most_bytes)}")

        with self._open(url) as response:
            self._copy(response, add)
        return bytes(body)

    def _copy(self, response: requests.Response, write: Callable[[bytes], object]) -> None:
        try:
            for chunk in response.iter_content(_CHUNK_BYTES):
                if self._stop.is_set():
                    raise Stopped
                write(chunk)
        except requests.RequestException as error:  # a short body too: urllib3 compares it with Content-Length
            raise _Passing(f"broken off: {_reason(error)}") from error

    # --------------------------------------------------------------------------------------------- waiting

    def _pause_everyone(self, seconds: float) -> None:
        if seconds > LONGEST_PAUSE_SECONDS:
            raise _turned_away(f"the server asks for a pause of {seconds:.0f} s (429 with Retry-After)")
        with self._lock:
            now = self._now()
            if now >= self._paused_until:  # the first worker to be told; the others were already on their way
                self._pauses_in_a_row += 1
                warn(f"429 Too Many Requests: every worker pauses for {seconds:.0f} s")
            self._paused_until = max(self._paused_until, now + seconds)
            if self._pauses_in_a_row > MOST_PAUSES_IN_A_ROW:
                raise _turned_away(f"{MOST_PAUSES_IN_A_ROW} pauses in a row ended in another 429")

    def _sit_out_pause(self) -> None:
        while True:
            seconds = self._paused_until - self._now()
            self._wait(seconds)
            if seconds <= 0:
                return

    def _wait(self, seconds: float) -> None:
        if seconds > 0:
            self._sleep(seconds)
        if self._stop.is_set():
            raise Stopped


def _accepted(accept: Callable[[B], T], body: B) -> T:
    try:
        return accept(body)
    except BadBody as error:
        raise _Passing(str(error)) from error


def backoff_seconds(failures: int) -> float:
    """How long to wait after the `failures`-th failure in a row: 1, 2, 4, 8, 16 … 60 s, and up to a quarter more.

    The jitter keeps workers that failed together from coming back together.
    """
    return min(float(2 ** min(failures - 1, 6)) * (1 + random.random() / 4), LONGEST_WAIT_SECONDS)


def retry_after_seconds(header: str | None) -> float | None:
    """Read a Retry-After header, seconds or an HTTP date (RFC 9110, 10.2.3); None where it says nothing usable."""
    if not header:
        return None
    if header.strip().isdecimal() and header.isascii():
        return float(header)
    try:
        when = email.utils.parsedate_to_datetime(header)
        return max(0.0, when.timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def probe(
    url: str,
    user_agent: str,
    connect_timeout: float = PROBE_TIMEOUT_SECONDS,
    within: float = PROBE_TIMEOUT_SECONDS,
) -> int | None:
    """The HTTP status that the server of `url` answers one HEAD with, 0 where it is there but does not answer well.

    None where its name is unknown, nobody listens there, or nothing is known after `within` seconds: a name server that
    is silent, or several addresses that are, would hold requests up for longer than any timeout of its own. One try, so
    that a run that can't work ends within seconds.
    """
    answers: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    timeout = (connect_timeout, PROBE_TIMEOUT_SECONDS)
    ask = threading.Thread(target=lambda: answers.put(_head_status(url, user_agent, timeout)), daemon=True)
    ask.start()
    try:
        return answers.get(timeout=within)
    except queue.Empty:
        return None


def _head_status(url: str, user_agent: str, timeout: tuple[float, float]) -> int | None:
    try:
        with requests.head(url, timeout=timeout, allow_redirects=False, headers={"User-Agent": user_agent}) as answer:
            return answer.status_code
    except requests.ConnectTimeout:
        return None
    except requests.ConnectionError as error:
        return None if isinstance(_innermost(error), NewConnectionError) else 0
    except (requests.RequestException, ValueError):
        return 0


def _turned_away(details: str) -> PipelineError:
    return PipelineError.of(
        Category.NETWORK,
        "the server does not want more requests for now",
        details=details,
        suggestion="run the same command again later, with fewer --workers; what was fetched is kept",
    )


def _reason(error: Exception) -> str:
    """The innermost cause in few words; requests wraps it three times over."""
    inner = _innermost(error)
    text = str(inner) if len(str(inner)) < 200 else str(inner)[:200] + "…"
    return f"{type(inner).__name__}: {text}" if text else type(inner).__name__


def _innermost(error: BaseException) -> BaseException:
    while True:
        cause = getattr(error, "reason", None) or next((a for a in error.args if isinstance(a, BaseException)), None)
        if not isinstance(cause, BaseException):
            return error
        error = cause
