"""Messages to the user: all go to stderr, so that stdout carries only data. And how text and paths become each other.

The locale only decides what people see: JSON and paths are UTF-8 on all disks that matter, whatever it says.
"""

import codecs
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

LINE_EVERY_SECONDS = 60.0  # if stderr is not a terminal: the log of an overnight run stays readable


class _Hushed:
    """Whether to print only warnings and errors: of processes that work together, one prints the rest."""

    now = False


def hush() -> None:
    """Print only warnings and errors from now on, and show no progress."""
    _Hushed.now = True


def say(text: str) -> None:
    """Print a line for the user; a log that can't be written is no reason to stop."""
    if not _Hushed.now:
        tell(text)


def tell(text: str) -> None:
    """Print a line even when hushed."""
    text = "\n".join(map(printable, text.split("\n")))
    with suppress(OSError):
        if sys.stderr.isatty() and "tqdm" in sys.modules:
            _bars().write(text, file=sys.stderr)  # above the progress bar
        else:
            print(text, file=sys.stderr, flush=True)


@cache
def _bars() -> "type[tqdm[Any]]":
    """Tqdm, imported only where a bar is shown: doctor.py has to talk without it."""
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())  # it makes its own at first use; a signal at that moment causes a traceback
    return tqdm


def printable(text: str) -> str:
    """One line of `text` without what a terminal might take for commands: card names come from the network."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def as_json_line(value: Any) -> str:
    """`value` as a line of JSON for stdout: text as it is in UTF-8; where stdout has another encoding, escaped.

    Escaped is also what a terminal might take for commands, or a program for the end of the line (U+2028).
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    line = json.dumps(value, ensure_ascii=codecs.lookup(encoding).name != "utf-8")
    return line if line.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)


def text_of(path: str | os.PathLike[str]) -> str:
    """A path as text for JSON and people: replacement characters stand for bytes that are not text.

    In an ASCII locale Python's own string has a surrogate for each byte of a letter, in Latin-1 two other letters.
    """
    try:
        return os.fsencode(path).decode()
    except UnicodeError:
        return os.fspath(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def path_of(text: str) -> Path:
    """The path that `text_of` made `text` of, if its bytes are UTF-8."""
    return Path(os.fsdecode(text.encode("utf-8", "surrogateescape")))


def warn(text: str) -> None:
    """Print a warning about something that is wrong but does not stop the run."""
    tell(f"WARNING: {text}")


def percent(part: int, whole: int) -> str:
    """`part` of `whole` as readable text; N/A if `whole` is 0."""
    return f"{100 * part / whole:.1f} %" if whole else "N/A"


def human_bytes(count: float) -> str:
    """A readable number of bytes, in powers of 1,000 as usual for disks and networks."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


class Progress:
    """Progress of a long stage, with rate and ETA: a bar on a terminal, else one line a minute.

    `advance` may be called from several threads. `note` supplies a few words (bytes, failures) for each line. `before`
    were done by an earlier run: they count as done, but not towards the rate.
    """

    def __init__(self, label: str, total: int, unit: str, note: Callable[[], str] = str, before: int = 0) -> None:
        self._lock = threading.Lock()
        self._label, self._total, self._unit, self._note = label, total, unit, note
        self._done = self._before = before
        self._started = self._last_line = time.monotonic()
        self._bar = None
        if sys.stderr.isatty() and not _Hushed.now:
            self._bar = _bars()(
                total=total, initial=before, desc=label, unit=f" {unit}", file=sys.stderr, dynamic_ncols=True
            )

    def advance(self, count: int = 1) -> None:
        """Count `count` more as done."""
        self._add(count, 0)

    def expect(self, total: int) -> None:
        """The total, as far as it is known by now."""
        with self._lock:
            self._total = total
            if self._bar is not None:
                self._bar.total = total

    def already(self, count: int = 1) -> None:
        """Count `count` more as done before this run, so not towards the rate."""
        self._add(count, count)

    def _add(self, count: int, before: int) -> None:
        with self._lock:
            self._done += count
            self._before += before
            if self._bar is not None:
                self._bar.initial += before
                self._bar.set_postfix_str(self._note(), refresh=False)
                self._bar.update(count)
            elif time.monotonic() - self._last_line >= LINE_EVERY_SECONDS:
                self._last_line = time.monotonic()
                say(self._line())

    def _line(self) -> str:
        rate = (self._done - self._before) / max(time.monotonic() - self._started, 1e-9)
        parts = [f"{self._done:,} {self._unit}", f"{rate:.1f} {self._unit}/s"]
        if self._total:
            left = max(0, self._total - self._done) / rate if rate else 0.0
            eta = f"{int(left) // 3600}:{int(left) // 60 % 60:02}:{int(left) % 60:02}"
            parts[:1] = [f"{self._done:,}/{self._total:,} {self._unit}", percent(self._done, self._total)]
            parts.append(f"ETA {eta}")
        return f"{self._label}: " + ", ".join([*parts, *filter(None, [self._note()])])

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
