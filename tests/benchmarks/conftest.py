from __future__ import annotations

import sys
from pathlib import Path

# The benchmarks are scripts: they find what they share beside themselves.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
