from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from hyperlearn_pyg.data.tuples import tuple_keys
from hyperlearn_pyg.loader import NegativeSampler


def rmse(score: Tensor, value: Tensor) -> float:
    """Return the root mean squared error of ``score [E]`` for ``value [E]``; NaN for no entries."""
    return float((score - value).double().square().mean().sqrt())


def mae(score: Tensor, value: Tensor) -> float:
    """Return the mean absolute error of ``score [E]`` for ``value [E]``; NaN for no entries."""
    return float((score - value).double().abs().mean())


def corrupt(index: Tensor, known: Tensor, sizes: Sequence[int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Replace one item of each tuple by a uniformly drawn one, never giving a known tuple.

    Args:
        index: tuples ``[k, E]``.
        known: every tuple that must not come out ``[k, F]``.
        sizes: number of items of each slot.
        generator: source of randomness, on the CPU.

    Returns:
        The corrupted tuples ``[k, E']`` and the position of the tuple each was made from ``[E']``; a tuple of which
        every corruption is known is left out.
    """
    negative, mask = NegativeSampler(known, sizes).sample(index, generator=generator)
    return negative[:, mask], mask.nonzero()[:, 0]


def auc_ap(positive: Tensor, negative: Tensor) -> tuple[float, float]:
    """Return the area under the ROC curve and the average precision of two sets of scores.

    NaN if one is empty or a score is no finite number.
    """
    scores = torch.cat([positive, negative])
    if positive.numel() == 0 or negative.numel() == 0 or not bool(scores.isfinite().all()):
        return float("nan"), float("nan")
    label = torch.cat([torch.ones_like(positive), torch.zeros_like(negative)]).cpu().numpy()
    score = scores.cpu().numpy()
    return float(roc_auc_score(label, score)), float(average_precision_score(label, score))


def filtered_ranks(
    score_slot: Callable[[Tensor], Tensor],
    index: Tensor,
    known: Tensor,
    sizes: Sequence[int],
    slot: int,
    *,
    chunk: int = 256,
) -> Tensor:
    """Rank the true item of one slot among all items, other known tuples left out; ties count half, NaN is worst.

    Args:
        score_slot: maps tuples ``[k, B]`` to the scores of all items of the slot ``[B, N]``.
        index: tuples ``[k, E]``.
        known: known tuples ``[k, F]``.
        sizes: number of items of each slot.
        slot: the slot to fill.
        chunk: tuples scored at once.

    Returns:
        Ranks ``[E]``, the best is 1.
    """
    others = [s for s in range(len(sizes)) if s != slot]
    context, known_context = tuple_keys([index[others], known[others]], [sizes[s] for s in others])
    known_context, order = known_context.sort()
    known_item = known[slot][order]
    ranks = torch.empty(index.size(1), dtype=torch.float64, device=index.device)
    for start in range(0, index.size(1), chunk):
        part = slice(start, start + chunk)
        score = score_slot(index[:, part]).nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
        rows = torch.arange(score.size(0), device=score.device)
        own = score[rows, index[slot, part]].clone()
        first = torch.searchsorted(known_context, context[part])
        length = torch.searchsorted(known_context, context[part], right=True) - first
        row = rows.repeat_interleave(length)
        inner = torch.arange(len(row), device=row.device) - (length.cumsum(0) - length).repeat_interleave(length)
        score[row, known_item[first.repeat_interleave(length) + inner]] = -torch.inf
        score[rows, index[slot, part]] = -torch.inf
        ranks[part] = 1 + (score > own[:, None]).sum(1) + 0.5 * (score == own[:, None]).sum(1)
    return ranks
