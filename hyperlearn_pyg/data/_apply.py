from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from hyperlearn_pyg.data._checks import STRINGS

if TYPE_CHECKING:
    from hyperlearn_pyg.data.multimodal import MultiModalHeteroData

D = TypeVar("D", bound="MultiModalHeteroData")


def apply(data: D, func: Callable[[Any], Any], *args: str) -> D:
    """Apply ``func`` to all attributes, or to those named ``args``, and store what it returns.

    Lists of strings (``item_id``, ``item_name``, ``item_label``) are left as they are, where PyG would try ``func`` on
    each string. All of ``to``, ``cpu``, ``cuda``, ``pin_memory``, ``clone``, ``contiguous``, ``detach`` go this way.
    """
    for store in data.stores:
        keys = list(store.keys(*args))
        for key in [key for key in keys if key in STRINGS]:
            store[key] = _copied(store[key])
        others = [key for key in keys if key not in STRINGS]
        if others:  # no name at all means every attribute to PyG
            store.apply(func, *others)
    return data


def apply_(data: D, func: Callable[[Any], Any], *args: str) -> D:
    """Apply ``func``, which works in place, to all attributes but lists of strings, or to those named ``args``.

    ``share_memory_``, ``detach_``, ``requires_grad_`` and ``record_stream`` go this way.
    """
    for store in data.stores:
        others = [key for key in store.keys(*args) if key not in STRINGS]
        if others:
            store.apply_(func, *others)
    return data


def _copied(value: Any) -> Any:
    """Copy a list of strings, or of the lists of strings of a batch."""
    return [list(entry) if isinstance(entry, list) else entry for entry in value] if isinstance(value, list) else value
