from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.nn.models import MLP

from hyperlearn_pyg.nn.conv._round_trip import (
    RoundTripConv,
    check_channels,
    check_choice,
    edge_size,
    node_degree,
    weighted,
)
from hyperlearn_pyg.nn.conv._step import Step, propagate, rows_back, rows_first
from hyperlearn_pyg.ops.incidence import safe_inverse


class AllDeepSetsConv(RoundTripConv):
    r"""AllDeepSets (Chien, Pan, Peng and Milenkovic, You are AllSet, ICLR 2022): two learnt functions of multisets.

    .. math::
        \mathbf{h}_e = \mathrm{ReLU} \left( \rho_E \left( \sum_i H_{ie} \, \phi_E(\mathbf{x}_i) \right) \right), \qquad
        \mathbf{x}^{\prime}_i = \rho_V \left( \sum_e w_e H_{ie} \, \phi_V(\mathbf{h}_e) \right)

    with multilayer perceptrons :math:`\phi_E, \rho_E, \phi_V, \rho_V` (a ReLU behind both :math:`\phi`), the entries
    :math:`H_{ie}` of the incidence matrix (ones, or the incidence weights; an incidence that is listed twice counts
    twice) and the hyperedge weights :math:`w_e`. With ``aggr="mean"`` the sums are divided by :math:`\sum_i H_{ie}`
    and :math:`\sum_e w_e H_{ie}`. A node without hyperedges gives :math:`\rho_V(0)`.

    Args:
        in_channels: size of each input sample, or ``-1`` to derive it from the first input.
        out_channels: size of each output sample.
        hidden_channels: size of the hyperedge features and of all hidden layers; where absent, ``out_channels``.
        num_layers: number of linear maps of each perceptron.
        aggr: ``"sum"``, the paper's formula, or ``"mean"``.
        dropout: dropout probability inside the perceptrons and between the two halves.
        norm: put a layer norm behind each hidden layer.
        cached: keep the compressed incidence of each index tensor as long as the tensor lives unchanged.
        validate: check that the index lies in range (reads the index once per new tensor).

    Shapes:
        * input: node features ``[*, N, in_channels]``; hyperedge index ``[2, nnz]`` (node, hyperedge); hyperedge
          weights ``[M]``
        * output: ``[*, N, out_channels]``, with ``return_hyperedges`` also ``[*, M, hidden_channels]``

    Raises:
        ValueError: ``aggr`` is unknown, ``num_layers`` is below one, or channels, a shape or an index do not fit.

    Example:
        >>> conv = AllDeepSetsConv(8, 4, hidden_channels=16)
        >>> conv(torch.randn(3, 8), torch.tensor([[0, 1, 1, 2], [0, 0, 1, 1]])).shape
        torch.Size([3, 4])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden_channels: int | None = None,
        num_layers: int = 2,
        aggr: str = "sum",
        dropout: float = 0.0,
        norm: bool = True,
        *,
        cached: bool = True,
        validate: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, cached=cached, validate=validate)
        hidden = out_channels if hidden_channels is None else hidden_channels
        check_channels("hidden_channels", hidden)
        check_channels("num_layers", num_layers)
        check_choice("aggr", aggr, ("sum", "mean"))
        self.hidden_channels = hidden
        self.num_layers = num_layers
        self.aggr = aggr
        self.dropout = dropout

        def mlp(first: int, last: int) -> MLP:
            widths = [first, *[hidden] * (num_layers - 1), last]
            kind = {"norm": "LayerNorm", "norm_kwargs": {"mode": "node"}} if norm else {"norm": None}
            return MLP(widths, dropout=float(dropout), act_first=True, **kind)

        self.phi_edge, self.rho_edge = mlp(in_channels, hidden), mlp(hidden, hidden)
        self.phi_node, self.rho_node = mlp(hidden, hidden), mlp(hidden, out_channels)

    def reset_parameters(self) -> None:
        """Draw all parameters afresh."""
        for mlp in (self.phi_edge, self.rho_edge, self.phi_node, self.rho_node):
            mlp.reset_parameters()

    def convolve(self, step: Step, keep_edges: bool) -> tuple[Tensor, Tensor]:
        """Return the new features of nodes and hyperedges."""
        mean = self.aggr == "mean"
        x, shape = rows_first(self.phi_edge(step.x).relu())
        into_edges = (None, safe_inverse(edge_size(step)) if mean else None)
        edges = rows_back(propagate(step.inc, x, step.values, into_edges, transpose=True), shape)
        edges = self.rho_edge(edges).relu()
        x = torch.nn.functional.dropout(edges, p=self.dropout, training=self.training)
        x, _ = rows_first(self.phi_node(x).relu())
        into_nodes = (weighted(step), safe_inverse(node_degree(step)) if mean else None)
        out = rows_back(propagate(step.inc, x, step.values, into_nodes, transpose=False), shape)
        return self.rho_node(out), edges

    def __repr__(self) -> str:
        sizes = f"{self.in_channels}, {self.out_channels}, hidden_channels={self.hidden_channels}"
        return f"{type(self).__name__}({sizes}, num_layers={self.num_layers}, aggr={self.aggr!r})"
