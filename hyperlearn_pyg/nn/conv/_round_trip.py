from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from hyperlearn_pyg.nn.conv._step import HyperedgeIndex, Step, propagate, read_step, rows_back, rows_first
from hyperlearn_pyg.ops.incidence import safe_inverse
from hyperlearn_pyg.ops.spmm import spmm


class RoundTripConv(Module):
    """What the layers from nodes to hyperedges and back share: the channels and the reading of a call.

    A layer implements ``convolve(step, keep_edges) -> (out [*, N, C], hyperedges [*, M, C])``.

    Args:
        in_channels: size of each input sample, or ``-1``.
        out_channels: size of each output sample.
        cached: keep the compressed incidence of each index tensor as long as the tensor lives unchanged.
        validate: check that the index lies in range (reads the index once per new tensor).

    Raises:
        ValueError: a number of channels is not possible.
    """

    bias: Tensor | None
    direction = "round_trip"
    explain = False

    def __init__(self, in_channels: int, out_channels: int, *, cached: bool, validate: bool) -> None:
        super().__init__()
        check_channels("in_channels", in_channels, lazy=True)
        check_channels("out_channels", out_channels)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.cached = cached
        self.validate = validate

    def forward(
        self,
        x: Tensor,
        hyperedge_index: HyperedgeIndex,
        hyperedge_weight: Tensor | None = None,
        num_edges: int | None = None,
        *,
        incidence_weight: Tensor | None = None,
        size: tuple[int, int] | None = None,
        return_hyperedges: bool = False,
    ) -> Any:
        """Run the layer.

        Args:
            x: node features ``[*, N, in_channels]``.
            hyperedge_index: the incidences ``[2, nnz]`` (node, hyperedge), an ``EdgeIndex``, a transposed sparse
                matrix ``[M, N]`` of torch or torch_sparse, or an :class:`~hyperlearn_pyg.ops.Incidence`.
            hyperedge_weight: non-negative weights ``[M]``, fixed or learnt; ones where absent. A weight of 2 is the
                same as a second hyperedge of the same members.
            num_edges: the number of hyperedges ``M``; where absent, taken from ``size``, the weights or the largest
                index.
            incidence_weight: non-negative weight of each incidence ``[nnz]``; ones where absent.
            size: ``(N, M)``.
            return_hyperedges: return the pair of the output and of the hyperedge features on the way.

        Raises:
            ValueError: a shape or an index does not fit.
        """
        check_features("x", x, self.in_channels)
        step = read_step(self, x, hyperedge_index, hyperedge_weight, None, num_edges, incidence_weight, size)
        out, edges = self.convolve(step, return_hyperedges)
        return (out, edges) if return_hyperedges else out

    def convolve(self, step: Step, keep_edges: bool) -> tuple[Tensor, Tensor]:
        """Return the new features of nodes and hyperedges."""
        raise NotImplementedError

    def add_bias(self, bias: bool, channels: int) -> None:
        """Register the parameter ``bias``, or None in its place."""
        self.register_parameter("bias", Parameter(torch.empty(channels)) if bias else None)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels})"


def check_channels(name: str, value: int, *, lazy: bool = False) -> None:
    """Refuse a number of channels below one; ``-1``, where ``lazy``, stands for the first input's."""
    if value < 1 and not (lazy and value == -1):
        raise ValueError(f"'{name}' must be at least 1{', or -1 to take it from the first input' * lazy} (got {value})")


def check_features(name: str, x: Tensor, channels: int) -> None:
    """Refuse features that are not ``[*, N, channels]``."""
    if x.dim() < 2 or (channels != -1 and x.size(-1) != channels):
        width = "channels" if channels == -1 else channels
        raise ValueError(f"'{name}' must have shape [*, N, {width}] (got {list(x.shape)})")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse what is none of ``choices``."""
    if value not in choices:
        raise ValueError(f"'{name}' must be {' or '.join(map(repr, choices))} (got {value!r})")


def node_degree(step: Step) -> Tensor:
    r"""Return :math:`d_i = \sum_e w_e H_{ie}`, ``[N]``."""
    dtype = step.x.dtype
    if step.weight is None:
        return step.inc.row_degree(step.values).to(dtype)
    return spmm(step.inc, step.weight.to(dtype)[:, None], step.values).squeeze(1)


def edge_size(step: Step) -> Tensor:
    r"""Return :math:`|e| = \sum_i H_{ie}`, ``[M]``."""
    return step.inc.col_degree(step.values).to(step.x.dtype)


def weighted(step: Step, scale: Tensor | None = None) -> Tensor | None:
    """Return the hyperedge weights times ``scale [M]``; None for ones."""
    if step.weight is None:
        return scale
    weight = step.weight.to(step.x.dtype)
    return weight if scale is None else weight * scale


def multiplicity(step: Step) -> Tensor | None:
    r"""Return :math:`w_e H_{ie}` of every incidence ``[nnz]``; None for ones."""
    if step.weight is None:
        return step.values
    weight = step.weight.to(step.x.dtype).index_select(0, step.inc.index[1])
    return weight if step.values is None else weight * step.values


def member_mean(step: Step, x: Tensor) -> Tensor:
    r"""Return :math:`h_e = \frac{1}{|e|} \sum_i H_{ie} x_i`, ``[M, C]``, of ``x [N, C]``."""
    return propagate(step.inc, x, step.values, (None, safe_inverse(edge_size(step))), transpose=True)


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
    parts = [spmm(step.inc, x[:, h], alpha[:, h], transpose=transpose) for h in range(x.size(1))]
    rows = step.inc.size[1 if transpose else 0]
    return torch.stack(parts, dim=1) if parts else x.new_zeros(rows, 0, x.size(2))
