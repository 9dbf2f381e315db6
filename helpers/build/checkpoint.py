"""What an unfinished build has embedded so far, on disk: the next one goes on from there.

Rows are written to `checkpoint_embeddings.npy` as they are made, each at its face's place in the card list, and what
they were made of to `checkpoint_pictures.npy`; faces without a picture leave a row of zeros. A thread of its own makes
that safe on the disk and then says so: the files' headers and `checkpoint.npz` (which rows are good), at last
`checkpoint_meta.json`. Wherever this is killed, the JSON tells of rows that are there; what the others hold beyond its
count is not looked at. A checkpoint is begun after every half of `frequency` images, at most, and done before the next
is begun: so a kill never costs more than `frequency` of them, beside those that are still in the model.

Writing rows once and in place is what keeps checkpoints cheap: all of them anew every 500 images would cost more with
each one (173 s for 100 of them over 50,000 rows, compressed).

Processes that build together (torchrun) have one each; rank 0 takes over the rows of the others.
"""

import hashlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import BytesIO
from itertools import chain, count
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from helpers.artifacts import STALE_SUFFIX, IndexFolder
from helpers.atomic_io import atomic_write_bytes, disk_errors_named, indented_json, signals_deferred, utc_timestamp
from helpers.cards.faces import CardFace
from helpers.cards.pictures import PICTURE, Settings
from helpers.embed.vectors import off_unit_rows
from helpers.errors import BAD_JSON, PipelineError
from helpers.talk import say, warn

AT_ONCE = 4096  # rows that are copied at a time


class _Parameters(Settings, frozen=True, kw_only=True):
    faces_sha256: str  # of the faces processed, in their order: the part of the card list that matters
    rebuild: bool  # its rows were all made by this build, none was taken from an earlier index
    verified: bool = False  # the form of each picture was checked too (--validate-cache)
    wanted: str = ""  # the flags that chose the faces


_CLAIMS = ("rebuild", "verified")  # of _Parameters, which the mask makes too


class _Meta(msgspec.Struct, frozen=True):
    timestamp: str
    processed_count: int
    total_count: int
    embeddings_file: str
    pictures_file: str
    parameters: _Parameters


class _Unfit(Exception):
    """There is a checkpoint, but not one of this build; the text says what differs."""


class _Damaged(_Unfit):
    """Its rows are of no use to anybody."""


class _Found(msgspec.Struct, frozen=True):
    """A checkpoint that fits, as it lies on the disk; rows and pictures of `meta.processed_count` faces are mapped."""

    meta: _Meta
    places: NDArray[np.int64]  # of its good rows
    damaged: int  # rows that were good and are not any more
    rows: NDArray[np.float32]
    pictures: NDArray[Any]


class Aside(msgspec.Struct, frozen=True):
    """A checkpoint that was put aside, with rows such as ours but not of our card list."""

    rows: NDArray[np.float32]  # [processed, D], memory-mapped
    pictures: NDArray[Any]  # what they were made of, PICTURE [processed]; where no row is good it has no name
    verified: bool  # the form of each was checked too
    wanted: str  # the flags that chose its faces
    files: tuple[Path, ...]  # the JSON first
    was_there: bool  # before this build began


