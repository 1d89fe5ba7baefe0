"""'hyperlearn fit' under torchrun, as a user starts it. Each test starts several Pythons, so they are few and slow."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from hyperlearn_pyg.cli.job import MARK
from hyperlearn_pyg.training.state import STATE_FOLDER, has_state

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]
RUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
FIT = ["-m", "hyperlearn_pyg", "fit", "small.toml", "-q", "--out"]
FILES = [STATE_FOLDER, "config.toml", "embeddings", "history.json", "metrics.json", "model.pt", "report.html"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONWARNINGS": "ignore"}
PIPES: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
PATIENCE = 240


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@contextmanager
def started(folder: Path, command: list[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command; what is left of it, and of what it started, is killed at the end."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        for pid in [*children(process.pid), process.pid] if process.poll() is None else ():
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def torchrun(folder: Path, *arguments: str, options: tuple[str, ...] = ()) -> tuple[int, str, str]:
    command = [*RUN, "--master-port", free_port(), *options, *FIT, *arguments]
    with started(folder, command) as process:
        out, err = process.communicate(timeout=PATIENCE)
        return process.returncode, out, err


def children(pid: int) -> list[int]:
    """The processes that a process started, as Linux lists them."""
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def rank_of(pid: int) -> str | None:
    """The rank of a process; None if it is none (or has ended)."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    return next((entry[5:].decode() for entry in entries if entry.startswith(b"RANK=")), None)


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    end = time.monotonic() + PATIENCE
    while not (found := condition()) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()[1]
    return found


def longer(tables: Path, epochs: int) -> None:
    path = tables / "small.toml"
    path.write_text(path.read_text().replace("epochs = 3", f"epochs = {epochs}\npatience = 0\ncheckpoint_every = 1"))


def same(one: Any, other: Any) -> bool:
    """Tell whether two results are equal up to the rounding of single precision."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == pytest.approx(other, abs=1e-5))


def results(out: Path) -> dict[str, Any]:
    found = json.loads((out / "metrics.json").read_text())
    table = {path.stem: pq.read_table(path)["vector"].to_pylist() for path in (out / "embeddings").iterdir()}
    return {**{key: found[key] for key in ("validation", "test", "best_epoch", "floors")}, "vectors": table}


def test_metrics_are_those_of_one_process_and_one_rank_speaks(tables, finished):
    code, out, err = torchrun(tables, "o")
    assert (code, err) == (0, "")
    assert out.count("results in o: report.html") == out.count("HyperLearn(user, film, tag") == 1
    assert sorted(os.listdir("o")) == FILES
    for part in ("validation", "test"):
        one, other = (results(path)[part]["relations"] for path in (tables / "o", finished))
        assert same(one, other), (one, other)


def test_input_at_fault_ends_all_with_one_message(tables, tree):
    (tables / "o").mkdir()
    (tables / "o" / "thesis.txt").write_text("years of work")
    before = tree(tables)
    code, out, err = torchrun(tables, "o", options=("--max-restarts", "1"))
    assert (code, out) == (1, "")
    assert err.count("error: rank 0: --out: 'o' is not empty: '--out o-2' starts afresh") == 2  # once an attempt
    assert "error: rank 1" not in err
    assert "hyperlearn_pyg/" not in err  # no traceback of ours, torchrun shows its own
    assert tree(tables) == before


def test_a_killed_worker_is_started_anew_and_the_run_goes_on(tables):
    longer(tables, 60)
    assert torchrun(tables, "whole")[0] == 0
    command = [*RUN, "--master-port", free_port(), "--max-restarts", "2", *FIT, "o"]
    with started(tables, command) as process:
        wait_for(lambda: has_state("o"), process)
        (victim,) = (pid for pid in children(process.pid) if rank_of(pid) == "1")
        os.kill(victim, signal.SIGKILL)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "is not empty" not in err
    assert "Signal 9" in err or "-9" in err  # the worker was killed indeed
    assert results(tables / "o") == results(tables / "whole")  # bit for bit
    history, whole = (json.loads(Path(out, "history.json").read_text()) for out in ("o", "whole"))
    assert [row["loss"] for row in history] == [row["loss"] for row in whole]
    assert sorted(os.listdir("o")) == FILES


def test_ctrl_c_ends_all_ranks_and_keeps_the_state(cli, tables):
    longer(tables, 400)
    with started(tables, [*RUN, "--master-port", free_port(), "--max-restarts", "2", *FIT, "o"]) as process:
        wait_for(lambda: has_state("o"), process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert err.count("note: the training is kept in 'o': the same command with --resume goes on") == 1
    assert err.count("stopped\n") == 1
    assert "hyperlearn_pyg/" not in err
    assert sorted(os.listdir("o")) == [STATE_FOLDER, "config.toml"]
    assert has_state("o")


def test_two_processes_by_the_variables_alone(tables, finished):
    """As Slurm starts them: no torchrun."""
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    command = [sys.executable, *FIT, "o"]
    with (
        started(tables, command, RANK="0", LOCAL_RANK="0", **common) as first,
        started(tables, command, RANK="1", LOCAL_RANK="1", **common) as second,
    ):
        out, err = first.communicate(timeout=PATIENCE)
        assert (first.returncode, err) == (0, "")
        assert second.communicate(timeout=PATIENCE) == ("", "")
        assert second.returncode == 0
    assert "results in o" in out
    assert results(tables / "o")["validation"]["relations"]["tags"] == pytest.approx(
        results(finished)["validation"]["relations"]["tags"], abs=1e-5
    )
    assert sorted(os.listdir("o")) == FILES
    assert not Path("o", MARK).exists()
