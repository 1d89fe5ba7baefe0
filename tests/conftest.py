from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Callable[[str], Path]:
    """Give the folder of a raw data set by name; the test is skipped where it is absent."""
    base = Path(os.environ.get("HYPERLEARN_DATA", ROOT.parent / "shared" / "data"))

    def folder(name: str) -> Path:
        if not (base / name).is_dir():
            pytest.skip(f"raw data '{name}' not found below '{base}': set HYPERLEARN_DATA to the folder that holds it")
        return base / name

    return folder
