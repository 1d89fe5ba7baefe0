from __future__ import annotations

from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from hyperlearn_pyg.ops import cp_score, gram_norm
from hyperlearn_pyg.ops.kruskal import hadamard_gram, mttkrp
from hyperlearn_pyg.testing import dense_cp, dense_tensor, khatri_rao, unfold


def make(sizes: list[int], rank: int, count: int, seed: int = 0) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    factors = [torch.randn(n, rank, dtype=torch.float64, generator=generator) for n in sizes]
    count = count if prod(sizes) else 0
    return factors, torch.stack([torch.randint(max(n, 1), (count,), generator=generator) for n in sizes])


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Tensor], Tensor]:
    sizes = draw(st.lists(st.integers(0, 5), min_size=1, max_size=4))
    return make(sizes, draw(st.integers(0, 3)), draw(st.integers(0, 25)), draw(st.integers(0, 999)))


@given(problems(), st.sampled_from([4, 16384]), st.sampled_from([0, 1 << 24]))
@settings(max_examples=80, deadline=None)
def test_score_and_gradients_are_those_of_the_dense_tensor(
    problem: tuple[list[Tensor], Tensor], chunk: int, kept: int
) -> None:
    factors, index = problem
    factors = [f.requires_grad_() for f in factors]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(cp_score.__globals__, "_CHUNK", chunk)
        patch.setitem(cp_score.__globals__, "_KEPT", kept)
        score, dense = cp_score(factors, index), dense_cp(factors)[tuple(index)]
        weight = torch.linspace(-1, 2, index.size(1), dtype=torch.float64)
        ours = torch.autograd.grad(score, factors, weight)
        theirs = torch.autograd.grad(dense, factors, weight)
    assert torch.allclose(score, dense)
    assert all(torch.allclose(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_first_and_second_derivative(order: int) -> None:
    factors, index = make([3, 4, 2, 3][:order], 2, 6)
    inputs = tuple(f.requires_grad_() for f in factors)
    assert gradcheck(lambda *f: cp_score(f, index), inputs)
    assert gradgradcheck(lambda *f: cp_score(f, index), inputs)


@pytest.mark.parametrize("order", [2, 3])
def test_derivatives_where_slots_share_or_depend_on_one_tensor(order: int) -> None:
    (factor,), _ = make([4], 2, 0)
    index = make([4] * order, 2, 6)[1]
    factor.requires_grad_()
    for slots in (lambda f: [f] * order, lambda f: [f, *(f.square() + s for s in range(1, order))]):
        assert gradcheck(lambda f, s=slots: cp_score(s(f), index), (factor,))
        assert gradgradcheck(lambda f, s=slots: cp_score(s(f), index), (factor,))


def test_derivative_where_a_factor_needs_none() -> None:
    factors, index = make([3, 4, 2], 2, 6)
    factors[1].requires_grad_()
    assert gradcheck(lambda f: cp_score([factors[0], f, factors[2]], index), (factors[1],))
    assert gradgradcheck(lambda f: cp_score([factors[0], f, factors[2]], index), (factors[1],))


def test_equal_from_run_to_run() -> None:
    factors, index = make([40, 30, 20], 8, 5000)
    inputs = [f.float().requires_grad_() for f in factors]
    runs = [torch.autograd.grad(cp_score(inputs, index).square().sum(), inputs) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_the_sorted_order_is_that_of_the_present_index() -> None:
    (a, b), index = make([4, 3], 2, 9)
    for _ in range(2):
        (grad,) = torch.autograd.grad(cp_score([a.requires_grad_(), b], index).sum(), a)
        assert torch.allclose(grad, torch.zeros_like(a).index_add(0, index[0], b[index[1]]))
        index[0] = index[0].flip(0)


@given(problems())
@settings(max_examples=40, deadline=None)
def test_gram_identity(problem: tuple[list[Tensor], Tensor]) -> None:
    factors, _ = problem
    assert torch.allclose(gram_norm(factors), dense_cp(factors).square().sum())
    kr = khatri_rao(factors)
    assert torch.allclose(hadamard_gram(factors), kr.t() @ kr)


@given(problems(), st.data())
@settings(max_examples=40, deadline=None)
def test_mttkrp_is_the_unfolding_times_khatri_rao(problem: tuple[list[Tensor], Tensor], data: st.DataObject) -> None:
    factors, index = problem
    mode = data.draw(st.integers(0, len(factors) - 1))
    value = torch.linspace(-1, 1, index.size(1), dtype=torch.float64)
    tensor = dense_tensor(index, value, [f.size(0) for f in factors])
    others = [f for m, f in enumerate(factors) if m != mode]
    omega = khatri_rao(others) if others else torch.ones(1, factors[0].size(1), dtype=torch.float64)
    assert torch.allclose(mttkrp(factors, index, mode, value), unfold(tensor, mode) @ omega)


def test_errors() -> None:
    factors, index = make([3, 4], 2, 5)
    with pytest.raises(ValueError, match=r"shape \[2, E\].*got \[3, 5\]"):
        cp_score(factors, index[[0, 1, 1]])
    with pytest.raises(ValueError, match="float64"):
        cp_score(factors, index.double())
    with pytest.raises(ValueError, match=r"one rank \(got \[\[3, 2\], \[4, 1\]\]\)"):
        cp_score([factors[0], factors[1][:, :1]], index)
    with pytest.raises(ValueError, match="matrices"):
        cp_score([factors[0][0], factors[1][0]], index)
    for bad in (-1, 4):
        wrong = index.clone()
        wrong[1, 2] = bad
        with pytest.raises(IndexError, match=rf"row 1 holds {bad}, outside \[0, 4\)"):
            cp_score(factors, wrong)
