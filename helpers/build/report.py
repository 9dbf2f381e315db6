"""What a build counts and measures, and what it says of that at the end."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from helpers.index.store import Statistics
from helpers.talk import percent

LEAST_SECONDS = 0.05  # of a phase that has a rate; what is told as 0.0 s has none


@dataclass(slots=True)
class BuildReport:
    """Counts what became of each face, and says how the build went."""

    total: int = 0
    resumed: int = 0  # rows that an earlier run had made
    reused: int = 0  # rows of earlier builds
    dropped: int = 0  # rows of the earlier index whose pictures the list names no more
    embedded: int = 0  # by this run
    missing: int = 0
    validation_failures: int = 0
    model_busy: float = 0.0  # seconds with something to do
    model_there: float = 0.0  # seconds in all
    seconds: dict[str, float] = field(default_factory=dict)  # by phase
    images: dict[str, int] = field(default_factory=dict)  # by phase, where that has any

    @property
    def successful(self) -> int:
        """Faces that have a row."""
        return self.resumed + self.reused + self.embedded

    @property
    def images_per_second(self) -> dict[str, float]:
        """By phase: faces whose rows it made, took over or indexed, a second; where that says anything."""
        return {
            name: round(count / self.seconds[name], 2)
            for name, count in self.images.items()
            if count and self.seconds.get(name, 0) >= LEAST_SECONDS
        }

    @property
    def waiting_for_loaders(self) -> float:
        """Share of the time in which the model had no batch, 0..1."""
        return max(0.0, 1 - self.model_busy / self.model_there) if self.model_there else 0.0

    def statistics(self) -> Statistics:
        """The counts as the manifest has them."""
        return Statistics(
            total_records=self.total,
            successful_embeddings=self.successful,
            failed_embeddings=self.total - self.successful,
            success_rate=self.successful / self.total if self.total else 0.0,
            missing_from_cache=self.missing,
            validation_failures=self.validation_failures,
        )

    def add_share(self, other: "BuildReport") -> None:
        """Count in what another rank did."""
        self.embedded += other.embedded
        self.missing += other.missing
        self.validation_failures += other.validation_failures
        self.model_busy += other.model_busy
        self.model_there += other.model_there

    def progress_note(self) -> str:
        """For the progress line: what was left out so far, and who waits for whom."""
        note = f"{self.missing:,} missing, {self.validation_failures:,} broken"
        return f"{note}, model waiting {self.waiting_for_loaders:.0%}" if self.model_there else note

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure the block as phase `name`."""
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 3)

    def counts_told(self) -> list[str]:
        """The lines of the summary that say what became of the faces."""
        rate = self.images_per_second.get("embedding")
        origins = [
            f"{self.embedded:,} now" + (f" at {rate:,.1f} images/s" if rate else "") if self.embedded else "",
            f"{self.reused:,} taken over from earlier builds" if self.reused else "",
            f"{self.resumed:,} by an interrupted run" if self.resumed else "",
        ]
        return [
            f"Total faces: {self.total:,}",
            f"  missing from the cache: {self.missing:,}",
            f"  validation failures: {self.validation_failures:,}",
            f"  embedded: {self.successful:,} ({', '.join(filter(None, origins))})",
            f"Success rate: {percent(self.successful, self.total)}",
            *(["download_images.py asks again for what is missing or broken"] if self.successful < self.total else []),
        ]

    def phases_told(self) -> str:
        """The line of the summary that says where the time went."""
        rates = self.images_per_second
        phases = [
            f"{name} {seconds:.1f}" + (f" ({rates[name]:,.1f} images/s)" if name in rates else "")
            for name, seconds in self.seconds.items()
        ]
        waiting = f"; the model waited {self.waiting_for_loaders:.0%} of its time for the loaders"
        return f"Seconds: {', '.join(phases)}{waiting if self.embedded else ''}"
