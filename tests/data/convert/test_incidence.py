from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.convert import from_incidence, to_incidence

LAYOUTS = ["dense", "coo", "csr", "scipy_coo", "scipy_csr"]

pytestmark = pytest.mark.filterwarnings("ignore:The node types .* are isolated:UserWarning")


def dense(matrix: Any) -> Tensor:
    return torch.as_tensor(matrix.toarray()) if sp.issparse(matrix) else matrix.to_dense()


@settings(deadline=None, max_examples=25)
@given(draw=st.data(), layout=st.sampled_from(LAYOUTS))
def test_round_trip_by_slot(arbitrary: Any, draw: st.DataObject, layout: Any) -> None:
    data = draw.draw(arbitrary())
    for name in data.hyperedge_types:
        view = data.relation(name)
        slots = [
            slot[0] if role is None else (slot[0], role) for slot, role in zip(view.slots, view.roles, strict=True)
        ]
        matrices = {slot: to_incidence(data, name, slot=slot, layout=layout) for slot in slots}
        for i, matrix in enumerate(matrices.values()):
            edge_index, weight = view.incidence(i), data[view.slots[i]].get("edge_weight")
            expected = torch.zeros(view.sizes[i], len(view))
            values = torch.ones(edge_index.size(1)) if weight is None else weight
            expected.index_put_((edge_index[0], edge_index[1]), values, accumulate=True)
            torch.testing.assert_close(dense(matrix), expected)
            torch.testing.assert_close(dense(to_incidence(data, name, slot=i, layout=layout)), expected)
        back = from_incidence(matrices, relation=name)
        assert back.validate()
        assert back.relation(name).slots == view.slots
        for slot, matrix in matrices.items():
            torch.testing.assert_close(to_incidence(back, name, slot=slot, layout="dense"), dense(matrix))


@settings(deadline=None, max_examples=25)
@given(draw=st.data(), layout=st.sampled_from(LAYOUTS))
def test_round_trip_stacked(arbitrary: Any, draw: st.DataObject, layout: Any) -> None:
    data = draw.draw(arbitrary())
    for name in data.hyperedge_types:
        view = data.relation(name)
        matrix = to_incidence(data, name, layout=layout)
        sizes = dict(zip(view.modalities, view.sizes, strict=True))
        expected = torch.cat(
            [
                sum(
                    (to_incidence(data, name, slot=i, layout="dense") for i, n in enumerate(view.modalities) if n == m),
                    torch.zeros(size, len(view)),
                )
                for m, size in sizes.items()
            ]
        )
        torch.testing.assert_close(dense(matrix), expected)
        back = from_incidence(matrix, sizes=sizes, relation=name)
        torch.testing.assert_close(to_incidence(back, name, layout="dense"), expected)
        assert list(dict.fromkeys(back.relation(name).modalities)) == list(sizes)


def test_forms_that_are_taken() -> None:
    matrix = torch.tensor([[1.0, 0, 0], [1, 2, 0]])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CS", UserWarning)
        forms = [matrix, matrix.to_sparse_coo(), matrix.to_sparse_csr(), matrix.to_sparse_csc(), matrix.numpy()]
    forms += [sp.csc_matrix(matrix.numpy()), sp.lil_array(matrix.numpy()), matrix.long(), sp.coo_array(matrix.numpy())]
    forms += [matrix.tolist(), pd.DataFrame(matrix.numpy())]
    for form in forms:
        data = from_incidence(form)
        assert data["node"].num_nodes == 2
        assert data["hyperedge"].num_nodes == 3
        store = data["node", "member", "hyperedge"]
        assert {
            (i, j): w for (i, j), w in zip(store.edge_index.t().tolist(), store.edge_weight.tolist(), strict=True)
        } == {
            (0, 0): 1,
            (1, 0): 1,
            (1, 1): 2,
        }
    assert "edge_weight" not in from_incidence(matrix.clamp(max=1))["node", "member", "hyperedge"]


def test_add_to_data(small: MultiModalHeteroData) -> None:
    data = from_incidence({"film": torch.eye(3), "tag": torch.ones(2, 3)}, relation="tags", data=small)
    assert data["tag"].num_nodes == 2
    assert data.relation("tags").modalities == ("film", "tag")
    assert "tags" not in small.node_types
    assert "tag" not in small.node_types
    with pytest.raises(ValueError, match=r"slot 'film' of 'tags' must have 3 items, as modality 'film' \(got 2\)"):
        from_incidence({"film": torch.eye(2)}, relation="tags", data=small)


def test_errors(small: MultiModalHeteroData) -> None:
    with pytest.raises(ValueError, match=r"'layout' must be one of .* \(got 'bsr'\)"):
        to_incidence(small, "rates", layout="bsr")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"'slot' must be in \[-2, 2\)"):
        to_incidence(small, "rates", slot=2)
    with pytest.raises(ValueError, match=r"has no slot 'tag' \(slots: \['user', 'film'\]\)"):
        to_incidence(small, "rates", slot="tag")
    assert to_incidence(small, "rates", slot=-1).shape == (3, 3)
    with pytest.raises(ValueError, match="must have one number of columns"):
        from_incidence({"a": torch.ones(2, 2), "b": torch.ones(2, 3)})
    with pytest.raises(ValueError, match="at least one slot"):
        from_incidence({})
    with pytest.raises(ValueError, match=r"'sizes' must add up to the 2 rows of the matrix \(got \{'a': 1\}\)"):
        from_incidence(torch.ones(2, 2), sizes={"a": 1})
    with pytest.raises(ValueError, match=r"must be of shape \[N, E\] \(got \[2\]\)"):
        from_incidence(np.ones(2))
    with pytest.raises(ValueError, match="must be a tensor, an array, nested lists, a frame or a SciPy sparse matrix"):
        from_incidence("matrix")
    for wrong in ([[1.0], [1.0, 2.0]], pd.DataFrame({"a": ["x"]})):
        with pytest.raises(ValueError, match="the matrix must hold numbers, in rows of one length"):
            from_incidence(wrong)
    with pytest.raises(ValueError, match="the matrix must be finite"):
        from_incidence(torch.tensor([[torch.nan]]))


def test_size_zero() -> None:
    for shape in ((0, 0), (0, 2), (2, 0)):
        data = from_incidence(torch.empty(shape))
        assert (data["node"].num_nodes, data["hyperedge"].num_nodes) == shape
        for layout in LAYOUTS:
            assert tuple(to_incidence(data, "hyperedge", layout=layout).shape) == shape  # type: ignore[arg-type]
