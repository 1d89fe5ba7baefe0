"""All conversions of many data: slow."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch

from hyperlearn_pyg._optional import available
from hyperlearn_pyg.data import MultiModalHeteroData, convert


def pairs(data: MultiModalHeteroData, name: str) -> list[Any]:
    view = data.relation(name)
    return [sorted(view.incidence(i).t().tolist()) for i in range(view.order)]


@pytest.mark.slow
@settings(deadline=None, max_examples=3000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_conversions(arbitrary: Any, same: Any, tmp_path: Path, draw: st.DataObject) -> None:
    data = draw.draw(arbitrary())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        flat = convert.to_homogeneous_hypergraph(data)
        same(
            convert.from_homogeneous_hypergraph(flat),
            convert.from_homogeneous_hypergraph(convert.from_hypergraph_data(convert.to_hypergraph_data(flat))),
        )
    same(convert.from_hetero(convert.to_hetero_data(data)), data)
    same(convert.from_networkx(convert.to_networkx(data)), data)
    convert.to_hif(data, tmp_path / "data.json")
    same(convert.from_hif(tmp_path / "data.json"), data)
    again = convert.from_frames(*convert.to_frames(data))
    for name in data.hyperedge_types:
        assert pairs(again, name) == pairs(data, name)
        if available("xgi"):
            assert pairs(convert.from_xgi(convert.to_xgi(data)), name) == pairs(data, name)
        matrix = convert.to_incidence(data, name, layout="coo")
        view = data.relation(name)
        back = convert.from_incidence(matrix, sizes=dict(zip(view.modalities, view.sizes, strict=True)))
        torch.testing.assert_close(convert.to_incidence(back, "hyperedge", layout="dense"), matrix.to_dense())
        star = convert.star_expansion(data, name)
        assert star.edge_index.size(1) == 2 * sum(view.incidence(i).size(1) for i in range(view.order))
        clique = convert.clique_expansion(data, name)
        assert all(bool((weight >= 1).all()) for _, weight in clique.values())
        assert convert.line_graph(data, name).num_nodes == len(view)
    batch = Batch.from_data_list([flat, flat])
    assert batch["node"].num_nodes == 2 * flat["node"].num_nodes
