from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.splits import split_positions
from hyperlearn_pyg.training.metrics import auc_ap, corrupt, filtered_ranks, rank_metrics
from hyperlearn_pyg.training.scorers import SlotScorer, TupleScorer

#: Splits whose entries carry messages when a split is scored: everything that comes before it.
SEEN = {"train": ("train",), "val": ("train",), "test": ("train", "val")}


def link_metrics(
    scorer: SlotScorer,
    index: Tensor,
    known: Tensor,
    sizes: Sequence[int],
    names: Sequence[str],
    *,
    hits: Sequence[int],
    ranking_tuples: int,
    seed: int,
    slots: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Score tuples ``[k, E]`` of a 0/1 relation: a model and its floors see the same negatives and ranked tuples.

    Args:
        scorer: what fills slots; areas under curves are left out where it does not score whole tuples.
        index: the tuples ``[k, E]``.
        known: tuples that never count as negatives ``[k, F]``.
        sizes: number of items of each slot.
        names: name of each slot.
        hits: the numbers ``k`` of ``hits@k``.
        ranking_tuples: at most so many tuples are ranked.
        seed: seed of the negatives and of the choice of ranked tuples.
        slots: the slots whose items are replaced and ranked; all where absent.
    """
    slots = range(len(sizes)) if slots is None else slots
    generator = torch.Generator().manual_seed(seed)
    negative, source = corrupt(index, known, sizes, generator, slots)
    out: dict[str, Any] = {}
    if isinstance(scorer, TupleScorer):
        out["auc"], out["ap"] = auc_ap(scorer.score(index[:, source]), scorer.score(negative))
    if ranking_tuples:
        some = torch.randperm(index.size(1), generator=generator)[:ranking_tuples].to(index.device)
        out.update(_slot_ranks(scorer, index[:, some], known, sizes, {s: names[s] for s in slots}, hits))
    return out


def _slot_ranks(
    scorer: SlotScorer,
    index: Tensor,
    known: Tensor,
    sizes: Sequence[int],
    names: Mapping[int, str],
    hits: Sequence[int],
) -> dict[str, Any]:
    ranks = [filtered_ranks(partial(scorer.slot_scores, slot=s), index, known, sizes, s) for s in names]
    slots = {name: rank_metrics(own, hits) for name, own in zip(names.values(), ranks, strict=True)}
    return {**rank_metrics(torch.cat(ranks), hits), "slots": slots}


def cold_entries(data: MultiModalHeteroData, relation: str, split: str = "test") -> Tensor:
    """Tell which entries of a split are cold: some item of theirs is in no entry of the splits before.

    An item counts as known when an entry of this relation names it in any slot of its modality; what other relations
    say of it is not looked at.

    Args:
        data: the data.
        relation: the name of the relation.
        split: the split; its own training entries are never cold.

    Returns:
        bool ``[E]``, for the entries of the split in their order.

    Raises:
        ValueError: there is no such relation, or it has several members in a slot.
    """
    view = data.relation(relation)
    index = view.index
    seen, own = split_positions(data, relation, SEEN[split]), split_positions(data, relation, (split,))
    cold = torch.zeros(len(own), dtype=torch.bool, device=index.device)
    for modality in dict.fromkeys(view.modalities):
        rows = [s for s, m in enumerate(view.modalities) if m == modality]
        known = torch.zeros(int(data[modality].num_nodes), dtype=torch.bool, device=index.device)
        known[index[rows][:, seen].view(-1)] = True
        cold |= ~known[index[rows][:, own]].all(0)
    return cold
