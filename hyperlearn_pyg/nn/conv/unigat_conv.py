from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.nn.inits import glorot, zeros

from hyperlearn_pyg.nn.conv._round_trip import (
    RoundTripConv,
    attend,
    check_channels,
    head_scores,
    join_heads,
    member_mean,
    multiplicity,
    split_heads,
)
from hyperlearn_pyg.nn.conv._step import Step
from hyperlearn_pyg.ops.incidence import Incidence
from hyperlearn_pyg.ops.multiset import multiset_softmax
from hyperlearn_pyg.ops.softmax import spread


class UniGATConv(RoundTripConv):
    r"""UniGAT (Huang and Yang, UniGNN, IJCAI 2021): a node attends to its hyperedges.

    .. math::
        \mathbf{x}^{\prime}_i = \sum_{e} \alpha_{ie} \mathbf{\Theta} \mathbf{h}_e + \mathbf{b}, \qquad
        \alpha_{ie} = \frac{w_e H_{ie} \exp s_{ie}}{\sum_{e^{\prime}} w_{e^{\prime}} H_{ie^{\prime}}
        \exp s_{ie^{\prime}}}, \qquad
        s_{ie} = \mathrm{LeakyReLU} \left( \mathbf{a}^{\top} [\mathbf{\Theta} \mathbf{x}_i \, \Vert \,
        \mathbf{\Theta} \mathbf{h}_e] \right)

    with :math:`\mathbf{h}_e = \frac{1}{|e|} \sum_i H_{ie} \mathbf{x}_i`, the entries :math:`H_{ie}` of the incidence
    matrix (ones, or the incidence weights; an incidence that is listed twice counts twice), the hyperedge weights
    :math:`w_e` and :math:`|e| = \sum_i H_{ie}`. This is the formula of the paper; the authors' code scores the
    hyperedge alone. A node without hyperedges gives zeros (before the bias). With ``add_self_loops`` every node has
    one more hyperedge, of weight one, that holds it alone.

    Args:
        in_channels: size of each input sample, or ``-1`` to derive it from the first input.
        out_channels: size of each output sample (of each head).
        heads: number of attention heads.
        concat: concatenate the heads, or else average them.
        negative_slope: slope of the leaky ReLU of the attention scores.
        dropout: dropout probability of the attention coefficients.
        bias: learn an additive bias.
        add_self_loops: give every node a hyperedge of its own.
        cached: keep the compressed incidence of each index tensor as long as the tensor lives unchanged.
        validate: check that the index lies in range (reads the index once per new tensor).

    Shapes:
        * input: node features ``[*, N, in_channels]``; hyperedge index ``[2, nnz]`` (node, hyperedge); hyperedge
          weights ``[M]``
        * output: ``[*, N, heads * out_channels]``, with ``return_hyperedges`` also ``[*, M, heads * out_channels]``
          (``out_channels`` where the heads are averaged)

    Raises:
        ValueError: ``heads`` is below one, or a number of channels, a shape or an index does not fit.

    Example:
        >>> conv = UniGATConv(8, 4, heads=2)
        >>> conv(torch.randn(3, 8), torch.tensor([[0, 1, 1, 2], [0, 0, 1, 1]])).shape
        torch.Size([3, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        heads: int = 1,
        concat: bool = True,
        negative_slope: float = 0.2,
        dropout: float = 0.0,
        bias: bool = True,
        *,
        add_self_loops: bool = False,
        cached: bool = True,
        validate: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, cached=cached, validate=validate)
        check_channels("heads", heads)
        self.heads = heads
        self.concat = concat
        self.negative_slope = negative_slope
        self.dropout = dropout
        self.add_self_loops = add_self_loops
        self.lin = Linear(in_channels, heads * out_channels, bias=False, weight_initializer="glorot")
        self.att = Parameter(torch.empty(heads, 2 * out_channels))
        self.add_bias(bias, heads * out_channels if concat else out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters afresh."""
        self.lin.reset_parameters()
        glorot(self.att)
        zeros(self.bias)

    def convolve(self, step: Step, keep_edges: bool) -> tuple[Tensor, Tensor]:
        """Return the new features of nodes and hyperedges; nothing of shape ``[nnz, heads, channels]`` is made."""
        x, shape = split_heads(self.lin(step.x), self.heads)
        edges = member_mean(step, x.flatten(1)).view(step.inc.size[1], x.size(1), x.size(2))
        alpha, own = self._alpha(step, x, edges)
        out = attend(step, edges, alpha, transpose=False)
        out = out if own is None else out + own[:, :, None] * x
        out, edges = self._finish(out, shape), self._finish(edges, shape)
        return (out if self.bias is None else out + self.bias), edges

    def _alpha(self, step: Step, x: Tensor, edges: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the coefficients of the incidences ``[nnz, heads]``, and of the self-loops ``[N, heads]``."""
        # <a, [x_i || h_e]> splits into a part per node and a part per hyperedge
        a_node, a_edge = self.att.split(self.out_channels, dim=-1)
        node, edge = head_scores(x, a_node), head_scores(edges, a_edge)
        inc, count = step.inc, multiplicity(step)
        score = spread(node, inc.index[0]) + spread(edge, inc.index[1])
        if self.add_self_loops:
            loop = torch.arange(inc.size[0], device=inc.device)
            index = torch.cat([inc.index, torch.stack([loop, loop + inc.size[1]])], dim=1)
            inc = Incidence(index, (inc.size[0], inc.size[1] + inc.size[0]), validate=False)
            score = torch.cat([score, node + head_scores(x, a_edge)])
            count = None if count is None else torch.cat([count, count.new_ones(inc.size[0])])
        alpha = multiset_softmax(inc, F.leaky_relu(score, self.negative_slope), count, by_row=True)
        alpha = F.dropout(alpha, p=self.dropout, training=self.training)
        return alpha[: step.inc.nnz], (alpha[step.inc.nnz :] if self.add_self_loops else None)

    def _finish(self, x: Tensor, shape: torch.Size) -> Tensor:
        out = join_heads(x, shape, self.heads)
        return out if self.concat else out.unflatten(-1, (self.heads, self.out_channels)).mean(-2)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, heads={self.heads})"
