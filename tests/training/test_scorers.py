from __future__ import annotations

from itertools import combinations
from math import log, log1p

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlearn_pyg import MultiModalHeteroData
from hyperlearn_pyg.nn import PairCounts
from hyperlearn_pyg.training.scorers import (
    CountScorer,
    ModelScorer,
    NaiveBayesScorer,
    PairScorer,
    SlotScorer,
    TupleScorer,
)

from .dense import dense_scores, make_factors, make_model, problems, tuples_of


def every_tuple(sizes: tuple[int, ...]) -> torch.Tensor:
    return torch.cartesian_prod(*map(torch.arange, sizes)).view(-1, len(sizes)).t()


@given(problems(), st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_model_equals_the_dense_scores(problem: tuple[MultiModalHeteroData, int], told: bool) -> None:
    data, seed = problem
    relation = data.relation("r")
    factors = {name: 12 * table.double() for name, table in make_factors(data, seed).items()}
    unknown = [] if told else [relation.order - 1]
    expected = dense_scores(factors, relation.modalities, unknown)
    scorer = ModelScorer(make_model(data), "r", factors, unknown)
    index = every_tuple(relation.sizes)
    assert torch.equal(scorer.score(index), expected[tuple(index)])
    for slot in range(relation.order):
        if slot not in unknown:
            found = scorer.slot_scores(index, slot)
            rows = [expected.movedim(slot, -1)[tuple(i for s, i in enumerate(t) if s != slot)] for t in index.t()]
            assert torch.equal(found, torch.stack(rows))


@given(problems(least=2), st.booleans())
@settings(max_examples=20, deadline=None)
def test_the_pair_counts_of_a_model_are_in_both_scores(problem: tuple[MultiModalHeteroData, int], told: bool) -> None:
    data, seed = problem
    relation = data.relation("r")
    model = make_model(data)
    counts = PairCounts(relation.sizes)
    counts.count(relation.index)
    torch.nn.init.ones_(counts.weight)
    factors, index = make_factors(data, seed), every_tuple(relation.sizes)
    unknown = [] if told else [relation.order - 1]
    plain = ModelScorer(model, "r", factors, unknown)
    before = plain.score(index)
    slots = {s: plain.slot_scores(index, s) for s in range(relation.order) if s not in unknown}
    model.decoders["r"].counts = counts
    counted = ModelScorer(model, "r", factors, unknown)
    assert torch.allclose(counted.score(index), before + counts(index, unknown=unknown))
    for slot, without in slots.items():
        found = counted.slot_scores(index, slot)
        own = index[slot]
        assert torch.allclose(found.gather(1, own[:, None])[:, 0], counted.score(index), atol=1e-5)
        assert found.shape == without.shape


@given(problems(), st.data())
@settings(max_examples=30, deadline=None)
def test_counts_equal_the_loops(problem: tuple[MultiModalHeteroData, int], draw: st.DataObject) -> None:
    data, _ = problem
    sizes, known = data.relation("r").sizes, tuples_of(data, "train", "val")
    order = len(sizes)
    table = torch.tensor(known, dtype=torch.long).view(-1, order).t()
    told = draw.draw(st.sampled_from([list(range(order)), [0], []]))
    index = every_tuple(sizes)

    def items(s: int, i: int) -> int:
        return sum(k[s] == i for k in known)

    def pairs(s: int, i: int, t: int, j: int) -> int:
        return sum(k[s] == i and k[t] == j for k in known)

    count, pair, bayes = CountScorer(table, sizes), PairScorer(table, sizes), NaiveBayesScorer(table, sizes, told)
    some = PairScorer(table, sizes, told)
    for e, t in enumerate(index.t().tolist()):
        single = sum(log1p(items(s, i)) for s, i in enumerate(t))
        double = sum(log1p(10 * pairs(s, t[s], u, t[u])) for s, u in combinations(range(order), 2))
        assert float(count.score(index[:, e : e + 1])) == pytest.approx(single)
        assert float(pair.score(index[:, e : e + 1])) == pytest.approx(single / 1000 + double)
    for slot in range(order):
        found = [scorer.slot_scores(index, slot) for scorer in (count, some, bayes)]
        for e, t in enumerate(index.t().tolist()):
            given_ = [s for s in told if s != slot]
            for c in range(sizes[slot]):
                own = items(slot, c)
                assert float(found[0][e, c]) == pytest.approx(log1p(own))
                assert float(found[1][e, c]) == pytest.approx(
                    log1p(own) / 1000 + sum(log1p(10 * pairs(s, t[s], slot, c)) for s in given_)
                )
                p = (own + 1) / (len(known) + sizes[slot])
                for s in given_:
                    p *= (pairs(s, t[s], slot, c) + 1) / (own + sizes[s])
                assert float(found[2][e, c]) == pytest.approx(log(p))


def test_naive_bayes_is_a_distribution_over_each_given_slot() -> None:
    known = torch.tensor([[0, 0, 1, 2], [0, 1, 1, 1]])
    scorer = NaiveBayesScorer(known, (3, 2))
    index = torch.stack([torch.arange(3), torch.zeros(3, dtype=torch.long)])
    joint = scorer.slot_scores(index, 1).exp()
    assert torch.allclose(joint.sum(0), torch.tensor([2 / 6, 4 / 6], dtype=torch.float64))  # the prior


def test_what_scores_whole_tuples() -> None:
    known = torch.zeros(2, 0, dtype=torch.long)
    scorers: list[SlotScorer] = [CountScorer(known, (1, 1)), PairScorer(known, (1, 1)), NaiveBayesScorer(known, (1, 1))]
    assert [isinstance(scorer, TupleScorer) for scorer in scorers] == [True, True, False]
