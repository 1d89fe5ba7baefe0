from __future__ import annotations

from itertools import combinations
from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import hyperlearn_pyg.nn.decoder.counts as counts_module
from hyperlearn_pyg.nn import CPDecoder, PairCounts, sampled_loss

SIZES = [3, 2, 4, 2]


def make(order: int, count: int, seed: int) -> tuple[PairCounts, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    index = torch.stack([torch.randint(n, (count,), generator=generator) for n in SIZES[:order]])
    counts = PairCounts(SIZES[:order]).double()
    counts.count(index)
    torch.nn.init.normal_(counts.weight)
    return counts, index


def formula(counts: PairCounts, entries: list[tuple[int, ...]], items: tuple[int, ...]) -> float:
    """Count over a list of entries."""
    out = 0.0
    for weight, (s, t) in zip(counts.weight.tolist(), combinations(range(len(items)), 2), strict=True):
        out += weight * log(1 + sum((e[s], e[t]) == (items[s], items[t]) for e in entries))
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


@given(st.integers(2, 4), st.integers(0, 12), st.integers(0, 99), st.lists(st.integers(0, 1), max_size=5))
@settings(max_examples=30, deadline=None)
def test_spread_on_a_table_or_looked_up_they_are_the_same(
    order: int, count: int, seed: int, candidates: list[int]
) -> None:
    counts, index = make(order, count, seed)
    for slot in range(order):
        found = []
        for worth in (0, 1 << 20):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(counts_module, "_WORTH", worth)
                found.append(counts.slot_scores(index, slot, torch.tensor(candidates, dtype=torch.long)))
        assert torch.equal(*found)
        seed_of = torch.randn_like(found[0])
        assert torch.equal(*(torch.autograd.grad(f, counts.weight, seed_of)[0] for f in found))
    counts.count(index[:, :1])  # counted anew: nothing old is remembered
    assert torch.allclose(
        counts.slot_scores(index, 0, torch.arange(3)),
        torch.stack([counts(torch.stack([torch.full_like(index[0], i), *index[1:]])) for i in range(3)], 1),
    )


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
