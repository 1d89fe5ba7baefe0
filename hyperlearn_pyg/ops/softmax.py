from __future__ import annotations

import torch
from torch import Tensor

from hyperlearn_pyg.ops.incidence import Incidence, safe_inverse


def segment_softmax(inc: Incidence, score: Tensor, *, by_row: bool) -> Tensor:
    r"""Normalise a score of each entry over the entries of its row, or of its column.

    :math:`\alpha_{ij} = \exp s_{ij} / \sum_{j'} \exp s_{ij'}`, shifted by the largest score of the segment.

    Args:
        inc: the sparse matrix ``[N, M]``.
        score: ``[nnz, H]``, in the order of the entries.
        by_row: normalise within rows, or else within columns.

    Returns:
        ``[nnz, H]``.
    """
    axis, key = (0, inc.index[0]) if by_row else (1, inc.index[1])
    where = key[:, None].expand(-1, score.size(1)).long()
    with torch.no_grad():
        largest = score.new_full((inc.size[axis], score.size(1)), -torch.inf)
        largest = largest.scatter_reduce_(0, where, score.detach(), "amax").clamp_(min=torch.finfo(score.dtype).min)
    raised = (score - largest.index_select(0, key)).exp()
    total = raised.new_zeros(inc.size[axis], score.size(1)).index_add(0, key, raised)
    return raised * safe_inverse(total).index_select(0, key)
