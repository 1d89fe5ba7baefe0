"""HypergraphConv where PyG's layer, or any bipartite PyG layer, is used."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
import torch_geometric.nn as pyg_nn
import torch_geometric.transforms as pyg_transforms
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from torch_geometric import EdgeIndex
from torch_geometric.explain import Explainer, GNNExplainer
from torch_geometric.nn import HeteroConv, to_hetero
from torch_geometric.testing import withCUDA, withPackage

from hyperlearn_pyg import HypergraphConv, MultiModalHeteroData
from hyperlearn_pyg.ops import Incidence

N, M, NNZ = 7, 5, 16
ATTENTION: list[dict[str, Any]] = [
    {},
    {"use_attention": True, "heads": 2},
    {"use_attention": True, "heads": 3, "attention_mode": "edge", "concat": False},
]


def problem(seed: int = 0, *, isolated: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, index (the last node and hyperedge isolated), weights, hyperedge features."""
    generator = torch.Generator().manual_seed(seed)
    index = torch.stack([torch.randint(n - isolated, (NNZ,), generator=generator) for n in (N, M)])
    x, attr = torch.randn(N, 6, generator=generator), torch.randn(M, 6, generator=generator)
    return x, index, torch.rand(M, generator=generator) + 0.1, attr


@pytest.mark.parametrize("kwargs", ATTENTION)
@pytest.mark.parametrize("weighted", [False, True])
def test_pyg_compat_gives_pyg_numbers(kwargs: dict[str, Any], weighted: bool) -> None:
    x, index, weight, attr = problem()
    theirs = pyg_nn.HypergraphConv(6, 4, **kwargs)
    ours = HypergraphConv(6, 4, pyg_compat=True, **kwargs)
    ours.load_state_dict(theirs.state_dict())
    arguments = (index, weight if weighted else None, attr, M)
    torch.testing.assert_close(ours(x, *arguments), theirs(x, *arguments))
    theirs.load_state_dict(ours.state_dict())


