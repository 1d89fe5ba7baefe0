from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

#: Largest number of similarities held at once: 64 MiB in float32.
BLOCK = 1 << 24


class Points(NamedTuple):
    """Rows such that ``x x^T - half`` has the order of nearness; those not usable are no one's neighbour."""

    x: Tensor
    half: Tensor
    usable: Tensor


def nearest(x: Tensor, k: int, metric: str) -> Tensor:
    """Return the edges from each row of ``x [N, F]`` to the ``k`` others that are nearest, exactly, in blocks.

    Args:
        x: the points.
        k: neighbours a point; less where there are fewer points.
        metric: ``"cosine"``, under which a row of zeros has no neighbours and is none, or ``"euclidean"``.

    Returns:
        ``[2, M]`` with ``M`` at most ``N k``, sorted by the point, then from near to far.
    """
    cloud = points(x, metric)
    rows, k = cloud.usable.nonzero().view(-1), min(k, x.size(0) - 1)
    if k < 1 or rows.numel() == 0:
        return torch.empty(2, 0, dtype=torch.long, device=x.device)
    return torch.cat([exact(cloud, part, k)[0] for part in rows.split(max(1, BLOCK // x.size(0)))], dim=1)


def points(x: Tensor, metric: str) -> Points:
    """Prepare the rows of ``x`` for a metric."""
    if metric == "cosine":
        norm = x.norm(dim=1)
        x = x / norm.clamp(min=torch.finfo(x.dtype).tiny)[:, None]
        return Points(x, x.new_zeros(x.size(0)), norm > 0)
    # nearest neighbours do not change under a shift, and the expanded square loses fewer digits
    x = x - x.mean(dim=0, keepdim=True) if x.size(0) else x
    return Points(x, x.square().sum(dim=1) / 2, torch.ones(x.size(0), dtype=torch.bool, device=x.device))


def exact(cloud: Points, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the edges from each of ``rows`` to its nearest others, and all scores of the rows."""
    score = _score(cloud, rows)
    value, target = score.topk(k, dim=1)
    keep = value.isfinite()
    return torch.stack([rows.view(-1, 1).expand_as(target)[keep], target[keep]]), score


def _score(cloud: Points, rows: Tensor) -> Tensor:
    """Return ``[len(rows), N]``: the order of ``-|x_i - x_j|^2 / 2`` for fixed ``i``; of itself, minus infinity."""
    score = cloud.x[rows] @ cloud.x.T - cloud.half
    score[:, ~cloud.usable] = -torch.inf
    score[torch.arange(rows.numel(), device=rows.device), rows] = -torch.inf
    return score
