from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.metrics import (
    LinkPredCoverage,
    LinkPredDiversity,
    LinkPredMAP,
    LinkPredMetricCollection,
    LinkPredMRR,
    LinkPredNDCG,
    LinkPredPrecision,
    LinkPredRecall,
)

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data._members import Slot
from hyperlearn_pyg.nn.models.hyperlearn import HyperLearn
from hyperlearn_pyg.ops.ranges import find_ranges
from hyperlearn_pyg.training._rows import BUDGET, rows_at_once
from hyperlearn_pyg.training.metrics import check_cuts
from hyperlearn_pyg.training.questions import Question, ask, ask_model
from hyperlearn_pyg.training.scorers import CountScorer, NaiveBayesScorer, PairScorer, SlotScorer

_METRICS = {
    "precision": LinkPredPrecision,
    "recall": LinkPredRecall,
    "ndcg": LinkPredNDCG,
    "map": LinkPredMAP,
    "mrr": LinkPredMRR,
}


@torch.no_grad()
def evaluate_recommendation(
    model: HyperLearn,
    data: MultiModalHeteroData,
    relation: str,
    slot: Slot,
    *,
    given: Sequence[Slot] | None = None,
    k: Sequence[int] = (10, 20, 300),
    split: str = "test",
    exclude: Sequence[str] = ("train", "val"),
    category: Tensor | None = None,
    factors: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    budget: int = BUDGET,
) -> dict[str, float]:
    """Rank all items of one slot for each context, a distinct tuple of items of the other slots.

    The answers of a context are its items in the split. Items that the splits ``exclude`` tie to the context are no
    candidates and no answers. Metrics are those of :mod:`torch_geometric.metrics`, each a mean over the contexts that
    have an answer: ``precision@k`` (over ``k``), ``recall@k``, ``ndcg@k``, ``map@k`` (over the smaller of ``k`` and the
    number of answers), ``mrr@k`` (of the first answer, 0 beyond ``k``), and ``coverage@k``, the share of all items
    that are in some list. Items of equal score stand in a random order, one for all contexts: a tie gains nothing by
    the numbers of the items.

    Args:
        model: the model.
        data: the data.
        relation: the name of the relation.
        slot: the slot to fill: a modality, or a pair (modality, role).
        given: the slots that make the context; all others where absent. What is not given is averaged over its items.
        k: lengths of the lists.
        split: the split that holds the answers; entries of the splits before it carry messages.
        exclude: the splits of what is known already; ``split`` itself never is.
        category: the category of each item of ``slot`` ``[N]``, whole numbers, for ``diversity@k``: the share of pairs
            in a list that are of two categories, over the lists of ``k`` candidates, or of all where there are fewer.
        factors: the factors of all modalities; the model is asked for them where absent, see :func:`evaluate`.
        seed: of the order of equal scores.
        budget: scores held at once; one context at least.

    Returns:
        ``metric@k`` for each metric and ``k``, and ``contexts``, the number of contexts with an answer; NaN for none.

    Raises:
        ValueError: unknown names; ``slot`` is among ``given``; some ``k`` is below 1; the split has no entry;
            ``category`` has another length than there are items.
    """
    question, scorer = ask_model(
        model, data, relation, slot, given=given, split=split, exclude=exclude, factors=factors
    )
    return recommendation_metrics(scorer, question, k, category=category, seed=seed, budget=budget)


def recommendation_floors(
    data: MultiModalHeteroData,
    relation: str,
    slot: Slot,
    *,
    given: Sequence[Slot] | None = None,
    k: Sequence[int] = (10, 20, 300),
    split: str = "test",
    exclude: Sequence[str] = ("train", "val"),
    category: Tensor | None = None,
    seed: int = 0,
    budget: int = BUDGET,
) -> dict[str, dict[str, float]]:
    """Return the metrics of :func:`evaluate_recommendation` for what needs no model, counted in the splits before.

    ``popularity`` (item counts: one list for all contexts); of three slots and more also ``pair counts`` and ``naive
    Bayes`` of the given slots (of two, pairs that are known are no candidates, and both are popularity).

    Args:
        data: as in :func:`evaluate_recommendation`, as are the others.
        relation: the name of the relation.
        slot: the slot to fill.
        given: the slots that make the context.
        k: lengths of the lists.
        split: the split that holds the answers.
        exclude: the splits of what is known already.
        category: the category of each item.
        seed: of the order of equal scores.
        budget: scores held at once.

    Raises:
        ValueError: as :func:`evaluate_recommendation`.
    """
    question = ask(data, relation, slot, given, split, exclude)
    options: dict[str, Any] = {"category": category, "seed": seed, "budget": budget}
    return {
        name: recommendation_metrics(scorer, question, k, **options) for name, scorer in floor_scorers(question).items()
    }


