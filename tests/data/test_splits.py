from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hyperlearn_pyg import MultiModalHeteroData
from hyperlearn_pyg.data.splits import split_positions


def make(count: int = 5, **masks: Tensor) -> MultiModalHeteroData:
    data = MultiModalHeteroData().add_modality("user", num_nodes=1)
    return data.add_hyperedges("rates", torch.zeros(1, count, dtype=torch.long), modalities=("user",), **masks)


def mask(*positions: int) -> Tensor:
    return torch.zeros(5, dtype=torch.bool).index_fill(0, torch.tensor(positions, dtype=torch.long), True)


def test_positions_of_the_splits() -> None:
    def positions(data: MultiModalHeteroData, *splits: str) -> list[int]:
        return split_positions(data, "rates", splits).tolist()

    assert positions(make(), "train") == [0, 1, 2, 3, 4]
    assert positions(make(), "test") == []
    data = make(test_mask=mask(3), val_mask=mask(1))
    assert positions(data, "train") == [0, 2, 4]  # what no other split holds
    assert positions(data, "train", "val") == [0, 1, 2, 4]
    assert positions(data, "test") == [3]
    data = make(train_mask=mask(0, 1), test_mask=mask(3))
    assert positions(data, "train") == [0, 1]
    assert positions(data, "val") == []


@pytest.mark.parametrize("count", [0, 1])
def test_few_entries(count: int) -> None:
    assert len(split_positions(make(count), "rates", ("train", "val"))) == count
    masks = {f"{s}_mask": torch.zeros(count, dtype=torch.bool) for s in ("train", "val", "test")}
    assert len(split_positions(make(count, **masks), "rates", ("train", "val", "test"))) == 0
