from __future__ import annotations

from typing import Any

import pytest
import torch
import torch_geometric.nn as pyg_nn
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from hyperlearn_pyg import HypergraphConv
from hyperlearn_pyg.ops import Incidence
from hyperlearn_pyg.testing import attention_values, dense_hgnn_conv, dense_hypergraph_conv, dense_incidence

Problem = tuple[Tensor, Tensor, Tensor, int]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Features, entries, weights (some zero) and number of hyperedges; sizes from 0, repeated entries, bare nodes."""
    nodes, edges = draw(st.integers(0, 6)), draw(st.integers(0, 5))
    count = draw(st.integers(0, 15)) if nodes and edges else 0
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    index = torch.stack([torch.randint(max(n, 1), (count,), generator=generator) for n in (nodes, edges)])
    x = torch.randn(nodes, 3, dtype=torch.float64, generator=generator)
    weight = torch.rand(edges, dtype=torch.float64, generator=generator)
    return x, index, weight * (torch.rand(edges, generator=generator) < 0.8), edges


def dense_attention(conv: HypergraphConv, x: Tensor, index: Tensor, weight: Tensor | None, attr: Tensor) -> Tensor:
    """The layer with attention, entry by entry."""
    nodes, edges = conv.lin(x).view(-1, conv.heads, conv.out_channels), conv.lin(attr)
    edges = edges.view(-1, conv.heads, conv.out_channels)
    outs = []
    for h in range(conv.heads):
        alpha = attention_values(nodes[:, h], edges[:, h], conv.att[0, h], index, mode=conv.attention_mode)
        incidence = dense_incidence(index, (x.size(0), attr.size(0)), alpha)
        formula = dense_hypergraph_conv if conv.normalization == "row" else dense_hgnn_conv
        outs.append(formula(nodes[:, h], incidence, weight))
    return torch.cat(outs, dim=1) if conv.concat else torch.stack(outs).mean(0)


@given(problems(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_equals_the_dense_formula(problem: Problem, weighted: bool) -> None:
    x, index, weight, edges = problem
    conv = HypergraphConv(3, 2).double()
    torch.nn.init.normal_(conv.bias)
    own = weight if weighted else None
    dense = dense_hypergraph_conv(conv.lin(x), dense_incidence(index, (x.size(0), edges)), own) + conv.bias
    assert torch.allclose(conv(x, index, own, num_edges=edges), dense)
    assert torch.allclose(conv(x, Incidence(index, (x.size(0), edges)), own), dense)


@given(problems(), st.sampled_from(["node", "edge"]), st.booleans(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_attention_equals_the_dense_formula(problem: Problem, mode: str, weighted: bool, concat: bool) -> None:
    x, index, weight, edges = problem
    kind = "symmetric" if weighted and not concat else "row"
    options = {"use_attention": True, "attention_mode": mode, "heads": 2, "concat": concat, "normalization": kind}
    conv = HypergraphConv(3, 2, bias=False, **options).double()  # type: ignore[arg-type]
    attr = torch.randn(edges, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    own = weight if weighted else None
    dense = dense_attention(conv, x, index, own, attr)
    assert torch.allclose(conv(x, index, own, attr), dense)
    incidence = dense_incidence(index, (x.size(0), edges))
    means = incidence.t() @ x / incidence.sum(0).clamp(min=1)[:, None]
    out = conv(x, index, own, num_edges=edges)
    assert torch.allclose(out, dense_attention(conv, x, index, own, means))


@given(problems(), st.sampled_from([None, "node", "edge"]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_constant_stays_constant(problem: Problem, mode: str | None, weighted: bool) -> None:
    x, index, weight, edges = problem
    conv = HypergraphConv(3, 2, mode is not None, mode or "node", bias=False).double()
    own = weight if weighted else None
    attr = torch.randn(edges, 3, dtype=torch.float64) if mode else None
    out = conv(torch.ones_like(x), index, own, attr, num_edges=edges)
    strength = torch.ones(edges, dtype=torch.float64) if own is None else own
    reached = dense_incidence(index, (x.size(0), edges)) @ strength > 0
    expected = torch.where(reached[:, None], conv.lin.weight.sum(1), 0.0)
    assert torch.allclose(out, expected)


@pytest.mark.parametrize("mode", ["node", "edge"])
@pytest.mark.parametrize("normalization", ["row", "symmetric"])
def test_laws_with_attention(laws: Any, mode: str, normalization: str) -> None:
    """Equivariant to the order of nodes, hyperedges and entries; additive over disjoint unions."""

    def make(channels: int) -> torch.nn.Module:
        return HypergraphConv(channels, 2, True, mode, heads=2, normalization=normalization)

    laws.equivariant(make, True)
    laws.additive(make)
    if normalization == "row":
        laws.differentiable(make)


@pytest.mark.parametrize("mode", [None, "node", "edge"])
def test_first_and_second_derivative_for_features_weights_and_parameters(mode: str | None) -> None:
    index = torch.tensor([[0, 1, 1, 2, 3, 0], [0, 0, 1, 1, 1, 2]])
    conv = HypergraphConv(2, 2, mode is not None, mode or "node").double()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(5, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.rand(4, dtype=torch.float64, generator=generator).add(0.5).requires_grad_()

    attr = torch.randn(4, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    values = torch.rand(6, dtype=torch.float64, generator=generator).add(0.5).requires_grad_()

    def f(x: Tensor, weight: Tensor, values: Tensor, attr: Tensor, *_: Tensor) -> Tensor:
        return conv(x, index, weight, attr, incidence_weight=values)

    inputs = (x, weight, values, attr, *conv.parameters())
    if mode is None:
        inputs = (x, weight, values, attr.detach(), *conv.parameters())
    assert gradcheck(f, inputs)
    assert gradgradcheck(f, inputs)


@given(problems())
@settings(max_examples=30, deadline=None)
def test_equals_pyg_without_weights_and_attention(problem: Problem) -> None:
    x, index, _, edges = problem
    ours, theirs = HypergraphConv(3, 2).double(), pyg_nn.HypergraphConv(3, 2).double()
    theirs.load_state_dict(ours.state_dict())
    edges = max(edges, 1)  # PyG derives the number of hyperedges wrongly where there is none
    assert torch.allclose(ours(x, index, num_edges=edges), theirs(x, index, num_edges=edges))


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"use_attention": True, "heads": 2}])
def test_parameters_are_exchanged_with_pyg(options: dict[str, object]) -> None:
    ours, theirs = HypergraphConv(3, 2, **options), pyg_nn.HypergraphConv(3, 2, **options)  # type: ignore[arg-type]
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())
    assert {n: p.shape for n, p in ours.named_parameters()} == {n: p.shape for n, p in theirs.named_parameters()}


def test_attention_over_the_nodes_of_a_hyperedge_equals_pyg_in_the_inner_sum() -> None:
    """One hyperedge over all nodes: PyG's degrees are then off by a factor a node, and only by that."""
    index = torch.stack([torch.arange(4), torch.zeros(4, dtype=torch.long)])
    ours = HypergraphConv(3, 2, use_attention=True, bias=False).double()
    theirs = pyg_nn.HypergraphConv(3, 2, use_attention=True, bias=False).double()
    theirs.load_state_dict(ours.state_dict())
    x, attr = torch.randn(4, 3, dtype=torch.float64), torch.randn(1, 3, dtype=torch.float64)
    a, b = ours(x, index, hyperedge_attr=attr), theirs(x, index, hyperedge_attr=attr)
    ratio = a / b
    assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio))


