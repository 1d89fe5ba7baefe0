from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch_geometric.testing import onlyCUDA

from hyperlearn_pyg.loader import RelationBatch


def make(count: int, negatives: int = 2) -> RelationBatch:
    index = torch.zeros(3, count, dtype=torch.long)
    return RelationBatch(
        "tags",
        ("user", "film", "tag"),
        index,
        torch.arange(count),
        value=torch.ones(count),
        negatives=index[:, :, None].expand(-1, -1, negatives),
        negative_mask=torch.ones(count, negatives, dtype=torch.bool),
    )


@pytest.mark.parametrize("count", [0, 1, 4])
def test_length_is_the_number_of_tuples(count: int) -> None:
    assert len(make(count)) == count


def test_it_moves_as_one() -> None:
    batch = make(4).to("meta")
    assert {t.device.type for t in (batch.index, batch.tuple_id, batch.value, batch.negatives) if t is not None} == {
        "meta"
    }
    assert batch.weight is None
    assert (batch.relation, batch.modalities) == ("tags", ("user", "film", "tag"))


def test_it_is_pinned_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[Tensor] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: (pinned.append(self), self.clone())[1])
    batch = make(4)
    assert torch.equal(batch.pin_memory().index, batch.index)
    assert len(pinned) == 5


@onlyCUDA
def test_pinned_batches_go_to_the_accelerator() -> None:
    batch = make(4).pin_memory()
    assert batch.index.is_pinned()
    assert batch.to("cuda", non_blocking=True).index.is_cuda


def test_repr() -> None:
    assert repr(make(4)) == (
        "RelationBatch('tags', index=[3, 4], tuple_id=[4], value=[4], negatives=[3, 4, 2], negative_mask=[4, 2])"
    )
