from __future__ import annotations

import torch
from torch import Tensor


def standardise(values: list[float]) -> Tensor:
    """Return ``[N, 1]`` of mean 0 and deviation 1 over the numbers that are there; NaN becomes 0."""
    column = torch.tensor(values, dtype=torch.float64)
    known = column[~column.isnan()]
    mean = known.mean() if known.numel() else torch.tensor(0.0)
    spread = known.std(correction=0) if known.numel() > 1 else torch.tensor(0.0)
    scaled = (column - mean) / (spread if spread > 0 else 1.0)
    return scaled.nan_to_num(0.0).float().view(-1, 1)


def one_hot(index: list[int], size: int) -> Tensor:
    """Return ``[N, size]``; rows of index -1 are zero."""
    return torch.nn.functional.one_hot(torch.tensor(index, dtype=torch.long) + 1, size + 1)[:, 1:].float()
