"""The state of a training as a checkpoint: tensors by name, the optimizer by parameter, the rest as JSON.

The model's own tensors keep their names, so a checkpoint can be loaded as weights too. Beside them stand ``average/``
(the moving average), ``best/`` (the best state) and ``initial/`` (where a refit starts), each with the same names.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from hyperlearn_pyg.distributed import checkpoint
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.nn.models.inputs import RelationSpec
from hyperlearn_pyg.training.config import TrainConfig
from hyperlearn_pyg.training.parallel import Parallel, Trainable

#: Where the checkpoints lie in the output directory.
STATE_FOLDER = "checkpoints"
_FORMAT = 1
#: What the names of the replicas but the first begin with, see :func:`replica_prefix`.
REPLICA = "replica."
#: Groups of tensors beside the model's own. A name in a module begins with that of an attribute, so without ``/``.
_GROUPS = ("average", "best", "initial")
#: Settings that a resumed run may change.
_MAY_CHANGE = ("device", "amp", "checkpoint_every", "strategy")


@dataclass
class FitResult:
    """What :func:`fit` did.

    Attributes:
        history: a row per epoch: ``epoch``, ``loss``, ``seconds``, and ``val_...`` where it was evaluated.
        best_epoch: the epoch with the best validation score, counted from 1; 0 before any evaluation.
        validation: the validation metrics of that epoch, as :func:`evaluate` gives them.
        seconds: wall time of the training, evaluations included.
        seconds_per_step: median wall time of an optimizer step.
        interrupted: ended by Ctrl-C before its time.
        score: what the epoch was chosen by, at its best; the lower the better, infinite before any evaluation. The
            mean over the relations of RMSE in deviations of the training values, or one less AUC (or MRR).
    """

    history: list[dict[str, Any]] = field(default_factory=list, repr=False)
    best_epoch: int = 0
    validation: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    seconds_per_step: float = 0.0
    interrupted: bool = False
    score: float = math.inf


@dataclass
class Position:
    """Where a training stands: all of its state that is no tensor; the same on every rank but for the times.

    Attributes:
        phase: 0 while the epoch is chosen, 1 in the refit.
        epoch: finished epochs of the phase.
        epoch_steps: steps taken in the epoch that is not finished.
        total_steps: optimizer steps taken in all.
        averaged_steps: how many of them are in the moving average.
        best_score: the best validation score so far.
        since_best: evaluations since then.
        has_best: there is a best state.
        epoch_loss: loss of each step of the epoch.
        step_seconds: wall time of each step.
        strategy: where the strategy of replicas stands, if there is one.
        result: what is reported at the end.
    """

    phase: int = 0
    epoch: int = 0
    epoch_steps: int = 0
    total_steps: int = 0
    averaged_steps: int = 0
    best_score: float = math.inf
    since_best: int = 0
    has_best: bool = False
    epoch_loss: list[float] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    strategy: dict[str, Any] = field(default_factory=dict)
    result: FitResult = field(default_factory=FitResult)

    def enter(self, phase: int) -> None:
        """Go to the start of a phase."""
        self.phase, self.epoch, self.epoch_steps, self.averaged_steps = phase, 0, 0, 0


@dataclass
class Saved:
    """What was read of a training: tensors by plain names, as far as the rank holds them."""

    position: Position
    model: dict[str, Tensor]
    optimizer: dict[str, dict[str, Any]]
    average: dict[str, Tensor]
    best: dict[str, Tensor]
    initial: dict[str, Tensor]


def join_groups(
    model: Mapping[str, Tensor],
    *,
    average: Mapping[str, Tensor],
    best: Mapping[str, Tensor],
    initial: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name."""
    out = dict(model)
    for group, tensors in zip(_GROUPS, (average, best, initial), strict=True):
        out.update({f"{group}/{name}": tensor for name, tensor in tensors.items()})
    return out


def split_name(name: str) -> tuple[str, str]:
    """Return the group that a tensor of a checkpoint is in (empty for the model's own) and its name in the model.

    >>> split_name("best/decoders.rates.bias"), split_name("decoders.rates.bias")
    (('best', 'decoders.rates.bias'), ('', 'decoders.rates.bias'))
    """
    group, slash, rest = name.partition("/")
    return (group, rest) if slash and group in _GROUPS else ("", name)


def replica_prefix(rank: int) -> str:
    """Return what stands before the names of a replica in a checkpoint: the first has the plain ones.

    >>> replica_prefix(0), replica_prefix(2)
    ('', 'replica.2.')
    """
    return f"{REPLICA}{rank}." if rank else ""


def pack_extra(position: Position, model: Trainable, config: TrainConfig) -> dict[str, Any]:
    """Return what is no tensor as values that JSON holds."""
    out: dict[str, Any] = _to_json({"format": _FORMAT, **_made_for(model, config), "position": asdict(position)})
    return out


