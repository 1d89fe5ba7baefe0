from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn.models import MLP

from hyperlearn_pyg.nn.conv._layer import check_channels, check_choice, check_dropout
from hyperlearn_pyg.nn.conv._round_trip import Attended, RoundTripConv, edge_size, node_degree, weighted
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
        in_channels: size of each input sample, or ``-1`` to derive it from the first input; a pair with ``direction``.
        out_channels: size of each output sample.
        hidden_channels: size of the hyperedge features and of all hidden layers; where absent, ``out_channels``.
        num_layers: number of linear maps of each perceptron.
        aggr: ``"sum"``, the paper's formula, or ``"mean"``.
        dropout: dropout probability inside the perceptrons and between the two halves.
        norm: put a layer norm behind each hidden layer.
        direction: ``"to_hyperedge"`` or ``"to_node"`` for half of the way, from a pair as ``x``; or ``"auto"``.
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
        in_channels: int | tuple[int, int],
        out_channels: int,
        hidden_channels: int | None = None,
        num_layers: int = 2,
        aggr: str = "sum",
        dropout: float = 0.0,
        norm: bool = True,
        *,
        direction: str = "auto",
        cached: bool = True,
        validate: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, direction=direction, cached=cached, validate=validate)
        hidden = out_channels if hidden_channels is None else hidden_channels
        check_channels("hidden_channels", hidden)
        check_channels("num_layers", num_layers)
        check_choice("aggr", aggr, ("sum", "mean"))
        self.hidden_channels = hidden
        self.num_layers = num_layers
        self.aggr = aggr
        check_dropout(dropout)
        self.dropout = dropout
        self.norm = norm
        first, last = self.source_channels, out_channels
        if direction != "to_node":
            self.phi_edge = self._mlp(first, hidden)
            self.rho_edge = self._mlp(hidden, last if direction == "to_hyperedge" else hidden)
        if direction != "to_hyperedge":
            self.phi_node = self._mlp(first if direction == "to_node" else hidden, hidden)
            self.rho_node = self._mlp(hidden, last)

        if direction == "auto":
            self.channel_roles = self._roles()

    def _roles(self) -> dict[str, str]:
        """Return what the weights run over; all hidden channels are one kind."""
        last = f"rho_node.lins.{self.num_layers - 1}"
        halves = ("phi_edge", "rho_edge", "phi_node", "rho_node")
        norms = [f"{half}.norms.{place}.in_channels" for half in halves for place in range(self.num_layers - 1)]
        return {
            "in_channels": "in",
            "out_channels": "out",
            "hidden_channels": "hidden",
            "phi_edge.lins.0.weight": "hidden in",
            f"{last}.weight": "out hidden",
            f"{last}.bias": "out",
            "*.lins.*.weight": "hidden hidden",
            "*.bias": "hidden",
            "*.norms.*.weight": "hidden",
            **(dict.fromkeys(norms, "hidden") if self.norm else {}),
        }

    def _mlp(self, first: int, last: int) -> MLP:
        widths = [first, *[self.hidden_channels] * (self.num_layers - 1), last]
        kind = {"norm": "LayerNorm", "norm_kwargs": {"mode": "node"}} if self.norm else {"norm": None}
        return MLP(widths, dropout=float(self.dropout), act_first=True, **kind)

    def reset_parameters(self) -> None:
        """Draw all parameters afresh."""
        for mlp in self.children():
            if isinstance(mlp, MLP):
                mlp.reset_parameters()

    def to_hyperedges(self, step: Step, x: Tensor) -> Attended:
        """Return the function of the members of each hyperedge."""
        rows, shape = rows_first(self.phi_edge(x).relu())
        scale = (None, safe_inverse(edge_size(step)) if self.aggr == "mean" else None)
        edges = rows_back(propagate(step.inc, rows, step.sent, scale, transpose=True), shape)
        return self.rho_edge(edges).relu(), None

    def to_nodes(self, step: Step, edges: Tensor, x: Tensor | None) -> Attended:
        """Return the function of the hyperedges of each node."""
        edges = F.dropout(edges, p=self.dropout, training=self.training)
        rows, shape = rows_first(self.phi_node(edges).relu())
        scale = (weighted(step), safe_inverse(node_degree(step)) if self.aggr == "mean" else None)
        return self.rho_node(rows_back(propagate(step.inc, rows, step.sent, scale, transpose=False), shape)), None

    def __repr__(self) -> str:
        sizes = f"{self.in_channels}, {self.out_channels}, hidden_channels={self.hidden_channels}"
        return f"{type(self).__name__}({sizes}, num_layers={self.num_layers}, aggr={self.aggr!r})"
