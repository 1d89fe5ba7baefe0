from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module
from torch_geometric.data import HeteroData
from torch_geometric.data.data import BaseData

from hyperlearn_pyg.data import MultiModalHeteroData, Relation
from hyperlearn_pyg.data._marks import SEEN_BY, graph_marks
from hyperlearn_pyg.data._members import Slot
from hyperlearn_pyg.data.relation import is_membership
from hyperlearn_pyg.data.splits import SPLITS
from hyperlearn_pyg.transforms._common import (
    find_slots,
    held_out,
    modality_names,
    same_tuples,
    training_mask,
)


def check_leaks(
    data: MultiModalHeteroData,
    make: Callable[[MultiModalHeteroData], Any] | None = None,
    *,
    cold: Slot | None = None,
    in_time: bool = False,
    seed: int = 0,
    raise_on_error: bool = True,
) -> bool:
    """Check that nothing made from the training part of the relations has seen a held-out tuple.

    Read off the data: no hyperedge and no tuple is in two parts; no graph or set that a transform of this package made
    from a relation (co-occurrence, projection, expansion) was made from hyperedges that are held out now, as happens
    when the split is drawn after the graph: the marks ``seen_by_GRAPH`` of relations tell, and count too where no graph
    of that name is left. ``cold`` and ``in_time`` check what splits by item and time promise.

    For anything else there is ``make``. It is called with the data, and with a copy in which every tuple held out for
    validation or test is some other one, with another value, weight and time. What it returns must be bit-identical,
    held-out hyperedges themselves apart: tensors, arrays, modules (their ``state_dict``), data objects, and mappings
    and sequences of these. Transforms are such functions, and so is ``HyperLearn.from_data``; one that draws the split
    itself is not.

    Args:
        data: the data; relations without masks are training data as a whole.
        make: what is to be checked.
        cold: a modality, or a pair (modality, role): every held-out tuple of a relation that has it must name an item
            of it that is in no training tuple.
        in_time: no held-out tuple may be earlier than a training tuple of any relation with ``time``.
        seed: seed of the tuples that stand in, and of torch within ``make``.
        raise_on_error: raise with all that was found; otherwise warn of each and return False.

    Raises:
        ValueError: names every leak found; there is nothing to check by ``cold`` or ``in_time``.
    """
    if cold is not None:
        modality_names(data, cold if isinstance(cold, str) else cold[0])
    leaks = [leak for name in data.hyperedge_types for leak in _relation_leaks(data, data.relation(name), cold)]
    leaks += _time_leaks(data) if in_time else []
    leaks += _made_leaks(data, make, seed) if make is not None else []
    if leaks and raise_on_error:
        raise ValueError("held-out tuples leak:\n" + "\n".join(f"* {leak}" for leak in leaks))
    for leak in leaks:
        warnings.warn(leak, stacklevel=2)
    return not leaks


def _relation_leaks(data: MultiModalHeteroData, relation: Relation, cold: Slot | None) -> Iterator[str]:
    held = held_out(data, relation.name)
    if held is None:
        return
    masks = {split: data[relation.name][f"{split}_mask"] for split in SPLITS if f"{split}_mask" in data[relation.name]}
    parts = torch.stack(list(masks.values())).sum(dim=0)
    twice = parts > 1
    if bool(twice.any()):
        yield f"relation '{relation.name}': {int(twice.sum())} hyperedges are in two parts, such as {_first(twice)}"
    group = same_tuples(relation)
    inside = torch.stack([torch.bincount(group[mask], minlength=len(relation)) > 0 for mask in masks.values()])
    repeated = (inside.sum(dim=0) > 1)[group] & (parts == 1)
    if bool(repeated.any()):
        yield (
            f"relation '{relation.name}': {int(group[repeated].unique().numel())} tuples are in more than one part, "
            f"such as that of hyperedge {_first(repeated)}"
        )
    yield from _graph_leaks(data, relation, held)
    names = relation.modalities
    if cold is not None and (cold in names or cold in list(zip(names, relation.roles, strict=True))):
        yield from _cold_leaks(relation, find_slots(relation, cold), masks.get("train", ~held), held)


def _graph_leaks(data: MultiModalHeteroData, relation: Relation, held: Tensor) -> Iterator[str]:
    graphs = {key: graph for graph, key in graph_marks(data).items()}
    for key, seen in data[relation.name].items():
        if not key.startswith(SEEN_BY) or not bool((seen & held).any()):
            continue
        made = (
            f"made from {int((seen & held).sum())} hyperedges of relation '{relation.name}' that are held out now, "
            f"the first is {_first(seen & held)}"
        )
        if key in graphs:
            yield f"graph or set {graphs[key]} was {made}: make it after the split"
        else:
            yield (
                f"graph or set {key.removeprefix(SEEN_BY)!r} was {made}, and there is none of that name any more. If "
                "it was renamed or copied by hand, make it again after the split; if it is gone, clear its mark: "
                f"del data[{relation.name!r}][{key!r}]"
            )


