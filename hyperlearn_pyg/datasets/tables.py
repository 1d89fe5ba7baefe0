from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from torch_geometric.data import InMemoryDataset

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.table_config import TableConfig, load_config
from hyperlearn_pyg.data.tables import read_tables
from hyperlearn_pyg.transforms import CoOccurrenceGraph, KNNGraph, RandomRelationSplit


class TableDataset(InMemoryDataset):
    """A user's own tables, as a TOML config describes them: CSV, TSV or Parquet files.

    Items get encoded features ``x``, ``item_id`` and, where configured, ``item_name`` and ``item_label``. Relations
    get ``train_mask``, ``val_mask`` and ``test_mask``: from their split column, or drawn with the seed of ``[split]``.
    Graphs within modalities are the edge types ``(m, "linked", m)`` (from a file), ``(m, "knn", m)`` (on features)
    and ``(m, "cooccurs", m)`` (from training tuples alone). Nothing is cached: the files are read each time.

    Args:
        config_path: the TOML file; ``hyperlearn init`` drafts one.
        root: the folder that file names in the config are relative to; the folder of the config if left out.
        transform: applied at each access, as in PyG.

    Attributes:
        config: the config; ``config.model`` and ``config.train`` hold the tables of these names as they stand.
        feature_names: modality -> names of the columns of ``x``.
        notes: what was left out or added while reading, in words.

    Raises:
        InputError: any fault of config or files; the text names file, line and column.
    """

    def __init__(
        self,
        config_path: str | os.PathLike[str],
        root: str | os.PathLike[str] | None = None,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(None, transform)
        tables = read_tables(load_config(config_path), root=root)
        self.config: TableConfig = tables.config
        self.feature_names = dict(tables.feature_names)
        self.notes = list(tables.notes)
        data = _add_graphs(_add_splits(tables.data, self.config), self.config)
        self.data, self.slices = self.collate([data])


def _add_splits(data: MultiModalHeteroData, config: TableConfig) -> MultiModalHeteroData:
    split = config.split
    for name, relation in config.relations.items():
        if relation.split is None:
            data = RandomRelationSplit(name, val=split.val, test=split.test, seed=split.seed)(data)
    return data


def _add_graphs(data: MultiModalHeteroData, config: TableConfig) -> MultiModalHeteroData:
    for name in data.modalities:
        graph = config.modalities[name].graph
        if graph is not None and graph.kind == "knn":
            data = KNNGraph(name, k=graph.k)(data)
        elif graph is not None and graph.relation is not None:
            data = CoOccurrenceGraph(graph.relation, name, k=graph.k)(data)
    return data
