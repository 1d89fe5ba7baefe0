from __future__ import annotations

from torch import Tensor

from hyperlearn_pyg.nn.conv._layer import check_choice
from hyperlearn_pyg.nn.conv._round_trip import Attended, node_degree, weighted
from hyperlearn_pyg.nn.conv._step import Step, propagate
from hyperlearn_pyg.nn.conv._uni import UniConv
from hyperlearn_pyg.ops.incidence import safe_inverse


class UniSAGEConv(UniConv):
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
        in_channels: size of each input sample, or ``-1`` to derive it from the first input; a pair with ``direction``.
        out_channels: size of each output sample.
        aggr: ``"sum"``, as in the authors' experiments, or ``"mean"``: how a node's hyperedges are joined.
        bias: learn an additive bias.
        direction: ``"to_hyperedge"`` or ``"to_node"`` for half of the way, from a pair as ``x``; or ``"auto"``.
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
        in_channels: int | tuple[int, int],
        out_channels: int,
        aggr: str = "sum",
        bias: bool = True,
        *,
        direction: str = "auto",
        cached: bool = True,
        validate: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, bias, direction=direction, cached=cached, validate=validate)
        check_choice("aggr", aggr, ("sum", "mean"))
        self.aggr = aggr
        self.reset_parameters()

    def gather(self, step: Step, edges: Tensor, x: Tensor) -> Attended:
        """Return the sum, or the mean, of the hyperedges and the node itself."""
        after = safe_inverse(node_degree(step)) if self.aggr == "mean" else None
        return x + propagate(step.inc, edges, step.sent, (weighted(step), after), transpose=False), None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, aggr={self.aggr!r})"
