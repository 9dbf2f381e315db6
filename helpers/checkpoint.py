"""What an unfinished build has embedded so far, on disk: the next one goes on from there.

Rows are written to `checkpoint_embeddings.npy` as they are made, each at its face's place in the card list; faces
without a picture leave a row of zeros. Every `frequency` images a thread of its own makes that safe on the disk and
then says so: the file's header and `checkpoint.npz` (which rows are good), at last `checkpoint_meta.json`. Wherever
this is killed, the JSON tells of rows that are there; what the others hold beyond its count is not looked at.

Writing rows once and in place is what keeps checkpoints cheap: all of them anew every 500 images would cost more with
each one (173 s for 100 of them over 50,000 rows, compressed).
"""

import hashlib
import os
import time
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from helpers.artifacts import STALE_SUFFIX, IndexFolder
from helpers.atomic_io import atomic_write_bytes, disk_errors_named, locked_file, signals_deferred
from helpers.errors import Category, PipelineError
from helpers.records import CardFace
from helpers.talk import say, warn
from helpers.vectors import off_unit_rows

HEADER_BYTES = 128  # of our .npy file, whatever its shape: numpy pads the header to a multiple of 64
_DAMAGE = (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, msgspec.MsgspecError)


class Settings(msgspec.Struct, frozen=True):
    """What a row depends on beside its picture: rows made with other settings can't be mixed with ours."""

    model: str
    weights_sha256: str
    precision: str
    preprocessing: str
    target_size: int
    fit: str


class _Parameters(Settings, frozen=True):
    faces_sha256: str  # of the faces processed, in their order: the part of the card list that matters


class _Meta(msgspec.Struct, frozen=True):
    timestamp: str
    processed_count: int
    total_count: int
    embeddings_file: str
    parameters: _Parameters


class _Unfit(Exception):
    """There is a checkpoint, but not one of this build; the text says what differs."""


