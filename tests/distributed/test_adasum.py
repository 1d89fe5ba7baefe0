"""Adasum: its formula, orthogonal and equal gradients, zeros; the gradients of data replicas combined by it."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hyperlearn_pyg.distributed import ModalityParallel
from hyperlearn_pyg.distributed.adasum import adasum
from hyperlearn_pyg.distributed.exchange import sum_grads
from hyperlearn_pyg.distributed.plan import ModalityPlan
from hyperlearn_pyg.distributed.wire import Wire

faults = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("faults.py"))))
DOUBLE = torch.float64


def dense(a: Tensor, b: Tensor) -> Tensor:
    """The formula, with numbers of Python."""
    x, y = a.flatten().tolist(), b.flatten().tolist()
    product = sum(i * j for i, j in zip(x, y, strict=True))
    shares = [1 - product / (2 * size) if size else 1.0 for size in (sum(i * i for i in v) for v in (x, y))]
    found = [shares[0] * i + shares[1] * j for i, j in zip(x, y, strict=True)]
    return torch.tensor(found, dtype=a.dtype).view(a.shape)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 999), count=st.integers(1, 5), rows=st.integers(0, 3))
def test_formula_and_tree(seed: int, count: int, rows: int) -> None:
    given_ = [drawn(seed + i, rows, 2) for i in range(count)]
    found = adasum(given_)
    if count == 1:
        wanted = given_[0]
    else:
        middle = (count + 1) // 2
        wanted = dense(adasum(given_[:middle]), adasum(given_[middle:]))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)


@given(seed=st.integers(0, 999), scale=st.floats(0.01, 100.0))
def test_laws_of_two(seed: int, scale: float) -> None:
    a, b = drawn(seed, 6), drawn(seed + 1000, 6)
    b_across = b - a * (a @ b) / (a @ a)
    close = {"rtol": 1e-10, "atol": 1e-10 * scale}
    torch.testing.assert_close(adasum([a, b_across]), a + b_across, **close)  # orthogonal: the sum
    torch.testing.assert_close(adasum([a, scale * a]), (1 + scale) / 2 * a, **close)  # parallel: the mean
    torch.testing.assert_close(adasum([a, b]), adasum([b, a]), **close)
    torch.testing.assert_close(adasum([scale * a, scale * b]), scale * adasum([a, b]), **close)
    assert torch.equal(adasum([a, torch.zeros(6, dtype=DOUBLE)]), a)


def test_types_and_zeros() -> None:
    assert adasum([torch.zeros(3), torch.zeros(3)]).tolist() == [0.0] * 3
    half = adasum([torch.ones(2, dtype=torch.bfloat16)] * 2)
    assert (half.dtype, half.tolist()) == (torch.bfloat16, [1.0, 1.0])
    complex_ = torch.tensor([1 + 1j, 2j])
    torch.testing.assert_close(adasum([complex_, complex_]), complex_)
    with pytest.raises(ValueError, match="at least one"):
        adasum([])


def replicas(rank: int, world_size: int) -> dict[str, Any]:
    wire = Wire()
    p = [torch.ones(3, dtype=DOUBLE, requires_grad=True) for _ in range(4)]
    used = sum_grads(p, wire, combine="adasum")
    loss = (used[0] * drawn(rank, 3)).sum() + (used[1] * drawn(9 + rank, 3)).sum()
    loss = loss + used[2].sum() if rank else loss
    loss.backward()
    out: dict[str, Any] = {"bridge": [t.grad for t in p], "bytes": wire.stats.num_bytes["data gradients"]}
    grads = {}
    for combine in ("sum", "adasum"):
        plan = ModalityPlan([["a", "b"]], replicas=world_size)
        model = ModalityParallel(toy(), plan, seed=5, combine=combine)
        for passes in (1, 2):  # the second with what the first has left unsummed
            for number in range(passes):
                with model.no_sync() if number + 1 < passes else model.guard():
                    model.loss(None, faults.batch_of(number, "ab"), seed=7 + number).backward()
            grads[combine, passes] = {name: value.grad.clone() for name, value in model.named_parameters()}
            model.zero_grad()
    out["grads"] = grads
    return out


def toy() -> Any:
    torch.manual_seed(3)
    return faults.Toy("ab", SimpleNamespace(here=lambda where: None))


def part_of(number: int, replica: int, count: int) -> dict[str, Tensor]:
    """The gradients of one replica: of its tuples, and its share of the penalties."""
    model, batch = toy(), faults.batch_of(number, "ab")
    out = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    alone = ModalityParallel(model, seed=5)
    size = len(batch) // count
    chosen = slice(replica * size, (replica + 1) * size)
    part = type(batch)(batch.relation, batch.modalities, batch.index[:, chosen], batch.value[chosen])
    penalty = model.penalty
    model.penalty = lambda *arguments: penalty(*arguments) / count
    alone.loss(None, part, seed=7 + number).backward()
    for name, value in alone.named_parameters():
        out[name] += value.grad
    return out


def check(found: list[dict[str, Any]]) -> None:
    count = len(found)
    for entry in found:
        first, second, some, nowhere = entry["bridge"]
        torch.testing.assert_close(first, adasum([drawn(r, 3) for r in range(count)]), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(second, adasum([drawn(9 + r, 3) for r in range(count)]), rtol=1e-12, atol=1e-14)
        assert nowhere is None
        given_ = [torch.ones(3, dtype=DOUBLE) * (r > 0) for r in range(count)]
        torch.testing.assert_close(some, adasum(given_), rtol=1e-12, atol=1e-14)
        assert entry["bytes"] == (count - 1) * (4 * 3 + 4) * 8
        for passes in (1, 2):
            parts = [[part_of(number, replica, count) for replica in range(count)] for number in range(passes)]
            for name, value in entry["grads"]["adasum", passes].items():
                held = [sum(step[replica][name] for step in parts) for replica in range(count)]
                torch.testing.assert_close(value, adasum(held), rtol=1e-11, atol=1e-12)
                summed = entry["grads"]["sum", passes][name]
                torch.testing.assert_close(summed, sum(held), rtol=1e-11, atol=1e-12)
                assert not torch.allclose(summed, value)


def test_two_replicas(ranks: Any) -> None:
    check(ranks.run(replicas, 2))


@pytest.mark.slow
def test_four_replicas(ranks: Any) -> None:
    check(ranks.run(replicas, 4))


def test_unknown_way_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'combine' must be one of \['sum', 'adasum'\] \(got 'adasun'\)"):
        ModalityParallel(toy(), combine="adasun")
