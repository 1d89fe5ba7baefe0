"""Making the groups: what is refused and told to all, which groups serve, and the notes of the ranks."""

from __future__ import annotations

import datetime
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from hyperlearn_pyg.distributed import ModalityParallel, _board
from hyperlearn_pyg.distributed import ranks as ranks_module
from hyperlearn_pyg.distributed.plan import ModalityPlan
from hyperlearn_pyg.distributed.ranks import Ranks
from hyperlearn_pyg.errors import ParallelError, RankLostError

HERE = Path(__file__).parent
faults = SimpleNamespace(**runpy.run_path(str(HERE / "faults.py")))
TWO = ModalityPlan([["a"], ["b"]])


def toy(names: str = "ab") -> Any:
    torch.manual_seed(3)
    return faults.Toy(names, SimpleNamespace(here=lambda where: None))


def said(call: Any) -> tuple[str, str]:
    try:
        call()
    except Exception as error:
        return type(error).__name__, str(error)
    return "", ""


# ---------------------------------------------------------------- refused at construction, on all ranks


def other_arguments(rank: int, world_size: int) -> dict[str, Any]:
    """Rank 1 builds something else, in all kinds of ways."""
    out: dict[str, Any] = {}

    def odd(name: str, module: Any = None, **arguments: Any) -> None:
        usual = {"plan": TWO} | (arguments if rank else {})
        given = module if module is not None and rank else toy()
        began = time.monotonic()
        out[name] = (*said(lambda: ModalityParallel(given, **usual)), time.monotonic() - began)

    odd("world size", plan=ModalityPlan([["a"], ["b"], []]))
    odd("plan", plan=ModalityPlan([["b"], ["a"]]))
    odd("unknown", plan=ModalityPlan([["a"], ["bb"]]))
    odd("device", devices=["cpu", "cuda:9"])
    odd("dtype", exchange_dtype=torch.bfloat16)
    odd("module", toy("abc"))
    missing = toy()
    del missing.encoders["b"]
    missing.modalities = ["a", "b"]
    odd("encoder", missing)
    with mock.patch.object(torch, "__version__", "9.8.7") if rank else mock.MagicMock():
        odd("torch")
    out["then"] = said(lambda: ModalityParallel(toy(), TWO).loss(None, faults.batch_of(0, "ab")))
    return out


@pytest.fixture(scope="module")
def refused(ranks: Any) -> list[dict[str, Any]]:
    return ranks.run(other_arguments, 2)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("plan", ["rank 0 has [['a'], ['b']] x 1, ", "rank 1 has [['b'], ['a']] x 1, ", "pass it to all"]),
        ("torch", [f"rank 0 has {torch.__version__}, rank 1 has 9.8.7", "install the same version everywhere"]),
        ("dtype", ["rank 0 has None, rank 1 has torch.bfloat16"]),
    ],
)
def test_ranks_that_differ_say_the_same(refused: list[dict[str, Any]], name: str, values: list[str]) -> None:
    for kind, text, seconds in (entry[name] for entry in refused):
        assert kind == "RanksDifferError"
        assert text == refused[0][name][1]
        assert all(value in text for value in values)
        assert seconds < 10


@pytest.mark.parametrize(
    ("name", "kind", "values"),
    [
        ("world size", "ValueError", ["made for 3 ranks", "2"]),
        ("unknown", "ValueError", ["'bb'"]),
        ("device", "ValueError", ["cuda:9"]),
        ("module", "ValueError", ["'c'"]),
        ("encoder", "ValueError", ["places ['b'] on rank 1, which has no encoder for it"]),
    ],
)
def test_what_one_rank_refuses_is_told_to_all(
    refused: list[dict[str, Any]], name: str, kind: str, values: list[str]
) -> None:
    other, own = (entry[name] for entry in refused)
    assert own[0] == kind
    assert all(value in own[1] for value in values), own[1]
    assert other[0] == "ParallelError"
    assert other[1].startswith("the module cannot be spread over these ranks: rank 1")
    assert other[1].endswith(f", raised {kind}: {own[1]}")
    assert max(own[2], other[2]) < 10


def test_after_all_refusals_the_group_still_serves(refused: list[dict[str, Any]]) -> None:
    assert [entry["then"] for entry in refused] == [("", "")] * 2


# ---------------------------------------------------------------- groups


def losses(model: Any, names: str, steps: int = 2) -> list[float]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = model.loss(None, faults.batch_of(step, names))
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    return found


def limits(model: Any) -> list[float | None]:
    wires = [wire for wire in (model.ranks.world, model.ranks.row, model.ranks.data) if wire.world_size > 1]
    return [wire.group._get_backend(torch.device("cpu")).options._timeout.total_seconds() for wire in wires]


