"""Rows -> a finished index: assemble, index, describe and check it, then replace the old one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from helpers.about import VERSION
from helpers.artifacts import IndexFolder
from helpers.atomic_io import atomic_set, disk_errors_named, json_text, utc_timestamp
from helpers.build.report import BuildReport
from helpers.build.request import BuildRequest
from helpers.build.rows import Found, assemble
from helpers.cards.faces import Records
from helpers.cards.pictures import sha256_of
from helpers.embed.embedder import TORCH_VERSION, Embedder
from helpers.embed.settings import Rows
from helpers.embed.stage import WorkerPlan
from helpers.embed.vectors import check_unit_rows
from helpers.index.faiss_index import FAISS_VERSION, TARGET_RECALL_AT_10, CardIndex, use_threads
from helpers.index.manifest import (
    MANIFEST_VERSION,
    Environment,
    FoundByItself,
    Manifest,
    Model,
    Recognition,
    Whitened,
    git_commit,
)
from helpers.index.self_check import check_index
from helpers.index.store import StoredIndex
from helpers.index.whitening import MIN_ROWS, Whitening
from helpers.machine_limits import usable_cores
from helpers.talk import say, warn


def publish(
    request: BuildRequest,
    card_list: str,
    faces: Records,
    sources: Sequence[Rows],
    found: Found,
    embedder: Embedder,
    workers: WorkerPlan,
    report: BuildReport,
    ranks: int,
) -> None:
    """Build the index of the rows `found` in `sources`, in `request.out`; `report` gets a few words about it.

    Raises PipelineError. The files of an earlier index are only touched once the new ones are complete and checked.
    """
    folder, cache = IndexFolder(request.out), request.images
    with atomic_set(folder.root, marker=folder.manifest.name) as staging:
        staged = IndexFolder(staging)
        with report.phase("writing"):
            assemble(sources, found, staged)
            with open(staged.metadata, "wb") as file:
                file.writelines(faces.line(number) for number in found.there.tolist())
        if ranks > 1:
            use_threads(usable_cores())
        raw, whitened = _indexes(staged, request, embedder, report)
        manifest = _manifest(request, card_list, embedder, workers, report, ranks, raw, whitened)
        files = [*(staged.column(name) for name in Rows.names()), staged.metadata, staged.index]
        files += [staged.whitening, staged.whitened_index] if whitened else []
        manifest = replace(manifest, sha256={path.name: sha256_of(path) for path in files})
        staged.manifest.write_bytes(json_text(manifest))
        with report.phase("checking"):
            check_index(StoredIndex(staged), cache, embedder)
        staged.manifest.write_bytes(json_text(replace(manifest, seconds=report.seconds)))  # now all of them
    for path in () if whitened else (folder.whitening, folder.whitened_index):
        with disk_errors_named(path):  # those of an earlier index belong to nothing now
            path.unlink(missing_ok=True)
    report.index = _in_words(request, raw, whitened)


def _in_words(request: BuildRequest, raw: "_Indexed", whitened: Whitened | None) -> str:
    """The indexes, for the summary."""
    quality = search_quality(raw.ef_search, raw.recalls, raw.found_by_itself)
    words = f"M {request.hnsw_m}, efConstruction {request.hnsw_ef_construction}, {quality}"
    if not whitened:
        return words
    quality = search_quality(whitened.hnsw_ef_search, whitened.ef_search_recall_at_10, whitened.found_by_itself)
    return f"{words}; whitened to {whitened.dimensions} dimensions, {quality}"


def _manifest(
    request: BuildRequest,
    card_list: str,
    embedder: Embedder,
    workers: WorkerPlan,
    report: BuildReport,
    ranks: int,
    raw: "_Indexed",
    whitened: Whitened | None,
) -> Manifest:
    """All that is known before the files are hashed and checked."""
    model = model_of(embedder, raw.width)
    return Manifest(
        version=MANIFEST_VERSION,
        timestamp=utc_timestamp(),
        parameters=request.parameters(raw.ef_search, workers.batch),
        statistics=report.statistics(),
        environment=Environment.here(TORCH_VERSION, FAISS_VERSION, embedder.source.display_name, embedder.device),
        git_commit=git_commit(),
        tool_version=VERSION,
        model=model,
        recognition=Recognition.of(model, whitened=whitened is not None),
        card_list=card_list,
        ef_search_recall_at_10=raw.recalls,
        target_recall_at_10=TARGET_RECALL_AT_10,
        found_by_itself=raw.found_by_itself,
        whitening=whitened,
        seconds=report.seconds,
        images_per_second=report.images_per_second.get("embedding", 0.0),
        sha256={},
        embedding=report.embedding(ranks=ranks, loaders=workers.loaders, model_threads=workers.model_threads),
    )


def model_of(embedder: Embedder, width: int) -> Model:
    """What the manifest says of the model whose rows have `width` dimensions."""
    return Model.of(embedder.source, embedder.settings, width, embedder.model_input, quick_gelu=embedder.quick_gelu)


@dataclass(frozen=True, slots=True)
class _Indexed:
    """How good an index is."""

    width: int
    ef_search: int
    recalls: dict[int, float]  # recall@10, measured to choose efSearch
    found_by_itself: FoundByItself


def _indexes(
    staged: IndexFolder, request: BuildRequest, embedder: Embedder, report: BuildReport
) -> tuple[_Indexed, Whitened | None]:
    """Index the rows as they are, and whitened."""
    rows: NDArray[np.float32] = np.load(staged.column("embeddings"), mmap_mode="r")
    check_unit_rows(rows, str(embedder.source))
    return _index(rows, staged.index, request, report), _whitened(rows, staged, request, report)


def _index(
    rows: NDArray[np.float32],
    path: Path,
    request: BuildRequest,
    report: BuildReport,
    whitening: Whitening | None = None,
) -> _Indexed:
    """Index unit rows float32 [N, D], which `whitening` made of others, and write the index to `path`."""
    say(f"Indexing {len(rows):,} {'whitened ' if whitening else ''}rows of width {rows.shape[1]}")
    with report.phase("indexing"):
        index = CardIndex.build(rows, request.hnsw_m, request.hnsw_ef_construction)
    with report.phase("choosing efSearch"):
        recalls = index.tune_ef_search(rows)
    with report.phase("finding each row"):
        found_by_itself = index.link_unfound(rows)
    index.save(path, whitening)
    return _Indexed(index.width, index.ef_search, recalls, found_by_itself)


def _whitened(
    rows: NDArray[np.float32], staged: IndexFolder, request: BuildRequest, report: BuildReport
) -> Whitened | None:
    """Fit a whitening to unit rows float32 [N, D], and index the whitened rows; None if that can't or should not be."""
    if not request.whiten:
        return None
    with report.phase("whitening"):
        whitening = Whitening.fit(rows, request.whiten_ridge, request.whiten_dim or rows.shape[1] // 2)
        if whitening is None:
            say(f"No whitening: it takes {MIN_ROWS} rows that differ")
            return None
        whitening.save(staged.whitening)
        whitened = whitening(rows)
    made = _index(whitened, staged.whitened_index, request, report, whitening)
    return Whitened(
        dimensions=whitening.dimensions,
        ridge=request.whiten_ridge,
        hnsw_ef_search=made.ef_search,
        ef_search_recall_at_10=made.recalls,
        found_by_itself=made.found_by_itself,
    )


def search_quality(ef_search: int, recalls: Mapping[int, float], rows: FoundByItself) -> str:
    """The efSearch and what it reaches, for the summary; a warning where that is less than it should be."""
    recall = recalls[ef_search]
    reached = f"efSearch {ef_search} (measured"
    remedy = "a larger --hnsw-m or --hnsw-ef-construction helps"
    if recall < TARGET_RECALL_AT_10:
        warn(f"with efSearch {ef_search}, recall@10 is {recall:.3f}, short of {TARGET_RECALL_AT_10}: {remedy}")
        reached += f": recall@10 {recall:.3f}, short of {TARGET_RECALL_AT_10}"
    if rows.found < rows.checked:
        lost = f"{rows.checked - rows.found:,} of {rows.checked:,} rows are not found by their own vector"
        warn(f"{lost}: {remedy}")
        reached += f"; {lost}"
    return f"{reached})"
