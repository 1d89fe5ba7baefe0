"""One modality a device: where each goes, and what that costs."""

from __future__ import annotations

from hyperlearn_pyg.distributed import checkpoint
from hyperlearn_pyg.distributed.checkpoint import Checkpoint, CheckpointWriter
from hyperlearn_pyg.distributed.launch import Launch, connected
from hyperlearn_pyg.distributed.loads import Machine, ModalityLoad, RelationLoad, modality_loads
from hyperlearn_pyg.distributed.local_data import local_data
from hyperlearn_pyg.distributed.modality_parallel import ModalityParallel
from hyperlearn_pyg.distributed.optimizers import load_optimizer_state, optimizer_state
from hyperlearn_pyg.distributed.plan import ModalityPlan
from hyperlearn_pyg.distributed.planner import ModalityPlanner
from hyperlearn_pyg.typing import TupleBatch

__all__ = [
    "Checkpoint",
    "CheckpointWriter",
    "Launch",
    "Machine",
    "ModalityLoad",
    "ModalityParallel",
    "ModalityPlan",
    "ModalityPlanner",
    "RelationLoad",
    "TupleBatch",
    "checkpoint",
    "connected",
    "load_optimizer_state",
    "local_data",
    "modality_loads",
    "optimizer_state",
]
