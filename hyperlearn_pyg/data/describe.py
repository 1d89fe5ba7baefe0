from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor
from torch_geometric.typing import EdgeType

from hyperlearn_pyg.data import _rows
from hyperlearn_pyg.data._checks import row_blocks
from hyperlearn_pyg.data.components import isolated_items
from hyperlearn_pyg.data.relation import Relation, is_membership
from hyperlearn_pyg.data.tuples import tuple_ids

if TYPE_CHECKING:
    from hyperlearn_pyg.data.multimodal import MultiModalHeteroData


@dataclass(frozen=True, repr=False, eq=False)
class Description:
    """What a hypergraph holds, in numbers; ``print`` shows the tables. Made by :meth:`MultiModalHeteroData.describe`.

    Attributes:
        modalities: a row a modality: ``items``, ``features`` (columns of ``x``), ``without_features`` (items that have
            no ``x`` or nothing but zeros and NaN in it), ``missing_values`` (NaN in ``x``), ``degree_min``,
            ``degree_mean``, ``degree_max`` (memberships an item), ``isolated`` (items in no hyperedge and no edge).
        relations: a row a hyperedge set: ``slots`` (their modalities, with roles), ``order`` (number of slots),
            ``hyperedges``, ``memberships``, ``members_min``, ``members_mean``, ``members_max`` (a hyperedge, over all
            slots), ``empty`` (hyperedges without a member), ``uniform`` (one member in every slot of every hyperedge),
            ``density`` (distinct tuples in the array of all possible ones; NaN where not uniform),
            ``incidence_density`` (memberships in the incidence matrix of all items of the slots), ``train``, ``val``,
            ``test`` (hyperedges in the masks, <NA> without one), ``value_mean`` (NaN without values).
        slots: a row a slot, by relation and slot number: ``modality``, ``role``, ``memberships``, ``members_min`` to
            ``members_max`` (a hyperedge), ``degree_min`` to ``degree_max`` (an item), ``unused`` (items in no
            hyperedge by this slot).
        edges: a row an edge type that is no membership: ``edges``, ``density`` (edges in the array of all possible
            ones), ``self_loops``.
    """

    modalities: pd.DataFrame
    relations: pd.DataFrame
    slots: pd.DataFrame
    edges: pd.DataFrame

    def __repr__(self) -> str:
        parts = [("modalities", self.modalities), ("relations", self.relations), ("slots", self.slots)]
        parts += [("edges", self.edges)]
        return "\n\n".join(table_text(title, frame) for title, frame in parts if len(frame))


def describe(data: MultiModalHeteroData) -> Description:
    """Return counts, orders, degrees, densities and missing features, as tables.

    Nothing is kept in memory but the tables; features are read block by block.
    """
    relations = [data.relation(name) for name in data.hyperedge_types]
    isolated = isolated_items(data)
    modalities = {name: _modality(data, name, isolated[name], relations) for name in data.modalities}
    slots = {(r.name, number): _slot(r, number) for r in relations for number in range(r.order)}
    edges = {
        ", ".join(edge_type): _edges(data, edge_type)
        for edge_type in data.edge_types
        if not is_membership(edge_type) and "edge_index" in data[edge_type]
    }
    return Description(
        modalities=_frame(modalities, ["modality"]),
        relations=_frame({r.name: _relation(r) for r in relations}, ["relation"]),
        slots=_frame(slots, ["relation", "slot"]),
        edges=_frame(edges, ["edges"]),
    )


def summary(data: MultiModalHeteroData) -> str:
    """Return a short table of the modalities and the relations, to print."""
    told = describe(data)
    columns = {
        "modalities": ["items", "features", "without_features", "degree_mean", "isolated"],
        "relations": ["slots", "hyperedges", "memberships", "members_mean", "density", "value_mean"],
    }
    parts = [(key, getattr(told, key)) for key in columns]
    if len(told.edges):
        columns["edges"] = ["edges", "density"]
        parts.append(("edges", told.edges))
    return "\n\n".join(table_text(key, frame[columns[key]]) for key, frame in parts if len(frame))


