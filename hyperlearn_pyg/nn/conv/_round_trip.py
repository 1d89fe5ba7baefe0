from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from hyperlearn_pyg.nn.conv._layer import HypergraphLayer, check_channels
from hyperlearn_pyg.nn.conv._step import HyperedgeIndex, Step, propagate
from hyperlearn_pyg.ops.incidence import safe_inverse
from hyperlearn_pyg.ops.spmm import spmm

#: Features, and the attention coefficients ``[nnz, *, heads]`` by which they came about where there are any.
Attended = tuple[Tensor, Tensor | None]


class RoundTripConv(HypergraphLayer, ABC):
    """What the layers from nodes to hyperedges and back share: the channels and the reading of a call.

    With ``direction`` a layer goes half of the way: it takes a pair ``x = (x_source, x_target)``, as a bipartite layer
    of PyG does in ``HeteroConv`` on a membership edge type, gives features of the target, and has the parameters of
    this half alone.

    Args:
        in_channels: size of each input sample, or ``-1``; a pair, source and target, with ``direction``.
        out_channels: size of each output sample.
        direction: ``"to_hyperedge"`` or ``"to_node"`` for half of the way, ``"auto"`` for the whole.
        cached: keep the compressed incidence of each index tensor as long as the tensor lives unchanged.
        validate: check that the index lies in range (reads the index once per new tensor).

    Raises:
        ValueError: a number of channels is not possible, or a pair of them comes without a direction.
    """

    bias: Tensor | None

    def __init__(
        self, in_channels: int | tuple[int, int], out_channels: int, *, direction: str, cached: bool, validate: bool
    ) -> None:
        super().__init__(direction=direction, cached=cached, validate=validate)
        pair = in_channels if isinstance(in_channels, tuple) else (in_channels, in_channels)
        for channels in pair:
            check_channels("in_channels", channels, lazy=True)
        check_channels("out_channels", out_channels)
        if isinstance(in_channels, tuple) and direction == "auto":
            raise ValueError("a pair as 'in_channels' needs direction='to_hyperedge' or 'to_node'")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.source_channels, self.target_channels = pair

    def forward(
        self,
        x: Tensor | tuple[Tensor, Tensor | None],
        hyperedge_index: HyperedgeIndex,
        hyperedge_weight: Tensor | None = None,
        num_edges: int | None = None,
        *,
        incidence_weight: Tensor | None = None,
        size: tuple[int, int] | None = None,
        return_hyperedges: bool = False,
        return_attention_weights: bool | None = None,
    ) -> Any:
        """Run the layer.

        Args:
            x: node features ``[*, N, in_channels]``; with ``direction`` the pair ``(x_source, x_target)``, whose second
                may be None where nothing of the target is read, or one tensor for both.
            hyperedge_index: the incidences ``[2, nnz]`` (node, hyperedge; with ``direction`` source, target), an
                ``EdgeIndex``, a transposed sparse matrix ``[M, N]`` of torch or torch_sparse, or an
                :class:`~hyperlearn_pyg.ops.Incidence`.
            hyperedge_weight: non-negative weights ``[M]``, fixed or learnt; ones where absent. A weight of 2 is the
                same as a second hyperedge of the same members.
            num_edges: the number of hyperedges ``M`` (with ``direction``, of targets); where absent, taken from
                ``size``, the target's features, the weights or the largest index.
            incidence_weight: non-negative weight of each incidence ``[nnz]``; ones where absent.
            size: ``(N, M)``.
            return_hyperedges: also return the hyperedge features on the way.
            return_attention_weights: also return ``(hyperedge_index, alpha)``, where the layer has attention.

        Raises:
            ValueError: a shape or an index does not fit, a pair comes without ``direction``, the target's features are
                read and absent, or a layer without attention is asked for its weights.
        """
        if isinstance(x, tuple) and self.direction == "auto":
            name = type(self).__name__
            raise ValueError(f"a pair as 'x' needs one direction: {name}(..., direction='to_hyperedge') or 'to_node'")
        step = self.read(x, hyperedge_index, hyperedge_weight, None, num_edges, incidence_weight, size)
        if step.direction == "round_trip":
            out, edges, alpha = self.convolve(step, return_hyperedges)
        elif step.direction == "to_hyperedge":
            out, alpha = self.to_hyperedges(step, step.x)
            edges = out
        else:
            out, alpha = self.to_nodes(step, step.x, step.target)
            edges = step.x
        if not return_hyperedges and not return_attention_weights:
            return out
        weights = [(self.attended_index(step, hyperedge_index), alpha)] if return_attention_weights else []
        if weights and alpha is None:
            raise ValueError(f"{type(self).__name__} has no attention here: 'return_attention_weights' must be False")
        return (out, *([edges] if return_hyperedges else []), *weights)

    def convolve(self, step: Step, keep_edges: bool) -> tuple[Tensor, Tensor, Any]:
        """Return the new features of nodes and hyperedges, and the attention coefficients where there are any."""
        edges, first = self.to_hyperedges(step, step.x)
        out, second = self.to_nodes(step, edges, step.x)
        return out, edges, (None if first is None and second is None else (first, second))

    @abstractmethod
    def to_hyperedges(self, step: Step, x: Tensor) -> Attended:
        """Return the features of the hyperedges, made of those of the nodes."""

    @abstractmethod
    def to_nodes(self, step: Step, edges: Tensor, x: Tensor | None) -> Attended:
        """Return the new features of the nodes, made of those of the hyperedges and of their own."""

    def attended_index(self, step: Step, index: HyperedgeIndex) -> HyperedgeIndex:
        """Return the incidences that the attention coefficients belong to."""
        return index

    def add_bias(self, bias: bool, channels: int) -> None:
        """Register the parameter ``bias``, or None in its place."""
        self.register_parameter("bias", Parameter(torch.empty(channels)) if bias else None)

    def biased(self, out: Tensor) -> Tensor:
        """Add the bias, where there is one."""
        return out if self.bias is None else out + self.bias

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels})"


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
    return propagate(step.inc, x, step.sent, (None, safe_inverse(edge_size(step))), transpose=True)
