"""The data object: modalities, and relations of any order between their items."""

from __future__ import annotations

from hyperlearn_pyg.data.multimodal import MultiModalHeteroData
from hyperlearn_pyg.data.relation import Relation

__all__ = ["MultiModalHeteroData", "Relation"]
