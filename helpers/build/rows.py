"""Rows that need not be embedded again: checkpoints, and how rows are found by their pictures.

A *source* of rows is an index or a checkpoint: rows, the picture each was made from, and the settings it was made with.
With equal settings, rows of the same picture (URL and content) are the same, whoever made them and for whichever list.
So a build looks up every face in its sources, embeds those that no source has, and assembles all rows in the list's
order.

A checkpoint holds rows in the order they were made: a .npy file per column, then `checkpoint.npz` (which rows are
good), and last `checkpoint_meta.json`. A background thread flushes the rows to disk and then records how many are
safe; rows beyond that count are cut off when the checkpoint is opened again. A flush starts after at most half of
`frequency` images and finishes before the next one starts, so a kill never costs more than `frequency` images, plus
those still in the model. Each row is written once, which keeps this cheap: rewriting all of them every 500 images
would cost more each time.
"""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from types import TracebackType
from typing import Any, BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from helpers.artifacts import IndexFolder, unreadable
from helpers.atomic_io import (
    atomic_write_bytes,
    atomic_write_json,
    disk_errors_named,
    signals_deferred,
    sweep,
    utc_timestamp,
)
from helpers.cards.faces import Records
from helpers.cards.image_cache import ImageCache
from helpers.cards.pictures import PICTURE, mtime_if_same, url_sha1
from helpers.embed.settings import Rows, Settings
from helpers.embed.vectors import off_unit_rows
from helpers.errors import BAD_JSON, Category, PipelineError
from helpers.index.manifest import Manifest
from helpers.index.store import StoredIndex
from helpers.talk import Progress, say, warn

CHUNK = 4096  # rows copied at a time
NO_PICTURE = np.zeros((), PICTURE)  # marks a row that must not be used


@dataclass(frozen=True, slots=True)
class Source:
    """Existing rows, memory-mapped."""

    settings: Settings
    rows: Rows


@dataclass(frozen=True, slots=True)
class IndexSource(Source):
    """Those of an index."""

    stored: StoredIndex
    records: Records

    @property
    def manifest(self) -> Manifest:
        """What the build of that index wrote down."""
        return self.stored.manifest


class _Meta(msgspec.Struct, frozen=True):
    timestamp: str
    processed_count: int
    total_count: int
    embeddings_file: str
    parameters: Settings


class _Damaged(Exception):
    """A checkpoint's files disagree, or hold something else."""


def index_source(folder: IndexFolder) -> IndexSource | None:
    """The index in `folder`; None if there is none, or, with a warning, if it is damaged.

    Raises PipelineError (Configuration Error) if the disk can't read a file.
    """
    try:
        if not folder.manifest.exists():
            return None
        stored = StoredIndex(folder)
        return IndexSource(stored.manifest.settings, stored.rows(), stored, stored.records())
    except OSError as error:
        raise unreadable(folder.manifest, error) from error
    except PipelineError as error:
        if error.category is not Category.VALIDATION:
            raise
        warn(f"the index in {folder.root} is not reused: {error}: {error.problems[0].details}")
        return None


def checkpoint_source(folder: IndexFolder) -> Source | None:
    """The checkpoint of `folder`; None if there is none.

    Raises _Damaged, and PipelineError (Configuration Error) if the disk can't read a file.
    """
    try:
        meta = msgspec.json.decode(folder.checkpoint_meta.read_bytes(), type=_Meta)
        count = meta.processed_count
        with np.load(BytesIO(folder.checkpoint_mask.read_bytes())) as packed:  # zipfile hides errors of the disk
            good, indices = packed["good_mask"], packed["indices"]
        # A kill between the two files leaves a mask of more rows than the JSON counts
        if good.dtype != np.bool_ or good.ndim != 1 or not 0 < count <= min(len(good), meta.total_count):
            raise _Damaged(f"its files do not agree on {count:,} rows")
        if not np.array_equal(indices, np.flatnonzero(good)):
            raise _Damaged("its mask and its indices disagree")
        rows = _mapped(folder, count)
    except (_Damaged, MemoryError):
        raise
    except Exception as error:  # damaged bytes make numpy, zipfile and tokenize raise nearly anything
        missing = error.filename if isinstance(error, FileNotFoundError) else None
        if missing == str(folder.checkpoint_meta):
            return None
        if isinstance(error, OSError) and error.errno and missing is None:
            raise unreadable(folder.checkpoint_meta, error) from error
        raise _Damaged(str(error)) from error
    damaged = np.intersect1d(off_unit_rows(rows.embeddings), np.flatnonzero(good[:count]))
    if damaged.size and damaged.size == good[:count].sum():
        raise _Damaged("it holds no row of norm 1")
    if damaged.size:
        warn(f"{damaged.size:,} damaged rows in {folder.checkpoint_meta}: they will be embedded again")
    return Source(meta.parameters, _without(rows, np.union1d(damaged, np.flatnonzero(~good[:count]))))


