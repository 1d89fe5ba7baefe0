"""'hyperlearn fit' over devices and ranks. The ranks are forked; what only torchrun can do is in test_torchrun.py."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from hyperlearn_pyg import HyperLearn
from hyperlearn_pyg.cli import job
from hyperlearn_pyg.cli.app import app
from hyperlearn_pyg.cli.job import MARK
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.training.state import STATE_FOLDER, has_state

FIT = ("fit", "small.toml", "--out", "o", "-q")
FILES = [STATE_FOLDER, "config.toml", "embeddings", "history.json", "metrics.json", "model.pt", "report.html"]
PRELOAD = ("hyperlearn_pyg.cli.app",)
OPTIONS: dict[str, Any] = {"init": False, "limit": 120.0, "grace": 60.0, "preload": PRELOAD}
MATTERS = ("validation", "test", "best_epoch", "floors", "seed", "rank", "parameters", "preset")


def results(out: Path) -> dict[str, Any]:
    """What a run came to, without times and placement."""
    found = json.loads((out / "metrics.json").read_text())
    table = {path.stem: pq.read_table(path)["vector"].to_pylist() for path in (out / "embeddings").iterdir()}
    return {**{key: found[key] for key in MATTERS}, "vectors": table}


def same(one: Any, other: Any, tolerance: float = 1e-5) -> bool:
    """Tell whether two results are equal up to the rounding of single precision."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key], tolerance) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(same(a, b, tolerance) for a, b in zip(one, other, strict=True))
    if isinstance(one, float):
        return one == pytest.approx(other, abs=tolerance)
    return bool(one == other)


def where(**more: str) -> dict[str, str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), **more}


def command(rank: int, world_size: int, folder: str, arguments: tuple[str, ...], fault: str = "") -> Any:
    """Run a command on this rank; return exit code, output and errors as the user sees them, and the steps it took."""
    os.chdir(folder)
    for told in ("the last checkpoint was not saved", "checkpoint left out.*no COMMIT"):  # killed while saving
        warnings.filterwarnings("ignore", told)
    faults(rank, *fault.split(" on ")) if fault else None
    code, out, err, steps, step = 0, io.StringIO(), io.StringIO(), [0], torch.optim.Adam.step

    def counted(*args: Any, **kwargs: Any) -> Any:
        steps[0] += 1
        return step(*args, **kwargs)

    torch.optim.Adam.step = counted  # type: ignore[method-assign]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            app(list(arguments), prog_name="hyperlearn")
        except SystemExit as ended:
            code = int(ended.code or 0)
    return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue(), steps=steps[0])


def faults(rank: int, kind: str, culprit: str) -> None:
    """Put a fault on one rank."""
    if rank != int(culprit):
        return
    if kind == "no data":

        def load_source(*_: Any, **__: Any) -> Any:
            raise InputError("'users.csv' is not here")

        job.load_source = load_source  # type: ignore[assignment]
        return
    if kind == "nan":
        HyperLearn.loss = lambda *_, **__: torch.full((), torch.nan, requires_grad=True)  # type: ignore[method-assign]
        return
    sent = {"stop": signal.SIGINT, "death": signal.SIGKILL}[kind]
    steps, step = [0], torch.optim.Adam.step

    def counted(*args: Any, **kwargs: Any) -> Any:
        steps[0] += 1
        if steps[0] == 6:
            os.kill(os.getpid(), sent)
        return step(*args, **kwargs)

    torch.optim.Adam.step = counted  # type: ignore[method-assign]


def both(ranks: Any, folder: Path, *arguments: object, fault: str = "", world_size: int = 2, **env: str) -> list[Any]:
    line = tuple(map(str, arguments))
    return ranks.run(command, world_size, str(folder), line, fault, env=where(**env), **OPTIONS)  # type: ignore[no-any-return]


def longer(tables: Path) -> None:
    path = tables / "small.toml"
    path.write_text(path.read_text().replace("epochs = 3", "epochs = 12\npatience = 0\ncheckpoint_every = 1"))


def test_two_ranks_give_what_one_process_gives(ranks, tables, finished):
    first, second = both(ranks, tables, *FIT)
    assert (first.code, first.err) == (0, "")
    assert (second.code, second.out, second.err) == (0, "", "")
    assert same(results(tables / "o"), results(finished))
    assert sorted(path.name for path in (tables / "o").iterdir()) == FILES
    assert "results in o: report.html" in first.out
    assert "world size 2 = 2 x 1" in first.out
    assert (tables / "o" / "config.toml").read_text().split("[model]")[1] == (
        (finished / "config.toml").read_text().split("[model]")[1]
    )
    placement = json.loads((tables / "o" / "metrics.json").read_text())["placement"]
    assert (placement["processes"], placement["replicas"], placement["devices"]) == (2, 1, ["cpu", "cpu"])
    assert sorted(map(sorted, placement["groups"])) == [["film", "tag"], ["user"]]
    assert "placement" not in json.loads((finished / "metrics.json").read_text())


