"""Counts of features against loops over the entries, in float64."""

from __future__ import annotations

from itertools import product
from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyperlearn_pyg import HyperLearn, MultiModalHeteroData
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.nn import CPDecoder, FeatureCounts, PairCounts, candidate_loss

SIZES, WIDTH, BETA = [4, 3, 2], 5, 2.5
Entry = tuple[int, ...]


def make(slot: int, count: int, seed: int) -> tuple[FeatureCounts, Tensor, Tensor]:
    """The term, dense features of its items (an item may have none) and the entries."""
    generator = torch.Generator().manual_seed(seed)
    index = torch.stack([torch.randint(n, (count,), generator=generator) for n in SIZES])
    dense = torch.randint(-2, 4, (SIZES[slot], WIDTH), generator=generator).clamp(min=0).double()
    term = FeatureCounts(SIZES, slot, dense.to_sparse(), smoothing=BETA, pairs=[(0, 2)]).double()
    term.count(index)
    for weight in (term.weight, term.seen, term.feature_weight):
        torch.nn.init.normal_(weight, generator=generator)
    return term, dense, index


def formula(term: FeatureCounts, dense: Tensor, every: list[Entry], kept: list[Entry], items: Entry) -> float:
    """The term of one tuple: shares are those of all entries, sums those of the entries kept."""
    found = sum((e[0], e[2]) == (items[0], items[2]) for e in kept)
    out = term.weight[0].item() * log(1 + found) + term.seen[0].item() * (found > 0)
    total = sum((dense[e[term.slot]] for e in every), torch.zeros(WIDTH, dtype=torch.float64))
    for u, target in zip(term.feature_weight.tolist(), term.targets, strict=True):
        mine = [dense[e[term.slot]] for e in kept if e[target] == items[target]]
        sums = sum(mine, torch.zeros(WIDTH, dtype=torch.float64))
        for f in range(WIDTH):
            if total[f] > 0:
                share = float(total[f] / total.sum())
                ratio = (float(sums[f]) + BETA * share) / (share * (float(sums[total > 0].sum()) + BETA))
                out += u * float(dense[items[term.slot], f]) * log(ratio)
    return out


