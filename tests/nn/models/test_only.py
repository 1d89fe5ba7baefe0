"""A model that holds some encoders alone is the whole model, as far as it goes."""

from __future__ import annotations

import copy
from itertools import combinations
from typing import Any

import pytest
import torch
import torch_geometric.nn as pyg_nn
from torch.nn import Module

from hyperlearn_pyg import HyperLearn, MultiModalHeteroData
from hyperlearn_pyg.nn.models import ModelInputs

NAMES = ("user", "film", "tag.x")
SIZES = (6, 5, 4)
SUBSETS = [c for n in range(4) for c in combinations(NAMES, n)]


def make(value: bool = True) -> MultiModalHeteroData:
    generator = torch.Generator().manual_seed(0)
    data = MultiModalHeteroData()
    for m, size in zip(NAMES, SIZES, strict=True):
        data.add_modality(m, x=torch.randn(size, 3, generator=generator))
        data[m, "near", m].edge_index = torch.randint(size, (2, 6), generator=generator)
    index = torch.stack([torch.randint(n, (20,), generator=generator) for n in SIZES])
    attrs = {"value": torch.randint(1, 4, (20,), generator=generator).float()} if value else {}
    data.add_hyperedges("rates", index, modalities=NAMES, train_mask=torch.arange(20) % 4 > 0, **attrs)
    return data.add_hyperedges("likes", index[:2, ::2], modalities=NAMES[:2])


def stripped(data: MultiModalHeteroData, names: tuple[str, ...]) -> MultiModalHeteroData:
    """Of modalities not named, leave the number of items."""
    data = copy.copy(data)
    for m in set(NAMES) - set(names):
        data[m].num_nodes = data[m].x.size(0)
        del data[m].x, data[m, "near", m]
    return data


def build(data: MultiModalHeteroData, preset: str, only: Any = None, lazy: bool = False, **options: Any) -> HyperLearn:
    torch.manual_seed(3)
    encoders: dict[str, Module] = {"film": pyg_nn.GraphSAGE(-1, 8, 2, 3, dropout=0.5)} if lazy else {}
    torch.manual_seed(4)
    return HyperLearn.from_data(data, 3, preset, encoders=encoders, only=only, **options)


@pytest.mark.parametrize("names", SUBSETS)
@pytest.mark.parametrize("preset", ["paper", "ratings", "links"])
@pytest.mark.parametrize("lazy", [False, True])
def test_it_has_the_parameters_buffers_and_factors_of_the_whole(
    names: tuple[str, ...], preset: str, lazy: bool
) -> None:
    options: dict[str, Any] = {"decoder": "cp_around_ones", "dropout": 0.3}
    data, few = make(), stripped(make(), names)
    whole, part = build(data, preset, lazy=lazy, **options), build(few, preset, names, lazy, **options)
    assert part.modalities == whole.modalities == list(NAMES)
    assert [m for m in NAMES if m in part.encoders] == list(names)
    state, own = whole.state_dict(), part.state_dict()
    kept = tuple(f"encoders.{whole.encoders.to_internal_key(m)}." for m in names)
    assert set(own) == {k for k in state if k.startswith(("decoders.", *kept))}
    assert all(torch.equal(own[k], state[k]) for k in own)
    all_inputs, inputs = whole.prepare(data, ("train",)), part.prepare(few, ("train",))
    assert list(inputs.branches) == list(names)
    for mode in (True, False):
        whole.train(mode), part.train(mode)
        factors, expected = part(inputs, seed=9), whole(all_inputs, seed=9)
        assert set(factors) == set(names)
        assert all(torch.equal(factors[m], expected[m]) for m in names)


def test_others_need_not_be_there_to_start_afresh() -> None:
    whole, part = build(make(), "ratings"), build(stripped(make(), ("film",)), "ratings", ["film"])
    for model, data in ((whole, make()), (part, stripped(make(), ("film",)))):
        model.start(data, splits=("train", "val"), seed=1)
    assert torch.equal(whole.encoders["film"].bias, part.encoders["film"].bias)
    assert all(torch.equal(whole.decoders[r].offset, part.decoders[r].offset) for r in ("rates", "likes"))


