from __future__ import annotations

import math

import torch
from torch import Tensor

from hyperlearn_pyg.ops.incidence import Incidence, safe_inverse
from hyperlearn_pyg.ops.softmax import segment_softmax


def multiset_softmax(inc: Incidence, score: Tensor, count: Tensor | None, *, by_row: bool) -> Tensor:
    r"""Normalise a score of each entry, which counts several times, over the entries of its row, or of its column.

    :math:`\alpha_{ij} = m_{ij} \exp s_{ij} / \sum_{j'} m_{ij'} \exp s_{ij'}`, and zero where the sum is.

    Args:
        inc: the sparse matrix ``[N, M]``.
        score: ``[nnz, H]``, in the order of the entries.
        count: non-negative :math:`m` ``[nnz]``; ones where absent. Differentiable, at zero too.
        by_row: normalise within rows, or else within columns.

    Returns:
        ``[nnz, H]``.
    """
    if count is None:
        return segment_softmax(inc, score, by_row=by_row)
    axis, key = (0, inc.index[0]) if by_row else (1, inc.index[1])
    where = key.long()[:, None].expand(-1, score.size(1))
    with torch.no_grad():
        largest = score.new_full((inc.size[axis], score.size(1)), torch.finfo(score.dtype).min)
        largest = largest.scatter_reduce_(0, where, score.masked_fill((count <= 0)[:, None], -torch.inf), "amax")
    # the score of an entry that does not count may lie above the largest of those that do
    limit = 0.5 * math.log(torch.finfo(score.dtype).max)
    raised = (score - largest.gather(0, where)).clamp(max=limit).exp() * count[:, None].to(score.dtype)
    total = raised.new_zeros(inc.size[axis], score.size(1)).scatter_add(0, where, raised)
    return raised * safe_inverse(total).gather(0, where)
