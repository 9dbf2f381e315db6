"""Stage 2, image cache -> vectors, metadata, index, manifest.

Rows that need not be made again are taken over, from a checkpoint or from the index that is there; the others are made
by helpers/embed_stage.py. Rows come in the order of the card list; a face whose picture is missing or broken has none.
Torch and faiss are imported only once there is work for them: they take seconds. A build that was stopped or killed
goes on from its checkpoint, which stays until all files have their names. Of several ranks (torchrun) each embeds a
share; rank 0 decides what is to do, and assembles.
"""

from __future__ import annotations

import dataclasses
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from helpers.about import VERSION
from helpers.artifacts import IndexFolder
from helpers.atomic_io import Held, atomic_set, disk_errors_named, sole_holder, sweep, utc_timestamp, writable_folder
from helpers.build.checkpoint import Checkpoint, last_settings
from helpers.build.ranks import Ranks
from helpers.build.report import BuildReport
from helpers.build.reuse import EarlierIndex, earlier_index, forget_changed, if_it_fits, take_over
from helpers.cards.bulk_list import ensure_card_list
from helpers.cards.card_list import told_faces
from helpers.cards.image_cache import ImageCache
from helpers.cards.pictures import Settings, sha256_of
from helpers.cli_validation import (
    DEFAULT_CONNECT_TIMEOUT_SECONDS,
    DEFAULT_MAX_RETRIES,
    DEFAULT_READ_TIMEOUT_SECONDS,
    BuildArgs,
)
from helpers.embed.model_source import find_model
from helpers.embed.preprocess import Preparation
from helpers.embed.vectors import check_unit_rows
from helpers.errors import Category, PipelineError
from helpers.index.store import (
    MANIFEST_VERSION,
    Embedding,
    Environment,
    Manifest,
    Model,
    Parameters,
    Records,
    StoredIndex,
    wanted_by,
)
from helpers.machine_limits import usable_cores
from helpers.session import DownloadSession
from helpers.talk import say, warn

if TYPE_CHECKING:
    from helpers.embed.embedder import Embedder
    from helpers.embed.stage import Crew, Source
    from helpers.index.faiss_index import CardIndex

EXIT_NO_IMAGES = 2
EXIT_NO_CACHE = 3
ALONE = Ranks()


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
def sole_build(args: BuildArgs, ranks: Ranks = ALONE) -> Iterator[None]:
    """Be the only build that writes into --out; PipelineError where another one does, or it can't be written to.

    Rank 0 sees to that for all; PipelineError (Configuration Error) where another one has another --out.
    """
    if not ranks.leads:
        ranks.from_leader(None)
        _require_shared(IndexFolder(args.out).build_lock, "--out")
        yield
        return
    was_there = args.out.exists()
    folder = IndexFolder(writable_folder(args.out, "--out"))
    try:
        with sole_holder(folder.build_lock):
            sweep(folder.root, "checkpoint")
            ranks.from_leader(True)
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


def _require_shared(path: Path, flag: str) -> None:
    if not path.exists():
        raise PipelineError.of(
            Category.CONFIGURATION,
            f"the ranks do not share {flag}",
            details=f"rank 0 has {path}, this one does not see it",
            suggestion=f"let {flag} name the same directory, on a disk that all machines share",
        )


def load_embedder(args: BuildArgs, report: BuildReport, ranks: Ranks = ALONE) -> Embedder:
    """Load the model, before any work is done; PipelineError where it can't be had."""
    source = find_model(args.model, args.pretrained, offline=args.offline)
    say(f"Loading {source.display_name}")
    with report.phase("loading the model"):
        from helpers.embed.embedder import Embedder  # torch: seconds, and find_model must have spoken first

        return Embedder.load(source, Preparation(args.size, args.fit), args.device, ranks.local_rank)


