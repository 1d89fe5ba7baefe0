from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Linear, Module, Parameter
from torch.nn import functional as F

from hyperlearn_pyg.ops.incidence import Incidence, safe_inverse
from hyperlearn_pyg.ops.spmm import spmm


class PartnerEncoder(Module):
    r"""A free vector for every item, and what its partners have: the items that share entries with it.

    .. math::
        \mathbf{Z} = \mathbf{E} + \mathbf{X} \mathbf{\Theta} \qquad
        \mathbf{A} = \mathbf{Z} + \sum_c \mathrm{diag}(\mathbf{B}_c \mathbf{B}_c^{\top} \mathbf{1})^{-1}
        \mathbf{B}_c \mathbf{B}_c^{\top} \mathbf{Z} \mathbf{W}_c

    with the incidence :math:`\mathbf{B}_c` of the modality's items and the (level and) items of another slot: a mean
    over all items that an item shares one with, as often as it does, itself among them. The product is kept factored:
    :math:`\mathbf{B} \mathbf{B}^{\top}`, which may be dense, is never formed. The maps :math:`\mathbf{W}_c` start at
    zero, so that the model starts as that of :class:`EmbeddingEncoder` (LightGCN's two-step propagation, He et al.,
    SIGIR 2020, with row normalisation and a learnt map). Entries that a training step predicts are left out, degrees
    included: an item whose entries are all targets is then encoded as one that training has hardly seen.

    Args:
        num_items: number of items ``N``.
        channels: width ``R`` of the factors.
        num_channels: number of incidences: one per relation, slot and other slot.
        in_channels: width of the item features; 0 for none.
        std: standard deviation of the initial entries of :math:`\mathbf{E}`.
        dropout: dropout probability of the factors.

    Shapes:
        * input: features ``[N, in_channels]`` or None; per channel an incidence of size ``[N, M]`` and, optionally,
          which of its entries count ``[nnz]``
        * output: ``[N, R]``
    """

    def __init__(
        self,
        num_items: int,
        channels: int,
        num_channels: int,
        *,
        in_channels: int = 0,
        std: float = 0.1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.std = std
        self.dropout = dropout
        self.weight = Parameter(torch.empty(num_items, channels))
        self.partners = Parameter(torch.empty(num_channels, channels, channels))
        self.features = Linear(in_channels, channels, bias=False) if in_channels else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the vectors afresh; features and partners start silent."""
        torch.nn.init.normal_(self.weight, std=self.std)
        torch.nn.init.zeros_(self.partners)
        if self.features is not None:
            torch.nn.init.zeros_(self.features.weight)

    def forward(
        self, x: Tensor | None, incidences: Sequence[Incidence], keep: Sequence[Tensor | None] | None = None
    ) -> Tensor:
        """Return the factors ``[N, R]``.

        Raises:
            ValueError: the incidences are not those of the channels.
        """
        if len(incidences) != len(self.partners):
            raise ValueError(f"'incidences' must hold one per channel, {len(self.partners)} (got {len(incidences)})")
        own: Tensor = self.weight
        if self.features is not None and x is not None:
            own = own + self.features(x)
        out = own
        masks = keep if keep is not None else [None] * len(incidences)
        for weight, inc, mask in zip(self.partners, incidences, masks, strict=True):
            out = out + _mean_of_partners(inc, own @ weight, mask)
        return F.dropout(out, self.dropout, self.training)


def _mean_of_partners(inc: Incidence, x: Tensor, keep: Tensor | None) -> Tensor:
    values = None if keep is None else keep.to(x.dtype)
    shared = spmm(inc, inc.col_degree(values).to(x.dtype)[:, None], values)
    return safe_inverse(shared) * spmm(inc, spmm(inc, x, values, transpose=True), values)
