"""Make the rows that no source has: choose the precision and the workers, embed into the checkpoint."""

import dataclasses
from collections.abc import Sequence
from contextlib import closing

from msgspec.structs import replace

from helpers.build.report import BuildReport
from helpers.build.request import BuildRequest
from helpers.build.rows import Checkpoint
from helpers.cards.faces import Records
from helpers.cards.image_cache import ImageCache
from helpers.embed.embedder import Embedder
from helpers.embed.precision import SAMPLE, settle_precision
from helpers.embed.settings import Settings
from helpers.embed.stage import LeftOut, WorkerPlan, embed, plan_workers, sample
from helpers.talk import Progress, printable, say, warn


def choose_precision(
    embedder: Embedder, wanted: str, there: Sequence[Settings], faces: Records, cache: ImageCache
) -> str:
    """Set the embedder's precision; return why it is that one.

    For "auto" existing rows decide (`there`), if they could be reused but for their precision; otherwise a few of the
    faces' own pictures do.
    """
    ours = embedder.settings
    usable = [rows.precision for rows in there if not rows.differences(replace(ours, precision=rows.precision))]
    chosen = settle_precision(embedder, wanted, usable, lambda: sample(faces, cache, embedder, SAMPLE))
    say(f"Precision: {embedder.precision} ({chosen})")
    return chosen


def workers_for(request: BuildRequest, embedder: Embedder, checkpoint: Checkpoint, processes: int) -> WorkerPlan:
    """Batch size and threads; batches are no larger than the checkpoint allows."""
    plan = plan_workers(embedder, request.batch, request.loaders, processes=processes)
    if plan.batch <= checkpoint.max_batch:
        return plan
    if request.batch:
        half = f"half of --checkpoint-frequency {request.checkpoint_frequency}"
        warn(f"--batch {request.batch} is more than {half}: using batches of {checkpoint.max_batch}")
    return dataclasses.replace(plan, batch=checkpoint.max_batch)


def make_rows(
    faces: Records,
    which: Sequence[int],
    cache: ImageCache,
    embedder: Embedder,
    workers: WorkerPlan,
    checkpoint: Checkpoint,
    report: BuildReport,
    *,
    verify: bool,
) -> None:
    """Embed the faces numbered `which` into `checkpoint`; those left out are logged and counted."""
    checkpoint.expected = checkpoint.count + len(which)
    before = report.successful
    wanted = (faces[number] for number in which)
    with (
        Progress("Embedding", before + len(which), "images", report.progress_note, before=before) as progress,
        closing(embed(wanted, cache, embedder, workers, verify=verify)) as made,
    ):
        for item in made:
            if isinstance(item, LeftOut):
                _tell(item, cache, report)
                progress.advance()
                continue
            checkpoint.append(item.rows)
            report.embedded += len(item.rows)
            report.model_busy, report.model_there = item.busy_seconds, item.seconds
            progress.advance(len(item.rows))
        checkpoint.finish()
    report.checkpoints, report.checkpoint_seconds = checkpoint.saves, checkpoint.seconds


def _tell(left_out: LeftOut, cache: ImageCache, report: BuildReport) -> None:
    if left_out.reason is None:
        report.missing += 1
    else:
        report.validation_failures += 1
    if left_out.reason or cache.is_own(left_out.face.image_url):  # of a card list thousands may be missing
        path = cache.path_for(left_out.face.image_url).relative_to(cache.root)
        warn(f"left out {path} ({printable(left_out.face.name)}): {left_out.reason or 'no such file'}")
