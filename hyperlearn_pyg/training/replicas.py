"""What a training asks of its processes, answered by replicas of a whole model that a strategy brings together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Module

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.distributed import checkpoint
from hyperlearn_pyg.distributed.strategies import CoLearning, GradientPush
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.training.config import TrainConfig
from hyperlearn_pyg.training.evaluation import evaluate_inputs
from hyperlearn_pyg.training.parallel import Alone, Writer

#: What is kept of the state of a strategy: numbers that are the same on all ranks after a sync.
_KEPT = {"co-learning": ("round", "start", "length", "trace"), "gradient-push": ("steps",)}


class Replicas(Alone):
    """Replicas of a whole model, one a rank. Each takes its share of the targets of every step.

    Replicas are alike at the end of the rounds of co-learning, and wherever gradient push averages them; then, and only
    then, they are evaluated and saved, and agree whether to stop.

    Args:
        model: the model; it is moved to the device.
        device: the device.
        config: how it is trained; its ``strategy`` is named.
    """

    def __init__(self, model: Module, device: torch.device, config: TrainConfig) -> None:
        super().__init__(model, device, config)
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.strategy: CoLearning | GradientPush | None = None
        self._epochs: Iterator[int] = iter(())
        self._asked, self._stops = False, False

    def guard(self) -> AbstractContextManager[None]:
        """See :class:`Parallel`."""
        return self._now.guard()

    def stop(self, flag: bool) -> bool:
        """See :class:`Parallel`. Ranks agree when they meet."""
        self._asked = self._asked or flag
        return self._stops

    def fault(self, text: str | None) -> str | None:
        """See :class:`Parallel`."""
        return next((told for told in self._now.ranks.tell(text) if told is not None), None)

    def begin(self, optimizer: torch.optim.Optimizer, epochs: int) -> None:
        """See :class:`Parallel`."""
        if self.config.strategy == "co-learning":  # the schedule of the training sets the rate
            self.strategy = CoLearning(self.model, optimizer, decay=1.0)
        else:
            self.strategy = GradientPush(optimizer, self.model)
        self._enter(epochs)

    def own(self, batches: Sequence[Mapping[str, Tensor] | None], inputs: Any) -> list[Mapping[str, Tensor] | None]:
        """See :class:`Parallel`. Every ``world_size``-th target of each relation."""
        everything = {n: torch.arange(len(t), device=t.index.device) for n, t in inputs.tuples.items()}
        return [
            {name: part[self.rank :: self.world_size] for name, part in (everything if b is None else b).items()}
            for b in batches
        ]

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """See :class:`Parallel`."""
        (self.strategy if isinstance(self.strategy, GradientPush) else optimizer).step()

    def meet(self, epoch: int, last: int, averages: Iterable[Tensor]) -> tuple[bool, bool]:
        """See :class:`Parallel`."""
        now, config = self._now, self.config
        if isinstance(now, CoLearning):
            rounds = len(now.trace)
            next(self._epochs, None)  # ends the round, where this was its last epoch
            alike = len(now.trace) > rounds
        else:
            alike = epoch % config.eval_every == 0 or epoch % config.checkpoint_every == 0 or epoch == last
            if alike:
                now.average()
        if alike:
            now.average_(averages, "averages")
            self._stops = any(now.ranks.tell(self._asked))
        return alike, alike

    def evaluate(
        self, model: Any, data: MultiModalHeteroData, inputs: Any, split: str, **options: Any
    ) -> dict[str, dict[str, float]]:
        """See :class:`Parallel`. Rank 0 scores, as all have the same model."""
        found = None
        with self.guard():
            if self.rank == 0:
                found = evaluate_inputs(model, data, inputs, split, **options)
        told: dict[str, dict[str, float]] = self._now.ranks.tell(found)[0]
        return told

    def writer(self, folder: Path) -> Writer:
        """See :class:`Parallel`. Rank 0 saves, as all have the same model."""
        return super().writer(folder) if self.rank == 0 else _Nothing()

    def load_latest(self, folder: Path, names: Iterable[str] | None) -> checkpoint.Checkpoint | None:
        """See :class:`Parallel`. All ranks get the optimizer state of rank 0."""
        found, fault = None, None
        if self.rank == 0:
            try:
                found = checkpoint.newest(folder)
            except InputError as error:
                fault = str(error)
        directory, fault = self._now.ranks.tell([None if found is None else str(found), fault])[0]
        if fault is not None:
            raise InputError(fault)
        return None if directory is None else checkpoint.load(directory, names)

    def state(self) -> dict[str, Any]:
        """See :class:`Parallel`."""
        whole = self._now.state_dict()
        return {key: whole[key] for key in _KEPT[str(self.config.strategy)]}

    def restore(self, state: Mapping[str, Any], epochs: int) -> None:
        """See :class:`Parallel`."""
        now = self._now
        now.restart()
        if state:
            now.load_state_dict({**now.state_dict(), **state})
        self._enter(epochs)

    @property
    def _now(self) -> CoLearning | GradientPush:
        assert self.strategy is not None, "a training begins with a phase"
        return self.strategy

    def _enter(self, epochs: int) -> None:
        """Begin the first epoch of what is left."""
        now = self._now
        if isinstance(now, CoLearning):
            self._epochs = (epoch for rnd in now.rounds(epochs) for epoch in rnd)
            next(self._epochs, None)


class _Nothing:
    """Saves nothing, on a rank that another one saves for."""

    def save(self, step: int, tensors: Mapping[str, Tensor], **kwargs: Any) -> None:
        """See :class:`Writer`."""

    def wait(self) -> None:
        """See :class:`Writer`."""

    def __enter__(self) -> _Nothing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing waits."""
