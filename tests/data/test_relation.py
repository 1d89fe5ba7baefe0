from __future__ import annotations

import pytest
import torch

from hyperlearn_pyg.data import MultiModalHeteroData, Relation


@pytest.fixture
def data() -> MultiModalHeteroData:
    data = MultiModalHeteroData().add_modality("user", num_nodes=4).add_modality("film", num_nodes=3)
    index = torch.tensor([[3, 0, 0], [2, 1, 2]])
    data.add_hyperedges("rates", index, modalities=("user", "film"), value=[5, 3, 1], train_mask=[True, True, False])
    return data.add_hyperedges("visits", {"user": [[0, 1], [], [2]], ("film", "seen"): torch.tensor([0, 1, 2])})


def test_view(data: MultiModalHeteroData) -> None:
    rates = data.relation("rates")
    assert isinstance(rates, Relation)
    assert rates.modalities == ("user", "film")
    assert rates.roles == (None, None)
    assert rates.slots == (("user", "member", "rates"), ("film", "member", "rates"))
    assert rates.sizes == (4, 3)
    assert rates.order == 2
    assert len(rates) == rates.num_hyperedges == 3
    assert rates.is_uniform
    assert rates.index.tolist() == [[3, 0, 0], [2, 1, 2]]
    assert rates.value is not None
    assert rates.value.tolist() == [5, 3, 1]
    assert rates.weight is None
    assert rates.time is None
    assert rates.mask("train").tolist() == [True, True, False]
    assert repr(rates) == "Relation(rates(user, film), num_hyperedges=3)"


def test_view_copies_nothing(data: MultiModalHeteroData) -> None:
    rates = data.relation("rates")
    data["rates"].weight = torch.ones(3)
    assert rates.weight is data["rates"].weight
    with pytest.raises(AttributeError):
        rates.name = "other"  # type: ignore[misc]


def test_ragged(data: MultiModalHeteroData) -> None:
    visits = data.relation("visits")
    assert visits.roles == (None, "seen")
    assert repr(visits) == "Relation(visits(user, film:seen), num_hyperedges=3)"
    assert not visits.is_uniform
    assert visits.incidence(0).tolist() == [[0, 1, 2], [0, 0, 2]]
    assert visits.incidence(-1).tolist() == [[0, 1, 2], [0, 1, 2]]
    with pytest.raises(ValueError, match=r"no index \[k, E\].*slot 0"):
        _ = visits.index
    with pytest.raises(ValueError, match="'slot' must be in"):
        visits.incidence(2)


def test_ragged_although_the_counts_agree() -> None:
    data = MultiModalHeteroData().add_modality("user", num_nodes=4).add_hyperedges("set", {"user": [[0, 1], []]})
    assert not data.relation("set").is_uniform


def test_index_does_not_depend_on_the_order_of_memberships() -> None:
    data = MultiModalHeteroData().add_modality("user", num_nodes=4)
    data.add_hyperedges("set", {"user": torch.tensor([[3, 1, 2], [2, 0, 1]])}, num_hyperedges=3)
    assert data.relation("set").index.tolist() == [[1, 2, 3]]


def test_missing_mask_names_those_present(data: MultiModalHeteroData) -> None:
    with pytest.raises(
        ValueError, match=r"'test_mask' is missing from relation 'rates' \(splits present: \['train'\]\)"
    ):
        data.relation("rates").mask("test")


def test_no_index_after_members_were_lost() -> None:
    data = MultiModalHeteroData().add_modality("user", num_nodes=2).add_hyperedges("set", {"user": [0, 1]})
    with pytest.raises(ValueError, match=r'some hyperedge has no member.*subgraph\(..., hyperedges="drop"\)'):
        _ = data.subgraph({"user": [1]}).relation("set").index
    assert data.subgraph({"user": [1]}, hyperedges="drop").relation("set").index.tolist() == [[0]]