def table_text(title: str, frame: pd.DataFrame) -> str:
    """Return a table as text: whole numbers as they are, others with four digits, nothing where there is none."""

    def cell(value: Any) -> str:
        if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
            return ""
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    shown = frame.copy().astype(object)
    for column in shown.columns:
        shown[column] = [cell(value) for value in frame[column]]
    text: str = shown.to_string()
    return f"{title}\n{text}"


def statistics(counts: Tensor, name: str) -> dict[str, float | int | None]:
    """Return least, mean and greatest of counts; None of nothing."""
    if counts.numel() == 0:
        return {f"{name}_min": None, f"{name}_mean": math.nan, f"{name}_max": None}
    return {
        f"{name}_min": int(counts.min()),
        f"{name}_mean": float(counts.double().mean()),
        f"{name}_max": int(counts.max()),
    }


def _frame(rows: dict[Any, dict[str, Any]], names: list[str]) -> pd.DataFrame:
    """Make a table; columns that hold whole numbers stay whole numbers where some are missing."""
    index: pd.Index[Any]
    if len(names) > 1:
        index = pd.MultiIndex.from_tuples(list(rows), names=names) if rows else pd.MultiIndex.from_arrays([[], []])
    else:
        index = pd.Index(list(rows), name=names[0], dtype=object)
    frame: pd.DataFrame = pd.DataFrame(list(rows.values()), index=index, dtype=object)
    for column in frame.columns:
        kinds = {type(value) for value in frame[column]} - {type(None)}
        if kinds <= {int}:
            frame[column] = pd.array([pd.NA if v is None else v for v in frame[column]], dtype="Int64")
        elif kinds <= {float}:
            frame[column] = frame[column].astype(float)
        elif kinds <= {bool}:
            frame[column] = frame[column].astype(bool)
    return frame


def _modality(data: MultiModalHeteroData, name: str, isolated: Tensor, relations: Iterable[Relation]) -> dict[str, Any]:
    size = _rows.num_nodes(data, name)
    degree = torch.zeros(size, dtype=torch.long)
    for relation in relations:
        for number, modality in enumerate(relation.modalities):
            if modality == name:
                degree += torch.bincount(relation.incidence(number)[0].cpu(), minlength=size)
    x = data[name].get("x")
    bare, missing = (size, 0) if not isinstance(x, Tensor) else _missing(x)
    return {
        "items": size,
        "features": int(data[name].num_node_features),
        "without_features": bare,
        "missing_values": missing,
        **statistics(degree, "degree"),
        "isolated": int(isolated.sum()),
    }


def _missing(x: Tensor) -> tuple[int, int]:
    """Count the rows with nothing but zeros and NaN, and the NaN."""
    bare = missing = 0
    for block in row_blocks(x):
        dense = block.to_dense() if block.layout != torch.strided else block
        dense = dense.flatten(1) if dense.dim() > 1 else dense.view(-1, 1)
        nan = dense.isnan()
        missing += int(nan.sum())
        bare += int((nan | (dense == 0)).all(dim=1).sum())
    return bare, missing


def _relation(relation: Relation) -> dict[str, Any]:
    count, sizes = len(relation), relation.sizes
    members = torch.zeros(count, dtype=torch.long)
    for number in range(relation.order):
        members += torch.bincount(relation.incidence(number)[1].cpu(), minlength=count)
    cells, pairs = math.prod(sizes), sum(sizes) * count
    uniform = relation.is_uniform
    distinct = tuple_ids(relation.index, sizes).unique().numel() if uniform and count else 0
    value = relation.value
    store = relation.data[relation.name]
    masks = {split: store.get(f"{split}_mask") for split in ("train", "val", "test")}
    return {
        "slots": ", ".join(relation.slot_names),
        "order": relation.order,
        "hyperedges": count,
        "memberships": int(members.sum()),
        **statistics(members, "members"),
        "empty": int((members == 0).sum()),
        "uniform": uniform,
        "density": distinct / cells if uniform and cells else math.nan,
        "incidence_density": int(members.sum()) / pairs if pairs else math.nan,
        **{split: None if mask is None else int(mask.sum()) for split, mask in masks.items()},
        "value_mean": float(value.double().mean()) if value is not None and value.numel() else math.nan,
    }


