"""Several processes, on one machine or more, that work together: torchrun starts them, torch connects them.

A build exchanges only small messages (which faces are missing, how it went), so gloo does for any device; rows travel
through checkpoints in --out, which must lie on a disk that all share, as must the cache. A tuning adds up gradients. If
one process dies, torchrun stops the others, and each keeps its checkpoint.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from helpers.artifacts import IndexFolder
from helpers.atomic_io import complete_set, sweep, writable_folder
from helpers.errors import Category, PipelineError, first_line
from helpers.locks import sole_holder
from helpers.talk import hush, warn

if TYPE_CHECKING:
    import torch

Value = TypeVar("Value")

MAX_WAIT = timedelta(days=2)  # a rank on a slow device may be done much later; a process that died shows at once
LOOK_EVERY_SECONDS = 0.5  # whether a signal came while we wait


@dataclass(frozen=True, slots=True)
class Ranks:
    """Who we are among the processes: `rank` of `size`, and the same among those of this machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @classmethod
    def from_environment(cls) -> Ranks:
        """Read torchrun's environment; a single process without it."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        return cls(*(int(os.environ[name]) for name in names))

    @property
    def leads(self) -> bool:
        """Whether this process assembles the index and prints messages."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there are no others."""
        return self.size == 1

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Connect to the other processes for the block; PipelineError (Build Error) if that fails."""
        if self.alone:
            yield
            return
        if not self.leads:
            hush()
        import torch.distributed

        _interruptible(lambda: torch.distributed.init_process_group("gloo", timeout=MAX_WAIT))
        yield  # no teardown after a failure: it would wait for the others
        torch.distributed.destroy_process_group()

    def from_leader(self, value: Value | None) -> Value:
        """Rank 0's value; the other ranks wait for it."""
        held: list[Any] = [value]
        if not self.alone:
            import torch.distributed

            _interruptible(lambda: torch.distributed.broadcast_object_list(held, src=0))
        leaders: Value = held[0]
        return leaders

    def share(self, faces: NDArray[np.int64]) -> list[int]:
        """The part of `faces` that this rank does."""
        part: list[int] = np.array_split(faces, self.size)[self.rank].tolist()
        return part

    def everyones(self, value: Value) -> list[Value]:
        """Each rank's value, in rank order, on all ranks."""
        held: list[Any] = [value] * self.size
        if not self.alone:
            import torch.distributed

            _interruptible(lambda: torch.distributed.all_gather_object(held, value))
        return held

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor by its sum over all ranks."""
        if self.alone:
            return
        import torch.distributed

        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])  # one message
        _interruptible(lambda: torch.distributed.all_reduce(flat))
        for tensor, total in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.reshape(tensor.shape))

    def to_leader(self, value: Value) -> list[Value]:
        """Gather each rank's value, in rank order, on rank 0, which waits; the others get an empty list."""
        if self.alone:
            return [value]
        import torch.distributed

        held: list[Any] | None = [None] * self.size if self.leads else None
        _interruptible(lambda: torch.distributed.gather_object(value, held, dst=0))
        return held or []

    def let_go(self) -> None:
        """Let the other ranks end once rank 0 is done; one that has died by then no longer matters."""
        try:
            self.from_leader(True)
        except PipelineError as error:
            warn(f"the index is complete, but {error}")


ALONE = Ranks()


def require_alone() -> None:
    """PipelineError (Configuration Error) if torchrun started several processes, for work that is not shared."""
    if not Ranks.from_environment().alone:
        raise PipelineError.of(
            Category.CONFIGURATION,
            "this script can't be run by several ranks",
            details="torchrun started more than one",
            suggestion="run download_images.py once, then torchrun build_embeddings.py, then export_for_browser.py",
        )


@contextmanager
def sole_build(out: Path, ranks: Ranks = ALONE) -> Iterator[None]:
    """Be the only build that writes into `out`; PipelineError if another one does, or it is not writable.

    Rank 0 takes the lock for all ranks and first completes a swap that was interrupted. PipelineError (Configuration
    Error) if another rank does not see the lock.
    """
    if not ranks.leads:
        ranks.from_leader(None)
        require_shared(IndexFolder(out).build_lock, "--out")
        yield
        return
    was_there = os.path.exists(out)  # noqa: PTH110  # pathlib's raises for a name that is too long
    folder = IndexFolder(writable_folder(out, "--out"))
    try:
        held, advice = f"another build is writing into {out}", "wait until it is done, or use another --out"
        with sole_holder(folder.build_lock, held, advice):
            sweep(folder.root, "checkpoint")
            complete_set(folder.root, folder.manifest.name)
            ranks.from_leader(True)
            yield
    finally:
        if not was_there:
            with suppress(OSError):  # not empty: the build came to something
                out.rmdir()


def require_shared(path: Path, flag: str) -> None:
    """PipelineError (Configuration Error) if this rank does not see what rank 0 has at `path`."""
    if not os.path.exists(path):  # noqa: PTH110  # see above
        raise PipelineError.of(
            Category.CONFIGURATION,
            f"the ranks do not share {flag}",
            details=f"rank 0 sees {path}, but this rank does not",
            suggestion=f"let {flag} name the same directory, on a disk that all machines share",
        )


def _interruptible(wait: Callable[[], object]) -> None:
    """Call `wait` so that Ctrl-C and SIGTERM get through: torch's own waiting ignores them."""
    failures: list[Exception] = []

    def work() -> None:
        try:
            wait()
        except Exception as error:  # noqa: BLE001  # raised again by the waiting thread
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(LOOK_EVERY_SECONDS)
    if failures:
        raise PipelineError.of(
            Category.BUILD,
            "the connection to the other ranks is lost",
            details=first_line(failures[0]),
            suggestion="see their messages; what was done is kept: run the same command to resume, with any "
            "number of ranks",
        ) from failures[0]
