from __future__ import annotations

from typing import Any

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.nn import ModelConfig
from hyperlearn_pyg.nn.models.presets import model_config
from hyperlearn_pyg.training import TrainConfig
from hyperlearn_pyg.tuning import Choice, Range, Space, default_space, load_space
from hyperlearn_pyg.tuning.space import split_values

SPACE = {
    "model": {
        "rank": {"low": 2, "high": 8},
        "decoder": ["cp", "pairwise"],
        "l2": {"low": 1e-4, "high": 0.1, "log": True},
    },
    "train": {"lr": {"low": 0.001, "high": 0.1, "log": True}, "batch_size": [16, 32]},
}


class Trial:
    """Stands for a trial of Optuna: takes one end of what it is asked for."""

    def __init__(self, upper: bool) -> None:
        self.upper = upper

    def suggest_int(self, name: str, low: int, high: int, *, log: bool) -> int:
        assert type(low) is type(high) is int
        assert not log or low > 0
        return high if self.upper else low

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        assert not log or low > 0
        return high if self.upper else low

    def suggest_categorical(self, name: str, values: list[Any]) -> Any:
        return values[-1 if self.upper else 0]


def test_a_file_is_read_and_written(tmp_path):
    (tmp_path / "space.toml").write_text(tomli_w.dumps(SPACE), encoding="utf-8")
    space = load_space(tmp_path / "space.toml")
    assert space == Space.from_dict(SPACE)
    assert space.to_dict() == SPACE
    assert space.entries["model.rank"] == Range(2, 8, whole=True)
    assert space.entries["train.lr"] == Range(0.001, 0.1, log=True)
    assert space.entries["model.decoder"] == Choice(("cp", "pairwise"))
    assert space.suggest(Trial(upper=True))["train.batch_size"] == 32


def test_the_start_has_what_lies_in_the_space():
    space, configs = Space.from_dict(SPACE), (ModelConfig(rank=9, decoder="pairwise", l2=0.01), TrainConfig(lr=0.1))
    start = space.start(*configs)
    assert space.outside(*configs) == {"model.rank": 9, "train.batch_size": None}
    assert start == {"model.decoder": "pairwise", "model.l2": 0.01, "train.lr": 0.1}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "names no setting to change"),
        ({"modle": {}}, r"'space', key 'modle': unknown key. Did you mean 'model'"),
        ({"model": {"rnak": [1]}}, r"key 'model.rnak': unknown setting. Did you mean 'rank'"),
        ({"model": {"preset": ["paper"]}}, "the same for all trials"),
        ({"train": {"val_kind": ["item"]}}, "the same for all trials"),
        ({"train": {"seed": {"low": 0, "high": 9}}}, "the same for all trials"),
        ({"model": {"rank": [0, 1]}}, r"key 'model.rank': expected a whole number of at least 1 \(got 0\)"),
        ({"model": {"rank": [1.5]}}, "key 'model.rank': expected int"),
        ({"model": {"decoder": ["cpp"]}}, "Did you mean 'cp'"),
        ({"model": {"decoder": []}}, "a list of different values is expected"),
        ({"model": {"decoder": ["cp", "cp"]}}, "a list of different values is expected"),
        ({"model": {"decoder": {"low": 0, "high": 1}}}, "is no number: a list of values is expected"),
        ({"model": {"rank": 3}}, "a list of values, or"),
        ({"model": {"rank": {"low": 3}}}, "key 'model.rank.high': missing"),
        ({"model": {"rank": {"low": 1.5, "high": 3}}}, "a whole number is expected, got 1.5"),
        ({"model": {"rank": {"low": 3, "high": 3}}}, r"'low' must be below 'high' \(got 3 and 3\)"),
        ({"model": {"l2": {"low": 0.0, "high": 3.0, "log": True}}}, "'low' must be above 0 on a scale of logarithms"),
        ({"model": {"l2": {"low": 0.0, "high": 3.0, "log": 1}}}, "true or false is expected"),
        ({"model": {"l2": {"low": 0.0, "high": float("inf")}}}, "expected a number of at least 0"),
        ({"model": {"l2": {"low": float("nan"), "high": 1.0}}}, "must be below"),
        ({"model": {"dropout": {"low": 0.0, "high": 1.0}}}, r"expected a number in \[0, 1\)"),
        ({"model": {"rank": {"low": 1, "high": 3, "step": 2}}}, "key 'model.rank.step': unknown key"),
    ],
)
def test_faults_are_named(values, message):
    with pytest.raises(InputError, match=message):
        Space.from_dict(values)


@given(
    st.sampled_from(["paper", "ratings", "links"]),
    st.lists(st.booleans(), max_size=3),
    st.fixed_dictionaries(
        {},
        optional={
            "rank": st.integers(1, 200),
            "encoder": st.sampled_from(
                ["diffusion", "relation", "embedding", "partner", "hypergraph_conv", "residual"]
            ),
            "decoder": st.sampled_from(["cp", "pairwise", "tucker"]),
            "value_loss": st.sampled_from(["squared", "cross_entropy"]),
            "link_loss": st.sampled_from(["logistic", "full_softmax", "all_cells"]),
            "num_negatives": st.integers(1, 500),
            "smoothness": st.floats(0, 1),
            "n3": st.floats(0, 1),
            "dropout": st.floats(0, 0.9),
        },
    ),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_both_ends_of_a_default_space_are_valid_settings(preset, valued, values, upper):
    values = {k: v for k, v in values.items() if k not in ("smoothness", "n3") or v == 0 or v > 1e-6}
    model, train = model_config(preset, **values), TrainConfig.from_preset(preset)
    space = default_space(model, train, valued)
    assert Space.from_dict(space.to_dict()) == space
    assert space.start(model, train)["train.lr"] == train.lr
    changed = split_values(space.suggest(Trial(upper)))
    lowest = not upper and model.rank == 1  # a rank of 1 is its own lower end, and may be all that is searched
    assert model.replace(**changed["model"]) != model or lowest
    assert train.replace(**changed["train"]) != train


def test_a_default_space_has_what_is_read_and_no_more():
    ratings, links = (model_config(name) for name in ("ratings", "links"))
    train = TrainConfig.from_preset("links")
    assert "model.l2" not in default_space(ratings, train, [True]).entries
    assert "model.table_l2" in default_space(ratings, train, [True]).entries
    assert {"model.l2", "model.num_negatives", "model.pair_counts", "train.batch_size"} <= set(
        default_space(links, train, [False]).entries
    )
    every = default_space(links.replace(link_loss="all_cells"), train, [False]).entries
    assert "model.unobserved" in every
    assert not {"model.pair_counts", "model.num_negatives"} & set(every)
    assert "model.num_negatives" not in default_space(links.replace(link_loss="full_softmax"), train, [False]).entries
    assert "model.smoothness" in default_space(model_config("paper"), train, [True]).entries
