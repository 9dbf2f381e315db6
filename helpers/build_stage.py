"""Stage 2, image cache -> vectors, metadata, index, manifest.

Loader threads decode and prepare pictures while the model works on the batch before; each picture is decoded once, for
its validation and its embedding alike. Rows come in the order of the card list; a face whose picture is missing or
broken has no row. Torch and faiss are imported only once there is work for them: they take seconds. A build that was
stopped or killed goes on from its checkpoint, which stays until all files have their names.
"""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from helpers.about import VERSION
from helpers.artifacts import IndexFolder
from helpers.atomic_io import Held, atomic_set, disk_errors_named, sole_holder, sweep, utc_timestamp, writable_folder
from helpers.card_list import told_faces
from helpers.checkpoint import Checkpoint, Settings
from helpers.cli_validation import (
    DEFAULT_CONNECT_TIMEOUT_SECONDS,
    DEFAULT_MAX_RETRIES,
    DEFAULT_READ_TIMEOUT_SECONDS,
    BuildArgs,
)
from helpers.errors import Category, PipelineError
from helpers.image_cache import ImageCache
from helpers.index_store import (
    MANIFEST_VERSION,
    Environment,
    Manifest,
    Model,
    Parameters,
    Records,
    Statistics,
    StoredIndex,
    sha256_of,
)
from helpers.lookahead import in_order
from helpers.model_source import find_model
from helpers.preprocess import Preparation
from helpers.scryfall import ensure_card_list
from helpers.session import DownloadSession
from helpers.talk import Progress, percent, printable, say, warn
from helpers.validation import MOST_CARD_PIXELS, BrokenImage, read_image
from helpers.vectors import check_unit_rows

if TYPE_CHECKING:
    import torch

    from helpers.embedder import Embedder
    from helpers.faiss_index import CardIndex

EXIT_NO_IMAGES = 2
EXIT_NO_CACHE = 3
LOADERS = max(1, min(4, os.cpu_count() or 1))  # more would take cores from the model


@dataclass(slots=True)
class BuildReport:
    """Counts what became of each face, and says how the build went."""

    total: int = 0
    resumed: int = 0  # rows that an earlier run had made
    embedded: int = 0  # by this run
    missing: int = 0
    validation_failures: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def successful(self) -> int:
        """Faces that have a row."""
        return self.resumed + self.embedded

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

    @property
    def images_per_second(self) -> float:
        """Rate of the embedding phase, loading included."""
        return self.embedded / self.seconds["embedding"] if self.seconds.get("embedding") else 0.0

    def progress_note(self) -> str:
        """What was left out so far, for the progress line."""
        return f"{self.missing:,} missing, {self.validation_failures:,} broken"

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure the block as phase `name`."""
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 3)

    def summary(self, args: BuildArgs, ef_search: int, checkpoint: Checkpoint) -> str:
        """What the user reads at the end."""
        phases = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.seconds.items())
        resumed = f", {self.resumed:,} of them by an earlier run" if self.resumed else ""
        cost = 100 * checkpoint.seconds / sum(self.seconds.values())
        return "\n".join(
            [
                f"Total faces: {self.total:,}",
                f"  missing from the cache: {self.missing:,}",
                f"  validation failures: {self.validation_failures:,}",
                f"  embedded: {self.successful:,}{resumed} ({self.images_per_second:.1f} images/s)",
                f"Success rate: {percent(self.successful, self.total)}",
                *(["download_images.py fetches what is missing or broken"] if self.successful < self.total else []),
                f"HNSW: M {args.hnsw_m}, efConstruction {args.hnsw_ef_construction}, efSearch {ef_search} (measured)",
                f"Checkpoints: {checkpoint.saves}, which held up the run for {checkpoint.seconds:.2f} s ({cost:.2f} %)",
                f"Seconds: {phases}",
                f"Written to {args.out}",
            ]
        )


def require_wanted(args: BuildArgs) -> None:
    """PipelineError (exit 2) where --limit wants no faces."""
    if args.limit == 0:
        raise _no_valid_images("received --limit 0: no faces wanted", "leave --limit out, or raise it")


def require_pictures(args: BuildArgs) -> None:
    """PipelineError where there is no cache directory (exit 3) or no picture in it (exit 2)."""
    cache = ImageCache(args.cache)
    cache.require(EXIT_NO_CACHE)
    if next(cache.pictures(), None) is None:
        raise _no_valid_images(f"{args.cache} holds no pictures", "run download_images.py first, with the same --cache")


@contextmanager
def sole_build(args: BuildArgs) -> Iterator[None]:
    """Be the only build that writes into --out; PipelineError where another one does, or it can't be written to."""
    was_there = args.out.exists()
    folder = IndexFolder(writable_folder(args.out, "--out"))
    try:
        with sole_holder(folder.build_lock):
            sweep(folder.root, "checkpoint")
            yield
    except Held as error:
        raise PipelineError.of(
            Category.CONFIGURATION,
            f"another build is writing into {folder.root}",
            details=f"{folder.build_lock.name} is locked by it",
            suggestion="wait until it is done, or name another directory with --out",
        ) from error
    finally:
        if not was_there:
            with suppress(OSError):  # not empty: the build came to something
                folder.root.rmdir()