def build(args: BuildArgs, embedder: Embedder, report: BuildReport, ranks: Ranks = ALONE) -> str:
    """Build the index of the cached pictures of the list's faces; return the summary, "" where rank 0 has it.

    Raises PipelineError: no valid picture (exit 2), everything else known (exit 1). The files of an earlier build are
    only touched when the new ones are whole and have been checked.
    """
    from helpers.embed.stage import Source, crew, embed

    folder = IndexFolder(args.out, ranks.rank)
    cache = ImageCache(args.cache)
    card_list = _card_list(args, ranks)
    source = Source(_faces(card_list, args), cache, args.validate_cache)
    report.total = len(source.faces)
    earlier = earlier_index(folder) if ranks.leads and not args.rebuild else None
    embedder, chosen = _settled(args, embedder, source, earlier, ranks)
    team = crew(embedder, args.batch, args.loaders, ranks.local_size)
    # The others begin a checkpoint only when rank 0 has taken over what earlier runs left under the same names.
    to_do: NDArray[np.int64] = np.empty(0, np.int64) if ranks.leads else ranks.from_leader(None)
    with Checkpoint(
        folder,
        embedder.settings,
        source.faces,
        args.checkpoint_frequency,
        resume=args.resume and ranks.leads,
        rebuild=args.rebuild,
        verify=args.validate_cache,
        wanted=_wanted(args),
    ) as checkpoint:
        if ranks.leads:
            with report.phase("reusing"):
                _reuse(args, source, checkpoint, earlier, embedder, report)
            to_do = ranks.from_leader(np.flatnonzero(~checkpoint.good))
        team = _fitting(team, checkpoint, args)
        if not ranks.alone:
            say(f"Ranks: {ranks.size}, which share {len(to_do):,} faces; the progress shown is that of one share")
        with report.phase("embedding"):
            embed(source, ranks.share(to_do), embedder, team, checkpoint, report)
            checkpoint.finish()
            shares = ranks.to_leader(report)
        if not ranks.leads:
            ranks.from_leader(None)  # an agent of torchrun waits only some minutes for others once its own are done
            return ""
        rows, pictures = _assembled(checkpoint, report, shares)
        report.images = {"reusing": report.reused, "embedding": report.embedded, "indexing": len(rows)}
        _require_rows(report)
        check_unit_rows(rows, embedder.source.display_name)
        index, recalls = _index(rows, args, report, ranks)
        made = _Made(card_list, embedder, index, recalls, team, ranks, chosen)
        with atomic_set(folder.root, marker=folder.manifest.name) as staging:
            staged = IndexFolder(staging)
            with report.phase("writing"):
                _write(staged, rows, pictures, source.faces, checkpoint, index)
                manifest = _manifest(args, report, made, staged)
                staged.manifest.write_bytes(manifest.to_json())
            with report.phase("checking"):
                _check(staged, cache, embedder)
            timed = replace(manifest, seconds=report.seconds)  # now all of them
            staged.manifest.write_bytes(timed.to_json())
        checkpoint.delete()
    _let_go(ranks)
    if folder.browser_vectors.exists():
        warn(f"the browser files in {args.out} are of an earlier build: run export_for_browser.py to renew them")
    return _summary(args, report, made, checkpoint)


def _let_go(ranks: Ranks) -> None:
    """The others may end; one that died meanwhile does not matter any more."""
    try:
        ranks.from_leader(True)
    except PipelineError as error:
        warn(f"the index is whole, but {error}")


def _card_list(args: BuildArgs, ranks: Ranks) -> Path:
    """The kept list, whatever its age: the faces must be those that were downloaded."""
    if not ranks.leads:
        path = args.cache / ranks.from_leader("")
        _require_shared(path, "--cache")
        return path
    session = DownloadSession(
        api_url=args.api_url,
        user_agent=args.user_agent,
        workers=1,
        connect_timeout=DEFAULT_CONNECT_TIMEOUT_SECONDS,
        read_timeout=DEFAULT_READ_TIMEOUT_SECONDS,
        max_retries=DEFAULT_MAX_RETRIES,
    )
    path = ensure_card_list(
        args.cache, args.kind, args.api_url, None if args.offline else session, refresh=args.refresh, keep_for=None
    )
    ranks.from_leader(path.name)
    return path


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


# ------------------------------------------------------------------------------------------------- what is to embed


