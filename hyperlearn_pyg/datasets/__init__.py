"""Data sets, in PyG's style."""

from __future__ import annotations

from hyperlearn_pyg.datasets._node_classes import NodeClassDataset
from hyperlearn_pyg.datasets.citeulike import CiteULike
from hyperlearn_pyg.datasets.dhne import DHNE
from hyperlearn_pyg.datasets.foursquare import FoursquareCheckins
from hyperlearn_pyg.datasets.hetrec import HetRecLastFM
from hyperlearn_pyg.datasets.hypergcn import CoAuthorship, CoCitation
from hyperlearn_pyg.datasets.legcn import NTU2012, Zoo
from hyperlearn_pyg.datasets.monti import MontiSplit
from hyperlearn_pyg.datasets.movielens import MovieLens100K
from hyperlearn_pyg.datasets.nary_kb import NaryKB
from hyperlearn_pyg.datasets.omniart import OmniArtMuseum
from hyperlearn_pyg.datasets.synthetic import SyntheticMultiModal, SyntheticRelation
from hyperlearn_pyg.datasets.tables import TableDataset
from hyperlearn_pyg.datasets.tate import Tate
from hyperlearn_pyg.datasets.wikipedia import WikipediaImageText

__all__ = [
    "DHNE",
    "NTU2012",
    "CiteULike",
    "CoAuthorship",
    "CoCitation",
    "FoursquareCheckins",
    "HetRecLastFM",
    "MontiSplit",
    "MovieLens100K",
    "NaryKB",
    "NodeClassDataset",
    "OmniArtMuseum",
    "SyntheticMultiModal",
    "SyntheticRelation",
    "TableDataset",
    "Tate",
    "WikipediaImageText",
    "Zoo",
]
