from __future__ import annotations

from torch import Tensor
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.nn.inits import zeros

from hyperlearn_pyg.nn.conv._round_trip import RoundTripConv, check_choice, member_mean, node_degree, weighted
from hyperlearn_pyg.nn.conv._step import Step, propagate, rows_back, rows_first
from hyperlearn_pyg.ops.incidence import safe_inverse


class UniSAGEConv(RoundTripConv):
    r"""UniSAGE (Huang and Yang, UniGNN, IJCAI 2021): a node beside the sum, or the mean, of its hyperedges.

    .. math::
        \mathbf{x}^{\prime}_i = \mathbf{\Theta} \left( \mathbf{x}_i + \sum_{e} w_e H_{ie} \mathbf{h}_e \right)
        + \mathbf{b}, \qquad
        \mathbf{h}_e = \frac{1}{|e|} \sum_{i} H_{ie} \mathbf{x}_i

    with the entries :math:`H_{ie}` of the incidence matrix (ones, or the incidence weights; an incidence that is listed
    twice counts twice), the hyperedge weights :math:`w_e`, :math:`|e| = \sum_i H_{ie}` and
    :math:`d_i = \sum_e w_e H_{ie}`, by which the sum over hyperedges is divided where ``aggr="mean"``. A node without
    hyperedges keeps :math:`\mathbf{\Theta} \mathbf{x}_i`.

    Args:
        in_channels: size of each input sample, or ``-1`` to derive it from the first input.
        out_channels: size of each output sample.
        aggr: ``"sum"``, as in the authors' experiments, or ``"mean"``: how a node's hyperedges are joined.
        bias: learn an additive bias.
        cached: keep the compressed incidence of each index tensor as long as the tensor lives unchanged.
        validate: check that the index lies in range (reads the index once per new tensor).

    Shapes:
        * input: node features ``[*, N, in_channels]``; hyperedge index ``[2, nnz]`` (node, hyperedge); hyperedge
          weights ``[M]``
        * output: ``[*, N, out_channels]``, with ``return_hyperedges`` also ``[*, M, out_channels]``

    Raises:
        ValueError: ``aggr`` is unknown, or a number of channels, a shape or an index does not fit.

    Example:
        >>> conv = UniSAGEConv(8, 4, aggr="mean")
        >>> conv(torch.randn(3, 8), torch.tensor([[0, 1, 1, 2], [0, 0, 1, 1]])).shape
        torch.Size([3, 4])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        aggr: str = "sum",
        bias: bool = True,
        *,
        cached: bool = True,
        validate: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, cached=cached, validate=validate)
        check_choice("aggr", aggr, ("sum", "mean"))
        self.aggr = aggr
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
        edges = member_mean(step, x)
        after = safe_inverse(node_degree(step)) if self.aggr == "mean" else None
        out = x + propagate(step.inc, edges, step.values, (weighted(step), after), transpose=False)
        out, edges = rows_back(out, shape), rows_back(edges, shape)
        out = out if early else self.lin(out)
        return (out if self.bias is None else out + self.bias), edges

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, aggr={self.aggr!r})"
