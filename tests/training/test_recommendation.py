from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlearn_pyg import MultiModalHeteroData
from hyperlearn_pyg.training import evaluate_recommendation, recommendation_floors
from hyperlearn_pyg.training.recommendation import _first

from .dense import NAMES, dense_scores, make_data, make_factors, make_model, problems, tuples_of

K = (1, 2, 5)


def reference(data: MultiModalHeteroData, factors: dict, slot: int, told: list[int], seed: int) -> dict[str, float]:
    """Loops over contexts and candidates."""
    relation = data.relation("r")
    unknown = [s for s in range(relation.order) if s != slot and s not in told]
    score = dense_scores(factors, relation.modalities, unknown)
    size = relation.sizes[slot]
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed)).tolist()
    rank_of = {item: place for place, item in enumerate(order)}
    tests = tuples_of(data, "test")
    known = {(tuple(t[s] for s in told), t[slot]) for t in tuples_of(data, "train", "val")}
    rows: dict[str, list[float]] = {}
    shown: dict[int, set[int]] = {n: set() for n in K}
    contexts = {tuple(t[s] for s in told): t for t in tests}
    for context, whole in contexts.items():
        answers = {t[slot] for t in tests if tuple(t[s] for s in told) == context}
        answers = {a for a in answers if (context, a) not in known}
        if not answers:
            continue
        cell = list(whole)
        values = {}
        for c in range(size):
            cell[slot] = c
            if (context, c) not in known:
                values[c] = float(score[tuple(cell)])
        best = sorted(values, key=lambda c: (-values[c], rank_of[c]))
        for n in K:
            hit = [c in answers for c in best[:n]]
            shown[n] |= set(best[:n])
            ideal = sum(1 / math.log2(i + 2) for i in range(min(n, len(answers))))
            found = {
                "precision": sum(hit) / n,
                "recall": sum(hit) / len(answers),
                "ndcg": sum(h / math.log2(i + 2) for i, h in enumerate(hit)) / ideal,
                "map": sum(h * sum(hit[: i + 1]) / (i + 1) for i, h in enumerate(hit)) / min(n, len(answers)),
                "mrr": max([h / (i + 1) for i, h in enumerate(hit)], default=0.0),
            }
            for name, value in found.items():
                rows.setdefault(f"{name}@{n}", []).append(value)
    out = {name: float(np.mean(values)) for name, values in rows.items()}
    out |= {f"coverage@{n}": len(shown[n]) / size for n in K}
    return {**out, "contexts": len(rows.get("recall@1", []))}


@given(problems(most=3), st.data())
@settings(max_examples=40, deadline=None)
def test_metrics_equal_the_loops(problem: tuple[MultiModalHeteroData, int], draw: st.DataObject) -> None:
    data, seed = problem
    order = data.relation("r").order
    # means over one to four items are exact
    factors = {
        name: 12 * (table.double() + torch.arange(len(table))[:, None] / 64)
        for name, table in make_factors(data, seed).items()
    }
    slot = draw.draw(st.integers(0, order - 1))
    others = [s for s in range(order) if s != slot]
    told = draw.draw(st.sampled_from([others, others[:1], []]))
    result = evaluate_recommendation(
        make_model(data),
        data,
        "r",
        NAMES[slot],
        given=[NAMES[s] for s in told],
        k=K,
        factors=factors,
        budget=draw.draw(st.sampled_from([1, 7, 1000])),
        seed=seed,
    )
    expected = reference(data, factors, slot, told, seed)
    if expected["contexts"] == 0:
        assert result["contexts"] == 0
        assert math.isnan(result["recall@1"])
        return
    assert result.keys() == expected.keys()
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, abs=1e-6), name


@given(st.integers(0, 5), st.lists(st.lists(st.integers(0, 2), min_size=5, max_size=5), max_size=4))
def test_the_first_of_equal_scores_are_those_of_the_first_places(k: int, rows: list[list[int]]) -> None:
    score = torch.tensor(rows, dtype=torch.float32).view(-1, 5)
    value, place = _first(score, k)
    expected = [sorted(range(5), key=lambda i, row=row: (-row[i], i))[:k] for row in rows]
    assert place.tolist() == expected
    assert torch.equal(value, score.gather(1, place))


def fixed() -> MultiModalHeteroData:
    index = torch.tensor([[0, 0, 0, 1, 1, 2], [0, 1, 2, 0, 3, 3]])
    return make_data(index, (3, 5), torch.tensor([0, 1, 2, 0, 2, 0]))


def test_known_items_are_no_candidates() -> None:
    data = fixed()
    data["r"].test_mask[:] = torch.tensor([0, 0, 1, 0, 0, 0], dtype=torch.bool)
    factors = {"user": torch.ones(3, 2), "artist": torch.tensor([9.0, 8, 7, 1, 0])[:, None].repeat(1, 2)}
    options = {"k": (1, 9), "factors": factors}
    model = make_model(data)
    assert evaluate_recommendation(model, data, "r", "artist", **options)["recall@1"] == 1
    assert evaluate_recommendation(model, data, "r", "artist", exclude=("train",), **options)["recall@1"] == 0
    assert evaluate_recommendation(model, data, "r", "artist", exclude=("test",), **options)["mrr@9"] == pytest.approx(
        1 / 3
    )
    assert evaluate_recommendation(model, data, "r", "artist", **options)["coverage@9"] == pytest.approx(3 / 5)