class _RowFile:
    """A .npy file with a record for each face, at the face's place; its header is written when that is asked for."""

    def __init__(self, path: Path, empty: NDArray[Any], *, keep: bool) -> None:
        """Open `path`, emptied unless told to `keep` it; `empty` has the dtype and shape of no records."""
        self._header = _npy_header(empty, 0)
        self._empty = empty
        self.file = open(path, "r+b" if keep else "w+b")  # noqa: SIM115  # see Checkpoint.__exit__

    def write(self, place: int, records: NDArray[Any]) -> None:
        self._empty = records[:0]  # now the width is known
        self.file.seek(self._end(place))
        self.file.write(records.tobytes())

    def cut(self, count: int) -> None:
        """Make the file as long as `count` records, whatever it holds."""
        self.file.truncate(self._end(count))

    def reach(self, count: int) -> None:
        """Make the file at least as long as `count` records; the last faces may have none."""
        self.file.flush()
        if os.fstat(self.file.fileno()).st_size < self._end(count):
            os.ftruncate(self.file.fileno(), self._end(count))

    def make_safe(self, count: int) -> None:
        """Let the header tell of `count` records, and wait until all is on the disk."""
        os.pwrite(self.file.fileno(), _npy_header(self._empty, count), 0)
        os.fsync(self.file.fileno())

    def mapped(self, count: int) -> NDArray[Any]:
        """The first `count` records, memory-mapped."""
        shape = (count, *self._empty.shape[1:])
        return np.memmap(self.file, self._empty.dtype, "r", len(self._header), shape)

    def _end(self, count: int) -> int:
        return len(self._header) + count * self._empty.itemsize * int(np.prod(self._empty.shape[1:]))


