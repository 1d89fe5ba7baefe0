"""Encoders of one modality: they give a vector for every item."""

from __future__ import annotations

from hyperlearn_pyg.nn.encoder.diffusion import DiffusionEncoder
from hyperlearn_pyg.nn.encoder.embedding import EmbeddingEncoder
from hyperlearn_pyg.nn.encoder.level_conv import LevelConvEncoder
from hyperlearn_pyg.nn.encoder.partner import PartnerEncoder
from hyperlearn_pyg.nn.encoder.relation import RelationEncoder

__all__ = ["DiffusionEncoder", "EmbeddingEncoder", "LevelConvEncoder", "PartnerEncoder", "RelationEncoder"]
