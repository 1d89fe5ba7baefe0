"""A rank is lost in mid-round: the others name it, and the last checkpoint is whole. Checkpoints move everywhere."""

from __future__ import annotations

import os
import runpy
import signal
import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from hyperlearn_pyg.distributed import ModalityParallel, _board, checkpoint, optimizer_state
from hyperlearn_pyg.distributed.plan import ModalityPlan
from hyperlearn_pyg.distributed.strategies import Codistillation, CoLearning, GradientPush, load_replicas, save_replicas
from hyperlearn_pyg.errors import ParallelError

HERE = Path(__file__).parent
p = SimpleNamespace(**runpy.run_path(str(HERE / "problems.py")))
faults = SimpleNamespace(**runpy.run_path(str(HERE.parent / "faults.py")))
STEPS, EVERY, STRUCK = 8, 2, 5
KINDS = ("co-learning", "push", "overlap", "distil")


class Run:
    """One rank of a run under any strategy, step by step."""

    def __init__(self, kind: str, seed: int = 0, **options: Any) -> None:
        self.kind, self.module = kind, p.net(seed)
        self.optimizer = p.sgd(self.module)
        if kind == "co-learning":
            self.strategy: Any = CoLearning(self.module, self.optimizer, local_epochs=EVERY, epsilon=-1.0, **options)
        elif kind == "distil":
            self.strategy = Codistillation(self.module, every=EVERY, **options)
        else:
            self.strategy = GradientPush(self.optimizer, self.module, overlap=kind == "overlap", **options)

    def steps(self, rank: int, last: int, before: Any = None, after: Any = None) -> None:
        for step in self._numbers(last):
            if before is not None:
                before(step)
            self.optimizer.zero_grad()
            loss = p.loss_of(self.module, rank, step)
            if self.kind == "distil":
                x, _ = p.data_of(rank)
                loss = self.strategy(loss, self.module(x), x)
            loss.backward()
            (self.strategy if isinstance(self.strategy, GradientPush) else self.optimizer).step()
            if after is not None:
                after(step)

    def _numbers(self, last: int) -> Any:
        if self.kind != "co-learning":
            yield from range(last)
        else:
            for rnd in self.strategy.rounds(last):
                yield from rnd

    def save(self, folder: Any, step: int) -> None:
        save_replicas(self.strategy, folder, step, self.module, self.optimizer)

    def load(self, folder: Any) -> Any:
        return load_replicas(self.strategy, folder, self.module, self.optimizer)


def struck(rank: int, world_size: int, spec: dict[str, Any]) -> dict[str, Any]:
    """Save at the end of every second step; a fault strikes rank 1 within a round, or while it saves."""
    folder = Path(spec["folder"])
    _board.GRACE = 1.0
    faults.start_group(folder, rank, world_size, spec.get("timeout", 60.0))
    run, saved = Run(spec["kind"]), {}
    strikes = faults.Strikes(folder, rank, [faults.fault(spec["fault"], spec["where"], 1, STRUCK)])

    def before(step: int) -> None:
        strikes.step = step
        strikes.here("user")

    def after(step: int) -> None:
        if step % EVERY:
            with faults.saving_struck(strikes):
                run.save(folder / "saves", step + 1)
            saved[step + 1] = p.values(run.module)

    def all_steps() -> None:
        with run.strategy.guard():
            run.steps(rank, STEPS, before, after)

    error = p.said(all_steps)
    faults.free_the_stopped(folder)
    return {"error": error, "saved": saved, "then": p.said(lambda: run.strategy.average_([torch.ones(1)]))}


