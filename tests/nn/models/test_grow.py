from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch_geometric.nn as pyg_nn
from torch import Tensor

from hyperlearn_pyg import HypergraphConv, HyperLearn, MultiModalHeteroData
from hyperlearn_pyg.nn import EmbeddingEncoder
from hyperlearn_pyg.training import evaluate, fit


def make(more: bool = False, value: bool = True) -> MultiModalHeteroData:
    """Users and films; with ``more``, studios, that make films (with stars) and are followed by users."""
    generator = torch.Generator().manual_seed(0)
    data = MultiModalHeteroData()
    for m, size in (("user", 8), ("film", 6)):
        data.add_modality(m, x=torch.randn(size, 3, generator=generator))
        data[m, "near", m].edge_index = torch.randint(size, (2, 6), generator=generator)
    index = torch.cartesian_prod(torch.arange(8), torch.arange(6)).t()[:, ::2]
    attrs = {"value": (index[0] % 3 + index[1] % 2).float()} if value else {}
    data.add_hyperedges("rates", index, modalities=("user", "film"), **attrs)
    data.add_hyperedges("sees.twice", index[:, ::3], modalities=("user", "film"))
    if more:
        data.add_modality("studio", x=torch.randn(4, 2, generator=generator))
        index = torch.cartesian_prod(torch.arange(4), torch.arange(6)).t()[:, 1:]
        mask = torch.arange(index.size(1)) % 4 > 0
        stars = (index[0] + index[1] % 3).float()
        masks = {"train_mask": mask, "test_mask": ~mask}
        data.add_hyperedges("makes.it", index, modalities=("studio", "film"), value=stars, **masks)
        follows = {
            ("user", "a"): torch.arange(8),
            ("studio", "b"): torch.arange(8) % 4,
            ("user", "c"): torch.ones(8).long(),
        }
        data.add_hyperedges("follows", follows)
    return data


def build(preset: str, **options: Any) -> HyperLearn:
    torch.manual_seed(0)
    return HyperLearn.from_data(make(), 3, preset, **options)


def tensors(model: HyperLearn) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


OWN = [dict, lambda: {"encoders": {"film": HypergraphConv(3, 3)}}]


