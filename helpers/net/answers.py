"""What a server's answer means: whether it is final or worth a retry, and when to retry.

Scryfall's rules: https://scryfall.com/docs/api (10 requests a second; 429 means pause).
"""

import email.utils
import http.client
import random
import re
import ssl
import time
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import urllib3

from helpers.net.throttle import MAX_PAUSE_SECONDS

NAME_YOURSELF = (
    'identify yourself, with a contact: --user-agent "MyTool/1.0 (me@example.org)"; if that does not help, your '
    "network may be blocked. What was downloaded is kept"
)
SIGN_IN_TO_PROXY = (
    "set HTTPS_PROXY and HTTP_PROXY with the proxy's user name and password: http://user:password@host:port"
)
SIGN_IN_TO_NETWORK = "sign in to the network: open any http:// page in a browser on this machine"
ASK_THE_PROXY = "check HTTPS_PROXY and HTTP_PROXY, or ask whoever runs the proxy to let you through"
WRITE_PROXY_AS = "set HTTPS_PROXY and HTTP_PROXY as http://host:port or http://user:password@host:port"
INSTALL_SOCKS = (
    'install what SOCKS proxies need: pip install "requests[socks]"; or unset ALL_PROXY, HTTPS_PROXY, HTTP_PROXY'
)
TRUST = (
    "if your network or antivirus inspects TLS, name the file with its certificate: "
    "REQUESTS_CA_BUNDLE=/path/to/ca.pem; else check this machine's clock, and whether the network wants a login"
)
COME_BACK = "run the same command again later; what was downloaded is kept"


class Verdict(Enum):
    """What happens after an answer."""

    GOOD = "the body is looked at"
    AGAIN = "tried again, with backoff"
    PAUSE = "every worker pauses"
    START_OVER = "a partial download starts over"
    MISSING = "there is no such picture"
    FORBIDDEN = "the picture is missing, or we are turned away: what else comes tells"
    REFUSED = "our requests are turned away, whatever the picture"
    FAILED = "that picture failed"


class Meaning(NamedTuple):
    """What a status means: what happens, why, and what a user can do if nothing else comes."""

    verdict: Verdict
    why: str
    advice: str = NAME_YOURSELF


# RFC 9110, 15; Cloudflare's own statuses: https://developers.cloudflare.com/support/troubleshooting/http-status-codes/
STATUSES: dict[int, Meaning] = {
    200: Meaning(Verdict.GOOD, "as requested"),
    202: Meaning(Verdict.REFUSED, "accepted, but not done: AWS's firewall challenges browsers so"),
    203: Meaning(Verdict.GOOD, "200, through a proxy that may have changed it; every body is checked"),
    206: Meaning(Verdict.GOOD, "the rest of a list"),
    400: Meaning(Verdict.REFUSED, "Scryfall answers so if it does not like the User-Agent"),
    401: Meaning(Verdict.FORBIDDEN, "some object stores hide missing objects behind it; a login does, too"),
    403: Meaning(Verdict.FORBIDDEN, "object stores hide missing objects behind it; a firewall answers everything so"),
    404: Meaning(Verdict.MISSING, "the server says so"),
    405: Meaning(Verdict.REFUSED, "GET is always allowed; AWS's firewall sends its CAPTCHA so"),
    407: Meaning(Verdict.REFUSED, "the proxy wants a password", SIGN_IN_TO_PROXY),
    408: Meaning(Verdict.AGAIN, "the server was tired of waiting for our request; it may be repeated (RFC 9110)"),
    410: Meaning(Verdict.MISSING, "gone for good"),
    416: Meaning(Verdict.START_OVER, "the list has another length now"),
    421: Meaning(Verdict.AGAIN, "the wrong server of several; another connection may reach the right one"),
    425: Meaning(Verdict.AGAIN, "too early: the server wants the same request once more (RFC 8470)"),
    429: Meaning(Verdict.PAUSE, "too many requests"),
    451: Meaning(Verdict.FORBIDDEN, "withheld for legal reasons: that picture, or the whole server here"),
    # Other 5xx are AGAIN: 500, 502, 503, 504; Cloudflare's 520 to 525, 527, 530 (its origin is down, slow or unknown
    # for now); 529 (overloaded); 598, 599 (a proxy's timeouts)
    501: Meaning(Verdict.FAILED, "the server can't do it, now or later"),
    505: Meaning(Verdict.FAILED, "the server does not speak our HTTP"),
    508: Meaning(Verdict.FAILED, "a loop in the server's configuration"),
    509: Meaning(Verdict.REFUSED, "the site's monthly traffic is used up", COME_BACK),
    511: Meaning(Verdict.REFUSED, "the network wants a login (RFC 6585)", SIGN_IN_TO_NETWORK),
    526: Meaning(Verdict.FAILED, "Cloudflare rejects the origin's certificate, until somebody replaces it"),
}
# RFC 9110, 15: a client that does not know a status takes it for the x00 of its class.
CLASSES = {
    1: Meaning(Verdict.AGAIN, "the real answer follows, but http.client does not read it"),
    2: Meaning(Verdict.FAILED, "no body that could be a picture"),
    3: Meaning(Verdict.FAILED, "a redirect that leads nowhere"),
    4: Meaning(Verdict.FAILED, "something is wrong with this request, and it will be the next time"),
    5: Meaning(Verdict.AGAIN, "trouble on the server's side, which mostly passes"),
}
_CONNECTION = re.compile(r"\w+\(host='([^']*)', port=(\d+)\)")  # how urllib3 shows one, by the name of a class
PLACEHOLDER_HOST = "errors.scryfall.com"  # Scryfall redirects there for a picture it does not have