def test_notes_and_the_bar_come_from_rank_0_alone(ranks, tables):
    with open("rates.csv", "a") as file:
        file.write(Path("rates.csv").read_text().splitlines()[1] + "\n")
    first, second = both(ranks, tables, "fit", "small.toml", "--epochs", 1)
    assert first.err.startswith("note: relation 'rates': 1 repeated tuples dropped\n")
    assert "1/1" in first.err
    assert (second.out, second.err) == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("more", [("--replicas", "2"), ("--replicas", "1"), ("--devices", "cpu")])
def test_four_ranks(ranks, tables, finished, more):
    found = both(ranks, tables, *FIT, *more, world_size=4)
    assert [(rank.code, rank.err) for rank in found] == [(0, "")] * 4
    assert same(results(tables / "o"), results(finished))
    if more[0] == "--replicas":
        assert f"world size 4 = {4 // int(more[1])} x {more[1]}" in found[0].out


@pytest.mark.parametrize(
    ("more", "fault", "speaker", "says"),
    [
        ((), "no data on 0", 0, "'users.csv' is not here"),
        ((), "no data on 1", 1, "'users.csv' is not here"),
        (("--devices", "cpu,bogus"), "", 1, "--devices: expected 'auto', 'cpu'"),
        (("--devices", "bogus"), "", 0, "--devices: expected 'auto', 'cpu'"),
        (("--devices", "cpu,cpu,cpu"), "", 0, "one for each of 2 ranks (got 3)"),
        (("--device", "cpu", "--devices", "cpu"), "", 0, "takes the place of --device"),
        (("--replicas", "3"), "", 0, "--replicas: must divide the number of ranks, 2 (got 3)"),
        (("--resume",), "", 0, "nothing to resume"),
    ],
)
def test_bad_input_is_told_once_and_leaves_nothing(ranks, tables, tree, more, fault, speaker, says):
    before = tree(tables)
    found = both(ranks, tables, *FIT, *more, fault=fault, TORCHELASTIC_RUN_ID="run")
    assert [rank.code for rank in found] == [2, 2]
    assert found[speaker].err.startswith(f"error: rank {speaker}: ")
    assert says in found[speaker].err
    assert (found[1 - speaker].err, found[0].out, found[1].out) == ("", "", "")
    assert tree(tables) == before


def test_a_loss_that_is_not_finite_is_told_once(ranks, tables, tree):
    Path("small.toml").write_text(Path("small.toml").read_text() + "lr = 1e30\nclip_norm = 0.0\n")
    before = tree(tables)
    first, second = both(ranks, tables, *FIT, TORCHELASTIC_RUN_ID="run")
    assert (first.code, second.code, second.err) == (2, 2, "")
    assert first.err.count("error: rank 0: ") == 1
    assert "lower train.lr (now 1e+30)" in first.err
    assert tree(tables) == before


def test_a_directory_that_is_not_empty(ranks, tables, tree):
    (tables / "o").mkdir()
    (tables / "o" / "thesis.txt").write_text("years of work")
    (tables / "o" / MARK).write_text("another launcher")
    before = tree(tables)
    for _ in range(2):  # torchrun would try again
        first, second = both(ranks, tables, *FIT, TORCHELASTIC_RUN_ID="run", TORCHELASTIC_RESTART_COUNT="1")
        assert (first.code, second.code, second.err) == (2, 2, "")
        assert "'o' is not empty: '--out o-2' starts afresh" in first.err
    assert tree(tables) == before


