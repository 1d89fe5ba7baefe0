from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import LayerNorm, Module, Parameter
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.nn.inits import glorot
from torch_geometric.nn.models import MLP

from hyperlearn_pyg.nn.conv._attention import attend, head_scores, join_heads, split_heads
from hyperlearn_pyg.nn.conv._layer import check_channels, check_dropout
from hyperlearn_pyg.nn.conv._round_trip import Attended, RoundTripConv, multiplicity
from hyperlearn_pyg.nn.conv._step import Step
from hyperlearn_pyg.ops.multiset import multiset_softmax
from hyperlearn_pyg.ops.softmax import spread


class AllSetTransformerConv(RoundTripConv):
    r"""AllSetTransformer (Chien, Pan, Peng and Milenkovic, You are AllSet, ICLR 2022): attention by learnt queries.

    .. math::
        \mathbf{h}_e = \mathrm{ReLU} \left( f_E \{ (H_{ie}, \mathbf{x}_i) \}_i \right), \qquad
        \mathbf{x}^{\prime}_i = f_V \{ (w_e H_{ie}, \mathbf{h}_e) \}_e

    with the multiset functions (eq. 7 and 8 of the paper)

    .. math::
        f \{ (m_j, \mathbf{z}_j) \}_j = \mathrm{LN}_1(\mathbf{y} + \mathrm{MLP}(\mathbf{y})), \qquad
        \mathbf{y} = \mathrm{LN}_0 \left( \boldsymbol{\theta} + \Big\Vert_{k=1}^{K} \sum_j
        \frac{m_j \exp (\boldsymbol{\theta}_k^{\top} \mathbf{W}^K_k \mathbf{z}_j)}
        {\sum_l m_l \exp (\boldsymbol{\theta}_k^{\top} \mathbf{W}^K_k \mathbf{z}_l)}
        \mathbf{W}^V_k \mathbf{z}_j \right)

    with a learnt query :math:`\boldsymbol{\theta}_k` for each of the :math:`K` heads, affine maps
    :math:`\mathbf{W}^K, \mathbf{W}^V` (as in the authors' code), layer norms, the entries :math:`H_{ie}` of the
    incidence matrix (ones, or the incidence weights; an incidence that is listed twice counts twice) and the hyperedge
    weights :math:`w_e`. A node without hyperedges gives :math:`f_V` of the empty set, in which the sum is zero.

    Args:
        in_channels: size of each input sample, or ``-1`` to derive it from the first input; a pair with ``direction``.
        out_channels: size of each output sample and of the hyperedge features, all heads together.
        heads: number of attention heads, a divisor of ``out_channels``.
        num_layers: number of linear maps of the perceptron behind the attention.
        dropout: dropout probability of the hyperedge features.
        direction: ``"to_hyperedge"`` or ``"to_node"`` for half of the way, from a pair as ``x``; or ``"auto"``.
        cached: keep the compressed incidence of each index tensor as long as the tensor lives unchanged.
        validate: check that the index lies in range (reads the index once per new tensor).

    Shapes:
        * input: node features ``[*, N, in_channels]``; hyperedge index ``[2, nnz]`` (node, hyperedge); hyperedge
          weights ``[M]``
        * output: ``[*, N, out_channels]``, with ``return_hyperedges`` also ``[*, M, out_channels]``

    Raises:
        ValueError: ``heads`` does not divide ``out_channels``, or channels, a shape or an index do not fit.

    Example:
        >>> conv = AllSetTransformerConv(8, 4, heads=2)
        >>> conv(torch.randn(3, 8), torch.tensor([[0, 1, 1, 2], [0, 0, 1, 1]])).shape
        torch.Size([3, 4])
    """

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        heads: int = 1,
        num_layers: int = 2,
        dropout: float = 0.0,
        *,
        direction: str = "auto",
        cached: bool = True,
        validate: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, direction=direction, cached=cached, validate=validate)
        check_channels("heads", heads)
        check_channels("num_layers", num_layers)
        if out_channels % heads:
            raise ValueError(f"'heads' must divide 'out_channels' (got {heads} and {out_channels})")
        self.heads = heads
        self.num_layers = num_layers
        check_dropout(dropout)
        self.dropout = dropout
        source = self.source_channels
        if direction != "to_node":
            self.into_edges = SetAttention(source, out_channels, heads, num_layers)
        if direction != "to_hyperedge":
            width = source if direction == "to_node" else out_channels
            self.into_nodes = SetAttention(width, out_channels, heads, num_layers)

    def reset_parameters(self) -> None:
        """Draw all parameters afresh."""
        for half in self.children():
            if isinstance(half, SetAttention):
                half.reset_parameters()

    def to_hyperedges(self, step: Step, x: Tensor) -> Attended:
        """Return the function of the members of each hyperedge, and the attention to them."""
        edges, alpha = self.into_edges(step, x, step.values, transpose=True)
        self.show(alpha.flatten(1))
        return edges.relu(), alpha

    def to_nodes(self, step: Step, edges: Tensor, x: Tensor | None) -> Attended:
        """Return the function of the hyperedges of each node, and the attention to them."""
        edges = F.dropout(edges, p=self.dropout, training=self.training)
        out, alpha = self.into_nodes(step, edges, multiplicity(step), transpose=False)
        self.show(alpha.flatten(1))
        return out, alpha

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, heads={self.heads})"


class SetAttention(Module):
    """One half of the way: attention of learnt queries over the members of every set.

    Args:
        in_channels: size of each member, or ``-1``.
        out_channels: size of each set.
        heads: number of attention heads, a divisor of ``out_channels``.
        num_layers: number of linear maps of the perceptron.
    """

    def __init__(self, in_channels: int, out_channels: int, heads: int, num_layers: int) -> None:
        super().__init__()
        self.heads = heads
        self.lin_key = Linear(in_channels, out_channels, weight_initializer="glorot")
        self.lin_value = Linear(in_channels, out_channels, weight_initializer="glorot")
        self.query = Parameter(torch.empty(heads, out_channels // heads))
        self.norm0, self.norm1 = LayerNorm(out_channels), LayerNorm(out_channels)
        self.mlp = MLP([out_channels] * (num_layers + 1), norm=None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters afresh."""
        for module in (self.lin_key, self.lin_value, self.norm0, self.norm1, self.mlp):
            module.reset_parameters()
        glorot(self.query)

    def forward(self, step: Step, x: Tensor, count: Tensor | None, *, transpose: bool) -> tuple[Tensor, Tensor]:
        """Return ``[*, sets, out_channels]`` and the attention coefficients ``[nnz, *, heads]``.

        Args:
            step: the call; its hyperedges, where ``transpose``, or else its nodes are the sets.
            x: the members ``[*, members, in_channels]``.
            count: how often each incidence counts ``[nnz]``; once where absent.
            transpose: the sets are the hyperedges.
        """
        keys, _ = split_heads(self.lin_key(x), self.heads)
        score = spread(head_scores(keys, self.query), step.inc.index[0 if transpose else 1])
        alpha = multiset_softmax(step.inc, score, count, by_row=not transpose)
        values, shape = split_heads(self.lin_value(x), self.heads)
        out = join_heads(attend(step, values, alpha, transpose=transpose), shape, self.heads)
        out = self.norm0(out + self.query.flatten())
        return self.norm1(out + self.mlp(out)), alpha.view(alpha.size(0), *shape, self.heads)
