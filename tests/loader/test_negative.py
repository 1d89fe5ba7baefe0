from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations, product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from hyperlearn_pyg.data import tuples
from hyperlearn_pyg.loader import NegativeSampler, degree_weights, negative


@dataclass
class Problem:
    """Tuples to corrupt, and all that says how."""

    sizes: tuple[int, ...]
    known: Tensor
    index: Tensor
    options: dict[str, Any] = field(default_factory=dict)

    def sampler(self) -> NegativeSampler:
        return NegativeSampler(self.known, self.sizes, **self.options)

    def law(self, old: tuple[int, ...]) -> dict[tuple[int, ...], float]:
        """Every negative of a tuple and its probability, by brute force."""
        slots = [s % len(self.sizes) for s in self.options.get("slots") or range(len(self.sizes))]
        weights, types = self.options.get("weights") or {}, self.options.get("types") or {}
        known = set(columns(self.known))
        mass: dict[tuple[int, ...], float] = {}
        for chosen in combinations(slots, self.options.get("num_corrupted", 1)):
            for new in product(*(range(n) for n in self.sizes)):
                if [s for s in range(len(old)) if new[s] != old[s]] != sorted(chosen) or new in known:
                    continue
                share = 1.0
                for s in chosen:
                    kind, weight = types.get(s, torch.zeros(self.sizes[s])), weights.get(s, torch.ones(self.sizes[s]))
                    others = [i for i in range(self.sizes[s]) if i != old[s] and kind[i] == kind[old[s]]]
                    total = float(sum(weight[i] for i in others))
                    share *= float(weight[new[s]]) / total if new[s] in others and total else 0.0
                if share:
                    mass[new] = share
        return {new: share / sum(mass.values()) for new, share in mass.items()}


def columns(index: Tensor) -> list[tuple[int, ...]]:
    return [tuple(t) for t in index.t().tolist()]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    sizes = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9999)))
    cells = torch.cartesian_prod(*(torch.arange(n) for n in sizes)).view(-1, len(sizes)).t()
    density = draw(st.sampled_from([0.0, 0.3, 0.8, 1.0]))
    known = cells[:, torch.rand(cells.size(1), generator=generator) < density]
    index = cells[:, torch.randint(cells.size(1), (draw(st.integers(0, 5)),), generator=generator)]
    slots = draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=4, unique=True))
    options: dict[str, Any] = {"slots": slots, "num_corrupted": draw(st.integers(1, len(slots)))}
    for key, largest in (("weights", 3), ("types", 2)):
        named = draw(st.lists(st.sampled_from(slots), max_size=2, unique=True))
        options[key] = {s: torch.randint(largest, (sizes[s],), generator=generator) for s in named}
    return Problem(sizes, known, index, options)


