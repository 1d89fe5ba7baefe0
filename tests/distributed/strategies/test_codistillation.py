"""Codistillation against a plain loop over replicas with copies of their peers; alpha = 0; outputs; resuming."""

from __future__ import annotations

import copy
import functools
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from hyperlearn_pyg.distributed import ModalityParallel, ModalityPlan
from hyperlearn_pyg.distributed.strategies import Codistillation, kl_divergence, load_replicas, save_replicas
from hyperlearn_pyg.distributed.strategies import squared_error as squared
from hyperlearn_pyg.errors import InputError

p = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "problems.py")))
faults = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent.parent / "faults.py")))
STEPS, EVERY, ALPHA = 8, 3, 0.7


def shared_rows(rank: int, module: torch.nn.Module) -> Tensor:
    """Outputs of rows that mean the same on all ranks, of another part of the features on each."""
    x, _ = p.data_of(9)
    return module(x * (torch.arange(p.WIDTH) != rank))


def dense(own: Tensor, peer: Tensor, distance: str) -> Tensor:
    """The distances in words of their definitions."""
    if distance == "squared_error":
        return torch.stack([(a - b) ** 2 for a, b in zip(own.flatten(), peer.flatten(), strict=True)]).mean()
    rows = []
    for a, b in zip(own.softmax(-1), peer.softmax(-1), strict=True):
        rows.append(sum(q * (q.log() - r.log()) for r, q in zip(a, b, strict=True)))
    return torch.stack(rows).mean()


def reference(world_size: int, distance: str, outputs: bool) -> list[dict[str, Tensor]]:
    """All replicas in one process, with no part of the package."""
    modules = [p.net(rank) for rank in range(world_size)]
    optimizers = [p.sgd(module) for module in modules]
    stale: list[Any] = []
    for step in range(STEPS):
        now = []
        for rank, module in enumerate(modules):
            optimizers[rank].zero_grad()
            loss = p.loss_of(module, rank, step)
            x, _ = p.data_of(rank)
            out = shared_rows(rank, module) if outputs else module(x)
            if stale:
                found = []
                for peer in range(world_size):
                    if peer != rank:
                        answer = stale[peer] if outputs else stale[peer](x)
                        found.append(dense(out, answer.detach(), distance))
                loss = loss + ALPHA * sum(found) / len(found)
            now.append(out.detach().clone() if outputs else copy.deepcopy(module).eval())
            loss.backward()
        if (step + 1) % EVERY == 0:
            stale = now
        for optimizer in optimizers:
            optimizer.step()
    return [p.values(module) for module in modules]


def train(
    rank: int,
    module: Any,
    optimizer: Any,
    distil: Codistillation | None,
    outputs: bool,
    first: int = 0,
    last: int = STEPS,
) -> dict[str, Tensor]:
    for step in range(first, last):
        optimizer.zero_grad()
        loss = p.loss_of(module, rank, step)
        x, _ = p.data_of(rank)
        out = shared_rows(rank, module) if outputs else module(x)
        if distil is not None:
            loss = distil(loss, out) if outputs else distil(loss, out, x)
        loss.backward()
        optimizer.step()
    return p.values(module)


def build(rank: int, outputs: bool = False, **options: Any) -> tuple[Any, Any, Codistillation]:
    module = p.net(rank)
    options = {"alpha": ALPHA, "every": EVERY, **options}
    return module, p.sgd(module), Codistillation(None if outputs else module, **options)


WAYS = {"kl": ("kl", False), "squared": ("squared_error", False), "outputs": ("kl", True)}


