"""Flags that were not given: as the index in --out was built, or as the cache was downloaded."""

import os
from collections.abc import Callable, Set
from dataclasses import replace
from pathlib import Path

from msgspec.structs import replace as replaced

from helpers.artifacts import IndexFolder
from helpers.atomic_io import SWAP_SUFFIX
from helpers.build.request import BuildRequest
from helpers.cards.bulk_list import server_of
from helpers.cards.faces import Selection
from helpers.cards.own_pictures import KIND
from helpers.download.report import read_last
from helpers.embed.model_source import LOCAL_DIR, ModelSource
from helpers.errors import Category, PipelineError
from helpers.index.store import StoredIndex, beside
from helpers.session import Http
from helpers.talk import say, warn


def _faces(request: BuildRequest) -> str:
    if request.pictures:
        table = f" --table {_near(request.table)}" if request.table else ""
        return f"--pictures {_near(request.pictures)}{table}"
    return str(replaced(request.selection, limit=None))


def _model(request: BuildRequest) -> str:
    if request.model.startswith(LOCAL_DIR):
        return f"--model {LOCAL_DIR}{Path(request.model.removeprefix(LOCAL_DIR)).absolute()}"
    names_weights = ModelSource(request.model, None).names_weights
    return f"--model {request.model}" + ("" if names_weights else f" --pretrained {request.pretrained}")


def _whitening(request: BuildRequest) -> str:
    if not request.whiten:
        return "--no-whiten"
    dimensions = f" --whiten-dim {request.whiten_dim}" if request.whiten_dim else ""
    return f"--whiten --whiten-ridge {request.whiten_ridge:g}{dimensions}"


_FACES = ("kind", "image_key", "lang", "set", "layout", "games", "exclude_digital", "pictures", "table")
# Flags that belong together: if one of them is given, none is remembered. And how they are written
_UNITS: dict[tuple[str, ...], Callable[[BuildRequest], str]] = {
    _FACES: _faces,
    ("cache",): lambda request: f"--cache {_near(request.cache)}",
    ("model", "pretrained"): _model,
    ("size",): lambda request: f"--size {request.size}",
    ("fit",): lambda request: f"--fit {request.fit}",
    ("hnsw_m", "hnsw_ef_construction"): lambda request: (
        f"--hnsw-m {request.hnsw_m} --hnsw-ef-construction {request.hnsw_ef_construction}"
    ),
    ("whiten", "whiten_dim", "whiten_ridge"): _whitening,
}


def remembered(request: BuildRequest, given: Set[str], *, downloads: bool = False) -> BuildRequest:
    """`request`, with what is not `given` (names of flags) as the index in --out has it; a line says what that is.

    Without such an index, the faces are those that the cache was downloaded with, unless this run `downloads` itself.
    An index never passes --limit on: a trial must not limit what comes after it. PipelineError (Configuration Error) if
    the cache of the index is gone and would be downloaded anew.
    """
    stored = _stored(request.out)
    if stored:
        request = _as_before(request, _request_of(stored, request, given), given)
    has_cache = stored and stored.manifest.parameters.kind != KIND and stored.pictures  # older indexes don't say
    if downloads and has_cache and "cache" not in given and not request.pictures and not request.cache.is_dir():
        raise PipelineError.of(
            Category.CONFIGURATION,
            "the image cache of this index does not exist",
            details=f"{request.out} was built from {request.cache}",
            suggestion="restore or mount it, or name the directory to download to: --cache DIR",
        )
    if not downloads and not request.pictures:
        before = stored.manifest.parameters.selection if stored else None
        request = replace(request, selection=as_downloaded(request.selection, request.cache, given, before))
    named = "api_url" in given or request.http.api_url != Http().api_url  # by the environment
    if not named and (api_url := server_of(request.cache, request.selection.kind)) not in (None, Http().api_url):
        say(f"As the card list in {_near(request.cache)}: --api-url {api_url}")
        request = replace(request, http=replace(request.http, api_url=api_url))
    return request


def as_downloaded(selection: Selection, cache: Path, given: Set[str], before: Selection | None = None) -> Selection:
    """`selection`, but what is not `given` as `cache` was downloaded; a line says what that is.

    `before` is what the index in --out selects: it comes first, and a warning says so if the download had something
    else. --limit is only taken over where there is no index, or one with the same.
    """
    last, mine = read_last(cache), selection
    if last is None:
        return selection
    listed = before if before and before.kind != KIND else None
    theirs = replaced(last.selection, limit=mine.limit)
    if given.isdisjoint(_FACES) and not listed:
        mine = theirs
    if mine != theirs and given.isdisjoint(_FACES):
        warn(f"{cache} was last downloaded with {last.selection}; add these flags to build that")
    if mine == theirs and "limit" not in given and (not listed or listed.limit == last.limit):
        mine = last.selection
    if mine != selection:
        say(f"As {_near(cache)} was downloaded: {mine}")
    return mine


def _stored(out: Path) -> StoredIndex | None:
    """The index in `out`, or the one that a kill kept from taking its place; None if there is none."""
    manifest = IndexFolder(out).manifest
    for folder in (out, out / f"{manifest.name}{SWAP_SUFFIX}"):
        if os.path.exists(IndexFolder(folder).manifest):  # noqa: PTH110  # pathlib's raises if a name is too long
            try:
                return StoredIndex(IndexFolder(folder))
            except PipelineError as error:
                warn(f"the flags of the index in {out} are not known: {error}: {error.problems[0].details}")
    return None


def _request_of(stored: StoredIndex, request: BuildRequest, given: Set[str]) -> BuildRequest:
    """The request for another build like that of `stored`; what it does not say is taken from `request`."""
    manifest, had = stored.manifest, stored.manifest.parameters
    pictures = beside(request.out, had.cache) or request.cache
    if had.kind == KIND and "cache" not in given:
        request = replace(request, pictures=pictures, table=beside(request.out, had.table))
    elif had.kind != KIND and not request.pictures:
        selection = replaced(had.selection, limit=request.selection.limit)
        request = replace(request, cache=pictures, selection=selection)
    if had.whiten is not None and had.whiten_ridge is not None:
        request = replace(request, whiten=had.whiten, whiten_dim=had.whiten_dim, whiten_ridge=had.whiten_ridge)
    return replace(
        request,
        model=manifest.model.name,
        pretrained=manifest.model.pretrained or request.pretrained,
        size=had.target_size,
        fit=had.fit,
        hnsw_m=had.hnsw_m,
        hnsw_ef_construction=had.hnsw_ef_construction,
    )


def _as_before(request: BuildRequest, before: BuildRequest, given: Set[str]) -> BuildRequest:
    taken, unlike = [], []
    for flags, written in _UNITS.items():
        mine, theirs = written(request), written(before)
        if mine == theirs:
            continue
        if given.isdisjoint(flags):
            taken.append(theirs)
            fields = ("selection", "pictures", "table") if flags is _FACES else flags
            request = replace(request, **{name: getattr(before, name) for name in fields})
        else:
            unlike.append(f"{mine} (there: {theirs})")
    if taken:
        say(f"As the index in {request.out}: {' '.join(taken)}")
    if unlike:
        say(f"Unlike the index in {request.out}: {', '.join(unlike)}")
    return request


def _near(path: Path) -> Path:
    """`path` as seen from the working directory, if it is in it."""
    there, here = Path(os.path.normpath(path.absolute())), Path.cwd()
    return there.relative_to(here) if there.is_relative_to(here) else there
