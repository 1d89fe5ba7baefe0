"""Co-learning against a plain loop over replicas in one process: rule, rates, averages; resuming in mid-round."""

from __future__ import annotations

import math
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hyperlearn_pyg.distributed.strategies import CoLearning, load_replicas, save_replicas
from hyperlearn_pyg.errors import InputError

p = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "problems.py")))
TOTAL = 9
RULE = {"local_epochs": 1, "decay": 0.3, "epsilon": 0.12}
RULES = {2: RULE, 4: {**RULE, "epsilon": 0.06}}


def reference(world_size: int, total: int = TOTAL, *, first: int, decay: float, epsilon: float) -> dict[str, Any]:
    """All replicas in one process, with no part of the package."""
    modules = [p.net(0) for _ in range(world_size)]
    optimizers = [p.sgd(module) for module in modules]
    before = [value.detach().clone() for value in modules[0].parameters()]
    epoch, length, trace, rates = 0, first, [], []
    while epoch < total:
        planned = min(length, total - epoch)
        for j in range(planned):
            rates.append(0.3 * decay ** (j / planned))
            for rank, (module, optimizer) in enumerate(zip(modules, optimizers, strict=True)):
                optimizer.param_groups[0]["lr"] = rates[-1]
                p.one_step(module, optimizer, rank, epoch)
            epoch += 1
        with torch.no_grad():
            for same in zip(*map(p.floats, modules), strict=True):
                mean = torch.stack(same).mean(0)
                for value in same:
                    value.copy_(mean)
        now = [value.detach().clone() for value in modules[0].parameters()]
        change = math.sqrt(sum(float((a - b).square().sum()) for a, b in zip(now, before, strict=True)))
        delta = change / math.sqrt(sum(float(b.square().sum()) for b in before))
        trace.append((planned, delta, delta <= epsilon))
        length, before = length * (2 if delta <= epsilon else 1), now
    return {"values": p.values(modules[0]), "trace": trace, "rates": rates}


def train(rank: int, co: CoLearning, total: int = TOTAL, stop: int | None = None, folder: Any = None) -> list[float]:
    rates = []
    for rnd in co.rounds(total):
        for epoch in rnd:
            rates.append(co.optimizer.param_groups[0]["lr"])
            p.one_step(co.module, co.optimizer, rank, epoch)
            if folder is not None:
                save_replicas(co, folder, epoch + 1, co.module, co.optimizer, extra={"note": epoch})
            if epoch + 1 == stop:
                return rates
    return rates


def learn(rank: int, world_size: int) -> dict[str, Any]:
    module = p.net(7 * rank)  # every rank takes the one of rank 0
    co = CoLearning(module, p.sgd(module), **RULES[world_size])
    rates = train(rank, co)
    return {"values": p.values(module), "trace": co.trace, "rates": rates, "stats": co.comm_stats, "rate": rate_of(co)}


def rate_of(co: CoLearning) -> float:
    return co.optimizer.param_groups[0]["lr"]