@pytest.mark.parametrize("asked", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_stopped_on_one_rank_and_resumed_by_one_process(ranks, cli, tables, asked):
    longer(tables)
    assert cli("fit", "small.toml", "--out", "whole", "-q").code == 0
    first, second = both(ranks, tables, *FIT, fault=f"stop on {asked}", TORCHELASTIC_RUN_ID="run")
    assert (first.code, second.code) == (130, 130)
    assert first.err == "note: the training is kept in 'o': the same command with --resume goes on\nstopped\n"
    assert second.err == ""
    assert sorted(os.listdir("o")) == [STATE_FOLDER, "config.toml"]
    assert cli(*FIT, "--resume").code == 0
    assert same(results(tables / "o"), results(tables / "whole"))


@pytest.mark.slow
def test_two_ranks_resume_what_one_process_began(ranks, cli, tables):
    longer(tables)
    assert cli("fit", "small.toml", "--out", "whole", "-q").code == 0
    step = torch.optim.Adam.step
    faults(0, "stop", "0")
    try:
        assert cli(*FIT).code == 130
    finally:
        torch.optim.Adam.step = step
    first, second = both(ranks, tables, *FIT, "--resume", "--seed", 5)
    assert (first.code, second.code, second.err) == (2, 2, "")
    assert "seed=0 (now 5)" in first.err
    assert [rank.code for rank in both(ranks, tables, *FIT, "--resume")] == [0, 0]
    assert same(results(tables / "o"), results(tables / "whole"))


def test_a_launcher_that_starts_anew_goes_on_with_its_own_run_alone(ranks, tables, finished, tree):
    """The ranks of all calls here have one parent, as those of one torchrun have."""
    longer(tables)
    whole = both(ranks, tables, "fit", "small.toml", "--out", "whole", "-q", TORCHELASTIC_RUN_ID="run")
    assert [rank.code for rank in whole] == [0, 0]
    assert not (tables / "whole" / MARK).exists()
    line = (str(tables), FIT, "death on 1")
    left, dead = ranks.outcomes(command, 2, *line, env=where(TORCHELASTIC_RUN_ID="run"), **OPTIONS)
    assert left.ok, left.error + left.log
    assert (dead.status, left.value.code) == (-signal.SIGKILL, 1)
    assert "error: rank 0: lost rank 1, which holds modality" in left.value.err
    assert "--resume goes on" in left.value.err
    assert sorted(os.listdir("o")) == [MARK, STATE_FOLDER, "config.toml"]
    assert has_state("o")
    before = tree(tables / "o")
    refused = both(ranks, tables, *FIT, TORCHELASTIC_RUN_ID="other", TORCHELASTIC_RESTART_COUNT="1")
    assert [rank.code for rank in refused] == [2, 2]
    assert tree(tables / "o") == before
    again = both(ranks, tables, *FIT, TORCHELASTIC_RUN_ID="run", TORCHELASTIC_RESTART_COUNT="1")
    assert [rank.code for rank in again] == [0, 0], again[0].err
    assert results(tables / "o") == results(tables / "whole")  # bit for bit
    assert 0 < again[0].steps < whole[0].steps  # it went on, and did not begin anew
    assert sorted(os.listdir("o")) == FILES


def test_an_attempt_that_died_before_its_first_state_is_begun_anew(cli, tables, finished, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    out = tables / "o"
    (out / STATE_FOLDER / "save-00001-step-00000001").mkdir(parents=True)
    (out / "config.toml").write_text("")
    (out / MARK).write_text(str(job._launcher()))
    assert cli(*FIT).code == 0
    assert results(out) == results(finished)
    assert sorted(os.listdir(out)) == FILES


def test_one_process_of_torchrun_goes_on_as_well(cli, tables, finished, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")

    def broken(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", "report.html")

    with monkeypatch.context() as patch:
        patch.setattr("hyperlearn_pyg.cli.fit.write_report", broken)
        assert cli(*FIT).code == 2
    assert (tables / "o" / MARK).is_file()
    assert cli(*FIT).code == 0
    assert results(tables / "o") == results(finished)


@pytest.mark.parametrize("places", ["cpu,cpu", "cpu", "auto, cpu,cpu,cpu"])
def test_devices_of_one_process(cli, tables, finished, places):
    ended = cli(*FIT, "--devices", places)
    assert (ended.code, ended.err) == (0, "")
    assert same(results(tables / "o"), results(finished))
    count = places.count(",") + 1
    assert f"world size {count} = {count} x 1" in ended.out
    assert sorted(os.listdir("o")) == FILES


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--devices", "cpu,bogus"), "error: --devices: expected 'auto', 'cpu', 'cuda' or one card such as 'cuda:1'"),
        (("--devices", "cpu,cuda:99"), "error: --devices: 'cuda:99' is not to be had here"),
        (("--devices", "cpu,cpu", "--device", "cpu"), "error: --devices: takes the place of --device"),
        (("--devices", "cpu,cpu", "--replicas", "2"), "error: --replicas: one process has no ranks"),
        (("--replicas", "2"), "error: --replicas: one process has no ranks"),
        (("--timeout", "0"), "--timeout"),
    ],
)
def test_bad_devices(cli, tables, tree, more, says):
    before = tree(tables)
    ended = cli(*FIT, *more)
    assert ended.code == 2
    assert says in ended.err
    assert tree(tables) == before


def test_resumed_over_devices(cli, tables):
    longer(tables)
    assert cli("fit", "small.toml", "--out", "whole", "-q").code == 0
    step = torch.optim.Adam.step
    faults(0, "stop", "0")
    try:
        assert cli(*FIT, "--devices", "cpu,cpu").code == 130
    finally:
        torch.optim.Adam.step = step
    assert cli(*FIT, "--devices", "cpu,cpu,cpu", "--resume").code == 0
    assert same(results(tables / "o"), results(tables / "whole"))


@pytest.mark.parametrize(("key", "value"), [("MASTER_ADDR", ""), ("WORLD_SIZE", "two"), ("RANK", "")])
def test_variables_of_a_launcher_that_are_not_complete(cli, tables, monkeypatch, key, value):
    for name, text in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, text)
    monkeypatch.delenv(key) if key == "MASTER_ADDR" else monkeypatch.setenv(key, value)
    ended = cli(*FIT)
    assert ended.code == 2
    assert f"the environment variable {key} " in ended.err
    assert ended.err.count("\n") == 1
    assert not (tables / "o").exists()


def test_help_names_the_options_in_whole_lines(cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    ended = cli("fit", "-h")
    for option in ("--devices", "--replicas", "--timeout", "--resume"):
        assert option in ended.out
    assert max(map(len, ended.out.splitlines())) <= 100
    assert "Under torchrun the modalities are spread over its ranks" in " ".join(ended.out.split())
