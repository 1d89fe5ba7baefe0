from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch_geometric.typing import EdgeType

from hyperlearn_pyg.data.relation import is_membership

if TYPE_CHECKING:
    from hyperlearn_pyg.data.multimodal import MultiModalHeteroData

#: What a relation remembers of a graph made from it: ``seen_by_GRAPH``, bool ``[E]``.
SEEN_BY = "seen_by_"


def seen_key(graph: str | EdgeType) -> str:
    """Return the attribute under which a relation remembers a graph or a hyperedge set."""
    name = graph if isinstance(graph, str) else "_".join(graph[:2])
    return SEEN_BY + re.sub(r"\W", "_", name)


def graph_marks(data: MultiModalHeteroData) -> dict[str | EdgeType, str]:
    """Return under which attribute relations remember each graph and hyperedge set of the data."""
    graphs = [*data.hyperedge_types, *(t for t in data.edge_types if not is_membership(t))]
    return {graph: seen_key(graph) for graph in graphs}


def rename_marks(data: MultiModalHeteroData, new_keys: Mapping[str, str]) -> None:
    """Rename the marks of relations, in their places; a mark that two graphs come to share is that of both."""
    for name in data.hyperedge_types:
        store = data[name]
        if not any(key in store for key in new_keys):
            continue
        entries: dict[str, Any] = {}
        for key, value in list(store.items()):
            new = new_keys.get(key, key)
            entries[new] = value | entries[new] if new in entries and new.startswith(SEEN_BY) else value
            del store[key]
        for key, value in entries.items():
            store[key] = value


def drop_marks(data: MultiModalHeteroData, gone: Mapping[str | EdgeType, str]) -> None:
    """Let relations forget the graphs that were in the data and are no more."""
    left = graph_marks(data)
    keys = {key for graph, key in gone.items() if graph not in left} - set(left.values())
    for name in data.hyperedge_types:
        here = keys & set(data[name].keys())
        for key in here:
            del data[name][key]
        for part in ("_slice_dict", "_inc_dict") if here else ():  # a batch can still give back its graphs
            slices = data._global_store.__dict__.get(part)
            if slices is not None and name in slices:
                kept = {attr: value for attr, value in slices[name].items() if attr not in here}
                data._global_store.__dict__[part] = {**slices, name: kept}
