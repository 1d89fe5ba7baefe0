from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter
from torch_geometric.nn.inits import glorot

from hyperlearn_pyg.nn.conv._attention import attend, head_scores, merge_heads
from hyperlearn_pyg.nn.conv._layer import check_channels, check_dropout
from hyperlearn_pyg.nn.conv._round_trip import Attended, multiplicity
from hyperlearn_pyg.nn.conv._step import HyperedgeIndex, Step, rows_back
from hyperlearn_pyg.nn.conv._uni import UniConv
from hyperlearn_pyg.ops.incidence import Incidence
from hyperlearn_pyg.ops.multiset import multiset_softmax
from hyperlearn_pyg.ops.softmax import spread


class UniGATConv(UniConv):
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
        in_channels: size of each input sample, or ``-1`` to derive it from the first input; a pair with ``direction``.
        out_channels: size of each output sample (of each head).
        heads: number of attention heads.
        concat: concatenate the heads, or else average them.
        negative_slope: slope of the leaky ReLU of the attention scores.
        dropout: dropout probability of the attention coefficients.
        bias: learn an additive bias.
        add_self_loops: give every node a hyperedge of its own.
        direction: ``"to_hyperedge"`` or ``"to_node"`` for half of the way, from a pair as ``x``; or ``"auto"``.
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

    by_head = True

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        heads: int = 1,
        concat: bool = True,
        negative_slope: float = 0.2,
        dropout: float = 0.0,
        bias: bool = True,
        *,
        add_self_loops: bool = False,
        direction: str = "auto",
        cached: bool = True,
        validate: bool = True,
    ) -> None:
        check_channels("heads", heads)
        width = heads * out_channels
        super().__init__(
            in_channels,
            out_channels,
            bias,
            width=width,
            bias_width=width if concat else out_channels,
            direction=direction,
            cached=cached,
            validate=validate,
        )
        self.heads = heads
        self.concat = concat
        self.negative_slope = negative_slope
        check_dropout(dropout)
        self.dropout = dropout
        self.add_self_loops = add_self_loops
        if direction != "to_hyperedge":
            self.att = Parameter(torch.empty(heads, 2 * out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters afresh."""
        super().reset_parameters()
        if self.direction != "to_hyperedge":
            glorot(self.att)

    def gather(self, step: Step, edges: Tensor, x: Tensor) -> Attended:
        """Return the attended sum of the hyperedges; nothing of shape ``[nnz, heads, channels]`` is made."""
        x, edges = x.unflatten(1, (-1, self.out_channels)), edges.unflatten(1, (-1, self.out_channels))
        alpha = self._coefficients(step, x, edges)
        shape = step.x.shape[:-2]
        self.show(alpha[: step.inc.nnz])
        kept = F.dropout(alpha, p=self.dropout, training=self.training)
        out = attend(step, edges, kept[: step.inc.nnz], transpose=False)
        out = out + kept[step.inc.nnz :, :, None] * x if self.add_self_loops else out
        return out.flatten(1), alpha.view(alpha.size(0), *shape, self.heads)

    def _coefficients(self, step: Step, x: Tensor, edges: Tensor) -> Tensor:
        """Return the coefficients of the incidences ``[nnz, S * heads]``, and behind them those of the self-loops."""
        # <a, [x_i || h_e]> splits into a part per node and a part per hyperedge
        a_node, a_edge = self.att.split(self.out_channels, dim=-1)
        node, edge = head_scores(x, a_node), head_scores(edges, a_edge)
        inc, count = step.inc, multiplicity(step)
        score = spread(node, inc.index[0]) + spread(edge, inc.index[1])
        if self.add_self_loops:
            index = self.attended_index(step, inc.index)
            inc = Incidence(index, (inc.size[0], inc.size[1] + inc.size[0]), validate=False)
            score = torch.cat([score, node + head_scores(x, a_edge)])
            count = None if count is None else torch.cat([count, count.new_ones(inc.size[0])])
        return multiset_softmax(inc, F.leaky_relu(score, self.negative_slope), count, by_row=True)

    def attended_index(self, step: Step, index: HyperedgeIndex) -> HyperedgeIndex:
        """Return the incidences, and with ``add_self_loops`` one hyperedge more a node behind them."""
        if not self.add_self_loops:
            return index
        loop = torch.arange(step.inc.size[0], device=step.inc.device)
        return torch.cat([step.inc.index.long(), torch.stack([loop, loop + step.inc.size[1]])], dim=1)

    def finish(self, rows: Tensor, shape: torch.Size) -> Tensor:
        """Bring rows ``[n, S * heads * C]`` into the form of the output, heads concatenated or averaged."""
        return merge_heads(rows_back(rows, shape), self.heads, self.concat)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, heads={self.heads})"
