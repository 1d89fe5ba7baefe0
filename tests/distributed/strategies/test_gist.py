"""GIST over ranks, held against all networks of a round trained one after the other in one process."""

from __future__ import annotations

import gc
import os
import resource
import runpy
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
import torch_geometric.nn as pyg
from torch import Tensor
from torch.nn import Module

from hyperlearn_pyg import nn
from hyperlearn_pyg.distributed.strategies import GIST, CoLearning, load_replicas, save_replicas
from hyperlearn_pyg.distributed.strategies._channels import take
from hyperlearn_pyg.distributed.strategies._narrow import merge_, narrow, tensors_of
from hyperlearn_pyg.errors import InputError, RankLostError

said = runpy.run_path(str(Path(__file__).parent / "problems.py"))["said"]
DOUBLE = torch.float64
NODES, IN, OUT = 12, 6, 3


def problem() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(NODES, IN, dtype=DOUBLE, generator=generator)
    return x, torch.randint(NODES, (2, 30), generator=generator), torch.arange(NODES) % OUT


def build(seed: int = 0, width: int = 8) -> Module:
    torch.manual_seed(seed)
    return pyg.GraphSAGE(IN, width, 3, OUT, norm="batch_norm", jk="cat").double()


def learn(sub: Module, steps: int) -> None:
    """Take some plain steps."""
    x, index, y = problem()
    optimizer = torch.optim.Adam(sub.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(sub(x, index), y).backward()
        optimizer.step()


def reference(workers: int, rounds: int, steps: int) -> dict[str, Tensor]:
    """Train all networks of each round in this process, on slices of the whole weights."""
    x, index, _ = problem()
    gist = GIST(build(), (x, index), seed=3)
    whole = gist.full_state_dict()
    gist.ranks.world_size = workers  # how many hands are dealt
    for _ in range(rounds):
        hands = gist.hands()
        places = [{n: [a.index(h) for a in w.axes] for n, w in gist.plan.weights.items()} for h in hands]
        trained = []
        for hand, place in zip(hands, places, strict=True):
            sub = narrow(gist.model, gist.plan, hand, {n: take(whole[n], place[n]).clone() for n in whole})
            learn(sub, steps)
            trained.append({n: t.detach() for n, t in tensors_of(sub).items()})
        for name, weight in gist.plan.weights.items():
            if whole[name].is_floating_point():
                blocks = [part[name] for part in trained]
                merge_(whole[name], [p[name] for p in places], blocks, weight.shared)
            else:
                whole[name] = trained[0][name]
        gist.rounds += 1
    return whole


def train(rank: int, world_size: int) -> dict[str, Any]:
    x, index, _ = problem()
    gist = GIST(build(seed=rank), (x, index), seed=3)  # rank 0's values count
    out: dict[str, Any] = {"start": gist.full_state_dict()}
    with gist.round():
        pass
    out["still"] = gist.full_state_dict()
    gist.rounds = 0
    gist.comm_stats.reset()
    for _ in range(2):
        with gist.round() as sub:
            learn(sub, 3)
        out.setdefault("bytes", dict(gist.comm_stats.num_bytes))
    state = gist.state_dict()
    with gist.round() as sub:
        learn(sub, 3)
        out["narrow"] = sum(t.numel() for t in tensors_of(sub).values())
    out["end"] = gist.full_state_dict()
    out["network"] = gist.network()(x, index)
    out["others"] = [apart(model) for model in others()]
    resumed = GIST(build(seed=7), (x, index), seed=0)
    resumed.load_state_dict(state)
    with resumed.round() as sub:
        learn(sub, 3)
    out["resumed"] = resumed.full_state_dict()
    out["held"] = sum(t.numel() for t in state["weights"].values())
    out["other rank"] = said(lambda: resumed.load_state_dict({**state, "place": [rank + 1, world_size]}))
    out["differ"] = said(lambda: GIST(build(), (x, index), seed=rank))
    out["odd"] = said(lambda: GIST(build(width=8 + (rank == 1)), (x, index)))
    gist = GIST(build(), (x, index), seed=3, timeout=30.0)  # a group of its own, as this one will break
    before = {name: tensor.clone() for name, tensor in gist.state_dict()["weights"].items()}

    def broken() -> None:
        with gist.guard(), gist.round() as sub:
            learn(sub, 1)
            if rank == 1:
                raise KeyError("broken on purpose")

    out["broken"] = said(broken)
    after = gist.state_dict()["weights"]
    out["intact"] = gist.rounds == 0 and all(torch.equal(after[name], before[name]) for name in before)
    return out


class Deep(Module):
    """Attention by heads, attention whose heads do not part, hyperedges with channels of their own; a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first = pyg.GATConv(IN, 4, heads=4)
        self.second = pyg.GATv2Conv(16, 16, heads=1)
        self.third = nn.HypergraphConv(16, 4, heads=4, use_attention=True)
        self.fourth = nn.HNHNConv(16, 16, hidden_channels=8)
        self.fifth = nn.UniGATConv(16, 16, heads=3, concat=False)
        self.last = torch.nn.Linear(32, OUT)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        x = self.first(x, index).relu()
        x = x + self.second(x, index).tanh()
        y = self.fourth(self.third(x, index), index)
        return self.last(torch.cat([x, self.fifth(y, index)], dim=-1))


def others() -> list[Module]:
    torch.manual_seed(2)
    return [Deep().double(), pyg.GraphSAGE(IN, 8, 3, OUT, project=True, norm="layer_norm").double()]


def apart(model: Module) -> tuple[float, float]:
    """Compute a model over all ranks; return the greatest difference, and how much of its weights is here."""
    x, index, _ = problem()
    net = GIST(model, (x, index)).network()
    held = sum(p.numel() for p in net.parameters()) / sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        return float((net(x, index) - model.eval()(x, index)).abs().max()), held


def check(found: list[dict[str, Any]], world_size: int) -> None:
    wanted = reference(world_size, 3, 3)
    start = build().state_dict()
    whole = sum(t.numel() for t in start.values())
    for rank, entry in enumerate(found):
        for name in start:
            assert torch.equal(entry["start"][name], start[name])  # cut and gathered
            assert torch.equal(entry["still"][name], start[name])  # split and merged
            torch.testing.assert_close(entry["end"][name], wanted[name], rtol=1e-12, atol=1e-12)
            assert torch.equal(entry["resumed"][name], entry["end"][name])
            assert torch.equal(entry["end"][name], found[0]["end"][name])
        assert any(not torch.equal(entry["end"][name], start[name]) for name in start)
        model = build()
        model.load_state_dict(entry["end"])
        x, index, _ = problem()
        torch.testing.assert_close(entry["network"], model.eval()(x, index).detach(), rtol=1e-12, atol=1e-12)
        assert all(difference < 1e-12 for difference, _ in entry["others"])
        assert all(held < 0.9 for _, held in entry["others"])
        assert entry["held"] < 1.2 * whole / world_size
        assert entry["narrow"] < whole / world_size * 1.2
        assert entry["other rank"][0] == "InputError"
        assert f"must be of rank {rank} of {world_size}" in entry["other rank"][1]
        assert entry["differ"][0] == "RanksDifferError"
        assert entry["odd"][0] == ("InputError" if rank == 1 else "ParallelError")
        assert "hidden channels of 'convs.0' cannot be dealt" in entry["odd"][1]
        assert entry["intact"]
        assert entry["broken"][0] == ("KeyError" if rank == 1 else "RankLostError")
        assert entry["broken"][2] == (() if rank == 1 else (1,))
    assert sum(entry["bytes"]["weights"] for entry in found) == traffic(world_size)
    plan = GIST(build(), problem()[:2]).plan
    shared = sum(w.shape.numel() for w in plan.weights.values() if not w.dealt and w.shape)
    assert found[0]["bytes"]["averaged weights"] == 2 * (world_size - 1) * 8 * -(-shared // world_size)


def traffic(workers: int) -> int:
    """Count the bytes of a round entry by entry: what a worker has and another rank stores comes and goes back."""
    gist = GIST(build(), problem()[:2], seed=3)
    gist.ranks.world_size = workers
    away = 0
    for rank, hand in enumerate(gist.hands()):
        for weight in (w for w in gist.plan.weights.values() if w.dealt):
            longest = max(range(len(weight.shape)), key=lambda dim: weight.shape[dim])
            size = weight.shape[longest]
            owner = torch.arange(size) * workers // size  # all widths here are multiples of the number of workers
            owner = owner.view(-1, *[1] * (len(weight.shape) - longest - 1)).expand(weight.shape)
            away += int((take(owner, [axis.index(hand) for axis in weight.axes]) != rank).sum())
    return 2 * 8 * away


def test_two_ranks_train_what_one_process_does(ranks: Any) -> None:
    check(ranks.run(train, 2), 2)


@pytest.mark.slow
def test_four_ranks_train_what_one_process_does(ranks: Any) -> None:
    check(ranks.run(train, 4), 4)


def test_alone_it_is_plain_training() -> None:
    x, index, _ = problem()
    model, gist = build(), GIST(build(), (x, index))
    for _ in range(2):
        learn(model, 3)
        with gist.round() as sub:
            learn(sub, 3)
    for name, value in model.state_dict().items():
        assert torch.equal(gist.full_state_dict()[name], value)
    assert gist.comm_stats.total == 0
    build().load_state_dict(gist.full_state_dict())
    with pytest.raises(InputError, match="'device' is for a model without values"):
        GIST(build(), (x, index), device="cpu")
    state = gist.state_dict()
    del state["weights"]["lin.bias"]
    with pytest.raises(InputError, match=r"must have 'lin.bias' of shape \[3\] \(got nothing\)"):
        gist.load_state_dict(state)


def test_a_model_without_values_is_drawn_by_seed_and_trains() -> None:
    x, index, y = (problem()[0].float(), *problem()[1:])
    with torch.device("meta"):
        model = pyg.GCN(IN, 8, 3, OUT, norm="layer_norm", norm_kwargs={"affine": False, "mode": "node"})
    first, again, other = (GIST(model, (x,), {"edge_index": index}, seed=s, device="cpu") for s in (1, 1, 2))
    start = first.full_state_dict()
    assert start.keys() == model.state_dict().keys()
    assert all(torch.equal(value, again.full_state_dict()[name]) for name, value in start.items())
    assert not torch.equal(other.full_state_dict()["convs.1.lin.weight"], start["convs.1.lin.weight"])
    assert len({start[f"convs.{place}.lin.weight"].abs().max().item() for place in range(3)}) == 3
    assert start["convs.0.bias"].abs().max() == 0
    with first.round() as sub:
        optimizer = torch.optim.Adam(sub.parameters(), lr=0.05)
        losses = []
        for _ in range(20):
            optimizer.zero_grad()
            losses.append(F.cross_entropy(sub(x, edge_index=index), y))
            losses[-1].backward()
            optimizer.step()
    assert losses[-1] < 0.8 * losses[0]
    with torch.no_grad():
        assert F.cross_entropy(first.network()(x, index), y) < 0.8 * losses[0]
    with pytest.raises(InputError, match="cannot begin anew without a model that has values"):
        first.restart()


def test_checkpoints_move_between_gist_other_strategies_and_plain_training(tmp_path: Path) -> None:
    x, index, _ = problem()
    model = build()
    gist = GIST(model, (x, index))
    with gist.round() as sub:
        learn(sub, 2)
    model.load_state_dict(gist.full_state_dict())
    save_replicas(gist, tmp_path, 1, model)
    other = build(seed=4)
    again = GIST(other, (x, index))
    assert load_replicas(again, tmp_path, other) == {"step": 1}
    assert again.rounds == 1
    plain = build(seed=5)
    load_replicas(CoLearning(plain, torch.optim.SGD(plain.parameters(), lr=0.1)), tmp_path, plain)
    co = CoLearning(plain, torch.optim.SGD(plain.parameters(), lr=0.1))
    learn(plain, 1)
    save_replicas(co, tmp_path, 2, plain)
    load_replicas(again, tmp_path, other)  # of another strategy: it begins anew with what was loaded
    assert again.rounds == 0
    for name, value in plain.state_dict().items():
        assert torch.equal(again.full_state_dict()[name], value)
    del other
    gc.collect()
    with pytest.raises(InputError, match="cannot begin anew without a model that has values"):
        again.restart()


# ---------------------------------------------------------------- faults and memory


def killed(rank: int, world_size: int, folder: str) -> dict[str, Any]:
    store = dist.FileStore(str(Path(folder, "store")), world_size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size)
    x, index, _ = problem()
    gist, out = GIST(build(), (x, index), seed=3, timeout=20.0), {}
    try:
        for number in range(3):
            with gist.round() as sub:
                learn(sub, 1)
                if (rank, number) == (1, 1):
                    Path(folder, "hit").touch()
                    os.kill(os.getpid(), signal.SIGKILL)
            torch.save(gist.state_dict(), Path(folder, f"{rank}.pt"))
    except RankLostError as error:
        out["error"] = str(error), error.ranks
    out["kept"] = gist.state_dict()
    return out


@pytest.mark.slow
def test_a_rank_lost_in_mid_round_is_named_and_the_last_round_stays(ranks: Any, tmp_path: Path) -> None:
    found = ranks.outcomes(killed, 2, str(tmp_path), init=False, limit=40, grace=30)
    assert (tmp_path / "hit").exists()
    assert found[1].status == -signal.SIGKILL
    assert found[0].ok, found[0].error
    text, lost = found[0].value["error"]
    assert "lost rank 1" in text
    assert lost == (1,)
    kept, saved = found[0].value["kept"], torch.load(tmp_path / "0.pt", weights_only=True)
    assert kept["rounds"] == saved["rounds"] == 1
    assert all(torch.equal(saved["weights"][name], kept["weights"][name]) for name in kept["weights"])


WIDE = 4096


def wide(width: int) -> Module:
    return pyg.GCN(16, width, 5, OUT)


def train_wide(rank: int, world_size: int) -> dict[str, Any]:
    x, index, y = torch.randn(32, 16), torch.randint(32, (2, 90)), torch.arange(32) % OUT
    run_rounds(wide(64), 2, x, index, y)  # threads, libraries
    whole = sum(p.numel() * p.element_size() for p in meta(WIDE).parameters())
    size = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (int(size.split()[1]) * 1024 + int(0.9 * whole), resource.RLIM_INFINITY))
    out: dict[str, Any] = {"whole": said(lambda: wide(WIDE))}
    out["losses"], state = run_rounds(meta(WIDE), 2, x, index, y)
    out["held"] = sum(t.numel() * t.element_size() for t in state["weights"].values()) / whole
    return out


def meta(width: int) -> Module:
    with torch.device("meta"):
        return wide(width)


def run_rounds(model: Module, rounds: int, *data: Tensor) -> tuple[list[float], dict[str, Any]]:
    gist = GIST(model, data[:2])
    losses = [loss for _ in range(rounds) for loss in run_round(gist, *data)]
    gc.collect()  # optimizers hold themselves, and wait for it
    with torch.no_grad():
        losses.append(float(F.cross_entropy(gist.network()(*data[:2]), data[2])))  # of the whole
    return losses, gist.state_dict()


def run_round(gist: GIST, x: Tensor, index: Tensor, y: Tensor) -> list[float]:
    """Run a round; the network and the optimizer's moments go with the function's names before the next one comes."""
    losses = []
    with gist.round() as sub:
        optimizer = torch.optim.Adam(sub.parameters(), lr=1e-3)
        for _ in range(4):
            optimizer.zero_grad()
            loss = F.cross_entropy(sub(x, index), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is limited through Linux's /proc")
def test_four_ranks_train_a_model_whose_weights_alone_exceed_the_memory_of_each(ranks: Any) -> None:
    for entry in ranks.run(train_wide, 4, limit=60):
        assert entry["whole"][0] == "RuntimeError"
        assert "can't allocate memory" in entry["whole"][1]
        *losses, whole = entry["losses"]
        assert losses[-1] < losses[0]
        assert whole < 3 * losses[0]
        assert entry["held"] < 0.26