MAX_BACKOFF_SECONDS = 60.0
PAUSE_SECONDS = 30.0  # after a 429 without a usable Retry-After
MIN_PAUSE_SECONDS = 1.0  # "Retry-After: 0" is no licence to hammer


class MissingPicture(Exception):
    """The server has no such picture: 404, 410, or a redirect to its placeholder."""


class FetchFailed(Exception):
    """The URL could not be fetched; the text says why."""


class Refused(FetchFailed):
    """The server may object to the client rather than to the URL; `meaning` is that of the status."""

    def __init__(self, text: str, meaning: Meaning) -> None:
        super().__init__(text)
        self.meaning = meaning


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


def meaning_of(status: int) -> Meaning:
    """What happens after an answer with `status`, and why."""
    return STATUSES.get(status) or CLASSES.get(status // 100, CLASSES[5])


def judge(response: urllib3.BaseHTTPResponse) -> None:
    """Raise the exception that the status stands for; return if the body is what was requested."""
    status = response.status
    meaning = meaning_of(status)
    text = f"HTTP {status}"
    asked = retry_after_seconds(response.headers.get("Retry-After"), response.headers.get("Date"))
    match meaning.verdict:
        case Verdict.GOOD:
            return
        case Verdict.PAUSE:
            pause = PAUSE_SECONDS if asked is None else max(MIN_PAUSE_SECONDS, asked)
            raise PauseWanted(pause, _with_phrase(status), is_try=False)  # the picture is not to blame
        case Verdict.AGAIN if status >= 500 and asked and asked <= MAX_PAUSE_SECONDS:
            # a longer one concerns that picture, not us
            raise PauseWanted(max(MIN_PAUSE_SECONDS, asked), _with_phrase(status), is_try=True)
        case Verdict.AGAIN:
            raise Passing(text)
        case Verdict.START_OVER:
            raise BadRange(text)
        case Verdict.MISSING:
            raise MissingPicture(text)
        case Verdict.FORBIDDEN | Verdict.REFUSED:
            raise Refused(text, meaning)
    raise FetchFailed(text)


def _with_phrase(status: int) -> str:
    return f"{status} {http.client.responses.get(status, '')}".strip()


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


def never_works(error: Exception) -> Refused | None:
    """Errors that another try can't mend: what we lack, or a proxy's refusal."""
    inner = innermost(error)
    if isinstance(inner, ssl.SSLCertVerificationError):
        why = f"the server's certificate is not trusted: {inner.verify_message}"
        return Refused(why, Meaning(Verdict.REFUSED, why, TRUST))
    if "SOCKS support" in str(inner):
        why = "the proxy speaks SOCKS, and a package for that is missing"
        return Refused(why, Meaning(Verdict.REFUSED, why, INSTALL_SOCKS))
    if "proxy URL" in str(inner):
        why = "the proxy's address can't be used"
        return Refused(why, Meaning(Verdict.REFUSED, why, WRITE_PROXY_AS))
    if tunnel := re.search(r"Tunnel connection failed: (\d+)(.*)", str(inner)):
        meaning = meaning_of(int(tunnel[1]))
        if meaning.verdict not in (Verdict.AGAIN, Verdict.PAUSE):
            advice = meaning.advice if meaning.advice != NAME_YOURSELF else ASK_THE_PROXY
            return Refused(f"the proxy answers {tunnel[1]}{tunnel[2]}", Meaning(Verdict.REFUSED, meaning.why, advice))
    return None


def reason(error: Exception) -> str:
    """The innermost cause in a few words; requests wraps it in three layers."""
    inner = innermost(error)
    text = _CONNECTION.sub(r"\1:\2", str(inner))
    text = text if len(text) < 200 else text[:200] + "…"
    return f"{type(inner).__name__}: {text}" if text else type(inner).__name__


def innermost(error: BaseException) -> BaseException:
    """The root cause."""
    while True:
        cause = getattr(error, "reason", None) or next((a for a in error.args if isinstance(a, BaseException)), None)
        if not isinstance(cause, BaseException):
            return error
        error = cause
