"""What a training asks of its processes, answered by replicas of a whole model that a strategy brings together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Module

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.distributed import checkpoint
from hyperlearn_pyg.distributed.strategies import CoLearning, GradientPush, Strategy
from hyperlearn_pyg.training.config import TrainConfig
from hyperlearn_pyg.training.evaluation import evaluate_inputs
from hyperlearn_pyg.training.parallel import Alone, Met, Writer
from hyperlearn_pyg.training.state import replica_prefix
from hyperlearn_pyg.training.writers import RanksWriter, latest_of


class Replicas(Alone):
    """Replicas of a whole model, one a rank. Each takes its share of the targets of every step.

    They are evaluated, saved, and agree whether to stop where they meet: at the end of an epoch that the strategy, or
    the config, says.

    Args:
        model: the model; it is moved to the device.
        device: the device.
        config: how it is trained; its ``strategy`` is named.

    Attributes:
        apart: whether replicas stay different, so that each saves its own; they are alike where they meet otherwise.
        renewed: whether the optimizer begins anew where they meet, so that there is no state to save.
    """

    apart = False
    renewed = False

    def __init__(self, model: Module, device: torch.device, config: TrainConfig) -> None:
        super().__init__(model, device, config)
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self._asked, self._stops = False, False

    @property
    @abstractmethod
    def now(self) -> Strategy:
        """The strategy of this phase."""

    def guard(self) -> AbstractContextManager[None]:
        """See :class:`Parallel`."""
        return self.now.guard()

    def stop(self, flag: bool) -> bool:
        """See :class:`Parallel`. Ranks agree when they meet."""
        self._asked = self._asked or flag
        return self._stops

    def fault(self, text: str | None) -> str | None:
        """See :class:`Parallel`."""
        return next((told for told in self.now.ranks.tell(text) if told is not None), None)

    def own(self, batches: Sequence[Mapping[str, Tensor] | None], inputs: Any) -> list[Mapping[str, Tensor] | None]:
        """See :class:`Parallel`. Every ``world_size``-th target of each relation."""
        return [
            {name: part[self.rank :: self.world_size] for name, part in batch.items()}
            for batch in whole_batches(batches, inputs)
        ]

    def meet(self, epoch: int, last: int, averages: dict[str, Tensor]) -> Met:
        """See :class:`Parallel`."""
        due = self._due(epoch, last)
        if due:
            self._bring_together(averages)
            self._stops = any(self.now.ranks.tell(self._asked))
        return Met(due, due, due and self.renewed)

    def _due(self, epoch: int, last: int) -> bool:
        """Tell whether replicas meet after an epoch."""
        config = self.config
        return epoch % config.eval_every == 0 or epoch % config.checkpoint_every == 0 or epoch == last

    @abstractmethod
    def _bring_together(self, averages: dict[str, Tensor]) -> None:
        """Do what the strategy does where replicas meet."""

    def evaluate(
        self, model: Any, data: MultiModalHeteroData, inputs: Any, split: str, **options: Any
    ) -> dict[str, dict[str, float]]:
        """See :class:`Parallel`. Rank 0 scores: it has the model that counts in the end."""
        found = None
        with self.guard():
            if self.rank == 0:
                found = evaluate_inputs(model, data, inputs, split, **options)
        told: dict[str, dict[str, float]] = self.now.ranks.tell(found)[0]
        return told

    def writer(self, folder: Path) -> Writer:
        """See :class:`Parallel`. Rank 0 saves what is alike; each rank saves what is its own."""
        before = replica_prefix(self.rank)

        def named(own: bool) -> Any:
            return lambda name: before + name if own or self.rank == 0 else None

        return RanksWriter(self.now.ranks, folder, named(self.apart), named(not self.renewed))

    def load_latest(self, folder: Path, names: Iterable[str] | None) -> checkpoint.Checkpoint | None:
        """See :class:`Parallel`."""
        return latest_of(self.now.ranks, folder, names)

    def saved_as(self, state: Mapping[str, Any]) -> tuple[str, str]:
        """See :class:`Parallel`."""
        before = replica_prefix(self.rank) if self._is_own(state) else ""
        return before if self.apart else "", "" if self.renewed else before

    def state(self) -> dict[str, Any]:
        """See :class:`Parallel`."""
        return {"name": self.config.strategy, "ranks": self.world_size, **self._kept()}

    def restore(self, state: Mapping[str, Any], epoch: int, epochs: int) -> None:
        """See :class:`Parallel`."""
        self.now.restart()
        self._go_on(state if self._is_own(state) else {}, epochs - epoch)

    def _is_own(self, state: Mapping[str, Any]) -> bool:
        return (state.get("name"), state.get("ranks")) == (self.config.strategy, self.world_size)

    def _kept(self) -> dict[str, Any]:
        """Return what of the strategy's state is saved: numbers that are the same on all ranks where they meet."""
        return {}

    def _go_on(self, kept: Mapping[str, Any], epochs: int) -> None:
        """Take what was saved, nothing where it was of another strategy; so many epochs are left."""


class Averaged(Replicas):
    """Replicas in rounds of co-learning; they meet at the end of a round."""

    @property
    def now(self) -> CoLearning:
        """See :class:`Replicas`."""
        return self._now

    def begin(self, optimizer: torch.optim.Optimizer, epochs: int) -> None:
        """See :class:`Parallel`. The schedule of the training sets the rate."""
        self._now = CoLearning(self.model, optimizer, decay=1.0)
        self._enter(epochs)

    def _enter(self, epochs: int) -> None:
        """Begin the first of the epochs that are left."""
        self._epochs: Iterator[int] = (epoch for rnd in self.now.rounds(self.now.epoch + epochs) for epoch in rnd)
        self._ended = len(self.now.trace)
        next(self._epochs, None)

    def _due(self, epoch: int, last: int) -> bool:
        next(self._epochs, None)  # ends the round, where this was its last epoch
        ended, self._ended = self._ended, len(self.now.trace)
        return self._ended > ended

    def _bring_together(self, averages: dict[str, Tensor]) -> None:
        self.now.average_(averages.values(), "averages")  # the end of the round has averaged the parameters

    def _kept(self) -> dict[str, Any]:
        whole = self.now.state_dict()
        return {key: whole[key] for key in ("round", "start", "length", "trace")}

    def _go_on(self, kept: Mapping[str, Any], epochs: int) -> None:
        if kept:
            self.now.load_state_dict({**self.now.state_dict(), **kept})
        self._enter(epochs)


class Pushed(Replicas):
    """Replicas of gradient push; they are averaged where they meet."""

    @property
    def now(self) -> GradientPush:
        """See :class:`Replicas`."""
        return self._now

    def begin(self, optimizer: torch.optim.Optimizer, epochs: int) -> None:
        """See :class:`Parallel`."""
        self._now = GradientPush(optimizer, self.model)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """See :class:`Parallel`."""
        self.now.step()

    def _bring_together(self, averages: dict[str, Tensor]) -> None:
        self.now.average()
        self.now.average_(averages.values(), "averages")

    def _kept(self) -> dict[str, Any]:
        return {"steps": self.now.steps}

    def _go_on(self, kept: Mapping[str, Any], epochs: int) -> None:
        self.now.steps = kept.get("steps", 0)


def whole_batches(batches: Sequence[Mapping[str, Tensor] | None], inputs: Any) -> list[Mapping[str, Tensor]]:
    """Return the targets of each step with those of steps that take every entry written out."""
    everything = {name: torch.arange(len(t), device=t.index.device) for name, t in inputs.tuples.items()}
    return [everything if batch is None else batch for batch in batches]
