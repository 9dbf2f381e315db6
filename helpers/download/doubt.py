"""Are these pictures missing, or does the server turn us away, whatever we ask for?

Object stores answer 403 for an object that is not there, and a firewall answers 403 to everything; a page with status
200 may mean "not found", or be the login page of a captive portal. One answer can't tell which. So once a few pictures
in a row got the same answer, the workers are held, and pictures that are likely to exist are asked for: if one comes,
only those pictures are missing; if none does, the run ends.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from urllib.parse import urlsplit

from helpers.download.report import Outcome, Status, Wanted
from helpers.errors import Category
from helpers.net.answers import Meaning, Verdict, backoff_seconds
from helpers.net.throttle import TurnedAway
from helpers.session import DownloadSession
from helpers.talk import warn
from helpers.validation import BrokenImage, check_image

MAX_ALIKE = 5  # pictures in a row with the same odd answer before others are asked for; doubles if one of them comes
MAX_HELD_BACK = 80
Witnesses = Callable[[str], Iterable[str]]  # host -> URLs of pictures there that are likely to exist


@dataclass(frozen=True, slots=True)
class Odd:
    """An answer that is no picture. `sign` is equal for equal answers, `text` shows it to the user.

    A status that turns us away is final: it has a `meaning` and the picture's `outcome`. Other answers are tried again.
    """

    wanted: Wanted
    sign: str
    text: str
    meaning: Meaning | None = None
    outcome: Outcome | None = None


@dataclass(slots=True)
class _Streak:
    """Odd answers of one host in a row, without a picture or a 404 in between."""

    last: Odd
    limit: int = MAX_ALIKE
    urls: set[str] = field(default_factory=set)
    held_back: list[Outcome] = field(default_factory=list)  # until it is known what they mean


class Doubt:
    """Follows the answers of each host; see above."""

    def __init__(self, session: DownloadSession, witnesses: Witnesses) -> None:
        self._session, self._witnesses = session, witnesses
        self._came: dict[str, str] = {}  # host -> a picture that it has sent
        self._streaks: dict[str, _Streak] = {}

    def heed(self, answer: Outcome | Odd) -> Iterator[Outcome]:
        """Yield the outcomes that are certain by now; TurnedAway if the server does not serve us (any more)."""
        host = host_of(answer.wanted.url)
        streak = self._streaks.get(host)
        if isinstance(answer, Outcome):
            if answer.status is Status.FETCHED:
                self._came[host] = answer.wanted.url
            if streak and answer.status in (Status.FETCHED, Status.MISSING):
                yield from _released(self._streaks.pop(host), serves_us=host in self._came)
            yield answer
            return
        if streak is None or streak.last.sign != answer.sign:
            if streak:
                yield from _released(streak, serves_us=False)
            streak = self._streaks[host] = _Streak(answer)
        streak.last = answer
        streak.urls.add(answer.wanted.url)
        streak.held_back += [answer.outcome] if answer.outcome else []
        if len(streak.urls) < streak.limit:
            return
        serves_us = self._serves_us(host, streak, patient=answer.meaning is None)
        yield from _released(streak, serves_us=serves_us)
        if not serves_us:
            raise _turned_away(streak, self._came.get(host))
        self._streaks[host] = _Streak(answer, limit=min(2 * streak.limit, MAX_HELD_BACK))

    def rest(self, *, ask: bool) -> Iterator[Outcome]:
        """Yield what is still held back at the end: too little to end the run. `ask`: find out what it means."""
        for host, streak in self._streaks.items():
            serves_us = ask and bool(streak.held_back) and self._serves_us(host, streak, patient=False)
            yield from _released(streak, serves_us=serves_us)

    def _serves_us(self, host: str, streak: _Streak, *, patient: bool) -> bool:
        """Whether `host` sends any picture that is likely to exist; `patient`: with as many retries as for others."""
        with self._session.held():
            known = [self._came[host]] if host in self._came else []
            is_about_us = streak.last.meaning is not None and streak.last.meaning.verdict is Verdict.REFUSED
            others = islice(self._witnesses(host), 1 if is_about_us else None)
            urls = [*known, *(url for url in others if url not in streak.urls)]
            if any(self._comes(host, url) for url in urls):
                return True
            again = [*urls, streak.last.wanted.url]
            if patient:
                warn(f"{len(streak.urls)} pictures in a row: {streak.last.text}; waiting to see whether others come")
            for failures in range(1, self._session.http.max_retries + 1 if patient else 1):
                self._session.wait(backoff_seconds(failures))
                if self._comes(host, again[failures % len(again)]):
                    return True
        return False

    def _comes(self, host: str, url: str) -> bool:
        comes = self._session.comes(url, _is_whole)
        if comes:
            self._came[host] = url
        return comes


def _released(streak: _Streak, *, serves_us: bool) -> Iterator[Outcome]:
    """What was held back: missing if the status allows that and the host sends other pictures."""
    held_back, streak.held_back = streak.held_back, []
    is_missing = serves_us and streak.last.meaning is not None and streak.last.meaning.verdict is Verdict.FORBIDDEN
    for outcome in held_back:
        missing = replace(outcome, status=Status.MISSING, reason=f"{outcome.reason}, while other pictures come")
        yield missing if is_missing else outcome


def host_of(url: str) -> str:
    """Host and port of `url`; empty if it has none."""
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""


def _is_whole(body: bytes) -> bool:
    try:
        check_image(body)
    except BrokenImage:
        return False
    return True


def _turned_away(streak: _Streak, known: str | None) -> TurnedAway:
    odd = streak.last
    details = f"{len(streak.urls)} pictures in a row: {odd.text}"
    details += f"; and so for {known}, which came before" if known else "; the last: " + odd.wanted.url
    if odd.meaning is not None:
        return TurnedAway.of(
            Category.NETWORK, "the server refuses our requests", details=details, suggestion=odd.meaning.advice
        )
    return TurnedAway.of(
        Category.NETWORK,
        "the server sends something else, always the same, instead of pictures",
        details=details,
        suggestion=f"open {odd.wanted.url} in a browser on this machine: it may show the login page of your network (a "
        "captive portal), a challenge, or a proxy's block page. Once that is passed, run the same command again; what "
        "was downloaded is kept",
    )
