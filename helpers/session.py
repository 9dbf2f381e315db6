"""The HTTP session that all workers share: one connection pool, one way to retry, one throttle. Only user of requests.

A picture ends in one of three ways: its bytes, `MissingPicture` (the server says there is none; never retried) or
`FetchFailed` (after the last retry). Retries are ours, not urllib3's Retry: its first wait is 0 s, it can't retry a
body that does not decode, and it can't make all workers pause. Sending is urllib3's: requests finds the way (proxies,
certificates, both from the environment), but its own sending costs 1 to 2 ms of CPU a picture, half a core at 400/s.
Scryfall's rules: https://scryfall.com/docs/api (10 requests a second, 429 means to stop for a while).
"""

import email.utils
import functools
import ipaddress
import queue
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3.exceptions import HTTPError, LocationValueError, NewConnectionError

from helpers.errors import Category, PipelineError
from helpers.net.resumable import Resumable
from helpers.net.throttle import LONGEST_PAUSE_SECONDS, NAME_YOURSELF, Stopped, Throttle
from helpers.net.watchdog import Watchdog
from helpers.talk import Progress, human_bytes
from helpers.validation import LARGEST_CARD_BYTES

T = TypeVar("T")
B = TypeVar("B")

PASSING_STATUS = frozenset({500, 502, 503, 504})
GONE_STATUS = frozenset({404, 410})
REFUSED_STATUS = frozenset({400, 401, 403})
REFUSALS = frozenset(f"HTTP {status}" for status in REFUSED_STATUS)  # as FetchFailed says it
PLACEHOLDER_HOST = "errors.scryfall.com"  # where Scryfall redirects to for a picture it does not have

LIST_INTERVAL_SECONDS = 0.1  # at most 10 requests a second for the list and its description
LONGEST_WAIT_SECONDS = 60.0
PAUSE_SECONDS = 30.0  # after a 429 that does not say how long
SHORTEST_PAUSE_SECONDS = 1.0  # "Retry-After: 0" is no leave to hammer
MOST_PAUSES_FOR_ONE = 10  # a picture that gets a 429 each time is given up, though others go well
PROBE_TIMEOUT_SECONDS = 4.0
MOST_REDIRECTS = 5
LARGEST_DESCRIPTION_BYTES = 4_000_000
LARGEST_LIST_BYTES = 4_000_000_000  # gzipped; all_cards has 390 MB
SLOWEST_BYTES_PER_SECOND = 1000  # over a minute or more; less is an answer that never ends
PATIENCE_SECONDS = 60.0
MOST_HOSTS = 8  # whose connections are kept; Scryfall has three
_STEP_BYTES = 1_000_000  # a list that came so much further is going well: its tries begin anew
_CHUNK_BYTES = 1 << 16


class MissingPicture(Exception):
    """The server has no such picture: 404, 410, or a redirect to its placeholder."""


class FetchFailed(Exception):
    """The URL could not be fetched; the text says why."""


class BadBody(Exception):
    """Raised by a caller's `accept`: the bytes came, but they are not what was asked for."""


class TryAgain(Exception):
    """A try failed; another one may help, when it is due."""


@dataclass(slots=True)
class Attempts:
    """What has been tried for one URL, and when the next try is due (monotonic seconds)."""

    tries: int = 0
    pauses: int = 0
    not_before: float = -float("inf")
    refused_before: bool = False  # by an earlier run: that says nothing of this one


class _Refused(FetchFailed):
    """400, 401, 403: it is about who asks."""


class _Passing(Exception):
    """A failure that another try may mend."""

    got_further = False  # it came after a good part of a large file, so it does not count as a try


class _BadRange(_Passing):
    """The rest of a file that was asked for is not to be had; all of it may be."""


class _PauseWanted(Exception):
    def __init__(self, seconds: float, why: str, *, is_try: bool) -> None:
        self.seconds, self.why, self.is_try = seconds, why, is_try


@dataclass(frozen=True, slots=True)
class _Route:
    """How requests to one origin go: through which pool, by a proxy or not, and whether that wants the whole URL."""

    pool: urllib3.HTTPConnectionPool
    proxied: bool
    whole_url: bool


