from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.splits import SPLITS, split_positions
from hyperlearn_pyg.nn.models.hyperlearn import HyperLearn
from hyperlearn_pyg.nn.models.inputs import ModelInputs
from hyperlearn_pyg.training.links import SEEN, cold_entries, link_metrics
from hyperlearn_pyg.training.metrics import check_cuts, mae, rmse
from hyperlearn_pyg.training.scorers import ModelScorer


def evaluate(
    model: HyperLearn,
    data: MultiModalHeteroData,
    split: str = "test",
    *,
    hits: Sequence[int] = (1, 3, 10),
    ranking_tuples: int = 2000,
    known: Sequence[str] = SPLITS,
    cold: bool = False,
    factors: Mapping[str, Tensor] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Score a split of every relation. Entries of the splits before it carry messages, its own never do.

    * A relation with values: ``rmse``, ``mae``; and ``planted_correlation`` (Pearson, with the noise-free values)
      where the data holds a ``truth``.
    * A 0/1 relation: ``auc`` and ``ap`` against tuples with one item replaced uniformly, one per tuple; ``mrr`` and
      ``hits@k`` of each slot's item among all items, by slot in ``slots`` and as the mean over the slots. Known tuples
      never count as negatives ("filtered", Bordes et al., NIPS 2013). Items of equal score count half, so that the
      rank is the mean over the orders of the equal ones: a model that scores all alike ranks as chance does. Where
      ``model.config.predict`` names slots of the relation, these alone are replaced and ranked.

    Scores of all items are held for so many tuples at once as give 2**24 scores (64 MiB in float32, about twice that
    with what is made of them), or for one tuple where a slot has more items.

    Args:
        model: the model.
        data: the data.
        split: ``"train"``, ``"val"`` or ``"test"``.
        hits: the numbers ``k`` of ``hits@k``.
        ranking_tuples: at most so many (seeded) tuples are ranked; 0 to leave ranking out.
        known: the splits whose tuples are known.
        cold: also score the entries with an item that no entry of the splits before names (``cold``) and the rest
            (``warm``) apart, each with its ``count``; see :func:`cold_entries`.
        factors: the factors of all modalities, on the device of the model's decoders, as the model's ``forward`` gives
            them for the splits before; the model is asked for them where absent.
        seed: seed of the corrupted tuples.

    Returns:
        The metrics of the first relation, and ``"relations"``: the metrics of each.

    Raises:
        ValueError: unknown split, some ``k`` below 1, or no entry of any relation is in the split.
    """
    check_split(split)
    check_cuts(hits, "hits")
    data, factors = encoded(model, data, split, factors)
    relations = evaluate_factors(
        model, data, factors, split, known=known, ranking_tuples=ranking_tuples, hits=hits, cold=cold, seed=seed
    )
    if not relations:
        raise ValueError(
            f"no relation of 'data' has an entry in the split {split!r}: set its '{split}_mask', for instance with "
            "transforms.RandomRelationSplit"
        )
    return {**next(iter(relations.values())), "relations": relations}


def check_split(split: str) -> None:
    """Check the name of a split."""
    if split not in SEEN:
        raise ValueError(f"'split' must be one of {list(SEEN)} (got {split!r})")


@torch.no_grad()
def encoded(
    model: HyperLearn, data: MultiModalHeteroData, split: str, factors: Mapping[str, Tensor] | None
) -> tuple[MultiModalHeteroData, Mapping[str, Tensor]]:
    """Return the data on the device of the factors, and the factors: from the entries before a split where absent."""
    if factors is not None:
        return copy.copy(data).to(next(iter(factors.values())).device), factors
    data = copy.copy(data).to(next(model.parameters()).device)
    inputs = model.prepare(data, SEEN[split])
    training = model.training
    model.eval()
    try:
        return data, model(inputs)
    finally:
        model.train(training)


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
) -> dict[str, dict[str, Any]]:
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
    hits: Sequence[int] = (1, 3, 10),
    cold: bool = False,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Score a split from the factors of all modalities, as :func:`evaluate_inputs` does; no encoder is asked."""
    out: dict[str, dict[str, Any]] = {}
    slots = model.predicted_slots()
    for name, spec in model.relations.items():
        positions = split_positions(data, name, (split,))

        def score(at: Tensor, name: str = name, has_value: bool = spec.has_value) -> dict[str, Any]:
            if has_value:
                return _value_metrics(model, data, name, factors, at)
            relation, others = data.relation(name), split_positions(data, name, known)
            every, names = relation.index, relation.slot_names
            scorer = ModelScorer(model, name, factors)
            options: dict[str, Any] = {
                "hits": hits,
                "ranking_tuples": ranking_tuples,
                "seed": seed,
                "slots": slots[name],
            }
            return link_metrics(scorer, every[:, at], every[:, others], relation.sizes, names, **options)

        if len(positions):
            out[name] = score(positions)
            if cold:
                is_cold = cold_entries(data, name, split)
                for part, at in (("cold", positions[is_cold]), ("warm", positions[~is_cold])):
                    out[name][part] = {**(score(at) if len(at) else {}), "count": len(at)}
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
