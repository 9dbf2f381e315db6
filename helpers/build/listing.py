"""The faces of a build, and where they are listed: a card list, or a folder of one's own pictures."""

import hashlib
import os
from pathlib import Path

from helpers.build.ranks import Ranks, require_shared
from helpers.build.request import BuildRequest
from helpers.cards.bulk_list import kept_list
from helpers.cards.card_list import logged_faces
from helpers.cards.faces import Records, on_disk
from helpers.cards.own_pictures import own_faces
from helpers.cards.pictures import url_sha1
from helpers.errors import Category, ExitCode, PipelineError


def require_wanted(request: BuildRequest) -> None:
    """PipelineError (exit 2) if --limit is 0."""
    if request.selection.limit == 0:
        raise no_valid_images("received --limit 0: no faces wanted", "leave --limit out, or raise it")


def _require_own(pictures: Path, table: Path | None) -> None:
    if not os.path.isdir(pictures):  # noqa: PTH112  # see ImageCache.require
        is_file = os.path.isfile(pictures)  # noqa: PTH113
        raise PipelineError.of(
            Category.CONFIGURATION,
            "the directory of pictures does not exist",
            details=f"{pictures} is a file" if is_file else f"there is no directory {pictures}",
            suggestion="pass --pictures the directory that holds them",
            exit_code=ExitCode.NO_CACHE,
        )
    if next(own_faces(pictures, table), None) is None:
        raise no_valid_images(
            f"{table or pictures} names no picture", "pass --pictures a directory of JPEG, PNG or WebP files"
        )


def require_pictures(request: BuildRequest) -> None:
    """PipelineError if there is no directory of pictures (exit 3) or no picture in the cache (exit 2)."""
    if request.pictures:
        _require_own(request.pictures, request.table)
        return
    request.images.require(ExitCode.NO_CACHE)
    if next(request.images.pictures(), None) is None:
        advice = "run download_images.py first, with the same --cache"
        raise no_valid_images(f"{request.cache} holds no pictures", advice)


def listed_faces(request: BuildRequest, ranks: Ranks) -> tuple[str, Records]:
    """The faces, and the name of what lists them. Rank 0 downloads the card list, where there is none."""
    if request.pictures:
        listed_in = request.table or request.pictures
        faces = on_disk(own_faces(request.pictures, request.table, request.selection.limit), listed_in, request.out)
        _require_same(faces, ranks)
        return listed_in.name, faces
    if ranks.leads:
        card_list = kept_list(
            request.cache, request.selection.kind, request.http, refresh=request.refresh, offline=request.offline
        )
        ranks.from_leader(card_list.name)
    else:
        card_list = request.cache / ranks.from_leader("")
        require_shared(card_list, "--cache")
    return card_list.name, on_disk(logged_faces(card_list, request.selection), card_list, request.out)


def _require_same(faces: Records, ranks: Ranks) -> None:
    """PipelineError if this rank found other pictures than rank 0: faces are told to ranks by their numbers."""
    if ranks.alone:
        return
    digest = hashlib.sha1(b"".join(url_sha1(face.image_url) for face in faces), usedforsecurity=False).hexdigest()
    if ranks.from_leader(digest) != digest:
        raise PipelineError.of(
            Category.CONFIGURATION,
            f"rank {ranks.rank} sees other pictures than rank 0",
            details=f"it found {len(faces):,} in --pictures",
            suggestion="let all ranks share the disk of --pictures and --table, and don't change it meanwhile",
        )


def no_valid_images(details: str, suggestion: str) -> PipelineError:
    """The error of a build without a row."""
    return PipelineError.of(
        Category.BUILD, "No valid images to embed", details=details, suggestion=suggestion, exit_code=ExitCode.NO_IMAGES
    )
