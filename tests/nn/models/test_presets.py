from __future__ import annotations

import pytest

from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.nn.models.presets import PRESETS, model_config, resolve_preset, training_values
from hyperlearn_pyg.training import TrainConfig


def test_default_depends_on_values() -> None:
    assert resolve_preset("default", [False, True]) == "ratings"
    assert resolve_preset("default", [False]) == "links"
    assert all(resolve_preset(name, [True]) == name for name in PRESETS if name != "default")


@pytest.mark.parametrize("name", [p for p in PRESETS if p != "default"])
def test_every_preset_is_a_valid_pair_of_configs(name: str) -> None:
    config = model_config(name, rank=7)
    assert (config.preset, config.rank) == (name, 7)
    assert TrainConfig.from_preset(name) == TrainConfig(**training_values(name))


def test_paper_is_as_printed() -> None:
    config = model_config("paper")
    assert (config.encoder, config.decoder, config.value_loss, config.link_loss) == (
        "diffusion",
        "cp",
        "squared",
        "all_cells",
    )
    assert (config.bias, config.features, config.hidden, config.cheb_order, config.steps) == (False, False, 32, 5, 10)
    assert config.smoothness > 0


def test_unknown_preset() -> None:
    with pytest.raises(InputError, match=r"'preset' must be one of .*\(got 'papre'\)\. Did you mean 'paper'\?"):
        resolve_preset("papre", [True])
    assert training_values("custom") == {}
    with pytest.raises(InputError, match=r"no training values for the preset 'ratngs'.*Did you mean 'ratings'\?"):
        training_values("ratngs")
    with pytest.raises(InputError, match=r"model\.config\.preset"):
        TrainConfig.from_preset("default")
