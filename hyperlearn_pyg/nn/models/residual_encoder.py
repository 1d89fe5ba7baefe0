from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from hyperlearn_pyg.nn.models.residual_stack import ResidualHypergraphStack


class ResidualEncoder(Module):
    r"""A deep residual stack of hypergraph convolutions over the training relations of one modality.

    .. math::
        \mathbf{A} = \mathrm{ResidualHypergraphStack}(\mathbf{X}, \mathbf{H})

    with the items of all other slots, level by level, as hyperedges :math:`\mathbf{H}`, and :math:`\mathbf{X}` the item
    features or, where there are none, a learnt table of width ``hidden``. The entries that a training step predicts are
    left out. Its blocks can be trained on several workers, see :class:`~hyperlearn_pyg.distributed.strategies.ResIST`.

    Args:
        num_items: number of items ``N``.
        channels: width ``R`` of the factors.
        num_blocks: number of residual blocks.
        in_channels: width of the item features; 0 for none.
        hidden: width of the blocks.
        dropout: dropout probability in each block.

    Shapes:
        * input: features ``[N, in_channels]`` or None, and the incidences ``[2, nnz]`` with the number of hyperedges
        * output: ``[N, R]``
    """

    def __init__(
        self,
        num_items: int,
        channels: int,
        num_blocks: int = 8,
        *,
        in_channels: int = 0,
        hidden: int = 100,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.weight = None if in_channels else Parameter(torch.empty(num_items, hidden))
        self.stack = ResidualHypergraphStack(in_channels or hidden, hidden, channels, num_blocks, dropout=dropout)
        if self.weight is not None:
            torch.nn.init.normal_(self.weight, std=0.1)

    def reset_parameters(self) -> None:
        """Draw all parameters afresh."""
        self.stack.reset_parameters()
        if self.weight is not None:
            torch.nn.init.normal_(self.weight, std=0.1)

    def forward(self, x: Tensor | None, hyperedge_index: Tensor, num_edges: int) -> Tensor:
        """Return the factors ``[N, R]``."""
        given = self.weight if self.weight is not None else x
        if given is None:
            raise ValueError("'x' is missing: the encoder was made for items with features")
        out: Tensor = self.stack(given, hyperedge_index, num_edges=num_edges)
        return out
