"""What holds of every layer, whatever it computes."""

from __future__ import annotations

import copy
import doctest
import importlib
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.checkpoint import checkpoint
from torch_geometric.explain import AttentionExplainer, Explainer, GNNExplainer

from hyperlearn_pyg import nn
from hyperlearn_pyg.nn import conv as family
from hyperlearn_pyg.ops import Incidence, spmm

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
def test_compiled_in_one_graph_for_all_sizes(laws: Any, name: str) -> None:
    sizes = ((7, 5, 9), (8, 6, 20), (30, 41, 17))
    calls = [(torch.randn(n, 4), entries(n, m, count), torch.rand(m)) for n, m, count in sizes]
    laws.one_graph(LAYERS[name](4).eval(), calls)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_exported_with_free_sizes(name: str) -> None:
    conv, dim = LAYERS[name](4).eval(), torch.export.Dim
    sample = torch.randn(9, 4), entries(9, 6, 25), torch.rand(6)
    names = inspect.signature(conv.forward).parameters
    sizes = dict(zip(names, ({0: dim("n")}, {1: dim("nnz")}, {0: dim("m")}), strict=False))
    program = torch.export.export(conv, sample, dynamic_shapes=sizes).module()
    for x, index, weight in (sample, (torch.randn(13, 4), entries(13, 3, 40), torch.rand(3))):
        torch.testing.assert_close(program(x, index, weight), conv(x, index, weight), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_in_low_precision(name: str) -> None:
    conv, x, index, weight = LAYERS[name](4), torch.randn(6, 4), entries(6, 5, 12), torch.ones(5)
    exact = conv(x, index, weight)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = conv(x.requires_grad_(), index, weight)
        mixed.float().square().sum().backward()
    assert torch.allclose(mixed.float(), exact, atol=0.15, rtol=0.1)
    assert all(bool(p.grad.isfinite().all()) for p in conv.parameters())
    low = conv.bfloat16()(x.bfloat16(), index, weight)
    assert low.dtype == torch.bfloat16
    assert torch.allclose(low.float(), exact, atol=0.15, rtol=0.1)


@pytest.mark.parametrize("name", LAYERS)
def test_numbers_are_the_same_with_checkpoints_after_copying_and_in_int64(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    conv, x, index, weight = LAYERS[name](4), torch.randn(6, 4), entries(6, 5, 12), torch.rand(5)
    copies = [copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))]

    def numbers(run: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        leaves = x.clone().requires_grad_(), weight.clone().requires_grad_()
        out = run(leaves[0], index, leaves[1])
        return out, *torch.autograd.grad(out.square().sum(), leaves)

    expected = numbers(conv)
    runs = [*copies, lambda *given: checkpoint(conv, *given, use_reentrant=False)]
    assert all(torch.equal(a, b) for run in runs for a, b in zip(numbers(run), expected, strict=True))
    monkeypatch.setitem(Incidence.__init__.__globals__, "_INT32_MAX", 2)
    conv.cached = False
    assert all(torch.equal(a, b) for a, b in zip(numbers(conv), expected, strict=True))


@pytest.mark.parametrize("name", LAYERS)
def test_numbers_are_the_same_on_two_threads_and_in_the_next_run(name: str) -> None:
    conv, before, runs = LAYERS[name](8), torch.get_num_threads(), []
    x, index, weight = torch.randn(2000, 8), entries(2000, 700, 12000), torch.rand(700)
    torch.use_deterministic_algorithms(True)
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            leaf = x.clone().requires_grad_()
            out = conv(leaf, index, weight)
            # torch sums the gradients of a layer norm's parameters thread by thread
            inputs = [leaf, *(p for n, p in conv.named_parameters() if "norm" not in n)]
            runs.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for other in runs[1:] for a, b in zip(runs[0], other, strict=True))


@pytest.mark.parametrize("name", LAYERS)
def test_what_stands_alone_gets_what_nothing_gives(name: str) -> None:
    """Isolated nodes, empty hyperedges and weightless ones: zeros but for what the layer keeps of the node, no NaN."""
    conv = LAYERS[name](4).eval()
    for parameter in conv.parameters():
        parameter.data.uniform_(0.1, 0.2)
    index = torch.tensor([[0, 1, 1, 2], [0, 0, 1, 1]])
    x, weight = torch.rand(5, 4, requires_grad=True), torch.tensor([1.0, 0.0, 1.0], requires_grad=True)
    returned = {} if name == "ChebHypergraphConv" else {"return_hyperedges": True}
    out = conv(x, index, weight, **returned)
    out, edges = out if returned else (out, None)
    alone = conv(x[3:], index[:, :0], num_edges=0)
    torch.testing.assert_close(out[3:], alone)
    if edges is not None and name not in ("AllDeepSetsConv", "AllSetTransformerConv"):
        assert edges[2].abs().sum() == 0
    if getattr(conv, "bias", None) is not None and name not in ("ChebHypergraphConv", "UniGINConv", "UniSAGEConv"):
        assert torch.equal(alone, conv.bias.expand_as(alone))
    out.square().sum().backward()
    assert all(bool(g.isfinite().all()) for g in (x.grad, weight.grad))


@pytest.mark.parametrize("name", LAYERS)
def test_explained(name: str) -> None:
    index = torch.tensor([[0, 1, 1, 2, 3, 4], [0, 0, 1, 1, 2, 2]])

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = LAYERS[name](4)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            out: Tensor = self.conv(x, edge_index, num_edges=3)
            return out

    def explain(algorithm: Any, **more: Any) -> Tensor:
        config = {"mode": "multiclass_classification", "task_level": "node", "return_type": "raw"}
        explainer = Explainer(
            Net(), algorithm, explanation_type="model", edge_mask_type="object", model_config=config, **more
        )
        return explainer(torch.randn(5, 4), index, index=0).edge_mask

    mask = explain(GNNExplainer(epochs=3), node_mask_type="attributes")
    assert mask[:2].abs().sum() > 0
    assert mask[4:].abs().sum() == 0  # of another component
    if name in ("AllSetTransformerConv", "HypergraphConv", "UniGATConv"):
        assert explain(AttentionExplainer()).shape == (6,)


@pytest.mark.parametrize("name", family.__all__)
def test_the_example_of_the_docstring(name: str) -> None:
    layer = getattr(family, name)
    names = {**vars(importlib.import_module(layer.__module__)), "torch": torch}
    (example,) = doctest.DocTestFinder(recurse=False).find(layer, name, globs=names)
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0
