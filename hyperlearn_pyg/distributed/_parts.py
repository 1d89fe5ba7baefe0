from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.func import functional_call
from torch.nn import Module, Parameter
from torch_geometric.nn import norm

from hyperlearn_pyg.distributed.launch import launched
from hyperlearn_pyg.distributed.loads import Machine, ModalityLoad, modality_seconds
from hyperlearn_pyg.distributed.plan import ModalityPlan
from hyperlearn_pyg.distributed.planner import ModalityPlanner
from hyperlearn_pyg.errors import did_you_mean
from hyperlearn_pyg.ops.seeds import derive_seed, draw_seed

if TYPE_CHECKING:
    from hyperlearn_pyg.distributed.ranks import Ranks

_STATISTICS = (
    torch.nn.BatchNorm1d,
    torch.nn.BatchNorm2d,
    torch.nn.BatchNorm3d,
    torch.nn.SyncBatchNorm,
    norm.DiffGroupNorm,
    norm.GraphNorm,
    norm.GraphSizeNorm,
    norm.InstanceNorm,
    norm.MeanSubtractionNorm,
    norm.PairNorm,
)
_DROPOUTS = (torch.nn.Dropout, torch.nn.Dropout1d, torch.nn.Dropout2d, torch.nn.Dropout3d, torch.nn.AlphaDropout)
PREFIX = "encoders."
#: Name of the empty parameter that a rank without parameters gives its optimizer.
INERT = "<none>"


class Call(Module):
    """Calls a method of a module, so that :func:`torch.func.functional_call` can give it other parameters."""

    def __init__(self, module: Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, function: Callable[[], Any]) -> Any:
        """Call a function of the module's methods."""
        return function()

    def using(self, values: Mapping[str, Tensor], method: str, *args: Any, **kwargs: Any) -> Any:
        """Call the method with some parameters replaced, by their names in the module."""
        return self.within(values, lambda: getattr(self.module, method)(*args, **kwargs))

    def within(self, values: Mapping[str, Tensor], function: Callable[[], Any]) -> Any:
        """Call a function while some parameters are replaced: once for many calls, as replacing them takes time."""
        if not values:
            return function()
        named = {f"module.{name}": value for name, value in values.items()}
        return functional_call(self, named, (function,))


def modality_names(module: Any) -> list[str]:
    """Return the modalities of a module: those it says it has, or those of its encoders.

    Raises:
        TypeError: the module does not meet the protocol; what is missing is named.
    """
    kind = type(module).__name__
    encoders: Any = getattr(module, "encoders", None)
    if not (isinstance(encoders, Module) and hasattr(encoders, "items")):
        raise TypeError(
            f"{kind} must have 'encoders', a torch.nn.ModuleDict with an encoder a modality (got {encoders!r})"
        )
    for method, what in (("encode", "encode(name, data) -> factors"), ("decode", "decode(rows, tuples) -> scores")):
        if not callable(getattr(module, method, None)):
            raise TypeError(f"{kind} must have a method {what} (see hyperlearn_pyg.typing.ModalityModule)")
    names = getattr(module, "modalities", None)
    return list(names) if isinstance(names, list | tuple) else list(module.encoders.keys())


def check_encoders(module: Any) -> None:
    """Refuse what cannot be split without another result.

    Raises:
        ValueError: an encoder reads several modalities, or two encoders share a parameter.
    """
    for where, part in module.named_modules():
        if getattr(part, "couples_modalities", False):
            raise ValueError(
                f"'{where}' ({type(part).__name__}) convolves several modalities at once, so these cannot part: "
                "use a layer of one modality in each encoder (HypergraphConv on its memberships), or one process"
            )
    holder: dict[Parameter, str] = {}
    for name, encoder in module.encoders.items():
        for parameter in encoder.parameters():
            if holder.setdefault(parameter, name) != name:
                raise ValueError(
                    f"the encoders of {holder[parameter]!r} and {name!r} share a parameter: give each its own"
                )


