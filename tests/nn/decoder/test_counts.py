from __future__ import annotations

from itertools import combinations, product
from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyperlearn_pyg.nn import CPDecoder, PairCounts, sampled_loss

SIZES = [3, 2, 4, 2]


def make(order: int, count: int, seed: int) -> tuple[PairCounts, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    index = torch.stack([torch.randint(n, (count,), generator=generator) for n in SIZES[:order]])
    counts = PairCounts(SIZES[:order]).double()
    counts.count(index)
    for weight in (counts.weight, counts.seen):
        torch.nn.init.normal_(weight, generator=generator)
    return counts, index


def formula(counts: PairCounts, entries: list[tuple[int, ...]], items: tuple[int, ...]) -> float:
    """Count over a list of entries."""
    out = 0.0
    pairs = combinations(range(len(items)), 2)
    for weight, seen, (s, t) in zip(counts.weight.tolist(), counts.seen.tolist(), pairs, strict=True):
        found = sum((e[s], e[t]) == (items[s], items[t]) for e in entries)
        out += weight * log(1 + found) + seen * (found > 0)
    return out


@given(st.integers(1, 4), st.integers(0, 8), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_they_are_the_counts_of_the_entries(order: int, count: int, seed: int) -> None:
    counts, index = make(order, count, seed)
    entries = [tuple(e) for e in index.t().tolist()]
    others = [entries[:i] + entries[i + 1 :] for i in range(count)]
    every = [formula(counts, entries, e) for e in entries]
    left = [formula(counts, o, e) for o, e in zip(others, entries, strict=True)]
    assert torch.allclose(counts(index), torch.tensor(every, dtype=torch.float64))
    assert torch.allclose(counts(index, leave_out=True), torch.tensor(left, dtype=torch.float64))
    for slot in range(order):
        candidates = torch.arange(SIZES[slot])
        for leave_out in (False, True):
            found = counts.slot_scores(index, slot, candidates, leave_out=leave_out)
            assert found.shape == (count, SIZES[slot])
            for b, entry in enumerate(entries):
                for item in range(SIZES[slot]):
                    if leave_out and item == entry[slot]:
                        continue
                    replaced = (*entry[:slot], item, *entry[slot + 1 :])
                    wanted = formula(counts, others[b] if leave_out else entries, replaced)
                    assert found[b, item].item() == pytest.approx(wanted)


@given(st.integers(2, 4), st.integers(0, 8), st.data())
@settings(max_examples=40, deadline=None)
def test_of_a_slot_that_is_not_told_the_mean_over_its_items_counts(order: int, count: int, draw: st.DataObject) -> None:
    counts, index = make(order, count, draw.draw(st.integers(0, 99)))
    entries = [tuple(e) for e in index.t().tolist()]
    unknown = draw.draw(st.sets(st.integers(0, order - 1)))
    asked = torch.cat([index, torch.zeros(order, 1, dtype=torch.long)], dim=1)

    def mean(items: tuple[int, ...]) -> float:
        cells = list(product(*(range(SIZES[s]) if s in unknown else [i] for s, i in enumerate(items))))
        return sum(formula(counts, entries, cell) for cell in cells) / len(cells)

    wanted = [mean(tuple(e)) for e in asked.t().tolist()]
    assert counts(asked, unknown=unknown).tolist() == pytest.approx(wanted)
    for slot in set(range(order)) - unknown:
        candidates = torch.randint(SIZES[slot], (3,))
        found = counts.slot_scores(asked, slot, candidates, unknown=unknown)
        for b, entry in enumerate(asked.t().tolist()):
            rows = [mean((*entry[:slot], item, *entry[slot + 1 :])) for item in candidates.tolist()]
            assert found[b].tolist() == pytest.approx(rows)


def test_their_weights_have_the_gradients_of_the_definition() -> None:
    counts, index = make(3, 6, 1)
    counts.slot_scores(index, 1, torch.tensor([1, 0, 1]), leave_out=True).square().sum().backward()
    gradient = [counts.weight.grad, counts.seen.grad]
    counts.zero_grad()
    cells = [[(*e[:1], item, *e[2:]) for item in (1, 0, 1)] for e in index.t().tolist()]
    total = torch.zeros((), dtype=torch.float64)
    for b, row in enumerate(cells):
        left = index[:, b : b + 1]
        for cell in row:
            at = torch.tensor(cell)[:, None]
            term = counts._look_up(0, at[0], at[1], False) + counts._look_up(2, at[1], at[2], False)
            total = total + (term + counts._look_up(1, left[0], left[2], True)).square().sum()
    total.backward()
    assert torch.allclose(gradient[0], counts.weight.grad)
    assert torch.allclose(gradient[1], counts.seen.grad)


def test_a_decoder_adds_them_where_items_are_known() -> None:
    counts, index = make(3, 6, 1)
    decoder = CPDecoder(3, 2).double()
    rows = [torch.randn(n, 3, dtype=torch.float64) for n in SIZES[:3]]
    plain, columns = decoder(rows, index), decoder.all_columns(rows)
    slot = decoder.slot_scores(columns, index, 1, None)
    norm = decoder.norm(columns)
    decoder.counts = counts
    assert torch.allclose(decoder(rows, index), plain + counts(index))
    part = [row[i] for row, i in zip(rows, index, strict=True)]
    at = torch.arange(6).expand(3, -1)
    assert torch.allclose(decoder(part, at, index), decoder(rows, index))
    expected = slot + counts.slot_scores(index, 1, torch.arange(2))
    assert torch.allclose(decoder.slot_scores(columns, index, 1, None), expected)
    assert torch.equal(decoder.norm(columns), norm)


@pytest.mark.parametrize("kind", ["logistic", "softmax"])
def test_a_loss_does_not_see_a_target_in_its_own_counts(kind: str) -> None:
    """Entries that share no pair: left out of their own counts, they have none."""
    index = torch.tensor([[0, 1, 2], [0, 1, 1], [0, 1, 2]])[:, :2]
    decoder, rows = CPDecoder(3, 2).double(), [torch.randn(n, 3, dtype=torch.float64) for n in SIZES[:3]]
    losses = []
    for counted in (False, True):
        if counted:
            decoder.counts = PairCounts(SIZES[:3]).double()
            decoder.counts.count(index)
            torch.nn.init.ones_(decoder.counts.weight)
            torch.nn.init.ones_(decoder.counts.seen)
        own = [row[:1] for row in index]  # the candidates: items of the first entry
        options = {"num_negatives": 3, "candidates": own, "kind": kind}
        losses.append(sampled_loss(decoder, rows, index[:, :1], **options).item())
    assert losses[0] == losses[1]


def test_a_saved_model_brings_its_counts() -> None:
    counts, index = make(3, 6, 1)
    other = PairCounts(SIZES[:3]).double()
    other.load_state_dict(counts.state_dict())
    assert torch.equal(other(index), counts(index))
    other.reset_parameters()
    assert other(index).abs().max() == 0
