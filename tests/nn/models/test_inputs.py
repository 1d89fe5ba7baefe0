from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hyperlearn_pyg import MultiModalHeteroData
from hyperlearn_pyg.nn.models import inputs as module
from hyperlearn_pyg.nn.models.inputs import RelationSpec, Tuples, prepare, relation_spec


def make(value: list[float] | None = None, **attrs: object) -> MultiModalHeteroData:
    data = MultiModalHeteroData().add_modality("user", num_nodes=4).add_modality("film", num_nodes=3)
    index = torch.tensor([[0, 1, 2, 3, 0], [0, 1, 2, 0, 1]])
    return data.add_hyperedges("rates", index, modalities=("user", "film"), value=value, **attrs)  # type: ignore[arg-type]


def mask(*positions: int) -> Tensor:
    return torch.zeros(5, dtype=torch.bool).index_fill(0, torch.tensor(positions, dtype=torch.long), True)


def test_levels_part_the_training_values_alone() -> None:
    value = [1.0, 2.0, 5.0, 9.0, 1.0]
    assert relation_spec(make(value), "rates").boundaries == (1.5, 3.5, 7.0)
    spec = relation_spec(make(value, test_mask=mask(3)), "rates")
    assert spec.boundaries == (1.5, 3.5)
    assert spec.num_levels == 3
    assert spec.levels(torch.tensor(value), 5, torch.device("cpu")).tolist() == [0, 1, 2, 2, 0]
    assert relation_spec(make([3.0] * 5), "rates").num_levels == 1
    assert relation_spec(make(), "rates").levels(None, 5, torch.device("cpu")).tolist() == [0] * 5


def test_many_values_are_parted_at_quantiles() -> None:
    data = MultiModalHeteroData().add_modality("user", num_nodes=100)
    index = torch.arange(100)[None]
    data.add_hyperedges("rates", index, modalities=("user",), value=torch.arange(100.0))
    spec = relation_spec(data, "rates")
    assert spec.num_levels == module.NUM_QUANTILES
    levels = spec.levels(data["rates"].value, 100, torch.device("cpu"))
    assert torch.bincount(levels).tolist() == [20] * 5


def test_take() -> None:
    tuples = Tuples(torch.tensor([[0, 1], [2, 3]]), torch.tensor([1.0, 2.0]))
    assert tuples.take(None) is tuples
    taken = tuples.take(torch.tensor([1]))
    assert taken.index.tolist() == [[1], [3]]
    assert taken.value is not None
    assert taken.value.tolist() == [2.0]
    assert taken.weight is None


def test_channels_hold_level_and_other_item() -> None:
    data = make([1.0, 2.0, 1.0, 2.0, 2.0], test_mask=mask(4))
    specs = {"rates": relation_spec(data, "rates")}
    inputs = prepare(data, specs, {"user": ["rates"], "film": ["rates"]}, ("train",))
    (user,), (film,) = inputs.branches["user"].channels, inputs.branches["film"].channels
    assert (user.num_levels, user.num_items, user.slot, user.other) == (2, 3, 0, 1)
    assert user.incidence.size == (4, 6)
    assert user.incidence.index.tolist() == [[0, 1, 2, 3], [0, 4, 2, 3]]
    assert film.incidence.size == (3, 8)
    assert film.incidence.index.tolist() == [[0, 1, 2, 0], [0, 5, 2, 7]]
    assert len(inputs.tuples["rates"]) == 4
    inputs = prepare(data, specs, {"user": [], "film": ["rates"]}, ("train",))
    assert [len(branch.channels) for branch in inputs.branches.values()] == [0, 1]
    assert not prepare(data, specs, {}, ("train",)).branches


@pytest.mark.parametrize("weighted", [False, True])
def test_the_graph_of_a_modality_joins_its_edge_types_and_is_undirected(weighted: bool) -> None:
    data = make()
    data["user", "knows", "user"].edge_index = torch.tensor([[0, 1], [1, 2]])
    data["user", "near", "user"].edge_index = torch.tensor([[1], [0]])
    if weighted:
        data["user", "knows", "user"].edge_weight = torch.tensor([3.0, 2.0])
    branch = prepare(data, {}, {"user": (), "film": ()}, ("train",)).branches["user"]
    dense = torch.zeros(4, 4)
    dense[tuple(branch.edge_index)] = (
        torch.ones(branch.edge_index.size(1)) if branch.edge_weight is None else branch.edge_weight
    )
    assert torch.equal(dense, dense.t())
    assert (dense > 0).sum() == 4
    assert dense[0, 1] == (2.0 if weighted else 1.0)  # the mean of 3 and 1
    assert branch.laplacian is branch.laplacian
    assert branch.laplacian.num_nodes == 4


def test_a_modality_without_graph_has_an_empty_one() -> None:
    branch = prepare(make(), {}, {"film": ()}, ("train",)).branches["film"]
    assert branch.edge_index.shape == (2, 0)
    assert branch.laplacian.matmul(torch.ones(3, 1)).abs().max() == 0


def test_spec() -> None:
    spec = RelationSpec(("a", "b"), (2, 3), False)
    assert (spec.order, spec.num_levels) == (2, 1)
