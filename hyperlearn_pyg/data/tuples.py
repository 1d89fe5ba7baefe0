from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

#: Numbers of tuples stay below it.
_INT64 = 2**63


class TupleNumbers:
    r"""Numbers tuples so that equal tuples, and only these, get equal numbers.

    While the product of the sizes fits in 63 bits, the number of a tuple is its position in the dense ``k``-way array
    (mixed radix, last slot fastest). Else, at each slot at which the positions would outgrow 63 bits, the positions so
    far and the items of the slot are first replaced by their ranks among those of the table.

    Args:
        table: item indices ``[k, F]``.
        sizes: the number of items of each slot.

    Example:
        >>> numbers = TupleNumbers(torch.tensor([[0, 1], [2, 2]]), (2, 3))
        >>> numbers(torch.tensor([[1, 0], [2, 0]]))
        tensor([5, 0])
    """

    def __init__(self, table: Tensor, sizes: Sequence[int]) -> None:
        self.sizes = tuple(int(size) for size in sizes)
        self._ranked: dict[int, tuple[Tensor, Tensor]] = {}
        if math.prod(self.sizes) < _INT64:
            return
        number, bound = table.new_zeros(table.size(1), dtype=torch.long), 1
        for slot, (row, size) in enumerate(zip(table, self.sizes, strict=True)):
            if bound * size >= _INT64:
                self._ranked[slot] = number.unique(), row.unique()
                bound, size = (len(seen) for seen in self._ranked[slot])
            number = self._append(number, row, slot)[0]
            bound *= size

    def __call__(self, index: Tensor) -> Tensor:
        """Return the numbers ``[B]`` of tuples ``[k, B]``; a tuple that is not in the table gets none of the table's.

        Where the sizes are too large for positions, all those get -1.
        """
        number = index.new_zeros(index.size(1), dtype=torch.long)
        strange = torch.zeros_like(number, dtype=torch.bool)
        for slot, row in enumerate(index):
            number, foreign = self._append(number, row, slot)
            strange = strange if foreign is None else strange | foreign
        return number.masked_fill(strange, -1) if self._ranked else number

    def _append(self, number: Tensor, row: Tensor, slot: int) -> tuple[Tensor, Tensor | None]:
        """Lead the numbers of the slots before on to this slot; tell which are beyond the table, where it matters."""
        if slot not in self._ranked:
            return number * self.sizes[slot] + row, None
        before, items = self._ranked[slot]
        (number, known), (row, found) = rank_in(before, number), rank_in(items, row)
        return number * len(items) + row, ~(known & found)


class TupleSet:
    """A set of tuples that tells exactly, and for many tuples at once, which of them it holds.

    Args:
        index: item indices ``[k, F]``; repeated tuples count once.
        sizes: the number of items of each slot; their product may be of any size.
    """

    def __init__(self, index: Tensor, sizes: Sequence[int]) -> None:
        self._numbers = TupleNumbers(index, sizes)
        self._sorted: Tensor = self._numbers(index).unique()

    def __len__(self) -> int:
        return len(self._sorted)

    def contains(self, index: Tensor) -> Tensor:
        """Return which tuples ``[k, B]`` are in the set, bool ``[B]``."""
        return rank_in(self._sorted, self._numbers(index))[1]


def rank_in(ascending: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Return where values stand among distinct ascending ones, zero where they do not, and whether they do."""
    if len(ascending) == 0:
        return torch.zeros_like(value), torch.zeros_like(value, dtype=torch.bool)
    at = torch.searchsorted(ascending, value.contiguous()).clamp_(max=len(ascending) - 1)
    found = ascending[at] == value
    return at.masked_fill_(~found, 0), found


def tuple_keys(tables: Sequence[Tensor], sizes: Sequence[int]) -> list[Tensor]:
    """Number the tuples of several tables ``[k, E]`` so that equal tuples, and only these, get equal numbers."""
    numbers = TupleNumbers(torch.cat(list(tables), dim=1), sizes)
    return [numbers(index) for index in tables]


def tuple_ids(index: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return one integer a tuple ``[E]``, equal for equal tuples only.

    Args:
        index: item indices ``[k, E]``.
        sizes: the number of items of each slot. While their product fits in 63 bits the integer is the position
            of the tuple in the dense ``k``-way array (last slot fastest).
    """
    return TupleNumbers(index, sizes)(index)


def tuples_of_ids(ids: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the tuples ``[k, E]`` at positions ``ids [E]`` of the dense array: the inverse of :func:`tuple_ids`."""
    rows = []
    for size in reversed(sizes):
        rows.append(ids % size)
        ids = ids.div(size, rounding_mode="floor")
    return torch.stack(rows[::-1])
