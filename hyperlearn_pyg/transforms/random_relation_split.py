from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from hyperlearn_pyg.data import MultiModalHeteroData, Relation
from hyperlearn_pyg.data.tuples import tuple_ids


@functional_transform("random_relation_split")
class RandomRelationSplit(BaseTransform):
    """Split the hyperedges of a relation at random: sets ``train_mask``, ``val_mask`` and ``test_mask``.

    Hyperedges that are the same tuple always fall into the same part, so that no part leaks into another.
    Masks that are already there are replaced.

    Args:
        relation: the name of the relation; :obj:`None` for every relation.
        val: share of the tuples for validation, in ``[0, 1)``.
        test: share of the tuples for the test, in ``[0, 1)``.
        seed: the same seed gives the same split.

    Raises:
        ValueError: shares are out of range or leave nothing to train on; there is no such relation.
    """

    def __init__(self, relation: str | None = None, *, val: float = 0.1, test: float = 0.1, seed: int = 0) -> None:
        if not (0 <= val < 1 and 0 <= test < 1 and val + test < 1):
            raise ValueError(f"'val' and 'test' must be at least 0 with a sum below 1 (got {val} and {test})")
        self.relation = relation
        self.val = val
        self.test = test
        self.seed = seed

    def forward(self, data: MultiModalHeteroData) -> MultiModalHeteroData:
        """Return the data with the masks set."""
        names = data.hyperedge_types if self.relation is None else [self.relation]
        for name in names:
            groups = _groups(data.relation(name))
            count = int(groups.max()) + 1 if groups.numel() else 0
            generator = torch.Generator().manual_seed(self.seed)
            position = torch.randperm(count, generator=generator).to(groups.device)[groups]
            val, test = round(self.val * count), round(self.test * count)
            data[name].val_mask = position < val
            data[name].test_mask = (position >= val) & (position < val + test)
            data[name].train_mask = position >= val + test
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.relation!r}, val={self.val}, test={self.test}, seed={self.seed})"


def _groups(relation: Relation) -> Tensor:
    """Number the distinct tuples ``[E]``; hyperedges of a ragged relation are all taken as distinct."""
    if not relation.is_uniform:
        return torch.arange(len(relation), device=relation.incidence(0).device)
    inverse: Tensor = torch.unique(tuple_ids(relation.index, relation.sizes), return_inverse=True)[1]
    return inverse
