from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from hyperlearn_pyg.ops import Incidence, sddmm, spmm
from hyperlearn_pyg.testing import dense_incidence

KINDS = [(transpose, valued) for transpose in (False, True) for valued in (False, True)]


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, tuple[int, int], int, int]:
    rows, cols, width = draw(st.integers(0, 6)), draw(st.integers(0, 6)), draw(st.integers(0, 3))
    count = draw(st.integers(0, 20)) if rows and cols else 0
    seed = draw(st.integers(0, 999))
    generator = torch.Generator().manual_seed(seed)
    index = torch.stack([torch.randint(max(n, 1), (count,), generator=generator) for n in (rows, cols)])
    return index, (rows, cols), width, seed


@given(problems(), st.sampled_from(KINDS))
@settings(max_examples=80, deadline=None)
def test_spmm_is_the_dense_product(problem: tuple[Tensor, tuple[int, int], int, int], kind: tuple[bool, bool]) -> None:
    (index, size, width, seed), (transpose, valued) = problem, kind
    values = randn(index.size(1), seed=seed) if valued else None
    dense = dense_incidence(index, size, values)
    x = randn(size[0] if transpose else size[1], width, seed=seed + 1)
    out = spmm(Incidence(index, size), x, values, transpose=transpose)
    assert torch.allclose(out, (dense.t() if transpose else dense) @ x)


@given(problems())
@settings(max_examples=40, deadline=None)
def test_sddmm_is_the_dense_product_at_the_entries(problem: tuple[Tensor, tuple[int, int], int, int]) -> None:
    index, size, width, seed = problem
    a, b = randn(size[0], width, seed=seed), randn(size[1], width, seed=seed + 1)
    assert torch.allclose(sddmm(Incidence(index, size), a, b), (a @ b.t())[index[0], index[1]])


@given(problems(), st.booleans())
@settings(max_examples=30, deadline=None)
def test_the_transpose_is_the_adjoint(problem: tuple[Tensor, tuple[int, int], int, int], valued: bool) -> None:
    index, size, width, seed = problem
    inc, values = Incidence(index, size), randn(index.size(1), seed=seed) if valued else None
    x, y = randn(size[1], width, seed=seed + 1), randn(size[0], width, seed=seed + 2)
    left, right = (y * spmm(inc, x, values)).sum(), (spmm(inc, y, values, transpose=True) * x).sum()
    assert torch.allclose(left, right)


INDEX = torch.tensor([[0, 1, 1, 3, 1, 0], [0, 0, 2, 2, 2, 1]])  # entry (1, 2) twice, node 2 and hyperedge 3 bare


@pytest.mark.parametrize(("transpose", "valued"), KINDS)
def test_first_and_second_derivative_of_spmm(transpose: bool, valued: bool) -> None:
    inc = Incidence(INDEX, (4, 4))
    x, values = randn(4, 2).requires_grad_(), randn(6, seed=1).requires_grad_()

    def f(x: Tensor, values: Tensor) -> Tensor:
        return spmm(inc, x, values if valued else None, transpose=transpose)

    assert gradcheck(f, (x, values))
    assert gradgradcheck(f, (x, values))


@pytest.mark.parametrize("frozen", [0, 1])
def test_derivative_where_one_input_needs_none(frozen: int) -> None:
    inputs = [randn(4, 2), randn(6, seed=1)]
    inputs[1 - frozen].requires_grad_()
    inc = Incidence(INDEX, (4, 4))
    assert gradcheck(lambda *i: spmm(inc, i[0], i[1]), tuple(inputs))
    assert gradgradcheck(lambda *i: spmm(inc, i[0], i[1]), tuple(inputs))


def test_first_and_second_derivative_of_sddmm() -> None:
    inc = Incidence(INDEX, (4, 4))
    a, b = randn(4, 2).requires_grad_(), randn(4, 2, seed=1).requires_grad_()
    assert gradcheck(lambda a, b: sddmm(inc, a, b), (a, b))
    assert gradgradcheck(lambda a, b: sddmm(inc, a, b), (a, b))


def test_chunks_add_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    inc, a, b = Incidence(INDEX, (4, 4)), randn(4, 2), randn(4, 2, seed=1)
    whole = sddmm(inc, a, b)
    monkeypatch.setitem(sddmm.__globals__, "_CHUNK", 4)
    assert torch.equal(sddmm(inc, a, b), whole)


def test_equal_from_run_to_run() -> None:
    generator = torch.Generator().manual_seed(0)
    inc = Incidence(torch.randint(50, (2, 2000), generator=generator), (50, 50))
    x = torch.randn(50, 8, generator=generator, requires_grad=True)
    values = torch.rand(2000, generator=generator, requires_grad=True)
    runs = [torch.autograd.grad(spmm(inc, x, values).square().sum(), (x, values)) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_strided_input_and_values_of_another_precision() -> None:
    inc, x, values = Incidence(INDEX, (4, 4)), randn(2, 4).t(), torch.rand(6, requires_grad=True)
    out = spmm(inc, x, values)
    assert out.dtype == torch.float64
    assert torch.allclose(out, dense_incidence(INDEX, (4, 4), values) @ x)
    assert torch.autograd.grad(out.sum(), values)[0].dtype == torch.float32


def test_errors() -> None:
    inc = Incidence(INDEX, (4, 5))
    with pytest.raises(ValueError, match=r"'x' must have shape \[5, C\] \(got \[4, 2\]\)"):
        spmm(inc, randn(4, 2))
    with pytest.raises(ValueError, match=r"'x' must have shape \[4, C\] \(got \[4\]\)"):
        spmm(inc, randn(4), transpose=True)
    with pytest.raises(ValueError, match=r"'values' must have shape \[6\]"):
        spmm(inc, randn(5, 2), randn(5))
