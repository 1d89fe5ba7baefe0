"""Training and evaluation of models."""

from __future__ import annotations

from hyperlearn_pyg.training.config import TrainConfig
from hyperlearn_pyg.training.evaluation import evaluate
from hyperlearn_pyg.training.loop import fit
from hyperlearn_pyg.training.state import FitResult

__all__ = ["FitResult", "TrainConfig", "evaluate", "fit"]
