"""Data sets, in PyG's style."""

from __future__ import annotations

from hyperlearn_pyg.datasets._node_classes import NodeClassDataset
from hyperlearn_pyg.datasets.hypergcn import CoAuthorship, CoCitation
from hyperlearn_pyg.datasets.legcn import NTU2012, Zoo
from hyperlearn_pyg.datasets.monti import MontiSplit
from hyperlearn_pyg.datasets.movielens import MovieLens100K
from hyperlearn_pyg.datasets.synthetic import SyntheticMultiModal, SyntheticRelation
from hyperlearn_pyg.datasets.tables import TableDataset

__all__ = [
    "NTU2012",
    "CoAuthorship",
    "CoCitation",
    "MontiSplit",
    "MovieLens100K",
    "NodeClassDataset",
    "SyntheticMultiModal",
    "SyntheticRelation",
    "TableDataset",
    "Zoo",
]