class Checkpoint:
    """The rows of a build under way. Use it as a context: a build that fails or is stopped leaves one to resume.

    `good` is bool [total], True where a face's row is there. With frequency 0 nothing is kept of a build that is
    stopped while it embeds.
    """

    def __init__(
        self,
        folder: IndexFolder,
        settings: Settings,
        faces: Sequence[CardFace],
        frequency: int,
        *,
        resume: bool,
        rebuild: bool = False,
        verify: bool = True,
        wanted: str = "",
    ) -> None:
        """Take the folder's checkpoint where it fits, else begin one.

        What other ranks left is taken over. A checkpoint that does not fit is named and put aside as `*.stale`; without
        `resume` all are dropped. With `rebuild` one fits only if no row of it was taken from an earlier index. What is
        added is of pictures whose form was checked if `verify` says so; `wanted` are the flags that chose the faces.
        Nobody else may be building into the folder as that rank.
        """
        self.good = np.zeros(len(faces), bool)
        self._held = np.zeros(len(faces), bool)  # good rows of pictures that are not there now
        self.verified = True  # the rows that were taken up are of pictures whose form was checked
        self.saves = 0
        self.seconds = 0.0  # that the build was held up
        self._folder = folder
        self._settings = settings
        self._faces = faces
        self._rebuild = rebuild
        self._verify = verify
        self._wanted = wanted
        self._kept = 0  # good rows that the last checkpoint tells of
        self._interval = (frequency + 1) // 2  # see above
        self._processed = 0
        self._unsaved = 0
        width = 0
        self._hashed, self._hash = 0, hashlib.sha256()
        self._thread = ThreadPoolExecutor(1)
        self._saving: Future[None] | None = None
        if not resume and folder.checkpoint_meta.exists():
            say(f"--no-resume: the checkpoint in {folder.root} is dropped")
        if not folder.rank:
            self._mend_names()
        self._were_aside = {path.name for path in folder.root.glob(f"checkpoint*{STALE_SUFFIX}")}
        found = self._take_up() if resume else None
        if found:
            self.good[found.places] = True
            self.verified = found.meta.parameters.verified
            self._processed, width = found.rows.shape
            self._kept = len(found.places)
            if found.damaged:
                warn(f"damaged rows in the checkpoint: {found.damaged:,}; they are embedded again")
        else:
            self._drop()
        with disk_errors_named(folder.checkpoint_rows):
            self._rows = _RowFile(folder.checkpoint_rows, np.empty((0, width), np.float32), keep=bool(found))
            self._pictures = _RowFile(folder.checkpoint_pictures, np.empty(0, PICTURE), keep=bool(found))
            for file in (self._rows, self._pictures):
                file.cut(self._processed)  # records that no checkpoint tells of
        if not folder.rank:
            self.take_over_others(resume=resume)
        if self.good.any():
            say(
                f"Resuming: {int(self.good.sum()):,} of {len(self.good):,} faces are embedded already"
                + (f" (checkpoint of {found.meta.timestamp})" if found else "")
            )

    @property
    def largest_batch(self) -> int:
        """How many images may be added at a time; a large number where no checkpoints are made."""
        return self._interval or sys.maxsize

    def add(self, places: Sequence[int], rows: NDArray[np.float32], pictures: NDArray[Any]) -> None:
        """Keep unit rows float32 [B, D] of the faces at `places` of the list, which ascend.

        `pictures`, dtype PICTURE [B], says what they were made of.
        """
        with self._held_up(), disk_errors_named(self._folder.checkpoint_rows):
            if places[-1] - places[0] == len(places) - 1:  # neighbours, as they nearly always are
                self._rows.write(places[0], rows)
                self._pictures.write(places[0], pictures)
            else:
                for number, place in enumerate(places):
                    self._rows.write(place, rows[number : number + 1])
                    self._pictures.write(place, pictures[number : number + 1])
            self.good[np.asarray(places)] = True
            self._held[np.asarray(places)] = False
            self._processed = max(self._processed, places[-1] + 1)
            self._unsaved += len(places)
            self._rows.file.flush()
            self._pictures.file.flush()
        if self._interval and self._unsaved + len(places) > self._interval:  # another one like this would be too many
            self._save()

    def add_many(
        self,
        places: NDArray[np.int64],
        rows: NDArray[np.float32],
        numbers: NDArray[np.int64],
        pictures: NDArray[Any],
    ) -> None:
        """`add` for rows that lie in a file: those with `numbers` [B] of `rows` [N, D]; a few are read at a time."""
        for start in range(0, len(places), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            self.add(places[part].tolist(), rows[numbers[part]], pictures[part])

    def pictures(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """What the good rows at `places` were made of, dtype PICTURE [len(places)]."""
        return np.asarray(self._pictures.mapped(self._processed)[places])

    def renew(self, place: int, picture: Any) -> None:
        """The picture of the row at `place` is the same, but `picture` (of dtype PICTURE) knows its file better."""
        self._pictures.write(place, np.array([picture], PICTURE))

    def hold_back(self, places: Sequence[int]) -> None:
        """The rows at `places` are not for this build: their pictures are not there. Later ones may have them back."""
        self.good[np.asarray(places, np.int64)] = False
        self._held[np.asarray(places, np.int64)] = True

    def forget(self, places: Sequence[int]) -> None:
        """The rows at `places` are good no more: their pictures are others now, or gone.

        That is saved before others are written in their places: else a power failure might leave the old row, the new
        picture, and a checkpoint that calls them good.
        """
        self.good[np.asarray(places, np.int64)] = False
        self._save()
        self._wait()

    def finish(self) -> None:
        """All faces are processed: save that, also with frequency 0.

        What comes after the embedding, the swap of the files above all, can then be killed and repeated.
        """
        if not self.good.any():
            return
        if self._unsaved or self._processed < len(self.good):
            self._processed = len(self.good)
            self._save()
        with self._held_up():
            self._wait()

    def complete(self) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """`finish`, and return what the good ones have.

        These are rows, float32 [N, D], memory-mapped, and pictures, dtype PICTURE [N].
        """
        self.finish()
        if not self.good.any():
            return np.empty((0, 0), np.float32), np.empty(0, PICTURE)
        rows = self._rows.mapped(len(self.good))
        if not self.good.all():
            rows = self._without_gaps(rows)
        return rows, np.asarray(self._pictures.mapped(len(self.good))[self.good])

    def _without_gaps(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The good ones of `rows`, memory-mapped from a file without a name: they need not fit into the memory."""
        places = np.flatnonzero(self.good)
        with disk_errors_named(self._folder.checkpoint_rows), tempfile.TemporaryFile(dir=self._folder.root) as file:
            for start in range(0, len(places), AT_ONCE):
                file.write(rows[places[start : start + AT_ONCE]].tobytes())
            file.flush()
            return np.memmap(file, np.float32, "r", 0, (len(places), rows.shape[1]))

    def take_over_others(self, *, resume: bool = True) -> None:
        """Keep the rows that other ranks made, as if they were our own; their checkpoints go, unless they don't fit."""
        self._wait()
        for folder in self._folder.other_ranks():
            if resume and folder.checkpoint_meta.exists():  # else it was killed before its first one
                try:
                    found = self._read(*_files(folder))
                except _Unfit as unfit:
                    self._put_aside(folder, unfit)
                    continue
                places = found.places[~self._has(found.places, found.pictures)]
                self.verified &= found.meta.parameters.verified
                self.add_many(places, found.rows, places, found.pictures[places])
                if places.size:
                    self._save()
                    self._wait()  # now they can go
            for path in _files(folder):
                path.unlink(missing_ok=True)

    def asides(self) -> Iterator[Aside]:
        """The checkpoints that were put aside, of any rank, if their rows were made as ours are."""
        for path in sorted(self._folder.root.glob(f"checkpoint*{STALE_SUFFIX}")):
            if match := re.fullmatch(r"checkpoint(?:_rank(\d+))?_meta\.json(.*)", path.name):
                files = _files(self._folder.of_rank(int(match[1] or 0)), match[2])
                with suppress(_Unfit):
                    found = self._read(*files, any_list=True)
                    pictures = np.zeros(len(found.pictures), PICTURE)
                    pictures[found.places] = found.pictures[found.places]
                    made = found.meta.parameters
                    was_there = path.name in self._were_aside
                    yield Aside(found.rows, pictures, made.verified, made.wanted, files, was_there)

    def drop_aside(self, aside: Aside) -> None:
        """Nobody needs it any more: it goes, unless this very build put it aside."""
        if aside.was_there:
            if self._unsaved:
                self._save()
            self._wait()  # now it can
            for path in aside.files:
                path.unlink(missing_ok=True)

    def _has(self, places: NDArray[np.int64], pictures: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether the rows at `places` are there, and of these very `pictures`, which are those of all faces."""
        there = self.good[places]
        there[there] = self.pictures(places[there]) == pictures[places[there]]
        return there

    def delete(self) -> None:
        """The build is whole: its checkpoint goes, or is put aside where it holds rows that this build did not need."""
        if self._held.any() and self._folder.checkpoint_meta.exists():
            self._rename_aside(self._folder)
        self._drop()
        self._folder.checkpoint_rows.unlink(missing_ok=True)
        self._folder.checkpoint_pictures.unlink(missing_ok=True)

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
                self._rows.file.close()
            with suppress(OSError):
                self._pictures.file.close()
            if not self._folder.checkpoint_meta.exists():
                self.delete()
            elif not isinstance(error, PipelineError | None):  # which says itself what to do
                kept = f"{self._kept:,} of {len(self.good):,} faces"
                say(
                    f"Checkpoint kept in {self._folder.root} ({kept}): the same command goes on from there "
                    "(not --no-resume)"
                )

    # ------------------------------------------------------------------------------------------------------- saving

    def _save(self) -> None:
        """Let the thread make a checkpoint of what is there now; waits only where it is still at the last one."""
        with self._held_up():
            self._wait()
            with disk_errors_named(self._folder.checkpoint_rows):
                self._rows.reach(self._processed)
                self._pictures.reach(self._processed)
            good = self.good[: self._processed] | self._held[: self._processed]
            self._saving = self._thread.submit(self._write, self._processed, good)
            self._unsaved = 0
            self.saves += 1

    def _write(self, processed: int, good: NDArray[np.bool_]) -> None:
        with disk_errors_named(self._folder.checkpoint_rows):
            self._rows.make_safe(processed)
            self._pictures.make_safe(processed)
        parameters = _Parameters(
            **msgspec.structs.asdict(self._settings),
            faces_sha256=self._faces_sha256(processed),
            rebuild=self._rebuild,
            verified=self._verify and self.verified,
            wanted=self._wanted,
        )
        claims: dict[str, Any] = {name: np.array(getattr(parameters, name)) for name in _CLAIMS}
        packed = BytesIO()
        np.savez(packed, indices=np.flatnonzero(good).astype(np.int64), good_mask=good, **claims)
        atomic_write_bytes(self._folder.checkpoint_mask, packed.getvalue())
        meta = _Meta(
            timestamp=utc_timestamp(),
            processed_count=processed,
            total_count=len(self.good),
            embeddings_file=self._folder.checkpoint_rows.name,
            pictures_file=self._folder.checkpoint_pictures.name,
            parameters=parameters,
        )
        atomic_write_bytes(self._folder.checkpoint_meta, indented_json(meta))
        self._kept = int(good.sum())

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
        """SHA-256 over the first `number` faces; each is hashed once, as long as the number only grows."""
        if number < self._hashed:
            self._hashed, self._hash = 0, hashlib.sha256()
        while self._hashed < number:
            face = self._faces[self._hashed]
            self._hash.update(f"{face.face_id}\n{face.image_url}\n".encode())
            self._hashed += 1
        return self._hash.hexdigest()

    # ------------------------------------------------------------------------------------------------------ resuming

    def _take_up(self) -> _Found | None:
        """The folder's checkpoint, if there is one and it fits; one that does not is put aside."""
        if not self._folder.checkpoint_meta.exists():
            return None
        try:
            return self._read(*_files(self._folder))
        except _Unfit as unfit:
            self._put_aside(self._folder, unfit)
            return None

    def _read(
        self, meta_path: Path, mask_path: Path, rows_path: Path, pictures_path: Path, *, any_list: bool = False
    ) -> _Found:
        """Read this checkpoint; _Unfit where it is another build's, or damaged.

        With `any_list` it may be one of another card list.
        """
        try:
            meta = msgspec.json.decode(meta_path.read_bytes(), type=_Meta)
            with np.load(mask_path) as packed:
                good, indices = packed["good_mask"], packed["indices"]
                claims = {name: bool(packed[name]) if name in packed else False for name in _CLAIMS}
            rows = _mapped_rows(rows_path, meta.processed_count, np.empty((0, 0), np.float32))
            pictures = _mapped_rows(pictures_path, meta.processed_count, np.empty(0, PICTURE))
        except Exception as error:  # damaged bytes make numpy, zipfile and tokenize raise nearly anything
            raise _Damaged(f"it is damaged: {error}") from error
        # A kill between the two files leaves the mask of other rows than those of which the JSON speaks
        claims = {name: holds and getattr(meta.parameters, name) for name, holds in claims.items()}
        meta = replace(meta, parameters=replace(meta.parameters, **claims))
        done = meta.processed_count
        if not 0 < done <= meta.total_count:
            raise _Damaged(f"it is damaged: it counts {done:,} of {meta.total_count:,} faces")
        differs = self._made_otherwise(meta) + ([] if any_list else self._lists_differ(meta))
        if differs:
            raise _Unfit("; ".join(differs))
        if (
            (good.dtype, good.ndim) != (np.bool_, 1)
            or not np.array_equal(indices, np.flatnonzero(good))
            or len(good) < done
        ):
            raise _Damaged(f"it is damaged: its files do not agree on {done:,} rows")
        places = np.flatnonzero(good[:done])
        damaged = off_unit_rows(rows, places)
        return _Found(meta, np.delete(places, damaged), len(damaged), rows, pictures)

    def _made_otherwise(self, meta: _Meta) -> list[str]:
        """Why the checkpoint's rows are not those that this build would make of the same pictures."""
        differs = meta.parameters.differences(self._settings)
        if self._rebuild and not meta.parameters.rebuild:
            differs.append("it may hold rows of an earlier index, and --rebuild wants none")
        return differs

    def _lists_differ(self, meta: _Meta) -> list[str]:
        """Why the checkpoint's rows are not of our faces, in our order."""
        done = meta.processed_count
        if done > len(self._faces):
            return [f"it has {done:,} faces, this build only {len(self._faces):,}"]
        if self._faces_sha256(done) != meta.parameters.faces_sha256:
            return [f"the card list: its first {done:,} faces are others"]
        return []

    def _put_aside(self, folder: IndexFolder, why: _Unfit) -> None:
        ending = self._rename_aside(folder)
        warn(
            f"{folder.checkpoint_meta.name} in {folder.root} is not one of this build ({why}): kept as *{ending}; "
            + ("delete it" if isinstance(why, _Damaged) else "builds that make such rows take them")
        )

    def _rename_aside(self, folder: IndexFolder) -> str:
        """Give the files of a checkpoint another ending, the JSON last; which one."""
        endings = chain([STALE_SUFFIX], (f".{number}{STALE_SUFFIX}" for number in count(2)))
        ending = next(e for e in endings if not any(path.exists() for path in _files(folder, e)))
        with disk_errors_named(folder.checkpoint_meta):
            for before, after in reversed(list(zip(_files(folder), _files(folder, ending), strict=True))):
                with suppress(FileNotFoundError):  # of a damaged one
                    os.replace(before, after)
        return ending

    def _mend_names(self) -> None:
        """Mend what a kill left while files were put aside, or dropped.

        The JSON is put aside last: where it has its name, the others get theirs. It is dropped first: where it is gone,
        so are the others.
        """
        for folder in [self._folder, *self._folder.other_ranks(aside=True)]:
            meta, *others = _files(folder)
            for path in others:
                for aside in sorted(path.parent.glob(f"{path.name}*{STALE_SUFFIX}")):
                    if meta.with_name(meta.name + aside.name.removeprefix(path.name)).exists():
                        continue
                    if meta.exists() and not path.exists():
                        os.replace(aside, path)
                    else:
                        aside.unlink()

    def _drop(self) -> None:
        """Remove what tells of the rows, the file that vouches for the others first."""
        with disk_errors_named(self._folder.checkpoint_meta):
            self._folder.checkpoint_meta.unlink(missing_ok=True)
            self._folder.checkpoint_mask.unlink(missing_ok=True)


def last_settings(folder: IndexFolder, *, rebuild: bool) -> Settings | None:
    """What the rows of the folder's checkpoint were made with; None where there is none that such a build may take."""
    try:
        found = msgspec.json.decode(folder.checkpoint_meta.read_bytes(), type=_Meta).parameters
    except (OSError, *BAD_JSON):
        return None
    if rebuild and not found.rebuild:
        return None
    return Settings(**{name: getattr(found, name) for name in Settings.__struct_fields__})


def _files(folder: IndexFolder, ending: str = "") -> tuple[Path, Path, Path, Path]:
    """The checkpoint's JSON, mask, rows and pictures; put aside, their names have an ending."""
    meta, mask, rows, pictures = (
        path.with_name(path.name + ending)
        for path in (
            folder.checkpoint_meta,
            folder.checkpoint_mask,
            folder.checkpoint_rows,
            folder.checkpoint_pictures,
        )
    )
    return meta, mask, rows, pictures


def _mapped_rows(path: Path, number: int, empty: NDArray[Any]) -> NDArray[Any]:
    """The first `number` records of the file, memory-mapped; ValueError where they are not there, or not like `empty`.

    Of its header's shape only the width is taken: it may tell of more rows than a power failure has left.
    """
    with open(path, "rb") as file:
        np.lib.format.read_magic(file)
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype != empty.dtype or fortran_order or len(shape) != empty.ndim:
            raise ValueError(f"{path.name} holds no rows of ours")
        return np.memmap(file, dtype, "r", file.tell(), (number, *shape[1:]))


def _npy_header(empty: NDArray[Any], rows: int) -> bytes:
    """The header of a .npy file of `rows` records like `empty`; numpy makes it equally long for any number."""
    header = BytesIO()
    shape = (rows, *empty.shape[1:])
    description = np.lib.format.dtype_to_descr(empty.dtype)
    np.lib.format.write_array_header_1_0(header, {"descr": description, "fortran_order": False, "shape": shape})
    return header.getvalue()
