from __future__ import annotations

import torch

from hyperlearn_pyg.experiments import als
from hyperlearn_pyg.experiments.als import alternate


def test_factors_of_the_last_half_sweep_solve_their_ridge_problems():
    generator = torch.Generator().manual_seed(0)
    cells = torch.randperm(12, generator=generator)[:7]
    index = torch.stack([cells // 4, cells % 4])
    value = torch.randn(7, generator=generator)
    left, right = alternate(index, value, (3, 4), rank=2, ridge=0.5, every_cell=0.1, sweeps=3)
    for item in range(4):
        mine = index[1] == item
        rows = left[index[0, mine]]
        gram = rows.T @ rows + 0.1 * left.T @ left + 0.5 * torch.eye(2)
        torch.testing.assert_close(right[item], torch.linalg.solve(gram, rows.T @ value[mine]))


def test_items_without_an_entry_are_zero():
    left, right = alternate(torch.tensor([[0], [1]]), torch.ones(1), (2, 2), rank=1, ridge=1.0)
    assert float(left[1].abs()) == float(right[0].abs()) == 0.0


def test_how_many_items_are_solved_together_makes_no_difference(monkeypatch):
    generator = torch.Generator().manual_seed(1)
    index = torch.stack([torch.randint(n, (40,), generator=generator).square() % n for n in (9, 7)])
    value = torch.randn(40, generator=generator)
    found = []
    for cells in (1, 10, 1000):
        monkeypatch.setattr(als, "_CELLS", cells)
        found.append(alternate(index, value, (9, 7), rank=2, ridge=1.0, every_cell=0.1, sweeps=2))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            torch.testing.assert_close(one, two)
