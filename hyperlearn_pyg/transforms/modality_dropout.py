from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data._rows import forget_graphs, take_edges
from hyperlearn_pyg.data.relation import is_membership
from hyperlearn_pyg.transforms._common import check_choice, check_probability, modality_names
from hyperlearn_pyg.transforms._random import RandomSource


@functional_transform("modality_dropout")
class ModalityDropout(BaseTransform):
    """Drop whole modalities at random, so that a model learns to do without: for training, a new draw at every call.

    Each modality that has what is to be dropped is dropped with probability ``p``, independently; one of them,
    drawn at random, is kept where all would go. Dropped features become zeros of the same shape; a modality
    whose memberships are dropped is a member of no hyperedge (the hyperedges stay, with one member less).

    Args:
        p: the probability, in ``[0, 1]``.
        modalities: those that may be dropped; :obj:`None` for all.
        drop: ``"features"``, ``"memberships"`` or ``"both"``.
        seed: a whole number for a sequence of draws that repeats, or a generator; :obj:`None` for torch's global one.

    Raises:
        ValueError: ``p`` or ``drop`` is out of range, or there is no such modality.
    """

    def __init__(
        self,
        p: float = 0.5,
        modalities: str | Sequence[str] | None = None,
        *,
        drop: str = "features",
        seed: int | torch.Generator | None = None,
    ) -> None:
        check_probability(p)
        check_choice(drop, ("features", "memberships", "both"), "drop")
        self.p = p
        self.modalities = modalities
        self.drop = drop
        self.random = RandomSource(seed)

    def forward(self, data: MultiModalHeteroData) -> MultiModalHeteroData:
        """Return the data without the dropped parts."""
        members = {t[0] for t in data.edge_types if is_membership(t)}
        names = [
            name
            for name in modality_names(data, self.modalities)
            if (self.drop != "memberships" and "x" in data[name]) or (self.drop != "features" and name in members)
        ]
        draw = self.random.rand(len(names) + 1).tolist()
        gone = [name for name, number in zip(names, draw, strict=False) if number < self.p]
        if gone and len(gone) == len(names):
            del gone[int(draw[-1] * len(gone))]
        for name in gone:
            if self.drop != "memberships" and "x" in data[name]:
                data[name].x = _zeros(data[name].x)
            for edge_type in data.edge_types if self.drop != "features" else []:
                if edge_type[0] == name and is_membership(edge_type):
                    take_edges(data[edge_type], data[edge_type].edge_index.new_empty(0), None, None)
                    forget_graphs(data)
        return data

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(p={self.p}, modalities={self.modalities!r}, drop={self.drop!r}, "
            f"seed={self.random!r})"
        )


def _zeros(x: Tensor) -> Tensor:
    if x.layout == torch.strided:
        return torch.zeros_like(x)
    none = torch.sparse_coo_tensor(
        torch.empty(2, 0, dtype=torch.long, device=x.device),
        torch.empty(0, dtype=x.dtype, device=x.device),
        x.shape,
        check_invariants=False,  # said, since torch warns where it is not
    ).coalesce()
    return none if x.layout == torch.sparse_coo else none.to_sparse(layout=x.layout)