def test_width_from_the_first_input() -> None:
    conv = HypergraphConv(-1, 2)
    assert conv(torch.randn(3, 5), torch.tensor([[0, 1], [0, 0]])).shape == (3, 2)
    assert conv.lin.weight.shape == (2, 5)
    assert repr(conv) == "HypergraphConv(-1, 2)"


def test_number_of_hyperedges_from_weights_features_or_index() -> None:
    x, index = torch.randn(3, 2), torch.tensor([[0, 1], [0, 0]])
    conv = HypergraphConv(2, 2, use_attention=True)
    for kwargs in ({}, {"num_edges": 4}, {"hyperedge_weight": torch.ones(4)}, {"hyperedge_attr": torch.randn(4, 2)}):
        assert conv(x, index, **kwargs).shape == (3, 2)
    assert conv(x, index[:, :0]).abs().max() == 0


def test_dropout_of_attention_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    conv = HypergraphConv(2, 2, use_attention=True, dropout=0.5)
    x, index = torch.randn(6, 2), torch.stack([torch.arange(6), torch.arange(6) % 2])
    assert not torch.equal(conv(x, index), conv(x, index))
    conv.eval()
    assert torch.equal(conv(x, index), conv(x, index))


def test_errors() -> None:
    conv, x, index = HypergraphConv(2, 2), torch.randn(3, 2), torch.tensor([[0, 1], [0, 0]])
    with pytest.raises(ValueError, match=r"'hyperedge_weight' must have 4 rows, one per hyperedge \(got 3\)"):
        conv(x, index, torch.ones(3), num_edges=4)
    with pytest.raises(ValueError, match=r"'hyperedge_attr' must have 4 rows"):
        conv(x, index, hyperedge_attr=torch.ones(3, 2), num_edges=4)
    with pytest.raises(ValueError, match=r"'x' must have 4 rows, one per node of the incidence \(got 3\)"):
        conv(x, Incidence(index, (4, 1)))
    with pytest.raises(ValueError, match=r"holds node 3, outside \[0, 3\)"):
        conv(x, torch.tensor([[0, 3], [0, 0]]))
    with pytest.raises(ValueError, match="'attention_mode' must be 'node' or 'edge'"):
        HypergraphConv(2, 2, True, "both")
    for kwargs in ({"heads": 2}, {"heads": 0, "use_attention": True}):
        with pytest.raises(ValueError, match="'heads' must be 1 without attention"):
            HypergraphConv(2, 2, **kwargs)  # type: ignore[arg-type]
