from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch_geometric.nn import ChebConv

from hyperlearn_pyg.nn import ChebHypergraphConv
from hyperlearn_pyg.ops import Incidence, Laplacian
from hyperlearn_pyg.testing import dense_graph_laplacian, dense_hypergraph_laplacian, dense_incidence

INDEX = torch.tensor([[0, 1, 1, 2, 3, 0], [0, 0, 1, 1, 1, 2]])
GRAPH = torch.tensor([[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]])


def dense(conv: ChebHypergraphConv, matrix: Tensor, x: Tensor) -> Tensor:
    shifted = matrix - torch.eye(len(matrix), dtype=torch.float64)
    terms = [x, shifted @ x]
    for _ in range(conv.K):
        terms.append(2 * shifted @ terms[-1] - terms[-2])
    out = torch.cat(terms[: conv.K], dim=1) @ conv.lin.weight.t()
    return out if conv.bias is None else out + conv.bias


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("kind", ["graph", "hypergraph"])
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_the_dense_recurrence(order: int, kind: str, weighted: bool) -> None:
    conv = ChebHypergraphConv(2, 3, order, kind=kind, bias=not weighted).double()
    x = torch.randn(5, 2, dtype=torch.float64)  # node 4 is isolated
    if kind == "graph":
        weight = torch.tensor([1.0, 1.0, 2.0, 2.0, 0.5, 0.5], dtype=torch.float64) if weighted else None
        matrix = dense_graph_laplacian(dense_incidence(GRAPH, (5, 5), weight))
        assert torch.allclose(conv(x, GRAPH, weight), dense(conv, matrix, x))
        prepared = Laplacian.from_graph(Incidence(GRAPH, (5, 5)), weight)
    else:
        weight = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64) if weighted else None
        matrix = dense_hypergraph_laplacian(dense_incidence(INDEX, (5, 3)), weight)
        assert torch.allclose(conv(x, INDEX, weight), dense(conv, matrix, x))
        prepared = Laplacian.from_hypergraph(Incidence(INDEX, (5, 3)), weight)
    assert torch.allclose(conv(x, prepared), dense(conv, matrix, x))


def test_laws(laws: Any) -> None:
    def reference(conv, x, incidence, weight):  # type: ignore[no-untyped-def]
        return dense(conv, dense_hypergraph_laplacian(incidence, weight), x)

    laws.all(lambda channels: ChebHypergraphConv(channels, 2, 3), reference, hyperedges=False, at_zero=False)


def test_a_graph_as_sparse_matrix_and_signals_of_any_width() -> None:
    conv = ChebHypergraphConv(-1, 3, 3, kind="graph").double()
    x, weight = torch.randn(2, 5, 2, dtype=torch.float64), torch.tensor([1.0, 1, 2, 2, 0.5, 0.5]).double()
    matrix = torch.sparse_coo_tensor(GRAPH, weight, (5, 5), check_invariants=True)
    out = conv(x, GRAPH, weight)
    assert torch.allclose(out[1], conv(x[1], GRAPH, weight))
    assert torch.allclose(out, conv(x, matrix))
    with pytest.raises(ValueError, match="'incidence_weight' is for kind='hypergraph'"):
        conv(x, GRAPH, incidence_weight=weight)


def test_equals_pyg_on_a_graph() -> None:
    ours, theirs = ChebHypergraphConv(2, 3, 4, kind="graph").double(), ChebConv(2, 3, 4).double()
    for lin, block in zip(theirs.lins, ours.lin.weight.split(2, dim=1), strict=True):
        lin.weight.data = block.detach().clone()
    x = torch.randn(4, 2, dtype=torch.float64)
    assert torch.allclose(ours(x, GRAPH), theirs(x, GRAPH, lambda_max=torch.tensor(2.0)), atol=1e-6)


def test_derivative() -> None:
    conv = ChebHypergraphConv(2, 2, 3).double()
    x = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x, weight, *_: conv(x, INDEX, weight), (x, weight, *conv.parameters()))


@pytest.mark.parametrize("nodes", [0, 1])
def test_small(nodes: int) -> None:
    conv = ChebHypergraphConv(2, 3, 3)
    assert conv(torch.ones(nodes, 2), torch.empty(2, 0, dtype=torch.long)).shape == (nodes, 3)
    assert conv(torch.ones(nodes, 2), torch.empty(2, 0, dtype=torch.long), num_edges=2).shape == (nodes, 3)
    assert repr(conv) == "ChebHypergraphConv(2, 3, K=3, kind='hypergraph')"


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"'K' must be at least 1 \(got 0\)"):
        ChebHypergraphConv(2, 2, 0)
    with pytest.raises(ValueError, match="'kind' must be"):
        ChebHypergraphConv(2, 2, 1, kind="tree")


def test_a_pair_of_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="from nodes to nodes only"):
        ChebHypergraphConv((-1, -1), 4, K=2)  # type: ignore[arg-type]
