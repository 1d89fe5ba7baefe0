from __future__ import annotations

import torch
from torch import Tensor


def find_ranges(ascending: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for each row, where the numbers in ``[low, high)`` stand in ``ascending``: rows and positions ``[M]``."""
    first = torch.searchsorted(ascending, low.contiguous())
    length = torch.searchsorted(ascending, high.contiguous()) - first
    row = torch.arange(len(low), device=low.device).repeat_interleave(length)
    inner = torch.arange(len(row), device=low.device) - (length.cumsum(0) - length)[row]
    return row, first[row] + inner
