from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.transforms import RandomRelationSplit

SPLITS = ("train", "val", "test")


def relation(index: torch.Tensor) -> MultiModalHeteroData:
    data = MultiModalHeteroData().add_modality("a", num_nodes=5).add_modality("b", num_nodes=5)
    return data.add_hyperedges("r", index, modalities=("a", "b"))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 60), st.floats(0, 0.45), st.floats(0, 0.45), st.integers(0, 99))
def test_parts_are_disjoint_complete_and_do_not_leak(count: int, val: float, test: float, seed: int) -> None:
    index = torch.randint(5, (2, count), generator=torch.Generator().manual_seed(seed))
    view = RandomRelationSplit("r", val=val, test=test, seed=seed)(relation(index)).relation("r")
    masks = torch.stack([view.mask(split) for split in SPLITS])
    assert masks.sum(dim=0).eq(1).all()
    parts = [set(zip(*index[:, mask].tolist(), strict=True)) for mask in masks]
    distinct = len(set().union(*parts))
    assert sum(map(len, parts)) == distinct
    assert [len(part) for part in parts[1:]] == [round(val * distinct), round(test * distinct)]


def test_seed() -> None:
    data = relation(torch.stack([torch.arange(25) // 5, torch.arange(25) % 5]))
    first, again, other = (RandomRelationSplit("r", seed=seed)(data)["r"].train_mask for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert "train_mask" not in data["r"]


def test_every_relation_and_ragged_ones() -> None:
    data = relation(torch.zeros(2, 4, dtype=torch.long))
    data.add_hyperedges("sets", {"a": [[0, 1], [0, 1], [], [2]]}, train_mask=[True] * 4)
    out = RandomRelationSplit(val=0.25, test=0.25)(data)
    assert [int(out["sets"][f"{split}_mask"].sum()) for split in SPLITS] == [2, 1, 1]
    assert sum(bool(out["r"][f"{split}_mask"].all()) for split in SPLITS) == 1
    assert out.validate()


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0.1), (0.5, 0.5), (0.1, 1.0), (float("nan"), 0.1)])
def test_bad_shares(val: float, test: float) -> None:
    with pytest.raises(ValueError, match="'val' and 'test' must be at least 0 with a sum below 1"):
        RandomRelationSplit("r", val=val, test=test)


def test_unknown_relation_and_repr() -> None:
    split = RandomRelationSplit("rr")
    assert repr(split) == "RandomRelationSplit('rr', val=0.1, test=0.1, seed=0)"
    with pytest.raises(ValueError, match="no relation 'rr'"):
        split(relation(torch.zeros(2, 1, dtype=torch.long)))
