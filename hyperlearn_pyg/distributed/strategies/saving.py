"""Checkpoints of replicas, which plain training, any other strategy and any other number of ranks can read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from hyperlearn_pyg.distributed import checkpoint
from hyperlearn_pyg.distributed._plain import check_json
from hyperlearn_pyg.distributed.modality_parallel import ModalityParallel
from hyperlearn_pyg.distributed.optimizers import load_optimizer_state, optimizer_state
from hyperlearn_pyg.distributed.strategies.base import Strategy

_TENSOR = "<tensor>"


def save_replicas(
    strategy: Strategy,
    folder: str | os.PathLike[str],
    step: int,
    module: Module,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    extra: Mapping[str, Any] | None = None,
    keep: int | None = None,
) -> str:
    """Save all replicas and the state of their strategy as one checkpoint. Every rank calls it.

    The module of replica 0 has the plain names, so whatever reads checkpoints reads that one; the others have the
    prefix ``replica.1.`` and so on. Until all ranks have written their part, the checkpoint before stays the newest.

    Args:
        strategy: gives the ranks and its state.
        folder: of the run's checkpoints, on a file system that all ranks see.
        step: the training step or epoch, the same on all ranks.
        module: of this rank.
        optimizer: of this rank; of :class:`GradientPush` the inner one.
        extra: further values that JSON holds, the same on all ranks.
        keep: delete what is older than so many checkpoints.

    Returns:
        The directory.

    Raises:
        OSError, ValueError: this rank's part cannot be written.
        ParallelError: another rank's cannot. Training can go on.
        RankLostError: a rank died meanwhile.
    """
    strategy.check()
    ranks, new = strategy.everyone, None
    what = f"the checkpoint of step {step} was not saved"
    with ranks.all_or_none(what):
        check_json(dict(extra or {}), "'extra'")
    with ranks.all_or_none(what):
        new = str(checkpoint.new_directory(folder, step)) if ranks.rank == 0 else None
    directory = ranks.tell(new)[0]
    prefix = _prefix(strategy.rank)
    own = _own(module)
    state = {} if optimizer is None else optimizer_state(optimizer, module.named_parameters())
    tensors = {prefix + name: value for name, value in own.items()}
    plain = _apart(strategy.state_dict(), f"strategy.{ranks.rank}", tensors)
    values: dict[str, Any] = {f"strategy.{ranks.rank}": {"ranks": ranks.world_size, "state": plain}}
    if ranks.rank == 0:
        passes = module.steps if isinstance(module, ModalityParallel) else 0
        values |= {"extra": dict(extra or {}), "passes": passes}
    writer = checkpoint.CheckpointWriter(
        folder, rank=ranks.rank, world_size=ranks.world_size, keep=keep, asynchronous=False
    )
    writer.together = lambda: ranks.all_or_none(what)
    kept = {prefix + name: entry for name, entry in state.items() if name in own}
    writer.save(step, tensors, optimizer=kept, extra=values, directory=directory)
    return str(directory)


def load_replicas(
    strategy: Strategy,
    folder: str | os.PathLike[str],
    module: Module,
    optimizer: torch.optim.Optimizer | None = None,
) -> dict[str, Any] | None:
    """Load the newest checkpoint that is whole, whoever wrote it. Every rank calls it.

    Where the same strategy wrote it on as many ranks, each gets its own replica, and training goes on as if it had not
    stopped. Otherwise all ranks get the module and optimizer that have the plain names (replica 0, or what plain
    training or :class:`~hyperlearn_pyg.distributed.ModalityParallel` saved), and the strategy begins anew.

    Args:
        strategy: takes its state from there.
        folder: of the run's checkpoints.
        module: of this rank.
        optimizer: of this rank.

    Returns:
        ``step``, and what was saved as ``extra``; None where there is no checkpoint.

    Raises:
        InputError: it does not fit the module; on the rank that finds it, and on the others a ``ParallelError``.
        RankLostError: a rank died meanwhile.
    """
    strategy.check()
    ranks, found = strategy.everyone, None
    what = f"no checkpoint was loaded from '{folder}'"
    with ranks.all_or_none(what):
        found = checkpoint.newest(folder) if ranks.rank == 0 else None
    directory = ranks.tell(None if found is None else str(found))[0]
    if directory is None:
        return None
    with ranks.all_or_none(what):
        read = _read(strategy, directory, module)
        _apply(strategy, read, module, optimizer)
    return {"step": read.step, **read.extra.get("extra", {})}


def _prefix(rank: int) -> str:
    return f"replica.{rank}." if rank else ""


def _own(module: Module) -> dict[str, Tensor]:
    """Return what this rank saves of its replica."""
    state = module.state_dict()
    names = module.saved_names() if isinstance(module, ModalityParallel) else state.keys()
    return {name: value for name, value in state.items() if name in names and isinstance(value, Tensor)}


def _read(strategy: Strategy, directory: str, module: Module) -> checkpoint.Checkpoint:
    """Read what this rank needs, by its plain names; ``extra`` has its strategy's state where that fits."""
    ranks = strategy.everyone
    names = set(checkpoint.names(directory))
    told = checkpoint.load(directory, []).extra
    first, mine = (told.get(f"strategy.{rank}", {}) for rank in (0, ranks.rank))
    same = first.get("ranks") == ranks.world_size and first["state"].get("strategy") == type(strategy).__name__
    prefix = _prefix(strategy.rank) if same else ""
    wanted = [prefix + name for name, value in module.state_dict().items() if isinstance(value, Tensor)]
    kept = [name for name in names if same and name.startswith(f"strategy.{ranks.rank}.")]
    read = checkpoint.load(directory, [*wanted, *kept])
    cut = len(prefix)
    return checkpoint.Checkpoint(
        read.directory,
        read.step,
        {name[cut:]: read.tensors[name] for name in wanted},
        {name[cut:]: entry for name, entry in read.optimizer.items()},
        {**read.extra, "strategy": _together(mine["state"], read.tensors) if same else None},
    )


def _apply(
    strategy: Strategy, read: checkpoint.Checkpoint, module: Module, optimizer: torch.optim.Optimizer | None
) -> None:
    module.load_state_dict(read.tensors)
    if isinstance(module, ModalityParallel):
        module.steps = int(read.extra.get("passes", 0))
    if optimizer is not None:
        load_optimizer_state(optimizer, module.named_parameters(), read.optimizer)
    if read.extra["strategy"] is not None:
        strategy.load_state_dict(read.extra["strategy"])
    else:
        strategy.restart()


def _apart(value: Any, key: str, tensors: dict[str, Tensor]) -> Any:
    """Return plain values, with tensors put aside under names of their own."""
    if isinstance(value, Tensor):
        tensors[key] = value
        return {_TENSOR: key}
    if isinstance(value, Mapping):
        return {str(name): _apart(entry, f"{key}.{name}", tensors) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_apart(entry, f"{key}.{place}", tensors) for place, entry in enumerate(value)]
    return value


def _together(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo :func:`_apart`."""
    if isinstance(value, dict):
        if value.keys() == {_TENSOR}:
            return tensors[value[_TENSOR]]
        return {name: _together(entry, tensors) for name, entry in value.items()}
    return [_together(entry, tensors) for entry in value] if isinstance(value, list) else value