def learn(rank: int, world_size: int) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, (distance, outputs) in WAYS.items():
        module, optimizer, distil = build(rank, outputs, distance=distance)
        out[name] = train(rank, module, optimizer, distil, outputs)
        out[f"{name} bytes"] = distil.comm_stats.num_bytes["outputs" if outputs else "parameters"]
        out[f"{name} modes"] = [part.training for part in module.modules()]
    module, optimizer, distil = build(rank, alpha=0.0)
    distil.comm_stats.reset()
    same = train(rank, module, optimizer, distil, False)
    out["alpha 0"] = (same, distil.comm_stats.total)
    module = p.net(rank)
    out["independent"] = train(rank, module, p.sgd(module), None, False)
    return out


def check(found: list[dict[str, Any]]) -> None:
    size, exchanges = len(found), STEPS // EVERY
    for name, (distance, outputs) in WAYS.items():
        wanted = reference(size, distance, outputs)
        for entry, values in zip(found, wanted, strict=True):
            for key, value in entry[name].items():
                torch.testing.assert_close(value, values[key], rtol=1e-11, atol=1e-12)
            numbers = p.ROWS * p.CLASSES if outputs else sum(value.numel() for value in p.floats(p.net()))
            assert entry[f"{name} bytes"] == exchanges * (size - 1) * numbers * 8
            assert all(entry[f"{name} modes"])
    for entry in found:
        same, sent = entry["alpha 0"]
        assert sent == 0
        assert all(torch.equal(value, entry["independent"][key]) for key, value in same.items())
        assert not torch.equal(entry["kl"]["2.weight"], entry["independent"]["2.weight"])


def test_two_ranks_are_a_plain_loop(ranks: Any) -> None:
    check(ranks.run(learn, 2))


@pytest.mark.slow
def test_four_ranks_are_a_plain_loop(ranks: Any) -> None:
    check(ranks.run(learn, 4))


def resume(rank: int, world_size: int, folder: str) -> list[bool]:
    out = []
    for outputs in (False, True):
        module, optimizer, distil = build(rank, outputs)
        train(rank, module, optimizer, distil, outputs, last=5)
        where = Path(folder) / str(outputs)
        save_replicas(distil, where, 5, module, optimizer)
        wanted = train(rank, module, optimizer, distil, outputs, 5)
        module, optimizer, distil = build(rank + 4, outputs)
        load_replicas(distil, where, module, optimizer)
        found = train(rank, module, optimizer, distil, outputs, 5)
        out.append(all(torch.equal(value, wanted[key]) for key, value in found.items()))
    return out


def test_a_run_goes_on_between_two_exchanges_as_if_never_stopped(ranks: Any, tmp_path: Path) -> None:
    assert ranks.run(resume, 2, str(tmp_path)) == [[True, True]] * 2


def odd(rank: int, world_size: int) -> dict[str, Any]:
    out = {"alpha": p.said(lambda: build(rank, alpha=0.1 + rank))}
    distil = Codistillation(every=1, distance="squared_error")
    loss, scores = torch.zeros(()), torch.ones(3, requires_grad=True)
    out["rows"] = p.said(lambda: distil(loss, scores[: 2 + rank]))
    distil(loss, scores)
    out["changed"] = p.said(lambda: distil(loss, scores[:2]))
    distil.restart()
    empty = torch.zeros(0, 3, requires_grad=True)
    distil(loss, empty)
    total = distil(loss, empty)
    total.backward()
    out["empty"] = (total.item(), list(empty.grad.shape))
    return out


def test_what_ranks_refuse(ranks: Any) -> None:
    for entry in ranks.run(odd, 2):
        assert entry["alpha"][0] == entry["rows"][0] == "RanksDifferError"
        assert "'out': rank 0 has [[2], 'torch.float32'], rank 1 has [[3], 'torch.float32']" in entry["rows"][1]
        assert entry["changed"][0] == "InputError"
        assert (
            "must have the same rows in every step where outputs are exchanged (was [3], is [2])" in entry["changed"][1]
        )
        assert entry["empty"] == (0.0, [0, 3])


