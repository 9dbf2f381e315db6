import gzip
import itertools
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.errors import PipelineError
from helpers.net import patience
from helpers.net.answers import (
    CLASSES,
    STATUSES,
    Attempts,
    BadBody,
    FetchFailed,
    MissingPicture,
    Refused,
    TryAgain,
    Verdict,
    backoff_seconds,
    meaning_of,
    retry_after_seconds,
)
from helpers.net.probe import leads_home, probe
from helpers.net.resumable import Resumable
from helpers.net.throttle import Stopped
from helpers.session import DownloadSession, Http
from tests.faulty_server import FaultyServer, Reply, faulty_server

LOOPBACK = "http://127.0.0.1"
GOOD = Reply(body=b"picture")


class Clock:
    """Time that passes only by waiting."""

    def __init__(self) -> None:
        self.time = 0.0
        self.waits: list[float] = []
        self._lock = threading.Lock()

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.waits.append(seconds)
            self.time += seconds


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty_server() as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make_session(clock: Clock, max_retries: int = 5, read_timeout: float = 5) -> DownloadSession:
    return DownloadSession(
        Http(LOOPBACK, "Tests/1 (test)", workers=4, read_timeout=read_timeout, max_retries=max_retries),
        now=clock.now,
        sleep=clock.sleep,
    )


def get_picture(session: DownloadSession, url: str, accept: Callable[[bytes], bytes]) -> bytes:
    """Try until there is an answer, as a download does."""
    attempts = Attempts()
    while True:
        with suppress(TryAgain):
            body = session.try_picture(url, attempts)
            try:
                return accept(body)
            except BadBody as error:
                session.failed(attempts, str(error))


def same(body: bytes) -> bytes:
    return body


def only_good(body: bytes) -> bytes:
    if body != GOOD.body:
        raise BadBody("no picture")
    return body


PASSING = {
    **{f"status {status}": Reply(status) for status in (408, 425, 500, 502, 503, 504, 520, 522, 524, 529, 530)},
    "connection reset": Reply(reset=True),
    "short body": Reply(body=b"pict", claim=7),
    "body that does not decode": Reply(body=b"<html>"),
}


@pytest.mark.parametrize("fault", PASSING)
def test_a_passing_failure_is_tried_again_after_a_second(server: FaultyServer, clock: Clock, fault: str) -> None:
    url = server.answer("/a.jpg", PASSING[fault], GOOD)
    assert get_picture(make_session(clock), url, only_good) == GOOD.body
    assert server.times_asked() == {"/a.jpg": 2}
    assert len(clock.waits) == 1
    assert 1 <= clock.waits[0] <= 1.25


@pytest.mark.parametrize("fault", PASSING)
def test_a_failure_that_stays_is_given_up_after_the_last_retry(server: FaultyServer, clock: Clock, fault: str) -> None:
    url = server.answer("/a.jpg", PASSING[fault])
    with pytest.raises(FetchFailed, match=r"\(3 tries\)"):
        get_picture(make_session(clock, max_retries=2), url, only_good)
    assert server.times_asked() == {"/a.jpg": 3}


def test_waits_double_from_one_second(server: FaultyServer, clock: Clock) -> None:
    url = server.answer("/a.jpg", Reply(503))
    with pytest.raises(FetchFailed):
        get_picture(make_session(clock, max_retries=5), url, same)
    for wait, base in zip(clock.waits, (1, 2, 4, 8, 16), strict=True):
        assert base <= wait <= 1.25 * base


@given(st.integers(1, 10_000))
def test_no_wait_is_longer_than_a_minute(failures: int) -> None:
    assert min(2 ** (failures - 1), 60) <= backoff_seconds(failures) <= 60


@pytest.mark.parametrize("status", [404, 410])
def test_a_missing_picture_is_not_asked_for_again(server: FaultyServer, clock: Clock, status: int) -> None:
    with pytest.raises(MissingPicture):
        get_picture(make_session(clock), server.answer("/a.jpg", Reply(status)), same)
    assert (server.times_asked(), clock.waits) == ({"/a.jpg": 1}, [])


def test_every_status_has_its_place() -> None:
    found: dict[Verdict, set[int]] = {verdict: set() for verdict in Verdict}
    for status in range(100, 600):
        found[meaning_of(status).verdict].add(status)
    assert found[Verdict.GOOD] == {200, 203, 206}
    assert found[Verdict.MISSING] == {404, 410}
    assert found[Verdict.FORBIDDEN] == {401, 403, 451}
    assert found[Verdict.REFUSED] == {202, 400, 405, 407, 509, 511}
    passing = {408, 421, 425, *range(100, 200), *range(500, 600)} - {501, 505, 508, 509, 511, 526}
    assert found[Verdict.AGAIN] == passing
    assert all(len(meaning.why) > 5 for meaning in (*STATUSES.values(), *CLASSES.values()))


