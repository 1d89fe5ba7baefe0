"""Training and evaluation of models."""

from __future__ import annotations

from hyperlearn_pyg.training.attribution import attribution_floors, evaluate_attribution
from hyperlearn_pyg.training.config import TrainConfig
from hyperlearn_pyg.training.evaluation import evaluate
from hyperlearn_pyg.training.floors import floors
from hyperlearn_pyg.training.links import cold_entries
from hyperlearn_pyg.training.loop import fit
from hyperlearn_pyg.training.metrics import filtered_ranks, rank_metrics
from hyperlearn_pyg.training.recommendation import evaluate_recommendation, recommendation_floors
from hyperlearn_pyg.training.state import FitResult
from hyperlearn_pyg.training.steps import hold_out
from hyperlearn_pyg.training.tagging import average_precisions, evaluate_tagging, tagging_floors
from hyperlearn_pyg.training.validation import SplitKind, split_kind
from hyperlearn_pyg.training.vectors import linear_probe, neighbor_agreement, retrieval_map

__all__ = [
    "FitResult",
    "SplitKind",
    "TrainConfig",
    "attribution_floors",
    "average_precisions",
    "cold_entries",
    "evaluate",
    "evaluate_attribution",
    "evaluate_recommendation",
    "evaluate_tagging",
    "filtered_ranks",
    "fit",
    "floors",
    "hold_out",
    "linear_probe",
    "neighbor_agreement",
    "rank_metrics",
    "recommendation_floors",
    "retrieval_map",
    "split_kind",
    "tagging_floors",
]
