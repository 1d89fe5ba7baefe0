"""Search for settings on validation entries, with Optuna."""

from __future__ import annotations

from hyperlearn_pyg.tuning.defaults import default_space
from hyperlearn_pyg.tuning.search import TuneResult, tune
from hyperlearn_pyg.tuning.space import Choice, Range, Space, load_space

__all__ = ["Choice", "Range", "Space", "TuneResult", "default_space", "load_space", "tune"]
