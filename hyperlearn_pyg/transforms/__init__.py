"""Graphs, projections, splits and augmentations of the data object, as PyG transforms."""

from __future__ import annotations

from hyperlearn_pyg.transforms.add_meta_hyperedges import AddMetaHyperedges
from hyperlearn_pyg.transforms.check_leaks import check_leaks
from hyperlearn_pyg.transforms.clique_expansion import CliqueExpansion
from hyperlearn_pyg.transforms.co_occurrence_graph import CoOccurrenceGraph
from hyperlearn_pyg.transforms.hyperedge_dropout import HyperedgeDropout
from hyperlearn_pyg.transforms.knn_graph import KNNGraph
from hyperlearn_pyg.transforms.modality_dropout import ModalityDropout
from hyperlearn_pyg.transforms.normalize_features import NormalizeFeatures
from hyperlearn_pyg.transforms.projected_hyperedges import ProjectedHyperedges
from hyperlearn_pyg.transforms.random_relation_split import RandomRelationSplit
from hyperlearn_pyg.transforms.reciprocal_relations import ReciprocalRelations
from hyperlearn_pyg.transforms.star_expansion import StarExpansion

__all__ = [
    "AddMetaHyperedges",
    "CliqueExpansion",
    "CoOccurrenceGraph",
    "HyperedgeDropout",
    "KNNGraph",
    "ModalityDropout",
    "NormalizeFeatures",
    "ProjectedHyperedges",
    "RandomRelationSplit",
    "ReciprocalRelations",
    "StarExpansion",
    "check_leaks",
]