@given(st.integers(0, 2), st.integers(0, 7), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_they_are_the_likelihoods_of_the_entries(slot: int, count: int, seed: int) -> None:
    term, dense, index = make(slot, count, seed)
    every = [tuple(e) for e in index.t().tolist()]
    others = [every[:i] + every[i + 1 :] for i in range(count)]
    assert term(index).tolist() == pytest.approx([formula(term, dense, every, every, e) for e in every])
    left = [formula(term, dense, every, o, e) for o, e in zip(others, every, strict=True)]
    assert term(index, leave_out=True).tolist() == pytest.approx(left)
    candidates = torch.randint(SIZES[1], (2,))
    for filled, asked in ((0, None), (1, None), (2, None), (1, candidates)):
        asked = torch.arange(SIZES[filled]) if asked is None else asked
        found = term.slot_scores(index, filled, asked)
        assert found.shape == (count, len(asked))
        for b, entry in enumerate(every):
            rows = [
                formula(term, dense, every, every, (*entry[:filled], c, *entry[filled + 1 :])) for c in asked.tolist()
            ]
            assert found[b].tolist() == pytest.approx(rows)


@given(st.integers(0, 2), st.integers(1, 7), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_an_entry_left_out_is_in_no_candidate_of_another_item(slot: int, count: int, seed: int) -> None:
    """A candidate's sums hold other entries alone; so do those of the slots that stay."""
    term, dense, index = make(slot, count, seed)
    every = [tuple(e) for e in index.t().tolist()]
    for filled in {0, 1, 2} - {slot}:
        found = term.slot_scores(index, filled, torch.arange(SIZES[filled]), leave_out=True)
        for b, entry in enumerate(every):
            others = every[:b] + every[b + 1 :]
            for item in set(range(SIZES[filled])) - {entry[filled]}:
                replaced = (*entry[:filled], item, *entry[filled + 1 :])
                assert found[b, item].item() == pytest.approx(formula(term, dense, every, others, replaced))


@given(st.integers(0, 2), st.integers(0, 6), st.sets(st.integers(0, 2)), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_of_a_slot_that_is_not_told_the_mean_over_its_items_counts(
    slot: int, count: int, unknown: set[int], seed: int
) -> None:
    term, dense, index = make(slot, count, seed)
    every = [tuple(e) for e in index.t().tolist()]
    asked = torch.cat([index, torch.zeros(3, 1, dtype=torch.long)], dim=1)

    def mean(items: Entry) -> float:
        cells = list(product(*(range(SIZES[s]) if s in unknown else [i] for s, i in enumerate(items))))
        return sum(formula(term, dense, every, every, cell) for cell in cells) / len(cells)

    assert term(asked, unknown=unknown).tolist() == pytest.approx([mean(tuple(e)) for e in asked.t().tolist()])
    for filled in {0, 1, 2} - unknown:
        found = term.slot_scores(asked, filled, torch.arange(SIZES[filled]), unknown=unknown)
        for b, entry in enumerate(asked.t().tolist()):
            rows = [mean((*entry[:filled], c, *entry[filled + 1 :])) for c in range(SIZES[filled])]
            assert found[b].tolist() == pytest.approx(rows)


def test_a_state_brings_its_own_sums() -> None:
    term, dense, index = make(0, 6, 1)
    other = FeatureCounts(SIZES, 0, dense.to_sparse(), smoothing=BETA, pairs=[(0, 2)]).double()
    other.load_state_dict(term.state_dict())
    assert torch.equal(other(index), term(index))
    other.reset_parameters()
    assert not other(index).any()


def test_weights_learn_that_features_tell_the_item() -> None:
    index = torch.arange(12) % 3
    index = torch.stack([torch.arange(12), index])
    features = torch.nn.functional.one_hot(index[1]).float().to_sparse()
    decoder = CPDecoder(2, 1)
    decoder.counts = FeatureCounts((12, 3), 0, features, pairs=[])
    decoder.counts.count(index)
    rows = [torch.zeros(12, 2), torch.zeros(3, 2)]
    every = [torch.arange(12), torch.arange(3)]
    loss = candidate_loss(decoder, rows, index, every, kind="softmax", mass=12.0, slots=[1])
    (slope,) = torch.autograd.grad(loss, [decoder.counts.feature_weight])
    assert slope.item() < 0


@pytest.mark.parametrize("kind", ["logistic", "softmax"])
def test_the_losses_of_parts_that_hold_their_own_rows_add_up(kind: str) -> None:
    """As over ranks: each part has the rows that it names, and the numbers of their items."""
    term, _, index = make(0, 7, 3)
    decoder = CPDecoder(3, 2).double()
    decoder.counts = term
    rows = [torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) for n in SIZES]
    every = [torch.arange(n) for n in SIZES]
    whole = candidate_loss(decoder, rows, index, every, kind=kind, mass=7.0, slots=[1, 2])
    expected = torch.autograd.grad(whole, [term.feature_weight, term.weight])
    total, found = 0.0, [torch.zeros_like(g) for g in expected]
    for part in (slice(0, 3), slice(3, 3), slice(3, 7)):
        own = [*(row[i] for row, i in zip(rows[:1], index[:1, part], strict=True)), *rows[1:]]
        local = torch.cat([torch.arange(index[:, part].size(1))[None], index[1:, part]])
        options = {"items": index[:, part], "candidate_items": every, "slots": [1, 2], "mass": 7.0}
        loss = candidate_loss(decoder, own, local, every, kind=kind, **options)
        grads = torch.autograd.grad(loss, [term.feature_weight, term.weight])
        total, found = total + loss.item(), [a + b for a, b in zip(found, grads, strict=True)]
    assert total == pytest.approx(whole.item())
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_what_does_not_fit_is_named() -> None:
    table = torch.ones(4, 2).to_sparse()
    with pytest.raises(ValueError, match="'features' must have shape"):
        FeatureCounts(SIZES, 1, table)
    with pytest.raises(ValueError, match="must be different slots"):
        FeatureCounts(SIZES, 0, table, targets=[0])
    with pytest.raises(ValueError, match="must be different slots"):
        FeatureCounts(SIZES, 3, table)
    with pytest.raises(ValueError, match="'smoothing' must be above 0"):
        FeatureCounts(SIZES, 0, table, smoothing=0.0)
    with pytest.raises(ValueError, match="'pairs' must be of"):
        PairCounts(SIZES, [(1, 0)])


def test_a_model_takes_a_count_term_of_its_own() -> None:
    data = MultiModalHeteroData().add_modality("work", num_nodes=4).add_modality("artist", num_nodes=3)
    index = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 0]])
    data.add_hyperedges("made", index, modalities=["work", "artist"])
    term = FeatureCounts((4, 3), 0, torch.ones(4, 2).to_sparse())
    model = HyperLearn.from_data(data, 2, "links", counts={"made": term})
    assert model.decoders["made"].counts is term
    assert term.shares.tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match="no 0/1 relation"):
        HyperLearn.from_data(data, 2, "links", counts={"mad": term})
    with pytest.raises(ValueError, match="must be of sizes"):
        HyperLearn.from_data(data, 2, "links", counts={"made": PairCounts((4, 2))})
    with pytest.raises(InputError, match="no norm over all cells"):
        HyperLearn.from_data(data, 2, "links", counts={"made": term}, link_loss="all_cells")
