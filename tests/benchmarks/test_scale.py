from __future__ import annotations

import argparse
import subprocess

import pytest
import scale


def child(preset: str, size: str, limit: float) -> dict:
    arguments = argparse.Namespace(shares="0.02,0.02,0.002", limit_gib=limit)
    return scale._child(preset, size, arguments)


@pytest.mark.slow
def test_an_epoch_under_a_limit_of_the_system(tmp_path) -> None:
    row = child("links", "2e3", 4.0)
    assert row["tuples"] == 2000
    assert row["items"] == {"user": 40, "item": 40, "tag": 4}
    assert row["parameters"] >= 84 * scale.RANK
    assert 0 < row["data_mib"] <= row["peak_mib"] < 4096
    assert row["epoch_seconds"] > 0
    assert row["loss"] > 0
    assert len(scale._cells(row)) == len(scale.COLUMNS)
    larger = {**row, "tuples": 20_000, "epoch_seconds": 10 * row["epoch_seconds"]}
    assert scale.slope([row, larger], "epoch_seconds") == pytest.approx(1.0)
    assert scale.save_plot([row, larger], 4.0, tmp_path / "a.png").stat().st_size > 0


@pytest.mark.slow
def test_the_limit_binds() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        child("links", "2e6", 0.2)