def has_state(out: str | os.PathLike[str]) -> bool:
    """Tell whether a directory holds the state of a training: a checkpoint that was committed."""
    return bool(checkpoint.committed(Path(out) / STATE_FOLDER))


def prune_states(out: str | os.PathLike[str], keep: int) -> None:
    """Delete all but the newest checkpoints of an output directory."""
    checkpoint.prune(Path(out) / STATE_FOLDER, keep)


def read_state(out: Path | None, model: Trainable, config: TrainConfig, parallel: Parallel) -> Saved:
    """Read the newest intact state of an output directory: of its tensors those that this rank holds.

    Raises:
        InputError: there is none or none is intact, or it is of another model or other settings.
    """
    head = None if out is None else parallel.load_latest(out / STATE_FOLDER, ())
    if head is None:
        raise InputError(f"nothing to resume: '{out}' holds no training state. Start without 'resume'")
    position = _check_extra(head, f"the training state in '{out}'", _to_json(_made_for(model, config)))
    before, optimizer_before = parallel.saved_as(position.strategy)
    own = list(model.state_dict())
    groups = {"": own, "initial": own if config.refit else [], "best": own if position.has_best else []}
    groups["average"] = [name for name, _ in model.named_parameters()] if config.ema else []
    wanted = [before + (f"{group}/{name}" if group else name) for group, names in groups.items() for name in names]
    if parallel.world_size == 1:  # one process holds all, so that a tensor too many is found as well
        wanted = [name for name in checkpoint.names(head.directory) if not name.startswith(REPLICA)]
    try:
        found = checkpoint.load(head.directory, wanted, optimizer_of=[optimizer_before + name for name in own])
    except InputError as error:
        raise of_another_model(out, error) from error
    parts: dict[str, dict[str, Tensor]] = {group: {} for group in groups}
    for name, tensor in found.tensors.items():
        group, plain = split_name(name.removeprefix(before))
        parts[group][plain] = tensor
    optimizer = {name.removeprefix(optimizer_before): entry for name, entry in found.optimizer.items()}
    return Saved(position, parts[""], optimizer, parts["average"], parts["best"], parts["initial"])


def of_another_model(out: Path | None, reason: object) -> InputError:
    """Return the error for a state that does not fit the model."""
    return InputError(f"the training state in '{out}' is that of another model: {reason}")


def _made_for(model: Trainable, config: TrainConfig) -> dict[str, Any]:
    relations = {name: _brief(spec) for name, spec in model.relations.items()}
    return {"config": config.to_dict(), "model_config": model.config.to_dict(), "relations": relations}


def _brief(spec: RelationSpec) -> dict[str, Any]:
    return {"slots": spec.slots, "sizes": spec.sizes, "has_value": spec.has_value, "levels": spec.num_levels}


def _check_extra(head: checkpoint.Checkpoint, what: str, ours: Mapping[str, Any]) -> Position:
    extra = head.extra
    if not {"format", "position", *ours} <= extra.keys():
        raise InputError(f"'{head.directory}' is no training state of hyperlearn_pyg: delete it and start afresh")
    if extra["format"] != _FORMAT:
        raise InputError(
            f"'{head.directory}' has format {extra['format']!r}, expected {_FORMAT}: use the version of "
            "hyperlearn_pyg that wrote it, or start afresh in another directory"
        )
    for key in ("config", "model_config"):
        different = [n for n, v in ours[key].items() if extra[key].get(n) != v and n not in _MAY_CHANGE]
        if different:
            raise InputError(
                f"{what} was made with {_differences(extra[key], ours[key], different)}: "
                "resume with the same settings, or start afresh in another directory"
            )
    theirs, relations = extra["relations"], ours["relations"]
    for name in {**theirs, **relations}:
        if theirs.get(name) != relations.get(name):
            raise InputError(
                f"{what} is that of another model: its relation {name!r} is {theirs.get(name)}, that of this one is "
                f"{relations.get(name)}"
            )
    values = _from_json(extra["position"])
    return Position(**{**values, "result": FitResult(**values["result"])})


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], names: list[str]) -> str:
    return ", ".join(f"{n}={old.get(n)!r} (now {new[n]!r})" for n in names)


def _to_json(value: Any) -> Any:
    """Bring values to those that every reader of JSON knows: it has no infinities, no NaN and no tuples."""
    if isinstance(value, Mapping):
        return {str(key): _to_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(entry) for entry in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": str(float(value))}
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        number = value.get("float")
        if len(value) == 1 and isinstance(number, str):
            return float(number)
        return {key: _from_json(entry) for key, entry in value.items()}
    return [_from_json(entry) for entry in value] if isinstance(value, list) else value
