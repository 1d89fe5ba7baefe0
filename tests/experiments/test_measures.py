from __future__ import annotations

import pytest
import torch

from hyperlearn_pyg import HyperLearn
from hyperlearn_pyg.experiments.measures import Links
from hyperlearn_pyg.training import evaluate, floors


def test_a_model_of_some_slots_is_scored_on_all_of_them_as_its_floors_are(toy):
    data = toy().split(toy().load(None), 0)
    scores = []
    for predict in ({}, {"tags": ["tag"]}):
        torch.manual_seed(0)
        model = HyperLearn.from_data(data, 2, "links", relations=["tags"], predict=predict)
        scores.append(Links("tags", draws=2).score(model, data, 3))
    assert scores[0] == scores[1]
    found = [evaluate(model, data, ranking_tuples=0, seed=at)["relations"]["tags"]["auc"] for at in (3000, 3001)]
    assert sum(found) / 2 != scores[0]["auc"]  # of tags alone
    model.config = model.config.replace(predict={})
    found = [evaluate(model, data, ranking_tuples=0, seed=at)["relations"]["tags"]["auc"] for at in (3000, 3001)]
    assert sum(found) / 2 == pytest.approx(scores[0]["auc"])
    plain = [floors(data, ranking_tuples=0, seed=at)["item counts"]["test"]["relations"]["tags"] for at in (3000, 3001)]
    expected = sum(row["auc"] for row in plain) / 2
    assert Links("tags", draws=2).floors(data, 3)["item counts"]["auc"] == pytest.approx(expected)
