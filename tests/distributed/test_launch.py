from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from hyperlearn_pyg.distributed import Launch, connected
from hyperlearn_pyg.distributed.launch import launched
from hyperlearn_pyg.errors import InputError, RankLostError

KEYS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def where() -> dict[str, str]:
    """Where the ranks of a test meet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in KEYS:
        monkeypatch.delenv(key, raising=False)


def talk(rank: int, world_size: int) -> Any:
    with connected(timeout=30) as launch:
        assert dist.is_initialized()
        told = launch.tell({"from": launch.rank}), launch.gather((launch.rank, "x" * launch.rank))
    return launch, launch.first, told, dist.is_initialized()


def test_ranks_by_the_variables_of_a_launcher(ranks: Any) -> None:
    found = ranks.run(talk, 2, init=False, env={**where(), "LOCAL_RANK": "5"})
    told = {"from": 0}, [(0, ""), (1, "x")]
    for rank in (0, 1):
        assert found[rank] == (Launch(rank, 2, 5), rank == 0, told, False)


def test_a_new_attempt_finds_no_addresses_of_the_one_before(ranks: Any) -> None:
    """The store of a launcher may be one for all attempts."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    there = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    for attempt in ("0", "1"):
        env = {**there, "TORCHELASTIC_RESTART_COUNT": attempt}
        assert [rank[1] for rank in ranks.run(talk, 2, init=False, env=env)] == [True, False]


def in_a_group(rank: int, world_size: int) -> Any:
    with connected() as launch:
        told = launch.gather(rank)
    return told, dist.is_initialized()


def test_a_group_that_is_there_is_used_and_left(ranks: Any) -> None:
    assert ranks.run(in_a_group, 2, env=where()) == [([0, 1], True)] * 2


@pytest.mark.parametrize("environment", [{}, {"RANK": "0", "WORLD_SIZE": "1"}, {"WORLD_SIZE": "4"}])
def test_alone(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    assert not launched()
    with connected() as launch:
        assert launch == Launch()
        assert (launch.tell("a"), launch.gather("b")) == ("a", ["b"])
    assert not dist.is_initialized()


WHOLE = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"RANK": "one"}, "RANK must be a whole number .got 'one'.: start with torchrun"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE must be a whole number .got 'two'"),
        ({"LOCAL_RANK": "-1"}, "LOCAL_RANK must be a whole number .got '-1'"),
        ({"MASTER_ADDR": None}, "MASTER_ADDR is not set: start with torchrun"),
        ({"MASTER_PORT": None}, "MASTER_PORT is not set"),
        ({"MASTER_PORT": "x"}, "the other ranks cannot be reached"),
        ({"RANK": "2"}, "RANK must be below WORLD_SIZE .got 2 and 2"),
    ],
)
def test_variables_that_are_not_complete(monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], says: str) -> None:
    for key, value in {**WHOLE, **change}.items():
        if value is not None:
            monkeypatch.setenv(key, value)
    with pytest.raises(InputError, match=says), connected(timeout=1):
        pass
    assert not dist.is_initialized()


def late(rank: int, world_size: int) -> str:
    if rank == 1:
        return ""
    with pytest.raises(InputError) as caught, connected(timeout=1):
        pass
    return str(caught.value)


def test_a_rank_that_does_not_come(ranks: Any) -> None:
    assert ranks.run(late, 2, init=False, env=where())[0].startswith("the other ranks cannot be reached: ")


def die(rank: int, world_size: int, how: str, out: str) -> None:
    with connected(timeout=30) as launch:
        launch.gather(0)
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        with pytest.raises(RankLostError, match="another rank has ended or does not answer") as caught:
            launch.gather(1) if how == "gather" else launch.tell(launch.gather(1))
        Path(out, "told").write_text(str(caught.value))


@pytest.mark.parametrize("how", ["gather", "tell"])
def test_a_rank_that_dies(ranks: Any, tmp_path: Path, how: str) -> None:
    left, dead = ranks.outcomes(die, 2, how, str(tmp_path), init=False, env=where(), grace=20.0)
    assert (left.ok, dead.status) == (True, -signal.SIGKILL)
    assert (tmp_path / "told").read_text().count("\n") == 0


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    launch = Launch(3, 4, local_rank=3)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [launch.device(name) for name in ("auto", "cuda", "cuda:0", "cpu")] == ["cuda:1", "cuda:1", "cuda:0", "cpu"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert launch.device() == "cpu"
    with pytest.raises(InputError, match="there is no CUDA device here"):
        launch.device("cuda")
