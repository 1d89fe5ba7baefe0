from __future__ import annotations

import _batching
import pytest

from hyperlearn_pyg import MultiModalHeteroData


def test_graphs_are_of_the_size_said() -> None:
    data = _batching.make_graph(0, 1000)
    assert data.num_edges == 1000
    assert data.validate()


@pytest.mark.parametrize("graphs", [1, 3])
def test_rows(graphs: int) -> None:
    rows = _batching.batching_rates(graphs, 20, rounds=1)
    assert {row["batching"] for row in rows} == {
        "from_data_list",
        "to_data_list",
        "from_data_list, some lack a modality",
    }
    for row in rows:
        assert len(_batching.cells(row)) == len(_batching.COLUMNS)
        assert row["median"] > 0
    assert rows[0]["incidences"] == 20 * graphs
    assert rows[0]["method"] == MultiModalHeteroData.__name__
    assert rows[-1]["ratio"] is None
