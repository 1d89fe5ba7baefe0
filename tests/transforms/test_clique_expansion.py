from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.convert import clique_expansion
from hyperlearn_pyg.transforms import CliqueExpansion

Make = Callable[..., MultiModalHeteroData]


def test_training_hyperedges_only(make_data: Make) -> None:
    data = make_data((4, 3), 12, 0)
    out = CliqueExpansion(weight="normalized")(data)
    for name in ("r", "pairs", "sets"):
        train = data[name].train_mask
        for edge_type, (edge_index, edge_weight) in clique_expansion(
            data, name, weight="normalized", mask=train
        ).items():
            assert torch.equal(out[edge_type].edge_index, edge_index)
            assert torch.equal(out[edge_type].edge_weight, edge_weight)
    assert torch.equal(out["r"].seen_by_a_clique_r, data["r"].train_mask)
    assert out.validate()


def test_without_masks_all() -> None:
    data = MultiModalHeteroData().add_modality("a", num_nodes=3).add_hyperedges("s", {"a": [[0, 1], [1, 2], [0, 1, 2]]})
    graph = CliqueExpansion("s")(data)["a", "clique_s", "a"]
    found = dict(zip(map(tuple, graph.edge_index.t().tolist()), graph.edge_weight.tolist(), strict=True))
    assert found == {(0, 1): 2.0, (1, 0): 2.0, (1, 2): 2.0, (2, 1): 2.0, (0, 2): 1.0, (2, 0): 1.0}
    small = CliqueExpansion(max_size=2, oversize="drop")(data)["a", "clique_s", "a"]
    assert small.edge_index.size(1) == 4


@pytest.mark.parametrize("size", [0, 1])
def test_small_sizes(make_data: Make, size: int) -> None:
    assert CliqueExpansion()(make_data((size, size), size, 0)).validate()


def test_bad_arguments_and_repr(make_data: Make) -> None:
    with pytest.raises(ValueError, match="no relation 'rr'"):
        CliqueExpansion("rr")(make_data((1, 1), 1, 0))
    with pytest.raises(ValueError, match="'weight' must be one of"):
        CliqueExpansion(weight="sum")(make_data((1, 1), 1, 0))  # type: ignore[arg-type]
    assert repr(CliqueExpansion("r")) == "CliqueExpansion('r', weight='count', max_size=None)"