def check_struck(ranks: Any, folder: Path, kind: str, fault: str, where: str, **spec: Any) -> None:
    spec = {"folder": str(folder), "kind": kind, "fault": fault, "where": where, **spec}
    first, other = ranks.outcomes(struck, 2, spec, init=False, limit=60.0, grace=60.0)
    assert set(faults.hits(folder)) == {f"{where}-1-{STRUCK}"}
    assert first.ok, first.error
    name, text, at_fault = first.value["error"]
    assert (name, at_fault) == ("RankLostError", (1,))
    assert "rank 1" in text
    assert ("lost rank 1" in text) == (fault != "raise")
    assert first.value["then"][0] == "RankLostError"
    if fault == "raise":
        assert other.value["error"][:2] == ("ZeroDivisionError", "broken on purpose")
    else:
        assert other.status == -signal.SIGKILL
    names = list(p.net().state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a save may have begun that nobody committed
        read = checkpoint.load_latest(folder / "saves", names)
    assert read is not None
    assert read.step == max(first.value["saved"]) == STRUCK - STRUCK % EVERY
    same(read.tensors, first.value["saved"][read.step])


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_rank_killed_in_mid_round(ranks: Any, tmp_path: Path) -> None:
    check_struck(ranks, tmp_path, "co-learning", "kill", "user")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS[1:])
def test_rank_killed_between_messages(ranks: Any, tmp_path: Path, kind: str) -> None:
    check_struck(ranks, tmp_path, kind, "kill", "user")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("fault", "where"), [("raise", "user"), ("stop", "user"), ("kill", "part")])
def test_other_faults(ranks: Any, tmp_path: Path, kind: str, fault: str, where: str) -> None:
    check_struck(ranks, tmp_path, kind, fault, where, timeout=4.0 if fault == "stop" else 60.0)


def keep(run: Run, folder: str, number: int, out: list[Any], step: int) -> None:
    if step == 2:
        run.save(folder, number)
        out.append(p.values(run.module))


def move(rank: int, world_size: int, folder: str) -> list[Any]:
    """Each strategy goes on with what the one before has saved; every rank then has the module of rank 0."""
    out = []
    for step, kind in enumerate([*KINDS, KINDS[0]], start=1):
        run = Run(kind, seed=10 * step + rank)
        loaded = run.load(folder)
        out.append((None if loaded is None else loaded["step"], p.values(run.module)))
        run.steps(rank, 3, after=partial(keep, run, folder, step, out))
    last = Run("co-learning", seed=99)
    last.load(folder)
    out.append(p.values(last.module))  # its own replica again
    return out


def test_checkpoints_move_between_strategies_and_plain_training(ranks: Any, tmp_path: Path) -> None:
    found = ranks.run(move, 2, str(tmp_path))
    for place in range(2, 10, 2):  # loaded after the strategy before had saved
        for entry in found:
            assert entry[place][0] == place // 2
            same(entry[place][1], found[0][place - 1])
    assert not torch.equal(found[0][9]["2.weight"], found[1][9]["2.weight"])  # in mid-round the replicas differ
    for entry in found:
        same(entry[10], entry[9])
    plain = p.net(5)
    read = checkpoint.load_latest(tmp_path, list(plain.state_dict()))
    assert read is not None
    plain.load_state_dict(read.tensors)
    same(p.values(plain), found[0][9])
    optimizer = p.sgd(plain)
    p.one_step(plain, optimizer, 0, 0)
    state = optimizer_state(optimizer, plain.named_parameters())
    checkpoint.save(tmp_path, 20, plain.state_dict(), optimizer=state)
    alone = Run("overlap", seed=6)
    assert alone.load(tmp_path) == {"step": 20}
    same(p.values(alone.module), p.values(plain))
    for _, entry in ranks.run(from_plain, 2, str(tmp_path)):
        same(entry, p.values(plain))


def from_plain(rank: int, world_size: int, folder: str) -> tuple[Any, dict[str, Tensor]]:
    run = Run("co-learning", seed=rank)
    return run.load(folder), p.values(run.module)


def refused(rank: int, world_size: int, folder: str) -> dict[str, Any]:
    run = Run("push")
    out = {"none": run.load(folder)}
    out["extra"] = p.said(
        lambda: save_replicas(run.strategy, folder, 1, run.module, extra={"a": object()} if rank else {})
    )
    run.save(folder, 2)
    module = torch.nn.Linear(3, 3)
    out["other"] = p.said(lambda: load_replicas(run.strategy, folder, module if rank else run.module))
    out["then"] = run.load(folder)
    return out


