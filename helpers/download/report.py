"""The report on a download: counts, and every failure with its reason; the next run reads it.

It is `download_report.json` in the cache directory. Failures go to an unnamed temporary file as they occur, so half a
million of them cost no memory; the report lists them one per line, for people: readers don't depend on it.
"""

import mmap
import os
import shutil
import tempfile
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha1
from pathlib import Path
from typing import BinaryIO

import msgspec

from helpers.about import VERSION
from helpers.artifacts import DOWNLOAD_REPORT
from helpers.atomic_io import atomic_path, disk_errors_named, json_text, utc_timestamp
from helpers.cards.faces import Filters, Selection
from helpers.cards.image_cache import ImageCache
from helpers.errors import BAD_JSON, Category, PipelineError
from helpers.talk import human_bytes, percent


class Status(Enum):
    """How the download of one picture ended."""

    PRESENT = "already present"
    FETCHED = "fetched"
    MISSING = "missing on the server"
    FAILED = "failed"


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """A picture wanted in the cache, and what it shows."""

    url: str
    card: str
    face_id: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome for one picture."""

    wanted: Wanted
    status: Status
    size_bytes: int = 0
    reason: str = ""
    broken_file: bool = False  # a broken file is still in its place


class Failure(msgspec.Struct, frozen=True, gc=False):
    """A line of the report."""

    url: str
    card: str
    face_id: str
    status: str
    reason: str

    @property
    def outcome(self) -> Outcome:
        """The line as the outcome it was written for; a status of another version counts as failed."""
        status = Status.__members__.get(self.status.upper(), Status.FAILED)
        return Outcome(Wanted(self.url, self.card, self.face_id), status, reason=self.reason)


class Checked(msgspec.Struct, frozen=True):
    """The last complete run: which pictures it found whole, and when (as an mtime, ns)."""

    selection: Selection
    until_ns: int


class LastReport(msgspec.Struct, frozen=True):
    """The report of an earlier run, without its failures, which may be many: see `failures_of`."""

    kind: str
    image_key: str
    limit: int | None
    complete: bool
    already_present: int
    fetched: int
    filters: Filters = Filters()
    checked: Checked | None = None

    @property
    def selection(self) -> Selection:
        """Which pictures it covered."""
        return Selection(self.kind, self.image_key, self.limit, self.filters)


class _Failures(msgspec.Struct):
    """The other part of a report; `Raw` are views of the file, decoded one at a time."""

    failures: list[msgspec.Raw]


def _content(folder: Path) -> memoryview:
    """The report in `folder`, mapped: with half a million failures it has 150 MB. OSError or ValueError if it can't."""
    with open(folder / DOWNLOAD_REPORT, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return memoryview(mapped)[len(BOM_UTF8) if mapped[: len(BOM_UTF8)] == BOM_UTF8 else 0 :]


def read_last(folder: Path) -> LastReport | None:
    """The report in `folder` without its failures; None if there is none or it can't be read."""
    try:
        return msgspec.json.decode(_content(folder), type=LastReport)
    except (OSError, ValueError, *BAD_JSON):  # ValueError: an empty file can't be mapped
        return None


def failures_of(folder: Path) -> Iterator[Failure]:
    """The failures in the report in `folder`, one at a time; none if it can't be read."""
    decode = msgspec.json.Decoder(Failure).decode
    with suppress(OSError, ValueError, *BAD_JSON):
        for raw in msgspec.json.decode(_content(folder), type=_Failures).failures:
            with suppress(*BAD_JSON):
                yield decode(raw)


@dataclass(slots=True)
class DownloadReport:
    """Counts outcomes, keeps the failures, and sums up the run. `folder` is the cache directory."""

    folder: Path
    counts: Counter[Status] = field(default_factory=Counter)
    size_bytes: int = 0
    seconds: float = 0.0
    failures: int = 0
    first_failure: Outcome | None = None
    broken_files: int = 0  # failures that left a broken file in place
    not_reached: int = 0  # because the run was cut short
    complete: bool = False  # every picture was checked
    ended_by: PipelineError | None = None  # what cut it short, if the rest is still worth reporting
    _lines: BinaryIO | None = None

    def add(self, outcome: Outcome) -> None:
        """Count one picture."""
        self.counts[outcome.status] += 1
        self.size_bytes += outcome.size_bytes
        if outcome.reason:
            self.failures += 1
            self.broken_files += outcome.broken_file
            self.first_failure = self.first_failure or outcome
            wanted = outcome.wanted
            self._write_line(
                Failure(wanted.url, wanted.card, wanted.face_id, outcome.status.name.lower(), outcome.reason)
            )

    def carry_over(self, failures: Iterable[Failure], cache: ImageCache) -> None:
        """Count failures of an earlier run that this one did not reach: neither in the cache now, nor failed again."""
        failed = {sha1(failure.url.encode()).digest() for failure in self._listed()}
        for failure in failures:
            known = sha1(failure.url.encode()).digest() in failed
            if not known and not cache.has(failure.url):
                self.add(failure.outcome)

    def _listed(self) -> Iterator[Failure]:
        """The failures so far, read back."""
        if self._lines is None:
            return
        self._lines.seek(0)
        decode = msgspec.json.Decoder(Failure).decode
        for line in self._lines:
            if stripped := line.strip().rstrip(b","):
                yield decode(stripped)
        self._lines.seek(0, os.SEEK_END)

    def _write_line(self, failure: Failure) -> None:
        with disk_errors_named(self.folder / DOWNLOAD_REPORT):
            if self._lines is None:
                self._lines = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115  # unnamed, so nothing is left behind
            self._lines.write((b",\n    " if self.failures > 1 else b"\n    ") + msgspec.json.encode(failure))

    @property
    def total(self) -> int:
        """Pictures checked."""
        return self.counts.total()

    @property
    def present(self) -> int:
        """Pictures that are in the cache now."""
        return self.counts[Status.PRESENT] + self.counts[Status.FETCHED]

    def progress_note(self) -> str:
        """Bytes and failures so far, for the progress line."""
        return f"{human_bytes(self.size_bytes)}, {self.failures} failed"

    def summary(self) -> str:
        """What the user reads at the end."""
        fetched = self.counts[Status.FETCHED]
        rate = f"{fetched / self.seconds:.1f} pictures/s" if fetched and self.seconds else "N/A"
        hint = f"Failures and their reasons: {DOWNLOAD_REPORT} in the cache directory; --retry-failed retries them"
        return "\n".join(
            [
                f"Faces: {self.total:,}",
                f"  already present: {self.counts[Status.PRESENT]:,}",
                f"  fetched: {fetched:,} ({human_bytes(self.size_bytes)} in {self.seconds:.1f} s, {rate})",
                f"  missing on the server: {self.counts[Status.MISSING]:,}",
                f"  failed: {self.counts[Status.FAILED]:,}",
                f"Success rate: {percent(self.present, self.total + self.not_reached)}",
                *([f"The run was cut short; not checked: {self.not_reached:,}"] if self.not_reached else []),
                *([hint] if self.failures else []),
            ]
        )

    def write(self, selection: Selection, api_url: str, *, complete: bool, checked: Checked | None) -> None:
        """Write the report file; PipelineError if it can't be written."""
        fields = {
            "version": VERSION,
            "timestamp": utc_timestamp(),
            "complete": complete,
            **msgspec.structs.asdict(selection),
            "api_url": api_url,
            "total_faces": self.total,
            "already_present": self.counts[Status.PRESENT],
            "fetched": self.counts[Status.FETCHED],
            "missing": self.counts[Status.MISSING],
            "failed": self.counts[Status.FAILED],
            "size_bytes": self.size_bytes,
            "seconds": round(self.seconds, 3),
            "checked": checked,
        }
        with atomic_path(self.folder / DOWNLOAD_REPORT) as part, open(part, "wb") as file:
            file.write(json_text(fields).removesuffix(b"\n}\n") + b',\n  "failures": [')
            if self._lines is not None:
                self._lines.seek(0)
                shutil.copyfileobj(self._lines, file)
                file.write(b"\n  ")
            file.write(b"]\n}\n")


def nothing_to_retry(folder: Path) -> PipelineError:
    """The error for --retry-failed without a report."""
    return PipelineError.of(
        Category.CONFIGURATION,
        "there is no report of an earlier download to retry from",
        details=f"{folder / DOWNLOAD_REPORT} is missing or can't be read",
        suggestion="leave out --retry-failed: pictures already in the cache are not downloaded again",
    )
