from __future__ import annotations

import numpy as np
import pytest
import torch

from hyperlearn_pyg import HyperLearn, MultiModalHeteroData
from hyperlearn_pyg.datasets import SyntheticMultiModal, SyntheticRelation
from hyperlearn_pyg.training import evaluate
from hyperlearn_pyg.training.floors import floors


@pytest.fixture
def data() -> MultiModalHeteroData:
    relations = {
        "rates": SyntheticRelation(("user", "item"), 200),
        "tags": SyntheticRelation(("user", "item", "tag"), 150, valued=False),
    }
    return SyntheticMultiModal({"user": 20, "item": 15, "tag": 6}, relations)[0]


def test_values(data: MultiModalHeteroData) -> None:
    model = HyperLearn.from_data(data, 3)
    result = evaluate(model, data, "val")
    at = data["rates"].val_mask
    score = model.predict(model.prepare(data, ("train",)), "rates", data.relation("rates").index[:, at])
    error = (score - data["rates"].value[at]).numpy()
    assert result["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5)
    assert result["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
    planted = np.corrcoef(score.numpy(), data["rates"].truth[at].numpy())[0, 1]
    assert result["planted_correlation"] == pytest.approx(planted, rel=1e-4)
    assert result["relations"]["rates"] == {k: v for k, v in result.items() if k != "relations"}
    assert set(result["relations"]["tags"]) == {"auc", "ap", "mrr", "hits@1", "hits@3", "hits@10", "slots"}
    assert model.training


def test_links_without_ranking_and_the_same_seed(data: MultiModalHeteroData) -> None:
    model = HyperLearn.from_data(data, 3)
    first, second = (evaluate(model, data, "test", ranking_tuples=0, seed=3) for _ in range(2))
    assert first == second
    assert set(first["relations"]["tags"]) == {"auc", "ap"}


def test_a_perfect_model_ranks_first(data: MultiModalHeteroData) -> None:
    del data["rates"], data["user", "member", "rates"], data["item", "member", "rates"]
    model = HyperLearn.from_data(data, 150, "links", encoder="embedding", decoder="cp", bias=False).eval()
    index = data.relation("tags").index
    with torch.no_grad():
        for m, row in zip(("user", "item", "tag"), index, strict=True):  # column e is tuple e alone
            model.encoders[m].encoder.weight.zero_()[row, torch.arange(150)] = 1.0
    result = evaluate(model, data, "test")
    assert (result["auc"], result["mrr"], result["hits@10"]) == (1.0, 1.0, 1.0)


def test_training_entries_carry_messages_when_the_test_is_scored(data: MultiModalHeteroData) -> None:
    model = HyperLearn.from_data(data, 3, "ratings")
    before = {split: evaluate(model, data, split)["relations"]["tags"] for split in ("val", "test")}
    hidden = data["rates"].val_mask
    data["rates"].value[hidden] = 6 - data["rates"].value[hidden]
    after = {split: evaluate(model, data, split)["relations"]["tags"] for split in ("val", "test")}
    assert before["val"] == after["val"]
    assert before["test"] != after["test"]


def test_errors(data: MultiModalHeteroData) -> None:
    model = HyperLearn.from_data(data, 3)
    with pytest.raises(ValueError, match=r"'split' must be one of \['train', 'val', 'test'\] \(got 'tests'\)"):
        evaluate(model, data, "tests")
    for name in data.hyperedge_types:
        data[name].test_mask = torch.zeros_like(data[name].test_mask)
    with pytest.raises(
        ValueError, match=r"no relation of 'data' has an entry in the split 'test': set its 'test_mask'"
    ):
        evaluate(model, data)
    del data["rates"].value
    with pytest.raises(ValueError, match="'rates' had values when the model was built and has none now"):
        evaluate(model, data, "val")


def test_floors(data: MultiModalHeteroData) -> None:
    out = floors(data)
    store = data["rates"]
    mean = store.value[~store.test_mask].mean()
    expected = (store.value[store.test_mask] - mean).square().mean().sqrt().item()
    assert out["global mean"]["test"]["rmse"] == pytest.approx(expected, rel=1e-5)
    assert out["item biases"]["test"]["rmse"] < 1.2 * expected
    assert 0 <= out["item counts"]["test"]["relations"]["tags"]["auc"] <= 1
    assert not any(entry["published"] for entry in out.values())
    for name in data.hyperedge_types:
        data[name].test_mask = torch.zeros_like(data[name].test_mask)
    assert floors(data) == {}
