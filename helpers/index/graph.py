"""Changes to the graph of an HNSW index, so that every row is found: twins are attached, lost rows linked again.

Only level 0 is changed, where each row has a list of `width` = 2 M row numbers, the unused ones -1 at its end.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.integer]

MANY = 16  # twins that can get in the way of a search
MAX_AROUND = 1024  # distinct rows to which the twins of a group lead


class Links:
    """The lists of level 0 of N rows."""

    def __init__(self, neighbors: Numbers, starts: NDArray[np.int64], width: int) -> None:
        """`neighbors` is changed in place; the list of a row begins at `starts` int64 [N]."""
        self._neighbors, self._starts, self._width = neighbors, starts, width

    def of(self, rows: NDArray[np.int64]) -> Numbers:
        """Copies of the lists of `rows`, [len(rows), width]."""
        return np.asarray(self._neighbors[self._starts[rows][:, None] + np.arange(self._width)])

    def attach_twins(self, first: NDArray[np.int64], nearest: Callable[[int, int], Numbers]) -> None:
        """Hang the twins of each group, whose lists are empty, on the first of the group, one on the other.

        That takes one place in the list of the first. The row that had it moves to the list of the next twin, which is
        seen wherever the first is: no row is lost. The list of a twin begins with the twins before and after it.

        Many twins fill the list of candidates of a search for another row that comes by, so that it goes no further.
        Their own lists then lead on: to the `nearest` (row, k) distinct rows around them.
        """
        twins = np.flatnonzero(first != np.arange(len(first)))
        heads, sizes = np.unique(first[twins], return_counts=True)
        ends = np.cumsum(sizes)
        twins = twins[np.argsort(first[twins], kind="stable")]
        room = self._width - 2
        around = {  # before any twin is attached, to be found in place of distinct rows
            head: nearest(head, min(room * size, MAX_AROUND))
            for head, size in zip(heads.tolist(), sizes.tolist(), strict=True)
            if size >= MANY
        }
        for head, group in zip(heads.tolist(), np.split(twins, ends[:-1]), strict=True):
            lists = np.full((len(group), self._width), -1, np.int32)
            lists[1:, 0], lists[:-1, 1] = group[:-1], group[1:]
            moved = self._add(head, int(group[0]))
            lists[0, 0] = moved if moved >= 0 else head
            if head in around:  # not in the last list, which has no twin after it, and would have a gap
                lists[:-1, 2:] = np.resize(around[head][around[head] >= 0], (len(group) - 1, room))
            self._neighbors[self._starts[group][:, None] + np.arange(self._width)] = lists

    def link(self, row: int, hosts: list[int]) -> None:
        """Add `row` to the list of the first of `hosts` that has a place, or in exchange to that of the very first.

        The row that makes room moves to the list of `row`.
        """
        roomy = (host for host in hosts if self._list(host)[-1] < 0)
        moved = self._add(next(roomy, hosts[0]), row)
        if moved >= 0:
            self._add(row, moved)

    def _list(self, row: int) -> Numbers:
        start = self._starts[row]
        return self._neighbors[start : start + self._width]

    def _add(self, row: int, other: int) -> int:
        """Add `other` to the list of `row`; return the row that had to make room, or -1."""
        places = self._list(row)
        free = np.flatnonzero(places < 0)
        place = int(free[0]) if free.size else -1
        moved = int(places[place])
        places[place] = other
        return moved

    def reached_from(self, row: int) -> NDArray[np.bool_]:
        """Which rows a search that starts at `row` and never ends would see, bool [N]."""
        seen = np.zeros(len(self._starts), bool)
        frontier = np.array([row])
        while frontier.size:
            seen[frontier] = True
            others = np.unique(self.of(frontier))
            frontier = others[others >= 0]
            frontier = frontier[~seen[frontier]]
        return seen
