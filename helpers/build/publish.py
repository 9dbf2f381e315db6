"""Rows -> a finished index: assemble, index, describe and check it, then replace the old one."""

from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from helpers.about import VERSION
from helpers.artifacts import IndexFolder
from helpers.atomic_io import atomic_set, json_text, utc_timestamp
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
    git_commit,
)
from helpers.index.self_check import check_index
from helpers.index.store import StoredIndex
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
        index, recalls, found_by_itself = _index(staged, request, embedder, report, ranks)
        model = model_of(embedder, index.width)
        columns = [staged.column(name) for name in Rows.names()]
        manifest = Manifest(
            version=MANIFEST_VERSION,
            timestamp=utc_timestamp(),
            parameters=request.parameters(index.ef_search, workers.batch),
            statistics=report.statistics(),
            environment=Environment.here(TORCH_VERSION, FAISS_VERSION, embedder.source.display_name, embedder.device),
            git_commit=git_commit(),
            tool_version=VERSION,
            model=model,
            recognition=Recognition.of(model),
            card_list=card_list,
            ef_search_recall_at_10=recalls,
            target_recall_at_10=TARGET_RECALL_AT_10,
            found_by_itself=found_by_itself,
            seconds=report.seconds,
            images_per_second=report.images_per_second.get("embedding", 0.0),
            sha256={path.name: sha256_of(path) for path in (*columns, staged.metadata, staged.index)},
            embedding=report.embedding(ranks=ranks, loaders=workers.loaders, model_threads=workers.model_threads),
        )
        staged.manifest.write_bytes(json_text(manifest))
        with report.phase("checking"):
            check_index(StoredIndex(staged), cache, embedder)
        staged.manifest.write_bytes(json_text(replace(manifest, seconds=report.seconds)))  # now all of them
    report.index = f"M {request.hnsw_m}, efConstruction {request.hnsw_ef_construction}, "
    report.index += search_quality(index.ef_search, recalls[index.ef_search], found_by_itself)


def model_of(embedder: Embedder, width: int) -> Model:
    """What the manifest says of the model whose rows have `width` dimensions."""
    return Model.of(embedder.source, embedder.settings, width, embedder.model_input, quick_gelu=embedder.quick_gelu)


def _index(
    staged: IndexFolder, request: BuildRequest, embedder: Embedder, report: BuildReport, ranks: int
) -> tuple[CardIndex, dict[int, float], FoundByItself]:
    """The index, with the efSearch it needs, the recall@10 measured to choose that, and which rows it finds."""
    rows: NDArray[np.float32] = np.load(staged.column("embeddings"), mmap_mode="r")
    check_unit_rows(rows, str(embedder.source))
    if ranks > 1:
        use_threads(usable_cores())
    say(f"Indexing {len(rows):,} rows of width {rows.shape[1]}")
    with report.phase("indexing"):
        index = CardIndex.build(rows, request.hnsw_m, request.hnsw_ef_construction)
    with report.phase("choosing efSearch"):
        recalls = index.tune_ef_search(rows)
    with report.phase("finding each row"):
        found_by_itself = index.link_unfound(rows)
    index.save(staged.index)
    return index, recalls, found_by_itself


def search_quality(ef_search: int, recall: float, rows: FoundByItself) -> str:
    """The efSearch and what it reaches, for the summary; a warning where that is less than it should be."""
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
