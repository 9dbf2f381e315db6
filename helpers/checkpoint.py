"""What an unfinished build has embedded so far, on disk: the next one goes on from there.

Rows are written to `checkpoint_embeddings.npy` as they are made, each at its face's place in the card list; faces
without a picture leave a row of zeros. A thread of its own makes that safe on the disk and then says so: the file's
header and `checkpoint.npz` (which rows are good), at last `checkpoint_meta.json`. Wherever this is killed, the JSON
tells of rows that are there; what the others hold beyond its count is not looked at. A checkpoint is begun after every
half of `frequency` images and done before the next is begun: so a kill never costs more than `frequency` of them.

Writing rows once and in place is what keeps checkpoints cheap: all of them anew every 500 images would cost more with
each one (173 s for 100 of them over 50,000 rows, compressed).
"""

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import BytesIO
from itertools import chain, count
from pathlib import Path
from types import TracebackType

import msgspec
import numpy as np
from numpy.typing import NDArray

from helpers.artifacts import STALE_SUFFIX, IndexFolder
from helpers.atomic_io import atomic_write_bytes, disk_errors_named, indented_json, signals_deferred, utc_timestamp
from helpers.errors import PipelineError
from helpers.records import CardFace
from helpers.talk import say, warn
from helpers.vectors import off_unit_rows