def sound_checkpoint(folder: IndexFolder) -> Source | None:
    """`checkpoint_source`; a damaged one is put aside with a warning, and then there is none."""
    try:
        return checkpoint_source(folder)
    except _Damaged as damage:
        top = folder.root.parent if folder.is_aside else folder.root
        aside = IndexFolder(top).for_damaged().root
        with disk_errors_named(aside):
            aside.mkdir()
            for path in folder.checkpoint_files(Rows.names()):
                with suppress(FileNotFoundError):
                    os.replace(path, aside / path.name)
        warn(f"{folder.checkpoint_meta} is damaged ({damage}): moved to {aside.name}, not used")
        drop(folder)
        return None


def settings_there(checkpoints: Sequence[IndexFolder]) -> list[Settings]:
    """The settings of the checkpoints that are whole; PipelineError (Configuration Error) if the disk can't read one.

    Without those of one, a build would choose other settings and put it aside.
    """
    found = []
    for there in checkpoints:
        try:
            with suppress(FileNotFoundError, *BAD_JSON):
                found.append(msgspec.json.decode(there.checkpoint_meta.read_bytes(), type=_Meta).parameters)
        except OSError as error:
            raise unreadable(there.checkpoint_meta, error) from error
    return found


def _mapped(folder: IndexFolder, count: int) -> Rows:
    """The first `count` rows of the folder's checkpoint, memory-mapped; ValueError if the files don't hold them.

    Only the embeddings' width is taken from the files' headers: after a power failure they may promise more rows than
    there are.
    """
    columns = {}
    for name, none in Rows.empty().columns().items():
        with open(folder.checkpoint_column(name), "rb") as file:
            np.lib.format.read_magic(file)
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
            width = none.shape[1:]  # (0,) stands for any
            if dtype != none.dtype or fortran_order or len(shape) != none.ndim or width not in ((0,), shape[1:]):
                raise ValueError(f"{file.name} holds no rows of ours")
            columns[name] = np.memmap(file, dtype, "r", file.tell(), (count, *shape[1:]))
    return Rows(**columns)


def _without(rows: Rows, which: NDArray[np.int64]) -> Rows:
    """`rows`, with those numbered `which` marked as unusable."""
    if not which.size:
        return rows
    pictures = np.array(rows.pictures)
    pictures[which] = NO_PICTURE
    return Rows(**{**rows.columns(), "pictures": pictures})


def _usable(rows: Rows) -> NDArray[np.bool_]:
    return np.asarray(rows.pictures["url_sha1"] != NO_PICTURE["url_sha1"])


def _npy_header(none: NDArray[Any], count: int) -> bytes:
    """The header of a .npy file of `count` records of `none`'s kind; numpy makes it equally long for any count."""
    header = BytesIO()
    description = np.lib.format.dtype_to_descr(none.dtype)
    shape = (count, *none.shape[1:])
    np.lib.format.write_array_header_1_0(header, {"descr": description, "fortran_order": False, "shape": shape})
    return header.getvalue()


# --------------------------------------------------------------------------------------------------------- checkpoints


