"""Replicas that stay different and learn from what their peers answer: codistillation within a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from hyperlearn_pyg.distributed.strategies import Codistillation, kl_divergence, squared_error
from hyperlearn_pyg.training.replicas import Replicas, whole_batches

#: Tuples of a relation that peers answer for in a step, at most, and items that each true one of a 0/1 relation is put
#: beside.
_TUPLES, _BESIDE = 4096, 8


@dataclass(frozen=True)
class Question:
    """Tuples of one relation that replicas score.

    Attributes:
        relation: the relation.
        index: the tuples ``[k, B]``, or ``[k, B, C]`` where each stands beside others that differ in one slot.
    """

    relation: str
    index: Tensor


class _Answers(Module):
    """The scores of a model, as a module that can be called with the parameters of a peer."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Any, keep: Mapping[str, Tensor] | None, questions: Sequence[Question]) -> list[Tensor]:
        """Return the scores of each question, of the shape of its tuples."""
        return answers(self.model, self.model(inputs, keep), questions)


def answers(model: Any, factors: Mapping[str, Tensor], questions: Sequence[Question]) -> list[Tensor]:
    """Return the scores of each question, ``[B]`` or ``[B, C]``."""
    return [model.score(q.relation, factors, q.index.flatten(1)).view(q.index.shape[1:]) for q in questions]


def apart(own: Sequence[Tensor], peer: Sequence[Tensor]) -> Tensor:
    """Return how far two replicas' answers are apart, the mean over the questions.

    Values by their squared difference; of 0/1 relations which item a replica takes for the true one, by the divergence
    of the peer's softmax.
    """
    parts = [squared_error(a, b) if a.dim() == 1 else kl_divergence(a, b) for a, b in zip(own, peer, strict=True)]
    return torch.stack(parts).mean()


class Codistilled(Replicas):
    """Replicas that learn from their peers as these were when they last met; they stay different.

    A replica's labels are its share of the targets; it is compared with its peers on all targets of the step. Replica 0
    is evaluated, and is the model in the end.
    """

    apart = True

    @property
    def now(self) -> Codistillation:
        """See :class:`Replicas`."""
        return self._now

    def begin(self, optimizer: torch.optim.Optimizer, epochs: int) -> None:
        """See :class:`Parallel`."""
        self._now = Codistillation(_Answers(self.model), every=None, distance=apart)
        self._batches: list[Mapping[str, Tensor]] = []

    def own(self, batches: Sequence[Mapping[str, Tensor] | None], inputs: Any) -> list[Mapping[str, Tensor] | None]:
        """See :class:`Parallel`."""
        self._batches = whole_batches(batches, inputs)
        return super().own(batches, inputs)

    def loss(
        self,
        model: Any,
        inputs: Any,
        batch: Mapping[str, Tensor] | None,
        number: int,
        *,
        keep: Mapping[str, Tensor] | None,
        generator: torch.Generator,
    ) -> Tensor:
        """See :class:`Parallel`."""
        factors = model(inputs, keep)
        loss: Tensor = model.loss(inputs, batch, keep=keep, factors=factors, generator=generator)
        asked = self._questions(model, inputs, self._batches[number], generator)
        return self.now(loss, answers(model, factors, asked), inputs, keep, asked)

    def _questions(
        self, model: Any, inputs: Any, batch: Mapping[str, Tensor], generator: torch.Generator
    ) -> list[Question]:
        slots, out = model.predicted_slots(), []
        for name, spec in model.relations.items():
            tuples, positions = inputs.tuples[name], batch[name]
            chosen = torch.randperm(len(positions), generator=generator)[:_TUPLES].to(positions.device)
            index = tuples.index[:, positions[chosen]]
            if spec.has_value:
                out.append(Question(name, index))
                continue
            for slot in slots[name]:
                beside = torch.randint(spec.sizes[slot], (index.size(1), _BESIDE), generator=generator).to(index)
                rows = index[:, :, None].repeat(1, 1, 1 + _BESIDE)
                rows[slot, :, 1:] = beside
                out.append(Question(name, rows))
        return out

    def _bring_together(self, averages: dict[str, Tensor]) -> None:
        self.now.exchange()

    def _go_on(self, kept: Mapping[str, Any], epochs: int) -> None:
        if kept:  # the peers are as they were when they were saved
            self.now.exchange()
