"""The experiments that the package is measured by, as data, and what runs them and writes their tables."""

from __future__ import annotations

from hyperlearn_pyg.experiments.experiment import Experiment, Quoted, Row, Target
from hyperlearn_pyg.experiments.registry import EXPERIMENTS, find
from hyperlearn_pyg.experiments.runner import run

__all__ = ["EXPERIMENTS", "Experiment", "Quoted", "Row", "Target", "find", "run"]
