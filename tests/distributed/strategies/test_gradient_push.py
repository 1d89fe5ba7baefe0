"""Gradient push against a plain loop over replicas with mixing matrices; consensus, weights, overlap, resuming."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from hyperlearn_pyg.distributed.strategies import GradientPush, exponential_graph, load_replicas, save_replicas
from hyperlearn_pyg.errors import InputError

p = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "problems.py")))
STEPS = 7


def hub(step: int, rank: int, world_size: int) -> int:
    """All send to rank 0, which sends to one of them in turn: weights are far from 1."""
    return 0 if rank else 1 + step % (world_size - 1)


GRAPHS = {"exponential": exponential_graph, "hub": hub}


def flat(module: torch.nn.Module) -> Tensor:
    return torch.cat([value.detach().reshape(-1) for value in p.floats(module)])


def fill(module: torch.nn.Module, values: Tensor) -> None:
    with torch.no_grad():
        sizes = [value.numel() for value in p.floats(module)]
        for value, part in zip(p.floats(module), values.split(sizes), strict=True):
            value.copy_(part.view(value.shape))


def reference(world_size: int, graph: Any, overlap: bool) -> tuple[list[Tensor], list[list[float]]]:
    """All replicas in one process; messages as matrix products, with no part of the package but the graph."""
    modules = [p.net(0) for _ in range(world_size)]
    optimizers = [p.sgd(module) for module in modules]
    weights, history = torch.ones(world_size, dtype=p.DOUBLE), []
    late: tuple[Tensor, Tensor] | None = None
    for step in range(STEPS):
        rows = []
        for rank, (module, optimizer) in enumerate(zip(modules, optimizers, strict=True)):
            optimizer.zero_grad()
            p.loss_of(module, rank, step).backward()
            fill(module, flat(module) * weights[rank])
            optimizer.step()
            rows.append(flat(module))
        x, mixing = torch.stack(rows), torch.zeros(world_size, world_size, dtype=p.DOUBLE)
        for rank in range(world_size):
            mixing[graph(step, rank, world_size), rank] = 0.5
        if late is not None:
            x, weights = x + late[0], weights + late[1]
        sent = mixing @ x, mixing @ weights
        x, weights, late = x / 2, weights / 2, sent
        if not overlap:
            x, weights, late = x + sent[0], weights + sent[1], None
        for rank, module in enumerate(modules):
            fill(module, x[rank] / weights[rank])
        history.append([*weights.tolist(), float(0 if late is None else late[1].sum())])
    return [flat(module) for module in modules], history


def train(rank: int, push: GradientPush, first: int = 0, last: int = STEPS) -> list[list[float]]:
    history = []
    for step in range(first, last):
        push.zero_grad()
        p.loss_of(push.module, rank, step).backward()
        push.step()
        history.append(push.weights)
    return history


def build(seed: int = 0, **options: Any) -> GradientPush:
    module = p.net(seed)
    return GradientPush(p.sgd(module), module, **options)


def learn(rank: int, world_size: int) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, graph in GRAPHS.items():
        for overlap in (False, True):
            push = build(rank, graph=graph, overlap=overlap)
            history = train(rank, push)
            found = flat(push.module)
            push.average()  # which waits for what is on its way
            averaged, sums = flat(push.module), push.weights
            sent = push.comm_stats.num_bytes["pushed"]
            out[f"{name} {overlap}"] = (found, history, averaged, sums, sent)
    out["consensus"] = consensus(rank, world_size)
    return out


def consensus(rank: int, world_size: int) -> tuple[Tensor, Tensor, list[float]]:
    """Random values of each rank, pushed log2(n) times."""
    push = build()
    fill(
        push.module, torch.randn(len(flat(push.module)), dtype=p.DOUBLE, generator=torch.Generator().manual_seed(rank))
    )
    before = flat(push.module)
    for _ in range((world_size - 1).bit_length()):
        push.push()
    return before, flat(push.module), push.weights


def check(found: list[dict[str, Any]]) -> None:
    size = len(found)
    for name, graph in GRAPHS.items():
        for overlap in (False, True):
            key = f"{name} {overlap}"
            wanted, history = reference(size, graph, overlap)
            mean_of_x = torch.stack([entry[key][2] for entry in found])
            assert torch.equal(mean_of_x, mean_of_x[:1].expand_as(mean_of_x))
            for rank, entry in enumerate(found):
                value, weights, _, sums, sent = entry[key]
                torch.testing.assert_close(value, wanted[rank], rtol=1e-12, atol=1e-13)
                assert weights == [row[:-1] for row in history]
                assert sums == [1.0] * size
                assert sent == STEPS * value.numel() * 8
            assert all(sum(row) == pytest.approx(size, rel=1e-15) for row in history)
    mean = torch.stack([entry["consensus"][0] for entry in found]).mean(0)
    for entry in found:
        _, value, weights = entry["consensus"]
        torch.testing.assert_close(value, mean, rtol=1e-12, atol=1e-15)
        assert weights == [1.0] * size


def test_two_ranks_are_a_plain_loop(ranks: Any) -> None:
    check(ranks.run(learn, 2))


@pytest.mark.slow
def test_four_ranks_are_a_plain_loop_and_reach_consensus_in_two_rounds(ranks: Any) -> None:
    check(ranks.run(learn, 4))


def averaged(rank: int, world_size: int) -> tuple[Tensor, float, Tensor]:
    push = build(graph=hub, overlap=True)
    train(rank, push, last=3)
    x = flat(push.module) * push.weight
    arriving = push._pending.rows() if push._pending is not None else {}
    push.average()
    return x, sum(float(rows.sum()) for rows in arriving.values()), flat(push.module)


@pytest.mark.slow
def test_average_loses_nothing_that_is_on_its_way(ranks: Any) -> None:
    found = ranks.run(averaged, 4)
    total = sum(float(x.sum()) + more for x, more, _ in found)
    assert float(found[0][2].sum()) * 4 == pytest.approx(total, rel=1e-12)


def resume(rank: int, world_size: int, folder: str) -> list[bool]:
    out = []
    for overlap in (False, True):
        push = build(graph=hub, overlap=overlap)
        train(rank, push)
        wanted = p.values(push.module)
        push = build(graph=hub, overlap=overlap)
        train(rank, push, last=4)
        where = Path(folder) / str(overlap)
        save_replicas(push, where, 4, push.module, push.optimizer)
        train(rank, push, 4)  # saving leaves what it saves as it is
        out.append(all(torch.equal(v, wanted[n]) for n, v in p.values(push.module).items()))
        push = build(rank + 1, graph=hub, overlap=overlap)
        assert load_replicas(push, where, push.module, push.optimizer) == {"step": 4}
        assert push.steps == 4
        train(rank, push, 4)
        out.append(all(torch.equal(v, wanted[n]) for n, v in p.values(push.module).items()))
    push.restart()
    out.append(push.weights == [1.0] * world_size and push.steps == 0)
    return out


def test_a_run_goes_on_as_if_never_stopped(ranks: Any, tmp_path: Path) -> None:
    assert ranks.run(resume, 2, str(tmp_path)) == [[True] * 5] * 2


def odd(rank: int, world_size: int) -> dict[str, Any]:
    out = {"graph": p.said(lambda: build(graph=(exponential_graph, hub)[rank]))}
    out["overlap"] = p.said(lambda: build(overlap=bool(rank)))
    push = build(graph=lambda step, rank, size: size)
    out["far"] = p.said(push.push)
    return out


def test_what_is_refused(ranks: Any) -> None:
    for entry in ranks.run(odd, 2):
        assert entry["graph"][0] == entry["overlap"][0] == "RanksDifferError"
        assert "'graph': rank 0 has exponential_graph, rank 1 has hub" in entry["graph"][1]
        assert entry["far"][0] == "InputError"
        assert "must give ranks below 2 (got [2, 2] in step 0)" in entry["far"][1]
    with pytest.raises(InputError, match="is of 2 ranks, these are 1"):
        build().load_state_dict({**build().state_dict(), "weights": [1.0, 1.0]})


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 13])
def test_exponential_graph_sends_and_receives_once(size: int) -> None:
    for step in range(6):
        assert sorted(exponential_graph(step, rank, size) for rank in range(size)) == list(range(size))
    if size & (size - 1) == 0 and size > 1:  # products of the mixing matrices are the mean
        product = torch.eye(size, dtype=p.DOUBLE)
        for step in range(size.bit_length() - 1):
            mixing = torch.eye(size, dtype=p.DOUBLE) / 2
            for rank in range(size):
                mixing[exponential_graph(step, rank, size), rank] += 0.5
            product = mixing @ product
        assert torch.equal(product, torch.full((size, size), 1 / size, dtype=p.DOUBLE))


@pytest.mark.parametrize("overlap", [False, True])
def test_alone_it_is_the_inner_optimizer(overlap: bool) -> None:
    plain = p.net(0)
    optimizer = p.sgd(plain)
    for step in range(STEPS):
        p.one_step(plain, optimizer, 0, step)
    push = build(overlap=overlap)
    assert push.param_groups is push.optimizer.param_groups

    def closure() -> Tensor:
        push.zero_grad()
        loss = p.loss_of(push.module, 0, push.steps)
        loss.backward()
        return loss

    for _ in range(STEPS):
        assert float(push.step(closure).detach()) > 0
    push.average()
    assert torch.equal(flat(plain), flat(push.module))
    assert push.comm_stats.total == 0
    push.push()
    assert torch.equal(flat(plain), flat(push.module))
