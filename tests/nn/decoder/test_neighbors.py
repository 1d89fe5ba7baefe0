from __future__ import annotations

from itertools import product
from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyperlearn_pyg import HyperLearn, MultiModalHeteroData
from hyperlearn_pyg.nn import CommonNeighbors, CPDecoder, PairCounts, candidate_loss

SIZE = 6
PAIRS = st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(0, SIZE - 1)), max_size=12)


def make(pairs: list[tuple[int, int]]) -> tuple[CommonNeighbors, Tensor]:
    index = torch.tensor(pairs, dtype=torch.long).view(-1, 2).t()
    common = CommonNeighbors(SIZE).double()
    common.count(index)
    generator = torch.Generator().manual_seed(len(pairs))
    for weight in (common.weight, common.seen):
        torch.nn.init.normal_(weight, generator=generator)
    return common, index


def formula(common: CommonNeighbors, pairs: list[tuple[int, int]], one: int, two: int) -> float:
    """Sum over the common neighbours in the graph of some pairs."""
    near = {i: {a + b - i for a, b in pairs if i in (a, b) and a != b} for i in range(SIZE)}
    between = set() if one == two else near[one] & near[two]
    amount = sum(1 / log(len(near[z])) for z in between)
    return 10 * (common.weight.item() * log(1 + amount) + common.seen.item() * bool(between))


@given(PAIRS)
@settings(max_examples=40, deadline=None)
def test_it_is_the_sum_over_common_neighbors(pairs: list[tuple[int, int]]) -> None:
    common, index = make(pairs)
    every = torch.tensor(list(product(range(SIZE), repeat=2))).t()
    wanted = [formula(common, pairs, u, v) for u, v in every.t().tolist()]
    assert common(every).tolist() == pytest.approx(wanted)
    candidates = torch.tensor([3, 0, 5, 3, 1])
    for slot, found in ((s, common.slot_scores(index, s, candidates)) for s in (0, 1)):
        assert found.shape == (len(pairs), 5)
        rows = [[formula(common, pairs, pair[1 - slot], c) for c in candidates.tolist()] for pair in pairs]
        assert torch.allclose(found, torch.tensor(rows, dtype=torch.float64).view_as(found))


@given(PAIRS)
@settings(max_examples=40, deadline=None)
def test_the_pair_that_is_scored_is_left_out_of_the_graph(pairs: list[tuple[int, int]]) -> None:
    common, index = make(pairs)
    alone = [[p for p in pairs if set(p) != set(own)] for own in pairs]  # in either order, however often
    wanted = [formula(common, rest, *own) for own, rest in zip(pairs, alone, strict=True)]
    assert common(index, leave_out=True).tolist() == pytest.approx(wanted)
    for slot in (0, 1):
        found = common.slot_scores(index, slot, torch.arange(SIZE), leave_out=True)
        for row, own, rest in zip(found.tolist(), pairs, alone, strict=True):
            for candidate, term in enumerate(row):
                if candidate != own[slot]:
                    assert term == pytest.approx(formula(common, rest, own[1 - slot], candidate))


@given(PAIRS, st.sets(st.integers(0, 1), min_size=1))
@settings(max_examples=25, deadline=None)
def test_of_a_slot_that_is_not_told_the_mean_over_its_items_counts(
    pairs: list[tuple[int, int]], unknown: set[int]
) -> None:
    common, _ = make(pairs)
    asked = torch.tensor([[0, 2, 5], [1, 2, 0]])

    def mean(pair: list[int], hidden: set[int]) -> float:
        cells = list(product(*(range(SIZE) if s in hidden else [i] for s, i in enumerate(pair))))
        return sum(formula(common, pairs, u, v) for u, v in cells) / len(cells)

    assert common(asked, unknown=unknown).tolist() == pytest.approx([mean(p, unknown) for p in asked.t().tolist()])
    for slot in {0, 1} - unknown:
        found = common.slot_scores(asked, slot, torch.tensor([4, 1]), unknown=unknown)
        row = [mean([c, c], unknown) for c in (4, 1)]
        assert torch.allclose(found, torch.tensor([row] * 3, dtype=torch.float64))


@pytest.mark.parametrize("size", [0, 1])
def test_of_no_and_of_one_item_there_is_nothing_in_common(size: int) -> None:
    common, none = CommonNeighbors(size), torch.zeros(2, size, dtype=torch.long)
    torch.nn.init.ones_(common.weight)
    common.count(none)
    assert common(none).tolist() == [0.0] * size
    assert common.slot_scores(none, 0, torch.arange(size), leave_out=True).shape == (size, size)
    assert common(none, unknown=(1,)).tolist() == [0.0] * size