def check(problem: Problem, seed: int, count: int, bound: int | None, rounds: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(negative, "_ROUNDS", rounds)
        patch.setattr(negative, "_CHUNK", 3)
        if bound is not None:
            patch.setattr(tuples, "_INT64", bound)
        out, mask = problem.sampler().sample(problem.index, count, generator=torch.Generator().manual_seed(seed))
    assert out.shape == (len(problem.sizes), problem.index.size(1), count)
    assert mask.shape == out.shape[1:]
    for b, old in enumerate(columns(problem.index)):
        possible = problem.law(old)
        for n, new in enumerate(columns(out[:, b])):
            assert bool(mask[b, n]) == bool(possible)
            assert new in possible if possible else new == old


@given(problems(), st.integers(0, 99), st.integers(0, 2), st.sampled_from([None, 1]), st.sampled_from([0, 1, 32]))
@settings(max_examples=25, deadline=None)
def test_negatives_are_unknown_allowed_and_there_where_there_are_any(
    problem: Problem, seed: int, count: int, bound: int | None, rounds: int
) -> None:
    check(problem, seed, count, bound, rounds)


@pytest.mark.slow
@given(problems(), st.integers(0, 99), st.integers(0, 2), st.sampled_from([None, 1, 20]), st.sampled_from([0, 1, 32]))
@settings(max_examples=6000, deadline=None)
def test_negatives_of_many_problems(problem: Problem, seed: int, count: int, bound: int | None, rounds: int) -> None:
    check(problem, seed, count, bound, rounds)


KNOWN = torch.tensor([[0, 0, 0, 0, 1, 2], [0, 1, 2, 3, 3, 1], [0, 0, 1, 0, 1, 1]])
LAWS: dict[str, dict[str, Any]] = {
    "uniform": {},
    "one slot": {"slots": [-2]},
    "two at once": {"num_corrupted": 2},
    "all at once": {"num_corrupted": 3},
    "two of two": {"slots": [0, 1], "num_corrupted": 2},
    "by weight": {"weights": {1: torch.tensor([0.0, 1, 2, 3, 4]), 0: torch.tensor([1.0, 2, 0])}},
    "by type": {"types": {1: torch.tensor([7, -1, 7, -1, 7])}},
    "by weight and type": {
        "weights": {1: torch.tensor([5.0, 0, 1, 3, 2])},
        "types": {1: torch.tensor([1, 0, 1, 0, 1])},
    },
    "two by weight": {"weights": {1: torch.tensor([0.0, 1, 2, 3, 4])}, "num_corrupted": 2},
}


@pytest.mark.parametrize("rounds", [32, 0], ids=["draws", "search"])
@pytest.mark.parametrize("name", LAWS)
def test_frequencies_follow_the_law(name: str, rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(negative, "_ROUNDS", rounds)
    problem = Problem((3, 5, 2), KNOWN, torch.tensor([[0], [0], [0]]), LAWS[name])
    law = problem.law((0, 0, 0))
    out, mask = problem.sampler().sample(problem.index, 8000, generator=torch.Generator().manual_seed(1))
    assert bool(mask.all())
    found = columns(out[:, 0])
    observed = [found.count(new) for new in law]
    assert sum(observed) == 8000
    if len(law) > 1:
        assert chisquare(observed, [8000 * p for p in law.values()]).pvalue > 1e-3


def test_where_every_tuple_is_known_there_is_no_negative() -> None:
    cells = torch.cartesian_prod(torch.arange(2), torch.arange(3)).t()
    out, mask = NegativeSampler(cells, (2, 3)).sample(cells, 2)
    assert not mask.any()
    assert torch.equal(out, cells[:, :, None].expand(-1, -1, 2))


def test_an_unknown_tuple_is_never_its_own_negative() -> None:
    sampler = NegativeSampler(torch.empty(1, 0, dtype=torch.long), (2,))
    out, mask = sampler.sample(torch.zeros(1, 50, dtype=torch.long))
    assert bool(mask.all())
    assert bool((out == 1).all())


@pytest.mark.parametrize("sizes", [(0, 3), (1, 1), (1,)])
def test_slots_without_another_item(sizes: tuple[int, ...]) -> None:
    index = torch.zeros(len(sizes), min(sizes), dtype=torch.long)
    out, mask = NegativeSampler(index, sizes, slots=[0]).sample(index, 3)
    assert torch.equal(out, index[:, :, None].expand(-1, -1, 3))
    assert not mask.any()


def test_no_tuples_and_no_negatives() -> None:
    sampler = NegativeSampler(KNOWN, (3, 5, 2))
    assert [t.shape for t in sampler.sample(KNOWN[:, :0], 4)] == [(3, 0, 4), (0, 4)]
    assert [t.shape for t in sampler.sample(KNOWN, 0)] == [(3, 6, 0), (6, 0)]


def test_slots_of_any_size() -> None:
    sizes = (2**40, 2**40, 3)
    known = torch.tensor([[2**40 - 1, 5], [2**40 - 2, 5], [2, 0]])
    out, mask = NegativeSampler(known, sizes).sample(known, 20, generator=torch.Generator().manual_seed(0))
    assert bool(mask.all())
    assert bool(((out != known[:, :, None]).sum(0) == 1).all())
    assert bool((out < torch.tensor(sizes)[:, None, None]).all())
    assert not set(columns(out.flatten(1))) & set(columns(known))


def test_weights_that_lie_on_known_tuples_alone_do_not_stop_the_search() -> None:
    weight = torch.ones(1000)
    weight[0] = 1e30
    known = torch.tensor([[0], [0]])
    sampler = NegativeSampler(known, (1, 1000), weights={1: weight})
    out, mask = sampler.sample(torch.tensor([[0, 0], [1, 0]]), 50)
    assert bool(mask.all())
    assert bool((out[1] != 0).all())
    assert bool((out[1, 0] != 1).all())


def test_a_generator_settles_the_negatives() -> None:
    sampler = NegativeSampler(KNOWN, (3, 5, 2))

    def draw(seed: int) -> list[int]:
        return sampler.sample(KNOWN, 4, generator=torch.Generator().manual_seed(seed))[0].flatten().tolist()

    assert draw(0) == draw(0) != draw(1)
    torch.manual_seed(3)
    first = sampler.sample(KNOWN, 4)[0]
    torch.manual_seed(3)
    assert torch.equal(first, sampler.sample(KNOWN, 4)[0])


def test_degrees() -> None:
    item = torch.tensor([0, 0, 0, 0, 2])
    assert degree_weights(item, 4, 0.5).tolist() == [2.0, 0.0, 1.0, 0.0]
    assert degree_weights(item, 4, 0).tolist() == [1.0] * 4
    assert degree_weights(item[:0], 0).tolist() == []
    for power in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="'power' must be at least 0"):
            degree_weights(item, 4, power)


def test_repr() -> None:
    text = "NegativeSampler(sizes=(3, 5, 2), slots=[0, 1, 2], num_corrupted=1, known=6)"
    assert repr(NegativeSampler(KNOWN, (3, 5, 2))) == text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slots": [3]}, r"'slots' must name slots in \[-3, 3\) \(got 3\)"),
        ({"slots": ["artist"]}, r"'slots' must name slots by their position.*'artist'"),
        ({"slots": [True]}, "'slots' must name slots by their position"),
        ({"slots": "artist"}, "'slots' must be a list of the positions"),
        ({"slots": 1}, "'slots' must be a list of the positions"),
        ({"num_corrupted": "all"}, "'num_corrupted' must be a whole number"),
        ({"weights": {"artist": torch.ones(3)}}, "'weights' must name slots by their position"),
        ({"weights": {0: [1, 2, 3]}}, "'weights' of slot 0 must be a tensor"),
        ({"types": torch.ones(3)}, "'types' must be a mapping from slot"),
        ({"slots": []}, "'slots' must name one or more slots"),
        ({"slots": [0, -3]}, "each once"),
        ({"num_corrupted": 0}, r"'num_corrupted' must be in \[1, 3\]"),
        ({"slots": [1], "num_corrupted": 2}, r"'num_corrupted' must be in \[1, 1\]"),
        ({"weights": {4: torch.ones(3)}}, r"'weights' must name slots in \[-3, 3\) \(got 4\)"),
        ({"weights": {0: torch.ones(4)}}, r"'weights' must be of shape \[3\] \(got \[4\]\)"),
        ({"weights": {0: torch.tensor([1.0, -2.0, 1.0])}}, r"finite and at least 0 \(got -2.0\)"),
        ({"weights": {0: torch.tensor([1.0, torch.nan, 1.0])}}, r"finite and at least 0 \(got nan\)"),
        ({"types": {0: torch.ones(3)}}, r"'types' must be whole numbers \[3\]"),
        ({"types": {0: torch.ones(4, dtype=torch.long)}}, r"'types' must be whole numbers \[3\] \(got \[4\]"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NegativeSampler(KNOWN, (3, 5, 2), **options)


def test_positions_may_be_any_whole_numbers() -> None:
    assert NegativeSampler(KNOWN, (3, 5, 2), slots=torch.tensor([0, -1])).slots == [0, 2]


def test_bad_tuples() -> None:
    with pytest.raises(ValueError, match=r"'known' must be of shape \[2, number of tuples\]"):
        NegativeSampler(KNOWN, (3, 5))
    with pytest.raises(ValueError, match=r"'known' must lie in \[0, 4\) in slot 1 \(got 0 to 4\)"):
        NegativeSampler(torch.tensor([[0, 0], [0, 4]]), (3, 4))
    sampler = NegativeSampler(KNOWN, (3, 5, 2))
    with pytest.raises(ValueError, match="'index' must be of shape"):
        sampler.sample(KNOWN.float())
    with pytest.raises(ValueError, match=r"'index' must lie in \[0, 2\) in slot 2 \(got 2 to 2\)"):
        sampler.sample(torch.tensor([[0], [0], [2]]))
    with pytest.raises(ValueError, match="'num_negatives' must be at least 0"):
        sampler.sample(KNOWN, -1)