def test_alone_the_loss_is_passed_on() -> None:
    distil = build(0)[2]
    loss = torch.ones((), requires_grad=True)
    assert all(distil(loss, torch.ones(2, 3)) is loss for _ in range(2 * EVERY))
    assert distil.comm_stats.total == 0
    with pytest.raises(InputError, match="is of 3 ranks, these are 1"):
        distil.load_state_dict({**distil.state_dict(), "peers": [[], []]})
    wrapped = ModalityParallel(toy(0))
    with pytest.raises(InputError, match="no rank can run a peer"):
        Codistillation(wrapped)


def spread(rank: int, world_size: int) -> dict[str, Any]:
    """Two replicas of two ranks each; those of replica 1 hold other modalities, for the same rows."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replica", "modality"))
    replica = mesh.get_local_rank("replica")
    plan = ModalityPlan([[name] for name in NAMES[replica]])
    model = ModalityParallel(toy(replica), plan, mesh=mesh["modality"], seed=5)
    return fit_scores(model, Codistillation(every=2, distance="squared_error", mesh=mesh), replica)


NAMES = ("ab", "cd")


def toy(replica: int) -> Any:
    torch.manual_seed(3 + replica)
    return faults.Toy(NAMES[replica], SimpleNamespace(here=lambda where: None))


def fit_scores(model: Any, distil: Any, replica: int) -> dict[str, Any]:
    optimizer, scores = torch.optim.SGD(model.parameters(), lr=0.1), []
    for step in range(5):
        optimizer.zero_grad()
        loss = model.loss(None, faults.batch_of(step, NAMES[replica]))
        out = model(None, faults.batch_of(9, NAMES[replica]))
        scores.append(out.detach().clone())
        distil(loss, out).backward()
        optimizer.step()
    return {"values": p.values(model), "scores": scores}


def with_what_was_said(theirs: list[Tensor], steps: list[int], loss: Tensor, out: Tensor) -> Tensor:
    """The loss with what the other replica was seen to say at the last exchange before this step."""
    last = len(steps) // 2 * 2 - 1
    steps.append(1)
    return loss + squared(out, theirs[last]) if last > 0 else loss


@pytest.mark.slow
def test_replicas_of_other_modalities_learn_from_one_another(ranks: Any) -> None:
    found = ranks.run(spread, 4)
    for replica in (0, 1):
        theirs = found[2 * (1 - replica)]["scores"]

        distil = functools.partial(with_what_was_said, theirs, [])
        wanted = fit_scores(ModalityParallel(toy(replica), seed=5), distil, replica)
        for entry in found[2 * replica : 2 * replica + 2]:
            torch.testing.assert_close(entry["scores"], wanted["scores"], rtol=1e-11, atol=1e-12)
            for name, value in entry["values"].items():
                torch.testing.assert_close(value, wanted["values"][name], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"alpha": -1.0}, "'alpha' must be at least 0 (got -1.0)"),
        ({"every": 0}, "'every' must be at least 1 (got 0)"),
        ({"distance": "kll"}, "must be one of ['kl', 'squared_error'] or a function (got 'kll'). Did you mean 'kl'?"),
    ],
)
def test_arguments_out_of_range(options: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError) as error:
        Codistillation(**options)
    assert text in str(error.value)


@given(rows=st.integers(1, 4), classes=st.integers(1, 5), seed=st.integers(0, 99))
def test_distances_are_those_of_their_definitions(rows: int, classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    own, peer = torch.randn(2, rows, classes, dtype=p.DOUBLE, generator=generator)
    torch.testing.assert_close(kl_divergence(own, peer), dense(own, peer, "kl"), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(squared(own, peer), dense(own, peer, "squared_error"), rtol=1e-12, atol=1e-14)
    assert float(kl_divergence(own, own)) == 0


def test_outputs_are_exchanged_by_calls_alone() -> None:
    with pytest.raises(InputError, match="'exchange' needs a module"):
        Codistillation(every=None).exchange()
    Codistillation(torch.nn.Linear(1, 1), every=None).exchange()  # nobody else is there
