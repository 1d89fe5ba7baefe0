from __future__ import annotations

from torch import Tensor

from hyperlearn_pyg.nn.conv._round_trip import Attended, edge_size, node_degree, weighted
from hyperlearn_pyg.nn.conv._step import Step, propagate
from hyperlearn_pyg.nn.conv._uni import UniConv
from hyperlearn_pyg.ops.incidence import safe_inverse
from hyperlearn_pyg.ops.spmm import spmm


class UniGCNConv(UniConv):
    r"""UniGCN (Huang and Yang, UniGNN, IJCAI 2021): GCN's normalisation, by the mean degree of a hyperedge's members.

    .. math::
        \mathbf{x}^{\prime}_i = \frac{1}{\sqrt{d_i}} \sum_{e} w_e H_{ie} \frac{1}{\sqrt{d_e}} \, \mathbf{\Theta}
        \mathbf{h}_e + \mathbf{b}, \qquad
        \mathbf{h}_e = \frac{1}{|e|} \sum_{i} H_{ie} \mathbf{x}_i, \qquad
        d_e = \frac{1}{|e|} \sum_{i} H_{ie} d_i

    with the entries :math:`H_{ie}` of the incidence matrix (ones, or the incidence weights; an incidence that is listed
    twice counts twice), the hyperedge weights :math:`w_e`, :math:`|e| = \sum_i H_{ie}` and
    :math:`d_i = \sum_e w_e H_{ie}`. Nodes without hyperedges and hyperedges without nodes give zeros (before the
    bias). With ``add_self_loops`` every node has one more hyperedge, of weight one, that holds it alone.

    Args:
        in_channels: size of each input sample, or ``-1`` to derive it from the first input; a pair with ``direction``.
        out_channels: size of each output sample.
        bias: learn an additive bias.
        add_self_loops: give every node a hyperedge of its own.
        direction: ``"to_hyperedge"`` or ``"to_node"`` for half of the way, from a pair as ``x``; or ``"auto"``.
        cached: keep the compressed incidence of each index tensor as long as the tensor lives unchanged.
        validate: check that the index lies in range (reads the index once per new tensor).

    Shapes:
        * input: node features ``[*, N, in_channels]``; hyperedge index ``[2, nnz]`` (node, hyperedge); hyperedge
          weights ``[M]``
        * output: ``[*, N, out_channels]``, with ``return_hyperedges`` also ``[*, M, out_channels]``

    Raises:
        ValueError: a number of channels, a shape or an index does not fit.

    Example:
        >>> conv = UniGCNConv(8, 4)
        >>> conv(torch.randn(3, 8), torch.tensor([[0, 1, 1, 2], [0, 0, 1, 1]])).shape
        torch.Size([3, 4])
    """

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        bias: bool = True,
        *,
        add_self_loops: bool = False,
        direction: str = "auto",
        cached: bool = True,
        validate: bool = True,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            bias,
            reads_nodes=add_self_loops,
            direction=direction,
            cached=cached,
            validate=validate,
        )
        self.add_self_loops = add_self_loops
        self.reset_parameters()

    def gather(self, step: Step, edges: Tensor, x: Tensor) -> Attended:
        """Return the sum of the hyperedges, both degrees' roots taken out."""
        degree = node_degree(step) + int(self.add_self_loops)
        mean_degree = spmm(step.inc, degree[:, None], step.values, transpose=True).squeeze(1)
        mean_degree = mean_degree * safe_inverse(edge_size(step))
        scale = weighted(step, safe_inverse(mean_degree, 0.5)), safe_inverse(degree, 0.5)
        out = propagate(step.inc, edges, step.sent, scale, transpose=False)
        if self.add_self_loops:
            out = out + x * safe_inverse(degree)[:, None]  # of {i}: mean x_i, mean degree d_i
        return out, None
