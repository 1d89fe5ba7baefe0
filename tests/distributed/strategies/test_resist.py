"""ResIST over ranks, held against all stacks of a round trained one after the other in one process."""

from __future__ import annotations

import copy
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import BatchNorm1d, Linear, Module, ModuleList

from hyperlearn_pyg.distributed.strategies import ResIST
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.nn import ResidualHypergraphStack

said = runpy.run_path(str(Path(__file__).parent / "problems.py"))["said"]
DOUBLE = torch.float64
NODES, IN, OUT = 10, 4, 3


def problem() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(NODES, IN, dtype=DOUBLE, generator=generator)
    index = torch.stack([torch.randint(n, (24,), generator=generator) for n in (NODES, 5)])
    return x, index, torch.arange(NODES) % OUT


def build(seed: int = 0, blocks: int = 8) -> Any:
    torch.manual_seed(seed)
    return ResidualHypergraphStack(IN, 6, OUT, blocks, norm=BatchNorm1d).double()


def learn(sub: Module, steps: int = 3) -> None:
    x, index, y = problem()
    optimizer = torch.optim.Adam(sub.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(sub(x, index, num_edges=5), y).backward()
        optimizer.step()


def reference(workers: int, rounds: int, **options: Any) -> dict[str, Tensor]:
    """Train every worker's stack on a plain copy, and average by the words of the paper."""
    stack, resist = build(), ResIST(build(), **options)
    resist.ranks.world_size = workers  # how many hands are dealt
    for _ in range(rounds):
        hands, states = resist.hands(), []
        for hand in hands:
            sub = copy.deepcopy(stack)
            sub.blocks = ModuleList([sub.blocks[0], *(sub.blocks[number + 1] for number in hand)])
            learn(sub)
            states.append(sub.state_dict())
        whole = stack.state_dict()
        for name, value in whole.items():
            parts = name.split(".")
            if parts[0] == "blocks" and parts[1] != "0":
                number = int(parts[1]) - 1
                held = [
                    states[worker][".".join(["blocks", str(hand.index(number) + 1), *parts[2:]])]
                    for worker, hand in enumerate(hands)
                    if number in hand
                ]
            else:
                held = [state[name] for state in states]
            stacked = torch.stack(held)
            value.copy_(stacked.mean(0) if value.is_floating_point() else stacked.amax(0))
        resist.rounds += 1
    return {**stack.state_dict(), "residual_scale": torch.tensor(resist.scale, dtype=DOUBLE)}


def train(rank: int, world_size: int, min_blocks: int) -> dict[str, Any]:
    resist = ResIST(build(seed=rank), seed=3, min_blocks=min_blocks)  # rank 0's values count
    out: dict[str, Any] = {"start": resist.full_state_dict()}
    with resist.round():
        pass
    out["still"] = resist.full_state_dict()
    resist.rounds = 0
    resist.comm_stats.reset()
    for _ in range(2):
        with resist.round() as sub:
            out["depth"] = len(sub.blocks)
            learn(sub)
        out.setdefault("bytes", dict(resist.comm_stats.num_bytes))
    state = resist.state_dict()
    with resist.round() as sub:
        learn(sub)
    out["end"] = resist.full_state_dict()
    resumed = ResIST(build(seed=7), min_blocks=min_blocks)
    resumed.load_state_dict(state)
    with resumed.round() as sub:
        learn(sub)
    out["resumed"] = resumed.full_state_dict()
    out["other"] = said(lambda: resumed.load_state_dict({**state, "place": [rank, world_size + 1, 7]}))
    out["differ"] = said(lambda: ResIST(build(), min_blocks=rank))
    resist = ResIST(build(), timeout=30.0)  # a group of its own, as this one will break
    before = resist.state_dict()

    def broken() -> None:
        with resist.guard(), resist.round() as sub:
            learn(sub)
            if rank == 1:
                raise KeyError("broken on purpose")

    out["broken"], after = said(broken), resist.state_dict()
    same = [torch.equal(after[kind][n], t) for kind in ("shared", "blocks") for n, t in before[kind].items()]
    out["intact"] = all(same) and after["rounds"] == 0
    return out


def check(found: list[dict[str, Any]], workers: int, min_blocks: int) -> None:
    wanted = reference(workers, 3, seed=3, min_blocks=min_blocks)
    start = build().state_dict()
    for rank, entry in enumerate(found):
        for name in start:
            if name != "residual_scale":
                assert torch.equal(entry["start"][name], start[name])
                assert torch.equal(entry["still"][name], start[name])
            torch.testing.assert_close(entry["end"][name], wanted[name], rtol=1e-12, atol=1e-12)
            assert torch.equal(entry["resumed"][name], entry["end"][name])
            assert torch.equal(entry["end"][name], found[0]["end"][name])
        assert entry["depth"] >= 1 + min_blocks
        assert "must be of rank" in entry["other"][1]
        assert entry["differ"][0] == "RanksDifferError"
        assert entry["intact"]
        assert entry["broken"][0] == ("KeyError" if rank == 1 else "RankLostError")
        assert entry["broken"][2] == (() if rank == 1 else (1,))
    resist = ResIST(build(), seed=3, min_blocks=min_blocks)
    resist.ranks.world_size = workers
    away = sum(number % workers != worker for worker, hand in enumerate(resist.hands()) for number in hand)
    block = sum(t.numel() * t.element_size() for t in build().blocks[0].state_dict().values())
    assert sum(entry["bytes"].get("blocks", 0) for entry in found) == 2 * away * block  # there and back


def test_two_ranks_train_what_one_process_does(ranks: Any) -> None:
    check(ranks.run(train, 2, 5), 2, 5)  # blocks are held by several


@pytest.mark.slow
@pytest.mark.parametrize("min_blocks", [0, 1, 7])
def test_four_ranks_train_what_one_process_does(ranks: Any, min_blocks: int) -> None:
    check(ranks.run(train, 4, min_blocks), 4, min_blocks)


@given(st.integers(2, 12), st.integers(1, 6), st.integers(0, 11), st.integers(0, 50))
@settings(deadline=None, max_examples=30)
def test_every_block_is_dealt_and_no_worker_has_too_few(blocks: int, workers: int, least: int, seed: int) -> None:
    resist = ResIST(Plain(blocks), min_blocks=min(least, blocks - 1), seed=seed)
    resist.ranks.world_size = workers
    hands = resist.hands()
    assert set().union(*hands) == set(range(blocks - 1))
    share = (blocks - 1) // workers
    for hand in hands:
        assert hand == sorted(set(hand))
        assert len(hand) >= max(resist.min_blocks, share)
        assert len(hand) <= max(resist.min_blocks, share + 1)
    assert resist.scale == max(1 / workers, resist.min_blocks / (blocks - 1))


class Plain(Module):
    """The least that can be dealt: blocks, and the number that their branches are multiplied by."""

    def __init__(self, blocks: int, width: int = 1) -> None:
        super().__init__()
        self.blocks = ModuleList(Linear(width, width) for _ in range(blocks))
        self.register_buffer("residual_scale", torch.ones(()))


def test_alone_it_is_plain_training() -> None:
    stack, resist = build(), ResIST(build())
    for _ in range(2):
        learn(stack)
        with resist.round() as sub:
            learn(sub)
    found = resist.full_state_dict()
    assert all(torch.equal(found[name], value) for name, value in stack.state_dict().items())
    assert list(found) == list(stack.state_dict())
    assert resist.comm_stats.total == 0
    build().load_state_dict(found)
    with pytest.raises(InputError, match="cannot begin anew without a model that has values"):
        resist.restart()
    resist = ResIST(stack)
    with torch.no_grad():
        stack.lin_in.bias.add_(1.0)
    resist.restart()
    assert torch.equal(resist.full_state_dict()["lin_in.bias"], stack.lin_in.bias)


def test_what_cannot_be_dealt_is_refused() -> None:
    with pytest.raises(InputError, match="must have a ModuleList 'blocks'"):
        ResIST(Linear(2, 2))
    with pytest.raises(InputError, match=r"between 0 and 7, the blocks beyond the first \(got 8\)"):
        ResIST(build(), min_blocks=8)
    stack = Plain(4)
    stack.blocks[2] = Linear(1, 1, bias=False)
    with pytest.raises(InputError, match=r"'blocks.2' differs from the first in 'bias'"):
        ResIST(stack)
    with pytest.raises(InputError, match="must have values"):
        ResIST(Plain(4).to("meta"))
