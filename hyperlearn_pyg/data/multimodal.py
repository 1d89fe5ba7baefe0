from __future__ import annotations

import os
import warnings
from collections import namedtuple
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Batch, HeteroData
from torch_geometric.data.data import size_repr
from torch_geometric.data.storage import BaseStorage, EdgeStorage, NodeStorage
from torch_geometric.typing import EdgeType
from typing_extensions import Self

from hyperlearn_pyg.data import _apply, _checks, _members, _rows, changes, components, on_disk, subsets
from hyperlearn_pyg.data import coalesce as _coalesce
from hyperlearn_pyg.data import describe as _describe
from hyperlearn_pyg.data._members import Slot
from hyperlearn_pyg.data.relation import Relation, is_membership
from hyperlearn_pyg.errors import did_you_mean


class MultiModalHeteroData(HeteroData):
    r"""A :class:`~torch_geometric.data.HeteroData` of modalities, tied by hyperedges that span several.

    A hyperedge set is a node type of its own, and its memberships are bipartite edge types
    ``(modality, "member", set)``, or ``(modality, "member:ROLE", set)`` where a modality fills several
    slots. A node type that is the destination of a membership edge type is a hyperedge set, every other
    one a modality. Slots stand in the order of insertion of their edge types. Nothing else is stored, so
    that all of PyG's machinery (batches, subgraphs, loaders, transforms, pickle) works unchanged.

    Item stores hold ``num_nodes``, ``x [N, F]`` and the lists of strings ``item_id``, ``item_name``,
    ``item_label``. Hyperedge stores hold ``num_nodes`` and, each ``[E]``, ``value``, ``weight``, ``time``,
    ``truth``, ``{train,val,test}_mask``. Edges within a modality are the usual edge types
    ``(modality, name, modality)``.

    Example:
        >>> data = MultiModalHeteroData()
        >>> data = data.add_modality("user", num_nodes=2).add_modality("film", x=torch.eye(3))
        >>> data = data.add_hyperedges(
        ...     "rates", torch.tensor([[0, 1], [2, 1]]), modalities=("user", "film"), value=[5.0, 3.0]
        ... )
        >>> data.relation("rates")
        Relation(rates(user, film), num_hyperedges=2)
    """

    def add_modality(self, name: str, *, x: Any = None, num_nodes: int | None = None, **attrs: Any) -> Self:
        """Add the items of one modality.

        Args:
            name: the node type.
            x: features ``[N, F]``, finite; integers and bools become float32.
            num_nodes: the number of items ``N``; may be left out where ``x`` or ``item_id`` tells it.
            attrs: further attributes of the store, such as ``item_id``, ``item_name``, ``item_label``.

        Raises:
            ValueError: the name is taken, a count is missing or does not agree, features are not finite,
                ``item_id`` is not unique.
        """
        self._check_new_name(name)
        size = num_nodes
        if size is None:
            for sized in (x, attrs.get("item_id"), attrs.get("item_name")):
                size = len(sized) if size is None and sized is not None else size
        if size is None:
            raise ValueError(f"'num_nodes' of modality '{name}' is missing: pass 'num_nodes', 'x' or 'item_id'")
        size = _checks.check_count(size, f"'num_nodes' of modality '{name}'")
        stored: dict[str, Any] = {}
        if x is not None:
            stored["x"] = _checks.check_features(x, f"'x' of modality '{name}'", size=size)
        for key, value in attrs.items():
            if value is not None:
                stored[key] = _checks.check_attribute(key, value, f"'{key}' of modality '{name}'", size=size)
        store = self.get_node_store(name)  # data[name] may find an edge type whose relation is called so
        store.num_nodes = size
        store.update(stored)
        return self

    def add_hyperedges(
        self,
        name: str,
        members: Tensor | Mapping[Slot, Any],
        *,
        modalities: Sequence[Slot] | None = None,
        value: Any = None,
        weight: Any = None,
        num_hyperedges: int | None = None,
        incidence_weight: Any = None,
        **attrs: Any,
    ) -> Self:
        """Add a set of hyperedges over modalities that are already there.

        Args:
            name: the node type that holds the hyperedges.
            members: item indices, either a tensor ``[k, E]``, one row for each entry of ``modalities``, or a
                mapping from slot to a tensor ``[E]`` (one member a hyperedge), a tensor ``[2, nnz]`` (item
                above hyperedge) or a list of lists (the members of each hyperedge). A slot is a modality or
                a pair (modality, role).
            modalities: the slots of the rows of a tensor.
            value: ``[E]``; left out for a 0/1 relation.
            weight: hyperedge weights ``[E]``, at least 0.
            num_hyperedges: ``E``; needed where neither ``members`` nor ``value`` nor ``weight`` tells it.
            incidence_weight: weights of the single memberships, a mapping from slot to ``[nnz]`` or a tensor
                ``[k, E]``; stored as ``edge_weight`` of the membership edge types.
            attrs: further attributes with one row a hyperedge, such as ``time`` or ``train_mask``.

        Raises:
            ValueError: an unknown modality, a taken name, an index out of range, shapes or counts that do
                not agree, a type that cannot be meant, NaN or infinite numbers. The data object is then
                unchanged.
        """
        self._check_new_name(name)
        rows = _members.by_slot(members, modalities, name)
        for modality, _, _ in rows:
            self._check_modality(modality, name)
        size = _count_hyperedges(name, rows, num_hyperedges, {"value": value, "weight": weight})
        edge_index = {
            slot: _members.to_edge_index(
                row,
                num_items=int(self[slot[0]].num_nodes),
                num_hyperedges=size,
                where=f"members of '{name}' in modality '{slot[0]}'",
            )
            for slot, row in rows.items()
        }
        edge_weight = _members.incidence_weights(incidence_weight, edge_index, name)
        stored = {
            key: _checks.check_attribute(key, entry, f"'{key}' of relation '{name}'", size=size)
            for key, entry in {"value": value, "weight": weight, **attrs}.items()
            if entry is not None
        }
        store = self.get_node_store(name)  # data[name] may find an edge type whose relation is called so
        store.num_nodes = size
        store.update(stored)
        for slot, index in edge_index.items():
            self[slot].edge_index = index
            if slot in edge_weight:
                self[slot].edge_weight = edge_weight[slot]
        return self

    @property
    def hyperedge_types(self) -> list[str]:
        """The node types that are hyperedge sets."""
        sets = {edge_type[2] for edge_type in self.edge_types if is_membership(edge_type)}
        return [node_type for node_type in self.node_types if node_type in sets]

    @property
    def modalities(self) -> list[str]:
        """The node types that are modalities."""
        sets = set(self.hyperedge_types)
        return [node_type for node_type in self.node_types if node_type not in sets]

    def relation(self, name: str) -> Relation:
        """Return the view of a hyperedge set.

        Raises:
            ValueError: there is no such hyperedge set.
        """
        known = self.hyperedge_types
        if name not in known:
            raise ValueError(f"there is no relation {name!r} (relations: {known}).{did_you_mean(name, known)}")
        return Relation(self, name)

    def intra_edge_types(self, modality: str) -> list[EdgeType]:
        """Return the edge types ``(modality, name, modality)``.

        Raises:
            ValueError: there is no such modality.
        """
        known = self.modalities
        if modality not in known:
            hint = did_you_mean(modality, known)
            raise ValueError(f"there is no modality {modality!r} (modalities: {known}).{hint}")
        return [edge_type for edge_type in self.edge_types if edge_type[0] == modality == edge_type[2]]

    def validate(self, raise_on_error: bool = True) -> bool:
        """Check every store: counts, shapes, types, bounds of indices, finite numbers, distinct ``item_id``.

        Args:
            raise_on_error: raise at the first fault; otherwise warn of each and return :obj:`False`.

        Raises:
            ValueError: names the store, the attribute, the position of the fault and the bound.
        """
        status = True
        for check, key in self._checks():
            try:
                check(key)
            except ValueError as error:
                if raise_on_error:
                    raise
                warnings.warn(str(error), stacklevel=2)
                status = False
        if not status:
            return False
        with warnings.catch_warnings():
            if self.hyperedge_types:  # no relation need span a modality
                warnings.filterwarnings("ignore", message="The node types .* are isolated", category=UserWarning)
            return bool(super().validate(raise_on_error))

    def _checks(self) -> list[tuple[Any, Any]]:
        sets = set(self.hyperedge_types)
        checks: list[tuple[Any, Any]] = [(self._check_edges, edge_type) for edge_type in self.edge_types]
        checks += [(self._check_hyperedge_store if n in sets else self._check_item_store, n) for n in self.node_types]
        return checks

    def _check_edges(self, edge_type: EdgeType) -> None:
        edge_index = self[edge_type].get("edge_index")
        if is_membership(edge_type):
            if edge_index is None:
                raise ValueError(f"membership {edge_type} has no 'edge_index'")
            if edge_type[0] in self.hyperedge_types:
                raise ValueError(f"membership {edge_type}: '{edge_type[0]}' is a hyperedge set, not a modality")
        if not isinstance(edge_index, Tensor) or edge_index.dim() != 2 or edge_index.size(0) != 2:
            return  # other layouts and wrong shapes are PyG's to judge
        if edge_index.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"'edge_index' of {edge_type} must hold integers (got {edge_index.dtype})")
        for row, end in zip(edge_index, (edge_type[0], edge_type[2]), strict=True):
            if end in self.node_types and "num_nodes" in self[end]:
                _checks.check_bound(row, int(self[end].num_nodes), f"'edge_index' of {edge_type}, row of '{end}'")
        for key in ("edge_weight", "edge_attr"):
            weight = self[edge_type].get(key)
            if isinstance(weight, Tensor):
                where = f"'{key}' of {edge_type}"
                if weight.dim() == 0 or weight.size(0) != edge_index.size(1):
                    raise ValueError(f"{where} must have {edge_index.size(1)} rows (got {list(weight.shape)})")
                _checks.check_finite(weight, where)

    def _check_item_store(self, name: str) -> None:
        store = self[name]
        size = store.get("num_nodes")
        if size is None and self.hyperedge_types:
            raise ValueError(f"'num_nodes' of modality '{name}' is missing: set data['{name}'].num_nodes")
        if isinstance(store.get("x"), Tensor):
            _checks.check_finite(store.x, f"'x' of modality '{name}'")
            if size is not None and store.x.size(0) != size:
                raise ValueError(f"'x' of modality '{name}' must have {size} rows (got {list(store.x.shape)})")
        for key in _checks.STRINGS:
            strings = store.get(key)
            # A batch holds one list of strings for each of its graphs.
            if strings is not None and size is not None and not any(isinstance(s, list) for s in strings):
                where = f"'{key}' of modality '{name}'"
                unique = key == "item_id" and "batch" not in store  # an item may stand in several graphs of a batch
                _checks.check_strings(strings, where, size=size, unique=unique)

    def _check_hyperedge_store(self, name: str) -> None:
        store = self[name]
        if store.get("num_nodes") is None:
            raise ValueError(f"'num_nodes' of hyperedge set '{name}' is missing: it is never guessed")
        for key, value in store.items():
            if key in (*_checks.NUMBERS, "time") or key.endswith("_mask"):
                _checks.check_attribute(key, value, f"'{key}' of relation '{name}'", size=store.num_nodes)

    def _check_new_name(self, name: Any) -> None:
        if not isinstance(name, str) or not name:
            raise ValueError(f"a name must be a non-empty string (got {name!r})")
        if name in self.node_types or name in self._global_store:
            raise ValueError(f"'{name}' is already present: choose another name or delete it first")

    def _check_modality(self, modality: str, name: str) -> None:
        known = self.modalities
        if modality in self.hyperedge_types:
            raise ValueError(f"'{modality}' in '{name}' is a hyperedge set: name one of the modalities {known}")
        if modality not in known:
            head, dot, role = modality.partition(".")
            hint = did_you_mean(modality, known)
            if dot and head in known:
                hint = f" A slot with a role is a pair here: ({head!r}, {role!r})"
            raise ValueError(f"unknown modality {modality!r} in '{name}' (modalities: {known}).{hint}")
        if self[modality].get("num_nodes") is None:
            raise ValueError(
                f"'num_nodes' of modality '{modality}' is missing: set data['{modality}'].num_nodes, "
                "or add the modality with 'add_modality', which takes it from 'x'"
            )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if issubclass(cls, Batch):  # PyG makes this class at the first batch; it pickles it by an object torch refuses
            cls.__reduce__ = _reduce_batch  # type: ignore[method-assign, assignment]
            cls.get_example = _rows.get_example
            torch.serialization.add_safe_globals([cls])

    def __getstate__(self) -> dict[str, Any]:
        for store in self.stores:  # what PyG remembers of the attributes is in a form that torch refuses to load
            store.__dict__.pop("_cached_attr", None)
        return self.__dict__.copy()

    def __getattr__(self, key: str) -> Any:
        if key in ("_slice_dict", "_inc_dict") and key not in self._global_store.__dict__:
            raise AttributeError(key)  # PyG would collect 'slice' from the stores
        return super().__getattr__(key)

    def __inc__(self, key: str, value: Any, store: Any = None, *args: Any, **kwargs: Any) -> Any:
        if "batch" in key:
            if isinstance(value, Tensor) and value.numel() == 0:
                return 0  # PyG takes the maximum, which no empty tensor has
        elif "index" in key and isinstance(store, EdgeStorage):
            ends = [self._node_store_dict.get(name) for name in (store._key[0], store._key[2])]
            if None not in ends:  # what PyG says, in half the time
                return torch.tensor([[end.num_nodes] for end in ends])
        return super().__inc__(key, value, store, *args, **kwargs)

    # What is longer than a few lines stands in files of its own; the first argument there is the data object.
    remove_modality = changes.remove_modality
    remove_hyperedges = changes.remove_hyperedges
    rename = changes.rename
    subgraph = subsets.subgraph
    hyperedge_subgraph = subsets.hyperedge_subgraph
    modality_subgraph = subsets.modality_subgraph
    connected_components = components.connected_components
    component_labels = components.component_labels
    largest_components = components.largest_components
    isolated_items = components.isolated_items
    has_isolated_nodes = components.has_isolated_nodes
    coalesce = _coalesce.coalesce
    describe = _describe.describe
    summary = _describe.summary
    put_on_disk = on_disk.put_on_disk
    to_disk = on_disk.to_disk
    apply = _apply.apply
    apply_ = _apply.apply_

    @classmethod
    def from_disk(cls, folder: str | os.PathLike[str]) -> Self:
        """Open a folder that :meth:`to_disk` wrote; the features stay in their files, see :func:`open_features`.

        Raises:
            InputError: the folder or a file of it is missing, damaged or of another format.
        """
        return on_disk.from_disk(cls, folder)

    def to_namedtuple(self) -> NamedTuple:
        """Return the stores as a named tuple; the colon of a role becomes an underscore in its field name."""
        stores = {**self._node_store_dict, **self._edge_store_dict}
        names = ["__".join(key).replace(":", "_") if isinstance(key, tuple) else key for key in stores]
        data_tuple: Any = namedtuple("DataTuple", [*self._global_store.keys(), *names])  # type: ignore[misc]
        out: NamedTuple = data_tuple(
            *self._global_store.values(), *(store.to_namedtuple() for store in stores.values())
        )
        return out

    def __repr__(self) -> str:
        sets = self.hyperedge_types
        if not sets:
            return str(super().__repr__())
        lines = [size_repr(key, value, 2) for key, value in self._global_store.items()]
        lines += [size_repr(name, self[name], 2) for name in self.modalities]
        for name in sets:
            lines.append(size_repr(f"{name}({', '.join(self.relation(name).slot_names)})", self[name], 2))
        lines += [size_repr(t, s, 2) for t, s in self._edge_store_dict.items() if not is_membership(t)]
        return f"{type(self).__name__}(\n" + ",\n".join(lines) + "\n)"


