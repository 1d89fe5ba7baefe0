"""The experiments on real data: ``python benchmarks/experiments.py NAME`` is ``hyperlearn bench NAME``."""

from __future__ import annotations

import sys

from hyperlearn_pyg.cli.app import app

if __name__ == "__main__":
    app(["bench", *sys.argv[1:]])