@pytest.mark.parametrize("status", [400, 401, 403, 418, 501])
def test_a_refusal_is_not_asked_again(server: FaultyServer, clock: Clock, status: int) -> None:
    with pytest.raises(FetchFailed, match=str(status)):
        get_picture(make_session(clock), server.answer("/a.jpg", Reply(status)), same)
    assert (server.times_asked(), clock.waits) == ({"/a.jpg": 1}, [])


@pytest.mark.parametrize("status", [302, 403, 404, 503])
def test_errors_with_small_bodies_keep_the_connection(server: FaultyServer, clock: Clock, status: int) -> None:
    to_a_good_one = {"Location": "/b.jpg"} if status == 302 else {}
    url = server.answer("/a.jpg", Reply(status, b"no" * 500, to_a_good_one))
    server.answer("/b.jpg", GOOD)
    session = make_session(clock)
    for _ in range(5):
        with suppress(MissingPicture, FetchFailed, TryAgain):
            session.try_picture(url, Attempts())
    assert (server.connections, len(server.asked)) == (1, 10 if status == 302 else 5)


def test_errors_with_endless_bodies_are_not_read_to_the_end(server: FaultyServer, clock: Clock) -> None:
    with pytest.raises(MissingPicture):
        make_session(clock).try_picture(server.answer("/a.jpg", Reply(404, endless=True)), Attempts())


@pytest.fixture
def untrusted(tmp_path: Path, server: FaultyServer) -> str:
    """The address of `server` behind TLS with a certificate that nobody has signed."""
    files = [str(tmp_path / name) for name in ("key.pem", "cert.pem")]
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost"]
    if not shutil.which("openssl"):
        pytest.skip("needs openssl, to make a certificate")
    subprocess.run(["openssl", *words, "-keyout", files[0], "-out", files[1]], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files[1], files[0])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return server.address.replace("http:", "https:")


def test_a_certificate_that_is_not_trusted_is_no_reason_to_try_again(untrusted: str, clock: Clock) -> None:
    with pytest.raises(Refused, match="certificate is not trusted: self") as caught:
        make_session(clock).try_picture(f"{untrusted}/a.jpg", Attempts())
    assert "REQUESTS_CA_BUNDLE" in caught.value.meaning.advice
    with pytest.raises(PipelineError) as told:
        make_session(clock).get_small(f"{untrusted}/bulk-data")
    assert "REQUESTS_CA_BUNDLE" in told.value.problems[0].suggestion
    assert clock.waits == []


