"""The HTTP session that all workers share: one connection pool, one retry policy, one throttle.

A picture ends in one of three ways: its bytes, `MissingPicture` (the server says there is none; never retried) or
`FetchFailed` (after the last retry). Retries are our own, not urllib3's Retry: its first wait is 0 s, it can't retry a
body that does not decode, and it can't make all workers pause. urllib3 does the sending: requests finds the route
(proxies and certificates, from the environment), but sending through it costs 1 to 2 ms of CPU per picture, half a core
at 400/s.
"""

import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar, cast
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3.exceptions import HTTPError, LocationValueError

from helpers.about import DEFAULT_USER_AGENT
from helpers.errors import Category, PipelineError
from helpers.net import patience
from helpers.net.answers import (
    Attempts,
    BadBody,
    BadRange,
    FetchFailed,
    MissingPicture,
    Passing,
    PauseWanted,
    Refused,
    TryAgain,
    Verdict,
    backoff_seconds,
    continues,
    judge,
    meaning_of,
    never_works,
    next_hop,
    reason,
)
from helpers.net.probe import PROBE_TIMEOUT_SECONDS, addresses_of, leads_home, probe
from helpers.net.resumable import Resumable
from helpers.net.throttle import Stopped, Throttle
from helpers.talk import Progress, human_bytes
from helpers.validation import MAX_CARD_BYTES

T = TypeVar("T")
B = TypeVar("B")

LIST_INTERVAL_SECONDS = 0.1  # at most 10 requests a second for the list and its description
MAX_PAUSES_PER_PICTURE = 10  # a picture that gets a 429 every time is given up, even if others succeed
MAX_REDIRECTS = 5
MAX_DESCRIPTION_BYTES = 4_000_000
MAX_LIST_BYTES = 4_000_000_000  # gzipped; all_cards has 390 MB
MAX_LIST_EXPANSION, FREE_LIST_BYTES = 100, 100_000_000  # unpacked by a server; Scryfall's lists expand 8-fold
MIN_BYTES_PER_SECOND = 1000  # averaged over a minute or more; anything slower may never end
MAX_HOSTS = 8  # hosts whose connections are kept; Scryfall has three
GZIP_MAGIC = b"\x1f\x8b"
_STEP_BYTES = 1_000_000  # after this much progress on a list, its retries are counted afresh
_CHUNK_BYTES = 1 << 16
_MAX_DRAINED_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Http:
    """Which server to use, and how; times in seconds."""

    api_url: str = "https://api.scryfall.com"  # the server whose /bulk-data is read
    user_agent: str = DEFAULT_USER_AGENT
    workers: int = 16  # concurrent requests
    connect_timeout: float = 5.0
    read_timeout: float = 30.0  # of silence
    max_retries: int = 5


@dataclass(frozen=True, slots=True)
class _Route:
    """How to reach one origin: through which pool and proxy ("": none), and whether that needs the whole URL."""

    pool: urllib3.HTTPConnectionPool
    proxy: str
    whole_url: bool


class _Router(HTTPAdapter):
    """What requests knows about proxies and certificates, looked up once per origin."""

    def route(self, session: requests.Session, url: str, is_allowed: Callable[[str], bool]) -> _Route:
        request = requests.Request("GET", url).prepare()
        found = session.merge_environment_settings(url, {}, True, None, None)
        found_pool = self.get_connection_with_tls_context(request, found["verify"], found["proxies"], found["cert"])
        pool = cast(urllib3.HTTPConnectionPool, found_pool)
        self.cert_verify(pool, url, found["verify"], found["cert"])  # type: ignore[no-untyped-call]
        proxy = without_password(select_proxy(url, found["proxies"]) or "")
        patience.watch(pool, (lambda _: True) if proxy else is_allowed)
        whole_url = self.request_url(request, found["proxies"]) != request.path_url
        return _Route(pool, proxy, whole_url)


