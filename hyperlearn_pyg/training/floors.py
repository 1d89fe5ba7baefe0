from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.splits import SPLITS, split_positions
from hyperlearn_pyg.nn.models.inputs import Tuples, relation_spec
from hyperlearn_pyg.nn.models.start import mean_value, start_biases
from hyperlearn_pyg.nn.models.step import predicted_slots
from hyperlearn_pyg.training.links import SEEN, link_metrics
from hyperlearn_pyg.training.metrics import mae, rmse
from hyperlearn_pyg.training.scorers import CountScorer, NaiveBayesScorer, PairScorer, SlotScorer


def floors(
    data: MultiModalHeteroData,
    split: str = "test",
    *,
    hits: Sequence[int] = (1, 3, 10),
    ranking_tuples: int = 2000,
    predict: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Score what needs no model, on the same entries and the same corrupted tuples as :func:`evaluate`.

    * relations with values: the mean of the known entries, and regularised item biases;
    * 0/1 relations: counts of the items among the known entries (``item counts``); of three slots and more also the
      counts of pairs of items (``pair counts``) and, for the ranks alone, naive Bayes of an item given the others.

    Args:
        data: the data.
        split: the split to score; entries of the splits before it are known.
        hits: the numbers ``k`` of ``hits@k``.
        ranking_tuples: at most so many (seeded) tuples are ranked; 0 to leave ranking out.
        predict: relation -> the slots whose items are replaced and ranked, as the model's ``config.predict``; all slots
            of a relation that is not named.
        seed: seed of the corrupted tuples.

    Returns:
        For each method ``{split: {metric: value, ..., "relations": ...}, "published": False}``, as in a report.
    """
    by_method: dict[str, dict[str, dict[str, Any]]] = {}
    named = [n for n in data.hyperedge_types if data.relation(n).is_uniform]  # others have no tuples to score
    slots = predicted_slots({n: relation_spec(data, n) for n in named}, predict or {})
    for name in named:
        if data.relation(name).value is None:
            options = {"hits": hits, "ranking_tuples": ranking_tuples, "seed": seed, "slots": slots[name]}
            own = _link_floors(data, name, split, **options)
        else:
            own = _value_floors(data, name, split)
        for method, values in own.items():
            by_method.setdefault(method, {})[name] = values
    first = data.hyperedge_types[0] if data.hyperedge_types else ""
    return {
        method: {split: {**own.get(first, {}), "relations": own}, "published": False}
        for method, own in by_method.items()
    }


def _value_floors(data: MultiModalHeteroData, name: str, split: str) -> dict[str, dict[str, float]]:
    relation = data.relation(name)
    index, value, sizes = relation.index, relation.value, relation.sizes
    target = split_positions(data, name, (split,))
    if value is None or len(target) == 0:
        return {}
    known = Tuples(index, value, relation.weight).take(split_positions(data, name, SEEN[split]))
    mean = mean_value(known).to(value)
    biases = [table[row] for table, row in zip(start_biases(known, sizes), index[:, target], strict=True)]
    scores = {"global mean": mean.expand(len(target)), "item biases": mean + torch.stack(biases).sum(0)}
    return {m: {"rmse": rmse(s, value[target]), "mae": mae(s, value[target])} for m, s in scores.items()}


def _link_floors(data: MultiModalHeteroData, name: str, split: str, **options: Any) -> dict[str, dict[str, Any]]:
    relation = data.relation(name)
    every, sizes, names = relation.index, relation.sizes, relation.slot_names
    index, seen = (every[:, split_positions(data, name, splits)] for splits in ((split,), SEEN[split]))
    if index.size(1) == 0:
        return {}
    known = every[:, split_positions(data, name, SPLITS)]
    methods: dict[str, SlotScorer] = {"item counts": CountScorer(seen, sizes)}
    if len(sizes) > 2:  # of two slots, a pair that is known is no question
        methods |= {"pair counts": PairScorer(seen, sizes), "naive Bayes": NaiveBayesScorer(seen, sizes)}
    out = {m: link_metrics(scorer, index, known, sizes, names, **options) for m, scorer in methods.items()}
    return {m: metrics for m, metrics in out.items() if metrics}