class _Router(HTTPAdapter):
    """requests' knowledge of proxies and certificates, asked once for each origin."""

    def route(self, session: requests.Session, url: str, watchdog: Watchdog) -> _Route:
        request = requests.Request("GET", url).prepare()
        found = session.merge_environment_settings(url, {}, True, None, None)
        found_pool = self.get_connection_with_tls_context(request, found["verify"], found["proxies"], found["cert"])
        pool = cast(urllib3.HTTPConnectionPool, found_pool)
        self.cert_verify(pool, url, found["verify"], found["cert"])  # type: ignore[no-untyped-call]
        pool.ConnectionCls = _watched(pool.ConnectionCls, watchdog)
        proxied = bool(select_proxy(url, found["proxies"]))
        whole_url = self.request_url(request, found["proxies"]) != request.path_url
        return _Route(pool, proxied, whole_url)


def _watched(connection: Any, watchdog: Watchdog) -> Any:
    """The class `connection` of urllib3's, whose answers are waited for under the eyes of `watchdog`."""
    if hasattr(connection, "watchdog"):
        return connection

    class Watched(connection):  # type: ignore[misc]
        def getresponse(self) -> Any:
            self.watchdog.begin(self.sock)
            return super().getresponse()

    Watched.watchdog = watchdog
    return Watched


