"""GIST on encoders that say themselves what their parameters run over."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import Linear, Module

from hyperlearn_pyg.distributed.strategies import GIST
from hyperlearn_pyg.distributed.strategies._channels import take
from hyperlearn_pyg.distributed.strategies._narrow import narrow, tensors_of
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.nn import LevelConvEncoder, RelationEncoder
from hyperlearn_pyg.ops import Incidence

DOUBLE = torch.float64
NODES, CHANNELS, IN = 7, [(2, 3), (1, 4)], 3


def make(kind: str, features: bool, channels: list[tuple[int, int]] = CHANNELS) -> Any:
    torch.manual_seed(0)
    options = {"in_channels": IN * features, "hidden": 8, "feature_hidden": 4}
    if kind == "relation":
        return RelationEncoder(channels, 5, **options).double()
    return LevelConvEncoder(NODES, channels, 5, **options).double()


def given_to(features: bool, channels: list[tuple[int, int]] = CHANNELS) -> tuple[Tensor | None, list[Incidence]]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(NODES, IN, dtype=DOUBLE, generator=generator) if features else None
    sizes = [(NODES, levels * items) for levels, items in channels]
    return x, [Incidence(torch.stack([torch.randint(n, (12,), generator=generator) for n in s]), s) for s in sizes]


@given(st.sampled_from(["relation", "hypergraph_conv"]), st.booleans(), st.sampled_from([1, 2, 4]), st.integers(0, 20))
@settings(deadline=None, max_examples=30)
def test_a_narrow_encoder_is_the_whole_one_with_the_other_hidden_units_dropped(
    kind: str, features: bool, workers: int, rounds: int
) -> None:
    encoder, args = make(kind, features), given_to(features)
    gist = GIST(encoder)
    gist.rounds, gist.ranks.world_size = rounds, workers
    total = torch.zeros(NODES, 5, dtype=DOUBLE)
    for hand in gist.hands():
        places = {name: [axis.index(hand) for axis in weight.axes] for name, weight in gist.plan.weights.items()}
        kept = places["out.weight"][1]
        whole = copy.deepcopy(encoder)
        if kept is not None:
            mask = torch.zeros(whole.out.weight.size(1), dtype=DOUBLE).index_fill_(0, kept, float(workers))
            whole.out.weight.data.mul_(mask)
        sub = narrow_of(gist, hand, tensors_of(encoder))
        torch.testing.assert_close(sub(*args), whole(*args), rtol=1e-12, atol=1e-12)
        total += sub(*args)
    # as with dropout, the whole one is the mean of the narrow ones
    torch.testing.assert_close(total / workers, encoder(*args), rtol=1e-12, atol=1e-12)


def narrow_of(gist: GIST, hand: Any, values: dict[str, Tensor]) -> Any:
    parts = {
        name: take(values[name].detach(), [axis.index(hand) for axis in weight.axes]).clone()
        for name, weight in gist.plan.weights.items()
    }
    sub: Any = narrow(gist.model, gist.plan, hand, parts)
    sub.hidden_scale = float(gist.world_size)
    return sub


def test_in_one_process_a_round_changes_nothing() -> None:
    encoder, args = make("relation", True), given_to(True)
    gist = GIST(encoder)
    with gist.round() as sub:
        assert torch.equal(sub(*args), encoder(*args))
    assert all(torch.equal(gist.full_state_dict()[name], value) for name, value in encoder.state_dict().items())
    assert str(gist.plan) == "messages: 8 channels, dealt\nfeatures: 4 channels, dealt"


@pytest.mark.parametrize(("features", "channels"), [(True, []), (False, CHANNELS), (True, [(1, 1)])])
def test_encoders_of_features_or_messages_alone(features: bool, channels: list[tuple[int, int]]) -> None:
    encoder, args = make("relation", features, channels), given_to(features, channels)
    with GIST(encoder).round() as sub:
        assert torch.equal(sub(*args), encoder(*args))


class Own(Module):
    def __init__(self, axes: dict[str, str]) -> None:
        super().__init__()
        self.lin, self.channel_axes = Linear(4, 6), axes


@pytest.mark.parametrize(
    ("axes", "text"),
    [
        ({"lin.weight": "a"}, "must have 2 words for 'lin.weight'"),
        ({"lin.weight": "a b+c"}, r"says 'b\+c' of a dimension of 4"),
        ({"lin.weight": "a -", "lin.bias": "b+a"}, "'lin.bias', which does not fit"),
        ({}, "no hidden channels to deal in Own"),
    ],
)
def test_words_that_do_not_fit_are_refused(axes: dict[str, str], text: str) -> None:
    with pytest.raises(InputError, match=text):
        GIST(Own(axes))


def test_a_model_that_says_nothing_needs_an_example() -> None:
    with pytest.raises(InputError, match="'args' must be an example"):
        GIST(Linear(4, 6))
