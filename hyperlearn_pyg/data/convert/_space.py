from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data.storage import BaseStorage

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data._checks import check_count
from hyperlearn_pyg.data._members import Slot, slot_edge_type


def named_relations(relations: Iterable[str]) -> list[str]:
    """Return the argument ``relations`` as a list of names; a bare string is refused, not read letter by letter."""
    if isinstance(relations, str):
        raise ValueError(f"'relations' must be a list of names (got {relations!r}): write [{relations!r}]")
    return list(relations)


def warn_of_loss(lost: Sequence[str], form: str, stacklevel: int) -> None:
    """Warn of what a form cannot hold."""
    if lost:
        warnings.warn(f"{form} has no place for {', '.join(lost)}: left out", UserWarning, stacklevel=stacklevel + 1)


@dataclass(frozen=True)
class NodeSpace:
    """Several node types on top of one another as one range of nodes.

    Args:
        names: the node types, in order.
        sizes: their numbers of nodes.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, data: MultiModalHeteroData, names: Sequence[str]) -> NodeSpace:
        """Return the space of the node types ``names`` of ``data``."""
        for name in names:
            if data[name].get("num_nodes") is None:
                raise ValueError(f"'num_nodes' of '{name}' is missing: set data['{name}'].num_nodes")
        return cls(tuple(names), tuple(int(data[name].num_nodes) for name in names))

    @property
    def num_nodes(self) -> int:
        """The number of nodes of all types."""
        return sum(self.sizes)

    @property
    def offsets(self) -> dict[str, int]:
        """Node type -> its first node."""
        return {name: sum(self.sizes[:i]) for i, name in enumerate(self.names)}

    def node_type(self, device: torch.device | None = None) -> Tensor:
        """Return the position in ``names`` of the type of each node ``[N]``."""
        count = torch.tensor(self.sizes, dtype=torch.long, device=device)
        return torch.arange(len(self.names), device=device).repeat_interleave(count)

    def node_index(self, device: torch.device | None = None) -> Tensor:
        """Return the position of each node within its type ``[N]``."""
        return torch.cat([torch.arange(size, device=device) for size in (*self.sizes, 0)])

    def features(self, data: MultiModalHeteroData) -> Tensor | None:
        """Return ``x [N, F]`` where all modalities have features of one width and type, else :obj:`None`.

        Hyperedge sets without ``x`` get zeros.
        """
        found = {name: data[name].get("x") for name in self.names}
        like = next((x for x in found.values() if isinstance(x, Tensor) and x.dim() == 2), None)
        if like is None:
            return None
        for name, size in zip(self.names, self.sizes, strict=True):
            if found[name] is None and name in data.hyperedge_types:
                found[name] = like.new_zeros(size, like.size(1))
        x: Tensor | None = stack_rows(list(found.values()), self.sizes)
        return x

    def shared_rows(self, data: MultiModalHeteroData) -> dict[str, Any]:
        """Return the attributes that all types have, with one row a node and of one form, stacked."""
        keys = [key for key in data[self.names[0]] if key != "num_nodes"] if self.names else []
        rows = {key: stack_rows([data[name].get(key) for name in self.names], self.sizes) for key in keys}
        return {key: value for key, value in rows.items() if value is not None}


def stack_rows(values: Sequence[Any], sizes: Sequence[int]) -> Any:
    """Put an attribute of several stores on top of one another, or return :obj:`None` where the forms do not agree.

    Args:
        values: for each store a tensor or list with one row a node.
        sizes: the number of nodes of each store.
    """
    if not values or any(not rowed(value, size) for value, size in zip(values, sizes, strict=True)):
        return None
    if all(isinstance(value, list) for value in values):
        return [entry for value in values for entry in value]
    if any(not isinstance(value, Tensor) for value in values):
        return None
    if len({(value.shape[1:], value.dtype, value.device) for value in values}) > 1:
        return None
    return torch.cat(list(values))


def rowed(value: Any, size: int) -> bool:
    """Tell whether a value is a dense tensor or a list with ``size`` rows."""
    if isinstance(value, Tensor):
        return value.layout == torch.strided and value.dim() > 0 and value.size(0) == size
    return isinstance(value, list) and len(value) == size


def take_rows(value: Any, index: Tensor) -> Any:
    """Return the rows ``index`` of a tensor or list."""
    return value[index.to(value.device)] if isinstance(value, Tensor) else [value[i] for i in index.tolist()]


def with_modalities(
    data: MultiModalHeteroData | None, sizes: Mapping[Slot, int], relation: str
) -> MultiModalHeteroData:
    """Return a copy of ``data`` that has the modality of each slot; sizes must agree."""
    out = MultiModalHeteroData() if data is None else copy.copy(data)
    for slot, size in sizes.items():
        modality = slot_edge_type(slot, relation)[0]
        if modality not in out.node_types:
            out.add_modality(modality, num_nodes=size)
        elif out[modality].num_nodes != size:
            raise ValueError(
                f"slot {slot!r} of '{relation}' must have {out[modality].num_nodes} items, as modality '{modality}' "
                f"(got {size})"
            )
    return out


def validated(data: MultiModalHeteroData) -> MultiModalHeteroData:
    """Return the data after its ``validate``, without PyG's remark that a node type has no edges."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The node types .* are isolated", UserWarning)
        data.validate()
    return data


def count_nodes(store: BaseStorage, given: int | None, what: str) -> int:
    """Return the number of nodes that a caller, ``num_nodes``, or the rows of an attribute tell."""
    if given is not None:
        return check_count(given, "'num_nodes'")
    if store.get("num_nodes") is not None:
        return int(store["num_nodes"])
    for key in ("x", "pos", "node_type"):
        if isinstance(store.get(key), Tensor):
            return int(store[key].size(0))
    raise ValueError(f"'num_nodes' of {what} is missing, and no 'x' tells it: pass 'num_nodes'")
