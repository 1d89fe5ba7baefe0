"""A slot to be filled given the items of others: what recommendation, attribution and tagging share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData, Relation
from hyperlearn_pyg.data._members import Slot
from hyperlearn_pyg.data.splits import split_positions
from hyperlearn_pyg.data.tuples import TupleNumbers, rank_in
from hyperlearn_pyg.nn.models.hyperlearn import HyperLearn
from hyperlearn_pyg.training.evaluation import check_split, encoded
from hyperlearn_pyg.training.links import SEEN
from hyperlearn_pyg.training.scorers import ModelScorer
from hyperlearn_pyg.transforms._common import find_slot


@dataclass(frozen=True)
class Question:
    """The entries of a split, the slot to fill and the slots that are told.

    Attributes:
        relation: the relation.
        slot: the slot to fill.
        given: the slots whose item is told.
        index: the entries of the split ``[k, E]``.
        seen: the entries of the splits before ``[k, F]``, for floors.
        known: the entries of the splits to exclude ``[k, G]``.
    """

    relation: Relation
    slot: int
    given: tuple[int, ...]
    index: Tensor
    seen: Tensor
    known: Tensor

    @property
    def size(self) -> int:
        """The number of candidates."""
        return self.relation.sizes[self.slot]

    @property
    def unknown(self) -> list[int]:
        """The slots that are neither told nor to be filled."""
        return [s for s in range(self.relation.order) if s != self.slot and s not in self.given]

    def scorer(self, model: HyperLearn, factors: Mapping[str, Tensor]) -> ModelScorer:
        """Return the model as what fills the slot; slots that are not told are averaged over their items."""
        return ModelScorer(model, self.relation.name, factors, self.unknown)

    @cached_property
    def contexts(self) -> Contexts:
        """The distinct contexts of the split's entries, with their answers and what is excluded."""
        sizes = self.relation.sizes
        rows = list(self.given)
        number = TupleNumbers(torch.cat([self.index, self.known], dim=1)[rows], [sizes[s] for s in rows])
        keys, context = number(self.index[rows]).unique(return_inverse=True)
        first = torch.full_like(keys, self.index.size(1)).scatter_reduce_(
            0, context, torch.arange(len(context), device=context.device), "amin"
        )
        at, found = rank_in(keys, number(self.known[rows]))
        excluded = (at * self.size + self.known[self.slot])[found].unique()
        answers = (context * self.size + self.index[self.slot]).unique()
        answers = answers[~rank_in(excluded, answers)[1]]
        return Contexts(self.index[:, first], answers, excluded)


@dataclass(frozen=True)
class Contexts:
    """Distinct contexts of a question.

    Attributes:
        index: a tuple of each context ``[k, C]``; rows of slots that are not told hold some item.
        answers: the items that fill the slot, as ascending numbers ``context * N + item [A]``.
        excluded: the items that are no candidates, as such numbers; none of them is an answer.
    """

    index: Tensor
    answers: Tensor
    excluded: Tensor


def ask(
    data: MultiModalHeteroData,
    relation: str,
    slot: Slot,
    given: Sequence[Slot] | None,
    split: str,
    exclude: Sequence[str],
) -> Question:
    """Read a question from the data.

    Args:
        data: the data.
        relation: the name of the relation.
        slot: the slot to fill: a modality, or a pair (modality, role).
        given: the slots whose item is told; all others where absent.
        split: the split whose entries ask.
        exclude: the splits whose items are no candidates in their context; ``split`` itself never is.

    Raises:
        ValueError: unknown split, relation or slot; ``slot`` is among ``given``; the split has no entry.
    """
    check_split(split)
    for name in exclude:
        check_split(name)
    view = data.relation(relation)
    at = find_slot(view, slot)
    told = [s for s in range(view.order) if s != at] if given is None else [find_slot(view, s) for s in given]
    if at in told or len(set(told)) < len(told):
        raise ValueError(f"'given' must name other slots than {slot!r}, each once (got {given!r})")
    every = view.index
    index = every[:, split_positions(data, relation, (split,))]
    if index.size(1) == 0:
        raise ValueError(f"relation '{relation}' has no entry in the split {split!r}: set its '{split}_mask'")
    seen = every[:, split_positions(data, relation, SEEN[split])]
    known = every[:, split_positions(data, relation, set(exclude) - {split})]
    return Question(view, at, tuple(told), index, seen, known)


def ask_model(
    model: HyperLearn,
    data: MultiModalHeteroData,
    relation: str,
    slot: Slot,
    *,
    given: Sequence[Slot] | None,
    split: str,
    exclude: Sequence[str],
    factors: Mapping[str, Tensor] | None,
) -> tuple[Question, ModelScorer]:
    """Read a question from the data, and the model as what answers it.

    Raises:
        ValueError: as :func:`ask`, or the model does not know the relation.
    """
    if relation not in model.relations:
        raise ValueError(f"the model was made without the relation {relation!r} (it has: {list(model.relations)})")
    check_split(split)
    data, factors = encoded(model, data, split, factors)
    question = ask(data, relation, slot, given, split, exclude)
    return question, question.scorer(model, factors)
