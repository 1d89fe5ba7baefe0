from __future__ import annotations

from collections.abc import Sequence

import torch
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data._rows import forget_graphs, take_edges
from hyperlearn_pyg.transforms._common import check_choice, check_probability, held_out, relation_names
from hyperlearn_pyg.transforms._random import RandomSource


@functional_transform("hyperedge_dropout")
class HyperedgeDropout(BaseTransform):
    """Drop hyperedges, or single incidences, at random: for training, a new draw at every call.

    A dropped hyperedge leaves its set with all its attributes, and the others are renumbered in order. A dropped
    incidence leaves its hyperedge with one member less. Hyperedges for validation or test stay whole.

    Args:
        p: the probability, in ``[0, 1]``.
        relation: the set, or several; :obj:`None` for all.
        drop: ``"hyperedges"`` or ``"incidences"``.
        seed: a whole number for a sequence of draws that repeats, or a generator; :obj:`None` for torch's global one.

    Raises:
        ValueError: ``p`` or ``drop`` is out of range, or there is no such relation.
    """

    def __init__(
        self,
        p: float = 0.5,
        relation: str | Sequence[str] | None = None,
        *,
        drop: str = "hyperedges",
        seed: int | torch.Generator | None = None,
    ) -> None:
        check_probability(p)
        check_choice(drop, ("hyperedges", "incidences"), "drop")
        self.p = p
        self.relation = relation
        self.drop = drop
        self.random = RandomSource(seed)

    def forward(self, data: MultiModalHeteroData) -> MultiModalHeteroData:
        """Return the data without the dropped parts."""
        for name in relation_names(data, self.relation):
            relation = data.relation(name)
            held = held_out(data, name)
            if self.drop == "hyperedges":
                device = relation.incidence(0).device
                keep = self.random.rand(len(relation)).to(device) >= self.p
                data = data.subgraph({name: keep if held is None else keep | held})
                continue
            for slot in relation.slots:
                owner = data[slot].edge_index[1]
                keep = self.random.rand(owner.numel()).to(owner.device) >= self.p
                kept = keep if held is None else keep | held[owner]
                take_edges(data[slot], kept.nonzero().view(-1), None, None)
            forget_graphs(data)
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}(p={self.p}, {self.relation!r}, drop={self.drop!r}, seed={self.random!r})"
