"""What a training asks of the processes it runs in; here the answers of a single one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.distributed import checkpoint
from hyperlearn_pyg.errors import InputError, did_you_mean
from hyperlearn_pyg.nn.models.config import ModelConfig
from hyperlearn_pyg.nn.models.inputs import RelationSpec
from hyperlearn_pyg.training.config import TrainConfig
from hyperlearn_pyg.training.evaluation import evaluate_inputs

#: Checkpoints that a training keeps: where the newest is damaged, there is one to go back to.
KEEP = 2


class Met(NamedTuple):
    """What follows when the processes have met after an epoch.

    Attributes:
        scored: whether to evaluate.
        saved: whether to save.
        anew: whether the model has other parameters than before, so that the optimizer begins anew.
    """

    scored: bool
    saved: bool
    anew: bool = False


class Trainable(Protocol):
    """All of a model that a training touches; on several ranks parameters and state are those of the rank."""

    @property
    def config(self) -> ModelConfig:
        """How the model was made."""
        ...

    @property
    def relations(self) -> Mapping[str, RelationSpec]:
        """What the model knows of each relation; the same on every rank."""
        ...

    def prepare(self, data: MultiModalHeteroData, splits: Sequence[str]) -> Any:
        """Take from the data what the model reads, with ``tuples`` among it."""
        ...

    def start(self, data: MultiModalHeteroData, *, splits: Sequence[str]) -> None:
        """Set the start values from the entries of ``splits``."""
        ...

    def loss(
        self,
        inputs: Any,
        batch: Mapping[str, Tensor] | None,
        *,
        keep: Mapping[str, Tensor] | None,
        generator: torch.Generator,
    ) -> Tensor:
        """Return the loss of a step; the same value on every rank."""
        ...

    def parameters(self) -> Iterator[Parameter]:
        """Return the parameters."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Return the parameters with the names that they have in the plain model."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return parameters and buffers by the names that they have in the plain model."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Take over such a state; a RuntimeError where it does not fit."""
        ...

    def train(self) -> Any:
        """Switch to training."""
        ...

    def eval(self) -> Any:
        """Switch to evaluation."""
        ...


