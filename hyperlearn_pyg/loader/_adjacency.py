from __future__ import annotations

import torch
from torch import Tensor

from hyperlearn_pyg.loader._draw import Draws, positions
from hyperlearn_pyg.ops.incidence import Incidence


class Adjacency:
    """The neighbours of every row of one edge type, in one direction.

    The entries of row ``r`` are ``ptr[r]`` to ``ptr[r + 1]``; where entries have times, they stand in each row by time,
    so that what a seed may see is the beginning of the row.

    Args:
        index: the entries ``[2, nnz]``: row above neighbour.
        size: number of rows and of neighbours.
        keep: mask ``[nnz]`` of the entries that may be drawn.
        time: time of each entry ``[nnz]``.

    Raises:
        ValueError: an entry is out of range.
    """

    def __init__(
        self, index: Tensor, size: tuple[int, int], *, keep: Tensor | None = None, time: Tensor | None = None
    ) -> None:
        entries = None if keep is None else positions(keep)
        if time is not None:
            order = (time if entries is None else time[entries]).argsort(stable=True)
            entries = order if entries is None else entries[order]
        rows = Incidence(index if entries is None else index[:, entries], size).by_row
        self.ptr, self.nbr = rows.ptr, rows.idx
        self.edge = rows.perm if entries is None else entries.to(rows.perm.dtype)[rows.perm]
        self.time = None if time is None else time[self.edge]
        self._nnz = index.size(1)
        self._rank: Tensor | None = None

    def share_memory_(self) -> None:
        """Move the entries to shared memory, for workers."""
        for tensor in (self.ptr, self.nbr, self.edge, self.time):
            if tensor is not None:
                tensor.share_memory_()

    def degree(self, rows: Tensor, until: Tensor | None = None, *, strict: bool = False) -> Tensor:
        """Return the number of entries of each row ``[R]``; with ``until [R]``, of those up to this time."""
        low, high = (self.ptr.index_select(0, row).long() for row in (rows, rows + 1))
        if until is None or self.time is None:
            return high - low
        begin = low
        while bool((low < high).any()):  # a bisection of all rows at once
            middle = (low + high).div(2, rounding_mode="floor")
            time = self.time.index_select(0, middle.clamp(max=self.time.numel() - 1))
            seen = ((time < until) if strict else (time <= until)) & (low < high)
            high = torch.where(seen, high, torch.minimum(middle, high))
            low = torch.where(seen, middle + 1, low)
        return low - begin

    def entries(self, rows: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return neighbour and edge of each draw from ``rows [R]``."""
        place = self.ptr.index_select(0, rows).long().index_select(0, draws.row) + draws.offset
        return self.nbr.index_select(0, place).long(), self.edge.index_select(0, place).long()

    def rank(self) -> Tensor:
        """Return where among all entries each edge stands ``[nnz]``, -1 for edges that may not be drawn; made once."""
        if self._rank is None:
            self._rank = torch.full((self._nnz,), -1, dtype=self.edge.dtype)
            self._rank[self.edge.long()] = torch.arange(self.edge.numel(), dtype=self.edge.dtype)
        return self._rank

    def offset(self, edge: Tensor, rows: Tensor) -> Tensor:
        """Return where in its row each edge stands, -1 for edges that may not be drawn."""
        rank = self.rank()[edge].long()
        return torch.where(rank < 0, -1, rank - self.ptr[rows].long())


class Skips:
    """Entries that must not be drawn: the rows are drawn from as if these entries were not there.

    Args:
        row: position of the row of each entry ``[S]`` among ``num_rows`` rows.
        offset: offset of the entry in its row ``[S]``; no entry twice.
        degree: lengths of the rows ``[R]``; entries behind them are forgotten.
    """

    def __init__(self, row: Tensor, offset: Tensor, degree: Tensor) -> None:
        inside = (offset >= 0) & (offset < degree[row])
        row, offset = row[inside], offset[inside]
        self._wide = int(degree.max()) + 1 if degree.numel() else 1
        key, _ = (row * self._wide + offset).sort()
        row = key.div(self._wide, rounding_mode="floor")
        self.count = torch.bincount(row, minlength=degree.numel())
        self._start = self.count.cumsum(0) - self.count
        # The j-th skipped entry of a row stands before all drawn offsets from (its offset - j) on.
        self._key = key - (torch.arange(key.numel()) - self._start[row])

    def shift(self, draws: Draws) -> Draws:
        """Turn offsets among the entries that are left into offsets among all."""
        before = torch.searchsorted(self._key, draws.row * self._wide + draws.offset, right=True)
        return Draws(draws.row, draws.offset + before - self._start.index_select(0, draws.row))