def several_groups(rank: int, world_size: int, folder: str) -> dict[str, Any]:
    names = "ab"
    out: dict[str, Any] = {}
    ways: dict[str, dict[str, Any]] = {
        "world": {},
        "timeout": {"timeout": 17.0},
        "group": {"process_group": dist.new_group([0, 1], timeout=datetime.timedelta(seconds=18))},
        "mesh": {"mesh": init_device_mesh("cpu", (2,), mesh_dim_names=("modality",))},
    }
    ways["mesh, timeout"] = {**ways["mesh"], "timeout": 19.0}
    for name, options in ways.items():
        model = ModalityParallel(toy(), TWO, seed=5, **options)
        out[name] = (losses(model, names), limits(model))
        out.setdefault("keys", []).append(model.ranks._board.key)
    with mock.patch.object(dist.ProcessGroup, "get_group_store", None):
        model = ModalityParallel(toy(), TWO, seed=5, timeout=30.0)  # a group of its own, as this one will break
    out["served"] = (losses(model, names), type(model.ranks._board.store).__name__, model.ranks._board.host)
    out["note"] = guarded(model)
    return out


def guarded(model: Any) -> tuple[str, str]:
    """Rank 1 raises within guard; return what each rank says at its next message."""

    def call() -> None:
        with model.guard():
            if model.ranks.rank:
                raise KeyError("broken on purpose")
        model.any(True)

    return said(call)


def test_groups_serve_and_keep_their_time_outs(ranks: Any, tmp_path: Path) -> None:
    found = ranks.run(several_groups, 2, str(tmp_path), timeout=21.0)
    wanted = found[0]["world"][0]
    for entry in found:
        assert [entry[name][0] for name in ("world", "timeout", "group", "mesh", "mesh, timeout", "served")] == (
            [wanted] * 6
        )
        assert entry["world"][1] == [21.0, 21.0]
        assert entry["timeout"][1] == [17.0, 17.0]
        assert entry["group"][1] == [18.0, 18.0]
        assert entry["mesh, timeout"][1] == [19.0, 19.0]
        assert entry["served"][1:] == ("TCPStore", 0)
    assert found[0]["keys"] == found[1]["keys"]
    assert len(set(found[0]["keys"])) == 5  # no notes of one wrapper, or attempt, reach another
    assert found[0]["note"][0] == "RankLostError"
    assert "rank 1, which holds modality 'b', raised KeyError: 'broken on purpose'" in found[0]["note"][1]
    assert found[1]["note"] == ("KeyError", "'broken on purpose'")