class Checkpoint:
    """The rows that a build makes. Use it as a context: a build that fails or is stopped leaves them for the next one.

    With frequency 0, a build that is stopped while it embeds keeps nothing. No other build may use the same folder and
    rank.
    """

    def __init__(
        self, folder: IndexFolder, settings: Settings, frequency: int = 0, *, there: Source | None = None
    ) -> None:
        """Continue the folder's checkpoint, which is `there`, or start one."""
        self.count = 0  # rows so far
        self.expected = 0  # rows once the build is done, as far as known
        self.saves, self.seconds = 0, 0.0  # seconds: how long the build was held up
        self._folder, self._settings = folder, settings
        self._interval = (frequency + 1) // 2  # see above
        self._unsaved = 0
        self._files: dict[str, BinaryIO] = {}
        self._columns = Rows.empty().columns()
        self._unusable = np.empty(0, np.int64)
        self._thread = ThreadPoolExecutor(1)
        self._saving: Future[None] | None = None
        self._is_safe = there is not None  # there is something to resume
        if there:
            self._unusable = np.flatnonzero(~_usable(there.rows))
            self._open(there.rows, keep=len(there.rows))

    @property
    def max_batch(self) -> int:
        """How many images may be appended at a time; unlimited if no checkpoints are made."""
        return self._interval or sys.maxsize

    def rows(self) -> Rows:
        """All rows so far, memory-mapped."""
        return _without(_mapped(self._folder, self.count), self._unusable) if self.count else Rows.empty()

    def append(self, rows: Rows) -> None:
        """Keep `rows`."""
        self._append(rows)
        if self._interval and self._unsaved + len(rows) > self._interval:  # one more batch like this would be too many
            self._save()

    def take_over(self, rows: Rows, which: NDArray[np.bool_]) -> None:
        """Append those of `rows`, which lie in other files, and flush them: those files may be deleted then."""
        numbers = np.flatnonzero(which)
        for start in range(0, len(numbers), CHUNK):
            self._append(rows.take(numbers[start : start + CHUNK]))
        self.finish()

    def finish(self) -> None:
        """Flush all rows, also with frequency 0: a kill after the embedding then costs none of them."""
        if self._unsaved:
            self._save()
        with self._held_up():
            self._wait()

    def drop(self) -> None:
        """Delete it."""
        self._close()
        drop(self._folder)

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
            self._close()
            if not self._is_safe:
                drop(self._folder)
            elif not isinstance(error, PipelineError | None) and not self._folder.is_aside:  # which says what to do
                say(f"Checkpoint kept in {self._folder.root}: run the same command to resume (without --no-resume)")

    def _open(self, like: Rows, keep: int) -> None:
        """Open the column files for rows `like` these, cut to the first `keep`."""
        self._columns = Rows.empty(width=like.embeddings.shape[1]).columns()
        with disk_errors_named(self._folder.checkpoint_meta):
            for name, none in self._columns.items():
                path, header = self._folder.checkpoint_column(name), _npy_header(none, keep)
                file = self._files[name] = open(path, "r+b" if keep else "w+b")  # noqa: SIM115  # until `_close`
                file.write(header)
                file.truncate(len(header) + keep * none.itemsize * int(np.prod(none.shape[1:])))
                file.seek(0, os.SEEK_END)
        self.count = keep

    def _close(self) -> None:
        self._thread.shutdown()
        for file in self._files.values():
            with suppress(OSError):  # rows that the disk did not take: already reported
                file.close()

    def _append(self, rows: Rows) -> None:
        with self._held_up(), disk_errors_named(self._folder.checkpoint_meta):
            if not self._files:
                self._open(rows, keep=0)
            for name, column in rows.columns().items():
                self._files[name].write(column.tobytes())
                self._files[name].flush()
        self.count += len(rows)
        self._unsaved += len(rows)

    def _save(self) -> None:
        """Start a flush of what is there now, after waiting for the last one."""
        with self._held_up():
            self._wait()
            self._saving = self._thread.submit(self._make_safe, self.count)
            self._unsaved = 0
            self.saves += 1

    def _make_safe(self, count: int) -> None:
        with disk_errors_named(self._folder.checkpoint_meta):
            for name, file in self._files.items():
                os.pwrite(file.fileno(), _npy_header(self._columns[name], count), 0)
                os.fsync(file.fileno())
        good = np.ones(count, np.bool_)
        good[self._unusable] = False
        packed = BytesIO()
        np.savez(packed, indices=np.flatnonzero(good).astype(np.int64), good_mask=good)
        atomic_write_bytes(self._folder.checkpoint_mask, packed.getvalue())
        name = self._folder.checkpoint_column("embeddings").name
        meta = _Meta(utc_timestamp(), count, max(count, self.expected), name, self._settings)
        atomic_write_json(self._folder.checkpoint_meta, meta)
        self._is_safe = True

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