class DownloadSession:
    """A pooled session for all workers of a run; `now` and `sleep` are there for tests.

    Unless `http.api_url` names this machine, no request is sent to it: neither a list nor a redirect may make us fetch
    what only this machine can reach.
    """

    def __init__(
        self,
        http: Http,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self.http = http
        self._stop = threading.Event()
        self._sleep = sleep or self._stop.wait
        self._now = now
        self._timeout = urllib3.Timeout(connect=http.connect_timeout, read=http.read_timeout)
        self._throttle = Throttle(http.workers, now, self._sleep)
        self._lock = threading.Lock()
        self._next_list_request = -float("inf")
        self._requests = requests.Session()
        # A pool smaller than the number of workers would discard connections; there is one per host.
        self._router = _Router(pool_connections=MAX_HOSTS, pool_maxsize=http.workers)
        self._requests.mount("https://", self._router)
        self._requests.mount("http://", self._router)
        self._has_served = False  # a picture
        self._routes: dict[tuple[str, str], _Route] = {}
        # identity: a gzip file must arrive as is, to be decoded exactly once.
        self._headers = {"User-Agent": http.user_agent, "Accept": "*/*", "Accept-Encoding": "identity"}

    def reachable(self, url: str) -> bool:
        """Whether there is a server at `url`. One that is slow or drops the connection counts: retries handle that."""
        connect = self.http.connect_timeout
        return probe(url, self.http.user_agent, connect, connect + PROBE_TIMEOUT_SECONDS) is not None

    def proxy_for(self, url: str) -> str:
        """The proxy that leads to `url`, without its password; empty if there is none."""
        return without_password(select_proxy(url, requests.utils.get_environ_proxies(url)) or "")

    def close(self) -> None:
        """Wake every waiting worker, stop requests in flight at their next chunk, and drop the connections."""
        self._stop.set()
        self._throttle.stop()
        self._requests.close()

    def try_picture(self, url: str, attempts: Attempts) -> bytes:
        """Wait until the next attempt is due, and request `url` once.

        Raises TryAgain if a retry may help, FetchFailed if that was the last one, MissingPicture, Stopped;
        TurnedAway if the server rejects us.
        """
        body = self._try(lambda: self._read(url, MAX_CARD_BYTES), attempts)
        self._has_served = True
        return body

    def comes(self, url: str, is_whole: Callable[[bytes], bool]) -> bool:
        """Whether the server sends the picture at `url`, asked once, at once: for use while the others are `held`."""
        try:
            comes = is_whole(self._read(url, MAX_CARD_BYTES))
        except (MissingPicture, FetchFailed, Passing, PauseWanted):
            return False
        self._has_served |= comes
        return comes

    def held(self) -> AbstractContextManager[None]:
        """Let no worker send a request during the block."""
        return self._throttle.held()

    def failed(self, attempts: Attempts, reason: str) -> None:
        """Count a failed attempt; FetchFailed if it was the last."""
        attempts.tries += 1
        if attempts.tries > self.http.max_retries:
            raise FetchFailed(f"{reason} ({attempts.tries} {'try' if attempts.tries == 1 else 'tries'})")
        attempts.not_before = self._now() + backoff_seconds(attempts.tries)

    def get_small(self, url: str) -> bytes:
        """Fetch a description, at most 10 requests a second; PipelineError (Network Error) if that fails."""
        return self._list_request(url, lambda: self._read(url, MAX_DESCRIPTION_BYTES), lambda body: body)

    def get_large(self, target: Resumable, size: int | None, accept: Callable[[Resumable], T]) -> T:
        """Fetch `target.url` into `target` and return what `accept` makes of it; a BadBody from that is retried.

        A partial download is resumed (Range with If-Range, RFC 9110). `size` is the expected total in bytes, if known;
        a server or proxy that unpacks the file, or packs it once more, may send more.
        At most 10 requests a second; PipelineError (Network Error) if it can't be downloaded.
        """

        def accepted(_: None) -> T:
            try:
                return accept(target)
            except Exception:  # whatever is wrong with it, it must not be resumed
                target.discard()
                raise

        def once() -> None:
            if size is not None and not 0 < size <= MAX_LIST_BYTES:
                raise FetchFailed(f"the server's description says it has {size:,} bytes")
            self._read_rest(target, size)

        return self._list_request(target.url, once, accepted)

    def _list_request(self, url: str, once: Callable[[], B], accept: Callable[[B], T]) -> T:
        def paced() -> B:
            with self._lock:
                start = max(self._now(), self._next_list_request)
                self._next_list_request = start + LIST_INTERVAL_SECONDS
            self.wait(start - self._now())
            return once()

        try:
            return self._with_retries(paced, accept)
        except (MissingPicture, FetchFailed) as error:
            raise PipelineError.of(
                Category.NETWORK,
                "the card list could not be downloaded",
                details=f"{url}: {error}",
                suggestion=error.meaning.advice
                if isinstance(error, Refused)
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
        """Call `once` when it is due and the throttle permits; report the answer to the throttle."""
        self.wait(attempts.not_before - self._now())
        with self._throttle.turn():  # held until the throttle knows the answer: no request starts in between
            try:
                body = once()
            except MissingPicture:
                self._throttle.answered()
                raise
            except Refused:
                if not self._has_served:
                    self._throttle.narrow()  # perhaps we are turned away: no crowd must hear that
                raise
            except PauseWanted as wanted:
                self._throttle.pause(wanted.seconds, wanted.why)
                attempts.pauses += 1
                attempts.tries += wanted.is_try
                if attempts.tries > self.http.max_retries or attempts.pauses > MAX_PAUSES_PER_PICTURE:
                    raise FetchFailed(f"{wanted.why}, {attempts.pauses} times") from wanted
                raise TryAgain from wanted
            except Passing as failure:
                if failure.got_further:
                    attempts.tries = 0
                self.failed(attempts, str(failure))
                raise TryAgain from failure
            self._throttle.answered()
            return body

    # ----------------------------------------------------------------------------------------- one request, one answer

    def _send(self, url: str, headers: dict[str, str] | None = None) -> urllib3.BaseHTTPResponse:
        """Send one GET; Passing or FetchFailed if there is no response. The caller closes the response."""
        patience.wait_anew(self.http.read_timeout)
        route = None
        try:
            parts = urlsplit(url)
            origin = (parts.scheme, parts.netloc)
            route = self._routes.get(origin)
            if route is None:
                route = self._route(url)
                if route.proxy and not self._may_ask(parts.hostname or ""):
                    raise FetchFailed(f"refused: {url} names this machine, and --api-url does not")
                if len(self._routes) >= MAX_HOSTS:
                    self._routes.clear()  # the router closes the pools it evicts
                self._routes[origin] = route
            path = url if route.whole_url else (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            return route.pool.urlopen(
                "GET",
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
            raise FetchFailed(reason(error)) from error
        except (HTTPError, requests.ConnectionError) as error:
            raise never_works(error) or self._passing(error, route) from error
        except (requests.RequestException, ValueError) as error:  # ValueError: an invalid address
            raise never_works(error) or FetchFailed(reason(error)) from error

    def _route(self, url: str) -> _Route:
        try:
            return self._router.route(self._requests, url, self._may_ask)
        except requests.RequestException:  # a subclass of OSError
            raise
        except OSError as error:
            raise PipelineError.of(
                Category.CONFIGURATION,
                "the TLS certificates can't be read",
                details=str(error),
                suggestion="correct or unset REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE",
            ) from error

    def _may_ask(self, host: str) -> bool:
        """Whether a request may go to `host`: not to this machine, unless --api-url does."""
        ours = urlsplit(self.http.api_url).hostname or ""
        return not leads_home(host) or any(map(leads_home, [ours, *addresses_of(ours)]))

    def _passing(self, error: Exception, route: _Route | None = None) -> Exception:
        through = f" (through the proxy {route.proxy})" if route and route.proxy else ""
        return Stopped() if self._stop.is_set() else Passing(reason(error) + through)

    @contextmanager
    def _open(self, url: str, headers: dict[str, str] | None = None) -> Iterator[urllib3.BaseHTTPResponse]:
        """Send one GET; redirects are followed by hand, since each must be checked first."""
        for _ in range(MAX_REDIRECTS + 1):
            with self._send(url, headers) as response:
                if meaning_of(response.status).verdict is not Verdict.GOOD:
                    _drain(response)
                location = response.get_redirect_location()
                if not location:
                    judge(response)
                    yield response
                    return
            url = next_hop(url, location)
        raise FetchFailed(f"more than {MAX_REDIRECTS} redirects")

    def _read(self, url: str, most_bytes: int) -> bytes:
        chunks: list[bytes] = []
        with self._open(url) as response:
            self._copy(response, chunks.append, most_bytes)
        return _unzipped(b"".join(chunks), most_bytes)

    def _read_rest(self, target: Resumable, size: int | None) -> None:
        """Fetch what `target` lacks, or all of it if the server has another version now."""
        if target.size and target.size == size:
            return  # an earlier run was killed between the last byte and the check
        if target.size > _most_bytes(size, target.head):
            target.discard()
        etag, before, furthest = target.etag(), target.size, target.furthest
        headers = {"Range": f"bytes={before}-", "If-Range": etag} if etag else {}
        try:
            with self._open(target.url, headers) as response:
                if not (etag and continues(response, before)):
                    target.begin(response.headers.get("ETag"))
                    before = 0
                steps = (size or 0) // _STEP_BYTES
                with Progress("Fetching the list", steps, "MB", before=before // _STEP_BYTES) as bar:

                    def write(chunk: bytes) -> None:
                        had = target.size
                        most_bytes = _most_bytes(size, target.head or chunk)
                        if had + len(chunk) > most_bytes:
                            raise FetchFailed(f"the body is larger than {human_bytes(most_bytes)}")
                        target.write(chunk)
                        bar.advance(target.size // _STEP_BYTES - had // _STEP_BYTES)

                    self._copy(response, write, MAX_LIST_BYTES)
                if size is not None and target.size < size and not _is_repacked(target.head):
                    raise Passing(_too_few(target.size, size))
        except BadRange as refused:
            had = target.size
            target.discard()
            if size is None:
                raise
            raise BadRange(f"{refused}: {_too_few(had, size)}") from refused
        except Passing as failure:
            failure.got_further = target.size - furthest >= _STEP_BYTES
            raise
        finally:
            target.pause()

    def _copy(self, response: urllib3.BaseHTTPResponse, write: Callable[[bytes], object], most_bytes: int) -> None:
        """Pass the body to `write` as it arrives; limited to `most_bytes`, and not for ever."""
        started, count = self._now(), 0
        try:
            while chunk := response.read1(_CHUNK_BYTES):
                if self._stop.is_set():
                    raise Stopped
                count += len(chunk)
                if count > most_bytes:
                    raise FetchFailed(f"the body is larger than {human_bytes(most_bytes)}")
                write(chunk)
                patience.wait_anew(self.http.read_timeout)
                seconds = self._now() - started
                if seconds > patience.MAX_SILENCE_SECONDS and count < MIN_BYTES_PER_SECOND * seconds:
                    raise Passing(f"too slow: {human_bytes(count)} in {seconds:.0f} s")
        except HTTPError as error:  # a short body too: urllib3 compares it with Content-Length
            raise self._passing(error) from error

    def wait(self, seconds: float) -> None:
        """Sleep; Stopped if the run ends meanwhile."""
        if seconds > 0:
            self._sleep(seconds)
        if self._stop.is_set():
            raise Stopped


def _drain(response: urllib3.BaseHTTPResponse) -> None:
    """Read a body that nobody wants, if it is small: else its connection could not be used again."""
    count, length = 0, response.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > _MAX_DRAINED_BYTES:
        return
    with suppress(HTTPError):
        while count <= _MAX_DRAINED_BYTES and (chunk := response.read1(_CHUNK_BYTES)):
            count += len(chunk)


def _unzipped(body: bytes, most_bytes: int) -> bytes:
    """Undo the compression of a server that ignores `Accept-Encoding: identity`."""
    if body[:2] == GZIP_MAGIC:
        with suppress(zlib.error):
            return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(body, most_bytes)
    return body


def _is_repacked(head: bytes) -> bool:
    """Whether a list that begins with `head` was unpacked, or packed once more, after its size was described."""
    if head[:2] != GZIP_MAGIC:
        return head.lstrip()[:1] in (b"{", b"[")
    with suppress(zlib.error):
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(head, 2) == GZIP_MAGIC
    return False


def _most_bytes(size: int | None, head: bytes) -> int:
    """How long a list may be whose description says `size`, and which begins with `head`."""
    if size is None or _is_repacked(head):
        return min(MAX_LIST_BYTES, max(FREE_LIST_BYTES, MAX_LIST_EXPANSION * (size or MAX_LIST_BYTES)))
    return size


def without_password(proxy: str) -> str:
    """The address of a proxy as it may be shown."""
    return re.sub(r"^(\w+://)?[^/]*@", r"\1", proxy)


def _too_few(had: int, size: int) -> str:
    return f"only {had:,} of the {size:,} bytes that the server's description promises"
