from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data._checks import as_index, as_tensor, check_bound
from hyperlearn_pyg.data.splits import split_positions
from hyperlearn_pyg.errors import did_you_mean

#: Nodes or tuples to start from: a name, or a pair of a name and an index, a mask or a split.
Input = str | tuple[str, Any]


@dataclass(frozen=True)
class Seeds:
    """What a loader starts from.

    Attributes:
        name: the node type.
        index: the nodes or hyperedges ``[n]``; for tuples given by their members their positions.
        input_id: what the loader calls them ``[n]``: the index itself for masks and splits, else the position.
        members: the members of tuples ``[k, n]`` where they are given.
    """

    name: str
    index: Tensor
    input_id: Tensor
    members: Tensor | None = None


def check_keywords(given: Iterable[str], *owners: type) -> None:
    """Check that keywords are arguments of a loader, the first of ``owners``, or of those that it hands them on to.

    Raises:
        TypeError: one of them is not.
    """
    known = dict.fromkeys(
        name
        for owner in owners
        for name, parameter in list(inspect.signature(owner.__init__).parameters.items())[1:]  # type: ignore[misc]
        if parameter.kind is not parameter.VAR_KEYWORD
    )
    for name in given:
        if name not in known:
            others = " or ".join(owner.__name__ for owner in owners[1:])
            raise TypeError(
                f"there is no argument {name!r} of {owners[0].__name__}, nor of {others}, which take all others "
                f"(arguments: {list(known)}).{did_you_mean(name, known)}"
            )


def read_nodes(data: MultiModalHeteroData, given: Input) -> Seeds:
    """Read ``input_nodes``.

    Raises:
        ValueError: an unknown type, a wrong index, mask or split.
    """
    name, which = _split(given, "input_nodes")
    if name not in data.node_types:
        hint = did_you_mean(name, data.node_types)
        raise ValueError(f"'input_nodes' names {name!r} (node types: {data.node_types}).{hint}")
    return _read(data, name, which, "input_nodes")


def read_tuples(data: MultiModalHeteroData, given: Input) -> Seeds:
    """Read ``input_tuples``.

    Raises:
        ValueError: an unknown relation, a wrong index, mask or split, members out of range.
    """
    name, which = _split(given, "input_tuples")
    relation = data.relation(name)
    if not isinstance(which, str) and which is not None and as_tensor(which, "'input_tuples'").dim() == 2:
        members = as_index(which, f"'input_tuples' of '{name}'").cpu()
        if members.size(0) != relation.order:
            raise ValueError(
                f"'input_tuples' of '{name}' must be of shape [{relation.order}, n], one row a slot {relation.slots} "
                f"(got {list(members.shape)})"
            )
        for row, slot, size in zip(members, relation.slots, relation.sizes, strict=True):
            check_bound(row, size, f"'input_tuples' of '{name}', row of {slot}")
        position = torch.arange(members.size(1))
        return Seeds(name, position, position, members)
    return _read(data, name, which, "input_tuples")


def check_data(data: Any) -> None:
    """Check that the data object is one of ours.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(data, MultiModalHeteroData):
        raise ValueError(f"'data' must be a MultiModalHeteroData (got {type(data).__name__})")


def read_split(data: MultiModalHeteroData, name: str, split: str, where: str) -> Tensor:
    """Return the mask of a split; a relation without masks is all training.

    Raises:
        ValueError: there is no such split.
    """
    key = f"{split}_mask"
    if key in data[name]:
        mask: Tensor = data[name][key]
        return mask
    if split == "train" and name in data.hyperedge_types:
        mask = torch.zeros(int(data[name].num_nodes), dtype=torch.bool)
        mask[split_positions(data, name, [split]).cpu()] = True
        return mask
    known = [k[:-5] for k in list(data[name].keys()) if k.endswith("_mask")]
    raise ValueError(f"{where} is the split {split!r}, and there is no '{key}' (splits: {known or 'none'})")


def _split(given: Input, argument: str) -> tuple[str, Any]:
    name, which = (given, None) if isinstance(given, str) else (None, None)
    if isinstance(given, tuple | list) and len(given) == 2:
        name, which = given
    if not isinstance(name, str):
        raise ValueError(
            f"'{argument}' must be a name, or a pair of a name and an index, a mask or a split (got {given!r})"
        )
    return name, which


def _read(data: MultiModalHeteroData, name: str, which: Any, argument: str) -> Seeds:
    size = int(data[name].num_nodes)
    where = f"'{argument}' of '{name}'"
    if which is None:
        index = torch.arange(size)
        return Seeds(name, index, index)
    if isinstance(which, str):
        which = read_split(data, name, which, where)
    which = as_tensor(which, where).cpu()
    if which.dim() != 1:
        raise ValueError(f"{where} must be of one dimension (got {list(which.shape)})")
    if which.dtype == torch.bool:
        if which.numel() != size:
            raise ValueError(f"{where} is a mask and must have {size} entries (got {which.numel()})")
        index = which.nonzero().view(-1)
        return Seeds(name, index, index)
    index = as_index(which if which.numel() else which.long(), where, bound=size)
    return Seeds(name, index, torch.arange(index.numel()))