def _cold_leaks(relation: Relation, slots: Sequence[int], train: Tensor, held: Tensor) -> Iterator[str]:
    warm = torch.zeros(relation.sizes[slots[0]], dtype=torch.bool, device=held.device)
    for slot in slots:
        item, hyperedge = relation.incidence(slot)
        warm[item[train[hyperedge]]] = True
    is_cold, named = torch.zeros_like(held), torch.zeros_like(held)
    for slot in slots:
        item, hyperedge = relation.incidence(slot)
        named[hyperedge] = True
        is_cold[hyperedge[~warm[item]]] = True
    wrong = held & named & ~is_cold
    if bool(wrong.any()):
        yield (
            f"relation '{relation.name}': {int(wrong.sum())} held-out hyperedges name only items of "
            f"'{relation.modalities[slots[0]]}' that have a training tuple, the first is {_first(wrong)}"
        )


def _time_leaks(data: MultiModalHeteroData) -> list[str]:
    timed = [(name, data[name].time) for name in data.hyperedge_types if "time" in data[name]]
    if data.hyperedge_types and not timed:
        there = {name: list(data[name].keys()) for name in data.hyperedge_types}
        raise ValueError(f"'in_time' is True, and no relation has 'time' to compare (attributes: {there})")
    train = torch.cat([time[training_mask(data, name)] for name, time in timed] or [torch.empty(0)])
    leaks = []
    for name, time in timed:
        held = held_out(data, name)
        if held is None or train.numel() == 0:
            continue
        early = held & (time < train.max())
        if bool(early.any()):
            leaks.append(
                f"relation '{name}': {int(early.sum())} held-out hyperedges are earlier than the last "
                f"training tuple, the first is {_first(early)}"
            )
    return leaks


def _made_leaks(data: MultiModalHeteroData, make: Callable[[MultiModalHeteroData], Any], seed: int) -> list[str]:
    """Compare what ``make`` returns with and without the true held-out tuples."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        true = make(copy.copy(data))
        torch.manual_seed(seed)
        other = make(_disguise(data, seed))
    return [f"{place} depends on held-out tuples" for place in _differences(true, other, "the result of 'make'")]


def _disguise(data: MultiModalHeteroData, seed: int) -> MultiModalHeteroData:
    """Return a copy in which held-out hyperedges have other members and other numbers."""
    data = copy.copy(data)
    generator = torch.Generator().manual_seed(seed)
    for name in data.hyperedge_types:
        held, relation = held_out(data, name), data.relation(name)
        if held is None:
            continue
        for slot, size in zip(relation.slots, relation.sizes, strict=True):
            index = data[slot].edge_index.clone()
            at = held[index[1]]
            index[0, at] = torch.randint(max(size, 1), (int(at.sum()),), generator=generator).to(index)
            data[slot].edge_index = index
            if isinstance(data[slot].get("edge_weight"), Tensor):
                data[slot].edge_weight = _other(data[slot].edge_weight, at, generator)
        for key, value in list(data[name].items()):
            if isinstance(value, Tensor) and value.dim() > 0 and value.size(0) == len(relation):
                data[name][key] = _other(value, held, generator)
    return data


def _other(value: Tensor, at: Tensor, generator: torch.Generator) -> Tensor:
    """Replace some entries by other numbers, of at least 0 as weights must be."""
    if value.dtype == torch.bool:
        return value
    out = value.clone()
    noise = torch.rand(value[at].shape, generator=generator).to(value.device) * 100 + 1
    out[at] = noise.to(value.dtype) if value.is_floating_point() else value[at] + noise.to(value.dtype)
    return out


def _differences(one: Any, two: Any, where: str) -> Iterator[str]:
    """Name the places at which two results differ."""
    if isinstance(one, Module):
        one, two = one.state_dict(), two.state_dict()
    elif isinstance(one, HeteroData):
        one, two = _known(one), _known(two)
    elif isinstance(one, BaseData):
        one, two = one.to_dict(), two.to_dict()
    if type(one) is not type(two):
        yield where
    elif isinstance(one, Mapping):
        if list(one) != list(two):
            yield where
        else:
            for key in one:
                yield from _differences(one[key], two[key], f"{where}[{key!r}]")
    elif isinstance(one, Sequence) and not isinstance(one, str):
        if len(one) != len(two):
            yield where
        else:
            for i, pair in enumerate(zip(one, two, strict=True)):
                yield from _differences(pair[0], pair[1], f"{where}[{i}]")
    elif not _equal(one, two):
        yield where


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, Tensor):
        one, two = (t.detach().to_dense().cpu() for t in (one, two))
        if one.shape != two.shape or one.dtype != two.dtype:
            return False
        return bool(((one == two) | ((one != one) & (two != two))).all())
    return bool(np.array_equal(one, two)) if isinstance(one, np.ndarray) else bool(one == two)


def _known(data: HeteroData) -> dict[Any, Any]:
    """Return the stores of a data object without its held-out hyperedges."""
    held = {name: held_out(data, name) for name in data.node_types}
    out: dict[Any, Any] = {}
    for key, store in zip((*data.node_types, *data.edge_types), (*data.node_stores, *data.edge_stores), strict=True):
        stays = held.get(key) if isinstance(key, str) else held.get(key[2]) if is_membership(key) else None
        out[key] = entry = dict(store)
        if stays is None:
            continue
        rows = ~stays if isinstance(key, str) else ~stays[store.edge_index[1]]
        for name, value in entry.items():
            if isinstance(value, Tensor) and value.dim() > 0:
                entry[name] = value[:, rows] if name == "edge_index" else value[rows]
    return out


def _first(mask: Tensor) -> int:
    return int(mask.nonzero()[0])