def test_pyg_compat_has_pyg_gradients() -> None:
    x, index, weight, attr = problem()
    for kwargs in ATTENTION:
        theirs = pyg_nn.HypergraphConv(6, 4, **kwargs)
        ours = HypergraphConv(6, 4, pyg_compat=True, **kwargs)
        ours.load_state_dict(theirs.state_dict())
        grads = []
        for layer in (theirs, ours):
            layer(x, index, weight, attr, M).square().sum().backward()
            grads.append([p.grad for p in layer.parameters()])
        for expected, got in zip(*grads, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")  # torch on its own sparse tensors
@pytest.mark.parametrize("kwargs", ATTENTION)
@pytest.mark.parametrize("normalization", ["row", "symmetric"])
def test_forms_of_the_index_are_one(kwargs: dict[str, Any], normalization: str) -> None:
    x, index, weight, attr = problem()
    conv = HypergraphConv(6, 4, normalization=normalization, **kwargs)
    expected = conv(x, index, weight, attr, num_edges=M)
    coo = torch.sparse_coo_tensor(index.flip(0), torch.ones(NNZ), (M, N))
    forms = [EdgeIndex(index, sparse_size=(N, M)), Incidence(index, (N, M)), index.int()]
    for form in forms:
        torch.testing.assert_close(conv(x, form, weight, attr), expected)
    sparse = conv(x, index[:, torch.arange(NNZ)], weight, attr, num_edges=M)
    torch.testing.assert_close(sparse, expected)
    if not kwargs:  # duplicates of a sparse matrix are summed into one entry with a value
        for form in (coo, coo.to_sparse_csr()):
            torch.testing.assert_close(conv(x, form, weight, attr), expected)


def test_holders_of_the_index_bring_their_own_size() -> None:
    """Behind the largest index too: the last hyperedge and the last node have no incidences."""
    x, index, _, _ = problem()
    index = index.unique(dim=1).contiguous()
    sparse = torch.sparse_coo_tensor(index.flip(0), torch.ones(index.size(1)), (M, N), check_invariants=True)
    conv = HypergraphConv(6, 4)
    for form in (EdgeIndex(index, sparse_size=(N, M)), sparse, Incidence(index, (N, M))):
        out, edges = conv(x, form, return_hyperedges=True)
        assert (out.size(0), edges.size(0)) == (N, M)
        with pytest.raises(ValueError, match=r"'x' must have 7 rows, one per node of the incidence \(got 6\)"):
            conv(x[:6], form)
        with pytest.raises(ValueError, match=r"'hyperedge_weight' must have 5 rows"):
            conv(x, form, torch.ones(4))


@withPackage("torch_sparse")
def test_torch_sparse_input() -> None:
    from torch_sparse import SparseTensor

    x, index, weight, _ = problem()
    values = torch.rand(NNZ).requires_grad_()
    adj_t = SparseTensor(row=index[1], col=index[0], value=values, sparse_sizes=(M, N))
    plain = SparseTensor(row=index[1], col=index[0], sparse_sizes=(M, N))
    for kwargs in ATTENTION:
        conv = HypergraphConv(6, 4, **kwargs)
        out, edges = conv(x, plain, return_hyperedges=True)
        assert edges.size(0) == M  # the last of which are empty
        torch.testing.assert_close(out, conv(x, index))
        expected = conv(x, index, weight, incidence_weight=values)
        torch.testing.assert_close(conv(x, adj_t, weight), expected)
    (grad,) = torch.autograd.grad(conv(x, adj_t, weight).square().sum(), values)
    torch.testing.assert_close(grad, torch.autograd.grad(expected.square().sum(), values)[0])
    half = HypergraphConv(6, 4, direction="to_node")
    attr = torch.randn(M, 6)
    torch.testing.assert_close(half((attr, x), plain.t(), weight), half((attr, x), index.flip(0), weight))


@pytest.mark.parametrize("kwargs", ATTENTION)
def test_static_input_is_a_loop(kwargs: dict[str, Any]) -> None:
    _, index, weight, _ = problem()
    x, attr = torch.randn(2, 3, N, 6), torch.randn(2, 3, M, 6)
    conv = HypergraphConv(6, 4, **kwargs)
    out = conv(x, index, weight, attr)
    assert out.shape == (2, 3, N, 4 * (2 if kwargs.get("concat", True) and kwargs else 1))
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(out[i, j], conv(x[i, j], index, weight, attr[i, j]))


@pytest.mark.parametrize("normalization", ["row", "symmetric"])
def test_two_halves_make_the_round_trip(normalization: str) -> None:
    x, index, weight, _ = problem()
    values = torch.rand(NNZ)
    whole = HypergraphConv(6, 6, bias=False, normalization=normalization)
    there = HypergraphConv(6, 6, bias=False, normalization=normalization, direction="to_hyperedge")
    back = HypergraphConv(6, 6, bias=False, normalization=normalization, direction="to_node")
    with torch.no_grad():
        there.lin.weight.copy_(whole.lin.weight)
        back.lin.weight.copy_(torch.eye(6))
    out, edges = whole(x, index, weight, incidence_weight=values, return_hyperedges=True)
    half = there((x, None), index, weight, incidence_weight=values, num_edges=M)
    torch.testing.assert_close(half, edges)
    rest = back((half, x), index.flip(0), weight, incidence_weight=values)
    torch.testing.assert_close(rest, out)


def test_a_half_way_is_a_mean() -> None:
    x, index, weight, attr = problem()
    conv = HypergraphConv((6, 6), 6, bias=False)
    with torch.no_grad():
        conv.lin.weight.copy_(torch.eye(6))
    out = conv((x, attr), index)
    for e in range(M):
        members = x[index[0, index[1] == e]]
        torch.testing.assert_close(out[e], members.mean(0) if len(members) else torch.zeros(6))
    assert torch.equal(out, conv((x, attr), index, weight))  # weights of hyperedges play no part on the way to them


def make_data() -> MultiModalHeteroData:
    generator = torch.Generator().manual_seed(0)
    data = MultiModalHeteroData()
    for name, (size, width) in {"user": (5, 8), "film": (4, 6)}.items():
        data.add_modality(name, x=torch.randn(size, width, generator=generator))
    index = torch.stack([torch.randint(n, (9,), generator=generator) for n in (5, 4)])
    data.add_hyperedges("rates", index, modalities=("user", "film"))
    data["rates"].x = torch.randn(9, 3, generator=generator)
    out: MultiModalHeteroData = pyg_transforms.ToUndirected()(data)
    return out


@pytest.mark.parametrize("kwargs", ATTENTION)
def test_hetero_conv_over_memberships(kwargs: dict[str, Any]) -> None:
    data = make_data()
    conv = HeteroConv({t: HypergraphConv((-1, -1), 16, **kwargs) for t in data.edge_types})
    out = conv(data.x_dict, data.edge_index_dict)
    width = 16 * (2 if kwargs.get("heads") == 2 else 1)
    assert {k: tuple(v.shape) for k, v in out.items()} == {"user": (5, width), "film": (4, width), "rates": (9, width)}


def test_to_hetero() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = HypergraphConv((-1, -1), 16), HypergraphConv((-1, -1), 4)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            out: Tensor = self.second(self.first(x, edge_index).relu(), edge_index)
            return out

    data = make_data()
    out = to_hetero(Net(), data.metadata())(data.x_dict, data.edge_index_dict)
    assert {k: tuple(v.shape) for k, v in out.items()} == {"user": (5, 4), "film": (4, 4), "rates": (9, 4)}
    sum(v.sum() for v in out.values()).backward()


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # by dynamo itself
@pytest.mark.parametrize("kwargs", [ATTENTION[0], ATTENTION[2]])
def test_compiled_in_one_graph_for_all_sizes(laws: Any, kwargs: dict[str, Any]) -> None:
    calls = []
    for nodes, edges, nnz in ((7, 5, 16), (9, 4, 30), (20, 31, 50), (40, 11, 21)):
        index = torch.stack([torch.randint(nodes, (nnz,)), torch.randint(edges, (nnz,))])
        calls.append((torch.randn(nodes, 6), index, torch.rand(edges)))
    laws.one_graph(HypergraphConv(6, 4, **kwargs), calls)


def test_exported_with_free_sizes() -> None:
    x, index, _, _ = problem()
    conv = HypergraphConv(6, 4)
    shapes = {"x": {0: torch.export.Dim("n")}, "hyperedge_index": {1: torch.export.Dim("nnz")}, "num_edges": None}
    program = torch.export.export(conv, (x, index), {"num_edges": M}, dynamic_shapes=shapes).module()
    torch.testing.assert_close(program(x, index, num_edges=M), conv(x, index, num_edges=M))
    more = torch.cat([x, x])
    index = torch.cat([index, index + torch.tensor([[N], [0]])], dim=1)
    torch.testing.assert_close(program(more, index, num_edges=M), conv(more, index, num_edges=M))


@pytest.mark.parametrize("kwargs", ATTENTION)
def test_half_precision(kwargs: dict[str, Any]) -> None:
    x, index, weight, attr = problem()
    conv = HypergraphConv(6, 4, **kwargs)
    expected = conv(x, index, weight, attr)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(conv(x, index, weight, attr).float(), expected, rtol=0.05, atol=0.05)
    half = conv.bfloat16()(x.bfloat16(), index, weight.bfloat16(), attr.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("kwargs", ATTENTION)
def test_checkpoint_and_deterministic_mode(kwargs: dict[str, Any]) -> None:
    x, index, weight, attr = problem()
    conv = HypergraphConv(6, 4, **kwargs)
    grads = []
    torch.use_deterministic_algorithms(True)
    try:
        for run in (conv, lambda *a: checkpoint(conv, *a, use_reentrant=False)):
            leaf = x.clone().requires_grad_()
            run(leaf, index, weight, attr).square().sum().backward()
            grads.append(leaf.grad)
    finally:
        torch.use_deterministic_algorithms(False)
    assert grads[0] is not None
    assert torch.equal(grads[0], grads[1])


def test_same_numbers_on_one_and_two_threads() -> None:
    generator = torch.Generator().manual_seed(0)
    index = torch.stack([torch.randint(n, (20000,), generator=generator) for n in (3000, 1000)])
    x = torch.randn(3000, 16, generator=generator)
    conv, before, results = HypergraphConv(16, 16, use_attention=True), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            leaf = x.clone().requires_grad_()
            out = conv(leaf, index)
            out.sum().backward()
            results.append((out.detach(), leaf.grad))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_explainer_masks_messages_not_degrees() -> None:
    x, index, _, _ = problem()

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = HypergraphConv(6, 3)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            out: Tensor = self.conv(x, edge_index, num_edges=M)
            return out

    explainer = Explainer(
        Net(),
        GNNExplainer(epochs=10),
        explanation_type="model",
        node_mask_type="attributes",
        edge_mask_type="object",
        model_config={"mode": "multiclass_classification", "task_level": "node", "return_type": "raw"},
    )
    mask = explainer(x, index, index=int(index[0, 0])).edge_mask
    near = (index[1][:, None] == index[1][index[0] == index[0, 0]]).any(1)
    assert mask.shape == (NNZ,)
    assert mask[near].abs().sum() > 0
    assert mask[~near].abs().sum() == 0


@withCUDA
def test_device(device: torch.device) -> None:
    x, index, weight, attr = problem()
    for kwargs in ATTENTION:
        conv = HypergraphConv(6, 4, **kwargs)
        expected = conv(x, index, weight, attr)
        got = conv.to(device)(x.to(device), index.to(device), weight.to(device), attr.to(device))
        torch.testing.assert_close(got.cpu(), expected, rtol=1e-4, atol=1e-5)


def test_cache_is_shared_and_can_be_off(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("hyperlearn_pyg.ops.incidence")
    x, index, _, _ = problem()
    built = 0
    plain = module.Incidence._describe

    def counting(self: Incidence, *args: Any, **kwargs: Any) -> None:
        nonlocal built
        built += 1
        plain(self, *args, **kwargs)

    monkeypatch.setattr(module.Incidence, "_describe", counting)
    first, second = HypergraphConv(6, 6), HypergraphConv(6, 6)
    for _ in range(3):
        second(first(x, index), index)
    assert built == 1
    index[0, 0] = 3  # written to: compressed anew
    first(x, index)
    assert built == 2
    off = HypergraphConv(6, 6, cached=False)
    off(x, index)
    off(x, index)
    assert built == 4


def test_one_tensor_goes_one_direction_to_a_number_of_targets() -> None:
    x, index, _, _ = problem()
    conv = HypergraphConv(6, 4, direction="to_hyperedge")
    expected = conv((x, None), index, size=(N, M))
    assert torch.equal(conv(x, index, num_edges=M), expected)
    assert torch.equal(conv(x, index, size=(N, M)), expected)


def test_clear_errors() -> None:
    x, index, weight, attr = problem()
    conv, attentive = HypergraphConv(6, 4), HypergraphConv(6, 4, True)
    cases: list[tuple[str, Any]] = [
        (
            r"'attention_mode' must be 'node' or 'edge' \(got 'nodes'\)",
            lambda: HypergraphConv(6, 4, attention_mode="nodes"),
        ),
        (r"'heads' must be 1 without attention", lambda: HypergraphConv(6, 4, heads=2)),
        (r"'normalization' must be", lambda: HypergraphConv(6, 4, normalization="col")),
        (r"'direction' must be", lambda: HypergraphConv(6, 4, direction="up")),
        (r"'pyg_compat' goes with", lambda: HypergraphConv(6, 4, pyg_compat=True, normalization="symmetric")),
        (r"'in_channels' must be at least 1, or -1", lambda: HypergraphConv(0, 4)),
        (r"'out_channels' must be at least 1", lambda: HypergraphConv(6, 0)),
        (r"'hyperedge_attr' must have shape \[\*, N, 6\]", lambda: attentive(x, index, None, attr[:, :5])),
        (r"'hyperedge_weight' must have shape \[5\]", lambda: conv(x, index, weight[:, None], num_edges=M)),
        (r"'num_edges' must not be negative", lambda: conv(x, index, num_edges=-1)),
        (r"'num_edges' and 'size' differ", lambda: conv(x, index, num_edges=9, size=(N, M))),
        (r"goes with use_attention=True", lambda: conv(x, index, return_attention_weights=True)),
        (r"\(got \[2, 16\], torch.bool\)", lambda: conv(x, index.bool())),
        (r"'hyperedge_index' row 1 .* told by 'hyperedge_weight', one", lambda: conv(x, index, weight[:1])),
        (r"outside \[0, 1\); .* told by 'hyperedge_attr', one", lambda: attentive(x, index, None, attr[:1])),
        (r"outside \[0, 1\); .* told by 'x\[1\]', one", lambda: conv((x, attr[:1]), index)),
        (r"outside \[0, 1\); .* told by 'size'", lambda: conv(x, index, size=(N, 1))),
        (r"'x' is of type torch.float64, the layer of torch.float32", lambda: conv(x.double(), index, num_edges=M)),
        (r"'x' is of type torch.int64", lambda: conv(x.long(), index, num_edges=M)),
        (r"'dropout' must lie in \[0, 1\] \(got 2.0\)", lambda: HypergraphConv(6, 4, True, dropout=2.0)),
        (r"'aggr' is 'add' in every hypergraph layer \(got 'max'\)", lambda: HypergraphConv(6, 4, aggr="max")),
        (r"'in_channels' must be a whole number \(got '8'\)", lambda: HypergraphConv("8", 4)),
        (r"'flow' is 'source_to_target'", lambda: HypergraphConv(6, 4, flow="target_to_source")),
        (r"'hyperedge_weight' must have 9 rows", lambda: conv(x, index, weight, num_edges=9)),
        (r"'hyperedge_attr' must have 9 rows", lambda: conv(x, index, None, attr, num_edges=9)),
        (r"'incidence_weight' must have 16 rows", lambda: conv(x, index, incidence_weight=torch.ones(3))),
        (r"integer tensor of shape \[2, nnz\]", lambda: conv(x, index.float(), num_edges=M)),
        (r"integer tensor of shape \[2, nnz\]", lambda: conv(x, index.t(), num_edges=M)),
        (r"node 99, outside \[0, 7\)", lambda: conv(x, index.index_fill(1, torch.tensor([0]), 99), num_edges=M)),
        (r"hyperedge \d, outside \[0, 1\)", lambda: conv(x, index, num_edges=1)),
        (r"'hyperedge_index' must be a tensor", lambda: conv(x, [[0], [0]])),
        (r"'x' must have 3 rows", lambda: conv(x, index, size=(3, M))),
        (r"needs direction", lambda: HypergraphConv(6, 4, normalization="symmetric")((x, None), index)),
        (r"fits source and target alike", lambda: conv((x[:5], attr), index[:, :0], weight)),
        (
            r"needs the features of both",
            lambda: HypergraphConv(6, 4, True, direction="to_node")((attr, None), index.flip(0), size=(M, N)),
        ),
    ]
    for message, call in cases:
        with pytest.raises(ValueError, match=message):
            call()
