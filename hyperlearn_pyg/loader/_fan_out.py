from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch_geometric.sampler.base import NumNeighbors
from torch_geometric.typing import EdgeType

from hyperlearn_pyg.errors import did_you_mean

#: For one hop: how many are drawn for each item, and how many for each hyperedge.
FanOut = tuple[int, int]
#: What a user gives for the hops of one key.
Hops = Sequence[int | tuple[int, int]]
#: The key of a mapping that stands for all that is not named.
DEFAULT = "default"


def read_fan_out(
    num_neighbors: Any, *, modalities: Sequence[str], sets: Sequence[str], edge_types: Sequence[EdgeType]
) -> dict[EdgeType, list[FanOut]]:
    """Return the fan-out of every edge type, hop by hop.

    Args:
        num_neighbors: a list with one entry a hop, or a mapping to such lists. Its keys are, first found first: an
            edge type, a hyperedge set, a modality, ``"default"``. An entry is a number, or a pair (for each item, for
            each hyperedge); -1 stands for all. PyG's :class:`~torch_geometric.sampler.NumNeighbors` is read too.
        modalities: the modalities.
        sets: the hyperedge sets.
        edge_types: the edge types.

    Raises:
        ValueError: an unknown key, an edge type without an entry, hops that differ in number, a wrong entry.
    """
    if isinstance(num_neighbors, NumNeighbors):
        num_neighbors = _of_pyg(num_neighbors)
    if not isinstance(num_neighbors, Mapping):
        num_neighbors = {DEFAULT: num_neighbors}
    known = [*edge_types, *sets, *modalities, DEFAULT]
    hops: dict[Any, list[FanOut]] = {}
    for key, given in num_neighbors.items():
        if key not in known:
            hint = did_you_mean(key, [*sets, *modalities]) if isinstance(key, str) else ""
            raise ValueError(
                f"'num_neighbors' names {key!r}, which is no edge type, hyperedge set or modality of the data.{hint} "
                f"(edge types: {list(edge_types)}, sets: {list(sets)}, modalities: {list(modalities)})"
            )
        hops[key] = [_read(entry, key) for entry in _as_list(given, key)]
    counts = {key: len(entries) for key, entries in hops.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"'num_neighbors' must have the same number of hops for every key (got {counts})")
    return {edge_type: _of_edge_type(edge_type, hops, sets) for edge_type in edge_types}


def _of_edge_type(edge_type: EdgeType, hops: Mapping[Any, list[FanOut]], sets: Sequence[str]) -> list[FanOut]:
    ends = sorted((edge_type[2], edge_type[0]), key=lambda name: name not in sets)
    for key in (edge_type, *ends, DEFAULT):
        if key in hops:
            return hops[key]
    raise ValueError(f"'num_neighbors' says nothing of {edge_type}: name it, or add the key {DEFAULT!r} (0: none)")


def _of_pyg(num_neighbors: NumNeighbors) -> dict[Any, Any]:
    values = num_neighbors.values
    if not isinstance(values, Mapping):
        return {DEFAULT: values}
    out: dict[Any, Any] = {key.to_tuple(): value for key, value in values.items()}
    return out if num_neighbors.default is None else {**out, DEFAULT: num_neighbors.default}


def _as_list(given: Any, key: Any) -> list[Any]:
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise ValueError(f"'num_neighbors' of {key!r} must be a list with one entry a hop (got {given!r})")
    return list(given)


def _read(entry: Any, key: Any) -> FanOut:
    pair = tuple(entry) if isinstance(entry, tuple | list) else (entry, entry)
    if len(pair) != 2 or any(isinstance(n, bool) or not isinstance(n, int) or n < -1 for n in pair):
        raise ValueError(
            f"'num_neighbors' of {key!r} must hold numbers from -1 (all) on, or pairs of them (for each item, for each "
            f"hyperedge), one a hop (got {entry!r})"
        )
    return pair