def _settled(
    args: BuildArgs, embedder: Embedder, source: Source, earlier: EarlierIndex | None, ranks: Ranks
) -> tuple[Embedder, str]:
    """The embedder in the precision to use, which rank 0 chooses, and why that one.

    PipelineError (Configuration Error) where another rank would make other rows than rank 0.
    """
    from helpers.embed.precision import SAMPLE, settle_precision
    from helpers.embed.stage import sample

    chosen = ""
    if ranks.leads:
        kept = last_settings(IndexFolder(args.out), rebuild=args.rebuild) if args.resume else None
        embedder, chosen = settle_precision(
            embedder,
            args.precision,
            _precisions_there(embedder, [kept, earlier.settings if earlier else None]),
            lambda: sample(source, range(len(source.faces)), embedder, SAMPLE),
        )
        say(f"Precision: {embedder.precision} ({chosen})")
    theirs: Settings = ranks.from_leader(embedder.settings)
    embedder = embedder.at(theirs.precision)
    if embedder.settings != theirs:
        raise PipelineError.of(
            Category.CONFIGURATION,
            f"rank {ranks.rank} would make other rows than rank 0",
            details=f"{embedder.settings} is not {theirs}",
            suggestion="give all ranks the same model, weights and flags",
        )
    return embedder, chosen


def _precisions_there(embedder: Embedder, candidates: list[Settings | None]) -> list[str]:
    """The precisions of those of the rows that are there that fit but for it."""
    ours = embedder.settings
    there = filter(None, candidates)
    return [rows.precision for rows in there if not rows.differences(replace(ours, precision=rows.precision))]


def _fitting(team: Crew, checkpoint: Checkpoint, args: BuildArgs) -> Crew:
    """`team`, with no larger batches than a checkpoint may be apart."""
    if team.batch <= checkpoint.largest_batch:
        return team
    if args.batch:
        warn(f"--checkpoint-frequency {args.checkpoint_frequency}: {checkpoint.largest_batch} pictures at a time")
    return dataclasses.replace(team, batch=checkpoint.largest_batch)


def _reuse(
    args: BuildArgs,
    source: Source,
    checkpoint: Checkpoint,
    earlier: EarlierIndex | None,
    embedder: Embedder,
    report: BuildReport,
) -> None:
    """Keep what need not be embedded again."""
    faces, cache, verify = source.faces, source.cache, args.validate_cache
    changed, gone = forget_changed(checkpoint, faces, cache, verify=verify and not checkpoint.verified)
    checkpoint.verified = not gone or checkpoint.verified
    if changed:
        say(f"{changed:,} pictures of the checkpoint have changed: embedded again")
    if gone:
        warn(f"{gone:,} pictures of the checkpoint are not in {args.cache}: their rows are kept for another build")
    report.resumed = int(checkpoint.good.sum())
    earlier = if_it_fits(earlier, embedder.settings)
    if earlier:
        unverified = verify and not earlier.verified
        found = take_over(earlier.rows, earlier.pictures, checkpoint, faces, cache, verify=unverified)
        report.reused, report.dropped = found.taken, found.unlisted
        say(f"Taken over from the index that is there: {found.taken:,} rows of {len(earlier.rows):,}")
        if found.unlisted:
            _tell_dropped(found.unlisted, earlier.wanted, _wanted(args))
    for aside in checkpoint.asides() if args.resume else ():
        unverified = verify and not aside.verified
        found = take_over(aside.rows, aside.pictures, checkpoint, faces, cache, verify=unverified)
        report.reused += found.taken
        say(f"Taken over from {aside.files[0].name}: {found.taken:,} rows")
        if not found.waiting and (not found.unlisted or aside.wanted == _wanted(args)):
            checkpoint.drop_aside(aside)


def _wanted(args: BuildArgs) -> str:
    return wanted_by(args.kind, args.image_key, args.limit, args.filters)


def _tell_dropped(count: int, before: str, now: str) -> None:
    """Rows that go are as they should be with a new list, but may surprise where flags leave faces out."""
    gone = f"{count:,} rows of the index that is there go: their pictures are not in this list"
    if before == now:
        say(gone)
    else:
        warn(f"{gone}, which is {now}, and was {before}; another --out keeps them")


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


