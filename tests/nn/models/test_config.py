from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.nn import ModelConfig


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"rnak": 3}, r"model\.rnak is unknown\. Did you mean 'rank'\? Known: .*rank"),
        ({"rank": "3"}, r"model\.rank: expected int \(got '3'\)"),
        ({"rank": True}, r"model\.rank: expected int \(got True\)"),
        ({"rank": 2.5}, r"model\.rank: expected int"),
        ({"bias": 1}, r"model\.bias: expected bool"),
        ({"rank": 0}, r"model\.rank: expected a whole number of at least 1 \(got 0\)"),
        ({"num_negatives": 0}, "num_negatives"),
        ({"encoder": "gnn"}, r"model\.encoder: expected one of \['diffusion', .*\] \(got 'gnn'\)"),
        ({"decoder": "x"}, r"model\.decoder"),
        ({"decoder": "tuker"}, r"model\.decoder: .*\(got 'tuker'\)\. Did you mean 'tucker'\?"),
        ({"link_loss": "fullsoftmax"}, r"model\.link_loss: .* Did you mean 'full_softmax'\?"),
        ({"value_loss": "crossentropy"}, r"model\.value_loss: .* Did you mean 'cross_entropy'\?"),
        ({"encoder": "partners"}, r"model\.encoder: .* Did you mean 'partner'\?"),
        ({"roles": "seperate"}, r"model\.roles: .* Did you mean 'separate'\?"),
        ({"n3": -1.0}, r"model\.n3: expected a number of at least 0"),
        ({"pair_counts": True, "link_loss": "all_cells"}, r"model\.pair_counts: counts have no norm over all cells"),
        (
            {"common_neighbors": True, "link_loss": "all_cells"},
            r"model\.common_neighbors: counts have no norm over all",
        ),
        ({"value_loss": "logistic"}, r"model\.value_loss"),
        ({"link_loss": "squared"}, r"model\.link_loss"),
        ({"dropout": 1.0}, r"model\.dropout: expected a number in \[0, 1\)"),
        ({"smoothness": -1.0}, r"model\.smoothness: expected a number of at least 0"),
        ({"l2": float("nan")}, r"model\.l2: expected a number of at least 0 \(got nan\)"),
        ({"steps": -1}, r"model\.steps"),
        ({"predict": "artist"}, r"model\.predict: expected slots by relation, .* \(got 'artist'\)"),
        (
            {"predict": {"made": []}},
            r"model\.predict\.made: expected the names of .* \(got \[\]\); leave",
        ),
        ({"predict": {"made": [1]}}, r"model\.predict\.made: expected the names of one or more slots \(got \[1\]\)"),
        ({"predict": {"made": 1}}, r"model\.predict\.made: .* \(got 1\)"),
        ({"relation_weights": [1.0]}, r"model\.relation_weights: expected weights by relation"),
        ({"relation_weights": {"made": -1}}, r"model\.relation_weights\.made: expected a number of at least 0"),
        ({"relation_weights": {"made": True}}, r"model\.relation_weights\.made: expected a number"),
        ({"predict": {"made": ["artist"]}, "link_loss": "all_cells"}, r"model\.predict: 'all_cells' compares no items"),
    ],
)
def test_errors(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        ModelConfig().replace(**changes)


def test_a_config_can_be_compared_saved_and_not_changed() -> None:
    config = ModelConfig(rank=3, smoothness=1)
    assert ModelConfig(**config.to_dict()) == config != ModelConfig()
    with pytest.raises(FrozenInstanceError):
        config.rank = 4  # type: ignore[misc]


def test_slots_to_predict_have_one_form() -> None:
    config = ModelConfig(predict={"made": "artist", "cast": ["film", ("star", "lead"), "film"]})
    assert config.predict == {"made": ("artist",), "cast": ("film", "star.lead")}
    assert config.to_dict()["predict"] == {"made": ["artist"], "cast": ["film", "star.lead"]}
    assert ModelConfig(**config.to_dict()) == config != ModelConfig()
    assert hash(config) == hash(ModelConfig(**config.to_dict()))