class Writer(Protocol):
    """Saves checkpoints while the training goes on, as :class:`~hyperlearn_pyg.distributed.CheckpointWriter` does."""

    def save(
        self,
        step: int,
        tensors: Mapping[str, Tensor],
        *,
        optimizer: Mapping[str, Mapping[str, Any]],
        extra: Mapping[str, Any],
    ) -> Any:
        """Copy the values and begin to write them; raises what went wrong with the save before."""
        ...

    def wait(self) -> None:
        """Wait until all is written; raises what went wrong."""
        ...

    def __enter__(self) -> Writer: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait; raise what went wrong unless there is an error already."""
        ...


class Parallel(Protocol):
    """What a training asks of its processes. All ranks ask the same questions in the same order."""

    @property
    def rank(self) -> int:
        """Number of this process; rank 0 alone shows progress, logs and gives the values that are no tensors."""
        ...

    @property
    def world_size(self) -> int:
        """Number of processes."""
        ...

    @property
    def device(self) -> torch.device:
        """Where this process wants its data."""
        ...

    @property
    def compute(self) -> torch.device:
        """Where this process computes."""
        ...

    def guard(self) -> AbstractContextManager[None]:
        """Tell other ranks at once of what a block raises."""
        ...

    def stop(self, flag: bool) -> bool:
        """Tell whether some rank was asked to stop, at the latest one step after it was."""
        ...

    def clip_grad_norm_(self, max_norm: float) -> Any:
        """Scale the gradients so that their norm over all ranks is at most ``max_norm``."""
        ...

    def begin(self, optimizer: torch.optim.Optimizer, epochs: int) -> None:
        """Begin a phase of so many epochs, the model being at its start."""
        ...

    def own(self, batches: Sequence[Mapping[str, Tensor] | None], inputs: Any) -> list[Mapping[str, Tensor] | None]:
        """Return the targets of each step that are this process's."""
        ...

    def part(self, averages: dict[str, Tensor]) -> bool:
        """Before an epoch: let the model be the part of it that this process trains; tell whether it is another one.

        ``averages`` are the moving averages of the parameters, by name; they become those of the part.
        """
        ...

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
        """Return the loss of step ``number`` of the epoch on the targets ``batch`` of this process."""
        ...

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Take a step."""
        ...

    def meet(self, epoch: int, last: int, averages: dict[str, Tensor]) -> Met:
        """Tell, after an epoch of ``last``, what follows; the model, and its moving averages, are then whole."""
        ...

    def abandon(self) -> None:
        """Leave the model whole after an error, without a message."""
        ...

    def state(self) -> dict[str, Any]:
        """Return where a strategy stands, the same on every rank, as JSON holds it."""
        ...

    def saved_as(self, state: Mapping[str, Any]) -> tuple[str, str]:
        """Return what stands before the names of this process's tensors, and of its optimizer state, in a checkpoint
        whose strategy stood at ``state``."""
        ...

    def restore(self, state: Mapping[str, Any], epoch: int, epochs: int) -> None:
        """Go on from there in ``epoch`` of ``epochs``, with the model and optimizer as they were loaded.

        A state of another strategy, or of another number of processes, counts for nothing: it begins anew.
        """
        ...

    def any(self, flag: bool) -> bool:
        """Tell whether some rank says so."""
        ...

    def fault(self, text: str | None) -> str | None:
        """Return what is wrong on the first rank where something is; the same on every rank."""
        ...

    def evaluate(
        self, model: Any, data: MultiModalHeteroData, inputs: Any, split: str, **options: Any
    ) -> dict[str, dict[str, float]]:
        """Return the metrics of each relation, the same on every rank, as ``evaluate_inputs`` gives them."""
        ...

    def writer(self, folder: Path) -> Writer:
        """Return a writer that keeps the last :data:`KEEP` checkpoints of ``folder``."""
        ...

    def load_latest(self, folder: Path, names: Iterable[str] | None) -> checkpoint.Checkpoint | None:
        """Read the newest intact checkpoint, the same one on every rank; what is wrong is raised on every rank."""
        ...


class OneModel:
    """What is the same wherever there is one model, in one process or spread: no replicas are to be brought together.

    Args:
        config: how it is trained.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config

    def begin(self, optimizer: torch.optim.Optimizer, epochs: int) -> None:
        """See :class:`Parallel`."""

    def own(self, batches: Sequence[Mapping[str, Tensor] | None], inputs: Any) -> list[Mapping[str, Tensor] | None]:
        """See :class:`Parallel`."""
        return list(batches)

    def part(self, averages: dict[str, Tensor]) -> bool:
        """See :class:`Parallel`."""
        return False

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
        out: Tensor = model.loss(inputs, batch, keep=keep, generator=generator)
        return out

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """See :class:`Parallel`."""
        optimizer.step()

    def meet(self, epoch: int, last: int, averages: dict[str, Tensor]) -> Met:
        """See :class:`Parallel`."""
        config = self.config
        return Met(epoch % config.eval_every == 0 or epoch == config.epochs, epoch % config.checkpoint_every == 0)

    def abandon(self) -> None:
        """See :class:`Parallel`."""

    def state(self) -> dict[str, Any]:
        """See :class:`Parallel`."""
        return {}

    def saved_as(self, state: Mapping[str, Any]) -> tuple[str, str]:
        """See :class:`Parallel`."""
        return "", ""

    def restore(self, state: Mapping[str, Any], epoch: int, epochs: int) -> None:
        """See :class:`Parallel`."""


class Alone(OneModel):
    """The plain single process.

    Args:
        model: the model; it is moved to the device.
        device: the device.
        config: how it is trained.
    """

    rank = 0
    world_size = 1

    def __init__(self, model: Module, device: torch.device, config: TrainConfig) -> None:
        super().__init__(config)
        self.model, self.device, self.compute = model.to(device), device, device

    def guard(self) -> AbstractContextManager[None]:
        """See :class:`Parallel`."""
        return nullcontext()

    def stop(self, flag: bool) -> bool:
        """See :class:`Parallel`."""
        return flag

    def clip_grad_norm_(self, max_norm: float) -> Tensor:
        """See :class:`Parallel`."""
        return torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_norm)

    def any(self, flag: bool) -> bool:
        """See :class:`Parallel`."""
        return flag

    def fault(self, text: str | None) -> str | None:
        """See :class:`Parallel`."""
        return text

    def evaluate(
        self, model: Any, data: MultiModalHeteroData, inputs: Any, split: str, **options: Any
    ) -> dict[str, dict[str, float]]:
        """See :class:`Parallel`."""
        return evaluate_inputs(model, data, inputs, split, **options)

    def writer(self, folder: Path) -> Writer:
        """See :class:`Parallel`."""
        return checkpoint.CheckpointWriter(folder, keep=KEEP)

    def load_latest(self, folder: Path, names: Iterable[str] | None) -> checkpoint.Checkpoint | None:
        """See :class:`Parallel`."""
        return checkpoint.load_latest(folder, names)


def pick_device(name: str) -> torch.device:
    """Return the device that ``TrainConfig.device`` means.

    Raises:
        InputError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(
            f"train.device: expected 'auto', 'cpu', 'cuda' or one card such as 'cuda:1' (got {name!r})"
            + did_you_mean(name, ("auto", "cpu", "cuda"))
        ) from error
    try:
        torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"train.device: {name!r} is not to be had here ({reason}): use 'auto' or 'cpu'") from error
    return device