def check_shared(module: Module) -> None:
    """Refuse, over several ranks, what works on the tuples of one rank in the part that all ranks share.

    Raises:
        ValueError: the decoder draws at random or keeps statistics.
    """
    for where, part in module.named_modules():
        if where.startswith(PREFIX):
            continue
        if _mixes_tuples(part) or _draws(part):
            raise ValueError(
                f"'{where}' ({type(part).__name__}) would see the tuples of one rank only, so the result would depend "
                "on the placement: move it into the encoders, or use torch.nn.LayerNorm (PyG's with mode='node') and "
                "no dropout"
            )


def _mixes_tuples(part: Module) -> bool:
    """Tell whether a module normalises over the tuples that it is given."""
    return isinstance(part, _STATISTICS) or (isinstance(part, norm.LayerNorm) and part.mode == "graph")


def _draws(part: Module) -> bool:
    """Tell whether a module drops at random: a layer that does, or one with a rate, as PyG's MLP has one a layer."""
    rates = part.p if isinstance(part, _DROPOUTS) else getattr(part, "dropout", 0.0)
    return any(isinstance(p, float | int) and p > 0 for p in (rates if isinstance(rates, list | tuple) else [rates]))


def shared_parameters(module: Module) -> dict[str, Parameter]:
    """Return the trained parameters outside of the encoders, by name: every rank holds them."""
    named = module.named_parameters()
    return {name: p for name, p in named if not name.startswith(PREFIX) and p.requires_grad}


def belongs_to(name: str, encoders: Module, modalities: Sequence[str]) -> str | None:
    """Return the modality that a parameter or buffer of this name is of; None for what all ranks share."""
    if not name.startswith(PREFIX):
        return None
    keys = encoder_keys(encoders, modalities)
    rest = name[len(PREFIX) :]
    return next((m for m, key in keys.items() if rest.startswith(f"{key}.")), None)


def encoder_keys(encoders: Module, modalities: Sequence[str]) -> dict[str, str]:
    """Return the name of each modality within the parameter names: PyG's ModuleDict escapes some."""
    to_key = getattr(encoders, "to_internal_key", None)
    return {name: str(to_key(name)) if to_key is not None else name for name in modalities}


def make_plan(
    module: Module,
    names: Sequence[str],
    plan: ModalityPlan | str,
    devices: Sequence[str | torch.device] | None,
    mesh: DeviceMesh | None,
    process_group: Any,
    exchange: str,
) -> ModalityPlan:
    """Return the plan that was given or asked for, checked against the module, the ranks and the devices.

    Raises:
        ValueError: it does not fit them.
    """
    together = dist.is_available() and dist.is_initialized()
    world = (mesh.size() if mesh is not None else dist.get_world_size(process_group)) if together else 1
    named = tuple(map(str, devices or ()))
    if not together and launched() and not named:
        raise ValueError(
            f"a launcher started {os.environ['WORLD_SIZE']} processes, but there is no process group, so each would "
            "train alone: put 'with connected():' (hyperlearn_pyg.distributed) around it, or call "
            "torch.distributed.init_process_group() before"
        )
    if world > 1 and named and len(named) != world:
        raise ValueError(f"'devices' must name one device a rank, {world} (got {len(named)})")
    places = world if world > 1 else max(1, len(named))
    if isinstance(plan, str):
        if plan != "auto":
            raise ValueError(f"'plan' must be a ModalityPlan or 'auto' (got {plan!r}).{did_you_mean(plan, ['auto'])}")
        replicas = mesh.size(1) if mesh is not None and mesh.ndim > 1 else None
        plan = _auto_plan(module, names, places, named, exchange, replicas if world > 1 else 1)
    else:
        plan = replace(plan, devices=named or plan.devices)
        plan = plan if exchange == "auto" else replace(plan, exchange=exchange)
    if world == 1 and plan.world_size > 1 and not plan.devices:
        raise ValueError(
            f"the plan is made for {plan.world_size} ranks, and this is one process: start it with 'torchrun "
            f"--nproc-per-node {plan.world_size}' and torch.distributed.init_process_group, or name devices="
        )
    check_rank = (mesh.get_rank() if mesh is not None else dist.get_rank(process_group)) if world > 1 else None
    plan.check(names, world_size=None if world == 1 else world, rank=check_rank if mesh is None else None)
    if mesh is not None and tuple(mesh.shape) not in ((len(plan.groups), plan.replicas), (plan.world_size,)):
        raise ValueError(f"'mesh' has the shape {tuple(mesh.shape)}, the plan {(len(plan.groups), plan.replicas)}")
    return plan


