"""Intra-modal graphs and splits of relations, as PyG transforms."""

from __future__ import annotations

from hyperlearn_pyg.transforms.co_occurrence_graph import CoOccurrenceGraph
from hyperlearn_pyg.transforms.knn_graph import KNNGraph
from hyperlearn_pyg.transforms.random_relation_split import RandomRelationSplit

__all__ = ["CoOccurrenceGraph", "KNNGraph", "RandomRelationSplit"]
