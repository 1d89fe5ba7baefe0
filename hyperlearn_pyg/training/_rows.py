from __future__ import annotations

import torch
from torch import Tensor

#: Scores held at once, unless told otherwise: 64 MiB in float32.
BUDGET = 1 << 24


def rows_at_once(columns: int, budget: int) -> int:
    """Return how many rows of so many columns stay within a budget of cells; one at least.

    Raises:
        ValueError: the budget is below 1.
    """
    if budget < 1:
        raise ValueError(f"'budget' must be at least 1 score (got {budget})")
    return max(1, budget // max(columns, 1))


def find_ranges(ascending: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for each row, where the numbers in ``[low, high)`` stand in ``ascending``: rows and positions ``[M]``."""
    first = torch.searchsorted(ascending, low.contiguous())
    length = torch.searchsorted(ascending, high.contiguous()) - first
    row = torch.arange(len(low), device=low.device).repeat_interleave(length)
    inner = torch.arange(len(row), device=low.device) - (length.cumsum(0) - length)[row]
    return row, first[row] + inner