class DownloadSession:
    """A pooled session for `workers` threads. All times are in seconds; `now` and `sleep` are there for tests.

    Where `api_url` names a public server, private addresses are refused, wherever they come from: neither a list nor a
    redirect may make us ask the machines around us.
    """

    def __init__(
        self,
        *,
        api_url: str,
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
        self._api_url = api_url
        self._timeout = urllib3.Timeout(connect=connect_timeout, read=read_timeout)
        self._connect_timeout = connect_timeout
        self._max_retries = max_retries
        self._throttle = Throttle(workers, now, self._sleep)
        self._watchdog = Watchdog(PATIENCE_SECONDS)
        self._lock = threading.Lock()
        self._next_list_request = -float("inf")
        self._http = requests.Session()
        # A pool smaller than the workers would throw connections away; there is one a host.
        self._router = _Router(pool_connections=MOST_HOSTS, pool_maxsize=workers)
        self._http.mount("https://", self._router)
        self._http.mount("http://", self._router)
        self._routes: dict[tuple[str, str], _Route] = {}
        # identity: a gzip file must arrive as it is, to be decoded exactly once.
        self._headers = {"User-Agent": user_agent, "Accept": "*/*", "Accept-Encoding": "identity"}

    def reachable(self, url: str) -> bool:
        """Whether there is a server at `url`. One that is slow or drops the connection is: that is for the retries."""
        within = self._connect_timeout + PROBE_TIMEOUT_SECONDS
        return probe(url, self._headers["User-Agent"], self._connect_timeout, within) is not None

    def close(self) -> None:
        """Wake every worker that waits, make those under way stop at their next chunk, drop the connections."""
        self._stop.set()
        self._throttle.stop()
        self._http.close()

    def try_picture(self, url: str, attempts: Attempts) -> bytes:
        """Wait until `attempts` are due again, and ask for `url` once.

        Raises TryAgain where another try may help, FetchFailed where that was the last one, MissingPicture, Stopped;
        TurnedAway where the server wants us gone.
        """
        return self._try(lambda: self._read(url, LARGEST_CARD_BYTES), attempts)

    def failed(self, attempts: Attempts, reason: str) -> None:
        """Note that a try came to nothing; FetchFailed where it was the last."""
        attempts.tries += 1
        if attempts.tries > self._max_retries:
            raise FetchFailed(f"{reason} ({attempts.tries} {'try' if attempts.tries == 1 else 'tries'})")
        attempts.not_before = self._now() + backoff_seconds(attempts.tries)

    def content_length(self, url: str) -> int | None:
        """The size in bytes that the server says the picture of `url` has; None where it does not say."""
        try:
            with self._throttle.turn(), self._send("HEAD", url) as response:
                _judge(response)
                length = response.headers.get("Content-Length", "")
                return int(length) if length.isascii() and length.isdecimal() and len(length) < 16 else None
        except _PauseWanted as wanted:
            self._throttle.pause(wanted.seconds, wanted.why)
            return None
        except (FetchFailed, MissingPicture, _Passing):
            return None
        finally:
            self._watchdog.end()

    def get_small(self, url: str) -> bytes:
        """Fetch a description, at most 10 requests a second; PipelineError (Network Error) where it can't be had."""
        return self._list_request(url, lambda: self._read(url, LARGEST_DESCRIPTION_BYTES), lambda body: body)

    def get_large(self, target: Resumable, size: int | None, accept: Callable[[Resumable], T]) -> T:
        """Fetch `target.url` into `target` and return what `accept` makes of that; a BadBody from it is retried.

        What is there already is not fetched again (Range with If-Range, RFC 9110). `size` is what the whole must have,
        in bytes, if that is known. At most 10 requests a second; PipelineError (Network Error) where it can't be had.
        """

        def accepted(_: None) -> T:
            try:
                if size is not None and target.size != size:
                    raise BadBody(f"it has {target.size:,} bytes; the server's description says {size:,}")
                return accept(target)
            except Exception:  # whatever is wrong with it, it is not gone on with
                target.discard()
                raise

        def once() -> None:
            if size is not None and not 0 < size <= LARGEST_LIST_BYTES:
                raise FetchFailed(f"the server's description says it has {size:,} bytes")
            self._read_rest(target, size)

        return self._list_request(target.url, once, accepted)

    def _list_request(self, url: str, once: Callable[[], B], accept: Callable[[B], T]) -> T:
        def paced() -> B:
            with self._lock:
                start = max(self._now(), self._next_list_request)
                self._next_list_request = start + LIST_INTERVAL_SECONDS
            self._wait(start - self._now())
            return once()

        try:
            return self._with_retries(paced, accept)
        except (MissingPicture, FetchFailed) as error:
            raise PipelineError.of(
                Category.NETWORK,
                "the card list could not be had",
                details=f"{url}: {error}",
                suggestion=NAME_YOURSELF
                if isinstance(error, _Refused)
                else "check the connection and --api-url; with a list in the cache, --offline uses that",
            ) from error

    def _with_retries(self, once: Callable[[], B], accept: Callable[[B], T]) -> T:
        attempts = Attempts()
        while True:
            with suppress(TryAgain):
                body = self._try(once, attempts)
                try:
                    return accept(body)
                except BadBody as error:
                    self.failed(attempts, str(error))

    def _try(self, once: Callable[[], B], attempts: Attempts) -> B:
        """`once`, when it is due and its turn has come; what the server answers is the throttle's to know."""
        self._wait(attempts.not_before - self._now())
        with self._throttle.turn():  # held until the throttle knows the answer: nobody begins in between
            try:
                body = once()
            except MissingPicture:
                self._throttle.answered()
                raise
            except _Refused as refusal:
                if not attempts.refused_before:
                    self._throttle.refused(str(refusal))
                raise
            except _PauseWanted as wanted:
                self._throttle.pause(wanted.seconds, wanted.why)
                attempts.pauses += 1
                attempts.tries += wanted.is_try
                if attempts.tries > self._max_retries or attempts.pauses > MOST_PAUSES_FOR_ONE:
                    raise FetchFailed(f"{wanted.why}, {attempts.pauses} times") from wanted
                raise TryAgain from wanted
            except _Passing as failure:
                if failure.got_further:
                    attempts.tries = 0
                self.failed(attempts, str(failure))
                raise TryAgain from failure
            self._throttle.answered()
            return body

    # ----------------------------------------------------------------------------------------- one request, one answer

    def _send(self, method: str, url: str, headers: dict[str, str] | None = None) -> urllib3.BaseHTTPResponse:
        """One request; _Passing or FetchFailed where there is no answer to it. The caller closes the response."""
        try:
            parts = urlsplit(url)
            origin = (parts.scheme, parts.netloc)
            route = self._routes.get(origin)
            if route is None:
                route = self._route(url)
                # The host that will be connected to: parsers disagree on odd addresses. A proxy looks names up itself.
                host = (parts.hostname or "") if route.proxied else route.pool.host.strip("[]")
                self._require_public(host, url, look_up=not route.proxied)
                if len(self._routes) >= MOST_HOSTS:
                    self._routes.clear()  # the router closes what it has to drop
                self._routes[origin] = route
            path = url if route.whole_url else (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            return route.pool.urlopen(
                method,
                path,
                headers=self._headers | (headers or {}),
                redirect=False,
                retries=False,
                assert_same_host=False,
                timeout=self._timeout,
                preload_content=False,
                decode_content=False,
            )
        except LocationValueError as error:
            raise FetchFailed(_reason(error)) from error
        except (HTTPError, requests.ConnectionError) as error:
            raise self._passing(error) from error
        except (requests.RequestException, ValueError) as error:  # ValueError: an address that is none
            raise FetchFailed(_reason(error)) from error

    def _route(self, url: str) -> _Route:
        try:
            return self._router.route(self._http, url, self._watchdog)
        except requests.RequestException:  # an OSError, too
            raise
        except OSError as error:
            raise PipelineError.of(
                Category.CONFIGURATION,
                "the TLS certificates can't be read",
                details=str(error),
                suggestion="correct or unset REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE",
            ) from error

    def _require_public(self, host: str, url: str, *, look_up: bool) -> None:
        """FetchFailed where `host` is a private one; names that a proxy will look up are not looked up here."""
        ours = urlsplit(self._api_url).hostname or ""
        if _is_private(host, look_up=look_up) and not _is_private(ours, look_up=look_up):
            raise FetchFailed(f"refused: {url} names a private address, and --api-url does not")

    def _passing(self, error: Exception) -> Exception:
        return Stopped() if self._stop.is_set() else _Passing(_reason(error))

    @contextmanager
    def _open(self, url: str, headers: dict[str, str] | None = None) -> Iterator[urllib3.BaseHTTPResponse]:
        """One GET; redirects are followed by hand, since each must be looked at before it is followed."""
        try:
            for _ in range(MOST_REDIRECTS + 1):
                with self._send("GET", url, headers) as response:
                    location = response.get_redirect_location()
                    if not location:
                        _judge(response)
                        yield response
                        return
                url = _next_hop(url, location)
        finally:
            self._watchdog.end()
        raise FetchFailed(f"more than {MOST_REDIRECTS} redirects")

    def _read(self, url: str, most_bytes: int) -> bytes:
        chunks: list[bytes] = []
        with self._open(url) as response:
            self._copy(response, chunks.append, most_bytes)
        return b"".join(chunks)

    def _read_rest(self, target: Resumable, size: int | None) -> None:
        """Fetch what `target` lacks, or all of it where the server has another version now."""
        if target.size and target.size == size:
            return  # an earlier run was killed between the last byte and the check
        if size is not None and target.size > size:
            target.discard()
        etag, before, furthest = target.etag(), target.size, target.furthest
        headers = {"Range": f"bytes={before}-", "If-Range": etag} if etag else {}
        most_bytes = LARGEST_LIST_BYTES if size is None else size
        try:
            with self._open(target.url, headers) as response:
                if not (etag and _continues(response, before)):
                    target.begin(response.headers.get("ETag"))
                    before = 0
                steps = (size or 0) // _STEP_BYTES
                with Progress("Fetching the list", steps, "MB", before=before // _STEP_BYTES) as bar:

                    def write(chunk: bytes) -> None:
                        had = target.size
                        target.write(chunk)
                        bar.advance(target.size // _STEP_BYTES - had // _STEP_BYTES)

                    self._copy(response, write, most_bytes - before)
                if size is not None and target.size < size:
                    raise _Passing(_too_few(target.size, size))
        except _BadRange as refused:
            had = target.size
            target.discard()
            if size is None:
                raise
            raise _BadRange(f"{refused}: {_too_few(had, size)}") from refused
        except _Passing as failure:
            failure.got_further = target.size - furthest >= _STEP_BYTES
            raise
        finally:
            target.pause()

    def _copy(self, response: urllib3.BaseHTTPResponse, write: Callable[[bytes], object], most_bytes: int) -> None:
        """Hand the body to `write`, as it comes; not more than `most_bytes`, and not for ever."""
        started, count = self._now(), 0
        try:
            while chunk := response.read1(_CHUNK_BYTES):
                if self._stop.is_set():
                    raise Stopped
                count += len(chunk)
                if count > most_bytes:
                    raise FetchFailed(f"the body is larger than {human_bytes(most_bytes)}")
                write(chunk)
                self._watchdog.progress()
                seconds = self._now() - started
                if seconds > PATIENCE_SECONDS and count < SLOWEST_BYTES_PER_SECOND * seconds:
                    raise _Passing(f"too slow: {human_bytes(count)} in {seconds:.0f} s")
        except HTTPError as error:  # a short body too: urllib3 compares it with Content-Length
            raise self._passing(error) from error

    def _wait(self, seconds: float) -> None:
        if seconds > 0:
            self._sleep(seconds)
        if self._stop.is_set():
            raise Stopped


def _judge(response: urllib3.BaseHTTPResponse) -> None:
    """Raise what the status means, unless it is an answer with the bytes that were asked for."""
    status = response.status
    if status in (200, 206):
        return
    asked = retry_after_seconds(response.headers.get("Retry-After"), response.headers.get("Date"))
    if status == 429:
        pause = PAUSE_SECONDS if asked is None else max(SHORTEST_PAUSE_SECONDS, asked)
        raise _PauseWanted(pause, "429 Too Many Requests", is_try=False)  # the picture is not to blame
    if status == 416:
        raise _BadRange("HTTP 416")
    if status == 503 and asked and asked <= LONGEST_PAUSE_SECONDS:  # a longer one is about that picture, not about us
        raise _PauseWanted(max(SHORTEST_PAUSE_SECONDS, asked), "503 Service Unavailable", is_try=True)
    if status < 200:
        raise _Passing(f"HTTP {status}")  # the answer itself is behind it, where http.client does not look
    if status in GONE_STATUS:
        raise MissingPicture(f"HTTP {status}")
    if status in REFUSED_STATUS:
        raise _Refused(f"HTTP {status}")
    raise (_Passing if status in PASSING_STATUS else FetchFailed)(f"HTTP {status}")


def _continues(response: urllib3.BaseHTTPResponse, start: int) -> bool:
    """Whether this is the part from byte `start` on, to the end; else it is the whole file."""
    if response.status != 206:
        return False
    where = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if not where or int(where[1]) != start:
        raise _BadRange(f"asked for the bytes from {start:,}, got {response.headers.get('Content-Range')!r}")
    return True


def _too_few(had: int, size: int) -> str:
    return f"only {had:,} of the {size:,} bytes came that the server's description says"


def _next_hop(url: str, location: str) -> str:
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


def _is_private(host: str, *, look_up: bool) -> bool:
    """Whether `host` is, or its name leads to, an address that is not for the whole world.

    A name that can't be looked up is none: nothing is reached by it.
    """
    try:
        return _leads_home(host) if look_up else host == "localhost" or not ipaddress.ip_address(host).is_global
    except (OSError, ValueError):  # ValueError: no name at all
        return False


@functools.lru_cache(maxsize=1000)
def _leads_home(host: str) -> bool:
    found = socket.getaddrinfo(host, None)
    return any(not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_global for *_, address in found)


def backoff_seconds(failures: int) -> float:
    """How long to wait after the `failures`-th failure in a row: 1, 2, 4, 8, 16 … 60 s, and up to a quarter more.

    The jitter keeps workers that failed together from coming back together.
    """
    return min(float(2 ** min(failures - 1, 6)) * (1 + random.random() / 4), LONGEST_WAIT_SECONDS)


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
    except (requests.RequestException, ValueError, OSError):  # OSError: certificates that can't be read
        return 0


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