@pytest.mark.parametrize("server_is", ["http", "https"])
def test_a_proxy_in_the_way_is_named(
    server: FaultyServer, clock: Clock, monkeypatch: pytest.MonkeyPatch, server_is: str
) -> None:
    """The faulty server knows no CONNECT, and answers 404 to all else; nobody listens at the other."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, server.address if server_is == "https" else "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    url = f"{server_is}://cards.example.org/bulk-data"
    with pytest.raises(PipelineError) as caught:
        make_session(clock, max_retries=0).get_small(url)
    (problem,) = caught.value.problems
    if server_is == "https":
        assert ("the proxy answers 501" in problem.details, "HTTPS_PROXY" in problem.suggestion) == (True, True)
    else:
        assert problem.details.endswith("Connection refused (through the proxy http://127.0.0.1:9) (1 try)")
    assert "(host=" not in problem.details


@pytest.mark.parametrize(
    ("proxy", "advice"),
    [
        ("me:secret@127.0.0.1:9", "as http://host:port"),
        pytest.param(
            "socks5h://127.0.0.1:9",
            'pip install "requests[socks]"',
            marks=pytest.mark.skipif(find_spec("socks") is not None, reason="PySocks is installed"),
        ),
    ],
)
def test_a_proxy_that_can_not_be_used_says_what_to_do(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, proxy: str, advice: str
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(PipelineError) as caught:
        make_session(clock).get_small("http://cards.example.org/bulk-data")
    assert advice in caught.value.problems[0].suggestion
    assert "secret" not in caught.value.render()
    assert clock.waits == []


def test_what_a_server_compresses_against_our_wish_is_unpacked(server: FaultyServer, clock: Clock) -> None:
    url = server.answer("/a.jpg", Reply(body=gzip.compress(GOOD.body), headers={"Content-Encoding": "gzip"}))
    assert get_picture(make_session(clock), url, only_good) == GOOD.body


def test_a_redirect_to_the_placeholder_is_a_missing_picture_and_not_followed(
    server: FaultyServer, clock: Clock
) -> None:
    url = server.answer("/a.jpg", Reply(302, headers={"Location": "https://errors.scryfall.com/soon.jpg"}))
    with pytest.raises(MissingPicture, match="placeholder"):
        get_picture(make_session(clock), url, same)


def test_redirects_are_followed_but_not_for_ever(server: FaultyServer, clock: Clock) -> None:
    server.answer("/b.jpg", GOOD)
    url = server.answer("/a.jpg", Reply(302, headers={"Location": "/b.jpg"}))
    assert get_picture(make_session(clock), url, same) == GOOD.body
    server.answer("/b.jpg", Reply(302, headers={"Location": "/a.jpg"}))
    with pytest.raises(FetchFailed, match="redirects"):
        get_picture(make_session(clock), url, same)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/a.jpg"])
def test_a_redirect_out_of_http_is_refused(server: FaultyServer, clock: Clock, location: str) -> None:
    url = server.answer("/a.jpg", Reply(302, headers={"Location": location}))
    with pytest.raises(FetchFailed):
        get_picture(make_session(clock), url, same)


@pytest.mark.parametrize("url", ["nonsense", "http://", "http://[::1", "http://127.0.0.1:99999/a.jpg"])
def test_an_address_that_is_none_is_a_failure_like_others(clock: Clock, url: str) -> None:
    with pytest.raises(FetchFailed):
        get_picture(make_session(clock, max_retries=0), url, same)


@pytest.mark.parametrize(("header", "pause"), [("7", 7), (None, 30), ("soon", 30), ("0", 1)])
def test_429_pauses_for_as_long_as_it_says_or_half_a_minute(
    server: FaultyServer, clock: Clock, header: str | None, pause: float
) -> None:
    url = server.answer("/a.jpg", Reply(429, headers={"Retry-After": header} if header else {}), GOOD)
    assert get_picture(make_session(clock, max_retries=0), url, same) == GOOD.body
    assert clock.time == pause


def test_429_pauses_every_worker(server: FaultyServer) -> None:
    url, other = server.answer("/a.jpg", Reply(429), GOOD), server.answer("/b.jpg", GOOD)
    paused, go_on = threading.Event(), threading.Event()
    time = 0.0

    def sleep(_seconds: float) -> None:
        nonlocal time
        paused.set()
        go_on.wait(10)
        time = 30.0

    http = Http(LOOPBACK, "t", workers=2, read_timeout=5, max_retries=0)
    session = DownloadSession(http, now=lambda: time, sleep=sleep)
    workers = [threading.Thread(target=get_picture, args=(session, url, same))]
    workers[0].start()
    assert paused.wait(10)
    workers.append(threading.Thread(target=get_picture, args=(session, other, same)))
    workers[1].start()
    workers[1].join(0.2)
    assert server.asked == ["/a.jpg"]  # the second worker has not asked: it sits out the first one's pause
    go_on.set()
    for worker in workers:
        worker.join(10)
    assert sorted(server.asked) == ["/a.jpg", "/a.jpg", "/b.jpg"]


def test_429_that_asks_for_more_than_ten_minutes_ends_the_run(server: FaultyServer, clock: Clock) -> None:
    url = server.answer("/a.jpg", Reply(429, headers={"Retry-After": "601"}))
    with pytest.raises(PipelineError, match="more requests") as caught:
        get_picture(make_session(clock), url, same)
    assert caught.value.category.value == "Network Error"
    assert clock.waits == []


def test_429_without_end_ends_the_run(server: FaultyServer, clock: Clock) -> None:
    with pytest.raises(PipelineError, match="more requests"):
        get_picture(make_session(clock), server.answer("/a.jpg", Reply(429)), same)
    assert len(server.asked) == 11


@given(st.integers(0, 10**6))
def test_retry_after_is_read_as_seconds(seconds: int) -> None:
    assert retry_after_seconds(str(seconds)) == seconds


def test_retry_after_is_read_as_a_date_and_never_raises() -> None:
    when = datetime.now(timezone.utc) + timedelta(seconds=90)
    assert 80 < (retry_after_seconds(format_datetime(when, usegmt=True)) or 0) <= 90
    assert retry_after_seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    for nonsense in ("", "-5", "1.5", "soon", "²", "Wed, 99 Foo"):
        assert retry_after_seconds(nonsense) is None


def test_requests_name_the_tool_and_ask_for_bytes_as_they_are(server: FaultyServer, clock: Clock) -> None:
    get_picture(make_session(clock), server.answer("/a.jpg", GOOD), same)
    headers = server.headers_seen[0]
    assert headers["User-Agent"] == "Tests/1 (test)"
    assert headers["Accept"]
    assert headers["Accept-Encoding"] == "identity"


def test_lists_are_asked_for_at_most_ten_times_a_second_and_pictures_at_any_rate(
    server: FaultyServer, clock: Clock
) -> None:
    session, url = make_session(clock), server.answer("/list", GOOD)
    for _ in range(20):
        session.get_small(url)
    assert clock.time == pytest.approx(1.9)
    for _ in range(20):
        get_picture(session, url, same)
    assert clock.time == pytest.approx(1.9)


def test_a_list_that_can_not_be_had_says_what_to_do(server: FaultyServer, clock: Clock, tmp_path: Path) -> None:
    target = Resumable(tmp_path / "list", server.answer("/list", Reply(404)))
    with pytest.raises(PipelineError, match="could not be downloaded") as caught:
        make_session(clock).get_large(target, None, lambda _: None)
    assert "--offline" in caught.value.problems[0].suggestion


def test_close_wakes_a_worker_that_waits(server: FaultyServer) -> None:
    session = DownloadSession(Http(LOOPBACK, "t", workers=1, read_timeout=5))
    url = server.answer("/a.jpg", Reply(429))
    ended: list[BaseException] = []

    def work() -> None:
        try:
            get_picture(session, url, same)
        except Stopped as error:
            ended.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    while not server.asked:
        pass
    session.close()
    worker.join(10)  # the pause would last 30 s
    assert ended


def test_a_silent_name_server_does_not_hold_up_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a limit of its own this test would hang: the lookup does not return before the probe has."""
    answered = threading.Event()

    def lookup(*_: object, **__: object) -> list[object]:
        answered.wait()
        raise OSError("too late")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    assert probe("https://example.org", "Tests/1", within=0.2) is None
    answered.set()


