"""What is new in an index, compared with the one that it replaces."""

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from helpers.about import VERSION
from helpers.build.report import BuildReport
from helpers.build.request import BuildRequest
from helpers.build.rows import Found, IndexSource
from helpers.cards.faces import CardFace, Records
from helpers.errors import PipelineError
from helpers.index.manifest import Model, Recognition

MAX_SETS = 8  # named in the summary


@dataclass(frozen=True, slots=True)
class Changes:
    """Faces by set: new ones, ones whose picture changed, and ones that are gone."""

    new: Counter[str]
    changed: Counter[str]
    gone: Counter[str]

    def __str__(self) -> str:
        """For example: 30 new, 1 changed, 0 gone (dwa: +30; lea: ~1)."""
        kinds = {"+": self.new, "~": self.changed, "-": self.gone}
        text = f"{self.new.total():,} new, {self.changed.total():,} changed, {self.gone.total():,} gone"
        by_set = (self.new + self.changed + self.gone).most_common()
        named = [
            f"{name or 'no set'}: "
            + " ".join(f"{sign}{counts[name]}" for sign, counts in kinds.items() if counts[name])
            for name, _ in by_set[:MAX_SETS]
        ]
        if len(by_set) > MAX_SETS:
            named.append(f"{len(by_set) - MAX_SETS:,} more sets")
        return f"{text} ({'; '.join(named)})" if named else text


def compare(before: IndexSource, faces: Records, found: Found, *, reused: bool) -> Changes:
    """Compare those of `faces` whose rows were `found` with the index `before`.

    If its rows can be `reused`, a face whose row is another one now has a changed picture, even under the same URL.
    """
    there = found.there
    remade = found.numbers[there] >= len(before.rows) if reused else np.zeros(len(there), np.bool_)
    old_ids, old_urls = _hashes(before.records)
    ids, urls = _hashes(faces[row] for row in there.tolist())
    order = np.argsort(old_ids)
    match = order[np.minimum(np.searchsorted(old_ids[order], ids), len(order) - 1)]
    known = old_ids[match] == ids
    changed = known & ((old_urls[match] != urls) | remade)
    gone = np.ones(len(old_ids), np.bool_)
    gone[match[known]] = False
    return Changes(
        Counter(faces[row].set for row in there[~known].tolist()),
        Counter(faces[row].set for row in there[changed].tolist()),
        Counter(before.records[row].set for row in np.flatnonzero(gone).tolist()),
    )


def is_current(
    earlier: IndexSource, faces: Records, found: Found, request: BuildRequest, model: Model, report: BuildReport
) -> bool:
    """Whether the `earlier` index is whole, and has the rows, metadata and parameters that this build would give it."""
    had, there = earlier.manifest, found.there
    if not np.array_equal(found.numbers[there], np.arange(len(earlier.rows))):
        return False
    parameters = request.parameters(had.parameters.hnsw_ef_search, had.parameters.batch_size)
    recognition = Recognition.of(model, whitened=had.whitening is not None)
    ours = (parameters, report.statistics(), VERSION, model, recognition)
    theirs = (had.parameters, had.statistics, had.tool_version, had.model, had.recognition)
    if msgspec.json.encode(ours) != msgspec.json.encode(theirs):
        return False
    if had.found_by_itself is None or not np.array_equal(found.mtimes_ns[there], earlier.rows.pictures["mtime_ns"]):
        return False
    with suppress(PipelineError):
        earlier.stored.index_path()
        if had.whitening:
            earlier.stored.whitening()
            earlier.stored.index_path(whitened=True)
        return all(earlier.records.line(i) == faces.line(row) for i, row in enumerate(there.tolist()))
    return False  # a file of the index is missing or damaged


def _hashes(faces: Iterable[CardFace]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The hashes of the faces' ids and of their pictures' URLs, int64 [N] each: a tenth of the strings' memory."""
    both = np.fromiter((hash(text) for face in faces for text in (face.face_id, face.image_url)), np.int64)
    return both[0::2], both[1::2]
