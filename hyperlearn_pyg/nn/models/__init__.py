"""Models: the parts put together on a data object."""

from __future__ import annotations

from hyperlearn_pyg.nn.models.branch import Branch
from hyperlearn_pyg.nn.models.config import ModelConfig
from hyperlearn_pyg.nn.models.hyperlearn import HyperLearn
from hyperlearn_pyg.nn.models.inputs import BranchInputs, MessageChannel, ModelInputs, RelationSpec, Tuples
from hyperlearn_pyg.nn.models.presets import PRESETS
from hyperlearn_pyg.nn.models.residual_encoder import ResidualEncoder
from hyperlearn_pyg.nn.models.residual_stack import ResidualHypergraphStack

__all__ = [
    "PRESETS",
    "Branch",
    "BranchInputs",
    "HyperLearn",
    "MessageChannel",
    "ModelConfig",
    "ModelInputs",
    "RelationSpec",
    "ResidualEncoder",
    "ResidualHypergraphStack",
    "Tuples",
]
