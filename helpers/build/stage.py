"""Stage 2, image cache -> index: find the existing rows, make the missing ones, publish all of them.

Rows are in the order of the card list; a face whose picture is missing or broken has none. Torch and faiss are imported
only once there is work for them: they take seconds. Of several ranks (torchrun) each makes a share of the missing rows;
rank 0 does the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from helpers.artifacts import IndexFolder
from helpers.build.changes import compare, is_current
from helpers.build.listing import listed_faces, no_valid_images
from helpers.build.ranks import ALONE, Ranks
from helpers.build.report import BuildReport
from helpers.build.request import BuildRequest
from helpers.build.rows import (
    Checkpoint,
    Found,
    IndexSource,
    Source,
    drop,
    index_source,
    keep_unused,
    look_up,
    open_checkpoint,
    settings_there,
    take_over_others,
)
from helpers.embed.model_source import find_model, prefer_cached_weights
from helpers.embed.preprocess import Preparation
from helpers.errors import Category, PipelineError
from helpers.talk import say, warn

if TYPE_CHECKING:
    from helpers.cards.faces import Records
    from helpers.embed.embedder import Embedder
    from helpers.embed.settings import Rows, Settings
    from helpers.embed.stage import WorkerPlan


def load_embedder(request: BuildRequest, report: BuildReport, ranks: Ranks = ALONE) -> Embedder:
    """Load the model, before any work is done; PipelineError if it can't be loaded."""
    source = find_model(request.model, request.pretrained)
    say(f"Loading the model {source}")
    with report.phase("loading the model"):
        prefer_cached_weights(source, offline=request.offline)
        from helpers.embed.embedder import Embedder  # torch: seconds, see above

        return Embedder.load(source, Preparation(request.size, request.fit), request.device, ranks.local_rank)


def build(request: BuildRequest, embedder: Embedder, report: BuildReport, ranks: Ranks = ALONE) -> IndexFolder:
    """Build the index of the selected faces' pictures in `request.out`; return its folder, for StoredIndex.

    `report` has the summary then. Raises PipelineError: no valid picture (exit 2), any other known failure (exit 1). A
    build that is stopped or killed leaves a checkpoint, which stays until the index is in place.
    """
    folder = IndexFolder(request.out)
    if not ranks.leads:
        _follow(request, embedder, report, ranks)
        return folder
    from helpers.build.publish import model_of, publish  # torch and faiss: seconds

    listed_in, faces = listed_faces(request, ranks)
    report.total, report.out = len(faces), str(request.out)
    if request.pictures:
        report.remedy = "what is missing or broken is left out"
    before = index_source(folder)
    earlier = None if request.rebuild else before
    settings = _settle(embedder, earlier, faces, request, report, ranks)
    with open_checkpoint(
        folder, settings, request.checkpoint_frequency, resume=request.resume, take_back=not request.rebuild
    ) as checkpoint:
        earlier = earlier if earlier and _fits(earlier, embedder) else None
        found = _look_up(earlier, checkpoint, faces, request, report)
        workers = _make_missing(found, earlier, checkpoint, faces, embedder, request, report, ranks)
        if before:
            report.changes = str(compare(before, faces, found, reused=earlier is not None))
        if not (
            earlier
            and is_current(earlier, faces, found, request, model_of(embedder, earlier.rows.embeddings.shape[1]), report)
        ):
            sources = _sources(earlier, checkpoint)
            publish(request, listed_in, faces, sources, found, embedder, workers, report, ranks.size)
        ranks.let_go()
        try:
            keep_unused(checkpoint, earlier, found, folder.stale(settings.digest), settings)
        except PipelineError as error:
            warn(f"the index is complete, but rows for later builds could not be kept: {error}")
    return folder


def _settle(
    embedder: Embedder,
    earlier: Source | None,
    faces: Records,
    request: BuildRequest,
    report: BuildReport,
    ranks: Ranks,
) -> Settings:
    """Choose the precision, for all ranks; return the settings of the rows to make."""
    from helpers.build.making import choose_precision  # torch: seconds

    folder = IndexFolder(request.out)
    index = [earlier.settings] if earlier else []
    there = index
    if request.resume:  # the more likely they matter, the earlier
        here, aside = [folder, *folder.other_ranks()], folder.all_stale()
        there = [*settings_there(here), *index, *settings_there(aside)]
    report.precision_chosen = choose_precision(embedder, request.precision, there, faces, request.images)
    return ranks.from_leader(embedder.settings)


def _sources(earlier: Source | None, checkpoint: Checkpoint) -> list[Rows]:
    """The rows to look faces up in; the checkpoint's are newer."""
    return [*([earlier.rows] if earlier else []), checkpoint.rows()]


def _look_up(
    earlier: IndexSource | None, checkpoint: Checkpoint, faces: Records, request: BuildRequest, report: BuildReport
) -> Found:
    """Find the rows that exist, and count and log them."""
    with report.phase("reusing"):
        found = look_up(_sources(earlier, checkpoint), faces, request.images)
    numbers, reusable = found.numbers[found.there], len(earlier.rows) if earlier else 0
    report.reused, report.resumed = int((numbers < reusable).sum()), int((numbers >= reusable).sum())
    if report.resumed:
        say(f"Resuming: {report.resumed:,} of {report.total:,} faces are embedded already")
    if earlier:
        _tell_reuse(earlier, found, request, report)
    return found


