from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores; processes that tests start do as well
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure() -> None:
    """Let torch repeat a warning that it gives once a process: which test meets it must not depend on the order."""
    import torch

    torch.set_warn_always(True)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Share the suite among as many processes as there are cores (4 at most); chosen files run in this one."""
    chosen = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    return min(os.cpu_count() or 1, 4) if chosen == [ROOT / "tests"] else 0


@pytest.fixture(scope="session")
def data_dir() -> Callable[[str], Path]:
    """Give the folder of a raw data set by name; the test is skipped where it is absent."""
    base = Path(os.environ.get("HYPERLEARN_DATA", ROOT.parent / "shared" / "data"))

    def folder(name: str) -> Path:
        if not (base / name).is_dir():
            pytest.skip(f"raw data '{name}' not found below '{base}': set HYPERLEARN_DATA to the folder that holds it")
        return base / name

    return folder


@pytest.fixture(scope="session")
def ranks() -> Iterator[Any]:
    """Give the forking server of tests/distributed/harness.py: ``ranks.run(function, 2, *arguments)``."""
    spec = importlib.util.spec_from_file_location("_ranks_harness", ROOT / "tests" / "distributed" / "harness.py")
    assert spec is not None
    assert spec.loader is not None
    harness = sys.modules["_ranks_harness"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(harness)
    server = harness.Ranks()
    yield server
    server.close()
