from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch_geometric.nn as pyg
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import BatchNorm1d, Module

from hyperlearn_pyg import nn
from hyperlearn_pyg.nn import ResidualHypergraphStack
from hyperlearn_pyg.testing import dense_hgnn_conv, dense_hypergraph_conv, dense_incidence

DOUBLE = torch.float64
INDEX = torch.tensor([[0, 1, 1, 1, 2, 3, 0], [0, 0, 1, 1, 1, 1, 2]])


def drawn(stack: Module, seed: int = 0) -> Module:
    generator = torch.Generator().manual_seed(seed)
    stack = stack.double()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.normal_(std=0.5, generator=generator)
    return stack


def dense(stack: ResidualHypergraphStack, x: Tensor, incidence: Tensor, layer: Callable[..., Tensor]) -> Tensor:
    """Compute the stack by dense matrices in float64, a formula at a time."""

    def norm(h: Tensor, part: Module) -> Tensor:
        centred = h - h.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + part.eps).sqrt() * part.weight + part.bias

    h = x @ stack.lin_in.weight.t() + stack.lin_in.bias
    for number, block in enumerate(stack.blocks):
        inner = norm(h, block.norm).clamp(min=0)
        branch = layer(inner @ block.conv.lin.weight.t(), incidence) + block.conv.bias
        h = h + (1.0 if number == 0 else float(stack.residual_scale)) * branch
    return norm(h, stack.norm).clamp(min=0) @ stack.lin_out.weight.t() + stack.lin_out.bias


@pytest.mark.parametrize(
    ("conv", "layer"), [(nn.HGNNConv, dense_hgnn_conv), (nn.HypergraphConv, dense_hypergraph_conv)]
)
@given(nodes=st.integers(0, 5), edges=st.integers(0, 4), blocks=st.integers(1, 9), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=8)
def test_equals_dense_matrices_with_gradients(
    conv: type[Module], layer: Callable[..., Tensor], nodes: int, edges: int, blocks: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    stack = drawn(ResidualHypergraphStack(4, 5, 2, blocks, conv=conv), seed)
    stack.residual_scale.fill_(0.3)
    count = 8 if nodes and edges else 0
    index = torch.stack([torch.randint(max(n, 1), (count,), generator=generator) for n in (nodes, edges)])
    x = torch.randn(nodes, 4, dtype=DOUBLE, generator=generator, requires_grad=True)
    out, wanted = stack(x, index, num_edges=edges), dense(stack, x, dense_incidence(index, (nodes, edges)), layer)
    torch.testing.assert_close(out, wanted, rtol=1e-9, atol=1e-9)
    weight = torch.randn(out.shape, dtype=DOUBLE, generator=generator)
    given, *parameters = (x, *stack.parameters())
    found = torch.autograd.grad((out * weight).sum(), (given, *parameters))
    for grad, other in zip(found, torch.autograd.grad((wanted * weight).sum(), (given, *parameters)), strict=True):
        torch.testing.assert_close(grad, other, rtol=1e-7, atol=1e-7)


def test_gradients_are_those_of_finite_differences() -> None:
    stack = drawn(ResidualHypergraphStack(3, 4, 2, 3, act=torch.nn.Tanh()))
    x = torch.randn(4, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.autograd.gradcheck(lambda value: stack(value, INDEX), (x,))


def test_dropout_acts_in_training_alone_and_a_zero_branch_is_the_identity() -> None:
    stack = drawn(ResidualHypergraphStack(3, 4, 2, 8, dropout=0.5))
    x = torch.randn(4, 3, dtype=DOUBLE)
    assert not torch.equal(stack(x, INDEX), stack(x, INDEX))
    stack.eval()
    assert torch.equal(stack(x, INDEX), stack(x, INDEX))
    with torch.no_grad():
        for block in stack.blocks:
            block.conv.lin.weight.zero_()
            block.conv.bias.zero_()
    plain = stack.lin_out(stack.norm(stack.lin_in(x)).relu())
    assert torch.equal(stack(x, INDEX), plain)


def test_other_layers_norms_and_arguments() -> None:
    x, weight = torch.randn(4, 3), torch.tensor([0.5, 2.0, 1.0])
    stack = ResidualHypergraphStack(3, 8, 2, 4, conv=nn.UniGCNConv, norm=BatchNorm1d, act="elu")
    assert stack(x, INDEX, hyperedge_weight=weight).shape == (4, 2)
    graph = ResidualHypergraphStack(3, 8, 2, 4, conv=pyg.GCNConv)
    assert graph(x, INDEX).shape == (4, 2)
    assert repr(graph) == "ResidualHypergraphStack(3, 8, 2, num_blocks=4, conv=GCNConv)"
    before = stack.lin_in.weight.detach().clone()
    stack.residual_scale.fill_(0.5)
    stack.reset_parameters()
    assert float(stack.residual_scale) == 1.0
    assert not torch.equal(stack.lin_in.weight, before)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_blocks": 0}, "'num_blocks' must be at least 1"),
        ({"hidden_channels": 2.5}, "'hidden_channels' must be a whole number"),
        ({"dropout": 1.5}, "'dropout' must lie in"),
    ],
)
def test_what_is_not_possible_is_refused(options: dict[str, float], text: str) -> None:
    given = {"in_channels": 3, "hidden_channels": 4, "out_channels": 2, **options}
    with pytest.raises(ValueError, match=text):
        ResidualHypergraphStack(**given)


def test_features_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'x' must have shape \[\*, N, 3\]"):
        ResidualHypergraphStack(3, 4, 2)(torch.randn(4, 5), INDEX)
