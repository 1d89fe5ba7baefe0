from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from hyperlearn_pyg.distributed import _parts, checkpoint
from hyperlearn_pyg.distributed._plain import check_json
from hyperlearn_pyg.distributed._step import common_type
from hyperlearn_pyg.distributed.optimizers import load_optimizer_state, optimizer_state

if TYPE_CHECKING:
    from hyperlearn_pyg.distributed.modality_parallel import ModalityParallel


def of_this_rank(owner: ModalityParallel, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a plain state that belong to the modalities here, or to all ranks."""
    encoders, names = owner.module.encoders, owner.names
    owned = {name: _parts.belongs_to(name, encoders, names) for name in state}
    return {name: value for name, value in state.items() if owned[name] is None or owned[name] in owner.local}


def saved_here(owner: ModalityParallel) -> dict[str, Tensor]:
    """Return the tensors that this rank saves: of its modalities, once a replica; rank 0 also what all share."""
    ranks, encoders = owner.ranks, owner.module.encoders
    out = {}
    for name, value in owner.module.state_dict().items():
        shared = _parts.belongs_to(name, encoders, owner.names) is None
        if (ranks.rank == 0) if shared else (ranks.replica == 0):
            out[name] = value
    return out


def full_state_dict(owner: ModalityParallel) -> dict[str, Tensor]:
    """Gather the state of all ranks on rank 0."""
    own = {name: value.detach().cpu().contiguous() for name, value in saved_here(owner).items()}
    return _gather(owner, own)


def gather_factors(owner: ModalityParallel, data: Any, **kwargs: Any) -> dict[str, Tensor] | None:
    """Encode in evaluation mode and gather the tables on rank 0."""
    from hyperlearn_pyg.distributed._forward import Pass

    owner.ranks.check()
    training = owner.training
    owner.eval()
    try:
        with torch.no_grad(), owner.ranks.guard():
            step = Pass(owner, None)
            step.encode(data, **kwargs)
            step.raise_faults()
            first = owner.ranks.replica == 0
            own = {name: f.detach().cpu().contiguous() for name, f in step.factors.items() if first}
            found = _gather(owner, own)
    finally:
        owner.train(training)
    return {name: found[name] for name in owner.names} if owner.ranks.rank == 0 else None


def _gather(owner: ModalityParallel, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring tensors by name to rank 0, as bytes."""
    if owner.ranks.world_size == 1:
        return {name: value.clone() for name, value in own.items()}
    told = owner.ranks.tell([[n, list(v.shape), str(v.dtype).removeprefix("torch.")] for n, v in own.items()])
    flat = [_as_bytes(value) for value in own.values()]
    content = torch.cat(flat) if flat else torch.empty(0, dtype=torch.uint8)
    out: dict[str, Tensor] = {}
    for entries, block in zip(told, owner.ranks.bytes_to(content), strict=False):
        kinds = [(name, shape, getattr(torch, kind)) for name, shape, kind in entries]
        sizes = [torch.Size(shape).numel() * kind.itemsize for _, shape, kind in kinds]
        for (name, shape, kind), part in zip(kinds, block.split(sizes), strict=True):
            out[name] = part.clone().view(kind).view(shape) if part.numel() else torch.empty(shape, dtype=kind)
    return out


def _as_bytes(value: Tensor) -> Tensor:
    return value.reshape(-1).view(torch.uint8) if value.numel() else torch.empty(0, dtype=torch.uint8)


def gather_module(owner: ModalityParallel) -> Module | None:
    """Build the plain module on rank 0: the encoders of other ranks come as their code and their numbers."""
    if owner.ranks.world_size == 1:
        alone: Module = copy.deepcopy(owner.module).cpu()
        return alone
    first = owner.ranks.replica == 0 and owner.ranks.rank != 0
    own = {name: copy.deepcopy(owner.module.encoders[name]).cpu() for name in owner.local if first}
    content = torch.frombuffer(bytearray(pickle.dumps(own)), dtype=torch.uint8)
    blocks = owner.ranks.bytes_to(content)
    if owner.ranks.rank != 0:
        return None
    module: Any = copy.deepcopy(owner.module).cpu()
    encoders = {name: module.encoders[name] for name in owner.local}
    for block in blocks:  # from the ranks of this very run
        encoders.update(pickle.loads(bytes(block.numpy())))
    module.encoders.clear()
    for name in owner.names:
        module.encoders[name] = encoders[name]
    whole: Module = module
    return whole


def save(
    owner: ModalityParallel,
    folder: str | os.PathLike[str],
    step: int,
    optimizer: torch.optim.Optimizer | None,
    extra: Mapping[str, Any] | None,
    keep: int | None,
    asynchronous: bool,
) -> str:
    """Save a checkpoint of all ranks."""
    ranks, new = owner.ranks, None
    ranks.check()
    writer = _writer(owner, folder, keep, asynchronous, step)
    with writer.together():
        writer.wait()
        check_json(dict(extra or {}), "'extra'")
        new = str(checkpoint.new_directory(folder, step)) if ranks.rank == 0 else None
    directory = ranks.tell(new)[0]
    tensors = saved_here(owner)
    state = {} if optimizer is None else optimizer_state(optimizer, owner.named_parameters())
    wanted = {name: entry for name, entry in state.items() if name in tensors}
    values = {"extra": dict(extra or {}), "passes": owner.steps} if ranks.rank == 0 else {}
    writer.save(step, tensors, optimizer=wanted, extra=values, directory=directory)
    return str(directory)


def _writer(
    owner: ModalityParallel, folder: str | os.PathLike[str], keep: int | None, asynchronous: bool, step: int
) -> checkpoint.CheckpointWriter:
    wanted = (Path(folder), keep, asynchronous)
    kept = owner.__dict__.get("_writer_kept")
    if kept is None or kept[0] != wanted:
        wait(owner)
        ranks = owner.ranks
        made = checkpoint.CheckpointWriter(
            folder, rank=ranks.rank, world_size=ranks.world_size, keep=keep, asynchronous=asynchronous
        )
        kept = owner.__dict__["_writer_kept"] = (wanted, made)
    writer: checkpoint.CheckpointWriter = kept[1]
    writer.together = lambda: owner.ranks.all_or_none(f"the checkpoint of step {step} was not saved")
    return writer


def wait(owner: ModalityParallel) -> None:
    """Wait for the last asynchronous save."""
    kept = owner.__dict__.get("_writer_kept")
    if kept is not None:
        with owner.ranks.all_or_none("the last checkpoint was not saved"):
            kept[1].wait()


def load(
    owner: ModalityParallel, folder: str | os.PathLike[str], optimizer: torch.optim.Optimizer | None, strict: bool
) -> dict[str, Any] | None:
    """Load the newest whole checkpoint; rank 0 chooses it."""
    ranks = owner.ranks
    ranks.check()
    what, found = f"no checkpoint was loaded from '{folder}'", None
    with ranks.all_or_none(what):
        found = checkpoint.newest(folder) if ranks.rank == 0 else None
    directory = ranks.tell(None if found is None else str(found))[0]
    if directory is None:
        return None
    wanted = list(owner.module.state_dict())
    with ranks.all_or_none(what):
        there = set(checkpoint.names(directory))
        wanted = wanted if strict else [name for name in wanted if name in there]
        read = checkpoint.load(directory, wanted)
    with ranks.all_or_none(what):
        _apply(owner, read, optimizer, strict)
    return {"step": read.step, **read.extra.get("extra", {})}


def _apply(
    owner: ModalityParallel, read: checkpoint.Checkpoint, optimizer: torch.optim.Optimizer | None, strict: bool
) -> None:
    owner.module.load_state_dict(read.tensors, strict=strict)
    owner.steps = int(read.extra.get("passes", 0))
    if optimizer is not None:
        named = dict(owner.named_parameters())
        lacking = {name for name in named if name == _parts.INERT or (not strict and name not in read.tensors)}
        load_optimizer_state(optimizer, named.items(), _filled(named, optimizer, read.optimizer, lacking))


def _filled(
    named: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, state: Mapping[str, Any], lacking: set[str]
) -> dict[str, Any]:
    """Give parameters that no checkpoint has an empty state, and the options of their group."""
    now, names = optimizer_state(optimizer, named.items()), {id(p): name for name, p in named.items()}
    out = dict(state)
    for group in optimizer.param_groups:
        held = [names[id(p)] for p in group["params"]]
        first = next((state[name]["options"] for name in held if name in state), None)
        out |= {
            n: {"state": {}, "options": first or now[n]["options"]} for n in held if n in lacking and n not in state
        }
    return out


def clip(
    owner: ModalityParallel, max_norm: float, norm_type: float, error_if_nonfinite: bool, foreach: bool | None
) -> Tensor:
    """Clip by the norm over all ranks: shared gradients, the same everywhere, count once."""
    shared = owner.shared()
    own = [p for name, p in owner.named_parameters() if name not in shared and p.grad is not None]
    common = [p for p in shared.values() if p.grad is not None]
    parts = [get_total_norm([p.grad for p in group], norm_type, foreach=foreach) for group in (own, common)]  # type: ignore[misc]
    mine, theirs = (part.to("cpu", torch.float64) for part in parts)
    norms = [*owner.ranks.row.all_gather(mine[None].to(_wire_device(owner)), "votes").cpu(), theirs]
    total = torch.linalg.vector_norm(torch.stack(norms), norm_type)
    if error_if_nonfinite and not bool(total.isfinite()):
        raise RuntimeError(f"the norm of the gradients of all ranks is {total.item()}, so they cannot be clipped")
    kind = next((p.grad.dtype for p in [*own, *common] if p.grad is not None), common_type(owner.tables.values()))
    norm: Tensor = total.to(owner.device, kind)
    clip_grads_with_norm_([*own, *common], max_norm, norm, foreach=foreach)
    return norm


def _wire_device(owner: ModalityParallel) -> torch.device:
    return owner.device if owner.ranks.row.world_size > 1 else torch.device("cpu")


def grad_scaler(owner: ModalityParallel, **kwargs: Any) -> torch.amp.GradScaler:
    """Return a scaler whose overflow checks are shared by all ranks."""
    kwargs.setdefault("device", owner.device.type)
    if owner.ranks.world_size == 1:
        return torch.amp.GradScaler(**kwargs)
    from hyperlearn_pyg.distributed._scaler import RanksGradScaler

    return RanksGradScaler(process_group=owner.ranks.world.group, **kwargs)
