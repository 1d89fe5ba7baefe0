"""How replicas of one module train together: one file a strategy, one interface."""

from __future__ import annotations

from hyperlearn_pyg.distributed.strategies.base import Strategy
from hyperlearn_pyg.distributed.strategies.co_learning import CoLearning, Round, RoundTrace
from hyperlearn_pyg.distributed.strategies.codistillation import Codistillation, kl_divergence, squared_error
from hyperlearn_pyg.distributed.strategies.gist import GIST
from hyperlearn_pyg.distributed.strategies.gradient_push import GradientPush, exponential_graph
from hyperlearn_pyg.distributed.strategies.resist import ResIST
from hyperlearn_pyg.distributed.strategies.saving import load_replicas, save_replicas

__all__ = [
    "GIST",
    "CoLearning",
    "Codistillation",
    "GradientPush",
    "ResIST",
    "Round",
    "RoundTrace",
    "Strategy",
    "exponential_graph",
    "kl_divergence",
    "load_replicas",
    "save_replicas",
    "squared_error",
]
