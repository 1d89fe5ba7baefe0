"""The inputs of a model brought to the devices of its encoders."""

from __future__ import annotations

import pytest
import torch

from hyperlearn_pyg import HyperLearn
from hyperlearn_pyg.datasets import SyntheticMultiModal, SyntheticRelation
from hyperlearn_pyg.nn.models.inputs import ModelInputs

CPU = torch.device("cpu")


def make(preset: str) -> tuple[HyperLearn, ModelInputs]:
    relations = {
        "rates": SyntheticRelation(("user", "item"), 60),
        "tags": SyntheticRelation(("user", "item", "tag"), 40, valued=False),
    }
    data = SyntheticMultiModal({"user": 9, "item": 8, "tag": 4}, relations, num_features=3)[0]
    torch.manual_seed(0)
    model = HyperLearn.from_data(data, 2, preset, hidden=4, feature_hidden=4).eval()
    return model, model.prepare(data, ("train",))


@pytest.mark.parametrize("preset", ["ratings", "paper"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_placed_inputs_give_the_same_factors(preset: str, device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    model, inputs = make(preset)
    names = list(inputs.branches)
    expected = {name: model.encode(name, inputs) for name in names}
    there = torch.device(device, 0) if device == "cuda" else CPU
    placed = inputs.place(dict.fromkeys(names, there))
    model.to(there)
    for name in names:
        assert placed.branches[name].edge_index.device == there
        torch.testing.assert_close(model.encode(name, placed).cpu(), expected[name])
    assert placed.tuples is inputs.tuples  # they are drawn from on the CPU


def test_what_is_there_already_stays_and_what_is_not_named_too() -> None:
    _, inputs = make("ratings")
    placed = inputs.place({"user": CPU})
    assert all(placed.branches[name] is inputs.branches[name] for name in inputs.branches)


def test_a_branch_moves_with_all_that_it_holds() -> None:
    """To 'meta', which has no values: everything that moves is seen to move."""
    _, inputs = make("ratings")
    meta = torch.device("meta")
    name = next(name for name in inputs.branches if inputs.branches[name].channels)
    placed = inputs.place({name: meta}).branches
    one, other = inputs.branches[name], placed[name]
    assert other.num_items == one.num_items
    assert (one.x is None) == (other.x is None)
    assert all(t is None or t.device == meta for t in (other.x, other.edge_index, other.edge_weight))
    assert other.edge_index.shape == one.edge_index.shape
    assert all(placed[rest] is inputs.branches[rest] for rest in placed if rest != name)


@pytest.mark.parametrize("preset", ["ratings", "default"])
def test_a_channel_brought_over_is_the_same_hypergraph(preset: str) -> None:
    _, inputs = make(preset)
    channels = [channel for branch in inputs.branches.values() for channel in branch.channels]
    assert channels
    for channel in channels:
        moved = channel.to(CPU)
        assert moved is not channel
        assert torch.equal(moved.incidence.index, channel.incidence.index)
        assert moved.incidence.size == channel.incidence.size
        keys = ("relation", "slot", "other", "num_levels", "num_items")
        assert [getattr(moved, key) for key in keys] == [getattr(channel, key) for key in keys]
