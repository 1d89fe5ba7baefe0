from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hyperlearn_pyg.nn.models.inputs import Tuples
from hyperlearn_pyg.nn.models.start import mean_value, start_biases, start_factors
from hyperlearn_pyg.testing import dense_cp


def every_cell(factors: list[Tensor]) -> Tuples:
    tensor = dense_cp(factors)
    return Tuples(torch.cartesian_prod(*map(torch.arange, tensor.shape)).t(), tensor.flatten())


@pytest.mark.parametrize("sizes", [(9, 7), (8, 6, 7), (5, 6, 4, 5)])
@pytest.mark.parametrize("rank", [1, 2])
def test_a_planted_tensor_of_low_rank_is_recovered(sizes: tuple[int, ...], rank: int) -> None:
    generator = torch.Generator().manual_seed(0)
    planted = [torch.randn(n, rank, dtype=torch.float64, generator=generator) for n in sizes]
    planted[0] -= planted[0].mean(0)  # no mean to take away
    tuples = every_cell(planted)
    assert tuples.value is not None
    found = start_factors(tuples, sizes, rank, sweeps=40)
    error = (dense_cp(found).flatten() - tuples.value).norm() / tuples.value.norm()
    assert error < (1e-5 if len(sizes) == 2 else 1e-2)


@pytest.mark.parametrize("gram", [0, 400])
def test_of_a_matrix_it_is_the_best_approximation_after_centring(gram: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(start_factors.__globals__, "_GRAM", gram)
    index = torch.cartesian_prod(torch.arange(6), torch.arange(5)).t()
    value = torch.randn(30, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 3
    left, right = start_factors(Tuples(index, value), (6, 5), 2)
    u, s, v = torch.linalg.svd((value - value.mean()).view(6, 5))
    assert torch.allclose((left @ right.t()).double(), u[:, :2] @ torch.diag(s[:2]) @ v[:2], atol=1e-5)
    assert torch.allclose(left.norm(dim=0), right.norm(dim=0))


@pytest.mark.parametrize("order", [3, 4])
def test_tuples_without_a_common_item_do_not_end_at_zero(order: int) -> None:
    index = torch.arange(12).repeat(order, 1)
    value = torch.linspace(-1, 1, 12)
    factors = start_factors(Tuples(index, value), [12] * order, 3)
    assert all(f.norm(dim=0).min() > 0.1 for f in factors)


def test_columns_are_balanced_over_the_modes() -> None:
    tuples = every_cell([torch.randn(n, 2, dtype=torch.float64) for n in (4, 5, 3)])
    norms = torch.stack([f.norm(dim=0) for f in start_factors(tuples, (4, 5, 3), 2)])
    assert torch.allclose(norms, norms[:1].expand_as(norms), rtol=1e-3)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("value", [None, 0.0, 2.0])
def test_degenerate_relations_give_finite_factors(order: int, count: int, value: float | None) -> None:
    index = torch.arange(count).repeat(order, 1) % 3
    tuples = Tuples(index, None if value is None else torch.full((count,), value))
    factors = start_factors(tuples, [3] * order, 4)
    assert [f.shape for f in factors] == [(3, 4)] * order
    assert all(bool(f.isfinite().all()) for f in factors)


@pytest.mark.parametrize("sizes", [(7, 6), (7, 6, 5)])
def test_the_seed_fixes_the_start(sizes: tuple[int, ...]) -> None:
    tuples = every_cell([torch.arange(n, dtype=torch.float64)[:, None] for n in sizes])
    runs = [start_factors(tuples, sizes, 6, seed=s) for s in (1, 1, 2)]
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(runs[0], runs[2], strict=True))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_biases_are_the_ridge_solution(weighted: bool, order: int) -> None:
    generator = torch.Generator().manual_seed(0)
    sizes, count = [4, 3, 5][:order], 30
    index = torch.stack([torch.randint(n, (count,), generator=generator) for n in sizes])
    index[0].clamp_(max=2)  # item 3 has no entry
    value = torch.randn(count, dtype=torch.float64, generator=generator) + 3
    weight = torch.rand(count, dtype=torch.float64, generator=generator) + 0.1 if weighted else None
    tuples = Tuples(index, value, weight)
    biases = start_biases(tuples, sizes, strength=2.0, sweeps=300)
    design = torch.cat([torch.nn.functional.one_hot(i, n) for i, n in zip(index, sizes, strict=True)], 1).double()
    w = torch.ones(count, dtype=torch.float64) if weight is None else weight
    normal = design.t() @ (w[:, None] * design) + 2.0 * torch.eye(sum(sizes), dtype=torch.float64)
    expected = torch.linalg.solve(normal, design.t() @ (w * (value - mean_value(tuples))))
    assert torch.allclose(torch.cat(biases), expected)
    assert biases[0][-1] == 0


def test_mean_value() -> None:
    index, value = torch.zeros(1, 3, dtype=torch.long), torch.tensor([1.0, 2.0, 6.0])
    assert mean_value(Tuples(index, value)).item() == 3
    assert mean_value(Tuples(index, value, torch.tensor([1.0, 1.0, 0.0]))).item() == 1.5
    assert mean_value(Tuples(index)).item() == 0
    assert mean_value(Tuples(index[:, :0], value[:0])).item() == 0


def test_a_relation_without_values_has_no_biases_to_start_from() -> None:
    assert [b.tolist() for b in start_biases(Tuples(torch.zeros(2, 1, dtype=torch.long)), [2, 1])] == [[0, 0], [0]]
