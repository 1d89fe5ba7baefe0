"""One of two ranks whose default group's store rank 0 serves; a fault strikes rank 0: see test_ranks.py."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

faults = runpy.run_path(str(Path(__file__).parent.parent / "faults.py"))
folder, kind, port, rank = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
struck = [faults["fault"](kind, "between", 0, 1)]
spec = {"folder": str(folder), "steps": 3, "faults": struck, "port": port, "catch": False, "guard": "step"}
faults["train"](rank, 2, {**spec, "options": {"timeout": 3.0}})
