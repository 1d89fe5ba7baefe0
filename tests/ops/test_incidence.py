from __future__ import annotations

import gc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyperlearn_pyg.ops import Incidence, incidence
from hyperlearn_pyg.ops.incidence import _CACHE, CSR, safe_inverse
from hyperlearn_pyg.testing import dense_incidence

Size = tuple[int, int]


@st.composite
def matrices(draw: st.DrawFn) -> tuple[Tensor, Size, Tensor]:
    """Any structure: empty rows and columns, repeated entries, sizes from 0."""
    size = draw(st.integers(0, 6)), draw(st.integers(0, 6))
    entry = st.tuples(st.integers(0, max(size[0] - 1, 0)), st.integers(0, max(size[1] - 1, 0)))
    entries = draw(st.lists(entry, max_size=20 if min(size) else 0))
    index = torch.tensor(entries, dtype=draw(st.sampled_from([torch.int64, torch.int32]))).view(-1, 2).t()
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    return index, size, torch.randn(index.size(1), dtype=torch.float64, generator=generator)


def unpack(csr: CSR) -> list[tuple[int, int]]:
    return [(bag, int(i)) for bag in range(len(csr.ptr) - 1) for i in csr.idx[csr.ptr[bag] : csr.ptr[bag + 1]]]


@given(matrices())
@settings(max_examples=60, deadline=None)
def test_both_directions_hold_the_entries_given(matrix: tuple[Tensor, Size, Tensor]) -> None:
    index, size, values = matrix
    inc = Incidence(index, size)
    entries = [tuple(pair) for pair in index.t().tolist()]
    assert unpack(inc.by_row) == sorted(entries, key=lambda e: e[0])  # stable
    assert sorted(unpack(inc.by_col)) == sorted((e, i) for i, e in entries)
    assert inc.index[1, inc.by_row.perm].tolist() == inc.by_row.idx.tolist()
    assert inc.index[0, inc.by_col.perm].tolist() == inc.by_col.idx.tolist()
    dense, valued = dense_incidence(index, size), dense_incidence(index, size, values)
    assert inc.row_degree().tolist() == dense.sum(1).tolist()
    assert inc.col_degree().tolist() == dense.sum(0).tolist()
    assert torch.allclose(inc.row_degree(values), valued.sum(1))
    assert torch.allclose(inc.col_degree(values), valued.sum(0))


def test_columns_list_their_rows_in_ascending_order() -> None:
    inc = Incidence(torch.tensor([[3, 0, 2, 0], [1, 1, 1, 0]]), (4, 2))
    assert unpack(inc.by_col) == [(0, 0), (1, 0), (1, 2), (1, 3)]


def test_structure_is_int32_while_sizes_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    index = torch.tensor([[0, 1], [1, 0]])
    assert Incidence(index, (2, 2)).by_row.ptr.dtype == torch.int32
    monkeypatch.setitem(incidence.__globals__, "_INT32_MAX", 2)
    assert Incidence(index, (2, 2)).by_row.ptr.dtype == torch.int64


@given(matrices())
@settings(max_examples=30, deadline=None)
def test_a_watched_tensor_gives_the_same_structure(matrix: tuple[Tensor, Size, Tensor]) -> None:
    index, size, _ = matrix
    kept, watched = Incidence(index, size), Incidence.watching(index, size)
    for axis in (0, 1):
        for ours, theirs in zip(watched.bags(axis), kept.bags(axis), strict=True):
            assert torch.equal(ours, theirs)
    for there, plain in ((watched.by_row, kept.by_row), (watched.t().by_row, kept.by_col)):
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(there, plain, strict=True))
    assert torch.equal(watched.t().index, kept.index.flip(0))


def test_a_watched_tensor_must_live_while_its_entries_are_used() -> None:
    index = torch.tensor([[0, 1], [1, 0]])
    inc = Incidence.watching(index, (2, 2))
    _ = inc.bags(0)
    del index
    gc.collect()
    assert inc.bags(1)[1].tolist() == [1, 0]  # of the bags of the rows alone
    with pytest.raises(RuntimeError, match="is gone"):
        _ = inc.index


def test_repr_and_device() -> None:
    inc = Incidence(torch.tensor([[0], [1]]), (1, 2))
    assert repr(inc) == "Incidence(size=(1, 2), nnz=1, device=cpu, cached=0)"
    assert inc.device.type == "cpu"


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_the_structure_is_built_once_a_tensor_and_dies_with_it(dtype: torch.dtype) -> None:
    gc.collect()
    before, index = len(_CACHE), torch.tensor([[0, 1], [1, 0]], dtype=dtype)
    first = incidence(index, (2, 2))
    assert incidence(index, (2, 2)) is first
    assert incidence(index, (2, 3)) is not first
    assert len(_CACHE) == before + 2
    index[0, 0] = 1
    assert first.index.tolist() == [[0, 1], [1, 0]]
    assert incidence(index, (2, 2)).index.tolist() == [[1, 1], [1, 0]]
    del index
    gc.collect()
    assert len(_CACHE) == before


@pytest.mark.parametrize(
    ("index", "text"),
    [
        (torch.zeros(3, 2, dtype=torch.long), r"shape \[2, nnz\] \(got \[3, 2\]"),
        (torch.zeros(2, dtype=torch.long), r"\(got \[2\]"),
        (torch.zeros(2, 2), "float32"),
        (torch.tensor([[0, 4], [0, 0]]), r"row 0 holds node 4, outside \[0, 3\)"),
        (torch.tensor([[0, 1], [0, -1]]), r"row 1 holds hyperedge -1, outside \[0, 2\)"),
    ],
)
def test_errors(index: Tensor, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Incidence(index, (3, 2))


def test_safe_inverse() -> None:
    degree = torch.tensor([4.0, 0.0, -1.0], dtype=torch.float64, requires_grad=True)
    out = safe_inverse(degree, 0.5)
    assert out.tolist() == [0.5, 0.0, 0.0]
    (grad,) = torch.autograd.grad(out.sum(), degree)
    assert grad.tolist() == [-0.5 * 4.0**-1.5, 0.0, 0.0]
