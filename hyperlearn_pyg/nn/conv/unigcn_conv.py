from __future__ import annotations

from torch import Tensor
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.nn.inits import zeros

from hyperlearn_pyg.nn.conv._round_trip import RoundTripConv, edge_size, member_mean, node_degree, weighted
from hyperlearn_pyg.nn.conv._step import Step, propagate, rows_back, rows_first
from hyperlearn_pyg.ops.incidence import safe_inverse
from hyperlearn_pyg.ops.spmm import spmm


class UniGCNConv(RoundTripConv):
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
        in_channels: size of each input sample, or ``-1`` to derive it from the first input.
        out_channels: size of each output sample.
        bias: learn an additive bias.
        add_self_loops: give every node a hyperedge of its own.
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
        in_channels: int,
        out_channels: int,
        bias: bool = True,
        *,
        add_self_loops: bool = False,
        cached: bool = True,
        validate: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, cached=cached, validate=validate)
        self.add_self_loops = add_self_loops
        self.lin = Linear(in_channels, out_channels, bias=False, weight_initializer="glorot")
        self.add_bias(bias, out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters afresh."""
        self.lin.reset_parameters()
        zeros(self.bias)

    def convolve(self, step: Step, keep_edges: bool) -> tuple[Tensor, Tensor]:
        """Return the new features of nodes and hyperedges; the linear map acts on the narrower side."""
        early = keep_edges or self.out_channels <= step.x.size(-1)
        x, shape = rows_first(self.lin(step.x) if early else step.x)
        degree = node_degree(step) + int(self.add_self_loops)
        mean_degree = spmm(step.inc, degree[:, None], step.values, transpose=True).squeeze(1)
        mean_degree = mean_degree * safe_inverse(edge_size(step))
        edges = member_mean(step, x)
        scale = weighted(step, safe_inverse(mean_degree, 0.5)), safe_inverse(degree, 0.5)
        out = propagate(step.inc, edges, step.values, scale, transpose=False)
        if self.add_self_loops:
            out = out + x * safe_inverse(degree)[:, None]  # of {i}: mean x_i, mean degree d_i
        out, edges = rows_back(out, shape), rows_back(edges, shape)
        out = out if early else self.lin(out)
        return (out if self.bias is None else out + self.bias), edges