def load_embedder(args: BuildArgs, report: BuildReport) -> Embedder:
    """Load the model, before any work is done; PipelineError where it can't be had."""
    source = find_model(args.model, args.pretrained, offline=args.offline)
    say(f"Loading {source.display_name}")
    with report.phase("loading the model"):
        from helpers.embedder import Embedder  # torch: seconds, and find_model must have spoken first

        return Embedder.load(source, Preparation(args.size, args.fit), args.device)


def build(args: BuildArgs, embedder: Embedder, report: BuildReport) -> str:
    """Build the index of the cached pictures of the list's faces; return the summary.

    Raises PipelineError: no valid picture (exit 2), everything else known (exit 1). The files of an earlier build are
    only touched when the new ones are whole and have been checked.
    """
    folder = IndexFolder(args.out)
    cache = ImageCache(args.cache)
    card_list = _card_list(args)
    faces = _faces(card_list, args)
    report.total = len(faces)
    with Checkpoint(folder, _settings(embedder), faces, args.checkpoint_frequency, resume=args.resume) as checkpoint:
        with report.phase("embedding"):
            _embed(faces, cache, embedder, args, report, checkpoint)
            vectors = checkpoint.complete()
        _require_rows(report)
        check_unit_rows(vectors, embedder.source.display_name)
        index, recalls = _index(vectors, args, report)
        with atomic_set(folder.root, marker=folder.manifest.name) as staging:
            staged = IndexFolder(staging)
            with report.phase("writing"):
                _write(staged, vectors, faces, checkpoint, index)
                staged.manifest.write_bytes(
                    _manifest(args, report, card_list, embedder, index, recalls, staged).to_json()
                )
            with report.phase("checking"):
                _check(staged, cache, embedder)
        checkpoint.delete()
    if folder.browser_vectors.exists():
        warn(f"the browser files in {args.out} are of an earlier build: run export_for_browser.py to renew them")
    return report.summary(args, index.ef_search, checkpoint)


def _card_list(args: BuildArgs) -> Path:
    """The kept list, whatever its age: the faces must be those that were downloaded."""
    session = DownloadSession(
        api_url=args.api_url,
        user_agent=args.user_agent,
        workers=1,
        connect_timeout=DEFAULT_CONNECT_TIMEOUT_SECONDS,
        read_timeout=DEFAULT_READ_TIMEOUT_SECONDS,
        max_retries=DEFAULT_MAX_RETRIES,
    )
    return ensure_card_list(
        args.cache, args.kind, args.api_url, None if args.offline else session, refresh=args.refresh, keep_for=None
    )


def _faces(card_list: Path, args: BuildArgs) -> Records:
    """The faces to embed, in the list's order, laid down in a file without a name.

    They are needed again when the rows are done, hours later, and a list may be replaced in the meantime.
    """
    with disk_errors_named(args.out / "faces"), tempfile.TemporaryFile(dir=args.out) as file:
        file.writelines(
            face.to_json() + b"\n" for face in told_faces(card_list, args.image_key, args.limit, args.filters)
        )
        file.flush()
        return Records(file, card_list)


# ------------------------------------------------------------------------------------------------------------ embedding


def _settings(embedder: Embedder) -> Settings:
    return Settings(
        model=embedder.source.name,
        weights_sha256=embedder.fingerprint,
        precision=embedder.precision,
        preprocessing=embedder.preprocessing,
        target_size=embedder.preparation.size,
        fit=embedder.preparation.fit,
    )


def _embed(
    faces: Records,
    cache: ImageCache,
    embedder: Embedder,
    args: BuildArgs,
    report: BuildReport,
    checkpoint: Checkpoint,
) -> None:
    """Give each face that has a whole picture and no row yet its row."""
    report.resumed = int(checkpoint.good.sum())
    with (
        Progress("Embedding", report.total, "images", report.progress_note, before=report.resumed) as progress,
        closing(
            _loaded(faces, np.flatnonzero(~checkpoint.good).tolist(), cache, embedder, args, report, progress)
        ) as loaded,
    ):
        while batch := list(islice(loaded, min(args.batch, checkpoint.room))):
            checkpoint.add([place for place, _ in batch], embedder.encode([picture for _, picture in batch]))
            report.embedded += len(batch)
            progress.advance(len(batch))


