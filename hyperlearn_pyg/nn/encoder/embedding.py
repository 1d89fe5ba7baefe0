from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Linear, Module, Parameter
from torch.nn import functional as F


class EmbeddingEncoder(Module):
    r"""A free vector for every item, plus a linear map of its features: factorisation without convolution.

    .. math::
        \mathbf{A} = \mathbf{E} + \mathbf{X} \mathbf{\Theta}

    Args:
        num_items: number of items ``N``.
        channels: width ``R`` of the factors.
        in_channels: width of the item features; 0 for none.
        std: standard deviation of the initial entries of :math:`\mathbf{E}`.
        dropout: dropout probability of the factors.

    Shapes:
        * input: features ``[N, in_channels]`` or None
        * output: ``[N, R]``
    """

    def __init__(
        self, num_items: int, channels: int, *, in_channels: int = 0, std: float = 0.1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.std = std
        self.dropout = dropout
        self.weight = Parameter(torch.empty(num_items, channels))
        self.features = Linear(in_channels, channels, bias=False) if in_channels else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters afresh."""
        torch.nn.init.normal_(self.weight, std=self.std)
        if self.features is not None:
            torch.nn.init.zeros_(self.features.weight)

    def forward(self, x: Tensor | None = None) -> Tensor:
        """Return the factors ``[N, R]``."""
        out = self.weight
        if self.features is not None and x is not None:
            out = out + self.features(x)
        return F.dropout(out, self.dropout, self.training)
