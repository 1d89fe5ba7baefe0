from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
import torch

from hyperlearn_pyg import HyperLearn, MultiModalHeteroData
from hyperlearn_pyg.nn.models import RelationSpec
from hyperlearn_pyg.nn.models.rows import roles_of, slot_rows
from hyperlearn_pyg.training.run import save_embeddings, save_model

RELATIONS = {
    "rates": RelationSpec(("user", "film"), (5, 4), True),
    "follows": RelationSpec(("user", "user", "user"), (5, 5, 5), False),
}


def make() -> MultiModalHeteroData:
    data = MultiModalHeteroData().add_modality("user", num_nodes=5).add_modality("film", num_nodes=4)
    data.add_hyperedges("rates", torch.tensor([[0, 1, 4], [0, 3, 2]]), modalities=("user", "film"), value=torch.ones(3))
    roles = {("user", r): torch.arange(4).roll(i) for i, r in enumerate(("follower", "followee", "witness"))}
    return data.add_hyperedges("follows", roles)


@pytest.mark.parametrize("roles", [False, True])
def test_a_slot_reads_its_factors_and_the_bias_of_its_relation(roles: bool) -> None:
    table = torch.arange(5 * 8.0).view(5, 8)[:, : 8 if roles else 4]  # two factors, two biases, two more roles
    for slot, (bias, factors) in enumerate([(3, (0, 1)), (3, (4, 5)), (3, (6, 7))]):
        columns = [*(factors if roles else (0, 1)), bias]
        assert torch.equal(slot_rows(table, RELATIONS, "follows", slot, rank=2, bias=True), table[:, columns])
    assert torch.equal(slot_rows(table, RELATIONS, "rates", 0, rank=2, bias=True), table[:, [0, 1, 2]])
    film = torch.randn(4, 3)
    assert slot_rows(film, RELATIONS, "rates", 1, rank=2, bias=True) is film
    assert torch.equal(slot_rows(film, RELATIONS, "rates", 1, rank=2, bias=False), film[:, :2])


@pytest.mark.parametrize("encoder", ["embedding", "relation", "partner", "hypergraph_conv", "diffusion", "residual"])
def test_separate_roles_have_factors_of_their_own(encoder: str) -> None:
    torch.manual_seed(0)
    model = HyperLearn.from_data(make(), 2, "links", encoder=encoder, roles="separate", hidden=4)
    assert model.encoders["film"].roles is None
    assert model.encoders["user"].width == 2 + 2 + 6
    factors = model(make())
    assert factors["user"].shape == (5, 10)
    tables = [rows[:, :2] for rows in (model.rows("rates", factors)[0], *model.rows("follows", factors))]
    assert not any(torch.equal(a, b) for a, b in combinations(tables, 2))
    index = torch.tensor([[0], [1], [2]])
    assert not torch.allclose(model.score("follows", factors, index), model.score("follows", factors, index.flip(0)))
    shared = HyperLearn.from_data(make(), 2, "links", encoder=encoder, hidden=4)
    factors = shared(make())
    assert torch.allclose(shared.score("follows", factors, index), shared.score("follows", factors, index.flip(0)))


def test_independent_roles_add_nothing_to_the_encoder() -> None:
    model = HyperLearn.from_data(make(), 2, "links", encoder="embedding", roles="independent")
    tables = [rows[:, :2] for rows in model.rows("follows", model(make()))]
    assert torch.equal(torch.cat(tables, dim=1), model.encoders["user"].roles)
    assert torch.equal(model.rows("rates", model(make()))[0][:, :2], model.encoders["user"].encoder.weight)


def test_slots_of_one_name_are_one_role_in_all_relations() -> None:
    slots = (("a", "a.x", "b"), ("a.x", "a.y"))
    specs = {
        "r": RelationSpec(("a", "a", "b"), (3, 3, 2), False, (), slots[0]),
        "s": RelationSpec(("a", "a"), (3, 3), False, (), slots[1]),
    }
    assert roles_of("a", specs) == ["a", "a.x", "a.y"]
    assert roles_of("b", specs) == ["b"]
    table = torch.arange(3 * 8.0).view(3, 8)  # two factors, two biases, two more roles
    for relation, slot, columns in [("r", 0, [0, 1]), ("r", 1, [4, 5]), ("s", 0, [4, 5]), ("s", 1, [6, 7])]:
        bias = 2 if relation == "r" else 3
        assert torch.equal(slot_rows(table, specs, relation, slot, rank=2, bias=True), table[:, [*columns, bias]])
    few = table[:, :6]  # of a role that came later there are no factors
    assert torch.equal(slot_rows(few, specs, "s", 1, rank=2, bias=True), few[:, [0, 1, 3]])


def test_a_relation_that_comes_later_shares_the_factors() -> None:
    data = MultiModalHeteroData().add_modality("user", num_nodes=5).add_modality("film", num_nodes=4)
    data.add_hyperedges("sees", torch.tensor([[0, 1], [2, 3]]), modalities=("user", "film"))
    model = HyperLearn.from_data(data, 2, "links", roles="separate")
    data.add_modality("tag", num_nodes=3)
    slots = {("user", "a"): torch.tensor([0, 1]), ("user", "b"): torch.tensor([1, 2]), "tag": torch.tensor([0, 2])}
    data.add_hyperedges("tags", slots)
    model.add_modality("tag", data)
    first, second, _ = model.rows("tags", model(data))
    assert torch.equal(first, second)


def test_a_saved_run_scores_as_the_model_does(tmp_path: Path) -> None:
    from hyperlearn_pyg.training.run import MODEL_FILE, Run

    data, torch_seed = make(), 3
    torch.manual_seed(torch_seed)
    options = {"roles": "separate", "pair_counts": True, "value_loss": "cross_entropy", "decoder": "tucker"}
    model = HyperLearn.from_data(data, 2, "links", **options)
    torch.nn.init.ones_(model.decoders["follows"].counts.weight)
    with torch.no_grad():
        factors = model(data)
    save_model(tmp_path / MODEL_FILE, model, factors)
    save_embeddings(tmp_path / "embeddings", data, model, factors)
    run = Run.load(tmp_path)
    for name in ("rates", "follows"):
        index = data.relation(name).index
        assert torch.allclose(run.score(name, index), model.predict(data, name, index))
    assert len(run.neighbors("user", 0, "film", k=2)) == 2


def test_factors_of_further_roles_are_dropped_in_training_alone() -> None:
    data = make()
    model = HyperLearn.from_data(data, 40, "links", roles="separate", dropout=0.5)
    inputs = model.prepare(data)
    (name,) = (m for m, branch in model.encoders.items() if branch.roles is not None)
    branch = model.encoders[name]
    with torch.no_grad():
        branch.roles.fill_(1.0)
        branch.encoder.weight.zero_()
    more = model.train()(inputs, seed=1)[name][:, -branch.roles.size(1) :]
    assert set(more.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(model(inputs, seed=1)[name][:, -branch.roles.size(1) :], more)
    assert (model.eval()(inputs)[name][:, -branch.roles.size(1) :] == 1).all()
