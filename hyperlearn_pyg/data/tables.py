from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor
from torch_geometric.utils import remove_self_loops, to_undirected

from hyperlearn_pyg.data.multimodal import MultiModalHeteroData
from hyperlearn_pyg.data.splits import SPLITS
from hyperlearn_pyg.data.table_config import GraphConfig, ModalityConfig, TableConfig, load_config
from hyperlearn_pyg.data.table_features import encode_features
from hyperlearn_pyg.data.table_reader import Table, read_table
from hyperlearn_pyg.data.table_tuples import Tuples, drop_repeated, read_tuples
from hyperlearn_pyg.errors import InputError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Tables:
    """What the files of a config hold.

    Args:
        config: the config.
        data: items, relations and graphs from files. Relations with a split column have masks.
        feature_names: modality -> names of the columns of its ``x``.
        notes: what was left out or added while reading, in words.
    """

    config: TableConfig
    data: MultiModalHeteroData
    feature_names: Mapping[str, list[str]]
    notes: Sequence[str]


def read_tables(config: TableConfig | str | os.PathLike[str], *, root: str | os.PathLike[str] | None = None) -> Tables:
    """Read the files of a config into a :class:`MultiModalHeteroData`.

    Args:
        config: a TOML file or what :func:`load_config` made of it.
        root: the folder that file names are relative to; the folder of the TOML file if left out.

    Raises:
        InputError: any fault of config or files; the text names file, line and column.
    """
    config = config if isinstance(config, TableConfig) else load_config(config)
    base = Path(root) if root is not None else config.path.parent
    named = {slot.slot[0] for part in config.relations.values() for slot in part.slots}
    items = {name: _read_items(part, base) for name, part in config.modalities.items() if name in named}
    relations = [read_tuples(part, base) for part in config.relations.values()]
    items = {name: _complete(part, relations) for name, part in items.items()}
    indexed = [_index(tuples, items) for tuples in relations]
    notes = [f"modality '{name}': no relation names it, left out" for name in config.modalities if name not in named]
    notes += [note for tuples, _ in indexed for note in tuples.notes]
    _keep_related(items, indexed)

    data = MultiModalHeteroData()
    feature_names = {}
    for name, part in items.items():
        feature_names[name] = _add_modality(data, part)
        notes += part.notes
    for tuples, index in indexed:
        _add_relation(data, tuples, index)
    for part in items.values():
        graph = part.config.graph
        if graph is not None and graph.table is not None:
            notes += _add_graph(data, part, graph, read_table(graph.table, graph.columns, base))
    data.validate()
    return Tables(config, data, {name: names for name, names in feature_names.items() if names}, notes)


