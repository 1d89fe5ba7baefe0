from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.transforms import StarExpansion

Make = Callable[..., MultiModalHeteroData]


def test_training_hyperedges_only(make_data: Make) -> None:
    data = make_data((4, 3), 12, 0)
    out = StarExpansion("r", undirected=False)(data)
    assert out.num_nodes == 4 + 3 + 12
    train = data["r"].train_mask.nonzero().view(-1)
    assert sorted(set((out.edge_index[1] - 7).tolist())) == train.tolist()
    assert out.edge_index.size(1) == 2 * train.numel()
    assert StarExpansion("r")(data).is_undirected()


@pytest.mark.parametrize("size", [0, 1])
def test_small_sizes(size: int) -> None:
    data = MultiModalHeteroData().add_modality("a", num_nodes=size)
    data.add_hyperedges("s", {"a": torch.arange(size)})
    out = StarExpansion()(data)
    assert (out.num_nodes, out.edge_index.size(1)) == (2 * size, 2 * size)


def test_bad_arguments_and_repr(make_data: Make) -> None:
    with pytest.raises(ValueError, match="'relation' must name one of"):
        StarExpansion()(make_data((1, 1), 1, 0))
    with pytest.raises(ValueError, match="no relation 'rr'"):
        StarExpansion("rr")(make_data((1, 1), 1, 0))
    assert repr(StarExpansion("r")) == "StarExpansion('r', undirected=True)"
