from __future__ import annotations

import pytest
import torch

from hyperlearn_pyg.nn import CPDecoder, PairwiseDecoder


@pytest.mark.parametrize("order", [2, 3, 4])
def test_equals_the_factorisation_machine(order: int) -> None:
    """Rendle's form: half of the square of the sum less the sum of the squares."""
    rows = [torch.randn(3, 2, dtype=torch.float64) for _ in range(order)]
    index = torch.randint(3, (order, 8))
    picked = torch.stack([row[i] for row, i in zip(rows, index, strict=True)])
    expected = 0.5 * (picked.sum(0).square() - picked.square().sum(0)).sum(1)
    assert torch.allclose(PairwiseDecoder(order, 2, bias=False).double()(rows, index), expected)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_the_product_adds_the_cp_model_from_three_slots_on(order: int) -> None:
    rows = [torch.randn(3, 3, dtype=torch.float64) for _ in range(order)]
    index = torch.randint(3, (order, 8))
    expected = PairwiseDecoder(order, 2).double()(rows, index)
    if order > 2:
        expected = expected + CPDecoder(order, 2, bias=False).double()([row[:, :2] for row in rows], index)
    assert torch.allclose(PairwiseDecoder(order, 2, product=True).double()(rows, index), expected)


def test_one_slot_has_no_pair() -> None:
    with pytest.raises(ValueError, match="at least 2 for a sum over pairs"):
        PairwiseDecoder(1, 2)
