from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.convert import clique_expansion
from hyperlearn_pyg.transforms._common import note_seen, relation_names, training_mask


@functional_transform("clique_expansion")
class CliqueExpansion(BaseTransform):
    """Tie all items that share a hyperedge of a relation, pair by pair; of a relation that is split, a training one.

    Adds, for each two modalities of a relation, the edge type ``(a, "clique_RELATION", b)`` with ``edge_weight``, as
    :func:`~hyperlearn_pyg.data.convert.clique_expansion` says, of which this is the transform.

    Args:
        relation: the relation, or several; :obj:`None` for all.
        weight: ``"count"`` or ``"normalized"``.
        max_size: largest number of items of a hyperedge.
        oversize: what becomes of larger ones: ``"error"``, or ``"drop"`` to leave them out.

    Raises:
        ValueError: no such relation, an unknown word, a hyperedge above ``max_size``.
    """

    def __init__(
        self,
        relation: str | Sequence[str] | None = None,
        *,
        weight: Literal["count", "normalized"] = "count",
        max_size: int | None = None,
        oversize: Literal["error", "drop"] = "error",
    ) -> None:
        self.relation = relation
        self.weight = weight
        self.max_size = max_size
        self.oversize = oversize

    def forward(self, data: MultiModalHeteroData) -> MultiModalHeteroData:
        """Return the data with the graphs added."""
        for name in relation_names(data, self.relation):
            train = training_mask(data, name)
            made = clique_expansion(
                data, name, weight=self.weight, max_size=self.max_size, oversize=self.oversize, mask=train
            )
            for edge_type, (edge_index, edge_weight) in made.items():
                data[edge_type].edge_index, data[edge_type].edge_weight = edge_index, edge_weight
                note_seen(data, data.relation(name), edge_type, train)
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.relation!r}, weight={self.weight!r}, max_size={self.max_size})"
