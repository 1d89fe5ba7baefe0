from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.nn.inits import zeros

from hyperlearn_pyg.nn.conv._round_trip import Attended, RoundTripConv, member_mean
from hyperlearn_pyg.nn.conv._step import Step, rows_back, rows_first


class UniConv(RoundTripConv):
    """What the layers of UniGNN share: a hyperedge is the mean of its members, after one linear map.

    A layer implements ``gather``. The linear map acts on the narrower side, where ``by_head`` does not forbid it.

    Args:
        in_channels: size of each input sample, or ``-1``; a pair with ``direction``.
        out_channels: size of each output sample (of each head).
        bias: learn an additive bias.
        width: size behind the linear map, where that is not ``out_channels``.
        reads_nodes: whether nodes read their own features on the way to them.
        bias_width: size of the bias, where that is not ``out_channels``.
        direction: half of the way, or ``"auto"`` for the whole.
        cached: keep the compressed incidence of each index tensor as long as the tensor lives unchanged.
        validate: check that the index lies in range.
    """

    #: Whether the linear map comes before everything.
    by_head = False
    channel_roles: Mapping[str, str] | None = {
        "in_channels": "in",
        "out_channels": "channels",
        "heads": "heads",
        "lin.weight": "wide in",
        "lin_target.weight": "wide target",
        "att": "heads channels*",
        "eps": "-",
        "bias": "out",
    }

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        bias: bool,
        *,
        width: int | None = None,
        bias_width: int | None = None,
        reads_nodes: bool = True,
        direction: str,
        cached: bool,
        validate: bool,
    ) -> None:
        super().__init__(in_channels, out_channels, direction=direction, cached=cached, validate=validate)
        self.reads_nodes = reads_nodes
        self.reads_target = reads_nodes and direction == "to_node"
        width = out_channels if width is None else width
        self.lin = Linear(self.source_channels, width, bias=False, weight_initializer="glorot")
        if isinstance(in_channels, tuple) and direction == "to_node" and reads_nodes:
            self.lin_target = Linear(self.target_channels, width, bias=False, weight_initializer="glorot")
        self.add_bias(bias, out_channels if bias_width is None else bias_width)

    def reset_parameters(self) -> None:
        """Draw all parameters afresh."""
        for lin in self.children():
            if isinstance(lin, Linear):
                lin.reset_parameters()
        zeros(self.bias)

    @abstractmethod
    def gather(self, step: Step, edges: Tensor, x: Tensor) -> Attended:
        """Return the rows of the nodes ``[N, S C]``, of the rows of hyperedges and nodes, both mapped already."""

    def convolve(self, step: Step, keep_edges: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the new features of nodes and hyperedges."""
        early = self.by_head or keep_edges or self.out_channels <= step.x.size(-1)
        x, shape = rows_first(self.lin(step.x) if early else step.x)
        edges = member_mean(step, x)
        out, alpha = self.gather(step, edges, x)
        out = self.finish(out, shape)
        return self.biased(out if early else self.lin(out)), self.finish(edges, shape), alpha

    def to_hyperedges(self, step: Step, x: Tensor) -> Attended:
        """Return the means of the members."""
        rows, shape = rows_first(self.lin(x))
        return self.biased(self.finish(member_mean(step, rows), shape)), None

    def to_nodes(self, step: Step, edges: Tensor, x: Tensor | None) -> Attended:
        """Return the new features of the nodes."""
        rows, shape = rows_first(self.lin(edges))
        if not self.reads_nodes:
            own = rows
        elif x is None:
            raise ValueError(f"{type(self).__name__} reads the nodes themselves: x=(x_hyperedges, x_nodes)")
        else:
            own, _ = rows_first(getattr(self, "lin_target", self.lin)(x))
        out, alpha = self.gather(step, rows, own)
        return self.biased(self.finish(out, shape)), alpha

    def finish(self, rows: Tensor, shape: torch.Size) -> Tensor:
        """Bring rows ``[n, S C]`` into the form of the output."""
        return rows_back(rows, shape)
