from __future__ import annotations

import pytest
import torch

from hyperlearn_pyg.nn import CPDecoder, KruskalDecoder, PairwiseDecoder


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


@pytest.mark.parametrize("order", [2, 3, 5])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("product", [True, False])
@pytest.mark.parametrize("count", [0, 1, 6])
def test_candidates_of_a_slot_are_scored_as_their_columns_say(
    order: int, bias: bool, product: bool, count: int
) -> None:
    decoder = PairwiseDecoder(order, 3, bias=bias, product=product).double()
    rows = [torch.randn(n + 1, 3 + bias, dtype=torch.float64, requires_grad=True) for n in range(order)]
    columns, terms = decoder.all_columns(rows), decoder.all_terms(rows)
    index = [torch.randint(len(c), (count,)) for c in columns]
    wide, own = ([t[i] for t, i in zip(all_of, index, strict=True)] for all_of in (columns, terms))
    pairs = [(decoder.joint(own), KruskalDecoder.joint(decoder, wide))]
    for slot in range(order):
        assert torch.equal(decoder.terms_of(slot, columns[slot]), terms[slot])
        found = decoder.against(own, slot, terms[slot])
        pairs.append((found, KruskalDecoder.against(decoder, wide, slot, columns[slot])))
    for found, expected in pairs:
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        weight = torch.randn_like(found)
        grads = [
            torch.autograd.grad(out, rows, weight, retain_graph=True, allow_unused=True) for out in (found, expected)
        ]
        for mine, theirs in zip(*grads, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_one_slot_has_no_pair() -> None:
    with pytest.raises(ValueError, match="at least 2 for a sum over pairs"):
        PairwiseDecoder(1, 2)