class Checkpoint:
    """The rows of a build under way. Use it as a context: a build that fails or is stopped leaves one to resume.

    `good` is bool [total], True where a face's row is there. With frequency 0 nothing is kept of a build that is
    stopped while it embeds.
    """

    def __init__(
        self, folder: IndexFolder, settings: Settings, faces: Sequence[CardFace], frequency: int, *, resume: bool
    ) -> None:
        """Take the folder's checkpoint where it fits, else begin one.

        A checkpoint that does not fit is named and put aside as `*.stale`; without `resume` it is dropped. Raises
        PipelineError (Configuration Error) where another build is writing into the folder.
        """
        self.good = np.zeros(len(faces), bool)
        self.saves = 0
        self.seconds = 0.0  # that the build was held up
        self._folder = folder
        self._settings = settings
        self._faces = faces
        self._frequency = frequency
        self._processed = 0
        self._unsaved = 0
        self._width = 0
        self._hashed = 0
        self._hash = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1)
        self._saving: Future[None] | None = None
        self._file = _sole(folder)
        try:
            self._begin(resume)
        except BaseException:
            self._file.close()
            raise

    @property
    def room(self) -> int:
        """How many images may be embedded before the next checkpoint is due; a large number where none ever is."""
        return self._frequency - self._unsaved if self._frequency else len(self.good)

    def add(self, places: Sequence[int], rows: NDArray[np.float32]) -> None:
        """Keep unit rows float32 [B, D] of the faces at `places` of the list, which ascend."""
        with self._held_up(), disk_errors_named(self._folder.checkpoint_rows):
            self._width = rows.shape[1]
            if places[-1] - places[0] == len(places) - 1:  # neighbours, as they nearly always are
                self._write_rows(places[0], rows)
            else:
                for place, row in zip(places, rows, strict=True):
                    self._write_rows(place, row)
            self.good[np.asarray(places)] = True
            self._processed = max(self._processed, places[-1] + 1)
            self._unsaved += len(places)
        if self._frequency and self._unsaved >= self._frequency:
            self._save()

    def complete(self) -> NDArray[np.float32]:
        """All faces are processed: save that, also with frequency 0, and return the good rows, float32 [N, D].

        What comes after the embedding, the swap of the files above all, can then be killed and repeated.
        """
        if not self.good.any():
            return np.empty((0, 0), np.float32)
        if self._unsaved or self._processed < len(self.good):
            self._processed = len(self.good)
            self._save()
        with self._held_up():
            self._wait()
        rows = np.load(self._folder.checkpoint_rows, mmap_mode="r")
        return np.asarray(rows[self.good])

    def delete(self) -> None:
        """The build is whole: its checkpoint goes."""
        for path in _files(self._folder):
            path.unlink(missing_ok=True)

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with signals_deferred():  # milliseconds; a second Ctrl-C must not cost what the first one keeps
            try:
                if error is not None and self._frequency and self._unsaved:
                    self._save()
                self._wait()
            except PipelineError as problem:
                warn(f"no further checkpoint could be saved: {problem}")
            self._thread.shutdown()
            with suppress(OSError):  # of rows that the disk did not take: that has been said
                self._file.close()
            if not self._folder.checkpoint_meta.exists():
                self.delete()
            elif error is not None:
                say(f"Checkpoint kept in {self._folder.root}: the same command goes on from there")

    # ------------------------------------------------------------------------------------------------------- saving

    def _write_rows(self, place: int, rows: NDArray[np.float32]) -> None:
        self._file.seek(HEADER_BYTES + place * self._width * rows.itemsize)
        self._file.write(np.ascontiguousarray(rows).data)

    def _end(self) -> int:
        """Where the rows processed end in the file, in bytes."""
        return HEADER_BYTES + self._processed * self._width * np.dtype(np.float32).itemsize

    def _save(self) -> None:
        """Let the thread make a checkpoint of what is there now; waits only where it is still at the last one."""
        with self._held_up():
            self._wait()
            with disk_errors_named(self._folder.checkpoint_rows):
                self._file.flush()
                if os.fstat(self._file.fileno()).st_size < self._end():  # the last faces have no row
                    os.ftruncate(self._file.fileno(), self._end())
            self._saving = self._thread.submit(self._write, self._processed, self.good[: self._processed].copy())
            self._unsaved = 0
            self.saves += 1

    def _write(self, processed: int, good: NDArray[np.bool_]) -> None:
        with disk_errors_named(self._folder.checkpoint_rows):
            os.pwrite(self._file.fileno(), _npy_header(processed, self._width), 0)
            os.fsync(self._file.fileno())
        packed = BytesIO()
        np.savez(packed, indices=np.flatnonzero(good).astype(np.int64), good_mask=good)
        atomic_write_bytes(self._folder.checkpoint_mask, packed.getvalue())
        meta = _Meta(
            timestamp=_now(),
            processed_count=processed,
            total_count=len(self.good),
            embeddings_file=self._folder.checkpoint_rows.name,
            parameters=_Parameters(
                **msgspec.structs.asdict(self._settings), faces_sha256=self._faces_sha256(processed)
            ),
        )
        atomic_write_bytes(self._folder.checkpoint_meta, msgspec.json.format(msgspec.json.encode(meta)) + b"\n")

    def _wait(self) -> None:
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    @contextmanager
    def _held_up(self) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds += time.monotonic() - started

    def _faces_sha256(self, count: int) -> str:
        """SHA-256 over the first `count` faces; `count` only grows, since each is hashed once."""
        while self._hashed < count:
            face = self._faces[self._hashed]
            self._hash.update(f"{face.face_id}\n{face.image_url}\n".encode())
            self._hashed += 1
        return self._hash.hexdigest()

    # ------------------------------------------------------------------------------------------------------ resuming

    def _begin(self, resume: bool) -> None:
        if resume and self._folder.checkpoint_meta.exists():
            try:
                self._take()
            except _Unfit as unfit:
                self._put_aside(str(unfit))
        if not self._processed:
            with disk_errors_named(self._folder.checkpoint_rows):
                self._folder.checkpoint_meta.unlink(missing_ok=True)  # first: what it tells of goes next
                self._folder.checkpoint_mask.unlink(missing_ok=True)
                self._file.truncate(0)

    def _take(self) -> None:
        """Go on from the folder's checkpoint; _Unfit where it is another build's, or damaged."""
        try:
            meta = msgspec.json.decode(self._folder.checkpoint_meta.read_bytes(), type=_Meta)
            with np.load(self._folder.checkpoint_mask) as packed:
                good, indices = packed["good_mask"], packed["indices"]
            rows = np.lib.format.open_memmap(self._folder.checkpoint_rows, mode="r")
        except _DAMAGE as error:
            raise _Unfit(f"it is damaged: {error}") from error
        done = meta.processed_count
        self._require_same(meta, done)
        if (
            good.dtype != np.bool_
            or not np.array_equal(indices, np.flatnonzero(good))
            or rows.dtype != np.float32
            or rows.ndim != 2
            or min(len(good), len(rows)) < done
        ):
            raise _Unfit(f"it is damaged: its files do not agree on {done:,} rows")
        places = np.flatnonzero(good[:done])
        damaged = off_unit_rows(rows[:done][places])
        if damaged.size:
            warn(f"damaged rows in the checkpoint: {damaged.size:,}; they are embedded again")
        self.good[np.delete(places, damaged)] = True
        self._processed = done
        self._width = rows.shape[1]
        self._file.truncate(self._end())  # rows that no checkpoint tells of
        say(
            f"Resuming: {int(self.good.sum()):,} of {len(self.good):,} faces are embedded already "
            f"(checkpoint of {meta.timestamp})"
        )

    def _require_same(self, meta: _Meta, done: int) -> None:
        """_Unfit, with what differs, where the checkpoint's rows are not those that this build would make."""
        ours = msgspec.structs.asdict(self._settings)
        theirs = msgspec.structs.asdict(meta.parameters)
        differs = [f"{name} was {theirs[name]}, now {ours[name]}" for name in ours if theirs[name] != ours[name]]
        if not 0 < done <= meta.total_count:
            raise _Unfit(f"it is damaged: it counts {done:,} of {meta.total_count:,} faces")
        if done > len(self._faces):
            differs.append(f"it has {done:,} faces, this build only {len(self._faces):,}")
        elif self._faces_sha256(done) != meta.parameters.faces_sha256:
            differs.append(f"the card list: its first {done:,} faces are others")
        if differs:
            raise _Unfit("; ".join(differs))

    def _put_aside(self, why: str) -> None:
        warn(
            f"the checkpoint in {self._folder.root} is not one of this build ({why}): "
            f"kept as *{STALE_SUFFIX}, starting over. To use it after all, stop, take the ending off its names again "
            "and build as before"
        )
        self._hashed, self._hash = 0, hashlib.sha256()
        with disk_errors_named(self._folder.checkpoint_meta):
            for path in _files(self._folder):
                if path.exists():
                    os.replace(path, path.with_name(path.name + STALE_SUFFIX))
        self._file.close()
        self._file = _sole(self._folder)


def _files(folder: IndexFolder) -> tuple[Path, Path, Path]:
    """The checkpoint's files, in the order in which they may go: the one that vouches for the others first."""
    return folder.checkpoint_meta, folder.checkpoint_mask, folder.checkpoint_rows


def _sole(folder: IndexFolder) -> BinaryIO:
    try:
        with disk_errors_named(folder.checkpoint_rows):
            return locked_file(folder.checkpoint_rows)
    except PipelineError as error:
        if isinstance(error.__cause__, BlockingIOError):
            raise PipelineError.of(
                Category.CONFIGURATION,
                f"another build is writing into {folder.root}",
                details=f"{folder.checkpoint_rows.name} is locked by it",
                suggestion="wait until it is done, or name another directory with --out",
            ) from error
        raise


def _npy_header(rows: int, width: int) -> bytes:
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (rows, width)})
    return header.getvalue()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