def _count_hyperedges(name: str, rows: Mapping[Any, Any], given: int | None, sized: Mapping[str, Any]) -> int:
    """Return ``E`` on which all that implies it agrees."""
    counts: dict[str, int] = {}
    if given is not None:
        counts["num_hyperedges"] = _checks.check_count(given, f"'num_hyperedges' of '{name}'")
    for slot, row in rows.items():
        count = _members.count_of(row)
        if count is not None:
            counts[f"members in '{slot[0]}'"] = count
    for key, value in sized.items():
        if value is not None:
            counts[f"'{key}'"] = len(_checks.as_tensor(value, f"'{key}' of relation '{name}'").reshape(-1))
    if not counts:
        raise ValueError(f"'num_hyperedges' of '{name}' is missing: an incidence [2, nnz] does not tell it")
    if len(set(counts.values())) > 1:
        raise ValueError(f"the number of hyperedges of '{name}' must agree (got {counts})")
    return next(iter(counts.values()))


def _make_batch(base: type) -> Any:
    return Batch(_base_cls=base)


def _reduce_batch(batch: Any) -> tuple[Any, ...]:
    return _make_batch, (type(batch).__bases__[-1],), batch.__getstate__()


# PyG registers its data classes, but not the storages that they pickle.
torch.serialization.add_safe_globals([MultiModalHeteroData, BaseStorage, NodeStorage, EdgeStorage, _make_batch])
