from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hyperlearn_pyg.nn.conv._step import Step, propagate, rows_back, rows_first
from hyperlearn_pyg.ops.softmax import segment_softmax, spread
from hyperlearn_pyg.ops.spmm import spmm


def hypergraph_attention(layer: Any, step: Step, x: Tensor, other: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Convolve with attention as the incidence matrix, in the product and in both degrees (Bai, Zhang and Torr).

    It goes head by head: nothing of shape ``[nnz, heads, channels]`` is made.

    Args:
        layer: holds ``att [1, heads, 2 C]`` and the options of :class:`HypergraphConv`.
        step: the call.
        x: the source behind its linear map ``[*, N, heads * C]``.
        other: the other side behind its linear map ``[*, M, heads * C]``.

    Returns:
        Output ``[*, rows, heads * C]`` (or ``C``), features on the way, coefficients ``[nnz, *, heads]`` (eq. 8).
    """
    x, shape = split_heads(x, layer.heads)
    other, _ = split_heads(other, layer.heads)
    alpha = _coefficients(layer, step, x, other)
    kept = F.dropout(alpha, p=layer.dropout, training=layer.training)
    outs, edges = [], []
    for head in range(x.size(1)):
        own = step.attended(kept[:, head])
        scales = own.scales(layer.normalization, layer.pyg_compat)
        out = x[:, head]
        if step.direction != "to_node":
            out = propagate(step.inc, out, own.sent, scales.into_edges, transpose=True)
        edges.append(out)
        if step.direction != "to_hyperedge":
            out = propagate(step.inc, out, own.sent, scales.into_nodes, transpose=False)
        outs.append(out)
    out, way = (
        merge_heads(join_heads(torch.stack(parts, dim=1), shape, layer.heads), layer.heads, layer.concat)
        for parts in (outs, edges)
    )
    return out, way, alpha.view(alpha.size(0), *shape, layer.heads)


def _coefficients(layer: Any, step: Step, x: Tensor, other: Tensor) -> Tensor:
    # <att, [x_i || x_e]> splits into a part per node and a part per hyperedge
    att_x, att_other = layer.att.squeeze(0).split(x.size(2), dim=-1)
    own, far = head_scores(x, att_x), head_scores(other, att_other)
    nodes, edges = (far, own) if step.direction == "to_node" else (own, far)
    row, col = step.inc.index
    score = F.leaky_relu(spread(nodes, row) + spread(edges, col), layer.negative_slope)
    return segment_softmax(step.inc, score, by_row=layer.attention_mode == "edge")


def split_heads(x: Tensor, heads: int) -> tuple[Tensor, torch.Size]:
    """Bring ``[*, N, heads * C]`` into the form ``[N, prod(*) * heads, C]``, and say what ``*`` was."""
    rows, shape = rows_first(x)
    return rows.view(x.size(-2), shape.numel() * heads, x.size(-1) // heads), shape


def join_heads(x: Tensor, shape: torch.Size, heads: int) -> Tensor:
    """Undo :func:`split_heads`."""
    return rows_back(x.reshape(x.size(0), shape.numel() * heads * x.size(2)), shape)


def head_scores(x: Tensor, query: Tensor) -> Tensor:
    r"""Return :math:`\langle \mathbf{a}_h, \mathbf{x}_{ih} \rangle`, ``[N, S * heads]``, of ``x [N, S * heads, C]``."""
    return (x * query.repeat(x.size(1) // query.size(0), 1)).sum(-1)


def attend(step: Step, x: Tensor, alpha: Tensor, *, transpose: bool) -> Tensor:
    """Sum ``x [rows, heads, C]`` over the incidences with the coefficients ``alpha [nnz, heads]``, head by head."""
    alpha = alpha if step.mask is None else alpha * step.mask[:, None]
    parts = [spmm(step.inc, x[:, h], alpha[:, h], transpose=transpose) for h in range(x.size(1))]
    rows = step.inc.size[1 if transpose else 0]
    return torch.stack(parts, dim=1) if parts else x.new_zeros(rows, 0, x.size(2))


def merge_heads(x: Tensor, heads: int, concat: bool) -> Tensor:
    """Keep the heads of ``[*, N, heads * C]`` side by side, or average them."""
    return x if concat else x.unflatten(-1, (heads, x.size(-1) // heads)).mean(-2)
