from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlearn_pyg import HyperLearn, MultiModalHeteroData
from hyperlearn_pyg.training import TrainConfig, evaluate, fit
from hyperlearn_pyg.transforms import RandomRelationSplit, ReciprocalRelations

Make = Callable[..., MultiModalHeteroData]


def facts(count: int = 60, seed: int = 0) -> MultiModalHeteroData:
    generator = torch.Generator().manual_seed(seed)
    data = MultiModalHeteroData().add_modality("relation", num_nodes=2).add_modality("entity", num_nodes=12)
    first, second = (torch.randint(12, (count,), generator=generator) for _ in range(2))
    kind = torch.randint(2, (count,), generator=generator)
    slots = {"relation": kind, ("entity", "arg1"): first, ("entity", "arg2"): (first + 1 + kind) % 12}
    return data.add_hyperedges("fact", slots, weight=1.0 + second, time=second)


def test_one_relation_for_each_slot_that_is_asked_for() -> None:
    data = RandomRelationSplit("fact", seed=1)(facts())
    reciprocal = ReciprocalRelations("fact", "entity")
    out = reciprocal(data)
    assert out.hyperedge_types == ["fact_arg1", "fact_arg2"]
    assert "fact" in data.node_types
    assert out.relation("fact_arg1").slot_names == ("relation:for_arg1", "entity:arg1_asked", "entity:arg2")
    assert out.relation("fact_arg2").slot_names == ("relation:for_arg2", "entity:arg1", "entity:arg2_asked")
    assert reciprocal.predict(out) == {"fact_arg1": ("entity.arg1_asked",), "fact_arg2": ("entity.arg2_asked",)}
    for name in out.hyperedge_types:
        assert dict(out[name]).keys() == dict(data["fact"]).keys()
        for key, value in data["fact"].items():
            assert torch.equal(torch.as_tensor(out[name][key]), torch.as_tensor(value)), key
        assert torch.equal(out.relation(name).index, data.relation("fact").index)
    assert out.validate()


def test_items_are_the_same_where_given_and_where_asked_for() -> None:
    reciprocal = ReciprocalRelations("fact", "entity", asked=False)
    out = reciprocal(facts())
    assert out.relation("fact_arg1").slot_names == ("relation:for_arg1", "entity:arg1", "entity:arg2")
    assert out.relation("fact_arg2").slot_names == ("relation:for_arg2", "entity:arg1", "entity:arg2")
    assert reciprocal.predict(out) == {"fact_arg1": ("entity.arg1",), "fact_arg2": ("entity.arg2",)}


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=3),
    st.integers(0, 20),
    st.sampled_from(["r", "pairs", "sets"]),
    st.booleans(),
    st.booleans(),
)
def test_no_hyperedge_is_lost(
    make_data: Make, sizes: list[int], count: int, name: str, single: bool, asked: bool
) -> None:
    data = make_data(tuple(sizes), count, 0)
    before = data.relation(name)
    slots = ("a", "from") if name == "pairs" else "a"
    out = ReciprocalRelations(name, slots if single else None, asked=asked)(data)
    assert out.validate()
    made = [n for n in out.hyperedge_types if n.startswith(f"{name}_")]
    assert len(made) == (1 if single else before.order)
    for new in made:
        view = out.relation(new)
        assert (view.modalities, view.sizes, len(view)) == (before.modalities, before.sizes, len(before))
        for slot in range(view.order):
            assert torch.equal(view.incidence(slot), before.incidence(slot))
    assert ReciprocalRelations(name).predict(out).keys() == set(made)


def test_modalities_that_are_asked_for_keep_their_role_where_they_are_given(make_data: Make) -> None:
    out = ReciprocalRelations("r", ["a", "b"])(make_data((3, 4, 2), 9, 0))
    assert out.relation("r_a").slot_names == ("a:asked", "b", "c:for_a")
    assert out.relation("r_b").slot_names == ("a", "b:asked", "c:for_b")
    kept = ReciprocalRelations("pairs", ("a", "to"))(make_data((3, 4), 9, 0))
    assert kept.relation("pairs_to").slot_names == ("a:from", "a:to_asked")


def test_an_item_has_a_vector_for_each_role_and_the_model_learns() -> None:
    data = RandomRelationSplit("fact", seed=1)(facts(200))
    reciprocal = ReciprocalRelations("fact", "entity")
    data = reciprocal(data)
    torch.manual_seed(0)
    options = {"roles": "independent", "decoder": "cp_around_ones", "link_loss": "full_softmax", "n3": 0.01}
    model = HyperLearn.from_data(data, 8, "links", predict=reciprocal.predict(data), encoder="embedding", **options)
    assert model.encoders["entity"].roles.size(1) == 3 * 8
    assert model.encoders["relation"].roles.size(1) == 8
    before = evaluate(model, data, "train")["mrr"]
    fit(model, data, TrainConfig(epochs=20, lr=0.05, eval_every=20, val_metric="mrr", refit=False), progress=False)
    found = evaluate(model, data, "train")["relations"]
    assert {name: list(row["slots"]) for name, row in found.items()} == {
        "fact_arg1": ["entity:arg1_asked"],
        "fact_arg2": ["entity:arg2_asked"],
    }
    assert min(row["mrr"] for row in found.values()) > max(0.8, before)


@pytest.mark.parametrize(
    ("slots", "error"),
    [
        ("user", "has no modality 'user'"),
        ([], "at least one slot"),
        (("entity", "arg9"), r"has no slot \('entity', 'arg9'\)"),
    ],
)
def test_errors(slots: object, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        ReciprocalRelations("fact", slots)(facts())  # type: ignore[arg-type]


def test_a_name_that_is_taken_and_a_relation_that_is_not_there() -> None:
    data = facts().add_modality("fact_arg2", num_nodes=1)
    with pytest.raises(ValueError, match="'fact_arg2' is already present"):
        ReciprocalRelations("fact", "entity")(data)
    reciprocal = ReciprocalRelations("fact", "entity")
    with pytest.raises(ValueError, match=r"taken apart already, into \['fact_arg1', 'fact_arg2'\]"):
        reciprocal(reciprocal(facts()))
    with pytest.raises(ValueError, match="transform it first"):
        reciprocal.predict(facts())
    with pytest.raises(ValueError, match="'made'"):
        ReciprocalRelations("made")(facts())
