"""What can be seen from outside only: streams, signals, exit codes. Each test starts Python, so they are few."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hyperlearn_pyg.training.state import STATE_FOLDER, has_state

PROGRAM = [sys.executable, "-m", "hyperlearn_pyg"]


def shell(command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    line = command.replace("hyperlearn", " ".join(PROGRAM))
    return subprocess.run(
        ["bash", "-c", line], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )


def test_normal_use_warns_of_nothing_and_needs_no_stderr(tables):
    ended = shell("hyperlearn fit small.toml -q", tables)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "results in runs/small" in ended.stdout


def test_closed_streams_and_few_characters(tables, finished):
    command = f"hyperlearn neighbors u1 --modality user --run '{finished}'"
    ended = shell(f"{command} 2>&- <&-", tables, PYTHONIOENCODING="ascii")
    assert ended.returncode == 0
    assert "M\\xfcller" in ended.stdout


@pytest.mark.slow
def test_broken_pipe(tables, finished):
    (tables / "long.csv").write_text("user,film\n" + "u1,f1\n" * 50_000)
    ended = shell(f"hyperlearn predict long.csv --run '{finished}' | head -n 2; exit ${{PIPESTATUS[0]}}", tables)
    assert ended.stdout.startswith("user,film,score\nu1,f1,")
    assert ended.stderr == ""
    assert ended.returncode == 1


@pytest.mark.parametrize("sent", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL])
@pytest.mark.filterwarnings("ignore:checkpoint left out.*no COMMIT:UserWarning")  # killed while saving
def test_stopped_and_resumed_equals_a_run_without(cli, tables, sent):
    path = tables / "small.toml"
    path.write_text(path.read_text().replace("epochs = 3", "epochs = 60\ncheckpoint_every = 1\npatience = 0"))
    arguments = ["fit", "small.toml", "--quiet", "--out"]
    assert cli(*arguments, "whole").code == 0
    process = subprocess.Popen([*PROGRAM, *arguments, "parts"], cwd=tables, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not has_state(tables / "parts") and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert sorted(os.listdir("parts")) == [STATE_FOLDER, "config.toml"]  # it did not get to the end
    if sent == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130
        assert "--resume goes on" in err
        assert "Traceback" not in err
    assert cli(*arguments, "parts", "--resume").code == 0
    first, second = (json.loads(Path(out, "metrics.json").read_text()) for out in ("whole", "parts"))
    for key in ("validation", "test", "best_epoch", "floors"):
        assert first[key] == second[key]
    for modality in ("user", "film", "tag"):
        one, other = (pq.read_table(Path(out, "embeddings", f"{modality}.parquet")) for out in ("whole", "parts"))
        assert one.equals(other)
