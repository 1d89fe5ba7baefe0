from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data._members import Slot
from hyperlearn_pyg.nn.models.hyperlearn import HyperLearn
from hyperlearn_pyg.training._rows import BUDGET
from hyperlearn_pyg.training.links import cold_entries
from hyperlearn_pyg.training.metrics import check_cuts, filtered_ranks, rank_metrics
from hyperlearn_pyg.training.questions import Question, ask, ask_model
from hyperlearn_pyg.training.recommendation import floor_scorers
from hyperlearn_pyg.training.scorers import SlotScorer


@torch.no_grad()
def evaluate_attribution(
    model: HyperLearn,
    data: MultiModalHeteroData,
    relation: str,
    slot: Slot,
    *,
    given: Sequence[Slot] | None = None,
    k: Sequence[int] = (1, 5),
    split: str = "test",
    exclude: Sequence[str] = (),
    cold: bool = False,
    factors: Mapping[str, Tensor] | None = None,
    budget: int = BUDGET,
) -> dict[str, float | dict[str, float]]:
    """Rank the true item of one slot among all items given those of other slots: who painted this?

    Every entry of the split is a question of its own. Nothing is excluded unless ``exclude`` says so, since another
    answer that was right elsewhere for the same given items is a wrong one here. Items of equal score count half (the
    rank is the mean over their orders), so that a model that scores all alike is right as often as chance at most.

    Args:
        model: the model.
        data: the data.
        relation: the name of the relation.
        slot: the slot to fill: a modality, or a pair (modality, role).
        given: the slots whose items are told; all others where absent. Scores are averaged over the items of a slot
            that is not.
        k: the numbers ``k`` of ``accuracy@k``.
        split: the split that asks; entries of the splits before it carry messages.
        exclude: splits whose items of the same given ones are no candidates; it may hold ``split`` itself for
            questions that have several right answers.
        cold: also score the entries with an item that no entry of the splits before names (``cold``) and the rest
            (``warm``) apart, see :func:`cold_entries`.
        factors: the factors of all modalities; the model is asked for them where absent, see :func:`evaluate`.
        budget: scores held at once; one entry at least.

    Returns:
        ``accuracy@k`` for each ``k``, ``mrr`` and ``count``; ``cold`` and ``warm`` with the same, if asked for.

    Raises:
        ValueError: unknown names; ``slot`` is among ``given``; some ``k`` is below 1; the split has no entry.
    """
    check_cuts(k, "k")
    question, scorer = ask_model(
        model, data, relation, slot, given=given, split=split, exclude=exclude, factors=factors
    )
    is_cold = cold_entries(data, relation, split) if cold else None
    return _attribution_metrics(scorer, question, k, split in exclude, is_cold, budget)


def attribution_floors(
    data: MultiModalHeteroData,
    relation: str,
    slot: Slot,
    *,
    given: Sequence[Slot] | None = None,
    k: Sequence[int] = (1, 5),
    split: str = "test",
    exclude: Sequence[str] = (),
    cold: bool = False,
    budget: int = BUDGET,
) -> dict[str, dict[str, float | dict[str, float]]]:
    """Return the metrics of :func:`evaluate_attribution` for what needs no model, counted in the splits before.

    ``popularity`` (item counts); of three slots and more also ``pair counts`` and ``naive Bayes`` (with add-one
    smoothing of each given slot), which is hard to beat where few slots are told.

    Args:
        data: as in :func:`evaluate_attribution`, as are the others.
        relation: the name of the relation.
        slot: the slot to fill.
        given: the slots whose items are told.
        k: the numbers ``k`` of ``accuracy@k``.
        split: the split that asks.
        exclude: splits whose items are no candidates.
        cold: also score cold and warm entries apart.
        budget: scores held at once.

    Raises:
        ValueError: as :func:`evaluate_attribution`.
    """
    check_cuts(k, "k")
    question = ask(data, relation, slot, given, split, exclude)
    is_cold = cold_entries(data, relation, split) if cold else None
    return {
        name: _attribution_metrics(scorer, question, k, split in exclude, is_cold, budget)
        for name, scorer in floor_scorers(question).items()
    }


def _attribution_metrics(
    scorer: SlotScorer, question: Question, k: Sequence[int], own: bool, is_cold: Tensor | None, budget: int
) -> dict[str, float | dict[str, float]]:
    ranks = _ranks(scorer, question, own, budget)
    out: dict[str, float | dict[str, float]] = {**_summary(ranks, k)}
    if is_cold is not None:
        is_cold = is_cold.to(ranks.device)
        out |= {"cold": _summary(ranks[is_cold], k), "warm": _summary(ranks[~is_cold], k)}
    return out


def _summary(ranks: Tensor, k: Sequence[int]) -> dict[str, float]:
    found = rank_metrics(ranks, k, "accuracy")
    mrr = found.pop("mrr")
    return {**found, "mrr": mrr, "count": len(ranks)}


def _ranks(scorer: SlotScorer, question: Question, own: bool, budget: int) -> Tensor:
    """Rank within the given slots and the one to fill, which comes last; the others hold any item."""
    rows = [*question.given, question.slot]
    known = torch.cat([question.known, question.index], dim=1) if own else question.known

    def score_slot(tuples: Tensor) -> Tensor:
        whole = tuples.new_zeros(question.relation.order, tuples.size(1))
        whole[rows] = tuples
        return scorer.slot_scores(whole, question.slot)

    sizes = [question.relation.sizes[s] for s in rows]
    return filtered_ranks(score_slot, question.index[rows], known[rows], sizes, len(rows) - 1, budget=budget)