def _make_missing(
    found: Found,
    earlier: Source | None,
    checkpoint: Checkpoint,
    faces: Records,
    embedder: Embedder,
    request: BuildRequest,
    report: BuildReport,
    ranks: Ranks,
) -> WorkerPlan:
    """Let all ranks embed the faces that have no row, and note where their rows are."""
    from helpers.build.making import make_rows, workers_for  # torch: seconds

    workers, resumable = workers_for(request, embedder, checkpoint, ranks.local_size), checkpoint.count
    share, cache = ranks.share(ranks.from_leader(found.missing)), request.images
    if not ranks.alone:
        say(f"{ranks.size} ranks share {len(found.missing):,} faces; the progress shown is rank 0's only")
    with report.phase("embedding"):
        make_rows(faces, share, cache, embedder, workers, checkpoint, report, verify=request.validate_cache)
        for other in ranks.to_leader(report)[1:]:
            report.add_share(other)
        take_over_others(checkpoint, IndexFolder(request.out).other_ranks())
    found.add_new(checkpoint.rows(), resumable, len(earlier.rows) if earlier else 0)
    _require_rows(found, request, report)
    return workers


def _follow(request: BuildRequest, embedder: Embedder, report: BuildReport, ranks: Ranks) -> None:
    """On a rank above 0: make its share of the rows that rank 0 finds missing."""
    from helpers.build.making import make_rows, workers_for  # torch: seconds

    folder, cache = IndexFolder(request.out, ranks.rank), request.images
    _, faces = listed_faces(request, ranks)
    settings = ranks.from_leader(embedder.settings)
    embedder.use(settings.precision)
    if embedder.settings != settings:
        raise PipelineError.of(
            Category.CONFIGURATION,
            f"rank {ranks.rank} would make other rows than rank 0",
            details="; ".join(settings.differences(embedder.settings)),
            suggestion="give all ranks the same model, weights and flags",
        )
    missing = ranks.from_leader(np.empty(0, np.int64))
    drop(folder)  # rank 0 has taken over what an earlier run left under the same name
    with Checkpoint(folder, settings, request.checkpoint_frequency) as checkpoint:
        workers, share = workers_for(request, embedder, checkpoint, ranks.local_size), ranks.share(missing)
        with report.phase("embedding"):
            make_rows(faces, share, cache, embedder, workers, checkpoint, report, verify=request.validate_cache)
        ranks.to_leader(report)
        ranks.from_leader(None)  # torchrun's agent waits only minutes for others once its own are done


def _fits(earlier: IndexSource, embedder: Embedder) -> bool:
    """Whether rows of the existing index can be reused; if not, a warning says what differs."""
    ours = embedder.settings
    differs = earlier.settings.differences(ours)
    if not differs:
        return True
    precision = earlier.settings.precision
    only_that = len(differs) == 1 and precision != ours.precision
    advice = f"--precision {precision} keeps its rows" if only_that else "use another --out to keep it"
    warn(f"the existing index can't be reused: {'; '.join(differs)} ({advice})")
    return False


def _tell_reuse(earlier: IndexSource, found: Found, request: BuildRequest, report: BuildReport) -> None:
    """Log what is reused. Rows that go are normal with a new list, but a surprise if flags leave faces out."""
    if report.reused or not report.resumed:
        say(f"Reusing {report.reused:,} of {len(earlier.rows):,} rows of the existing index")
    report.dropped = found.unlisted(earlier.rows)
    before = earlier.manifest.parameters.selection
    if not report.total:
        return  # and nothing goes, for there will be no index
    if report.dropped and before == request.wanted:
        say(f"{report.dropped:,} rows of the existing index will be dropped: their pictures are no longer in the list")
    elif report.dropped:
        warn(
            f"{report.dropped:,} rows of the existing index will be dropped: this build selects {request.wanted}, "
            f"that one selected {before}; use another --out to keep both"
        )


def _require_rows(found: Found, request: BuildRequest, report: BuildReport) -> None:
    """PipelineError if there are no rows, or fewer than the ranks report."""
    if not report.successful:
        raise no_valid_images(
            f"of {report.total:,} faces {report.missing:,} have no picture in the cache, "
            f"{report.validation_failures:,} have a broken one",
            "pass --pictures a directory of JPEG, PNG or WebP files; in --table, file is relative to it"
            if request.pictures
            else "run download_images.py again with the same --cache, --kind and --image-key",
        )
    if len(found.there) != report.successful:
        raise PipelineError.of(
            Category.BUILD,
            "rows of another rank can't be used",
            details=f"the ranks made {report.successful:,} rows, but only {len(found.there):,} were found",
            suggestion="see the warnings; let all ranks share --out, then run the same command again",
        )
