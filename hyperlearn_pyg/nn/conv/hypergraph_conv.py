from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.nn.inits import glorot, zeros

from hyperlearn_pyg.nn.conv._attention import hypergraph_attention
from hyperlearn_pyg.nn.conv._layer import (
    HypergraphLayer,
    check_channels,
    check_choice,
    check_dropout,
    check_features,
    check_heads,
)
from hyperlearn_pyg.nn.conv._step import HyperedgeIndex, Step, propagate, rows_back, rows_first

_MAC = 0.1  # a multiply-add of the linear map, in units of one number moved by the sparse product (measured)


class HypergraphConv(HypergraphLayer):
    r"""Hypergraph convolution and hypergraph attention (Bai, Zhang and Torr, arXiv:1901.08150).

    .. math::
        \mathbf{X}^{\prime} = \mathbf{D}^{-1} \mathbf{H} \mathbf{W} \mathbf{B}^{-1} \mathbf{H}^{\top}
        \mathbf{X} \mathbf{\Theta} + \mathbf{b}
        \qquad \text{or} \qquad
        \mathbf{D}^{-1/2} \mathbf{H} \mathbf{W} \mathbf{B}^{-1} \mathbf{H}^{\top} \mathbf{D}^{-1/2}
        \mathbf{X} \mathbf{\Theta} + \mathbf{b}

    with the incidence matrix :math:`\mathbf{H} \in \mathbb{R}^{N \times M}`, the hyperedge weights
    :math:`\mathbf{W} = \mathrm{diag}(w)`, and the degrees :math:`D_{ii} = \sum_e w_e H_{ie}`,
    :math:`B_{ee} = \sum_i H_{ie}`. The entries of :math:`\mathbf{H}` are ones, or the incidence weights where given;
    an incidence that is listed twice counts twice. A node without hyperedges, and a hyperedge without nodes, give
    zeros (before the bias).

    With attention, :math:`H_{ie} = \alpha_{ie}` (eq. 8 of the paper) in the product **and** in both degrees, so that
    a constant signal stays constant.

    The signature and the parameter names are those of :class:`torch_geometric.nn.HypergraphConv`, new options are
    keyword-only behind them. PyG 2.8 departs from the formula in two places, which ``pyg_compat`` reproduces: the
    hyperedge weights enter the degrees but not the product, and attention enters the product but not the degrees.

    Args:
        in_channels: size of each input sample, or ``-1`` to derive it from the first input; a pair for bipartite
            input, of which the first is the source's and the second, where attention reads it, the target's.
        out_channels: size of each output sample (of each head).
        use_attention: learn the entries of the incidence matrix.
        attention_mode: ``"node"`` normalises over the nodes of a hyperedge, ``"edge"`` over the hyperedges of a node.
        heads: number of attention heads.
        concat: concatenate the heads, or else average them.
        negative_slope: slope of the leaky ReLU of the attention scores.
        dropout: dropout probability of the attention coefficients.
        bias: learn an additive bias.
        normalization: ``"row"`` or ``"symmetric"``.
        direction: what a pair as ``x`` means: ``"to_hyperedge"``, ``"to_node"``, or ``"auto"``: to the hyperedges,
            unless the weights are as many as the source's rows.
        pyg_compat: reproduce the numbers of PyG 2.8.
        cached: keep the compressed incidence of each index tensor as long as the tensor lives unchanged.
        validate: check that the index lies in range (reads the index once per new tensor).
        **kwargs: further arguments of :class:`torch_geometric.nn.conv.MessagePassing`; ``aggr``, ``flow`` and
            ``node_dim`` are fixed.

    Shapes:
        * input: node features ``[*, N, in_channels]``; or a pair ``(x_source, x_target)`` for one half of the way: from
          nodes to hyperedges or back, in the direction of the index
        * hyperedge index ``[2, nnz]`` (node, hyperedge); hyperedge weights ``[M]``; hyperedge features
          ``[M, in_channels]``
        * output: ``[*, N, heads * out_channels]``, or ``[*, N, out_channels]`` where the heads are averaged

    Raises:
        ValueError: a mode is unknown, heads without attention, or a shape or an index does not fit.

    Example:
        >>> conv = HypergraphConv(8, 4)
        >>> conv(torch.randn(3, 8), torch.tensor([[0, 1, 1, 2], [0, 0, 1, 1]])).shape
        torch.Size([3, 4])
    """

    channel_roles: Mapping[str, str] | None = {
        "in_channels": "in",
        "out_channels": "channels",
        "heads": "heads",
        "lin.weight": "wide in",
        "lin_target.weight": "wide target",
        "att": "- heads channels*",
        "bias": "out",
    }

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        use_attention: bool = False,
        attention_mode: str = "node",
        heads: int = 1,
        concat: bool = True,
        negative_slope: float = 0.2,
        dropout: float = 0,
        bias: bool = True,
        *,
        normalization: str = "row",
        direction: str = "auto",
        pyg_compat: bool = False,
        cached: bool = True,
        validate: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(direction=direction, cached=cached, validate=validate, **kwargs)
        check_choice("attention_mode", attention_mode, ("node", "edge"))
        check_choice("normalization", normalization, ("row", "symmetric"))
        if pyg_compat and normalization != "row":
            raise ValueError("'pyg_compat' goes with normalization='row': PyG has no other")
        check_heads(heads, use_attention)
        self.in_channels = in_channels
        for channels in self._pair:
            check_channels("in_channels", channels, lazy=True)
        check_channels("out_channels", out_channels)
        self.out_channels = out_channels
        self.use_attention = self.reads_target = use_attention
        self.attention_mode = attention_mode
        self.heads = heads
        self.concat = concat
        self.negative_slope = negative_slope
        check_dropout(dropout)
        self.dropout = dropout
        self.normalization = normalization
        self.pyg_compat = pyg_compat
        self._add_parameters(bias)
        self.reset_parameters()

    @property
    def _pair(self) -> tuple[int, int]:
        return self.in_channels if isinstance(self.in_channels, tuple) else (self.in_channels, self.in_channels)

    def _add_parameters(self, bias: bool) -> None:
        source, target = self._pair
        width = self.heads * self.out_channels
        self.lin = Linear(source, width, bias=False, weight_initializer="glorot")
        if self.use_attention:
            self.att = Parameter(torch.empty(1, self.heads, 2 * self.out_channels))
        if self.use_attention and isinstance(self.in_channels, tuple):
            self.lin_target = Linear(target, width, bias=False, weight_initializer="glorot")
        biases = Parameter(torch.empty(width if self.concat else self.out_channels)) if bias else None
        self.register_parameter("bias", biases)

    def reset_parameters(self) -> None:
        """Draw all parameters afresh."""
        super().reset_parameters()
        self.lin.reset_parameters()
        if self.use_attention:
            glorot(self.att)
        if hasattr(self, "lin_target"):
            self.lin_target.reset_parameters()
        zeros(self.bias)

    def forward(
        self,
        x: Tensor | tuple[Tensor, Tensor | None],
        hyperedge_index: HyperedgeIndex,
        hyperedge_weight: Tensor | None = None,
        hyperedge_attr: Tensor | None = None,
        num_edges: int | None = None,
        *,
        incidence_weight: Tensor | None = None,
        size: tuple[int, int] | None = None,
        return_hyperedges: bool = False,
        return_attention_weights: bool | None = None,
    ) -> Any:
        """Run the layer.

        Args:
            x: node features ``[*, N, in_channels]``; or ``(x_source, x_target)`` for one half of the way: the rows of
                ``hyperedge_index`` are then source and target, as of a bipartite edge type. From nodes to hyperedges
                the output is the (weighted) mean of the members, from hyperedges to nodes that of the hyperedges.
            hyperedge_index: the incidences ``[2, nnz]`` (node, hyperedge), an ``EdgeIndex``, a transposed sparse
                matrix ``[M, N]`` of torch or torch_sparse, or an :class:`~hyperlearn_pyg.ops.Incidence`.
            hyperedge_weight: non-negative weights ``[M]``, fixed or learnt (through ``softplus``, say); ones where
                absent. On the way from nodes to hyperedges alone they play no part.
            hyperedge_attr: hyperedge features ``[*, M, in_channels]`` for attention; where absent, the mean of the
                members' features.
            num_edges: the number of hyperedges ``M``; where absent, taken from ``size``, the weights, the features or
                the largest index.
            incidence_weight: weight of each incidence ``[nnz]``.
            size: ``(N, M)``.
            return_hyperedges: also return the hyperedge features ``[*, M, ...]`` on the way (before the weights).
            return_attention_weights: also return ``(hyperedge_index, alpha)`` with ``alpha [nnz, heads]``.

        Raises:
            ValueError: a shape or an index does not fit.
        """
        if isinstance(x, tuple):
            self._check_direction(x, hyperedge_weight)
        if hyperedge_attr is not None and self.use_attention:
            check_features("hyperedge_attr", hyperedge_attr, self._pair[1])
        if return_attention_weights and not self.use_attention:
            raise ValueError("'return_attention_weights' goes with use_attention=True")
        step = self.read(x, hyperedge_index, hyperedge_weight, hyperedge_attr, num_edges, incidence_weight, size)
        alpha = None
        edges: Tensor | None
        if self.use_attention:
            out, edges, alpha = self._attend(step)
        else:
            out, edges = self._convolve(step, return_hyperedges)
        if self.bias is not None:
            alone = not self.use_attention and step.direction != "to_hyperedge"  # no view of the hyperedge features
            fresh = alone and out.dtype == self.bias.dtype
            out = out.add_(self.bias) if fresh else out + self.bias  # nothing was saved of a fresh one
        if not return_hyperedges and not return_attention_weights:
            return out
        more = ([edges] if return_hyperedges else []) + ([(hyperedge_index, alpha)] if return_attention_weights else [])
        return (out, *more)

    def _check_direction(self, x: tuple[Tensor, Tensor | None], weight: Tensor | None) -> None:
        if self.direction == "auto" and self.normalization == "symmetric":
            raise ValueError("a pair as 'x' with normalization='symmetric' needs direction='to_hyperedge' or 'to_node'")
        both = x[1] is not None and weight is not None and x[0].size(-2) == x[1].size(-2)
        if self.direction == "auto" and both:
            raise ValueError(
                "'hyperedge_weight' fits source and target alike: say which one holds the hyperedges, with "
                "direction='to_hyperedge' or 'to_node'"
            )

    def _convolve(self, step: Step, keep_edges: bool) -> tuple[Tensor, Tensor | None]:
        """Run without attention; the linear map goes where the rows are fewest and narrowest."""
        place = _place(step, self.out_channels, keep_edges)
        x = self.lin(step.x) if place == "before" else step.x
        x, shape = rows_first(x)
        scales = step.scales(self.normalization, self.pyg_compat)
        if step.direction != "to_node":
            x = propagate(step.inc, x, step.sent, scales.into_edges, transpose=True)
        edges = x
        if place == "between":
            edges = x = self.lin(x)
        if step.direction != "to_hyperedge":
            x = propagate(step.inc, x, step.sent, scales.into_nodes, transpose=False)
        x, edges = rows_back(x, shape), rows_back(edges, shape)
        return (self.lin(x) if place == "after" else x), edges

    def _attend(self, step: Step) -> tuple[Tensor, Tensor, Tensor]:
        lin_other = getattr(self, "lin_target", self.lin)
        out, edges, alpha = hypergraph_attention(self, step, self.lin(step.x), lin_other(step.other()))
        self.show(alpha.flatten(1))
        return out, edges, alpha

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels})"


def _place(step: Step, out_channels: int, keep_edges: bool) -> str:
    """Say where the linear map costs least: before, between or after the two passes."""
    if step.direction != "round_trip" or step.x.dim() > 2:
        return "before"
    width = step.x.size(1)
    if torch.compiler.is_compiling():  # a choice by sizes would be compiled anew for each side of it
        return "before" if keep_edges or out_channels <= width else "after"
    (nodes, edges), moved = step.inc.size, step.inc.nnz
    costs = {
        "before": _MAC * nodes * width * out_channels + 2 * moved * out_channels,
        "between": _MAC * edges * width * out_channels + moved * (width + out_channels),
        "after": _MAC * nodes * width * out_channels + 2 * moved * width,
    }
    if keep_edges:
        del costs["after"]
    return min(costs, key=lambda place: costs[place])
