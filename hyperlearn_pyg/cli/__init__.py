"""The command line, ``hyperlearn`` or ``python -m hyperlearn_pyg``."""

from __future__ import annotations

from hyperlearn_pyg.cli.app import main

__all__ = ["main"]
