"""The state of an optimizer by the names of its parameters, so that it fits whatever groups they are in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from hyperlearn_pyg.errors import did_you_mean


def optimizer_state(
    optimizer: torch.optim.Optimizer, named_parameters: Iterable[tuple[str, Tensor]]
) -> dict[str, dict[str, Any]]:
    """Return what an optimizer knows of each of its parameters, by name.

    Args:
        optimizer: the optimizer; its groups may be any.
        named_parameters: ``module.named_parameters()``; those that the optimizer does not hold are left out.

    Returns:
        name -> ``{"state": {"step": ..., "exp_avg": ...}, "options": {"lr": ..., "betas": ...}}``; ``state`` is empty
        before the first step.

    Raises:
        ValueError: the optimizer holds a parameter that has no name.
    """
    names = _names(optimizer, named_parameters)
    found = optimizer.state_dict()
    out = {}
    for group in found["param_groups"]:
        options = {key: value for key, value in group.items() if key not in ("params", "param_names")}
        for index in group["params"]:
            out[names[index]] = {"state": dict(found["state"].get(index, {})), "options": dict(options)}
    return out


def load_optimizer_state(
    optimizer: torch.optim.Optimizer,
    named_parameters: Iterable[tuple[str, Tensor]],
    state: Mapping[str, Mapping[str, Any]],
) -> None:
    """Give an optimizer the state that :func:`optimizer_state` returned, whatever the groups were then.

    Args:
        optimizer: an optimizer of the same class; it may hold fewer parameters, in other groups.
        named_parameters: ``module.named_parameters()``.
        state: by name; entries of other parameters are left out. An empty parameter needs none.

    Raises:
        ValueError: no entry for a parameter, or parameters of one group had different options (then make the groups
            as they were). The optimizer is left as it was.
    """
    named = list(named_parameters)
    names, empty = _names(optimizer, named), {name for name, parameter in named if parameter.numel() == 0}
    new = optimizer.state_dict()
    new["state"] = {}
    for group in new["param_groups"]:
        if all(names[index] in empty and names[index] not in state for index in group["params"]):
            continue
        for index in group["params"]:
            entry, first = _entry(state, names[index]), _entry(state, names[group["params"][0]])
            for key, value in entry["options"].items():
                if not _same(value, first["options"].get(key)):
                    raise ValueError(
                        f"{names[group['params'][0]]!r} and {names[index]!r} are in one group of the optimizer, but "
                        f"were saved with {key}={first['options'].get(key)!r} and {value!r}: put them into two groups"
                    )
            if entry["state"]:
                new["state"][index] = {key: _clone(value) for key, value in entry["state"].items()}
        if group["params"]:
            group.update({key: _clone(value) for key, value in first["options"].items()})
    optimizer.load_state_dict(new)


def _names(optimizer: torch.optim.Optimizer, named_parameters: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Names in the order in which ``state_dict`` numbers the parameters."""
    by_id = {id(parameter): name for name, parameter in named_parameters}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for position, parameter in enumerate(parameters):
        if id(parameter) not in by_id:
            raise ValueError(
                f"parameter {position} of the optimizer, of shape {tuple(parameter.shape)}, is not among "
                "'named_parameters': pass those of the module that the optimizer was made for"
            )
    return [by_id[id(parameter)] for parameter in parameters]


def _entry(state: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    if name not in state:
        raise ValueError(f"no optimizer state was saved for {name!r}.{did_you_mean(name, state)}")
    return state[name]


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return bool(torch.equal(torch.as_tensor(a), torch.as_tensor(b)))
    return bool(a == b)


def _clone(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
