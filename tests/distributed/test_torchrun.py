"""Runs under torchrun that are killed and resumed; only the loopback is used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
SCRIPT = str(HERE / "scripts" / "train.py")
STEPS = 9
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(HERE.parent.parent)}
# Otherwise the ranks of a restart find the addresses of the dead in the store: https://github.com/pytorch/pytorch/issues/135712
ENVIRONMENT["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
RENDEZVOUS = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]


def launch(ranks: int, folder: Path, *kills: str) -> dict[str, Any]:
    """Run the script; in this process's stead where ``ranks`` is 0, without a launcher."""
    result = folder.with_suffix(".pt")
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--max-restarts", "2", *RENDEZVOUS]
    command = [sys.executable, *(launcher if ranks else []), SCRIPT, str(folder), str(result), str(STEPS)]
    ended = subprocess.run(
        [*command, *kills], env=ENVIRONMENT, capture_output=True, text=True, timeout=200, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert len(list(folder.parent.glob("*.hit-*"))) == len(kills)
    found: dict[str, Any] = torch.load(result, weights_only=True)
    return found | {"log": ended.stderr}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("undisturbed") / "saves"
    return launch(2, folder) | {"folder": folder}


def test_run_that_is_killed_twice_resumes_and_ends_bit_equal(undisturbed: dict[str, Any], tmp_path: Path) -> None:
    found = launch(2, tmp_path / "saves", "1:5", "0:7")
    assert (undisturbed["attempt"], found["attempt"]) == (0, 2)
    assert list(found["losses"]) == [6, 7, 8]  # it went on from the checkpoints of steps 4 and 6
    assert found["losses"] == {step: undisturbed["losses"][step] for step in found["losses"]}
    assert found["state"].keys() == undisturbed["state"].keys()
    for name, value in undisturbed["state"].items():
        assert value.dtype == torch.float64 or not value.is_floating_point()
        assert torch.equal(found["state"][name], value), name


def test_resume_with_one_process_and_with_two_again(undisturbed: dict[str, Any], tmp_path: Path) -> None:
    folder = shutil.copytree(undisturbed["folder"], tmp_path / "saves")
    last, before = sorted(folder.iterdir(), reverse=True)
    shutil.rmtree(last)  # the run of two was stopped after step 6
    assert before.name.endswith("step-00000006")
    for ranks, steps in ((0, [6, 7, 8]), (2, [8])):
        found = launch(ranks, folder)
        assert list(found["losses"]) == steps
        for step, loss in found["losses"].items():
            assert loss == pytest.approx(undisturbed["losses"][step], rel=1e-12)
        for name, value in undisturbed["state"].items():
            torch.testing.assert_close(found["state"][name], value, rtol=1e-8, atol=1e-10)