def _loaded(
    faces: Records,
    places: Iterable[int],
    cache: ImageCache,
    embedder: Embedder,
    args: BuildArgs,
    report: BuildReport,
    progress: Progress,
) -> Generator[tuple[int, torch.Tensor], None, None]:
    """Yield each of `places` whose face has a whole picture, with the model's input, float32 [3, H, W].

    The others are counted. Up to two batches lie ready ahead of the model, which bounds the memory.
    """

    def prepare(place: int) -> torch.Tensor:
        path = cache.path_for(faces[place].image_url)
        return embedder.prepare(read_image(path, verify=args.validate_cache, most_pixels=MOST_CARD_PIXELS))

    with closing(in_order(prepare, places, workers=LOADERS, ahead=2 * args.batch)) as coming:
        for place, future in coming:
            try:
                prepared = future.result()
            except FileNotFoundError:
                report.missing += 1
                progress.advance()
            except BrokenImage as error:
                report.validation_failures += 1
                face = faces[place]
                warn(f"left out {cache.path_for(face.image_url).name} ({printable(face.name)}): {error}")
                progress.advance()
            else:
                yield place, prepared


def _require_rows(report: BuildReport) -> None:
    if report.successful:
        return
    raise _no_valid_images(
        f"of {report.total:,} faces {report.missing:,} have no picture in the cache, "
        f"{report.validation_failures:,} have a broken one",
        "run download_images.py again with the same --cache, --kind and --image-key",
    )


def _no_valid_images(details: str, suggestion: str) -> PipelineError:
    return PipelineError.of(
        Category.BUILD, "No valid images to embed", details=details, suggestion=suggestion, exit_code=EXIT_NO_IMAGES
    )


# ---------------------------------------------------------------------------------------------------- index and writing


def _index(vectors: NDArray[np.float32], args: BuildArgs, report: BuildReport) -> tuple[CardIndex, dict[int, float]]:
    """The index, with the efSearch it needs, and the recall@10 that was measured to choose that."""
    from helpers.faiss_index import CardIndex  # faiss: takes a moment, see above

    say(f"Indexing {len(vectors):,} rows of width {vectors.shape[1]}")
    with report.phase("indexing"):
        index = CardIndex.build(vectors, args.hnsw_m, args.hnsw_ef_construction)
    with report.phase("choosing efSearch"):
        return index, index.tune_ef_search(vectors)


def _write(
    staged: IndexFolder, vectors: NDArray[np.float32], faces: Records, checkpoint: Checkpoint, index: CardIndex
) -> None:
    """Write all files but the manifest, which is made of the others' SHA-256."""
    with open(staged.embeddings, "wb") as file:
        np.save(file, vectors)
    with open(staged.metadata, "wb") as file:
        file.writelines(faces.line(int(place)) for place in np.flatnonzero(checkpoint.good))
    index.save(staged.index)


def _check(staged: IndexFolder, cache: ImageCache, embedder: Embedder) -> None:
    from helpers.self_check import check_index  # torch and faiss, see above

    check_index(StoredIndex(staged), cache, embedder)


def _manifest(
    args: BuildArgs,
    report: BuildReport,
    card_list: Path,
    embedder: Embedder,
    index: CardIndex,
    recalls: dict[int, float],
    staged: IndexFolder,
) -> Manifest:
    from helpers.embedder import TORCH_VERSION
    from helpers.faiss_index import FAISS_VERSION

    return Manifest(
        version=MANIFEST_VERSION,
        timestamp=utc_timestamp(),
        parameters=Parameters(
            kind=args.kind,
            batch_size=args.batch,
            target_size=args.size,
            hnsw_m=args.hnsw_m,
            hnsw_ef_construction=args.hnsw_ef_construction,
            hnsw_ef_search=index.ef_search,
            image_key=args.image_key,
            fit=args.fit,
            limit=args.limit,
            filters=args.filters.to_json(),
        ),
        statistics=report.statistics(),
        environment=Environment(
            python_version=platform.python_version(),
            numpy_version=np.__version__,
            torch_version=TORCH_VERSION,
            faiss_version=FAISS_VERSION,
            clip_model=embedder.source.display_name,
            device=embedder.device,
        ),
        git_commit=_git_commit(),
        tool_version=VERSION,
        model=Model(embedder.source.model, embedder.source.pretrained, embedder.fingerprint, index.width),
        card_list=card_list.name,
        ef_search_recall_at_10=recalls,
        seconds=report.seconds,
        images_per_second=round(report.images_per_second, 2),
        sha256={path.name: sha256_of(path) for path in (staged.embeddings, staged.metadata, staged.index)},
    )


def _git_commit() -> str | None:
    """The commit of this tool, where it runs from a checkout."""
    here = Path(__file__).parent
    try:
        answer = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=5
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