def open_checkpoint(
    folder: IndexFolder, settings: Settings, frequency: int, *, resume: bool, take_back: bool = True
) -> Checkpoint:
    """A build's checkpoint, with the rows of every checkpoint in the folder that was made with `settings`.

    Those of other settings are named and put aside. Without `take_back` what was put aside stays so: it may hold rows
    of an earlier index. Without `resume` all of them are deleted, but for those that were put aside and have other
    settings.
    """
    others, taken_back = folder.other_ranks(), folder.stale(settings.digest)
    if resume:
        checkpoint = Checkpoint(folder, settings, frequency, there=_put_aside_unless(folder, settings))
        for there in others:
            if source := _put_aside_unless(there, settings):
                checkpoint.take_over(source.rows, _usable(source.rows))
                drop(there)
        if take_back:
            take_over_others(checkpoint, [taken_back])
        return checkpoint
    if any(there.checkpoint_meta.exists() for there in (folder, *others, taken_back)):
        say(f"--no-resume: the checkpoint in {folder.root} is discarded")
    for there in (folder, *others, taken_back):
        drop(there)
    return Checkpoint(folder, settings, frequency)


def take_over_others(checkpoint: Checkpoint, others: Sequence[IndexFolder]) -> None:
    """Move the rows of other checkpoints into `checkpoint`."""
    for there in others:
        if source := sound_checkpoint(there):
            checkpoint.take_over(source.rows, _usable(source.rows))
        drop(there)


def drop(folder: IndexFolder) -> None:
    """Delete the folder's checkpoint, the file that vouches for the others first."""
    with disk_errors_named(folder.checkpoint_meta):
        for path in folder.checkpoint_files(Rows.names()):
            path.unlink(missing_ok=True)
        if folder.is_aside and folder.root.exists():
            sweep(folder.root)
            with suppress(OSError):  # somebody else keeps a file there
                folder.root.rmdir()


def _put_aside_unless(folder: IndexFolder, settings: Settings) -> Source | None:
    """The folder's checkpoint if it has `settings`; another is put aside, and what a kill left of a first one goes."""
    source = sound_checkpoint(folder)
    if source and not (differs := source.settings.differences(settings)):
        return source
    if source:
        stale = folder.stale(source.settings.digest)
        _keep(source.rows, _usable(source.rows), stale, source.settings)
        warn(
            f"{folder.checkpoint_meta} was made with other settings ({'; '.join(differs)}): moved to "
            f"{stale.root.name}; a build with those settings will use it again"
        )
    drop(folder)
    return None


def keep_unused(
    checkpoint: Checkpoint, earlier: Source | None, found: "Found", stale: IndexFolder, settings: Settings
) -> None:
    """Delete a finished build's checkpoint, but put the rows aside that another build may want.

    These are rows of the checkpoint, and of listed pictures in the `earlier` index, whose pictures were not in the
    cache or not in the list: the index has no row of them.
    """
    take_over_others(checkpoint, [stale])  # if it was not taken back: rows that the index has now are superseded
    used, kept = found.urls[found.there], 0
    for source in (*([earlier.rows] if earlier else []), checkpoint.rows()):  # the newest last
        urls = source.pictures["url_sha1"]
        unused = _usable(source) & (_newest(used, urls) < 0)
        if earlier and source is earlier.rows:
            unused &= _newest(found.urls, urls) >= 0
        if unused.any():
            _keep(source, unused, stale, settings)
            kept += int(unused.sum())
    if kept:
        say(f"{kept:,} rows that this build did not need are kept in {stale.root} for later builds")
    checkpoint.drop()


def _keep(rows: Rows, which: NDArray[np.bool_], stale: IndexFolder, settings: Settings) -> None:
    """Add those of `rows` to the checkpoint that is put aside in `stale`."""
    there = sound_checkpoint(stale)
    with disk_errors_named(stale.root):
        stale.root.mkdir(exist_ok=True)
    with Checkpoint(stale, settings, there=there) as kept:
        kept.take_over(rows, which)


# ------------------------------------------------------------------------------------------------------------- look-up


