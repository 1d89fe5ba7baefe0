from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn import functional as F

from hyperlearn_pyg.nn.encoder.relation import RelationEncoder
from hyperlearn_pyg.ops.incidence import Incidence, safe_inverse
from hyperlearn_pyg.ops.spmm import spmm


class LevelConvEncoder(RelationEncoder):
    r"""Hypergraph convolution of one modality over the training relation, level by level, without hyperedge tables.

    :class:`RelationEncoder` with vectors of the hyperedges that are the (normalised) means of their members:

    .. math::
        \mathbf{E}_l = \mathbf{B}^{-1} \mathbf{H}_l^{\top} \mathbf{D}^{-1/2} \mathbf{X} \sum_{l' \le l} \mathbf{W}_{l'}
        \qquad
        \mathbf{h}_i = \mathrm{ReLU}\Big( D_{ii}^{-1/2} \sum_{l} \sum_{e \ni i} \mathbf{E}_l[e] \Big)

    with degrees over all levels: for one level the symmetric operator of :class:`~hyperlearn_pyg.nn.HypergraphConv`
    (Bai, Zhang and Torr, arXiv:1901.08150, eq. 4; Feng et al., AAAI 2019) on the items of another slot as hyperedges.
    :math:`\mathbf{X}` is the item features or, where there are none, a learnt table of width ``hidden``. It has no
    parameters by hyperedge, and so speaks of hyperedges that training has not seen. The entries that a training step
    predicts are left out, degrees included.

    Args:
        num_items: number of items ``N``.
        channels: ``(num_levels, num_items)`` of each channel: one per relation, slot and other slot.
        out_channels: width of the output.
        in_channels: width of the item features; 0 for none.
        **kwargs: those of :class:`RelationEncoder`.

    Shapes:
        * input: features ``[N, in_channels]`` or None; per channel an incidence of size
          ``[N, num_levels * num_items]`` and, optionally, which of its entries count ``[nnz]``
        * output: ``[N, out_channels]``
    """

    def __init__(
        self,
        num_items: int,
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
        super().__init__(
            [(levels, in_channels or hidden) for levels, _ in channels],  # the tables are maps of the items' signal
            out_channels,
            in_channels=in_channels,
            hidden=hidden,
            feature_hidden=feature_hidden,
            zero_channels=zero_channels,
            dropout=dropout,
            node_dropout=node_dropout,
        )
        self.channels = tuple(channels)
        self.weight = None if in_channels else Parameter(0.1 * torch.randn(num_items, hidden))

    def reset_parameters(self) -> None:
        """Draw all parameters afresh."""
        super().reset_parameters()
        for maps in self.tables:
            torch.nn.init.normal_(maps, std=maps.size(1) ** -0.5)
        weight: Tensor | None = getattr(self, "weight", None)
        if weight is not None:
            torch.nn.init.normal_(weight, std=0.1)

    def signal(self, x: Tensor | None) -> Tensor:
        """Return what the items send ``[N, C]``."""
        if self.weight is not None:
            return self.weight
        if x is None:
            raise ValueError("'x' is missing: the encoder was made for items with features")
        return x

    def _message(self, table: Tensor, inc: Incidence, keep: Tensor | None, x: Tensor | None) -> Tensor:
        x = self.signal(x)
        levels, width = table.size(0), table.size(2)
        values = None if keep is None else keep.to(table.dtype)
        node_scale = safe_inverse(inc.row_degree(values).to(table.dtype), 0.5)[:, None]
        degree = inc.col_degree(values).view(levels, inc.size[1] // levels).sum(0)
        scale = safe_inverse(degree.to(table.dtype))
        if self.training and self.node_dropout:
            scale = F.dropout(scale, self.node_dropout)
        means = spmm(inc, node_scale * x, values, transpose=True).view(levels, degree.numel(), x.size(1))
        edges = scale[:, None] * torch.bmm(means, table.cumsum(0))
        return node_scale * spmm(inc, edges.view(inc.size[1], width), values)
