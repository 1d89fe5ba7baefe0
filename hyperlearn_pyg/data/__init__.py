"""The data object: modalities, and relations of any order between their items."""

from __future__ import annotations

from hyperlearn_pyg.data import batching
from hyperlearn_pyg.data.describe import Description, Summary
from hyperlearn_pyg.data.multimodal import MultiModalHeteroData
from hyperlearn_pyg.data.on_disk import open_features, save_features
from hyperlearn_pyg.data.relation import Relation

__all__ = ["Description", "MultiModalHeteroData", "Relation", "Summary", "open_features", "save_features"]

batching.register()
