from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.splits import split_positions
from hyperlearn_pyg.nn.models.inputs import Tuples
from hyperlearn_pyg.nn.models.start import mean_value, start_biases
from hyperlearn_pyg.training.evaluation import SEEN
from hyperlearn_pyg.training.metrics import auc_ap, corrupt, mae, rmse


def floors(data: MultiModalHeteroData, split: str = "test", *, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Score what needs no model, on the same entries and the same corrupted tuples as :func:`evaluate`.

    * relations with values: the mean of the known entries, and regularised item biases;
    * 0/1 relations: the product of the items' counts among the known entries.

    Args:
        data: the data.
        split: the split to score; entries of the splits before it are known.
        seed: seed of the corrupted tuples.

    Returns:
        For each method ``{split: {metric: value, ..., "relations": ...}, "published": False}``, as in a report.
    """
    by_method: dict[str, dict[str, dict[str, float]]] = {}
    for name in data.hyperedge_types:
        for method, values in _relation_floors(data, name, split, seed).items():
            by_method.setdefault(method, {})[name] = values
    first = data.hyperedge_types[0] if data.hyperedge_types else ""
    return {
        method: {split: {**own.get(first, {}), "relations": own}, "published": False}
        for method, own in by_method.items()
    }


def _relation_floors(data: MultiModalHeteroData, name: str, split: str, seed: int) -> dict[str, dict[str, float]]:
    relation = data.relation(name)
    if not relation.is_uniform:  # no tuples to score
        return {}
    index, value, sizes = relation.index, relation.value, relation.sizes
    target = split_positions(data, name, (split,))
    seen = split_positions(data, name, SEEN[split])
    if len(target) == 0:
        return {}
    if value is None:
        negative, source = corrupt(index[:, target], index, sizes, torch.Generator().manual_seed(seed))
        counts = [torch.bincount(row[seen], minlength=n).double().log1p() for row, n in zip(index, sizes, strict=True)]
        auc, ap = auc_ap(_sum_of(counts, index[:, target][:, source]), _sum_of(counts, negative))
        return {"item counts": {"auc": auc, "ap": ap}}
    known = Tuples(index, value, relation.weight).take(seen)
    mean = mean_value(known).to(value)
    biased = mean + _sum_of(start_biases(known, sizes), index[:, target])
    scores = {"global mean": mean.expand(len(target)), "item biases": biased}
    return {m: {"rmse": rmse(s, value[target]), "mae": mae(s, value[target])} for m, s in scores.items()}


def _sum_of(tables: list[Tensor], index: Tensor) -> Tensor:
    return torch.stack([table[row] for table, row in zip(tables, index, strict=True)]).sum(0)