def test_a_tie_gains_nothing_by_the_numbers_of_the_items() -> None:
    index = torch.stack([torch.arange(2), torch.zeros(2, dtype=torch.long)])
    data = make_data(index, (2, 50), torch.tensor([2, 2]))
    factors = {"user": torch.ones(2, 2), "artist": torch.ones(50, 2)}
    model = make_model(data)
    found = [
        evaluate_recommendation(model, data, "r", "artist", k=(10,), factors=factors, seed=seed)["recall@10"]
        for seed in range(60)
    ]
    assert 0.05 < np.mean(found) < 0.4  # ten of fifty


def test_diversity_counts_pairs_of_categories() -> None:
    data = fixed()
    factors = {"user": torch.ones(3, 2), "artist": torch.arange(5.0)[:, None].repeat(1, 2)}
    model = make_model(data)
    options = {"factors": factors, "exclude": (), "k": (1, 2, 3, 9)}
    category = torch.tensor([0, 0, 1, 2, 2])
    found = evaluate_recommendation(model, data, "r", "artist", category=category, **options)
    assert "diversity@1" not in found
    assert found["diversity@2"] == pytest.approx(0, abs=1e-6)
    assert found["diversity@3"] == pytest.approx(2 / 3)
    assert found["diversity@9"] == pytest.approx(8 / 10)  # all five
    with pytest.raises(ValueError, match=r"'category' must have shape \[5\], one entry an item \(got \[4\]\)"):
        evaluate_recommendation(model, data, "r", "artist", category=category[:4], **options)


def test_the_model_is_asked_for_its_factors() -> None:
    data = fixed()
    model = make_model(data)
    given_ = evaluate_recommendation(model, data, "r", "artist", k=(2,), factors=model.eval()(data))
    assert evaluate_recommendation(model.train(), data, "r", "artist", k=(2,)) == given_
    assert model.training


def test_floors_are_counts_of_the_splits_before() -> None:
    index = torch.tensor([[0, 1, 2, 0, 1, 3], [0, 0, 0, 1, 1, 0]])
    data = make_data(index, (4, 3), torch.tensor([0, 0, 1, 0, 0, 2]))
    found = recommendation_floors(data, "r", "artist", k=(1,))
    assert found == {"popularity": found["popularity"]}
    assert found["popularity"]["recall@1"] == 1
    # what the test holds is not counted
    data["r"].train_mask[:2] = False
    assert recommendation_floors(data, "r", "artist", k=(1,))["popularity"]["recall@1"] == 0


def test_pairs_are_counted_where_there_are_three_slots() -> None:
    index = torch.tensor([[0, 0, 1, 1, 0], [0, 1, 2, 3, 2], [0, 0, 1, 1, 0]])
    data = make_data(index, (2, 4, 2), torch.tensor([0, 0, 0, 0, 2]))
    found = recommendation_floors(data, "r", "tag", k=(1,))
    assert found.keys() == {"popularity", "pair counts", "naive Bayes"}
    told = recommendation_floors(data, "r", "tag", given=["user"], k=(1,), exclude=())  # user 0 has always used tag 0
    assert [told[name]["recall@1"] for name in ("pair counts", "naive Bayes")] == [1, 1]
    assert recommendation_floors(data, "r", "tag", given=[], k=(1,)).keys() == {"popularity"}


def test_memory_stays_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 1_000_000
    index = torch.stack([torch.arange(40), torch.arange(40) * 7])
    data = make_data(index, (40, size), torch.full((40,), 2))
    model = make_model(data)
    factors = {"user": torch.ones(40, 2), "artist": torch.rand(size, 2)}
    from hyperlearn_pyg.training.scorers import ModelScorer

    held = []

    def watched(self: ModelScorer, tuples: torch.Tensor, slot: int) -> torch.Tensor:
        held.append(tuples.size(1) * size)
        return plain(self, tuples, slot)

    plain = ModelScorer.slot_scores
    monkeypatch.setattr(ModelScorer, "slot_scores", watched)
    evaluate_recommendation(model, data, "r", "artist", k=(300,), factors=factors, budget=8 * size)
    assert len(held) == 5
    assert max(held) <= 8 * size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "tests"}, r"'split' must be one of \['train', 'val', 'test'\] \(got 'tests'\)"),
        ({"exclude": ("seen",)}, r"'split' must be one of .* \(got 'seen'\)"),
        ({"given": ["artist"]}, r"'given' must name other slots than 'artist', each once \(got \['artist'\]\)"),
        ({"given": ["user", "user"]}, "'given' must name other slots"),
        ({"k": (0,)}, r"'k' must be whole numbers of at least 1 \(got \[0\]\)"),
        ({"budget": 0}, "'budget' must be at least 1 score"),
        ({"given": ["users"]}, "Did you mean 'user'"),
    ],
)
def test_errors(options: dict, message: str) -> None:
    data = fixed()
    with pytest.raises(ValueError, match=message):
        evaluate_recommendation(make_model(data), data, "r", "artist", **options)


def test_a_split_without_entries_and_a_relation_that_the_model_lacks() -> None:
    data = fixed()
    model = make_model(data)
    data["r"].test_mask[:] = False
    with pytest.raises(ValueError, match=r"'r' has no entry in the split 'test': set its 'test_mask'"):
        evaluate_recommendation(model, data, "r", "artist")
    data.add_hyperedges("s", torch.tensor([[0], [0]]), modalities=("user", "artist"))
    with pytest.raises(ValueError, match=r"made without the relation 's' \(it has: \['r'\]\)"):
        evaluate_recommendation(model, data, "s", "artist")
