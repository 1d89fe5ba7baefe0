from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def tuple_ids(index: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return one integer a tuple ``[E]``, equal for equal tuples only.

    Args:
        index: item indices ``[k, E]``.
        sizes: the number of items of each slot. While their product fits in 63 bits the integer is the position
            of the tuple in the dense ``k``-way array (last slot fastest); else it is the rank among the tuples.
    """
    if math.prod(int(size) for size in sizes) >= 2**63:
        inverse: Tensor = torch.unique(index, dim=1, return_inverse=True)[1]
        return inverse
    ids = torch.zeros(index.size(1), dtype=torch.long, device=index.device)
    for row, size in zip(index, sizes, strict=True):
        ids = ids * size + row
    return ids


def tuples_of_ids(ids: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the tuples ``[k, E]`` at positions ``ids [E]`` of the dense array: the inverse of :func:`tuple_ids`."""
    rows = []
    for size in reversed(sizes):
        rows.append(ids % size)
        ids = ids.div(size, rounding_mode="floor")
    return torch.stack(rows[::-1])
