from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from hyperlearn_pyg.data.tuples import tuple_keys
from hyperlearn_pyg.loader import NegativeSampler
from hyperlearn_pyg.ops.ranges import find_ranges
from hyperlearn_pyg.training._rows import BUDGET, rows_at_once


def rmse(score: Tensor, value: Tensor) -> float:
    """Return the root mean squared error of ``score [E]`` for ``value [E]``; NaN for no entries."""
    return float((score - value).double().square().mean().sqrt())


def mae(score: Tensor, value: Tensor) -> float:
    """Return the mean absolute error of ``score [E]`` for ``value [E]``; NaN for no entries."""
    return float((score - value).double().abs().mean())


def corrupt(
    index: Tensor,
    known: Tensor,
    sizes: Sequence[int],
    generator: torch.Generator,
    slots: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Replace one item of each tuple by a uniformly drawn one, never giving a known tuple.

    Args:
        index: tuples ``[k, E]``.
        known: every tuple that must not come out ``[k, F]``.
        sizes: number of items of each slot.
        generator: source of randomness, on the CPU.
        slots: the slots whose items may be replaced; all where absent.

    Returns:
        The corrupted tuples ``[k, E']`` and the position of the tuple each was made from ``[E']``; a tuple of which
        every corruption is known is left out.
    """
    negative, mask = NegativeSampler(known, sizes, slots=slots).sample(index, generator=generator)
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
    budget: int = BUDGET,
) -> Tensor:
    """Rank the true item of one slot among all items, the items of other known tuples left out.

    Items of equal score count half: the rank is the mean over all orders of the equal ones, so that a model that gives
    all items one score ranks as chance does and cannot gain by ties. A score that is no number counts as the lowest.

    Args:
        score_slot: maps tuples ``[k, B]`` to the scores of all items of the slot ``[B, N]``, which are overwritten.
        index: tuples ``[k, E]``.
        known: known tuples ``[k, F]``.
        sizes: number of items of each slot.
        slot: the slot to fill.
        budget: scores held at once; so many tuples are scored together as fit, and one at least.

    Returns:
        Ranks ``[E]``, float64; the best is 1.
    """
    others = [s for s in range(len(sizes)) if s != slot]
    context, known_context = tuple_keys([index[others], known[others]], [sizes[s] for s in others])
    known_context, order = known_context.sort()
    known_item = known[slot][order]
    ranks = torch.empty(index.size(1), dtype=torch.float64, device=index.device)
    step = rows_at_once(sizes[slot], budget)
    for start in range(0, index.size(1), step):
        part = slice(start, start + step)
        score = score_slot(index[:, part]).nan_to_num_(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
        rows = torch.arange(len(score), device=score.device)
        own = score[rows, index[slot, part]][:, None]
        row, at = find_ranges(known_context, context[part], context[part] + 1)
        score[row, known_item[at]] = torch.nan  # neither above nor equal
        score[rows, index[slot, part]] = torch.nan
        ranks[part] = 1 + (score > own).sum(1) + 0.5 * (score == own).sum(1)
    return ranks


def rank_metrics(ranks: Tensor, hits: Sequence[int] = (1, 3, 10), name: str = "hits") -> dict[str, float]:
    """Return ``mrr``, the mean of one over the rank, and for each ``k`` the share of ranks up to it, ``hits@k``.

    Args:
        ranks: ranks ``[E]``, the best is 1; NaN comes out for none.
        hits: the numbers ``k``, each at least 1.
        name: what the shares are called.

    Raises:
        ValueError: some ``k`` is below 1.
    """
    check_cuts(hits, "hits")
    ranks = ranks.double()
    return {"mrr": float((1 / ranks).mean()), **{f"{name}@{k}": float((ranks <= k).double().mean()) for k in hits}}


def check_cuts(cuts: Sequence[int], argument: str) -> None:
    """Check the lengths at which lists are cut.

    Raises:
        ValueError: one is below 1.
    """
    if any(k < 1 for k in cuts):
        raise ValueError(f"'{argument}' must be whole numbers of at least 1 (got {list(cuts)})")
