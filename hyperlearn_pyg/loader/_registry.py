from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hyperlearn_pyg.loader._draw import positions


class Registry(Protocol):
    """Gives local numbers to keys, in the order in which they are first seen."""

    def add(self, key: Tensor) -> Tensor:
        """Return the local number of each key; new keys get the next numbers."""
        ...

    def find(self, key: Tensor) -> Tensor:
        """Return the local number of each key, -1 where it is not known."""
        ...

    def keys(self) -> Tensor:
        """Return all keys, by local number."""
        ...

    def clear(self) -> None:
        """Forget all keys, in time proportional to their number."""
        ...

    def __len__(self) -> int: ...


class DenseRegistry:
    """A table over all possible keys ``[0, size)``: constant time a key, 4 bytes a possible key."""

    def __init__(self, size: int) -> None:
        self._table = torch.full((size,), -1, dtype=torch.int32)
        self._chunks: list[Tensor] = []
        self._count = 0

    def add(self, key: Tensor) -> Tensor:
        """See :class:`Registry`."""
        local = self.find(key)
        fresh = key.index_select(0, positions(local < 0))
        if fresh.numel() == 0:
            return local
        # Of repeated indices numpy writes the last: backwards, that is the first occurrence.
        order = np.arange(fresh.numel(), dtype=np.int32)
        self._table.numpy()[fresh.numpy()[::-1]] = order[::-1]
        new = fresh.index_select(0, positions(self._table.index_select(0, fresh) == torch.from_numpy(order)))
        self._table.scatter_(0, new, torch.arange(self._count, self._count + new.numel(), dtype=torch.int32))
        self._chunks.append(new)
        self._count += new.numel()
        return self.find(key)

    def find(self, key: Tensor) -> Tensor:
        """See :class:`Registry`."""
        return self._table.index_select(0, key).long()

    def keys(self) -> Tensor:
        """See :class:`Registry`."""
        self._chunks = [torch.cat(self._chunks) if self._chunks else torch.empty(0, dtype=torch.long)]
        return self._chunks[0]

    def clear(self) -> None:
        """See :class:`Registry`."""
        self._table.scatter_(0, self.keys(), -1)
        self._chunks, self._count = [], 0

    def __len__(self) -> int:
        return self._count


class SortedRegistry:
    """Sorted keys: for keys from a range too large for a table, as those of disjoint subgraphs."""

    def __init__(self) -> None:
        self._keys = torch.empty(0, dtype=torch.long)
        self._sorted, self._local = self._keys, self._keys

    def add(self, key: Tensor) -> Tensor:
        """See :class:`Registry`."""
        fresh = key.index_select(0, positions(self.find(key) < 0))
        if fresh.numel():
            new = fresh.index_select(0, first_of_each(fresh))
            local = torch.arange(len(self), len(self) + new.numel())
            self._keys = torch.cat([self._keys, new])
            self._sorted, order = torch.cat([self._sorted, new]).sort()
            self._local = torch.cat([self._local, local]).index_select(0, order)
        return self.find(key)

    def find(self, key: Tensor) -> Tensor:
        """See :class:`Registry`."""
        if len(self) == 0:
            return torch.full_like(key, -1)
        place = torch.searchsorted(self._sorted, key).clamp_(max=len(self) - 1)
        found = self._sorted.index_select(0, place) == key
        return torch.where(found, self._local.index_select(0, place), -1)

    def keys(self) -> Tensor:
        """See :class:`Registry`."""
        return self._keys

    def clear(self) -> None:
        """See :class:`Registry`."""
        self._keys, self._sorted, self._local = self._keys[:0], self._keys[:0], self._keys[:0]

    def __len__(self) -> int:
        return self._keys.numel()


def first_of_each(key: Tensor) -> Tensor:
    """Return, ascending, the position of the first occurrence of each distinct key ``[n]``."""
    ordered, order = key.sort(stable=True)
    is_first = torch.ones_like(ordered, dtype=torch.bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    return order[is_first].sort().values
