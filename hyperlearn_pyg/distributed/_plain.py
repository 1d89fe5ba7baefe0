from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def to_plain(value: Any, where: str, *, copy: bool) -> Any:
    """Bring nested dicts, lists, tuples of tensors and plain values to the CPU.

    Args:
        value: what to bring.
        where: what it is called in messages.
        copy: share no memory with ``value``; else only what is on the CPU and uses its whole storage is shared.

    Raises:
        ValueError: a value that a weights-only load would refuse.
    """
    if isinstance(value, Tensor):
        return _tensor(value, copy)
    if isinstance(value, Mapping):
        return {key: to_plain(entry, f"{where}[{key!r}]", copy=copy) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        entries = [to_plain(entry, f"{where}[{i}]", copy=copy) for i, entry in enumerate(value)]
        return tuple(entries) if isinstance(value, tuple) else entries
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise ValueError(f"{where} must be a tensor, a number, a text, None, or lists and dicts of these, got {value!r}")


def check_json(value: Any, where: str) -> None:
    """Raise a ValueError where a value would not come back from JSON as it is."""
    if isinstance(value, dict):
        for key, entry in value.items():
            if not isinstance(key, str):
                raise ValueError(f"the keys of {where} must be texts, got {key!r}")
            check_json(entry, f"{where}[{key!r}]")
    elif isinstance(value, list):
        for i, entry in enumerate(value):
            check_json(entry, f"{where}[{i}]")
    elif value is not None and type(value) not in (bool, int, float, str):
        raise ValueError(f"{where} must be a number, a text, None, or lists and dicts of these, got {value!r}")


def _tensor(value: Tensor, copy: bool) -> Tensor:
    value = value.detach()
    if value.layout is not torch.strided:
        return value.to("cpu", copy=copy)
    part = value.untyped_storage().nbytes() != value.numel() * value.element_size()
    return value.to("cpu", copy=copy or part)


def check_tensors(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return what is to be saved as tensors, which all of it must be."""
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"'tensors' must hold tensors, got {name!r}: {value!r}; other values belong to 'extra'")
    return tensors