def _slot(relation: Relation, number: int) -> dict[str, Any]:
    item, hyperedge = relation.incidence(number).cpu()
    degree = torch.bincount(item, minlength=relation.sizes[number])
    return {
        "modality": relation.modalities[number],
        "role": relation.roles[number] or "",
        "memberships": item.numel(),
        **statistics(torch.bincount(hyperedge, minlength=len(relation)), "members"),
        **statistics(degree, "degree"),
        "unused": int((degree == 0).sum()),
    }


def _edges(data: MultiModalHeteroData, edge_type: EdgeType) -> dict[str, Any]:
    row, column = data[edge_type].edge_index
    cells = _rows.num_nodes(data, edge_type[0]) * _rows.num_nodes(data, edge_type[2])
    return {
        "edges": row.numel(),
        "density": row.numel() / cells if cells else math.nan,
        "self_loops": int((row == column).sum()) if edge_type[0] == edge_type[2] else 0,
    }


@dataclass(frozen=True, repr=False, eq=False)
class Summary:
    """How large the hypergraphs of a data set are; ``print`` shows the tables.

    The rows of each table are those of PyG's ``Summary``: ``mean``, ``std`` (of the sample; NaN of one graph), ``min``,
    ``quantile25``, ``median``, ``quantile75``, ``max``. What a graph lacks counts as 0.

    Attributes:
        name: the name of the data set's class.
        num_graphs: the number of hypergraphs.
        items: a column a modality.
        hyperedges: a column a hyperedge set.
        memberships: a column a hyperedge set, over all its slots.
        edges: a column an edge type that is no membership.
    """

    name: str
    num_graphs: int
    items: pd.DataFrame
    hyperedges: pd.DataFrame
    memberships: pd.DataFrame
    edges: pd.DataFrame

    @classmethod
    def from_dataset(cls, dataset: Sequence[Any] | Iterable[Any]) -> Summary:
        """Count what the hypergraphs of ``dataset`` hold.

        Args:
            dataset: a PyG data set or a list of :class:`MultiModalHeteroData`.

        Raises:
            ValueError: it is empty.
        """
        rows: dict[str, list[dict[str, int]]] = {"items": [], "hyperedges": [], "memberships": [], "edges": []}
        for data in dataset:
            sets = data.hyperedge_types
            rows["items"].append({name: _rows.num_nodes(data, name) for name in data.modalities})
            rows["hyperedges"].append({name: len(data.relation(name)) for name in sets})
            members = {name: [data[slot].num_edges for slot in data.relation(name).slots] for name in sets}
            rows["memberships"].append({name: sum(counts) for name, counts in members.items()})
            plain = [edge_type for edge_type in data.edge_types if not is_membership(edge_type)]
            rows["edges"].append({", ".join(edge_type): data[edge_type].num_edges for edge_type in plain})
        if not rows["items"]:
            raise ValueError("'dataset' holds no graph")
        frames = {key: _spread(pd.DataFrame(counts).fillna(0)) for key, counts in rows.items()}
        return cls(name=type(dataset).__name__, num_graphs=len(rows["items"]), **frames)

    def __repr__(self) -> str:
        titles = {
            "items": "items of a modality",
            "hyperedges": "hyperedges of a relation",
            "memberships": "memberships of a relation",
            "edges": "edges of an edge type",
        }
        parts = [table_text(title, getattr(self, key)) for key, title in titles.items() if getattr(self, key).size]
        return "\n\n".join([f"{self.name} (#graphs={self.num_graphs})", *parts])


def _spread(counts: pd.DataFrame) -> pd.DataFrame:
    told = counts.astype(float).agg(["mean", "std", "min", "max"]) if counts.size else pd.DataFrame()
    quantiles = counts.astype(float).quantile([0.25, 0.5, 0.75]) if counts.size else pd.DataFrame()
    quantiles.index = pd.Index(["quantile25", "median", "quantile75"][: len(quantiles)])
    order = ["mean", "std", "min", "quantile25", "median", "quantile75", "max"]
    table: pd.DataFrame = pd.concat([told, quantiles]).reindex(order)
    return table
