from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter
from torch_geometric.nn.conv import MessagePassing
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.nn.inits import glorot, zeros
from torch_geometric.utils import softmax

from hyperlearn_pyg.ops.incidence import Incidence, incidence, safe_inverse
from hyperlearn_pyg.ops.spmm import spmm


class HypergraphConv(MessagePassing):
    r"""Hypergraph convolution and hypergraph attention (Bai, Zhang and Torr, arXiv:1901.08150).

    .. math::
        \mathbf{X}^{\prime} = \mathbf{D}^{-1} \mathbf{H} \mathbf{W} \mathbf{B}^{-1} \mathbf{H}^{\top}
        \mathbf{X} \mathbf{\Theta} + \mathbf{b}

    with the incidence matrix :math:`\mathbf{H} \in \mathbb{R}^{N \times M}`, the hyperedge weights
    :math:`\mathbf{W} = \mathrm{diag}(w)`, and the degrees :math:`D_{ii} = \sum_e w_e H_{ie}`,
    :math:`B_{ee} = \sum_i H_{ie}`. A node without hyperedges, and a hyperedge without nodes, give zeros. An
    incidence that is listed twice counts twice.

    With attention, :math:`H_{ie} = \alpha_{ie}` (eq. 8 of the paper) in the product **and** in both degrees, so that
    a constant signal stays constant.

    The signature and the parameter names are those of :class:`torch_geometric.nn.HypergraphConv`. Two differences,
    both where PyG 2.8 departs from the formula: the hyperedge weights do enter the product, and the degrees are
    those of the attended incidence.

    Args:
        in_channels: size of each input sample, or ``-1`` to derive it from the first input.
        out_channels: size of each output sample (of each head).
        use_attention: learn the entries of the incidence matrix.
        attention_mode: ``"node"`` normalises over the nodes of a hyperedge, ``"edge"`` over the hyperedges of a node.
        heads: number of attention heads.
        concat: concatenate the heads, or else average them.
        negative_slope: slope of the leaky ReLU of the attention scores.
        dropout: dropout probability of the attention coefficients.
        bias: learn an additive bias.
        **kwargs: further arguments of :class:`torch_geometric.nn.conv.MessagePassing`.

    Shapes:
        * input: node features ``[N, in_channels]``, hyperedge index ``[2, nnz]`` (node, hyperedge), hyperedge weights
          ``[M]`` (optional), hyperedge features ``[M, in_channels]`` (optional)
        * output: ``[N, heads * out_channels]``, or ``[N, out_channels]`` where the heads are averaged

    Example:
        >>> conv = HypergraphConv(8, 4)
        >>> conv(torch.randn(3, 8), torch.tensor([[0, 1, 1, 2], [0, 0, 1, 1]])).shape
        torch.Size([3, 4])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        use_attention: bool = False,
        attention_mode: str = "node",
        heads: int = 1,
        concat: bool = True,
        negative_slope: float = 0.2,
        dropout: float = 0,
        bias: bool = True,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("aggr", "add")
        super().__init__(flow="source_to_target", node_dim=0, **kwargs)
        if attention_mode not in ("node", "edge"):
            raise ValueError(f"'attention_mode' must be 'node' or 'edge' (got {attention_mode!r})")
        if heads < 1 or (heads > 1 and not use_attention):
            raise ValueError(f"'heads' must be 1 without attention, and at least 1 with it (got {heads})")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.use_attention = use_attention
        self.attention_mode = attention_mode
        self.heads = heads
        self.concat = concat
        self.negative_slope = negative_slope
        self.dropout = dropout
        self.lin = Linear(in_channels, heads * out_channels, bias=False, weight_initializer="glorot")
        if use_attention:
            self.att = Parameter(torch.empty(1, heads, 2 * out_channels))
        if bias:
            self.bias = Parameter(torch.empty(heads * out_channels if concat else out_channels))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters afresh."""
        super().reset_parameters()
        self.lin.reset_parameters()
        if self.use_attention:
            glorot(self.att)
        zeros(self.bias)

    def forward(
        self,
        x: Tensor,
        hyperedge_index: Tensor | Incidence,
        hyperedge_weight: Tensor | None = None,
        hyperedge_attr: Tensor | None = None,
        num_edges: int | None = None,
    ) -> Tensor:
        """Run the layer.

        Args:
            x: node features ``[N, in_channels]``.
            hyperedge_index: entries of the incidence matrix ``[2, nnz]``: node and hyperedge of each; or an
                :class:`~hyperlearn_pyg.ops.Incidence`, whose two compressed forms are then reused.
            hyperedge_weight: weights ``[M]``; ones where absent.
            hyperedge_attr: hyperedge features ``[M, in_channels]`` for attention; where absent, the mean of the
                members' features.
            num_edges: the number of hyperedges ``M``; where absent, taken from the weights, the features or the
                largest index.

        Raises:
            ValueError: a shape or an index does not fit.
        """
        inc = self._incidence(x, hyperedge_index, hyperedge_weight, hyperedge_attr, num_edges)
        _check_rows("hyperedge_weight", hyperedge_weight, inc.size[1])
        _check_rows("hyperedge_attr", hyperedge_attr, inc.size[1])
        if not self.use_attention:
            out = _convolve(inc, self.lin(x), hyperedge_weight, None)
        else:
            out = self._attend(inc, x, hyperedge_weight, hyperedge_attr)
        return out if self.bias is None else out + self.bias

    def _incidence(
        self, x: Tensor, index: Tensor | Incidence, weight: Tensor | None, attr: Tensor | None, num_edges: int | None
    ) -> Incidence:
        if isinstance(index, Incidence):
            if index.size[0] != x.size(0):
                raise ValueError(f"'x' must have {index.size[0]} rows, as the incidence (got {x.size(0)})")
            return index
        if num_edges is None:
            given = weight if weight is not None else attr
            num_edges = given.size(0) if given is not None else int(index[1].max()) + 1 if index.numel() else 0
        return incidence(index, (x.size(0), num_edges))

    def _attend(self, inc: Incidence, x: Tensor, weight: Tensor | None, attr: Tensor | None) -> Tensor:
        if attr is None:
            attr = spmm(inc, x, transpose=True) * safe_inverse(inc.col_degree().to(x.dtype))[:, None]
        x = self.lin(x).view(-1, self.heads, self.out_channels)
        attr = self.lin(attr).view(-1, self.heads, self.out_channels)
        att_node, att_edge = self.att.split(self.out_channels, dim=-1)
        # <att, [x_i || x_e]> splits into a part per node and a part per hyperedge
        node_score, edge_score = (x * att_node).sum(-1), (attr * att_edge).sum(-1)
        row, col = inc.index.long()
        alpha = F.leaky_relu(node_score[row] + edge_score[col], self.negative_slope)
        if self.attention_mode == "node":
            alpha = softmax(alpha, col, num_nodes=inc.size[1])
        else:
            alpha = softmax(alpha, row, num_nodes=inc.size[0])
        alpha = F.dropout(alpha, p=self.dropout, training=self.training)
        outs = [_convolve(inc, x[:, h], weight, alpha[:, h]) for h in range(self.heads)]
        return torch.cat(outs, dim=-1) if self.concat else torch.stack(outs).mean(0)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels})"


def _convolve(inc: Incidence, x: Tensor, weight: Tensor | None, values: Tensor | None) -> Tensor:
    """Return D^-1 H W B^-1 H^T x, where ``values`` are the entries of H."""
    middle = safe_inverse(inc.col_degree(values).to(x.dtype))
    if weight is not None:
        middle = middle * weight.to(x.dtype)
    if weight is None:
        degree = inc.row_degree(values).to(x.dtype)
    else:
        degree = spmm(inc, weight[:, None].to(x.dtype), values).squeeze(1)
    out = spmm(inc, x, values, transpose=True) * middle[:, None]
    return spmm(inc, out, values) * safe_inverse(degree)[:, None]


def _check_rows(name: str, value: Tensor | None, rows: int) -> None:
    if value is not None and value.size(0) != rows:
        raise ValueError(f"'{name}' must have {rows} rows, one per hyperedge (got {value.size(0)})")
