"""Stage 2, image cache -> vectors, metadata, index, manifest.

Loader threads decode and prepare pictures while the model works on the batch before; each picture is decoded once, for
its validation and its embedding alike. Rows come in the order of the card list; a face whose picture is missing or
broken has no row. Torch and faiss are imported only once there is work for them: they take seconds.
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from helpers.about import VERSION
from helpers.artifacts import IndexFolder
from helpers.atomic_io import atomic_set, writable_folder
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
    Statistics,
    sha256_of,
)
from helpers.model_source import ModelSource, find_model
from helpers.preprocess import Preparation
from helpers.records import CardFace
from helpers.scryfall import counted_faces, ensure_card_list
from helpers.session import DownloadSession
from helpers.talk import Progress, percent, say, warn
from helpers.validation import BrokenImage, read_image
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
    missing: int = 0
    validation_failures: int = 0
    embedded: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def statistics(self) -> Statistics:
        """The counts as the manifest has them."""
        return Statistics(
            total_records=self.total,
            successful_embeddings=self.embedded,
            failed_embeddings=self.total - self.embedded,
            success_rate=self.embedded / self.total if self.total else 0.0,
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

    def summary(self, args: BuildArgs, ef_search: int) -> str:
        """What the user reads at the end."""
        phases = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.seconds.items())
        return "\n".join(
            [
                f"Total faces: {self.total:,}",
                f"  missing from the cache: {self.missing:,}",
                f"  validation failures: {self.validation_failures:,}",
                f"  embedded: {self.embedded:,} ({self.images_per_second:.1f} images/s)",
                f"Success rate: {percent(self.embedded, self.total)}",
                f"HNSW: M {args.hnsw_m}, efConstruction {args.hnsw_ef_construction}, efSearch {ef_search} (measured)",
                f"Seconds: {phases}",
                f"Written to {args.out}",
            ]
        )


def build(args: BuildArgs) -> str:
    """Build the index of the cached pictures of the list's faces; return the summary.

    Raises PipelineError: no cache directory (exit 3), no valid picture (exit 2), everything else known (exit 1). The
    output folder is only touched when all is computed.
    """
    cache = _existing_cache(args)
    folder = IndexFolder(writable_folder(args.out, "--out"))
    preparation = Preparation(args.size, args.fit)
    source = find_model(args.model, args.pretrained, offline=args.offline)
    card_list = _card_list(args)
    report = BuildReport()
    with report.phase("loading the model"):
        embedder = _load_embedder(source, preparation, args.device)
        fingerprint = embedder.fingerprint()
    faces, report.total = counted_faces(card_list, args.image_key, args.limit)
    with report.phase("embedding"):
        vectors, embedded = _embed(faces, cache, embedder, args, report)
    _require_rows(report)
    check_unit_rows(vectors, source.display_name)
    index, recalls = _index(vectors, args, report)
    with report.phase("writing"):
        _write(
            folder,
            vectors,
            embedded,
            index,
            lambda sha256: _manifest(args, report, card_list, embedder, fingerprint, index, recalls, sha256),
        )
    if folder.browser_vectors.exists():
        warn(f"the browser files in {args.out} are of an earlier build: run export_for_browser.py to renew them")
    return report.summary(args, index.ef_search)


def _existing_cache(args: BuildArgs) -> ImageCache:
    cache = ImageCache(args.cache)
    if not cache.root.is_dir():
        raise PipelineError.of(
            Category.CONFIGURATION,
            "the image cache does not exist",
            details=f"received --cache {cache.root}",
            suggestion="run download_images.py first, or name the directory it wrote to with --cache",
            exit_code=EXIT_NO_CACHE,
        )
    if args.limit == 0 or next(cache.pictures(), None) is None:
        raise _no_valid_images(
            "received --limit 0" if args.limit == 0 else f"{cache.root} holds no pictures",
            "leave --limit out" if args.limit == 0 else "run download_images.py first, with the same --cache",
        )
    return cache


def _load_embedder(source: ModelSource, preparation: Preparation, device: str) -> Embedder:
    say(f"Loading {source.display_name}")
    from helpers.embedder import Embedder  # torch: seconds, and find_model must have spoken first

    return Embedder.load(source, preparation, device)


def _card_list(args: BuildArgs) -> Path:
    """The kept list, whatever its age: the faces must be those that were downloaded."""
    session = DownloadSession(
        user_agent=args.user_agent,
        workers=1,
        connect_timeout=DEFAULT_CONNECT_TIMEOUT_SECONDS,
        read_timeout=DEFAULT_READ_TIMEOUT_SECONDS,
        max_retries=DEFAULT_MAX_RETRIES,
    )
    return ensure_card_list(
        args.cache, args.kind, args.api_url, None if args.offline else session, refresh=args.refresh, keep_for=None
    )


# ------------------------------------------------------------------------------------------------------------ embedding


def _embed(
    faces: Iterator[CardFace], cache: ImageCache, embedder: Embedder, args: BuildArgs, report: BuildReport
) -> tuple[NDArray[np.float32], list[CardFace]]:
    """Return unit rows float32 [N, D] and the N faces they show, in list order."""
    blocks: list[NDArray[np.float32]] = []
    embedded: list[CardFace] = []
    with (
        Progress("Embedding", report.total, "images", report.progress_note) as progress,
        closing(_loaded(faces, cache, embedder, args, report, progress)) as loaded,
    ):
        while batch := list(islice(loaded, args.batch)):
            blocks.append(embedder.encode([picture for _, picture in batch]))
            embedded += [face for face, _ in batch]
            report.embedded = len(embedded)
            progress.advance(len(batch))
    return np.concatenate(blocks) if blocks else np.empty((0, 0), np.float32), embedded


def _loaded(
    faces: Iterable[CardFace],
    cache: ImageCache,
    embedder: Embedder,
    args: BuildArgs,
    report: BuildReport,
    progress: Progress,
) -> Generator[tuple[CardFace, torch.Tensor], None, None]:
    """Yield each face that has a whole picture, with the model's input, float32 [3, H, W]; count the others.

    Up to two batches lie ready ahead of the model, which bounds the memory.
    """
    coming = iter(faces)
    pool = ThreadPoolExecutor(LOADERS)
    pending: deque[tuple[CardFace, Future[torch.Tensor]]] = deque()

    def fill() -> None:
        for face in islice(coming, 2 * args.batch - len(pending)):
            path = cache.path_for(face.image_url)
            pending.append((face, pool.submit(_prepare, path, embedder, args.validate_cache)))

    try:
        fill()
        while pending:
            face, future = pending.popleft()
            fill()
            try:
                prepared = future.result()
            except FileNotFoundError:
                report.missing += 1
                progress.advance()
            except BrokenImage as error:
                report.validation_failures += 1
                warn(f"left out {cache.path_for(face.image_url).name} ({face.name}): {error}")
                progress.advance()
            else:
                yield face, prepared
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare(path: Path, embedder: Embedder, validate: bool) -> torch.Tensor:
    return embedder.prepare(read_image(path, verify=validate))


def _require_rows(report: BuildReport) -> None:
    if report.embedded:
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
    folder: IndexFolder,
    vectors: NDArray[np.float32],
    faces: list[CardFace],
    index: CardIndex,
    manifest: Callable[[dict[str, str]], Manifest],
) -> None:
    """Write all files beside the old ones, then give them their names; `manifest` is made of the others' SHA-256."""
    finals = (folder.embeddings, folder.metadata, folder.index)
    with atomic_set(finals, marker=folder.manifest) as (*parts, manifest_part):
        embeddings_part, metadata_part, index_part = parts
        with open(embeddings_part, "wb") as file:
            np.save(file, vectors)
        with open(metadata_part, "wb") as file:
            file.writelines(face.to_json() + b"\n" for face in faces)
        index.save(index_part)
        sha256 = {final.name: sha256_of(part) for final, part in zip(finals, parts, strict=True)}
        manifest_part.write_bytes(manifest(sha256).to_json())


def _manifest(
    args: BuildArgs,
    report: BuildReport,
    card_list: Path,
    embedder: Embedder,
    fingerprint: str,
    index: CardIndex,
    recalls: dict[int, float],
    sha256: dict[str, str],
) -> Manifest:
    from helpers.embedder import TORCH_VERSION
    from helpers.faiss_index import FAISS_VERSION

    return Manifest(
        version=MANIFEST_VERSION,
        timestamp=datetime.now(timezone.utc).isoformat(timespec="seconds"),
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
        model=Model(embedder.source.model, embedder.source.pretrained, fingerprint, index.width),
        card_list=card_list.name,
        ef_search_recall_at_10=recalls,
        seconds=report.seconds,
        images_per_second=round(report.images_per_second, 2),
        sha256=sha256,
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
