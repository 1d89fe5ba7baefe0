"""``python -m hyperlearn_pyg``."""

from __future__ import annotations

from hyperlearn_pyg.cli import main

main()
