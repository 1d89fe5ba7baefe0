from __future__ import annotations

from math import exp, log, prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyperlearn_pyg.nn import (
    CPDecoder,
    PairwiseDecoder,
    all_cells_squared_error,
    candidate_loss,
    losses,
    masked_squared_error,
    sampled_loss,
)
from hyperlearn_pyg.testing import dense_all_cells, dense_tensor, unfolding_error


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("count", [0, 1, 5])
def test_masked_squared_error(count: int) -> None:
    score, value, weight = randn(count), randn(count, seed=1), randn(count, seed=2).abs()
    expected = sum(float(s - v) ** 2 for s, v in zip(score, value, strict=True)) / max(count, 1)
    assert masked_squared_error(score, value).item() == pytest.approx(expected)
    parts = [float(w * (s - v) ** 2) for s, v, w in zip(score, value, weight, strict=True)]
    loss = masked_squared_error(score, value, weight)
    assert loss.item() == pytest.approx(sum(parts) / max(float(weight.sum()), 1e-300))
    assert masked_squared_error(score, value, torch.zeros(count)).item() == 0


@st.composite
def tensors(draw: st.DrawFn) -> tuple[list[Tensor], Tensor, Tensor]:
    """Factors, distinct tuples and their values."""
    sizes, seed = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)), draw(st.integers(0, 999))
    count = draw(st.integers(0, prod(sizes)))
    flat = torch.randperm(prod(sizes), generator=torch.Generator().manual_seed(seed))[:count]
    rows = []
    for n in reversed(sizes):
        rows.append(flat % n)
        flat = flat // n
    factors = [randn(n, 2, seed=seed + s) for s, n in enumerate(sizes)]
    return factors, torch.stack(rows[::-1]), randn(count, seed=seed)


@given(tensors(), st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=60, deadline=None)
def test_all_cells_is_the_sum_over_the_dense_tensor(problem: tuple[list[Tensor], Tensor, Tensor], w0: float) -> None:
    factors, index, value = problem
    loss = all_cells_squared_error(factors, index, value, unobserved=w0)
    assert torch.allclose(loss, dense_all_cells(factors, index, value, unobserved=w0))
    weight = torch.full_like(value, 0.5)
    halved = all_cells_squared_error(factors, index, value, unobserved=w0, weight=weight)
    at = dense_all_cells(factors, index, value, unobserved=0.0)
    assert torch.allclose(halved, loss - 0.5 * at)


@given(tensors())
@settings(max_examples=30, deadline=None)
def test_all_cells_is_the_error_of_every_unfolding(problem: tuple[list[Tensor], Tensor, Tensor]) -> None:
    factors, index, value = problem
    loss = all_cells_squared_error(factors, index, value, unobserved=1.0)
    if len(factors) > 1:
        dense = dense_tensor(index, value, [f.size(0) for f in factors])
        assert all(torch.allclose(unfolding_error(dense, factors, m), loss) for m in range(len(factors)))