def test_rounding_leaves_nothing_in_common() -> None:
    """In single precision, taking an item out of many common ones must not leave a trace of it."""
    count = 1000
    star = torch.stack([torch.zeros(count - 1, dtype=torch.long), torch.arange(1, count)])
    common = CommonNeighbors(count)
    common.count(star)
    torch.nn.init.ones_(common.seen)
    found = common.slot_scores(star, 1, torch.arange(count), leave_out=True)
    assert found.abs().max() == 0  # a leaf knows nobody but the centre, nor does the centre know anyone by a leaf
    assert common(star[:, :1]).item() == 0
    assert common(torch.tensor([[1], [2]])).item() == 10


@pytest.mark.parametrize("kind", ["logistic", "softmax"])
def test_the_loss_is_that_of_the_factors_and_that_of_the_term(kind: str) -> None:
    common, index = make([(0, 1), (1, 2), (2, 3), (0, 2), (4, 5)])
    decoder = CPDecoder(2, 3).double()
    rows = [torch.randn(SIZE, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    candidates = [torch.tensor([0, 3, 5]), torch.tensor([2, 4])]
    options = {"candidates": candidates, "kind": kind, "mass": 5.0}
    plain = candidate_loss(decoder, rows, index, candidates, kind=kind, mass=5.0)
    wanted = torch.autograd.grad(plain, rows)
    decoder.counts = common
    found = candidate_loss(decoder, rows, index, **options)
    alone = candidate_loss(decoder, [torch.zeros_like(row) for row in rows], index, **options)
    decoder.counts = None
    nothing = candidate_loss(decoder, [torch.zeros_like(row) for row in rows], index, **options)
    assert found.item() == pytest.approx((plain + alone - nothing).item())
    for one, other in zip(torch.autograd.grad(found, rows), wanted, strict=True):
        assert torch.equal(one, other)


def test_a_loss_does_not_see_a_target_in_the_graph() -> None:
    """Of a path 0-1-2, the pair (0, 1) left out, 2 has nothing in common with 0: the weight does not matter."""
    index = torch.tensor([[0, 1], [1, 2]])
    decoder, rows = CPDecoder(2, 3).double(), [torch.randn(3, 4, dtype=torch.float64) for _ in range(2)]
    decoder.counts = CommonNeighbors(3).double()
    decoder.counts.count(index)
    losses = []
    for weight in (0.0, 1.0):
        torch.nn.init.constant_(decoder.counts.weight, weight)
        losses.append(candidate_loss(decoder, rows, index[:, :1], [torch.arange(3)] * 2, kind="logistic", mass=1.0))
    assert losses[0].item() == losses[1].item()
    assert decoder(rows, torch.tensor([[0], [2]])).item() > decoder.score_rows([rows[0][:1], rows[1][2:]]).item()


def social() -> MultiModalHeteroData:
    data = MultiModalHeteroData()
    data.add_modality("user", num_nodes=5)
    data.add_modality("venue", num_nodes=3)
    friends = torch.tensor([[0, 0, 1, 2, 3], [1, 2, 2, 3, 4]])
    data.add_hyperedges("friends", friends, modalities=(("user", "one"), ("user", "other")))
    visits = torch.tensor([[0, 1, 2, 4], [0, 1, 2, 2]])
    return data.add_hyperedges("visits", visits, modalities=("user", "venue"))


def test_a_model_counts_common_neighbors_where_a_relation_ties_a_modality_to_itself() -> None:
    torch.manual_seed(0)
    model = HyperLearn.from_data(social(), 2, "links", common_neighbors=True, pair_counts=True)
    assert isinstance(model.decoders["friends"].counts, CommonNeighbors)
    assert isinstance(model.decoders["visits"].counts, PairCounts)
    assert HyperLearn.from_data(social(), 2, "links").decoders["friends"].counts is None
    plain = model.predict(social(), "friends", torch.tensor([[0], [3]]))
    torch.nn.init.constant_(model.decoders["friends"].counts.weight, 0.2)
    found = model.predict(social(), "friends", torch.tensor([[0], [3]]))
    assert (found - plain).item() == pytest.approx(2 * log(1 + 1 / log(3)))


def test_the_weights_are_learnt_and_saved_with_the_graph() -> None:
    torch.manual_seed(0)
    data = social()
    model = HyperLearn.from_data(data, 2, "links", common_neighbors=True)
    model.loss(model.prepare(data), generator=torch.Generator().manual_seed(0)).backward()
    common = model.decoders["friends"].counts
    assert common.weight.grad.abs() > 0
    torch.nn.init.ones_(common.weight)
    other = CommonNeighbors(5)
    other.load_state_dict(common.state_dict())
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5)).t()
    assert torch.equal(other(pairs), common(pairs))
    other.reset_parameters()
    assert other(pairs).abs().max() == 0
