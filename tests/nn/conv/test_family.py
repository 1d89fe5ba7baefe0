"""What holds of every layer, whatever it computes."""

from __future__ import annotations

import doctest
import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from hyperlearn_pyg import nn
from hyperlearn_pyg.nn import conv as family
from hyperlearn_pyg.ops import spmm

WIDTH = 16
LAYERS: dict[str, Callable[[int], torch.nn.Module]] = {
    "AllDeepSetsConv": lambda c: nn.AllDeepSetsConv(c, WIDTH),
    "AllSetTransformerConv": lambda c: nn.AllSetTransformerConv(c, WIDTH, heads=2),
    "ChebHypergraphConv": lambda c: nn.ChebHypergraphConv(c, WIDTH, K=3),
    "HGNNConv": lambda c: nn.HGNNConv(c, WIDTH),
    "HGNNPConv": lambda c: nn.HGNNPConv(c, WIDTH),
    "HNHNConv": lambda c: nn.HNHNConv(c, WIDTH),
    "HypergraphConv": lambda c: nn.HypergraphConv(c, WIDTH, use_attention=True, heads=2),
    "UniGATConv": lambda c: nn.UniGATConv(c, WIDTH, heads=2),
    "UniGCNConv": lambda c: nn.UniGCNConv(c, WIDTH),
    "UniGINConv": lambda c: nn.UniGINConv(c, WIDTH),
    "UniSAGEConv": lambda c: nn.UniSAGEConv(c, WIDTH),
}


def entries(nodes: int, edges: int, count: int) -> Tensor:
    return torch.stack([torch.randint(nodes, (count,)), torch.randint(edges, (count,))])


class Largest(TorchDispatchMode):
    """Watches the size of every floating-point tensor that comes into being."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_flatten(out)[0]:
            if isinstance(leaf, Tensor) and leaf.is_floating_point():
                self.numel = max(self.numel, leaf.numel())
        return out


def test_every_layer_is_here() -> None:
    assert {*LAYERS, "HeteroHypergraphConv"} == set(family.__all__) <= set(nn.__all__)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("weighted", [False, True])
def test_nothing_as_large_as_incidences_times_channels_is_made(
    name: str, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(spmm.__globals__, "_CHUNK", 16)
    nnz = 3000
    conv, x, index = LAYERS[name](WIDTH), torch.randn(20, WIDTH, requires_grad=True), entries(20, 10, nnz)
    weight = torch.rand(10, requires_grad=True) if weighted else None
    with Largest() as watch:
        conv(x, index, weight).square().sum().backward()
    assert x.grad is not None
    assert watch.numel < nnz * WIDTH / 2


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # by dynamo itself
@pytest.mark.parametrize("name", LAYERS)
def test_compiled_in_one_graph(name: str) -> None:
    torch._dynamo.reset()
    conv = LAYERS[name](4).eval()
    compiled = torch.compile(conv, fullgraph=True, dynamic=True, backend="eager")
    for nodes, edges, count in ((5, 4, 9), (8, 6, 20)):
        x, index = torch.randn(nodes, 4), entries(nodes, edges, count)
        assert torch.allclose(compiled(x, index, num_edges=edges), conv(x, index, num_edges=edges), atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_in_low_precision(name: str) -> None:
    conv, x, index = LAYERS[name](4), torch.randn(6, 4), entries(6, 5, 12)
    exact = conv(x, index, torch.ones(5))
    low = conv.bfloat16()(x.bfloat16(), index, torch.ones(5))
    assert low.dtype == torch.bfloat16
    assert torch.allclose(low.float(), exact, atol=0.15, rtol=0.1)


@pytest.mark.parametrize("name", family.__all__)
def test_the_example_of_the_docstring(name: str) -> None:
    layer = getattr(family, name)
    names = {**vars(importlib.import_module(layer.__module__)), "torch": torch}
    (example,) = doctest.DocTestFinder(recurse=False).find(layer, name, globs=names)
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0
