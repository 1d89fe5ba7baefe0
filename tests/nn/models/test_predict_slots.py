"""The losses against candidates, and what is scored, where a config names the slots to predict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from hyperlearn_pyg import HyperLearn, MultiModalHeteroData
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.training import evaluate, fit, floors

LOSSES = ("logistic", "softmax", "in_batch_softmax", "full_softmax")


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make_data(count: int = 12, **attrs: Any) -> MultiModalHeteroData:
    data = MultiModalHeteroData()
    for name, size in (("film", 6), ("star", 5), ("year", 3)):
        data.add_modality(name, num_nodes=size)
    generator = torch.Generator().manual_seed(count)
    index = torch.stack([torch.randint(size, (count,), generator=generator) for size in (6, 5, 5, 3)])
    slots = ["film", ("star", "lead"), ("star", "second"), "year"]
    return data.add_hyperedges("cast", index, modalities=slots, **attrs)


def make_model(data: MultiModalHeteroData, **options: Any) -> HyperLearn:
    torch.manual_seed(0)
    return HyperLearn.from_data(data, 3, "links", **{"num_negatives": 4, "bias": False, **options})


def loss_of(model: HyperLearn, data: MultiModalHeteroData, seed: int = 1) -> torch.Tensor:
    return model.loss(model.prepare(data), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("loss", LOSSES)
def test_all_slots_by_name_are_the_default_exactly(loss: str) -> None:
    data, grads = make_data(), []
    for predict in ({}, {"cast": ["year", "star", "film"]}, {"cast": ["star.second", "star.lead", "film", "year"]}):
        model = make_model(data, link_loss=loss, predict=predict, l2=0.1)
        value = loss_of(model, data)
        grads.append([value, *torch.autograd.grad(value, list(model.parameters()))])
    for other in grads[1:]:
        assert all(torch.equal(a, b) for a, b in zip(grads[0], other, strict=True))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("wanted", [["year"], ["star"], ["star.second"], ["film", "year"]])
def test_the_loss_is_that_of_the_dense_scores_of_the_predicted_slots(loss: str, wanted: list[str]) -> None:
    data = make_data()
    model = make_model(data, link_loss=loss, predict={"cast": wanted}, decoder="cp", l2=0.0)
    (target,) = model.targets(model.prepare(data), generator=torch.Generator().manual_seed(1))
    found = loss_of(model, data)
    slots = [0] * ("film" in wanted) + [1] * ("star" in wanted) + [2] * bool({"star", "star.second"} & {*wanted})
    slots += [3] * ("year" in wanted)
    assert model.predicted_slots() == {"cast": tuple(slots)}
    assert [s for s, drawn in enumerate(target.candidates) if drawn.numel()] == slots
    film, star, year = (model(data)[m] for m in ("film", "star", "year"))
    dense, total = torch.einsum("ar,br,cr,dr->abcd", film, star, star, year), torch.zeros(())
    for items in data.relation("cast").index.t().tolist():
        for slot in slots:
            place: list[Any] = [*items[:slot], slice(None), *items[slot + 1 :]]
            row, own = dense[tuple(place)], dense[tuple(items)]
            others = target.candidates[slot][target.candidates[slot] != items[slot]]
            if loss == "logistic":  # the mean is over all candidates, the own item among them as nothing
                negative = torch.nn.functional.softplus(row[others]).sum() / target.candidates[slot].numel()
                total = total + torch.nn.functional.softplus(-own) + negative
            else:
                total = total + torch.cat([own[None], row[others]]).logsumexp(0) - own
    torch.testing.assert_close(found, total / (12 * len(slots)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("count", [0, 1])
def test_few_tuples(count: int) -> None:
    data = make_data(count)
    model = make_model(data, link_loss="in_batch_softmax", predict={"cast": ["year"]})
    value = loss_of(model, data)
    value.backward()
    assert value.item() > 0 or count == 0
    assert all(p.grad is not None for p in model.parameters())


def test_an_item_that_is_no_candidate_and_in_no_tuple_is_not_moved() -> None:
    data = make_data(4)
    model = make_model(data, link_loss="full_softmax", predict={"cast": ["year"]}, decoder="cp")
    (grad,) = torch.autograd.grad(loss_of(model, data), [model.encoders["film"].encoder.weight])
    named = torch.zeros(len(grad), dtype=torch.bool).index_fill_(0, data.relation("cast").index[0], True)
    assert not named.all()
    assert (grad[~named] == 0).all()
    assert (grad[named] != 0).any()


@pytest.mark.parametrize(
    ("predict", "text"),
    [
        ({"casts": ["film"]}, r"model\.predict: there is no relation 'casts' .*Did you mean 'cast'\?"),
        ({"cast": ["flim"]}, r"model\.predict\.cast: there is no slot 'flim' \(slots: .*\)\. Did you mean 'film'\?"),
        ({"cast": ["star:lead"]}, r"there is no slot 'star:lead' .* Did you mean 'star\.lead'\?"),
        ({"cast": ["film", "star.third"]}, r"there is no slot 'star\.third'"),
    ],
)
def test_errors(predict: dict[str, list[str]], text: str) -> None:
    with pytest.raises(InputError, match=text):
        make_model(make_data(), predict=predict)
    if "cast" in predict:
        with pytest.raises(InputError, match=text):
            floors(make_data(), predict=predict)


def test_a_relation_with_values_has_no_slots_to_predict() -> None:
    with pytest.raises(InputError, match=r"model\.predict\.cast: the relation has values"):
        make_model(make_data(value=torch.rand(12)), predict={"cast": ["film"]})


def test_what_is_scored_and_chosen_by_are_the_predicted_slots() -> None:
    masks = {f"{n}_mask": torch.arange(12) // 4 == i for i, n in enumerate(("train", "val", "test"))}
    data = make_data(**masks)
    whole, part = (make_model(data, predict=p) for p in ({}, {"cast": ["year", "star.lead"]}))
    one, other = (evaluate(model, data, ranking_tuples=99) for model in (whole, part))
    assert list(other["slots"]) == ["star:lead", "year"]
    assert all(other["slots"][name] == one["slots"][name] for name in other["slots"])
    assert other["mrr"] == pytest.approx(sum(row["mrr"] for row in other["slots"].values()) / 2)
    beside = floors(data, predict=part.config.predict)
    assert list(beside["naive Bayes"]["test"]["slots"]) == ["star:lead", "year"]
    result = fit(part, data, epochs=1, eval_every=1, val_metric="mrr", refit=False, progress=False)
    assert list(result.validation["slots"]) == ["star:lead", "year"]


def test_a_relation_that_comes_later_predicts_all_its_slots() -> None:
    data = make_data()
    model = make_model(data, predict={"cast": ["year"]})
    data.add_modality("tag", num_nodes=2)
    data.add_hyperedges("tags", torch.tensor([[0, 1], [1, 0]]), modalities=["film", "tag"])
    model.add_modality("tag", data)
    assert model.predicted_slots() == {"cast": (3,), "tags": (0, 1)}