def floor_scorers(question: Question) -> dict[str, SlotScorer]:
    """Return what fills a slot from counts among the entries of the splits before."""
    seen, sizes = question.seen, question.relation.sizes
    out: dict[str, SlotScorer] = {"popularity": CountScorer(seen, sizes)}
    if question.given and len(sizes) > 2:
        out["pair counts"] = PairScorer(seen, sizes, question.given)
        out["naive Bayes"] = NaiveBayesScorer(seen, sizes, question.given)
    return out


def recommendation_metrics(
    scorer: SlotScorer, question: Question, k: Sequence[int], *, category: Tensor | None, seed: int, budget: int
) -> dict[str, float]:
    """Return the metrics of what fills a slot, see :func:`evaluate_recommendation`."""
    check_cuts(k, "k")
    size, contexts, device = question.size, question.contexts, question.index.device
    lists = LinkPredMetricCollection({f"{name}@{n}": metric(n) for n in k for name, metric in _METRICS.items()})
    coverage = {n: LinkPredCoverage(n, size + 1).to(device) for n in k}  # the last stands for no item
    diversity = _diversity(category, size, k, device)
    lists = lists.to(device)
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed)).to(device)
    with_answer = (contexts.answers.div(size, rounding_mode="floor")).unique()
    for part in with_answer.split(rows_at_once(size, budget)):
        score = scorer.slot_scores(contexts.index[:, part], question.slot)
        score = score.nan_to_num_(nan=-torch.inf, posinf=torch.inf, neginf=torch.finfo(score.dtype).min)
        row, at = find_ranges(contexts.excluded, part * size, (part + 1) * size)
        score[row, contexts.excluded[at] % size] = -torch.inf
        value, place = _first(score[:, order], min(max(k, default=0), size))
        items = torch.where(value > -torch.inf, order[place], size)
        row, at = find_ranges(contexts.answers, part * size, (part + 1) * size)
        lists.update(items, torch.stack([row, contexts.answers[at] % size]))
        for metric in coverage.values():
            metric.update(items, None)
        for n, metric in diversity.items():
            full = items[(items[:, :n] < size).all(1)]
            metric.update(full, None)
    out = {name: float(value) for name, value in lists.compute().items()}
    out |= {f"coverage@{n}": float(metric.mask[:-1].double().mean()) for n, metric in coverage.items()}
    out |= {f"diversity@{n}": float(diversity[min(n, size)].compute()) for n in k if min(n, size) in diversity}
    if len(with_answer) == 0:
        out = dict.fromkeys(out, float("nan"))
    return {**out, "contexts": len(with_answer)}


def _first(score: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the ``k`` largest of each row and their places, equal ones by place, which ``topk`` does not promise."""
    value, place = score.topk(k)
    if k == 0:
        return value, place
    place = place.sort(dim=1).values
    value, order = score.gather(1, place).sort(dim=1, descending=True, stable=True)
    place = place.gather(1, order)
    tied = ((score >= value[:, -1:]).sum(1) > k).nonzero().view(-1)  # more than one choice of the last ones
    if len(tied):
        value[tied], place[tied] = (t[:, :k] for t in score[tied].sort(dim=1, descending=True, stable=True))
    return value, place


def _diversity(
    category: Tensor | None, size: int, k: Sequence[int], device: torch.device
) -> dict[int, LinkPredDiversity]:
    """Return a metric for each length of two items or more, where there are categories."""
    if category is None:
        return {}
    if category.shape != (size,):
        raise ValueError(f"'category' must have shape [{size}], one entry an item (got {list(category.shape)})")
    return {n: LinkPredDiversity(n, category).to(device) for n in {min(n, size) for n in k} if n > 1}
