from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyperlearn_pyg.ops import Incidence, Laplacian, chebyshev
from hyperlearn_pyg.testing import dense_graph_laplacian, dense_hypergraph_laplacian, dense_incidence

Case = tuple[Laplacian, Tensor, int]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a Laplacian of either kind, weighted or not, the dense matrix, and the largest eigenvalue it may have."""
    seed, nodes, edges = draw(st.integers(0, 999)), draw(st.integers(0, 7)), draw(st.integers(0, 7))
    generator = torch.Generator().manual_seed(seed)
    graph, weighted = draw(st.booleans()), draw(st.booleans())
    count = draw(st.integers(0, 15)) if nodes and (graph or edges) else 0
    index = torch.stack(
        [torch.randint(max(n, 1), (count,), generator=generator) for n in (nodes, nodes if graph else edges)]
    )
    weight = torch.rand(count if graph else edges, dtype=torch.float64, generator=generator)
    weight = weight * (torch.rand(weight.shape, generator=generator) < 0.8)
    if not graph:
        values = torch.rand(count, dtype=torch.float64, generator=generator) if draw(st.booleans()) else None
        dense = dense_incidence(index, (nodes, edges), values)
        own = weight if weighted else None
        return (
            Laplacian.from_hypergraph(Incidence(index, (nodes, edges)), own, values),
            dense_hypergraph_laplacian(dense, own),
            1,
        )
    both, twice = torch.cat([index, index.flip(0)], dim=1), weight.repeat(2)
    own = twice if weighted else None
    dense = dense_graph_laplacian(dense_incidence(both, (nodes, nodes), own))
    return Laplacian.from_graph(Incidence(both, (nodes, nodes)), own), dense, 2


@given(cases())
@settings(max_examples=100, deadline=None)
def test_equals_the_dense_matrix(case: Case) -> None:
    laplacian, dense, _ = case
    eye = torch.eye(dense.size(0), dtype=torch.float64)
    x = torch.randn(dense.size(0), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert laplacian.num_nodes == dense.size(0)
    assert torch.allclose(laplacian.matmul(eye), dense)
    assert torch.allclose(laplacian.shifted(eye), dense - eye)
    assert torch.allclose(laplacian.dirichlet(x), 0.5 * torch.trace(x.t() @ dense @ x))


@given(cases())
@settings(max_examples=60, deadline=None)
def test_symmetric_with_its_spectrum_in_bounds(case: Case) -> None:
    laplacian, dense, largest = case
    matrix = laplacian.matmul(torch.eye(dense.size(0), dtype=torch.float64))
    assert torch.allclose(matrix, matrix.t())
    if matrix.numel():
        low, high = torch.linalg.eigvalsh(matrix).aminmax()
        assert low >= -1e-9
        assert high <= largest + 1e-9


@given(cases(), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_chebyshev_is_the_polynomial_of_the_eigenvalues(case: Case, order: int) -> None:
    laplacian, dense, _ = case
    eye = torch.eye(dense.size(0), dtype=torch.float64)
    values, vectors = torch.linalg.eigh(dense - eye)
    angle = values.clamp(-1, 1).acos()  # T_j(cos a) = cos(j a)
    for j, term in enumerate(chebyshev(laplacian, eye, order)):
        assert torch.allclose(term, vectors @ torch.diag((j * angle).cos()) @ vectors.t(), atol=1e-6)
    assert len(list(chebyshev(laplacian, eye, order))) == order


def test_the_null_vector_is_the_root_of_the_degrees() -> None:
    index = torch.tensor([[0, 1, 1, 2, 2, 0], [0, 0, 1, 1, 1, 1]])
    inc, weight = Incidence(index, (4, 2)), torch.tensor([0.5, 2.0], dtype=torch.float64)
    laplacian = Laplacian.from_hypergraph(inc, weight)
    degree = dense_incidence(index, (4, 2)) @ weight
    assert torch.allclose(laplacian.matmul(degree.sqrt()[:, None]), torch.zeros(4, 1, dtype=torch.float64))
    assert repr(laplacian) == "Laplacian(hypergraph, num_nodes=4, nnz=6)"


def test_an_isolated_vertex_has_a_zero_row() -> None:
    inc = Incidence(torch.tensor([[0, 1], [1, 0]]), (3, 3))
    laplacian = Laplacian.from_graph(inc)
    assert laplacian.matmul(torch.ones(3, 1))[2].item() == 0
    assert repr(laplacian) == "Laplacian(graph, num_nodes=3, nnz=2)"


@pytest.mark.parametrize("kind", ["graph", "weighted graph", "hypergraph", "weighted hypergraph"])
def test_dtype_follows_the_signal_and_device_moves(kind: str) -> None:
    inc, weight = Incidence(torch.tensor([[0, 1], [1, 0]]), (2, 2)), torch.ones(2) if "weighted" in kind else None
    build = Laplacian.from_hypergraph if "hyper" in kind else Laplacian.from_graph
    laplacian = build(inc, weight)
    for dtype in (torch.float32, torch.float64):
        assert laplacian.matmul(torch.ones(2, 1, dtype=dtype)).dtype == dtype
    assert laplacian.to("cpu") is laplacian
    moved = laplacian.to("cpu:0")  # another name of the same place
    assert moved is not laplacian
    assert torch.equal(moved.matmul(torch.eye(2)), laplacian.matmul(torch.eye(2)))


def test_errors() -> None:
    inc = Incidence(torch.tensor([[0], [1]]), (2, 3))
    with pytest.raises(ValueError, match=r"square \(got size \(2, 3\)\)"):
        Laplacian.from_graph(inc)
    with pytest.raises(ValueError, match="non-negative"):
        Laplacian.from_graph(Incidence(torch.tensor([[0], [1]]), (2, 2)), torch.tensor([-1.0]))
    with pytest.raises(ValueError, match="non-negative"):
        Laplacian.from_hypergraph(inc, torch.tensor([1.0, -1.0, 0.0]))
    with pytest.raises(ValueError, match=r"'order' must be at least 1 \(got 0\)"):
        next(chebyshev(Laplacian.from_hypergraph(inc), torch.ones(2, 1), 0))
