from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.nn.inits import zeros
from torch_geometric.nn.resolver import activation_resolver

from hyperlearn_pyg.nn.conv._layer import check_channels
from hyperlearn_pyg.nn.conv._round_trip import Attended, RoundTripConv, edge_size, node_degree
from hyperlearn_pyg.nn.conv._step import Step, propagate, rows_back, rows_first
from hyperlearn_pyg.ops.incidence import safe_inverse
from hyperlearn_pyg.ops.spmm import spmm


class HNHNConv(RoundTripConv):
    r"""HNHN (Dong, Sawin and Bengio, arXiv:2006.12278): hyperedges are neurons with a nonlinearity of their own.

    .. math::
        \mathbf{h}_e = \sigma \left( \frac{\sum_i H_{ie} d_i^{\beta} (\mathbf{\Theta}_E \mathbf{x}_i + \mathbf{b}_E)}
        {\sum_i H_{ie} d_i^{\beta}} \right), \qquad
        \mathbf{x}^{\prime}_i = \frac{\sum_e w_e H_{ie} |e|^{\alpha} \, \mathbf{\Theta}_V \mathbf{h}_e}
        {\sum_e w_e H_{ie} |e|^{\alpha}} + \mathbf{b}_V

    with the entries :math:`H_{ie}` of the incidence matrix (ones, or the incidence weights; an incidence that is listed
    twice counts twice), the hyperedge weights :math:`w_e`, :math:`|e| = \sum_i H_{ie}` and
    :math:`d_i = \sum_e w_e H_{ie}`. :math:`\alpha, \beta < 0` lessen the influence of large hyperedges and of nodes of
    high degree, at 0 all count alike. The nonlinearity that the paper also puts behind the nodes is left to the model.
    A node without hyperedges gives zeros (before the bias).

    Args:
        in_channels: size of each input sample, or ``-1`` to derive it from the first input; a pair with ``direction``.
        out_channels: size of each output sample.
        hidden_channels: size of the hyperedge features; where absent, ``out_channels``.
        alpha: power of the hyperedge size.
        beta: power of the node degree.
        act: the hyperedges' nonlinearity :math:`\sigma`, a callable or its name in torch.
        bias: learn both biases.
        direction: ``"to_hyperedge"`` or ``"to_node"`` for half of the way, from a pair as ``x``; or ``"auto"``.
        cached: keep the compressed incidence of each index tensor as long as the tensor lives unchanged.
        validate: check that the index lies in range (reads the index once per new tensor).

    Shapes:
        * input: node features ``[*, N, in_channels]``; hyperedge index ``[2, nnz]`` (node, hyperedge); hyperedge
          weights ``[M]``
        * output: ``[*, N, out_channels]``, with ``return_hyperedges`` also ``[*, M, hidden_channels]``

    Raises:
        ValueError: a number of channels, a shape or an index does not fit.

    Example:
        >>> conv = HNHNConv(8, 4, hidden_channels=16)
        >>> conv(torch.randn(3, 8), torch.tensor([[0, 1, 1, 2], [0, 0, 1, 1]])).shape
        torch.Size([3, 4])
    """

    channel_roles: Mapping[str, str] | None = {
        "in_channels": "in",
        "out_channels": "out",
        "hidden_channels": "hidden",
        "lin_edge.weight": "hidden in",
        "lin_edge.bias": "hidden",
        "lin_node.weight": "out hidden",
        "bias": "out",
    }

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        hidden_channels: int | None = None,
        alpha: float = -1.5,
        beta: float = -0.5,
        act: str | Callable[[Tensor], Tensor] = "relu",
        bias: bool = True,
        *,
        direction: str = "auto",
        cached: bool = True,
        validate: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, direction=direction, cached=cached, validate=validate)
        hidden_channels = out_channels if hidden_channels is None else hidden_channels
        check_channels("hidden_channels", hidden_channels)
        self.hidden_channels = hidden_channels
        self.alpha = alpha
        self.beta = beta
        self.act = activation_resolver(act)
        source = self.source_channels
        if direction != "to_node":
            width = out_channels if direction == "to_hyperedge" else hidden_channels
            self.lin_edge = Linear(source, width, bias=bias, weight_initializer="glorot")
        if direction != "to_hyperedge":
            width = source if direction == "to_node" else hidden_channels
            self.lin_node = Linear(width, out_channels, bias=False, weight_initializer="glorot")
        self.add_bias(bias and direction != "to_hyperedge", out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters afresh."""
        for lin in self.children():
            if isinstance(lin, Linear):
                lin.reset_parameters()
        zeros(self.bias)

    def to_hyperedges(self, step: Step, x: Tensor) -> Attended:
        """Return the hyperedges' nonlinearity of the means of the members, each by a power of its degree."""
        x, shape = rows_first(self.lin_edge(x))
        by_degree = _power(node_degree(step), self.beta)
        total = spmm(step.inc, by_degree[:, None], step.values, transpose=True).squeeze(1)
        edges = propagate(step.inc, x, step.sent, (by_degree, safe_inverse(total)), transpose=True)
        return self.act(rows_back(edges, shape)), None

    def to_nodes(self, step: Step, edges: Tensor, x: Tensor | None) -> Attended:
        """Return the means of the hyperedges, each by a power of its size."""
        rows, shape = rows_first(self.lin_node(edges))
        by_size = _power(edge_size(step), self.alpha)
        by_size = by_size if step.weight is None else by_size * step.weight.to(by_size.dtype)
        total = spmm(step.inc, by_size[:, None], step.values).squeeze(1)
        out = propagate(step.inc, rows, step.sent, (by_size, safe_inverse(total)), transpose=False)
        return self.biased(rows_back(out, shape)), None

    def __repr__(self) -> str:
        sizes = f"{self.in_channels}, {self.out_channels}, hidden_channels={self.hidden_channels}"
        return f"{type(self).__name__}({sizes}, alpha={self.alpha}, beta={self.beta})"


def _power(degree: Tensor, power: float) -> Tensor:
    return torch.ones_like(degree) if power == 0 else safe_inverse(degree, -power)