HEADER_BYTES = 128  # of our .npy file, whatever its shape: numpy pads the header to a multiple of 64


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
        """Take the folder's checkpoint where it fits, else one that was put aside and fits, else begin one.

        A checkpoint that does not fit is named and put aside as `*.stale`; without `resume` it is dropped. Nobody else
        may be building into the folder.
        """
        self.good = np.zeros(len(faces), bool)
        self.saves = 0
        self.seconds = 0.0  # that the build was held up
        self._folder = folder
        self._settings = settings
        self._faces = faces
        self._interval = (frequency + 1) // 2  # see above
        self._processed = 0
        self._unsaved = 0
        self._width = 0
        self._thread = ThreadPoolExecutor(1)
        self._saving: Future[None] | None = None
        if not resume and folder.checkpoint_meta.exists():
            say(f"--no-resume: the checkpoint in {folder.root} is dropped")
        if not (resume and (self._take_up() or self._bring_back())):
            self._hashed, self._hash = 0, hashlib.sha256()
            self._drop()
        with disk_errors_named(folder.checkpoint_rows):
            self._file = open(folder.checkpoint_rows, "r+b" if self._processed else "w+b")  # noqa: SIM115  # see __exit__
            self._file.truncate(self._end())  # rows that no checkpoint tells of

    @property
    def room(self) -> int:
        """How many images may be embedded before the next checkpoint is due; a large number where none ever is."""
        return self._interval - self._unsaved if self._interval else len(self.good)

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
            self._file.flush()
        if self._interval and self._unsaved >= self._interval:
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
        rows = np.memmap(self._file, np.float32, "r", HEADER_BYTES, (len(self.good), self._width))
        return np.asarray(rows[self.good])

    def delete(self) -> None:
        """The build is whole: its checkpoint goes."""
        self._drop()
        self._folder.checkpoint_rows.unlink(missing_ok=True)

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with signals_deferred():  # a second Ctrl-C must not cost what the first one keeps
            try:
                if error is not None and self._interval and self._unsaved:
                    self._save()
                self._wait()
            except PipelineError as problem:
                warn(f"no further checkpoint could be saved: {problem}")
            self._thread.shutdown()
            with suppress(OSError):  # of rows that the disk did not take: that has been said
                self._file.close()
            if not self._folder.checkpoint_meta.exists():
                self.delete()
            elif not isinstance(error, PipelineError | None):  # which says itself what to do
                say(f"Checkpoint kept in {self._folder.root}: the same command goes on from there (not --no-resume)")

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
            timestamp=utc_timestamp(),
            processed_count=processed,
            total_count=len(self.good),
            embeddings_file=self._folder.checkpoint_rows.name,
            parameters=_Parameters(
                **msgspec.structs.asdict(self._settings), faces_sha256=self._faces_sha256(processed)
            ),
        )
        atomic_write_bytes(self._folder.checkpoint_meta, indented_json(meta))

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

    def _faces_sha256(self, number: int) -> str:
        """SHA-256 over the first `number` faces, which only grows, since each is hashed once."""
        while self._hashed < number:
            face = self._faces[self._hashed]
            self._hash.update(f"{face.face_id}\n{face.image_url}\n".encode())
            self._hashed += 1
        return self._hash.hexdigest()

    # ------------------------------------------------------------------------------------------------------ resuming

    def _take_up(self) -> bool:
        """Take the folder's checkpoint, if there is one and it fits; put aside one that does not."""
        if not self._folder.checkpoint_meta.exists():
            return False
        try:
            self._take(*_files(self._folder))
        except _Unfit as unfit:
            self._put_aside(str(unfit))
            return False
        return True

    def _bring_back(self) -> bool:
        """Take a checkpoint that was put aside, if one fits: a flag that was mistyped once costs nothing."""
        for meta in sorted(self._folder.root.glob(f"{self._folder.checkpoint_meta.name}*{STALE_SUFFIX}")):
            ending = meta.name.removeprefix(self._folder.checkpoint_meta.name)
            with suppress(_Unfit):
                self._take(*_files(self._folder, ending))
                self._drop()
                self._rename(ending, "")
                return True
        return False

    def _take(self, meta_path: Path, mask_path: Path, rows_path: Path) -> None:
        """Go on from this checkpoint; _Unfit where it is another build's, or damaged."""
        self._hashed, self._hash = 0, hashlib.sha256()
        try:
            meta = msgspec.json.decode(meta_path.read_bytes(), type=_Meta)
            with np.load(mask_path) as packed:
                good, indices = packed["good_mask"], packed["indices"]
            rows = _mapped_rows(rows_path, meta.processed_count)
        except Exception as error:  # damaged bytes make numpy, zipfile and tokenize raise nearly anything
            raise _Unfit(f"it is damaged: {error}") from error
        done = meta.processed_count
        self._require_same(meta, done)
        if (
            (good.dtype, good.ndim) != (np.bool_, 1)
            or not np.array_equal(indices, np.flatnonzero(good))
            or len(good) < done
        ):
            raise _Unfit(f"it is damaged: its files do not agree on {done:,} rows")
        places = np.flatnonzero(good[:done])
        damaged = off_unit_rows(rows[places])
        if damaged.size:
            warn(f"damaged rows in the checkpoint: {damaged.size:,}; they are embedded again")
        self.good[np.delete(places, damaged)] = True
        self._processed, self._width = rows.shape
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
        endings = chain([STALE_SUFFIX], (f".{number}{STALE_SUFFIX}" for number in count(2)))
        ending = next(e for e in endings if not any(path.exists() for path in _files(self._folder, e)))
        warn(
            f"the checkpoint in {self._folder.root} is not one of this build ({why}): it is kept as *{ending} and the "
            "build starts over; a build that it fits takes it up again"
        )
        self._rename("", ending)

    def _rename(self, old: str, new: str) -> None:
        with disk_errors_named(self._folder.checkpoint_meta):
            for before, after in zip(_files(self._folder, old), _files(self._folder, new), strict=True):
                with suppress(FileNotFoundError):  # of a damaged one
                    os.replace(before, after)

    def _drop(self) -> None:
        """Remove what tells of the rows, the file that vouches for the other first."""
        with disk_errors_named(self._folder.checkpoint_meta):
            self._folder.checkpoint_meta.unlink(missing_ok=True)
            self._folder.checkpoint_mask.unlink(missing_ok=True)


def _files(folder: IndexFolder, ending: str = "") -> tuple[Path, Path, Path]:
    """The checkpoint's JSON, mask and rows; put aside, their names have an ending."""
    meta, mask, rows = (
        path.with_name(path.name + ending)
        for path in (folder.checkpoint_meta, folder.checkpoint_mask, folder.checkpoint_rows)
    )
    return meta, mask, rows


def _mapped_rows(path: Path, number: int) -> NDArray[np.float32]:
    """The first `number` rows of the file, float32 [number, D], memory-mapped; ValueError where they are not there.

    Only the width is taken from its header, which may tell of more rows than a power failure has left.
    """
    with open(path, "rb") as file:
        np.lib.format.read_magic(file)
        (_, width), fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype != np.float32 or fortran_order or file.tell() != HEADER_BYTES:
            raise ValueError(f"{path.name} holds no rows of ours")
        return np.memmap(file, np.float32, "r", HEADER_BYTES, (number, width))


def _npy_header(rows: int, width: int) -> bytes:
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (rows, width)})
    return header.getvalue()
