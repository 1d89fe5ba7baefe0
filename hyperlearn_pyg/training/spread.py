"""What a training asks of its processes, answered by a model that is spread over them by modality."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Module

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.distributed import ModalityParallel, checkpoint
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.training.codistilled import Codistilled
from hyperlearn_pyg.training.config import TrainConfig
from hyperlearn_pyg.training.evaluation import evaluate_factors
from hyperlearn_pyg.training.parallel import Alone, OneModel, Parallel, pick_device
from hyperlearn_pyg.training.parts import Parts
from hyperlearn_pyg.training.replicas import Averaged, Pushed, Replicas
from hyperlearn_pyg.training.state import split_name
from hyperlearn_pyg.training.writers import RanksWriter, latest_of

#: What answers for the replicas of each strategy.
_KINDS: dict[str, type[Replicas]] = {
    "co-learning": Averaged,
    "gradient-push": Pushed,
    "codistillation": Codistilled,
    "gist": Parts,
    "resist": Parts,
}


def parallel_of(model: Module, config: TrainConfig) -> Parallel:
    """Return what answers for the processes that a model is trained in.

    Raises:
        InputError: there is no such device here.
    """
    if isinstance(model, ModalityParallel):
        if config.strategy:
            raise InputError(
                f"train.strategy: {config.strategy!r} trains replicas of a whole model, and this one is spread over "
                "ranks: leave it out, or see hyperlearn_pyg.distributed.strategies for replicas of a spread model"
            )
        return Spread(model, config)
    device = pick_device(config.device)
    together = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return (
        _KINDS[config.strategy](model, device, config) if config.strategy and together else Alone(model, device, config)
    )


class Spread(OneModel):
    """A model that is spread over ranks, or over the devices of one process, by modality.

    The data stay on the CPU, where tuples are drawn; ``ModalityParallel.prepare`` brings what a modality reads to its
    device.

    Args:
        model: the model.
        config: how it is trained.
    """

    def __init__(self, model: ModalityParallel, config: TrainConfig) -> None:
        super().__init__(config)
        self.model = model
        self.rank, self.world_size = model.ranks.rank, model.ranks.world_size
        self.device, self.compute = torch.device("cpu"), model.device

    def guard(self) -> AbstractContextManager[None]:
        """See :class:`Parallel`."""
        return self.model.guard()

    def stop(self, flag: bool) -> bool:
        """See :class:`Parallel`."""
        if self.world_size == 1:
            return flag
        if flag:
            self.model.request_stop()
        return self.model.stop_requested

    def clip_grad_norm_(self, max_norm: float) -> Tensor:
        """See :class:`Parallel`."""
        return self.model.clip_grad_norm_(max_norm)

    def any(self, flag: bool) -> bool:
        """See :class:`Parallel`."""
        return self.model.any(flag)

    def fault(self, text: str | None) -> str | None:
        """See :class:`Parallel`."""
        return next((told for told in self.model.ranks.tell(text) if told is not None), None)

    def evaluate(
        self, model: Any, data: MultiModalHeteroData, inputs: Any, split: str, **options: Any
    ) -> dict[str, dict[str, float]]:
        """See :class:`Parallel`. Rank 0 scores, from the tables of all."""
        factors = self.model.gather_factors(inputs)
        metrics = None
        if factors is not None:
            decoders = _on_cpu(self.model.module)
            with self.model.guard():
                metrics = evaluate_factors(decoders, data, factors, split, **options)
        told: dict[str, dict[str, float]] = self.model.ranks.tell(metrics)[0]
        return told

    def writer(self, folder: Path) -> RanksWriter:
        """See :class:`Parallel`. Of what several ranks have alike, the first of them saves it."""
        return RanksWriter(self.model.ranks, folder, self._saved_name, self._saved_name)

    def _saved_name(self, name: str) -> str | None:
        return name if split_name(name)[1] in self.model.saved_names() else None

    def load_latest(self, folder: Path, names: Iterable[str] | None) -> checkpoint.Checkpoint | None:
        """See :class:`Parallel`."""
        return latest_of(self.model.ranks, folder, names)


def _on_cpu(model: Any) -> Any:
    """Return a model that scores factors on the CPU, without its encoders."""
    if next(model.decoders.buffers()).device.type == "cpu":
        return model
    out = copy.copy(model)
    out._modules = {**model._modules, "decoders": copy.deepcopy(model.decoders).cpu()}
    return out