def _auto_plan(
    module: Any, names: Sequence[str], places: int, devices: Sequence[str], exchange: str, replicas: int | None
) -> ModalityPlan:
    """Plan by the sizes of the encoders alone, as nothing of the data is known yet."""
    loads = []
    for name in names:
        if name not in module.encoders:
            raise ValueError(f"plan='auto' needs all encoders, that of {name!r} is not here: pass the plan")
        own = list(module.encoders[name].parameters())
        count, size = sum(p.numel() for p in own), max((p.element_size() for p in own), default=4)
        seconds = modality_seconds(
            items=1, edges=0, parameters=count, weights=0, hidden=1, machine=Machine(), itemsize=size
        )
        loads.append(ModalityLoad(name, parameters=count, memory=4 * size * count, seconds=seconds))
    if not loads:
        raise ValueError(f"{type(module).__name__} has no modality: its 'encoders' are empty")
    return ModalityPlanner(loads, exchange=exchange).plan(places, replicas=replicas, devices=devices)


def to_agree(
    module: Module, names: Sequence[str], plan: ModalityPlan, exchange_dtype: torch.dtype | None
) -> dict[str, Any]:
    """Return what all ranks must have alike."""
    shared = {name: [list(p.shape), str(p.dtype)] for name, p in shared_parameters(module).items()}
    return {
        "torch": str(torch.__version__),
        "hyperlearn_pyg": version("hyperlearn-pyg"),
        "world size": plan.world_size,
        "plan": f"{[list(group) for group in plan.groups]} x {plan.replicas}, {plan.digest[:12]}",
        "modalities": list(names),
        "module": type(module).__name__,
        "shared parameters": shared,
        "exchange_dtype": str(exchange_dtype),
    }


def device_of(module: Module, otherwise: torch.device | None = None) -> torch.device:
    """Return the device of a module's first parameter or buffer."""
    for tensors in (module.parameters(), module.buffers()):
        for tensor in tensors:
            return tensor.device
    return torch.device("cpu") if otherwise is None else otherwise


def pass_seed(given: int | None, base: int | None, count: int) -> int:
    """Return the seed of a training pass: the given one, or the next of a base, or one of the global generator."""
    if given is not None:
        return given
    return draw_seed() if base is None else derive_seed(base, count)


def extended(plan: ModalityPlan, name: str, group: int | None) -> ModalityPlan:
    """Return the plan with one more modality."""
    held = [len(members) for members in plan.groups]
    group = held.index(min(held)) if group is None else group
    if not 0 <= group < len(held):
        raise ValueError(f"'group' must be below {len(held)}, the number of groups of ranks (got {group})")
    groups = tuple((*m, name) if g == group else m for g, m in enumerate(plan.groups))
    return replace(plan, groups=groups, loads=(), relations=())


def add_together(
    ranks: Ranks, module: Any, name: str, encoder: Module | None, here: bool, kwargs: Mapping[str, Any]
) -> None:
    """Add an encoder on every rank; what one of them refuses is an error on all."""
    fault: Exception | None = None
    try:
        add_encoder(module, name, encoder, here, kwargs)
    except (ValueError, TypeError) as error:
        fault = error
    told = ranks.tell(None if fault is None else str(fault))
    texts = [f"rank {rank}: {text}" for rank, text in enumerate(told) if text is not None]
    if fault is not None:
        raise fault
    if texts:
        raise ValueError(f"modality {name!r} was not added on all ranks: {texts[0]}")


def add_encoder(module: Any, name: str, encoder: Module | None, here: bool, kwargs: Mapping[str, Any]) -> None:
    """Add an encoder to a module, the module's own way where it has one."""
    own = getattr(module, "add_modality", None)
    if own is not None:
        own(name, encoder=encoder, build=here, **kwargs)
    elif kwargs:
        raise ValueError(f"{type(module).__name__} has no add_modality that would take {sorted(kwargs)}")
    elif here and encoder is None:
        raise ValueError(f"an encoder is needed for {name!r} on the rank that is to hold it")
    elif here:
        module.encoders[name] = encoder