@dataclass(frozen=True, slots=True)
class Found:
    """The rows of F faces. Rows are numbered through all sources, one after the other."""

    urls: NDArray[np.void]  # V20 [F]: SHA-1 of the URLs of the faces' pictures
    numbers: NDArray[np.int64]  # [F]: each face's row; -1 if there is none
    mtimes_ns: NDArray[np.int64]  # [F]: when the files of these pictures were last changed

    @property
    def missing(self) -> NDArray[np.int64]:
        """The faces that have no row."""
        return np.flatnonzero(self.numbers < 0)

    @property
    def there(self) -> NDArray[np.int64]:
        """The faces that have one."""
        return np.flatnonzero(self.numbers >= 0)

    def unlisted(self, rows: Rows) -> int:
        """How many of `rows` are of none of the faces' pictures."""
        return int((_newest(self.urls, rows.pictures["url_sha1"]) < 0).sum())

    def add_new(self, rows: Rows, first: int, before: int) -> None:
        """Assign the rows from `first` on to the faces that have none; `before` rows are numbered before `rows`."""
        pictures, missing = rows.pictures[first:], self.missing
        at = _newest(pictures["url_sha1"], self.urls[missing])
        faces, at = missing[at >= 0], at[at >= 0]
        self.numbers[faces], self.mtimes_ns[faces] = before + first + at, pictures["mtime_ns"][at]


def look_up(sources: Sequence[Rows], faces: Records, cache: ImageCache) -> Found:
    """Find each face's row: the newest one of its picture's URL, if the file in `cache` still has that content.

    Later sources are newer. A face whose picture is missing or unreadable has no row.
    """
    urls = np.frombuffer(b"".join(url_sha1(face.image_url) for face in faces), "V20")
    known = np.concatenate([rows.pictures["url_sha1"] for rows in sources])
    found = Found(urls, _newest(known, urls), np.zeros(len(urls), np.int64))
    starts, owners = _owners(sources, found.numbers)
    with Progress("Comparing", len(found.there), "pictures") as progress:
        for place in found.there.tolist():
            owner = owners[place]
            picture = sources[owner].pictures[found.numbers[place] - starts[owner]]
            try:
                mtime_ns = mtime_if_same(picture, cache.path_for(faces[place].image_url))
            except OSError:
                mtime_ns = None
            if mtime_ns is None:
                found.numbers[place] = -1
            else:
                found.mtimes_ns[place] = mtime_ns
            progress.advance()
    return found


def _owners(sources: Sequence[Rows], numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each source's numbers start, and which source each of `numbers` belongs to."""
    starts = np.cumsum([0, *map(len, sources)])
    return starts, np.searchsorted(starts[1:], numbers, "right")


def _newest(known: NDArray[np.void], wanted: NDArray[np.void]) -> NDArray[np.int64]:
    """For each of `wanted`, V20 [M], the last place in `known`, V20 [N], that equals it: int64 [M], -1 if none does."""
    if not len(known):
        return np.full(len(wanted), -1)
    order = np.argsort(known, kind="stable")
    at = np.searchsorted(known[order], wanted, "right") - 1
    return np.where((at >= 0) & (known[order[at]] == wanted), order[at], -1)


def assemble(sources: Sequence[Rows], found: Found, target: IndexFolder) -> None:
    """Write the faces' rows in the list's order, as the columns of an index in `target`."""
    there = found.there
    width = max(rows.embeddings.shape[1] for rows in sources)
    files = {name: open(target.column(name), "wb") for name in Rows.names()}  # noqa: SIM115  # closed below
    try:
        for name, none in Rows.empty(width=width).columns().items():
            files[name].write(_npy_header(none, len(there)))
        for start in range(0, len(there), CHUNK):
            faces = there[start : start + CHUNK]
            chunk, (starts, owners) = Rows.empty(len(faces), width), _owners(sources, found.numbers[faces])
            for number in np.unique(owners):
                rows = sources[number].take(found.numbers[faces[owners == number]] - starts[number])
                for name, column in rows.columns().items():
                    chunk.columns()[name][owners == number] = column
            chunk.pictures["mtime_ns"] = found.mtimes_ns[faces]  # so that the file need not be read again
            for name, column in chunk.columns().items():
                files[name].write(column.tobytes())
    finally:
        for file in files.values():
            file.close()
