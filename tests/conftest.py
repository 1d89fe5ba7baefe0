from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def data_dir(name: str) -> Path:
    """Return the folder of a raw data set, or skip the test where it is absent."""
    base = Path(os.environ.get("HYPERLEARN_DATA", ROOT.parent / "shared" / "data"))
    folder = base / name
    if not folder.is_dir():
        pytest.skip(f"raw data '{name}' not found below '{base}': set HYPERLEARN_DATA to the folder that holds it")
    return folder