def test_what_is_elsewhere_says_so() -> None:
    data = make()
    model = build(data, "ratings", ["user"])
    inputs = model.prepare(data)
    factors = model(inputs)
    for call in (
        lambda: model.encode("film", inputs),
        lambda: model.penalty("film", torch.zeros(5, 5), inputs),
    ):
        with pytest.raises(
            ValueError, match=r"encoder of 'film' is not here: another rank holds it \(here: \['user'\]"
        ):
            call()
    with pytest.raises(ValueError, match="the model knows no such modality"):
        model.encode("actor", inputs)
    with pytest.raises(ValueError, match="'factors' must hold 'film', which relation 'rates' ties"):
        model.rows("rates", factors)
    with pytest.raises(ValueError, match="'factors' must hold 'user'"):
        build(data, "ratings", []).loss(model.prepare(data))
    with pytest.raises(ValueError, match=r"'only': no modality 'films' is in a relation\. Did you mean 'film'\?"):
        build(data, "ratings", ["films"])
    with pytest.raises(ValueError, match="no encoder or decoder was given"):
        HyperLearn({"user": model.encoders["user"]}, dict(model.decoders.items()), model.relations, model.config)


@pytest.mark.parametrize("value", [False, True])
def test_the_loss_is_put_together_from_parts(value: bool) -> None:
    """What several processes do: encode apart, score with all tables, sum the terms."""
    data = make(value)
    whole = build(data, "ratings", table_l2=0.5, smoothness=0.1, num_negatives=5)
    parts = {
        m: build(stripped(data, (m,)), "ratings", [m], table_l2=0.5, smoothness=0.1, num_negatives=5) for m in NAMES
    }
    inputs = {m: part.prepare(stripped(data, (m,)), ("train",)) for m, part in parts.items()}

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(2)

    factors = {m: part(inputs[m], seed=7)[m] for m, part in parts.items()}
    terms = [parts[m].penalty(m, factors[m], inputs[m]) for m in NAMES]
    targets = [part.targets(inputs[m], generator=generator()) for m, part in parts.items()]
    for same in zip(*targets, strict=True):
        assert all(torch.equal(a, b) for t in same for a, b in zip(t.candidates, same[0].candidates, strict=True))
    terms += [parts["film"].target_loss(factors, target) for target in targets[0]]
    loss = whole.loss(whole.prepare(data, ("train",)), generator=generator(), seed=7)
    assert torch.allclose(sum(terms, torch.zeros(())), loss)


class TestDraws:
    """What an encoder draws."""

    def inputs(self) -> tuple[HyperLearn, ModelInputs]:
        data = make()
        model = build(data, "ratings", dropout=0.5)
        return model, model.prepare(data)

    def test_nothing_is_drawn_in_evaluation(self) -> None:
        model, inputs = self.inputs()
        state = torch.get_rng_state()
        model.eval()(inputs)
        assert torch.equal(torch.get_rng_state(), state)

    def test_one_number_is_drawn_in_training_and_none_with_a_seed(self) -> None:
        model, inputs = self.inputs()
        torch.manual_seed(0)
        model(inputs)
        state = torch.get_rng_state()
        torch.manual_seed(0)
        seed = int(torch.randint(2**63 - 1, ()))
        assert torch.equal(torch.get_rng_state(), state)
        factors = model(inputs, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(0)
        again, other = model(inputs), model(inputs)
        assert all(torch.equal(factors[m], again[m]) for m in NAMES)
        assert not any(torch.equal(other[m], again[m]) for m in NAMES)

    def test_all_losses_of_the_modalities_are_of_one_dropout(self) -> None:
        model, inputs = self.inputs()
        losses = model.modality_losses(inputs, generator=torch.Generator().manual_seed(0), seed=5)
        joint = model.loss(inputs, generator=torch.Generator().manual_seed(0), seed=5)
        for m in NAMES:
            own = list(model.encoders[m].encoder.parameters())
            for a, b in zip(
                torch.autograd.grad(losses[m], own, retain_graph=True),
                torch.autograd.grad(joint, own, retain_graph=True),
                strict=True,
            ):
                assert torch.allclose(a, b, atol=1e-6)


def test_an_encoder_starts_alike_whatever_else_is_in_the_data() -> None:
    data, more = make(), make().add_modality("actor", num_nodes=3)
    more.add_hyperedges("plays", torch.tensor([[0, 1], [2, 1]]), modalities=("actor", "tag.x"))
    options = {"bias": False}
    one, two = build(data, "links", **options), build(more, "links", **options)
    for m in NAMES:
        for a, b in zip(one.encoders[m].parameters(), two.encoders[m].parameters(), strict=True):
            assert torch.equal(a, b)
