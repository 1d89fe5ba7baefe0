from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from torch_geometric.data import HeteroData

from hyperlearn_pyg.data import subsets
from hyperlearn_pyg.data._marks import graph_marks, rename_marks, seen_key
from hyperlearn_pyg.errors import did_you_mean

if TYPE_CHECKING:
    from hyperlearn_pyg.data.multimodal import MultiModalHeteroData

D = TypeVar("D", bound="MultiModalHeteroData")


def remove_modality(data: D, name: str, *, hyperedges: subsets.Rule | Mapping[str, subsets.Rule] = "refuse") -> D:
    """Remove a modality with its items, edges and slots, in place.

    Relations forget the graphs that go with it (``seen_by_GRAPH``).

    Args:
        name: the modality.
        hyperedges: what becomes of hyperedges with members in it. ``"refuse"``: an error if some hyperedge set spans
            it. ``"keep"``, ``"drop"`` or a number ``k`` as in :meth:`subgraph`: its slots go, and the hyperedges that
            lose members by that stay, go, or stay where at least ``k`` memberships are left. A hyperedge set that has
            no other slot goes in any case.

    Returns:
        The data object itself.

    Raises:
        ValueError: there is no such modality, a hyperedge set spans it and nothing is said of that, or ``hyperedges``
            is no such rule. The data object is then unchanged.
    """
    known = data.modalities
    if name not in known:
        raise ValueError(f"there is no modality {name!r} (modalities: {known}).{did_you_mean(name, known)}")
    spanning = [relation for relation in data.hyperedge_types if name in data.relation(relation).modalities]
    if isinstance(hyperedges, str) and hyperedges == "refuse":
        if spanning:
            raise ValueError(
                f"modality '{name}' is spanned by the hyperedge sets {spanning}: remove these first, or say what "
                "becomes of their hyperedges by hyperedges='keep' (without these members), 'drop' or the number of "
                "members that must be left"
            )
        subsets.discard(data, [name])
        return data
    rest = [modality for modality in known if modality != name]
    _become(data, subsets.modality_subgraph(data, rest, hyperedges=hyperedges))
    return data


def remove_hyperedges(data: D, name: str) -> D:
    """Remove a hyperedge set with its memberships, in place; the items stay.

    The relation that it was made from forgets it (``seen_by_NAME``).

    Returns:
        The data object itself.

    Raises:
        ValueError: there is no such hyperedge set.
    """
    data.relation(name)
    subsets.discard(data, [name])
    return data


def rename(data: D, name: str, new_name: str) -> D:
    """Rename a modality, a hyperedge set or any node type, in place.

    Node types and edge types keep their places, so that slots and modalities keep their order. Without hyperedge sets
    the renamed types come last, as PyG puts them. What relations remember of graphs made from them
    (``seen_by_GRAPH``) takes the new name too.

    Returns:
        The data object itself.

    Raises:
        ValueError: there is no such node type, or the new name is taken.
    """
    known = data.node_types
    if name not in known:
        raise ValueError(f"there is no node type {name!r} (node types: {known}).{did_you_mean(name, known)}")
    if new_name == name:
        return data
    data._check_new_name(new_name)
    marks = graph_marks(data)
    private = data._global_store.__dict__
    private.pop("_edge_attrs", None)  # what PyG remembers of edge types by name
    if not data.hyperedge_types:
        HeteroData.rename(data, name, new_name)
    else:
        for part in ("_node_store_dict", "_edge_store_dict"):
            data.__dict__[part] = {_renamed(key, name, new_name): store for key, store in getattr(data, part).items()}
            for key, store in data.__dict__[part].items():
                store._key = key
    stay = {key for graph, key in marks.items() if _renamed(graph, name, new_name) == graph}
    new_keys = {key: seen_key(_renamed(graph, name, new_name)) for graph, key in marks.items() if key not in stay}
    rename_marks(data, new_keys)
    for part in ("_slice_dict", "_inc_dict"):  # a batch can still give back its graphs
        if part in private:
            private[part] = _renamed_slices(private[part], name, new_name, new_keys)
    return data


def _renamed(key: Any, name: str, new_name: str) -> Any:
    if isinstance(key, tuple):
        return (new_name if key[0] == name else key[0], key[1], new_name if key[2] == name else key[2])
    return new_name if key == name else key


def _renamed_slices(slices: Mapping[Any, Any], name: str, new_name: str, new_keys: Mapping[str, str]) -> dict[Any, Any]:
    """Rename the stores and marks in the slices of a batch, and in the layouts of its graphs."""
    out: dict[Any, Any] = {}
    for key, value in slices.items():
        if key == "_layouts":
            out[key] = {
                number: [
                    (_renamed(store, name, new_name), [new_keys.get(a, a) for a in attrs]) for store, attrs in layout
                ]
                for number, layout in value.items()
            }
        elif isinstance(value, Mapping):
            out[_renamed(key, name, new_name)] = {new_keys.get(attr, attr): part for attr, part in value.items()}
        else:
            out[_renamed(key, name, new_name)] = value
    return out


def _become(data: D, other: D) -> D:
    """Take over the stores of ``other``."""
    for part in ("_global_store", "_node_store_dict", "_edge_store_dict"):
        data.__dict__[part] = other.__dict__[part]
    for store in data.stores:
        store._parent = data
    return data