def test_a_body_that_drips_without_end_is_given_up(server: FaultyServer) -> None:
    clock = Clock()
    session = make_session(clock, max_retries=0)
    url = server.answer("/a.jpg", Reply(body=bytes(1000), drops=500))
    seconds = itertools.count()
    session._now = lambda: float(next(seconds))  # a second for each look at the clock
    with pytest.raises(FetchFailed, match="too slow"):
        get_picture(session, url, same)


@pytest.mark.parametrize("endless", [Reply(continues=True), Reply(body=b"x" * 99, trailers=True)])
def test_an_answer_that_never_gets_anywhere_is_given_up(
    server: FaultyServer, clock: Clock, endless: Reply, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "MAX_SILENCE_SECONDS", 0.3)
    url = server.answer("/a.jpg", endless, GOOD)
    assert get_picture(make_session(clock, read_timeout=0.3), url, same) == GOOD.body
    server.answer("/a.jpg", endless)
    with pytest.raises(FetchFailed, match="timed out"):
        get_picture(make_session(clock, max_retries=0, read_timeout=0.3), url, same)


def test_an_address_that_parsers_disagree_on_does_not_lead_home(server: FaultyServer) -> None:
    session = DownloadSession(Http("https://1.1.1.1", "t", workers=1, read_timeout=5, max_retries=0))
    port = server.address.rpartition(":")[2]
    hosts = ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1", "2130706433")
    urls = [f"http://{host}:{port}/a" for host in hosts]
    for url in (*urls, f"http://127.0.0.1:{port}\\@8.8.8.8/a"):
        with pytest.raises(FetchFailed, match="this machine"):
            session.try_picture(url, Attempts())
    assert server.asked == []


@pytest.mark.parametrize(
    ("host", "home"),
    [("127.0.0.1", True), ("::1", True), ("0.0.0.0", True), ("169.254.169.254", True), ("localhost", True),
     ("::ffff:127.0.0.1", True), ("::ffff:169.254.169.254", True), ("fe80::1%eth0", True), ("10.1.2.3", False),
     ("198.18.0.1", False), ("8.8.8.8", False), ("no such name", False), ("127.1", True), ("2130706433", True),
     ("0x7f.1", True), ("localhost.", True), ("a.localhost", True), ("nolocalhost", False), ("134744072", False)],
)  # fmt: skip
def test_this_machine_is_known_by_its_addresses(host: str, home: bool) -> None:
    assert leads_home(host) == home


def test_a_name_that_leads_home_is_noticed_when_it_is_connected_to(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it led to when it was looked up before."""
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *more, **also: real("127.0.0.1", *more, **also))
    session = DownloadSession(Http("https://1.1.1.1", "t", workers=1, read_timeout=5, max_retries=0))
    monkeypatch.setattr(session, "_may_ask", lambda host: not leads_home(host))
    with pytest.raises(FetchFailed, match="this machine"):
        session.try_picture(f"http://cards.example.org:{server.address.rpartition(':')[2]}/a", Attempts())
    assert server.asked == []


def test_a_read_timeout_above_a_minute_is_honoured(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "MAX_SILENCE_SECONDS", 0.0)
    session = DownloadSession(Http(LOOPBACK, "t", workers=1, read_timeout=30, max_retries=0))
    body = b"x" * 50_000
    url = server.answer("/a.jpg", Reply(body=body, drops=5))
    assert session.try_picture(url, Attempts()) == body
