from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Linear, Module, Parameter, ParameterList
from torch.nn import functional as F

from hyperlearn_pyg.ops.incidence import Incidence, safe_inverse
from hyperlearn_pyg.ops.spmm import spmm


class RelationEncoder(Module):
    r"""Hypergraph convolution of one modality over the training relation itself, level by level.

    For each level :math:`l` of a relation (a rating value, say), the items :math:`e` of another slot are hyperedges
    over this modality's items. Each has a learnt vector :math:`\mathbf{E}_l[e] = \sum_{l' \le l} \mathbf{T}_{l'}[e]`
    (cumulative, as levels are ordered), kept by this modality alone: nothing but factors leaves the modality.

    .. math::
        \mathbf{h}_i = \mathrm{ReLU}\Big( \sum_{l} \sum_{e \ni i} \frac{\mathbf{E}_l[e]}{\sqrt{d_i d_e}} \Big)
        \qquad
        \mathbf{A} = \big[ \mathbf{h} \,\|\, \mathrm{ReLU}(\mathbf{X} \mathbf{\Theta} + \mathbf{b}) \big]
        \mathbf{W}_{out}

    with the degrees :math:`d_i`, :math:`d_e` over all levels (the graph auto-encoder of van den Berg, Kipf and
    Welling, arXiv:1706.02263, on hyperedges of any relation; several channels add up before the ReLU). The
    entries that a training step predicts are left out of the sum, degrees included.

    Args:
        channels: ``(num_levels, num_items)`` of each channel: one per relation, slot and other slot.
        out_channels: width of the output.
        in_channels: width of the item features; 0 for none.
        hidden: width of the hyperedge tables.
        feature_hidden: width of the hidden layer of the features.
        zero_channels: the last columns of the output that start at zero (the heads of the biases).
        dropout: dropout probability of the hidden units.
        node_dropout: probability that a whole hyperedge stays silent in a training step.

    Attributes:
        hidden_scale: what the hidden units are multiplied by: 1, unless
            :class:`~hyperlearn_pyg.distributed.strategies.GIST` deals them to workers.

    Shapes:
        * input: features ``[N, in_channels]`` or None; per channel an incidence of size
          ``[N, num_levels * num_items]`` and, optionally, which of its entries count ``[nnz]``
        * output: ``[N, out_channels]``
    """

    def __init__(
        self,
        channels: Sequence[tuple[int, int]],
        out_channels: int,
        *,
        in_channels: int = 0,
        hidden: int = 100,
        feature_hidden: int = 64,
        zero_channels: int = 0,
        dropout: float = 0.0,
        node_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not channels and not in_channels:
            raise ValueError("'channels' is empty and 'in_channels' is 0: the encoder would read nothing")
        self.channels = tuple(channels)
        self.hidden = hidden
        self.zero_channels = zero_channels
        self.dropout = dropout
        self.node_dropout = node_dropout
        self.hidden_scale = 1.0
        self.tables = ParameterList(Parameter(torch.empty(levels, items, hidden)) for levels, items in channels)
        self.features = Linear(in_channels, feature_hidden) if in_channels else None
        width = (hidden if self.channels else 0) + (feature_hidden if in_channels else 0)
        self.out = Linear(width, out_channels)
        self.reset_parameters()

    @property
    def channel_axes(self) -> dict[str, str]:
        """What each dimension of the parameters runs over, for :class:`~hyperlearn_pyg.distributed.strategies.GIST`.

        ``-`` for what all workers have, or the name of hidden channels; ``+`` between those that lie side by side.
        """
        axes = {"tables.*": "- - messages"} if self.channels else {}
        if self.features is not None:
            axes |= {"features.weight": "features -", "features.bias": "features"}
        names = [
            name for name, there in (("messages", self.channels), ("features", self.features is not None)) if there
        ]
        return {**axes, "out.weight": f"- {'+'.join(names)}"}

    def reset_parameters(self) -> None:
        """Draw all parameters afresh."""
        for table in self.tables:
            torch.nn.init.normal_(table, std=0.1)
        if self.features is not None:
            self.features.reset_parameters()
        self.out.reset_parameters()
        if self.zero_channels:
            with torch.no_grad():
                self.out.weight[-self.zero_channels :].zero_()
                self.out.bias[-self.zero_channels :].zero_()

    def forward(
        self, x: Tensor | None, incidences: Sequence[Incidence], keep: Sequence[Tensor | None] | None = None
    ) -> Tensor:
        """Return ``[N, out_channels]``.

        Raises:
            ValueError: the incidences are not those of the channels.
        """
        if len(incidences) != len(self.channels):
            raise ValueError(f"'incidences' must hold one per channel, {len(self.channels)} (got {len(incidences)})")
        parts = []
        if self.channels:
            masks = keep if keep is not None else [None] * len(incidences)
            messages = [self._message(t, i, k, x) for t, i, k in zip(self.tables, incidences, masks, strict=True)]
            parts.append(torch.relu(torch.stack(messages).sum(0) if len(messages) > 1 else messages[0]))
        if self.features is not None and x is not None:
            parts.append(torch.relu(self.features(x)))
        hidden = F.dropout(torch.cat(parts, dim=1), self.dropout, self.training)
        hidden = hidden if self.hidden_scale == 1 else hidden * self.hidden_scale
        out: Tensor = self.out(hidden)
        return out

    def penalty(self) -> Tensor:
        """Return the sum of squares of the hyperedge tables (of the increments from level to level)."""
        total = self.out.weight.new_zeros(())
        for table in self.tables:
            total = total + table.square().sum()
        return total

    def _message(self, table: Tensor, inc: Incidence, keep: Tensor | None, x: Tensor | None) -> Tensor:
        levels, items, width = table.shape
        values = None if keep is None else keep.to(table.dtype)
        degree = inc.col_degree(values).view(levels, items).sum(0)  # of an item, over all levels
        scale = safe_inverse(degree.to(table.dtype), 0.5)
        if self.training and self.node_dropout:
            scale = F.dropout(scale, self.node_dropout)
        edges = (table.cumsum(0) * scale[:, None]).view(levels * items, width)
        node_scale = safe_inverse(inc.row_degree(values).to(table.dtype), 0.5)
        return spmm(inc, edges, values) * node_scale[:, None]
