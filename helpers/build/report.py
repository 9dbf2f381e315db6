"""What a build counts and measures, and its summary."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from helpers.index.manifest import Embedding, Statistics
from helpers.talk import percent

MIN_SECONDS = 0.05  # of a phase that has a rate; what is told as 0.0 s has none


@dataclass(slots=True)
class BuildReport:
    """Counts what became of each face, and times the phases."""

    total: int = 0
    resumed: int = 0  # rows of interrupted builds
    reused: int = 0  # rows of the earlier index
    dropped: int = 0  # rows of the earlier index whose pictures are no longer in the list
    embedded: int = 0  # by this run
    missing: int = 0
    validation_failures: int = 0
    model_busy: float = 0.0  # seconds with something to do
    model_there: float = 0.0  # seconds in all
    seconds: dict[str, float] = field(default_factory=dict)  # by phase
    precision_chosen: str = ""  # why the precision is what it is
    index: str = ""  # what the index is like; empty if the one that is there is up to date
    out: str = ""  # where it lies
    changes: str = ""  # since the index that was there
    remedy: str = "download_images.py fetches what is missing or broken"
    checkpoints: int = 0  # made
    checkpoint_seconds: float = 0.0  # that they held up the run

    @property
    def successful(self) -> int:
        """Faces that have a row."""
        return self.resumed + self.reused + self.embedded

    @property
    def images_per_second(self) -> dict[str, float]:
        """By phase: rows reused, made or indexed per second, if the phase was long enough to tell."""
        images = {"reusing": self.reused, "embedding": self.embedded, "indexing": self.successful}
        return {
            name: round(count / self.seconds[name], 2)
            for name, count in images.items()
            if count and self.seconds.get(name, 0) >= MIN_SECONDS
        }

    @property
    def waiting_for_loaders(self) -> float:
        """Share of the time in which the model had no batch, 0..1."""
        return max(0.0, 1 - self.model_busy / self.model_there) if self.model_there else 0.0

    def statistics(self) -> Statistics:
        """The counts, for the manifest."""
        return Statistics(
            total_records=self.total,
            successful_embeddings=self.successful,
            failed_embeddings=self.total - self.successful,
            success_rate=self.successful / self.total if self.total else 0.0,
            missing_from_cache=self.missing,
            validation_failures=self.validation_failures,
        )

    def embedding(self, *, ranks: int, loaders: int, model_threads: int) -> Embedding:
        """How the rows came about, for the manifest."""
        return Embedding(
            ranks=ranks,
            loaders=loaders,
            encoders=model_threads,
            precision_chosen=self.precision_chosen,
            reused=self.reused,
            resumed=self.resumed,
            embedded=self.embedded,
            waiting_for_loaders=round(self.waiting_for_loaders, 4),
            images_per_second=self.images_per_second,
            dropped=self.dropped,
        )

    def add_share(self, other: "BuildReport") -> None:
        """Add another rank's counts."""
        self.embedded += other.embedded
        self.missing += other.missing
        self.validation_failures += other.validation_failures
        self.model_busy += other.model_busy
        self.model_there += other.model_there

    def progress_note(self) -> str:
        """For the progress line: what was left out so far, and whether the model waits for the loaders."""
        note = f"{self.missing:,} missing, {self.validation_failures:,} broken"
        return f"{note}, model waiting {self.waiting_for_loaders:.0%}" if self.model_there else note

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the block as phase `name`, which may have several."""
        started = time.monotonic()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - started, 3)

    def summary(self) -> str:
        """The text printed at the end."""
        rate = self.images_per_second.get("embedding")
        origins = [
            f"{self.embedded:,} now" + (f" at {rate:,.1f} images/s" if rate else "") if self.embedded else "",
            f"{self.reused:,} reused from the earlier index" if self.reused else "",
            f"{self.resumed:,} resumed from a checkpoint" if self.resumed else "",
        ]
        cost = 100 * self.checkpoint_seconds / max(sum(self.seconds.values()), MIN_SECONDS)
        return "\n".join(
            [
                f"Total faces: {self.total:,}",
                f"  missing from the cache: {self.missing:,}",
                f"  validation failures: {self.validation_failures:,}",
                f"  embedded: {self.successful:,} ({', '.join(filter(None, origins))})",
                f"Success rate: {percent(self.successful, self.total)}",
                *([self.remedy] if self.successful < self.total else []),
                *([f"HNSW: {self.index}"] if self.index else []),
                f"Checkpoints: {self.checkpoints}, cost {self.checkpoint_seconds:.2f} s ({cost:.2f} %)",
                self._phases(),
                f"Written to {self.out}" if self.index else f"{self.out} is up to date",
                *([f"Since the last build: {self.changes}"] if self.changes else []),
            ]
        )

    def _phases(self) -> str:
        rates = self.images_per_second
        phases = [
            f"{name} {seconds:.1f}" + (f" ({rates[name]:,.1f} images/s)" if name in rates else "")
            for name, seconds in self.seconds.items()
        ]
        waiting = f"; the model waited {self.waiting_for_loaders:.0%} of its time for the loaders"
        return f"Seconds: {', '.join(phases)}{waiting if self.embedded else ''}"
