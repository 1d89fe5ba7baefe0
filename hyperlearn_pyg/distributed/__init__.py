"""One modality a device: where each goes, and what that costs."""

from __future__ import annotations

from hyperlearn_pyg.distributed.loads import Machine, ModalityLoad, RelationLoad, modality_loads
from hyperlearn_pyg.distributed.plan import ModalityPlan
from hyperlearn_pyg.distributed.planner import ModalityPlanner

__all__ = ["Machine", "ModalityLoad", "ModalityPlan", "ModalityPlanner", "RelationLoad", "modality_loads"]
