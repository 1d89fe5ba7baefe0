"""Initial values of parts of weights whose whole nobody holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from hyperlearn_pyg.distributed.strategies._narrow import skeleton, tensors_of
from hyperlearn_pyg.errors import InputError

Step = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
#: Functions that overwrite every number by itself, whatever it was.
_FRESH = ("fill_", "normal_", "uniform_", "zero_")
_DRAWN = ("normal_", "uniform_")
#: Functions that change every number by itself.
_MORE = ("add_", "clamp_", "div_", "erfinv_", "mul_", "sub_")


class _Noting(Tensor):
    """A tensor without values that notes how it is filled."""

    steps: list[Step | None]

    @staticmethod
    def __new__(cls, like: Tensor, steps: list[Step | None]) -> _Noting:
        made: _Noting = Tensor._make_wrapper_subclass(cls, like.shape, dtype=like.dtype, device=torch.device("meta"))
        made.steps = steps
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        name, target = func.overloadpacket.__name__, args[0]
        if name in ("detach", "alias"):
            return cls(target, target.steps)
        plain = not any(isinstance(a, Tensor) for a in args[1:])
        if isinstance(target, _Noting) and plain and name in (*_FRESH, *_MORE):
            target.steps[:] = [*([] if name in _FRESH else target.steps), (func, args[1:], kwargs or {})]
            return target
        for part in args:
            if isinstance(part, _Noting):
                part.steps[:] = [None]  # who knows what this does
        raise InputError(_words(f"calls '{name}'"))


def _words(what: str) -> str:
    return (
        f"a model without values can be filled in parts only where its layers fill every number of a weight by itself "
        f"(uniform, normal, constants), and one {what}: build the model with values"
    )


def noted(model: Module) -> dict[str, list[Step]]:
    """Return how the ``reset_parameters`` of the layers of a model fill each parameter and buffer.

    Raises:
        InputError: one is filled in another way than number by number, or not at all.
    """
    bare = skeleton(model)
    steps: dict[str, list[Any]] = {}
    for name, tensor in tensors_of(bare).items():
        path, _, attribute = name.rpartition(".")
        steps[name] = []
        noting: Any = _Noting(tensor, steps[name])
        setattr(bare.get_submodule(path), attribute, Parameter(noting) if isinstance(tensor, Parameter) else noting)
    for module in reversed(list(bare.modules())):  # what a layer does to its parts comes last
        reset: Any = getattr(module, "reset_parameters", None)
        if reset is not None:
            with torch.no_grad():
                reset()
    for name, found in steps.items():
        if not found:
            raise InputError(_words(f"does not fill {name!r} in 'reset_parameters'"))
    return steps


def fill_(tensor: Tensor, steps: list[Step], seed: int) -> Tensor:
    """Fill a part of a weight as its whole would have been, by numbers of its own."""
    generator = torch.Generator(tensor.device).manual_seed(seed)
    for func, args, kwargs in steps:
        drawn = func.overloadpacket.__name__ in _DRAWN  # type: ignore[attr-defined]
        func(tensor, *args, **({**kwargs, "generator": generator} if drawn else kwargs))
    return tensor


def without_values(model: Module) -> bool:
    """Tell whether the parameters and buffers of a model have no storage.

    Raises:
        InputError: some have and some have not.
    """
    bare: Mapping[str, bool] = {name: tensor.is_meta for name, tensor in tensors_of(model).items()}
    if any(bare.values()) and not all(bare.values()):
        some = next(name for name, meta in bare.items() if not meta)
        raise InputError(f"either all tensors of 'model' are on the device 'meta' or none (got values in {some!r})")
    return any(bare.values())
