from __future__ import annotations

import pytest
import torch
from torch.nn import Embedding, Linear, Module, ModuleDict

from hyperlearn_pyg import MultiModalHeteroData
from hyperlearn_pyg.distributed import Machine, ModalityLoad, RelationLoad, modality_loads
from hyperlearn_pyg.distributed.loads import modality_seconds


class Parts(Module):
    def __init__(self, **encoders: Module) -> None:
        super().__init__()
        self.encoders = ModuleDict(encoders)


def small() -> MultiModalHeteroData:
    data = MultiModalHeteroData().add_modality("user", x=torch.ones(5, 3)).add_modality("film", num_nodes=4)
    data.add_hyperedges("rates", torch.tensor([[0, 1, 2], [0, 1, 3]]), modalities=("user", "film"))
    data["user", "linked", "user"].edge_index = torch.tensor([[0, 1], [1, 0]])
    return data


def test_counts_of_a_module() -> None:
    user, film = modality_loads(Parts(user=Linear(3, 8), film=Embedding(4, 8)), small(), 8)
    assert (user.name, user.items, user.edges, user.parameters, user.width) == ("user", 5, 2 + 3, 32, 8)
    assert user.memory == 4 * 4 * 32 + 5 * 3 * 4 + 32 * 5 + 8 * 5 * 8 * 4
    assert (film.items, film.edges, film.parameters) == (4, 3, 32)
    assert modality_loads(Parts(user=Linear(3, 8)), small(), 8, edges={"user": 7})[0].edges == 7


def test_frozen_parameters_keep_no_gradient() -> None:
    free, frozen = Linear(3, 8), Linear(3, 8).requires_grad_(False)
    one, two = (modality_loads(Parts(user=part), small(), 8)[0] for part in (free, frozen))
    assert two.parameters == 0
    assert one.memory - two.memory == 3 * 4 * 32
    assert two.seconds < one.seconds


def test_a_table_costs_less_than_weights_that_meet_every_item() -> None:
    data = MultiModalHeteroData().add_modality("a", num_nodes=1000)
    table, weights = Embedding(1000, 64), Linear(640, 100, bias=False)
    assert table.weight.numel() == weights.weight.numel()
    one, two = (modality_loads(Parts(a=part), data, 64)[0] for part in (table, weights))
    assert two.seconds > 2 * one.seconds


def test_no_items_take_no_time() -> None:
    data = MultiModalHeteroData().add_modality("a", num_nodes=0)
    (load,) = modality_loads(Parts(a=Linear(3, 2)), data, 2)
    assert (load.items, load.seconds) == (0, 0.0)


def test_what_a_module_must_have() -> None:
    with pytest.raises(ValueError, match="Linear has no 'encoders'"):
        modality_loads(Linear(1, 1), small(), 1)
    with pytest.raises(ValueError, match=r"no modality 'usr' .*Did you mean 'user'\?"):
        modality_loads(Parts(usr=Linear(1, 1)), small(), 1)


def test_seconds_follow_the_formula() -> None:
    machine = Machine(flops=100.0, memory_bandwidth=10.0, overhead=3.0)
    counts = {"items": 2, "edges": 3, "parameters": 5, "weights": 4, "hidden": 7}
    seconds = modality_seconds(**counts, machine=machine, itemsize=2)
    assert seconds == pytest.approx(3 + 2 * (12 * 5 + 6 * 3 * 7 + 12 * 2 * 7) / 10 + 6 * 2 * 4 / 100)
    seconds = modality_seconds(**counts, machine=machine, passes=5)
    assert seconds == pytest.approx(15 + 4 * (12 * 5 + 5 * 7 * (6 * 3 + 12 * 2)) / 10 + 5 * 6 * 2 * 4 / 100)


@pytest.mark.parametrize("bad", [{"items": -1}, {"seconds": float("nan")}, {"memory": 1.5}, {"edges": True}])
def test_numbers_of_a_load_are_checked(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"'{next(iter(bad))}' of 'user' must be"):
        ModalityLoad("user", **bad)  # type: ignore[arg-type]


def test_numbers_of_a_relation_and_a_machine_are_checked() -> None:
    assert RelationLoad("r", ["a", "b"], 3).order == 2  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'batch' of 'r' must be a whole number"):
        RelationLoad("r", ("a",), -3)
    with pytest.raises(ValueError, match="'flops' must be positive"):
        Machine(flops=0)
    with pytest.raises(ValueError, match="'latency' must be a number of seconds"):
        Machine(latency=-1)
