from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from hyperlearn_pyg import MultiModalHeteroData
from hyperlearn_pyg.datasets import SyntheticMultiModal, SyntheticRelation
from hyperlearn_pyg.training import cold_entries, evaluate, floors
from hyperlearn_pyg.training.metrics import filtered_ranks, rank_metrics

from .dense import NAMES, dense_scores, make_data, make_factors, make_model, problems, tuples_of


@given(problems())
@settings(max_examples=40, deadline=None)
def test_ranks_by_slot_equal_the_loops(problem: tuple[MultiModalHeteroData, int]) -> None:
    data, seed = problem
    relation, factors = data.relation("r"), make_factors(data, seed)
    score = dense_scores(factors, relation.modalities)
    taken = set(tuples_of(data, "train", "test"))
    result = evaluate(make_model(data), data, hits=(1, 2, 7), known=("train", "test"), factors=factors)
    every = []
    for slot, name in enumerate(relation.slot_names):
        ranks = []
        for t in tuples_of(data, "test"):
            cells = [(*t[:slot], c, *t[slot + 1 :]) for c in range(relation.sizes[slot])]
            rivals = [float(score[cell]) for cell in cells if cell not in taken]
            own = float(score[t])
            ranks.append(1 + sum(r > own for r in rivals) + 0.5 * sum(r == own for r in rivals))
        own_ranks = np.array(ranks)
        every.append(own_ranks)
        assert result["slots"][name]["mrr"] == pytest.approx((1 / own_ranks).mean())
        for k in (1, 2, 7):
            assert result["slots"][name][f"hits@{k}"] == pytest.approx((own_ranks <= k).mean())
    assert result["mrr"] == pytest.approx(np.mean([(1 / r).mean() for r in every]))
    assert result["hits@2"] == pytest.approx(np.mean([(r <= 2).mean() for r in every]))


def test_a_million_candidates_stay_within_the_budget() -> None:
    size, count, budget = 1_000_000, 20, 4_000_000
    index = torch.stack([torch.arange(count), torch.arange(count) * 11])
    known = torch.stack([torch.arange(count), torch.full((count,), size - 1)])
    row = torch.arange(size).float()
    held = []

    def score_slot(tuples: torch.Tensor) -> torch.Tensor:
        held.append(tuples.size(1) * size)
        return row.repeat(tuples.size(1), 1)

    ranks = filtered_ranks(score_slot, index, known, (count, size), 1, budget=budget)
    assert max(held) <= budget
    assert len(held) == 5
    assert torch.equal(ranks, (size - 1 - index[1]).double())  # one above is known
    filtered_ranks(score_slot, index[:, :2], known, (count, size), 1, budget=10)
    assert held[-1] == size  # one tuple at least


def test_a_known_tuple_does_not_tie_with_a_score_that_is_no_number() -> None:
    score = torch.tensor([[torch.nan, 1.0, 2.0, torch.nan]])
    index, known = torch.tensor([[0], [0]]), torch.tensor([[0, 0], [1, 2]])
    assert filtered_ranks(lambda _: score.clone(), index, known, (1, 4), 1).tolist() == [1.5]


def test_rank_metrics() -> None:
    assert rank_metrics(torch.tensor([1.0, 1.5, 4.0]), (1, 3), "accuracy") == {
        "mrr": pytest.approx((1 + 2 / 3 + 1 / 4) / 3),
        "accuracy@1": pytest.approx(1 / 3),
        "accuracy@3": pytest.approx(2 / 3),
    }
    assert np.isnan(list(rank_metrics(torch.empty(0)).values())).all()
    with pytest.raises(ValueError, match=r"'hits' must be whole numbers of at least 1 \(got \[0\]\)"):
        rank_metrics(torch.ones(1), (0,))


def test_cold_entries() -> None:
    index = torch.tensor([[0, 1, 0, 2, 0], [0, 1, 1, 0, 2]])
    data = make_data(index, (4, 3), torch.tensor([0, 1, 2, 2, 2]))
    assert cold_entries(data, "r").tolist() == [False, True, True]
    assert cold_entries(data, "r", "val").tolist() == [True]
    assert cold_entries(data, "r", "train").tolist() == [False]
    data["r"].test_mask[:] = False
    assert cold_entries(data, "r").tolist() == []


def test_an_item_is_known_in_any_slot_of_its_modality() -> None:
    data = MultiModalHeteroData().add_modality("user", num_nodes=3)
    masks = {"train_mask": torch.tensor([True, False]), "test_mask": torch.tensor([False, True])}
    slots = [("user", "follower"), ("user", "followee")]
    data.add_hyperedges("follows", torch.tensor([[0, 1], [1, 0]]), modalities=slots, **masks)
    assert cold_entries(data, "follows").tolist() == [False]


def test_cold_and_warm_entries_stand_apart() -> None:
    relations = {
        "rates": SyntheticRelation(("user", "item"), 60),
        "tags": SyntheticRelation(("user", "item", "tag"), 50, valued=False),
    }
    data = SyntheticMultiModal({"user": 20, "item": 15, "tag": 6}, relations)[0]
    for name in data.hyperedge_types:
        data[name].train_mask[10:] = False
        data[name].val_mask[10:] = False
        data[name].test_mask[10:] = True
    model = make_model(data)
    found = evaluate(model, data, cold=True)["relations"]
    for name, main in (("rates", "mae"), ("tags", "mrr")):
        parts = [found[name][part] for part in ("cold", "warm")]
        assert [part["count"] for part in parts] == [
            int(cold_entries(data, name).sum()),
            int((~cold_entries(data, name)).sum()),
        ]
        assert parts[0]["count"] > 0
        weighted = sum(part["count"] * part.get(main, 0) for part in parts)
        assert weighted / sum(part["count"] for part in parts) == pytest.approx(found[name][main])
    data["rates"].train_mask[:] = ~data["rates"].test_mask
    known = data.relation("rates").index[:, data["rates"].train_mask]
    data["rates"].test_mask = torch.tensor([t in known.t().tolist() for t in data.relation("rates").index.t().tolist()])
    assert evaluate(model, data, cold=True)["relations"]["rates"]["cold"] == {"count": 0}


def test_floors_rank_the_same_tuples_as_the_model() -> None:
    relations = {"tags": SyntheticRelation(("user", "item", "tag"), 150, valued=False)}
    data = SyntheticMultiModal({"user": 20, "item": 15, "tag": 6}, relations)[0]
    found = floors(data, hits=(1,))
    assert found.keys() == {"item counts", "pair counts", "naive Bayes"}
    assert found["naive Bayes"]["test"]["relations"]["tags"].keys() == {"mrr", "hits@1", "slots"}
    assert found["pair counts"]["test"].keys() == {"auc", "ap", "mrr", "hits@1", "slots", "relations"}
    assert floors(data, ranking_tuples=0).keys() == {"item counts", "pair counts"}
    assert found["item counts"]["test"]["slots"].keys() == {"user", "item", "tag"}


def test_a_relation_of_one_slot() -> None:
    data = make_data(torch.tensor([[0, 1, 0]]), (2,), torch.tensor([0, 0, 2]))
    assert floors(data).keys() == {"item counts"}
    assert evaluate(make_model(data), data)["slots"].keys() == {NAMES[0]}