def check_learning(found: list[dict[str, Any]]) -> None:
    rule = RULES[len(found)]
    wanted = reference(len(found), first=1, decay=rule["decay"], epsilon=rule["epsilon"])
    assert {entry[0] for entry in wanted["trace"]} >= {1, 2}  # some rounds doubled,
    assert not all(entry[2] for entry in wanted["trace"])  # and some did not
    for entry in found:
        for name, value in entry["values"].items():
            assert torch.equal(value, found[0]["values"][name])
            torch.testing.assert_close(value, wanted["values"][name], rtol=1e-12, atol=1e-13)
        assert [(t.epochs, t.doubled) for t in entry["trace"]] == [(t[0], t[2]) for t in wanted["trace"]]
        assert [t.delta for t in entry["trace"]] == pytest.approx([t[1] for t in wanted["trace"]], rel=1e-9)
        assert entry["rates"] == pytest.approx(wanted["rates"], rel=1e-12)
        assert entry["rate"] == 0.3
        size, rounds = len(found), len(wanted["trace"])
        numbers = sum(value.numel() for value in p.floats(p.net()))
        assert entry["stats"].num_bytes["parameters"] == rounds * 2 * (size - 1) * -(-numbers // size) * 8


def test_rule_rates_and_averages_are_those_of_a_plain_loop(ranks: Any) -> None:
    check_learning(ranks.run(learn, 2))


@pytest.mark.slow
def test_four_ranks_are_a_plain_loop_too(ranks: Any) -> None:
    check_learning(ranks.run(learn, 4))


def resume(rank: int, world_size: int, folder: str) -> list[bool]:
    """Stop after each number of epochs, go on in a new module, and compare with what was never stopped."""
    module = p.net(0)
    co = CoLearning(module, p.sgd(module), **RULE)
    train(rank, co)
    wanted, trace, out = p.values(module), co.trace, []
    for stop in range(1, TOTAL):
        where = Path(folder) / str(stop)
        module = p.net(0)
        train(rank, CoLearning(module, p.sgd(module), **RULE), stop=stop, folder=where)
        module = p.net(3 + rank)
        co = CoLearning(module, p.sgd(module), **RULE)
        loaded = load_replicas(co, where, module, co.optimizer)
        assert loaded == {"step": stop, "note": stop - 1}
        assert co.epoch == stop
        train(rank, co)
        out.append(co.trace == trace and all(torch.equal(v, wanted[n]) for n, v in p.values(module).items()))
    return out


@pytest.mark.slow
def test_a_run_goes_on_in_mid_round_as_if_never_stopped(ranks: Any, tmp_path: Path) -> None:
    assert ranks.run(resume, 2, str(tmp_path)) == [[True] * (TOTAL - 1)] * 2


def odd(rank: int, world_size: int) -> dict[str, Any]:
    def build(**rule: Any) -> CoLearning:
        module = p.net(0)
        return CoLearning(module, p.sgd(module), **rule)

    out: dict[str, Any] = {"total": p.said(lambda: train(rank, build(local_epochs=5), total=3 + rank))}
    out["rule"] = p.said(lambda: build(epsilon=0.1 * rank))
    module = torch.nn.Linear(2, 2 + rank)
    out["module"] = p.said(lambda: CoLearning(module, p.sgd(module)))
    co, seen = build(local_epochs=3), []
    for rnd in co.rounds(6):
        for epoch in rnd:
            seen.append(epoch)
            if rank and epoch == 1:
                break
    out["break"] = (seen, co.epoch, [t.epochs for t in co.trace])
    frozen = build(local_epochs=1, epsilon=0.0)
    for parameter in frozen.module.parameters():
        parameter.requires_grad_(False)
    for rnd in frozen.rounds(3):  # nothing moves: rounds of 1 and 2
        list(rnd)
    out["still"] = [(t.epochs, t.delta) for t in frozen.trace]
    return out


def test_ranks_that_differ_and_rounds_that_end_early(ranks: Any) -> None:
    first, second = ranks.run(odd, 2)
    for name, text in (
        ("total", "'epochs': rank 0 has 3, rank 1 has 4"),
        ("rule", "'epsilon': 0.0"),
        ("module", "differ in 'module'"),
    ):
        assert first[name] == second[name]
        assert first[name][0] == "RanksDifferError"
        assert text in first[name][1]
    assert first["break"] == ([0, 1, 2, 3, 4, 5], 6, [3, 3])
    assert second["break"] == ([0, 1, 3, 4, 5], 6, [3, 3])
    assert first["still"] == [(1, 0.0), (2, 0.0)]


def test_alone_it_is_plain_training(tmp_path: Path) -> None:
    plain = p.net(0)
    optimizer = p.sgd(plain)
    for epoch in range(TOTAL):
        p.one_step(plain, optimizer, 0, epoch)
    module = p.net(0)
    co = CoLearning(module, p.sgd(module), **RULE)
    rates = train(0, co, folder=tmp_path)
    assert rates == [0.3] * TOTAL
    assert (co.trace, co.comm_stats.total, co.epoch) == ([], 0, TOTAL)
    assert all(torch.equal(a, b) for a, b in zip(p.floats(plain), p.floats(module), strict=True))
    assert list(co.rounds(TOTAL)) == []
    assert list(CoLearning(module, p.sgd(module)).rounds(0)) == []


@pytest.mark.parametrize(
    ("options", "text"),
    [({"local_epochs": 0}, "at least 1"), ({"decay": 0.0}, "in (0, 1]"), ({"epsilon": math.nan}, "a number")],
)
def test_arguments_out_of_range(options: dict[str, Any], text: str) -> None:
    module = p.net()
    with pytest.raises(InputError) as error:
        CoLearning(module, p.sgd(module), **options)
    assert text in str(error.value)


def test_state_of_another_module_is_refused() -> None:
    module = p.net()
    co = CoLearning(module, p.sgd(module))
    state = co.state_dict()
    with pytest.raises(InputError, match="other parameters"):
        co.load_state_dict({**state, "before": [torch.zeros(1)]})
    with pytest.raises(InputError, match="2 learning rates, the optimizer 1"):
        co.load_state_dict({**state, "rates": [1.0, 2.0]})
