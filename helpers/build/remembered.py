"""Flags that were not given: as the index in --out was built, or as the cache was downloaded."""

from collections.abc import Callable, Set
from dataclasses import replace
from pathlib import Path

from msgspec.structs import replace as replaced

from helpers.artifacts import IndexFolder
from helpers.build.request import BuildRequest
from helpers.cards.bulk_list import server_of
from helpers.cards.faces import Selection
from helpers.cards.own_pictures import KIND
from helpers.download.report import read_last
from helpers.embed.model_source import HUB, LOCAL_DIR, SHIPPED
from helpers.errors import PipelineError
from helpers.index.store import StoredIndex
from helpers.session import Http
from helpers.talk import say, warn


def _faces(request: BuildRequest) -> str:
    if request.pictures:
        return f"--pictures {request.pictures}" + (f" --table {request.table}" if request.table else "")
    return str(replaced(request.selection, limit=None))


def _model(request: BuildRequest) -> str:
    if request.model.startswith(LOCAL_DIR):
        return f"--model {LOCAL_DIR}{Path(request.model.removeprefix(LOCAL_DIR)).absolute()}"
    holds_weights = request.model == SHIPPED or request.model.startswith(HUB)
    return f"--model {request.model}" + ("" if holds_weights else f" --pretrained {request.pretrained}")


_FACES = ("kind", "image_key", "lang", "set", "layout", "games", "exclude_digital", "pictures", "table")
# Flags that belong together: if one of them is given, none is remembered. And how they are written
_UNITS: dict[tuple[str, ...], Callable[[BuildRequest], str]] = {
    _FACES: _faces,
    ("cache",): lambda request: f"--cache {request.cache}",
    ("model", "pretrained"): _model,
    ("size",): lambda request: f"--size {request.size}",
    ("fit",): lambda request: f"--fit {request.fit}",
    ("hnsw_m", "hnsw_ef_construction"): lambda request: (
        f"--hnsw-m {request.hnsw_m} --hnsw-ef-construction {request.hnsw_ef_construction}"
    ),
}


def remembered(request: BuildRequest, given: Set[str], *, downloads: bool = False) -> BuildRequest:
    """`request`, with what is not `given` (names of flags) as the index in --out has it; a line says what that is.

    Without such an index, the faces are those that the cache was downloaded with, unless this run `downloads` itself.
    So is --limit, which an index never passes on: a trial must not limit what comes after it.
    """
    stored = _stored(request.out)
    if stored:
        request = _as_before(request, _request_of(stored, request, given), given)
    if not downloads and not request.pictures:
        selection = as_downloaded(request.selection, request.cache, given, faces_known=stored is not None)
        request = replace(request, selection=selection)
    named = "api_url" in given or request.http.api_url != Http().api_url  # by the environment
    if not named and (api_url := server_of(request.cache, request.selection.kind)):
        request = replace(request, http=replace(request.http, api_url=api_url))
    return request


def as_downloaded(selection: Selection, cache: Path, given: Set[str], *, faces_known: bool = False) -> Selection:
    """`selection`, but what is not `given` as `cache` was downloaded; a line says what that is.

    With `faces_known`, that is only --limit, and a warning says so if the cache was downloaded with something else.
    """
    last, mine = read_last(cache), selection
    if last is None:
        return selection
    theirs = replaced(last.selection, limit=mine.limit)
    if given.isdisjoint(_FACES) and not faces_known:
        mine = theirs
    if mine != theirs and given.isdisjoint(_FACES):
        warn(f"{cache} was last downloaded with {last.selection}; add these flags to build that")
    if mine == theirs and "limit" not in given:
        mine = last.selection
    if mine != selection:
        say(f"As {cache} was downloaded: {mine}")
    return mine


def _stored(out: Path) -> StoredIndex | None:
    try:
        return StoredIndex(IndexFolder(out))
    except PipelineError:  # there is none; the build says what is wrong with a damaged one
        return None


def _request_of(stored: StoredIndex, request: BuildRequest, given: Set[str]) -> BuildRequest:
    """The request for another build like that of `stored`; what it does not say is taken from `request`."""
    had, manifest = stored.manifest.parameters, stored.manifest
    selection = replaced(had.selection, limit=request.selection.limit)
    folder = stored.pictures or request.cache
    if had.kind == KIND and "cache" not in given:
        request = replace(request, pictures=folder, table=request.out / had.table if had.table else None)
    elif had.kind != KIND and not request.pictures:
        request = replace(request, cache=folder if folder.is_dir() else request.cache, selection=selection)
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
            unlike.append(f"{mine} (there: {theirs or 'none'})")
    if taken:
        say(f"As the index in {request.out}: {' '.join(filter(None, taken))}")
    if unlike:
        say(f"Unlike the index in {request.out}: {', '.join(unlike)}")
    return request