@dataclass(frozen=True)
class _Items:
    """The items of a modality: their ids, and the row of the table that describes each (-1: none)."""

    config: ModalityConfig
    table: Table | None
    ids: pa.Array
    rows: Array
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The ids as a list."""
        ids: list[str] = self.ids.to_pylist()
        return ids

    def find(self, names: pa.Array) -> Array:
        """Index of each name, -1 where it is no id."""
        found: Array = pc.fill_null(pc.index_in(names, value_set=self.ids), -1).to_numpy(zero_copy_only=False)
        return found.astype(np.int64)


def _read_items(config: ModalityConfig, base: Path) -> _Items:
    if config.table is None or config.id is None:
        return _Items(config, None, pa.array([], pa.string()), np.zeros(0, dtype=np.int64))
    columns = [config.id, config.name, config.label, *(feature.column for feature in config.features)]
    table = read_table(config.table, [column for column in columns if column], base)
    ids = table.text(config.id)
    empty = np.flatnonzero(ids.is_null().to_numpy())
    if len(empty):
        raise InputError(f"{table.where(int(empty[0]), config.id)}: the id is empty ({len(empty)} such rows)")
    series = ids.to_pandas()
    repeated = np.flatnonzero(series.duplicated().to_numpy())
    if len(repeated):
        second, again = int(repeated[0]), series.iloc[int(repeated[0])]
        first = int(np.flatnonzero((series == again).to_numpy())[0])
        text = f"id {again!r} is there already, in {table.where(first)} ({len(repeated)} such rows)"
        raise InputError(f"{table.where(second, config.id)}: {text}")
    return _Items(config, table, ids.combine_chunks(), np.arange(table.num_rows))


def _complete(items: _Items, relations: list[Tuples]) -> _Items:
    """Add the ids that only relations name, where there is no file or ``unknown = "add"``."""
    config = items.config
    if config.table is not None and config.unknown != "add":
        return items
    slots = [(t, i) for t in relations for i, s in enumerate(t.config.slots) if s.slot[0] == config.modality]
    named = pa.chunked_array([t.names[i] for t, i in slots], pa.string()).unique()
    new = _natural_order(named.filter(pa.array(items.find(named) < 0)).to_pylist())
    notes = items.notes
    if config.table is not None and new:
        some = ", ".join(map(repr, new[:3]))
        notes = (*notes, f"modality '{config.modality}': {len(new)} ids added that no file holds: {some}")
    ids = pa.concat_arrays([items.ids, pa.array(new, pa.string())])
    return replace(items, ids=ids, rows=np.append(items.rows, np.full(len(new), -1)), notes=notes)


def _natural_order(names: list[str]) -> list[str]:
    """Sort as numbers where all are, else as texts: independent of the order of the rows."""
    series = pd.Series(names, dtype=object)
    numbers = pd.to_numeric(series, errors="coerce").to_numpy(np.float64)
    texts = np.argsort(series.to_numpy(str), kind="stable")
    if np.isnan(numbers).any():
        return [names[i] for i in texts]
    return [names[i] for i in texts[np.argsort(numbers[texts], kind="stable")]]


def _index(tuples: Tuples, items: Mapping[str, _Items]) -> tuple[Tuples, list[Array]]:
    """Map ids to indices; drop tuples of unknown ids where the config says so, and repeated ones."""
    index = []
    parts = [items[slot.slot[0]] for slot in tuples.config.slots]
    for i, part in enumerate(parts):
        found = part.find(tuples.names[i])
        if (found < 0).any() and part.config.unknown == "error":
            raise _unknown_ids(tuples, i, part, found)
        index.append(found[tuples.codes[i]])
    known = np.logical_and.reduce([column >= 0 for column in index])
    if not known.all():
        tuples = tuples.take(known, f"{int((~known).sum())} tuples with unknown ids dropped")
        index = [column[known] for column in index]
        tuples.check_not_empty()
    kept = drop_repeated(tuples, index, [len(part.ids) for part in parts])
    if kept is not None:
        tuples = tuples.take(kept, f"{len(index[0]) - len(kept)} repeated tuples dropped")
        index = [column[kept] for column in index]
    return tuples, index


def _unknown_ids(tuples: Tuples, i: int, part: _Items, found: Array) -> InputError:
    slot = tuples.config.slots[i]
    missing = np.flatnonzero(found < 0)
    first = int(tuples.rows[np.flatnonzero(tuples.codes[i] == missing[0])[0]])
    some = ", ".join(repr(tuples.names[i][int(m)].as_py()) for m in missing[:3])
    label = part.table.label if part.table is not None else ""
    ids = "id is" if len(missing) == 1 else "ids are"
    return InputError(
        f"{tuples.table.where(first, slot.column)}: {len(missing)} {ids} not in column {part.config.id!r} of "
        f'{label}: {some}. Add them there, or set unknown = "add" or "drop" in '
        f"[modality.{part.config.modality}]"
    )


def _keep_related(items: dict[str, _Items], indexed: list[tuple[Tuples, list[Array]]]) -> None:
    """Reduce modalities with ``items = "related"`` to what tuples name, in place."""
    for name, part in items.items():
        if part.config.items != "related":
            continue
        columns = [
            (index, i)
            for tuples, index in indexed
            for i, slot in enumerate(tuples.config.slots)
            if slot.slot[0] == name
        ]
        used = np.zeros(len(part.ids), dtype=bool)
        for index, i in columns:
            used[index[i]] = True
        new = np.cumsum(used) - 1
        for index, i in columns:
            index[i] = new[index[i]]
        left_out = int((~used).sum())
        note = (f"modality '{name}': {left_out} items without a tuple left out",) if left_out else ()
        items[name] = replace(
            part, ids=part.ids.filter(pa.array(used)), rows=part.rows[used], notes=(*part.notes, *note)
        )


def _add_modality(data: MultiModalHeteroData, part: _Items) -> list[str]:
    config, table = part.config, part.table
    attrs: dict[str, list[str]] = {}
    x: Tensor | None = None
    names: list[str] = []
    if table is not None:
        rows = pa.array(part.rows, mask=part.rows < 0)
        if config.name:
            cells = table.text(config.name).take(rows).combine_chunks()
            attrs["item_name"] = pc.coalesce(cells, part.ids).to_pylist()
        if config.label:
            attrs["item_label"] = table.text(config.label).take(rows).fill_null("").to_pylist()
        if config.features:
            x, names = encode_features(table, config.features, part.rows)
    data.add_modality(config.modality, x=x, num_nodes=len(part.ids), item_id=part.names, **attrs)
    return names


def _add_relation(data: MultiModalHeteroData, tuples: Tuples, index: list[Array]) -> None:
    attrs: dict[str, Any] = {}
    for key, column in tuples.columns.items():
        if key == "split":
            attrs |= {f"{split}_mask": torch.from_numpy(column == i) for i, split in enumerate(SPLITS)}
        else:  # times in float32 would be off by a minute
            attrs[key] = torch.from_numpy(column).to(torch.float64 if key == "time" else torch.float32)
    slots = [(modality, role) if role else modality for modality, role in (s.slot for s in tuples.config.slots)]
    members = torch.from_numpy(np.stack(index)).long()
    data.add_hyperedges(tuples.config.relation, members, modalities=slots, **attrs)


def _add_graph(data: MultiModalHeteroData, part: _Items, graph: GraphConfig, table: Table) -> list[str]:
    """Add the undirected graph of a file as edge type (modality, "linked", modality)."""
    name = part.config.modality
    ends = graph.columns[:2]
    index = [part.find(table.text(column).combine_chunks()) for column in ends]
    notes = []
    unknown = (index[0] < 0) | (index[1] < 0)
    if unknown.any():
        row = int(np.flatnonzero(unknown)[0])
        column = ends[0] if index[0][row] < 0 else ends[1]
        if part.table is not None and (part.config.items, part.config.unknown) == ("all", "error"):
            got = table.text(column)[row].as_py()
            text = f"{got!r} is no id of modality '{name}' ({int(unknown.sum())} such rows)"
            raise InputError(f"{table.where(row, column)}: {text}")
        notes.append(f"graph of '{name}': {int(unknown.sum())} edges to items that are not there dropped")
    edge_index = torch.from_numpy(np.stack([column[~unknown] for column in index]))
    weight = None
    if len(graph.columns) == 3:
        numbers = table.numbers(graph.columns[2])
        wrong = np.flatnonzero(~(numbers >= 0))
        if len(wrong):
            place = table.where(int(wrong[0]), graph.columns[2])
            raise InputError(f"{place}: a weight of at least 0 is expected, got {numbers[wrong[0]]:g}")
        weight = torch.from_numpy(numbers[~unknown]).to(torch.float32)
    edge_index, weight = remove_self_loops(edge_index, weight)
    edge_index, weight = to_undirected(edge_index, weight, num_nodes=len(part.ids), reduce="mean")
    store = data[name, "linked", name]
    store.edge_index = edge_index
    if weight is not None:
        store.edge_weight = weight
    return notes