def halves(rank: int, world_size: int) -> dict[str, Any]:
    """Two wrappers that know nothing of one another; one of them breaks, and the other goes on."""
    pairs = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    out: dict[str, Any] = {"other": said(lambda: Ranks(process_group=pairs[rank < 2]))}
    model = ModalityParallel(toy(), TWO, seed=5, process_group=pairs[rank // 2])
    out["places"] = (model.ranks.rank, model.ranks.members, model.local)
    out["losses"] = losses(model, "ab")
    if rank < 2:
        out["note"] = guarded(model)
    out["later"] = said(lambda: losses(model, "ab"))
    return out


@pytest.mark.slow
def test_two_independent_halves(ranks: Any) -> None:
    found = ranks.run(halves, 4)
    for rank, entry in enumerate(found):
        assert entry["other"] == ("ValueError", "'process_group' must be one that this rank is in")
        assert entry["places"] == (rank % 2, [0, 1] if rank < 2 else [2, 3], ["ab"[rank % 2]])
        assert entry["losses"] == found[0]["losses"]
        assert entry["later"][0] == ("RankLostError", "ParallelError", "", "")[rank]
    assert "rank 1, which holds modality 'b', raised KeyError" in found[0]["note"][1]


def meshes(rank: int, world_size: int) -> dict[str, Any]:
    out = {}
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("modality", "data"))
    plan = ModalityPlan([["a"], ["b"]], replicas=2)
    ways: dict[str, dict[str, Any]] = {"mesh": {"mesh": mesh}, "mesh, timeout": {"mesh": mesh, "timeout": 19.0}}
    flat = init_device_mesh("cpu", (4,), mesh_dim_names=("modality",))
    ways |= {"flat": {"mesh": flat}, "world": {}, "timeout": {"timeout": 17.0}}
    for name, options in ways.items():
        model = ModalityParallel(toy(), plan, seed=5, **options)
        out[name] = (losses(model, "ab"), limits(model), model.ranks.row.world_size, model.ranks.data.world_size)
    half = mesh["modality"] if rank % 2 == 0 else None
    if half is not None:
        model = ModalityParallel(toy(), TWO, seed=5, mesh=half)
        out["half"] = (losses(model, "ab"), model.ranks.members)
    dist.barrier()
    turned = dist.device_mesh.DeviceMesh("cpu", [[1, 0], [2, 3]], mesh_dim_names=("modality", "data"))
    out["turned"] = said(lambda: Ranks(mesh=turned))
    return out


@pytest.mark.slow
def test_meshes_of_four(ranks: Any) -> None:
    found = ranks.run(meshes, 4, timeout=21.0)
    for rank, entry in enumerate(found):
        for name in ("mesh", "mesh, timeout", "flat", "world", "timeout"):
            assert entry[name][0] == found[0]["world"][0]
            assert entry[name][2:] == (2, 2)
        assert entry["mesh, timeout"][1] == [19.0] * 3
        assert entry["world"][1][0] == 21.0  # of the groups made besides, torch's default
        assert entry["timeout"][1] == [17.0] * 3
        if rank % 2 == 0:
            assert entry["half"][1] == [0, 2]
            torch.testing.assert_close(entry["half"][0], found[0]["world"][0])
        assert entry["turned"][0] == "ValueError"
        assert "count upwards (got [1, 0, 2, 3])" in entry["turned"][1]


def absent(rank: int, world_size: int) -> tuple[tuple[str, str], float]:
    began = time.monotonic()
    if rank:
        time.sleep(3)
        return ("", ""), 0.0
    _board.GRACE = 1.0
    return said(lambda: Ranks(timeout=1.5)), time.monotonic() - began


def test_rank_that_never_comes(ranks: Any) -> None:
    (left, seconds), _ = ranks.run(absent, 2)
    assert left[0] == "RankLostError"
    assert "lost rank 1" in left[1] or "failed" in left[1]
    assert seconds < 12


# ---------------------------------------------------------------- words and notes


def test_alone_nothing_is_told() -> None:
    alone = Ranks()
    alone.settle(ModalityPlan([["a", "b"]]))
    assert (alone.rank, alone.world_size, alone.tell(3), alone.together) == (0, 1, [3], False)
    with pytest.raises(KeyError), alone.all_or_none("nothing"):
        raise KeyError("mine")
    with pytest.raises(KeyError), alone.guard():
        raise KeyError("mine")
    alone.check()
    assert isinstance(alone.lost(RuntimeError("")), RankLostError)
    with pytest.raises(RankLostError, match="cannot go on since an earlier failure"):
        alone.check()


def succeed_or_not(rank: int, world_size: int) -> list[Any]:
    found = Ranks()
    out = []
    for culprits in ((), (0,), (1,), (0, 1)):
        try:
            with found.all_or_none("the cake was not baked"):
                if rank in culprits:
                    raise OSError(28, "No space left")
            out.append("baked")
        except OSError as error:
            out.append(str(error))
        except ParallelError as error:
            out.append((str(error), error.ranks))
    return out


def test_all_or_none(ranks: Any) -> None:
    told = "the cake was not baked: rank {}, raised OSError: [Errno 28] No space left"
    own = "[Errno 28] No space left"
    first, second = ranks.run(succeed_or_not, 2)
    assert first == ["baked", own, (told.format(1), (1,)), own]
    assert second == ["baked", (told.format(0), (0,)), own, own]


class SlowStore:
    """A store whose server was stopped."""

    def check(self, keys: list[str]) -> bool:
        time.sleep(30)
        return True

    def set(self, key: str, value: str) -> None:
        raise RuntimeError("Broken pipe")


def test_board_never_waits_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_board, "GRACE", 0.2)
    began = time.monotonic()
    for first in ("alarm", "post"):
        board = _board.Board(SlowStore(), "key", 0, 0)
        getattr(board, first)()
        assert board.gone
        assert not board.alarm()
        assert board.roll_call(3) == {}
        board.leave([1])
    assert time.monotonic() - began < 5


def test_notes_are_read_and_end_the_roll_call() -> None:
    store = dist.HashStore()
    boards = [_board.Board(store, "key", rank, 0) for rank in range(3)]
    assert not boards[0].alarm()
    boards[1].post()
    boards[2].post(error="KeyError: 3")
    assert boards[0].alarm()
    began = time.monotonic()
    assert boards[0].roll_call(4)[2] == {"error": "KeyError: 3", "lost": []}
    assert time.monotonic() - began < 4
    boards[0].post(lost=[3])
    assert boards[1].roll_call(4)[0] == {"error": None, "lost": [3]}


# ---------------------------------------------------------------- the end of processes


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "limit"), [("kill", 5.0), ("raise", 5.0), ("stop", 8.0)])
def test_processes_end_promptly(tmp_path: Path, kind: str, limit: float) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent.parent)}
    command = [sys.executable, str(HERE / "scripts" / "one_rank.py"), str(tmp_path), kind, str(faults.free_port())]
    running = [
        subprocess.Popen([*command, str(rank)], env=environment, stderr=subprocess.PIPE, text=True) for rank in (0, 1)
    ]
    _, text = running[1].communicate(timeout=120)
    ended = time.time()
    faults.free_the_stopped(tmp_path)
    running[0].communicate(timeout=60)
    assert running[1].returncode == 1
    assert "ZeroDivisionError: broken on purpose" in text if kind == "raise" else "lost rank 0" in text
    (struck,) = faults.hits(tmp_path).values()
    assert ended - struck < limit + 12


def ended(rank: int, world_size: int) -> tuple[list[Any], float]:
    model = ModalityParallel(toy(), TWO, seed=5)
    losses(model, "ab")
    began = time.monotonic()
    ranks_module._part()
    wires = (model.ranks.world, model.ranks.control, model.ranks.row, model.ranks.data)
    return [wire.group for wire in wires], time.monotonic() - began


def test_groups_are_let_go_before_python_ends(ranks: Any) -> None:
    for groups, seconds in ranks.run(ended, 2):
        assert groups == [None] * 4
        assert seconds >= ranks_module._PAUSE
