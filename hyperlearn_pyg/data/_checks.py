from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: Attributes of a hyperedge store that hold one number a hyperedge.
NUMBERS = ("value", "weight", "truth")
#: Attributes of an item store that hold one string an item.
STRINGS = ("item_id", "item_name", "item_label")


def as_tensor(value: Any, where: str) -> Tensor:
    """Take a tensor, an array or a flat list as a tensor."""
    if isinstance(value, Tensor):
        return value
    if not isinstance(value, np.ndarray | Sequence) or isinstance(value, str):
        raise ValueError(f"{where} must be a tensor (got {type(value).__name__})")
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{where} must be a tensor of numbers ({error})") from error


def as_index(value: Any, where: str, *, bound: int | None = None) -> Tensor:
    """Take item or hyperedge indices as int64 and check that they lie in ``[0, bound)``."""
    tensor = as_tensor(value, where)
    if tensor.numel() == 0 and not isinstance(value, Tensor):
        tensor = tensor.long()
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise ValueError(f"{where} must hold integer indices (got {tensor.dtype}): convert with '.long()'")
    tensor = tensor.long()
    if bound is not None:
        check_bound(tensor, bound, where)
    return tensor


def check_bound(index: Tensor, bound: int, where: str) -> None:
    """Check that every entry of ``index`` lies in ``[0, bound)``; the error names the first that does not."""
    bad = ((index < 0) | (index >= bound)).nonzero()
    if bad.numel():
        at = tuple(bad[0].tolist())
        position = at[0] if len(at) == 1 else at
        raise ValueError(
            f"{where}: index {int(index[at])} at position {position} is out of range [0, {bound}) "
            f"({bad.size(0)} such indices)"
        )


def as_numbers(value: Any, where: str, *, size: int, minimum: float | None = None) -> Tensor:
    """Take one finite floating-point number a hyperedge ``[size]``; integers and bools become float32."""
    tensor = as_tensor(value, where)
    if not tensor.is_floating_point():
        if tensor.is_complex():
            raise ValueError(f"{where} must be real (got {tensor.dtype})")
        tensor = tensor.to(torch.float32)
    check_shape(tensor, (size,), where)
    check_finite(tensor, where)
    if minimum is not None and bool((tensor < minimum).any()):
        at = int((tensor < minimum).nonzero()[0])
        raise ValueError(f"{where} must be at least {minimum:g} (got {float(tensor[at]):g} at position {at})")
    return tensor


def check_shape(tensor: Tensor, shape: tuple[int, ...], where: str) -> None:
    """Check the exact shape of a tensor."""
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{where} must be of shape {list(shape)} (got {list(tensor.shape)})")


def row_blocks(tensor: Tensor, size: int = 1 << 24) -> Iterator[Tensor]:
    """Yield a tensor in blocks of rows of about ``size`` entries: one larger than memory can be read through."""
    if tensor.layout != torch.strided or tensor.numel() <= size:
        yield tensor
    else:
        yield from tensor.split(max(1, size // max(1, tensor[0].numel())))


def check_finite(tensor: Tensor, where: str) -> None:
    """Check that a tensor holds no NaN or infinity; the error names the first and counts them."""
    if not tensor.is_floating_point():
        return
    if tensor.layout != torch.strided:
        tensor = tensor.coalesce().values() if tensor.layout == torch.sparse_coo else tensor.values()
    first: tuple[int, ...] | None = None
    count = start = 0
    for block in row_blocks(tensor):
        # min and max are not finite where some entry is not, and make no mask of the size of the block
        if block.numel() and not torch.stack(block.aminmax()).isfinite().all():
            bad = (~block.isfinite()).nonzero()
            if first is None:
                first = (int(bad[0, 0]) + start, *bad[0, 1:].tolist()) if block.dim() else ()
            count += bad.size(0)
        start += block.size(0) if block.dim() else 0
    if first is not None:
        names = ("row", "column") if len(first) == 2 else ("position",) * len(first)
        position = ", ".join(f"{name} {i}" for name, i in zip(names, first, strict=True))
        raise ValueError(
            f"{where} must be finite (got {float(tensor[first])} at {position}, {count} such entries): "
            f"leave these rows out or fill them in"
        )


def check_features(value: Any, where: str, *, size: int | None = None) -> Tensor:
    """Take item features ``[N, F]``, finite; integers and bools become float32."""
    x = as_tensor(value, where)
    if x.dim() != 2:
        raise ValueError(f"{where} must be of shape [num_nodes, num_features] (got {list(x.shape)})")
    if size is not None and x.size(0) != size:
        raise ValueError(f"{where} must have one row an item: {size} (got {x.size(0)})")
    if not x.is_floating_point():
        x = x.to(torch.float32)
    check_finite(x, where)
    return x


def check_count(value: Any, where: str) -> int:
    """Take a number of items or hyperedges: an integer of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise ValueError(f"{where} must be an integer of at least 0 (got {value!r})")
    return int(value)


def check_strings(value: Any, where: str, *, size: int, unique: bool) -> list[str]:
    """Take one string an item as a list; identifiers must differ."""
    strings = list(value)
    if len(strings) != size:
        raise ValueError(f"{where} must have one entry an item: {size} (got {len(strings)})")
    for i, string in enumerate(strings):
        if not isinstance(string, str):
            raise ValueError(f"{where} must hold strings (got {type(string).__name__} at position {i})")
    if unique and len(set(strings)) < size:
        first: dict[str, int] = {}
        for i, string in enumerate(strings):
            if first.setdefault(string, i) != i:
                raise ValueError(f"{where} must differ: {string!r} stands at {first[string]} and {i}")
    return strings


def check_attribute(key: str, value: Any, where: str, *, size: int) -> Any:
    """Check one further attribute of a store of ``size`` rows and return it in the form to be stored."""
    if key in STRINGS:
        return check_strings(value, where, size=size, unique=key == "item_id")
    if key in NUMBERS:
        return as_numbers(value, where, size=size, minimum=0 if key == "weight" else None)
    if key.endswith("_mask"):
        mask = as_tensor(value, where)
        if mask.dtype != torch.bool and mask.numel():
            raise ValueError(f"{where} must be of dtype bool (got {mask.dtype})")
        check_shape(mask, (size,), where)
        return mask.bool()
    if key == "time":
        value = as_tensor(value, where)
        check_shape(value, (size,), where)
    if isinstance(value, Tensor) and value.layout == torch.strided and value.dim() > 0:
        if value.size(0) != size:
            raise ValueError(f"{where} must have {size} rows (got shape {list(value.shape)})")
        check_finite(value, where)
    return value
