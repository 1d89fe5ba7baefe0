from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.splits import SPLITS, split_positions
from hyperlearn_pyg.nn.decoder import KruskalDecoder
from hyperlearn_pyg.nn.models.hyperlearn import HyperLearn
from hyperlearn_pyg.nn.models.inputs import ModelInputs
from hyperlearn_pyg.training.metrics import auc_ap, corrupt, filtered_ranks, mae, rmse

#: Splits whose entries carry messages when a split is scored: everything that comes before it.
SEEN = {"train": ("train",), "val": ("train",), "test": ("train", "val")}


def evaluate(
    model: HyperLearn,
    data: MultiModalHeteroData,
    split: str = "test",
    *,
    ranking_tuples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Score a split of every relation. Entries of the splits before it carry messages, its own never do.

    * A relation with values: ``rmse``, ``mae``; and ``planted_correlation`` (Pearson, with the noise-free values)
      where the data holds a ``truth``.
    * A 0/1 relation: ``auc`` and ``ap`` against tuples with one item replaced uniformly, one per tuple; ``mrr`` and
      ``hits@10`` of each slot's item among all items, mean over the slots. Known tuples of any split never count as
      negatives.

    Args:
        model: the model.
        data: the data.
        split: ``"train"``, ``"val"`` or ``"test"``.
        ranking_tuples: at most so many (seeded) tuples are ranked; 0 to leave ranking out.
        seed: seed of the corrupted tuples.

    Returns:
        The metrics of the first relation, and ``"relations"``: the metrics of each.

    Raises:
        ValueError: unknown split, or no entry of any relation is in it.
    """
    if split not in SEEN:
        raise ValueError(f"'split' must be one of {list(SEEN)} (got {split!r})")
    device = next(model.parameters()).device
    data = copy.copy(data).to(device)
    inputs = model.prepare(data, SEEN[split])
    relations = evaluate_inputs(model, data, inputs, split, ranking_tuples=ranking_tuples, seed=seed)
    if not relations:
        raise ValueError(
            f"no relation of 'data' has an entry in the split {split!r}: set its '{split}_mask', for instance with "
            "transforms.RandomRelationSplit"
        )
    return {**next(iter(relations.values())), "relations": relations}


@torch.no_grad()
def evaluate_inputs(
    model: HyperLearn,
    data: MultiModalHeteroData,
    inputs: ModelInputs,
    split: str,
    *,
    known: Sequence[str] = SPLITS,
    ranking_tuples: int = 0,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Score a split from prepared inputs; relations without an entry in it are left out.

    The tuples of the splits ``known`` never count as negatives: selection must not look at those of the test.
    """
    training = model.training
    model.eval()
    try:
        factors = model(inputs)
        return evaluate_factors(model, data, factors, split, known=known, ranking_tuples=ranking_tuples, seed=seed)
    finally:
        model.train(training)


@torch.no_grad()
def evaluate_factors(
    model: HyperLearn,
    data: MultiModalHeteroData,
    factors: Mapping[str, Tensor],
    split: str,
    *,
    known: Sequence[str] = SPLITS,
    ranking_tuples: int = 0,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Score a split from the factors of all modalities, as :func:`evaluate_inputs` does; no encoder is asked."""
    out = {}
    for name in model.relations:
        positions = split_positions(data, name, (split,))
        if len(positions):
            if model.relations[name].has_value:
                out[name] = _value_metrics(model, data, name, factors, positions)
            else:
                out[name] = _link_metrics(model, data, name, factors, positions, known, ranking_tuples, seed)
    return out


def _value_metrics(
    model: HyperLearn, data: MultiModalHeteroData, name: str, factors: Mapping[str, Tensor], positions: Tensor
) -> dict[str, float]:
    relation = data.relation(name)
    value = relation.value
    if value is None:
        raise ValueError(f"relation '{name}' had values when the model was built and has none now")
    score = model.decoders[name].predict(model.rows(name, factors), relation.index[:, positions])
    out = {"rmse": rmse(score, value[positions]), "mae": mae(score, value[positions])}
    truth = data[name].get("truth")
    if truth is not None and len(positions) > 1:
        pair = torch.stack([score.double(), truth[positions].double()])
        out["planted_correlation"] = float(torch.corrcoef(pair)[0, 1])
    return out


def _link_metrics(
    model: HyperLearn,
    data: MultiModalHeteroData,
    name: str,
    factors: Mapping[str, Tensor],
    positions: Tensor,
    known_splits: Sequence[str],
    ranking_tuples: int,
    seed: int,
) -> dict[str, float]:
    every, sizes = data.relation(name).index, model.relations[name].sizes
    index, known = every[:, positions], every[:, split_positions(data, name, known_splits)]
    generator = torch.Generator().manual_seed(seed)
    negative, source = corrupt(index, known, sizes, generator)
    positive_score = model.score(name, factors, index[:, source])
    auc, ap = auc_ap(positive_score, model.score(name, factors, negative))
    out = {"auc": auc, "ap": ap}
    if ranking_tuples:
        some = torch.randperm(index.size(1), generator=generator)[:ranking_tuples].to(index.device)
        decoder = model.decoders[name]
        columns = decoder.all_columns(model.rows(name, factors))
        ranks = torch.cat(
            [
                filtered_ranks(partial(_slot_scores, decoder, columns, slot), index[:, some], known, sizes, slot)
                for slot in range(len(sizes))
            ]
        )
        out["mrr"] = float((1 / ranks).mean())
        out["hits@10"] = float((ranks <= 10).double().mean())
    return out


def _slot_scores(decoder: KruskalDecoder, columns: list[Tensor], slot: int, tuples: Tensor) -> Tensor:
    return decoder.slot_scores(columns, tuples, slot, None)