def _assembled(
    checkpoint: Checkpoint, report: BuildReport, shares: list[BuildReport]
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """What all ranks have made, rows and pictures; PipelineError where some of it can't be used."""
    for share in shares[1:]:
        report.add_share(share)
    if len(shares) > 1:
        checkpoint.take_over_others()
    rows, pictures = checkpoint.complete()
    if len(rows) != report.successful:
        raise PipelineError.of(
            Category.BUILD,
            "rows of another rank can't be used",
            details=f"the ranks made {report.successful:,} rows, of which {len(rows):,} fit together",
            suggestion="see the warnings; let all ranks have the same weights, then run the same command again",
        )
    return rows, pictures


# ---------------------------------------------------------------------------------------------------- index and writing


def _index(
    vectors: NDArray[np.float32], args: BuildArgs, report: BuildReport, ranks: Ranks
) -> tuple[CardIndex, dict[int, float]]:
    """The index, with the efSearch it needs, and the recall@10 that was measured to choose that."""
    from helpers.index.faiss_index import CardIndex, use_threads  # faiss: takes a moment, see above

    if not ranks.alone:
        use_threads(usable_cores())
    say(f"Indexing {len(vectors):,} rows of width {vectors.shape[1]}")
    with report.phase("indexing"):
        index = CardIndex.build(vectors, args.hnsw_m, args.hnsw_ef_construction)
    with report.phase("choosing efSearch"):
        return index, index.tune_ef_search(vectors)


def _write(
    staged: IndexFolder,
    rows: NDArray[np.float32],
    pictures: NDArray[Any],
    faces: Records,
    checkpoint: Checkpoint,
    index: CardIndex,
) -> None:
    """Write all files but the manifest, which is made of the others' SHA-256."""
    np.save(staged.embeddings, rows)
    np.save(staged.pictures, pictures)
    with open(staged.metadata, "wb") as file:
        file.writelines(faces.line(int(place)) for place in np.flatnonzero(checkpoint.good))
    index.save(staged.index)


def _check(staged: IndexFolder, cache: ImageCache, embedder: Embedder) -> None:
    from helpers.index.self_check import check_index  # torch and faiss, see above

    check_index(StoredIndex(staged), cache, embedder)


@dataclass(frozen=True, slots=True)
class _Made:
    """What an index was made of and with."""

    card_list: Path
    embedder: Embedder
    index: CardIndex
    recalls: dict[int, float]  # recall@10 by efSearch
    team: Crew
    ranks: Ranks
    chosen: str  # why the precision is what it is


def _manifest(args: BuildArgs, report: BuildReport, made: _Made, staged: IndexFolder) -> Manifest:
    from helpers.embed.embedder import TORCH_VERSION
    from helpers.index.faiss_index import FAISS_VERSION

    embedder, index, team = made.embedder, made.index, made.team
    return Manifest(
        version=MANIFEST_VERSION,
        timestamp=utc_timestamp(),
        parameters=Parameters(
            kind=args.kind,
            batch_size=team.batch,
            target_size=args.size,
            hnsw_m=args.hnsw_m,
            hnsw_ef_construction=args.hnsw_ef_construction,
            hnsw_ef_search=index.ef_search,
            image_key=args.image_key,
            fit=args.fit,
            limit=args.limit,
            validate_cache=args.validate_cache,
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
        model=Model(
            embedder.source.model,
            embedder.source.pretrained,
            embedder.fingerprint,
            index.width,
            embedder.precision,
            embedder.preprocessing,
            embedder.architecture,
        ),
        card_list=made.card_list.name,
        ef_search_recall_at_10=made.recalls,
        seconds=report.seconds,
        images_per_second=report.images_per_second.get("embedding", 0.0),
        sha256={
            path.name: sha256_of(path) for path in (staged.embeddings, staged.pictures, staged.metadata, staged.index)
        },
        embedding=Embedding(
            ranks=made.ranks.size,
            loaders=team.loaders,
            encoders=embedder.encoders_for(team.cores),
            precision_chosen=made.chosen,
            reused=report.reused,
            dropped=report.dropped,
            resumed=report.resumed,
            embedded=report.embedded,
            waiting_for_loaders=round(report.waiting_for_loaders, 4),
            images_per_second=report.images_per_second,
        ),
    )


def _summary(args: BuildArgs, report: BuildReport, made: _Made, checkpoint: Checkpoint) -> str:
    """What the user reads at the end."""
    cost = 100 * checkpoint.seconds / sum(report.seconds.values())
    ef = f"efSearch {made.index.ef_search} (measured)"
    return "\n".join(
        [
            *report.counts_told(),
            f"Precision: {made.embedder.precision} ({made.chosen})",
            f"HNSW: M {args.hnsw_m}, efConstruction {args.hnsw_ef_construction}, {ef}",
            f"Checkpoints: {checkpoint.saves}, which held up the run for {checkpoint.seconds:.2f} s ({cost:.2f} %)",
            report.phases_told(),
            f"Written to {args.out}",
        ]
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