@given(tensors(), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_the_batches_of_all_cells_add_up(problem: tuple[list[Tensor], Tensor, Tensor], batches: int) -> None:
    factors, index, value = problem
    count = max(index.size(1), 1)
    parts = [
        all_cells_squared_error(factors, i, v, unobserved=0.3, share=i.size(1) / count)
        for i, v in zip(index.tensor_split(batches, dim=1), value.tensor_split(batches), strict=True)
    ]
    if index.size(1):
        assert torch.allclose(sum(parts), all_cells_squared_error(factors, index, value, unobserved=0.3))


def naive_sampled(
    decoder: CPDecoder, columns: list[Tensor], index: Tensor, n: int, kind: str, seed: int, weight: list[float]
) -> float:
    """Loop over slots, tuples and candidates."""
    generator = torch.Generator().manual_seed(seed)
    out = 0.0

    def score(items: list[int]) -> float:
        rows = torch.stack([c[i] for c, i in zip(columns, items, strict=True)])
        return float(rows.prod(0).sum() + decoder.offset)

    for slot, column in enumerate(columns):
        candidates = torch.randint(column.size(0), (n,), generator=generator).tolist()
        for items, w in zip(index.t().tolist(), weight, strict=True):
            negatives = [score([*items[:slot], c, *items[slot + 1 :]]) for c in candidates if c != items[slot]]
            positive = score(items)
            if kind == "logistic":
                loss = log(1 + exp(-positive)) + sum(log(1 + exp(s)) for s in negatives) / n
            else:
                loss = -log(exp(positive) / (exp(positive) + sum(map(exp, negatives))))
            out += w * loss / sum(weight)
    return out / len(columns)


@pytest.mark.parametrize("kind", ["logistic", "softmax"])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_sampled_loss_equals_the_loops(kind: str, order: int, weighted: bool) -> None:
    decoder = CPDecoder(order, 2).double()
    decoder.offset.fill_(0.3)
    rows = [randn(n, 3, seed=n) for n in (3, 4, 2, 5)[:order]]
    columns = decoder.all_columns(rows)
    index = torch.stack([torch.arange(5) % c.size(0) for c in columns])
    weight = [1.0, 0.5, 2.0, 0.0, 1.0] if weighted else [1.0] * 5
    loss = sampled_loss(
        decoder,
        rows,
        index,
        num_negatives=7,
        kind=kind,
        generator=torch.Generator().manual_seed(3),
        weight=torch.tensor(weight, dtype=torch.float64) if weighted else None,
    )
    assert loss.item() == pytest.approx(naive_sampled(decoder, columns, index, 7, kind, 3, weight))


@pytest.mark.parametrize("kind", ["logistic", "softmax"])
def test_sampled_loss_where_every_candidate_is_the_truth(kind: str) -> None:
    decoder, rows = CPDecoder(2, 2).double(), [randn(1, 3).requires_grad_() for _ in range(2)]
    loss = sampled_loss(decoder, rows, torch.zeros(2, 1, dtype=torch.long), num_negatives=3, kind=kind)
    assert all(bool(g.isfinite().all()) for g in torch.autograd.grad(loss, rows))


@pytest.mark.parametrize("kind", ["logistic", "softmax"])
def test_sampled_loss_draws_from_the_candidates_alone(kind: str) -> None:
    decoder, index = CPDecoder(2, 2).double(), torch.tensor([[0, 1], [2, 2]])
    rows = [randn(6, 3).requires_grad_(), randn(4, 3).requires_grad_()]
    candidates = [torch.tensor([1, 4]), torch.tensor([2, 3])]
    grads = torch.autograd.grad(
        sampled_loss(decoder, rows, index, num_negatives=50, candidates=candidates, kind=kind), rows
    )
    assert [g.any(1).nonzero().flatten().tolist() for g in grads] == [[0, 1, 4], [2, 3]]
    every = [torch.arange(6), torch.arange(4)]
    losses = [
        sampled_loss(
            decoder,
            rows,
            index,
            num_negatives=5,
            candidates=c,
            kind=kind,
            generator=torch.Generator().manual_seed(0),
        )
        for c in (None, every)
    ]
    assert losses[0].item() == losses[1].item()


@pytest.mark.parametrize("kind", ["logistic", "softmax"])
def test_sampled_loss_of_nothing_is_zero(kind: str) -> None:
    decoder = CPDecoder(2, 2).double()
    rows = [randn(3, 3), randn(2, 3)]
    empty = torch.empty(2, 0, dtype=torch.long)
    assert sampled_loss(decoder, rows, empty, num_negatives=3, kind=kind).item() == 0
    one = torch.zeros(2, 1, dtype=torch.long)
    assert sampled_loss(decoder, rows, one, num_negatives=3, kind=kind, weight=torch.zeros(1)).item() == 0


def test_errors() -> None:
    decoder = CPDecoder(2, 2)
    with pytest.raises(ValueError, match=r"'kind' must be one of \['logistic', 'softmax'\]"):
        sampled_loss(decoder, [], torch.empty(2, 0), num_negatives=1, kind="hinge")
    with pytest.raises(ValueError, match="'num_negatives' must be at least 1"):
        sampled_loss(decoder, [], torch.empty(2, 0), num_negatives=0)


@pytest.mark.parametrize("kind", ["logistic", "softmax"])
@pytest.mark.parametrize("weighted", [False, True])
def test_sampled_loss_in_chunks_is_the_same(kind: str, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    decoder = PairwiseDecoder(3, 4, product=True).double()
    rows = [torch.randn(n, 5, dtype=torch.float64, requires_grad=True) for n in (7, 5, 3)]
    index = torch.stack([torch.randint(n, (10,)) for n in (7, 5, 3)])
    weight = torch.rand(10, dtype=torch.float64) if weighted else None
    results = []
    for chunk in (100, 10, 4, 1):
        monkeypatch.setattr(losses, "_CHUNK", chunk)
        generator = torch.Generator().manual_seed(1)
        loss = sampled_loss(decoder, rows, index, num_negatives=6, kind=kind, generator=generator, weight=weight)
        results.append((loss, *torch.autograd.grad(loss, rows)))
    for other in results[1:]:
        for expected, got in zip(results[0], other, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", ["logistic", "softmax"])
@pytest.mark.parametrize("weighted", [False, True])
def test_candidate_loss_is_the_sampled_loss_for_the_same_draws(kind: str, weighted: bool) -> None:
    decoder, rows = CPDecoder(2, 3, bias=False).double(), [randn(5, 3), randn(4, 3, seed=1)]
    index, weight = torch.tensor([[0, 1, 4], [3, 2, 0]]), randn(3).abs() if weighted else None
    sizes, pools = [5, 4], [torch.tensor([0, 2, 4]), torch.tensor([1, 3])]
    drawn = losses.draw_candidates(sizes, 6, pools=pools, generator=torch.Generator().manual_seed(1))
    assert all(bool(torch.isin(d, p).all()) for d, p in zip(drawn, pools, strict=True))
    mass = 3 if weight is None else weight.sum()
    loss = candidate_loss(decoder, rows, index, drawn, kind=kind, mass=mass, weight=weight)
    generator = torch.Generator().manual_seed(1)
    arguments = {"num_negatives": 6, "candidates": pools, "kind": kind, "generator": generator, "weight": weight}
    assert torch.equal(loss, sampled_loss(decoder, rows, index, **arguments))
    with pytest.raises(ValueError, match="'kind' must be one of"):
        candidate_loss(decoder, rows, index, drawn, kind="hinge", mass=1.0)