@pytest.mark.parametrize("preset", ["paper", "ratings", "links"])
@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("bias", [False, True])
def test_what_was_there_stays_as_it_was(preset: str, own: Any, bias: bool) -> None:
    model, more = build(preset, bias=bias, **own()), make(more=True)
    fit(model, make(), epochs=2, progress=False)
    model.train()
    before = tensors(model)
    copies = {name: tensor.detach().clone() for name, tensor in before.items()}
    index = make().relation("rates").index
    scores, factors = model.predict(make(), "rates", index), model(make(), seed=3)
    model.add_modality("studio", more)
    after = tensors(model)
    assert all(after[name] is tensor and torch.equal(tensor, copies[name]) for name, tensor in before.items())
    assert model.modalities == ["user", "film", "studio"]
    assert list(model.relations) == ["rates", "sees.twice", "makes.it", "follows"]
    assert torch.equal(model.predict(more, "rates", index), scores)
    for m, table in model(more, seed=3).items():
        biases = {"user": 3, "film": 3, "studio": 2}[m] if bias else 0
        assert table.shape == (more[m].num_nodes, 3 + biases)
        if m != "studio":
            assert torch.equal(table[:, : factors[m].size(1)], factors[m])
    assert model.training
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("preset", ["paper", "ratings", "links"])
def test_training_goes_on_and_the_loss_falls(preset: str) -> None:
    model, more = build(preset), make(more=True)
    model.add_modality("studio", more)
    inputs = model.prepare(more, ("train",))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for step in range(40):
        loss = model.loss(inputs, generator=torch.Generator().manual_seed(step), seed=step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert all(p.grad is not None for p in model.encoders["user"].added.values())
    assert evaluate(model, more, "train")["relations"].keys() == model.relations.keys()


def test_what_is_new_starts_from_its_training_entries() -> None:
    more = make(more=True)
    fresh, model = HyperLearn.from_data(more, 3, "paper", bias=True), build("paper", bias=True)
    model.add_modality("studio", more)
    for r in ("makes.it", "follows"):
        assert torch.equal(model.decoders[r].offset, fresh.decoders[r].offset)
        assert torch.equal(model.decoders[r].range, fresh.decoders[r].range)
        for m in model.relations[r].modalities:
            assert torch.equal(model.encoders[m].bias_of(r), fresh.encoders[m].bias_of(r))
    assert bool(model.encoders["film"].bias_of("makes.it").any())
    assert torch.equal(model.encoders["studio"].encoder.start, fresh.encoders["studio"].encoder.start)
    table = model.eval()(more)["film"]
    assert torch.equal(model.rows("makes.it", {"film": table, "studio": torch.zeros(4, 5)})[1][:, 3], table[:, 5])
    assert torch.equal(table[:, 5], model.encoders["film"].bias_of("makes.it"))
    model.start(more, splits=("train", "val", "test"))  # starts the later biases afresh, too
    assert not torch.equal(model.encoders["film"].bias_of("makes.it"), fresh.encoders["film"].bias_of("makes.it"))


@pytest.mark.parametrize("preset", ["paper", "ratings", "links"])
def test_a_saved_state_goes_into_a_model_grown_alike(preset: str) -> None:
    more, models = make(more=True), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        models.append(HyperLearn.from_data(make(), 3, preset))
        models[-1].add_modality("studio", more)
    fit(models[0], more, epochs=2, progress=False)
    models[1].load_state_dict(models[0].state_dict())
    for r in models[0].relations:
        index = more.relation(r).index
        assert torch.equal(*[m.predict(more, r, index) for m in models])


@pytest.mark.parametrize("preset", ["paper", "ratings", "links"])
def test_with_some_encoders_it_grows_into_the_same(preset: str) -> None:
    more, whole = make(more=True), build(preset)
    parts = {m: build(preset, only=() if m == "studio" else (m,)) for m in ("user", "film", "studio")}
    for model, make_it in ((whole, True), *((p, m == "studio") for m, p in parts.items())):
        torch.manual_seed(5)
        model.add_modality("studio", more, build=make_it)
        assert model.modalities == ["user", "film", "studio"]
    state = whole.state_dict()
    for m, part in parts.items():
        own = part.state_dict()
        assert list(part.encoders.keys()) == [m]
        assert set(own) == {k for k in state if k.startswith(("decoders.", f"encoders.{m}."))}
        assert all(torch.equal(own[k], state[k]) for k in own)
        assert torch.equal(part.eval()(more)[m], whole.eval()(more)[m])


def test_relations_by_name_one_after_the_other_and_encoders_of_ones_own() -> None:
    model, more = build("ratings"), make(more=True)
    lazy = pyg_nn.GraphSAGE(-1, 4, 1, 3)
    model.add_modality("studio", more, relations=["makes.it"], encoder=lazy)
    assert model.encoders["studio"].encoder is lazy
    assert not any(torch.nn.parameter.is_lazy(p) for p in model.parameters())
    assert list(model.relations) == ["rates", "sees.twice", "makes.it"]
    assert [b.channels for b in model.prepare(more).branches.values()][2] == []
    again = make(more=True).add_modality("actor", num_nodes=2)
    again.add_hyperedges("plays", torch.tensor([[0, 1, 1], [1, 2, 3]]), modalities=("actor", "studio"))
    model.add_modality("actor", again, encoder=EmbeddingEncoder(2, 3))
    assert list(model.encoders["studio"].added.keys()) == ["plays"]
    assert [t.size(1) for t in model(again).values()] == [5, 6, 5, 4]
    assert bool(model.loss(model.prepare(again)).isfinite())


def test_messages_of_later_relations_do_not_reach_old_encoders() -> None:
    model = build("ratings")
    model.add_modality("studio", make(more=True))
    branches = model.prepare(make(more=True)).branches
    assert {m: {c.relation for c in b.channels} for m, b in branches.items()} == {
        "user": {"rates", "sees.twice"},
        "film": {"rates", "sees.twice"},
        "studio": {"makes.it", "follows"},
    }


def test_new_parts_are_of_the_types_of_the_old() -> None:
    model = build("ratings").double()
    data = make(more=True)
    model.add_modality("studio", data)
    assert {t.dtype for t in tensors(model).values()} == {torch.float64}


def test_errors_leave_the_model_as_it_was() -> None:
    model, more = build("ratings"), make(more=True)

    def attempt(match: str, name: str = "studio", data: MultiModalHeteroData = more, **options: Any) -> None:
        keys = list(model.state_dict())
        with pytest.raises(ValueError, match=match):
            model.add_modality(name, data, **options)
        assert (model.modalities, list(model.relations)) == (["user", "film"], ["rates", "sees.twice"])
        assert list(model.state_dict()) == keys

    attempt("has a modality 'film' already", "film")
    attempt(r"'data' has no modality 'studios'\. Did you mean 'studio'\?", "studios")
    attempt("no new relation of 'data' ties 'studio'", relations=[])
    attempt("the model has 'rates' already", relations=["rates"])
    attempt("no relation 'makes'", relations=["makes"])
    attempt("'data' has no relation 'rates'", data=copy.copy(more).remove_hyperedges("rates"))
    smaller = more.subgraph({"film": torch.arange(3)})
    attempt("'rates' ties .* the model was made for", data=smaller)
    other = copy.copy(more).add_modality("actor", num_nodes=2)
    other.add_hyperedges("plays", torch.tensor([[0], [0]]), modalities=("actor", "studio"))
    attempt(r"'plays' ties \['actor'\], which the model does not know", data=other)
    ragged = make(more=True)
    ragged.add_hyperedges("genre", {"studio": [[0, 1], [2, 3, 1]]})
    attempt(r"'genre' has hyperedges .* pass relations=\['makes.it', 'follows'\]", data=ragged)
    attempt("asks for", encoder=torch.nn.Linear(2, 3))