def test_what_one_rank_cannot_save_or_load_all_hear_of(ranks: Any, tmp_path: Path) -> None:
    first, second = ranks.run(refused, 2, str(tmp_path))
    assert first["none"] is None
    assert (first["extra"][0], second["extra"][0]) == (ParallelError.__name__, "ValueError")
    assert "the checkpoint of step 1 was not saved: rank 1, raised ValueError" in first["extra"][1]
    assert (first["other"][0], second["other"][0]) == (ParallelError.__name__, "InputError")
    assert first["then"] == second["then"] == {"step": 2}
    assert os.listdir(tmp_path) == ["save-00001-step-00000002"]


# ---------------------------------------------------------------- together with ModalityParallel


def toy() -> Any:
    torch.manual_seed(3)
    return faults.Toy("ab", SimpleNamespace(here=lambda where: None))


def fit_toy(model: Any, co: Any, replica: int, epochs: int = 6) -> None:
    for rnd in co.rounds(epochs):
        for epoch in rnd:
            toy_step(model, co.optimizer, replica, epoch)


def toy_step(model: Any, optimizer: Any, replica: int, epoch: int) -> None:
    optimizer.zero_grad()
    model.loss(None, faults.batch_of(10 * replica + epoch, "ab")).backward()
    optimizer.step()


def spread(rank: int, world_size: int, folder: str) -> dict[str, Any]:
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replica", "modality"))
    model = ModalityParallel(toy(), ModalityPlan([["a"], ["b"]]), mesh=mesh["modality"], seed=5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    co = CoLearning(model, optimizer, mesh=mesh, local_epochs=1, decay=0.5, epsilon=0.05)
    fit_toy(model, co, mesh.get_local_rank("replica"))
    save_replicas(co, folder, 6, model, optimizer, extra={"note": 1})
    out = {"values": p.values(model), "trace": co.trace}
    with torch.no_grad():
        for value in model.parameters():
            value.zero_()
    out["loaded"] = load_replicas(co, folder, model, optimizer)
    out["again"] = p.values(model)
    return out


@pytest.mark.slow
def test_replicas_of_modality_parallel(ranks: Any, tmp_path: Path) -> None:
    found = ranks.run(spread, 4, str(tmp_path))
    replicas = [ModalityParallel(toy(), seed=5) for _ in range(2)]
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in replicas]
    epoch = 0
    for entry in found[0]["trace"]:
        for j in range(entry.epochs):
            for number, (model, optimizer) in enumerate(zip(replicas, optimizers, strict=True)):
                optimizer.param_groups[0]["lr"] = 0.1 * 0.5 ** (j / entry.epochs)
                toy_step(model, optimizer, number, epoch)
            epoch += 1
        before = [value.clone() for value in replicas[0].parameters()]
        with torch.no_grad():
            for one, two in zip(*(model.parameters() for model in replicas), strict=True):
                one.copy_((one + two) / 2)
                two.copy_(one)
    assert epoch == 6
    assert len(before) == 5
    wanted = p.values(replicas[0])
    for entry in found:
        assert entry["trace"] == found[0]["trace"]  # all ranks double together
        assert entry["loaded"] == {"step": 6, "note": 1}
        same(entry["again"], entry["values"])
        assert torch.equal(entry["values"]["weight"], found[0]["values"]["weight"])
        torch.testing.assert_close(
            entry["values"], {name: wanted[name] for name in entry["values"]}, rtol=1e-11, atol=1e-12
        )
    alone = ModalityParallel(toy(), seed=5)
    assert alone.load(tmp_path) == {"step": 6, "note": 1}
    torch.testing.assert_close(p.values(alone), wanted, rtol=1e-11, atol=1e-12)
