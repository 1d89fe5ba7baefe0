from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from hyperlearn_pyg.distributed.plan import ModalityPlan
from hyperlearn_pyg.distributed.route import Layout, Route, Tuples, make_route
from hyperlearn_pyg.distributed.traffic import split_batch
from hyperlearn_pyg.typing import TupleBatch


@dataclass(frozen=True)
class Table:
    """What all ranks know of the factors of a modality: ``items`` rows of ``width`` numbers of type ``dtype``."""

    items: int
    width: int
    dtype: torch.dtype

    @classmethod
    def of(cls, factors: Tensor) -> Table:
        """Describe a table of factors."""
        return cls(factors.size(0), factors.size(1), factors.dtype)


@dataclass(frozen=True, eq=False)
class Share:
    """What one rank scores of some batches: the route of the rows, and the tuples as they index these rows."""

    route: Route
    batches: list[TupleBatch]
    blocks: list[list[int]]


def as_batch(tuples: Any) -> TupleBatch:
    """Return a batch of any kind that has ``relation``, ``modalities`` and ``index`` as a :class:`TupleBatch`.

    Raises:
        TypeError: it lacks one of them.
    """
    if isinstance(tuples, TupleBatch):
        return tuples
    try:
        return TupleBatch(
            tuples.relation,
            tuple(tuples.modalities),
            tuples.index,
            getattr(tuples, "value", None),
            getattr(tuples, "weight", None),
        )
    except AttributeError as error:
        raise TypeError(
            f"'tuples' must have 'relation', 'modalities' and 'index', as TupleBatch and the batches of RelationLoader "
            f"(got {type(tuples).__name__})"
        ) from error


def batches_key(batches: Sequence[TupleBatch], tables: Mapping[str, Table]) -> list[Any]:
    """Return all that :func:`make_share` makes of batches, to be compared by :func:`same_key`."""
    key: list[Any] = [dict(tables)]
    for batch in batches:
        for field in fields(batch):
            value = getattr(batch, field.name)
            parts = value if isinstance(value, tuple) else (value,)
            key += [(part, part._version) if isinstance(part, Tensor) else part for part in parts]
    return key


def same_key(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Tell whether two keys are of the same tensors, unchanged since, and of the same other values."""

    def held(entry: Any) -> bool:
        return isinstance(entry, tuple) and len(entry) > 0 and isinstance(entry[0], Tensor)

    def same(a: Any, b: Any) -> bool:
        if held(a) or held(b):
            return held(a) and held(b) and a[0] is b[0] and bool(a[1] == b[1])
        return bool(a == b)

    return len(one) == len(other) and all(map(same, one, other))


def digest(batches: Sequence[TupleBatch]) -> str:
    """Return a checksum of the tuples, by which ranks see whether they drew the same ones."""
    total = 0
    for batch in batches:
        total = zlib.crc32(f"{batch.relation}{tuple(batch.index.shape)}".encode(), total)
        for index in (batch.index, *batch.candidates):
            total = zlib.crc32(index.detach().cpu().contiguous().numpy().tobytes(), total)
    count = sum(len(batch) for batch in batches)
    return f"{count} tuples, checksum {total:08x}"


def make_share(
    batches: Sequence[TupleBatch], tables: Mapping[str, Table], plan: ModalityPlan, rank: int, exchange: str
) -> Share:
    """Work out what a rank of the plan scores. Each rank has one block of every batch, in order of rank."""
    group, replica = plan.coordinates(rank)
    groups = len(plan.groups)
    blocks = [split_batch(len(batch), plan.world_size) for batch in batches]
    entries: list[Tuples] = []
    for batch, sizes in zip(batches, blocks, strict=True):
        own = tuple(sizes[g * plan.replicas + replica] for g in range(groups))
        entries.append(Tuples(batch.modalities, _of_replica(batch.index.cpu(), sizes, plan, replica), own))
        readers = sum(size > 0 for size in own)
        for modality, items in zip(batch.modalities, batch.candidates, strict=False):
            count = len(items)
            counts = tuple(count * (size > 0) for size in own)
            entries.append(Tuples((modality,), items.cpu().repeat(readers)[None], counts))
    sizes_of = {name: table.items for name, table in tables.items()}
    layout = Layout(sizes_of, {name: plan.owners[name] for name in tables}, groups)
    route = make_route(entries, layout, group, exchange)
    return Share(route, _own_batches(batches, blocks, route, rank), blocks)


def _of_replica(index: Tensor, sizes: Sequence[int], plan: ModalityPlan, replica: int) -> Tensor:
    if plan.replicas == 1:
        return index
    parts = index.split(list(sizes), dim=1)
    return torch.cat(parts[replica :: plan.replicas], dim=1)


def _own_batches(
    batches: Sequence[TupleBatch], blocks: Sequence[Sequence[int]], route: Route, rank: int
) -> list[TupleBatch]:
    found = iter(route.index)
    out = []
    for batch, sizes in zip(batches, blocks, strict=True):
        start = sum(sizes[:rank])
        part = slice(start, start + sizes[rank])
        index = next(found)
        candidates = tuple(next(found)[0] for _ in batch.candidates)
        value, weight = (None if t is None else t[part] for t in (batch.value, batch.weight))
        items, named = batch.named()
        own = replace(batch, index=index, value=value, weight=weight, candidates=candidates)
        out.append(replace(own, items=items[:, part], candidate_items=named))
    return out


def to_device(batch: TupleBatch, device: torch.device) -> TupleBatch:
    """Return the batch with its tensors on a device."""
    tensors = (batch.index, batch.value, batch.weight, *batch.candidates)
    away = [t for t in tensors if t is not None and t.device != device]
    if not away and type(batch.mass) is float:
        return batch
    moved: dict[str, Any] = {
        name: value.to(device, non_blocking=True)
        for name in ("index", "value", "weight", "mass", "items")
        if isinstance(value := getattr(batch, name), Tensor) and value.device != device
    }
    for name in ("candidates", "candidate_items"):
        if any(items.device != device for items in getattr(batch, name)):
            moved[name] = tuple(items.to(device) for items in getattr(batch, name))
    return replace(batch, **moved) if moved else batch


def in_order(gathered: Tensor, sizes: Sequence[Sequence[int]]) -> list[Tensor]:
    """Part values that every rank sent of several batches one after the other; return those of each batch in order."""
    starts = [0, *accumulate(size for rank in zip(*sizes, strict=True) for size in rank)]
    count = len(sizes)
    out = []
    for number, blocks in enumerate(sizes):
        places = [starts[rank * count + number] for rank in range(len(blocks))]
        parts = [gathered[start : start + size] for start, size in zip(places, blocks, strict=True)]
        out.append(parts[0] if len(parts) == 1 else torch.cat(parts))
    return out
