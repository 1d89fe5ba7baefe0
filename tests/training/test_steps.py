from __future__ import annotations

from math import ceil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlearn_pyg import MultiModalHeteroData
from hyperlearn_pyg.nn.models import ModelInputs, Tuples
from hyperlearn_pyg.training import TrainConfig
from hyperlearn_pyg.training.steps import epoch_plan, hold_out


def make_inputs(*counts: int) -> ModelInputs:
    return ModelInputs({}, {f"r{i}": Tuples(torch.zeros(2, n, dtype=torch.long)) for i, n in enumerate(counts)})


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=3),
    st.floats(0.1, 1),
    st.one_of(st.none(), st.integers(1, 10)),
    st.integers(1, 5),
)
@settings(max_examples=60, deadline=None)
def test_an_epoch_predicts_each_target_once(
    counts: list[int], fraction: float, batch_size: int | None, max_steps: int
) -> None:
    config = TrainConfig(target_fraction=fraction, batch_size=batch_size, max_steps=max_steps)
    keep, batches = epoch_plan(make_inputs(*counts), config, 0, 0)
    if fraction == 1 and batch_size is None:
        assert (keep, batches) == (None, [None])
        return
    assert len(batches) <= max(max_steps, 1)
    for i, count in enumerate(counts):
        parts = [b[f"r{i}"] for b in batches if b is not None]
        targets = torch.cat(parts)
        assert len(targets) == len(targets.unique()) == ceil(fraction * count)
        if batch_size is not None and len(batches) < max_steps:
            assert max(len(p) for p in parts) <= batch_size
        if keep is not None:
            assert keep[f"r{i}"].sum() == count - len(targets)
            assert not keep[f"r{i}"][targets].any()
    assert (keep is None) == (fraction == 1)


def test_a_plan_depends_on_seed_phase_and_epoch_alone() -> None:
    inputs, config = make_inputs(20), TrainConfig(batch_size=5)

    def order(seed: int, phase: int, epoch: int) -> list[int]:
        batches = epoch_plan(inputs, config.replace(seed=seed), phase, epoch)[1]
        return torch.cat([b["r0"] for b in batches if b is not None]).tolist()

    assert order(0, 0, 0) == order(0, 0, 0)
    assert len({tuple(order(*key)) for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))}) == 4


def make(count: int, **masks: list[int]) -> MultiModalHeteroData:
    data = MultiModalHeteroData().add_modality("user", num_nodes=3)
    attrs = {
        f"{name}_mask": torch.zeros(count, dtype=torch.bool).index_fill(0, torch.tensor(at, dtype=torch.long), True)
        for name, at in masks.items()
    }
    return data.add_hyperedges("r", torch.zeros(1, count, dtype=torch.long), modalities=("user",), **attrs)


@pytest.mark.parametrize("count", [0, 1, 9, 10, 40])
def test_held_out_entries_come_from_the_training_entries(count: int) -> None:
    tests = list(range(0, count, 4))
    data = make(count, test=tests)
    before = data.clone()
    held = hold_out(data, 0.1, 0)["r"]
    assert held.val_mask.sum() == int(0.1 * (count - len(tests)))
    assert not (held.val_mask & held.train_mask).any()
    assert not ((held.val_mask | held.train_mask) & held.test_mask).any()
    assert (held.val_mask | held.train_mask | held.test_mask).all()
    assert "val_mask" not in data["r"]
    assert torch.equal(before["r"].test_mask, data["r"].test_mask)


def test_given_validation_entries_stay() -> None:
    data = make(10, val=[1, 2])
    assert torch.equal(hold_out(data, 0.5, 0)["r"].val_mask, data["r"].val_mask)
    assert "train_mask" not in hold_out(data, 0.5, 0)["r"]
    assert "val_mask" not in hold_out(make(10), 0.0, 0)["r"]
    assert hold_out(make(10, val=[]), 0.5, 0)["r"].val_mask.sum() == 5


def test_a_graph_made_from_what_validation_takes_is_told() -> None:
    data = make(10)
    data["r"].seen_by_cooccurs = torch.ones(10, dtype=torch.bool)
    with pytest.warns(UserWarning, match=r"of 'r', which cooccurs was made from: .* before making graphs"):
        hold_out(data, 0.5, 0)
    hold_out(make(10, val=[1]), 0.5, 0)  # no warning: split before


def test_the_seed_chooses() -> None:
    masks = [tuple(hold_out(make(40), 0.5, seed)["r"].val_mask.tolist()) for seed in (0, 0, 1)]
    assert masks[0] == masks[1] != masks[2]
