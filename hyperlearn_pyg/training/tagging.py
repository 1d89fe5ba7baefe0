from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data._members import Slot
from hyperlearn_pyg.nn.models.hyperlearn import HyperLearn
from hyperlearn_pyg.training._rows import BUDGET, rows_at_once
from hyperlearn_pyg.training.questions import Question, ask, ask_model
from hyperlearn_pyg.training.recommendation import floor_scorers
from hyperlearn_pyg.training.scorers import SlotScorer


@torch.no_grad()
def evaluate_tagging(
    model: HyperLearn,
    data: MultiModalHeteroData,
    relation: str,
    slot: Slot,
    *,
    given: Sequence[Slot] | None = None,
    split: str = "test",
    exclude: Sequence[str] = ("train", "val"),
    concepts: Tensor | None = None,
    factors: Mapping[str, Tensor] | None = None,
    budget: int = BUDGET,
) -> dict[str, Any]:
    """Rank the contexts of a split for each concept, an item of one slot: average precision of tags.

    A context, a distinct tuple of items of the other slots (an image and its owner, say), is right for a concept where
    the split holds that tuple. What the splits ``exclude`` tie to the context is neither right nor wrong. Average
    precision is that of scikit-learn, where equal scores are one threshold.

    Args:
        model: the model.
        data: the data.
        relation: the name of the relation.
        slot: the slot of the concepts: a modality, or a pair (modality, role).
        given: the slots that make the context; all others where absent. What is not given is averaged over its items.
        split: the split whose contexts are ranked; entries of the splits before it carry messages.
        exclude: the splits of what is known already; ``split`` itself never is.
        concepts: the items to look at ``[C]``; all where absent.
        factors: the factors of all modalities; the model is asked for them where absent, see :func:`evaluate`.
        budget: largest number of contexts times concepts, which are held at once, 16 bytes for each.

    Returns:
        ``macro``, the mean over concepts that are right somewhere; ``micro``, of all pairs of context and concept in
        one list; ``concepts`` and ``contexts``, how many there were; ``by_concept``, the average precision of each
        ``[C]``, NaN where it is right nowhere.

    Raises:
        ValueError: unknown names; ``slot`` is among ``given``; the split has no entry; more scores than ``budget``.
    """
    question, scorer = ask_model(
        model, data, relation, slot, given=given, split=split, exclude=exclude, factors=factors
    )
    return _tagging_metrics(scorer, question, concepts, budget)


def tagging_floors(
    data: MultiModalHeteroData,
    relation: str,
    slot: Slot,
    *,
    given: Sequence[Slot] | None = None,
    split: str = "test",
    exclude: Sequence[str] = ("train", "val"),
    concepts: Tensor | None = None,
    budget: int = BUDGET,
) -> dict[str, dict[str, Any]]:
    """Return the metrics of :func:`evaluate_tagging` for what needs no model, counted in the splits before.

    ``popularity``; of three slots and more also ``pair counts`` and ``naive Bayes``. By popularity a concept has one
    score for all contexts: its average precision is the share of contexts that it is right for.

    Args:
        data: as in :func:`evaluate_tagging`, as are the others.
        relation: the name of the relation.
        slot: the slot of the concepts.
        given: the slots that make the context.
        split: the split whose contexts are ranked.
        exclude: the splits of what is known already.
        concepts: the items to look at.
        budget: largest number of contexts times concepts.

    Raises:
        ValueError: as :func:`evaluate_tagging`.
    """
    question = ask(data, relation, slot, given, split, exclude)
    return {name: _tagging_metrics(s, question, concepts, budget) for name, s in floor_scorers(question).items()}


def average_precisions(score: Tensor, label: Tensor, usable: Tensor | None = None) -> Tensor:
    """Return the average precision of each column ``[C]``, float64; NaN for a column without a right row.

    That of scikit-learn: the sum over thresholds of precision times the recall gained, equal scores together.

    Args:
        score: scores ``[n, C]``, finite.
        label: what is right, bool ``[n, C]``.
        usable: which entries count, bool ``[n, C]``; all where absent.
    """
    usable = torch.ones_like(label) if usable is None else usable
    out = torch.full((label.size(1),), torch.nan, dtype=torch.float64)
    for c in (label & usable).any(0).nonzero().view(-1).tolist():
        rows = usable[:, c]
        out[c] = float(average_precision_score(label[rows, c].cpu().numpy(), score[rows, c].cpu().numpy()))
    return out


def _tagging_metrics(scorer: SlotScorer, question: Question, concepts: Tensor | None, budget: int) -> dict[str, Any]:
    contexts, size, device = question.contexts, question.size, question.index.device
    concepts = torch.arange(size, device=device) if concepts is None else concepts.to(device)
    count = contexts.index.size(1)
    if count * len(concepts) > budget:
        raise ValueError(
            f"{count} contexts times {len(concepts)} concepts are more scores than 'budget' ({budget}): name fewer "
            "'concepts', or rank the slot by context with evaluate_recommendation"
        )
    rows = torch.arange(count, device=device).split(rows_at_once(size, budget))
    score = torch.cat([scorer.slot_scores(contexts.index[:, part], question.slot)[:, concepts] for part in rows])
    score = score.nan_to_num(nan=torch.finfo(score.dtype).min)
    label, known = (_table(numbers, count, size, concepts) for numbers in (contexts.answers, contexts.excluded))
    found = average_precisions(score, label, ~known)
    everything = (score.view(-1, 1), label.view(-1, 1), ~known.view(-1, 1))
    right = found[~found.isnan()]
    return {
        "macro": float(right.mean()),
        "micro": float(average_precisions(*everything)),
        "concepts": len(right),
        "contexts": count,
        "by_concept": found,
    }


def _table(numbers: Tensor, rows: int, size: int, concepts: Tensor) -> Tensor:
    """Return where pairs of context and item, as numbers, stand in a bool table ``[rows, C]``."""
    column = concepts.new_full((size,), -1)
    column[concepts] = torch.arange(len(concepts), device=concepts.device)
    at = column[numbers % size]
    out = torch.zeros(rows, len(concepts), dtype=torch.bool, device=numbers.device)
    out[numbers.div(size, rounding_mode="floor")[at >= 0], at[at >= 0]] = True
    return out
