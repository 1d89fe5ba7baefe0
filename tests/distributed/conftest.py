from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def ranks() -> Iterator[Any]:
    """Give the forking server of tests/distributed/harness.py: ``ranks.run(function, 2, *arguments)``."""
    spec = importlib.util.spec_from_file_location("_ranks_harness", Path(__file__).with_name("harness.py"))
    assert spec is not None
    assert spec.loader is not None
    harness = sys.modules["_ranks_harness"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(harness)
    server = harness.Ranks()
    yield server
    server.close()
