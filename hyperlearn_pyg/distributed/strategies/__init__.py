"""How replicas of one module train together: one file a strategy, one interface."""

from __future__ import annotations

from hyperlearn_pyg.distributed.strategies.base import Strategy
from hyperlearn_pyg.distributed.strategies.gist import GIST

__all__ = ["GIST", "Strategy"]
