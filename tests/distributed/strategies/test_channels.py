"""GIST's algebra in one process: what is found in a model, what is dealt, and that a narrow network is a masked one."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torch_geometric.nn as pyg
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import Linear, Module

from hyperlearn_pyg import nn
from hyperlearn_pyg.distributed.strategies._channels import Hidden, deal, put_, take
from hyperlearn_pyg.distributed.strategies._initial import fill_, noted, without_values
from hyperlearn_pyg.distributed.strategies._narrow import merge_, narrow, skeleton, tensors_of
from hyperlearn_pyg.distributed.strategies._trace import ChannelPlan, trace
from hyperlearn_pyg.errors import InputError

DOUBLE = torch.float64
NODES, WIDTH, OUT = 7, 8, 3
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(NODES, 5, dtype=DOUBLE, generator=GENERATOR)
INDEX = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 0, 2, 4], [1, 0, 3, 2, 4, 6, 5, 2, 5, 1]])
WEIGHT = torch.rand(NODES, dtype=DOUBLE, generator=GENERATOR)


class Net(Module):
    """Two or three layers with what users put between them."""

    def __init__(self, make: Callable[..., Module], depth: int = 3, **options: Any) -> None:
        super().__init__()
        widths = [5] + [WIDTH] * (depth - 1) + [OUT]
        self.convs = torch.nn.ModuleList(make(a, b, last=b == OUT, **options) for a, b in itertools.pairwise(widths))
        self.norm = torch.nn.BatchNorm1d(WIDTH)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        for conv in self.convs[:-1]:
            x = F.dropout(self.norm(conv(x, index)), 0.5, self.training).sigmoid()
        return self.convs[-1](x, index).log_softmax(dim=-1)


class Residual(Module):
    """A linear map in, convolutions added to what they take, concatenation, a linear map out."""

    def __init__(self, conv: type[Module]) -> None:
        super().__init__()
        self.first, self.last = Linear(5, WIDTH), Linear(2 * WIDTH + 5, OUT)
        self.convs = torch.nn.ModuleList([conv(WIDTH, WIDTH), conv(WIDTH, WIDTH)])
        self.more = Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        h = self.first(x).tanh()
        for conv in self.convs:
            h = h + 0.5 * F.relu(conv(h, index))
        return self.last(torch.cat([h, x, self.more(h)[:NODES].relu()], dim=-1))


def plain(layer: Callable[..., Module], **options: Any) -> Callable[..., Module]:
    return lambda a, b, last: layer(a, b, **options)


def headed(layer: Callable[..., Module], **options: Any) -> Callable[..., Module]:
    def make(a: int, b: int, last: bool) -> Module:
        return layer(a, b, heads=2, concat=False, **options) if last else layer(a, b // 2, heads=2, **options)

    return make


MODELS: dict[str, Callable[[], Module]] = {
    "GCN": lambda: pyg.GCN(5, WIDTH, 3, OUT, norm="batch_norm", jk="cat"),
    "SAGE": lambda: pyg.GraphSAGE(5, WIDTH, 3, OUT, jk="max", project=True),
    "SAGE, aggr": lambda: Net(plain(pyg.SAGEConv, aggr=["mean", "max"])),
    "GAT": lambda: Net(headed(pyg.GATConv, residual=True)),
    "GATv2": lambda: Net(headed(pyg.GATv2Conv, share_weights=True)),
    "GraphConv": lambda: Net(plain(pyg.GraphConv)),
    "ChebConv": lambda: Net(plain(pyg.ChebConv, K=3)),
    "TAGConv": lambda: Net(plain(pyg.TAGConv)),
    "MLP": lambda: pyg.MLP([5, WIDTH, WIDTH, OUT], norm="graph_norm"),
    "HypergraphConv of PyG": lambda: Net(plain(pyg.HypergraphConv)),
    "HypergraphConv": lambda: Net(plain(nn.HypergraphConv)),
    "HypergraphConv, attention": lambda: Net(headed(nn.HypergraphConv, use_attention=True)),
    "HGNNConv": lambda: Net(plain(nn.HGNNConv)),
    "HGNNPConv": lambda: Net(plain(nn.HGNNPConv)),
    "ChebHypergraphConv": lambda: Net(plain(nn.ChebHypergraphConv, K=3)),
    "UniGCNConv": lambda: Net(plain(nn.UniGCNConv)),
    "UniGINConv": lambda: Net(plain(nn.UniGINConv)),
    "UniSAGEConv": lambda: Net(plain(nn.UniSAGEConv)),
    "UniGATConv": lambda: Net(headed(nn.UniGATConv)),
    "HNHNConv": lambda: Net(plain(nn.HNHNConv, hidden_channels=12)),
    "AllDeepSetsConv": lambda: Net(plain(nn.AllDeepSetsConv, hidden_channels=12, norm=False)),
    "residual": lambda: Residual(pyg.GCNConv),
    "residual, hypergraph": lambda: Residual(nn.HGNNConv),
}


def drawn(model: Module) -> Module:
    """Give all parameters and buffers random values; evaluate."""
    generator = torch.Generator().manual_seed(1)
    model = model.double().eval()
    for tensor in tensors_of(model).values():
        if tensor.is_floating_point():
            tensor.data.copy_(torch.rand(tensor.shape, dtype=DOUBLE, generator=generator) + 0.1)
    return model


def blocks_of(model: Module, plan: ChannelPlan, hand: Any) -> tuple[dict[str, Tensor], dict[str, list[Tensor | None]]]:
    places = {name: [axis.index(hand) for axis in weight.axes] for name, weight in plan.weights.items()}
    return {n: take(t.detach(), places[n]).clone() for n, t in tensors_of(model).items()}, places


def masked(model: Module, places: dict[str, list[Tensor | None]]) -> Module:
    """Return the whole network with zeros outside of one worker's blocks."""
    out = copy.deepcopy(model)
    for name, tensor in tensors_of(out).items():
        kept = torch.zeros_like(tensor)
        put_(kept, places[name], take(tensor.detach(), places[name]))
        tensor.data.copy_(kept)
    return out


@pytest.mark.parametrize("name", MODELS)
def test_a_narrow_network_is_the_whole_one_masked(name: str) -> None:
    model = drawn(MODELS[name]())
    plan = trace(model, (X, INDEX) if name != "MLP" else (X,))
    assert len(plan.dealt) >= 1
    bare = skeleton(model)
    for workers in (1, 2, 4):
        hands = deal(plan.dealt, workers, torch.Generator().manual_seed(workers))
        for hand in hands[:2]:
            values, places = blocks_of(model, plan, hand)
            sub = narrow(bare, plan, hand, values).eval()
            args = (X, INDEX) if name != "MLP" else (X,)
            torch.testing.assert_close(sub(*args), masked(model, places)(*args), rtol=1e-12, atol=1e-12)
            if workers > 1:
                assert sum(t.numel() for t in sub.parameters()) < 0.9 * sum(t.numel() for t in model.parameters())


@pytest.mark.parametrize("name", ["GAT", "HypergraphConv, attention", "residual", "HNHNConv"])
def test_blocks_return_bit_for_bit_and_are_disjoint(name: str) -> None:
    model = drawn(MODELS[name]())
    plan = trace(model, (X, INDEX))
    for workers in (2, 4):
        hands = deal(plan.dealt, workers, torch.Generator().manual_seed(3))
        for weight in (w for w in plan.weights.values() if w.dealt):
            value = tensors_of(model)[weight.name].detach()
            places = [[axis.index(hand) for axis in weight.axes] for hand in hands]
            times, copied = torch.zeros_like(value), value.clone()
            for index in places:
                put_(times, index, take(times, index) + 1)
            merge_(copied, places, [take(value, index) for index in places], weight.shared)
            assert torch.equal(copied, value)
            assert set(times.unique().tolist()) <= ({0.0, 1.0, workers} if weight.shared else {0.0, 1.0})
            if weight.name == "convs.0.lin.weight" and name == "residual":  # a block of 1/m^2 each
                assert times.sum() == value.numel() / workers


def test_untouched_entries_stay_and_shared_ones_become_means() -> None:
    plan = trace(model := drawn(MODELS["residual"]()), (X, INDEX))
    weight = plan.weights["last.weight"]  # of hidden channels, whole input, hidden channels
    assert weight.shared
    assert not plan.weights["convs.0.lin.weight"].shared
    hands = deal(plan.dealt, 2, torch.Generator())
    places = [[axis.index(hand) for axis in weight.axes] for hand in hands]
    before = model.last.weight.detach().clone()
    merged = before.clone()
    merge_(merged, places, [take(before, index) + step for step, index in enumerate(places, 1)], True)
    mine = torch.zeros(2 * WIDTH + 5, dtype=torch.bool)
    mine[places[0][1]] = True
    wanted = torch.where(mine, 1.0, 2.0).double()
    wanted[WIDTH : WIDTH + 5] = 1.5
    torch.testing.assert_close(merged - before, wanted.expand(OUT, -1), rtol=0, atol=1e-12)
    square = plan.weights["convs.1.lin.weight"]
    places = [[axis.index(hand) for axis in square.axes] for hand in hands]
    before = model.convs[1].lin.weight.detach().clone()
    merged = before.clone()
    merge_(merged, places, [take(before, index) + 1 for index in places], False)
    assert (merged != before).sum() == before.numel() / 2
    torch.testing.assert_close(merged[merged != before], before[merged != before] + 1)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 99), st.booleans())
@settings(deadline=None, max_examples=15)
def test_groups_are_equal_disjoint_and_all(workers: int, each: int, seed: int, by_head: bool) -> None:
    root = Hidden("layer", workers * each if by_head else 3, 2 if by_head else workers * each)
    hands = deal([root], workers, torch.Generator().manual_seed(seed))
    flat = [hand[root].part("flat") for hand in hands]
    assert {len(part) for part in flat} == {root.width // workers}
    assert sorted(torch.cat(flat).tolist()) == list(range(root.width))
    assert all(part.tolist() == sorted(part.tolist()) for part in flat)


def test_permutations_are_fresh_and_hang_on_the_generator() -> None:
    root = Hidden("layer", 1, 32)
    first, again, other = (deal([root], 2, torch.Generator().manual_seed(s))[0][root].channels for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_what_is_found_can_be_read() -> None:
    plan = trace(Net(headed(pyg.GATConv)), (X, INDEX))
    assert str(plan) == (
        "convs.0: 2 heads of 4 channels, dealt\nconvs.2: 3 channels, whole, since 'log_softmax' mixes them"
    )
    assert [root.name for root in trace(Residual(pyg.GCNConv), (X, INDEX)).dealt] == ["first", "more"]


def test_norms_within_a_layer_get_its_width() -> None:
    model = drawn(Net(plain(nn.AllDeepSetsConv, hidden_channels=12, num_layers=3)))
    plan = trace(model, (X, INDEX))
    hand = deal(plan.dealt, 4, torch.Generator())[2]
    sub = narrow(skeleton(model), plan, hand, blocks_of(model, plan, hand)[0]).eval()
    assert sub(X, INDEX).shape == (NODES, OUT)
    assert sub.convs[1].phi_node.norms[1].in_channels == sub.convs[1].hidden_channels == 3
    assert sub.convs[1].rho_node.lins[2].weight.shape == (2, 3)


def test_sizes_zero_and_one() -> None:
    model = drawn(Net(plain(pyg.GCNConv)))
    for nodes in (0, 1):
        x, index = X[:nodes], torch.zeros(2, 0, dtype=torch.long)
        plan = trace(model, (x, index))
        hands = deal(plan.dealt, WIDTH, torch.Generator())  # one channel a worker
        sub = narrow(skeleton(model), plan, hands[0], blocks_of(model, plan, hands[0])[0]).eval()
        assert sub(x, index).shape == (nodes, OUT)
        assert sub.convs[0].lin.weight.shape == (1, 5)


def test_tracing_leaves_the_model_as_it_was() -> None:
    model = drawn(Net(plain(pyg.GCNConv)))
    before, state = model(X, INDEX), torch.get_rng_state()
    trace(model, (X, INDEX))
    assert torch.equal(model(X, INDEX), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert all("forward" not in module.__dict__ for module in model.modules())


# ---------------------------------------------------------------- refusals


class Wrong(Module):
    """A model that does something that cannot be dealt."""

    def __init__(self, do: Callable[[Wrong, Tensor], Tensor], **parts: Module) -> None:
        super().__init__()
        self.first, self.last = Linear(5, WIDTH), Linear(WIDTH, OUT)
        self.do = do
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        return self.last(self.do(self, self.first(x)))


REFUSED: dict[str, tuple[Callable[[], Module], str]] = {
    "a product": (lambda: Wrong(lambda m, h: h @ h.t() @ h), r"channels of 'first' through '(matmul|t)'"),
    "a sum": (lambda: Wrong(lambda m, h: h - h.mean(-1, keepdim=True)), "channels of 'first' through 'mean'"),
    "a view": (lambda: Wrong(lambda m, h: h.view(-1, 2, 4).flatten(1)), "channels of 'first' through 'view'"),
    "columns": (lambda: Wrong(lambda m, h: torch.cat([h[:, 4:], h[:, :4]], -1)), "through 'getitem'"),
    "widths that do not match": (
        lambda: Wrong(lambda m, h: torch.cat([m.a(h), m.b(h)], -1) + h, a=Linear(WIDTH, 2), b=Linear(WIDTH, WIDTH - 2)),
        r"made up differently \(2 of 'a' \+ 6 of 'b'; 8 of 'first'\)",
    ),
    "an unknown layer": (
        lambda: Wrong(lambda m, h: m.conv(h, INDEX), conv=nn.AllSetTransformerConv(WIDTH, WIDTH)),
        "does not know what the weights of layer 'conv', a AllSetTransformerConv, run over",
    ),
    "an LSTM": (
        lambda: Wrong(lambda m, h: m.jk([h, h]), jk=pyg.JumpingKnowledge("lstm", WIDTH, 2)),
        "a JumpingKnowledge of mode 'lstm'",
    ),
    "an option with weights": (
        lambda: Wrong(lambda m, h: m.conv(h, INDEX), conv=pyg.SAGEConv(WIDTH, WIDTH, aggr="lstm")),
        r"does not know what 'conv.aggr_module.lstm.weight_ih_l0' runs over, of a SAGEConv",
    ),
    "more outputs": (
        lambda: Wrong(lambda m, h: m.conv(h, INDEX, return_attention_weights=True)[0], conv=pyg.GATConv(WIDTH, WIDTH)),
        "return_attention_weights=True",
    ),
    "different heads": (
        lambda: Wrong(
            lambda m, h: m.a(h, INDEX) + m.b(h, INDEX),
            a=pyg.GATConv(WIDTH, 4, heads=2),
            b=pyg.GATConv(WIDTH, 2, heads=4),
        ),
        "adds 2 heads",
    ),
    "a choice by values": (
        lambda: Wrong(lambda m, h: h if h.relu().tolist() else -h),
        "cannot follow a forward of Wrong on shapes alone",
    ),
    "nothing to deal": (lambda: Wrong(lambda m, h: h.softmax(-1)), "whole, since 'softmax' mixes them"),
    "one layer": (lambda: Linear(5, 3), "is a single layer"),
    "no layers": (lambda: torch.nn.Identity(), "no layer that GIST knows was called"),
    "no shape yet": (lambda: Wrong(lambda m, h: m.lin(h), lin=pyg.Linear(-1, WIDTH)), "'lin.weight' has no shape yet"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_dealt_is_refused(name: str) -> None:
    make, text = REFUSED[name]
    with pytest.raises(InputError, match=text):
        trace(make(), (X, INDEX) if name not in ("one layer", "no layers") else (X,))


def test_tied_weights_are_refused() -> None:
    model = Wrong(lambda m, h: m.more(h), more=Linear(WIDTH, WIDTH))
    model.last.weight = model.first.weight
    with pytest.raises(InputError, match=r"'first.weight' and 'last.weight' are one tensor"):
        trace(model, (X, INDEX))


def test_channels_that_do_not_part_are_refused() -> None:
    with pytest.raises(InputError, match=r"the 2 heads of 4 hidden channels of 'convs.0' cannot be dealt to 3 workers"):
        deal(trace(Net(headed(pyg.GATConv)), (X, INDEX)).dealt, 3, torch.Generator())


def test_a_layer_of_ones_own_says_what_its_weights_run_over() -> None:
    class Own(Module):
        channel_roles = {"weight": "in out", "gain": "-", "out_channels": "out"}

        def __init__(self) -> None:
            super().__init__()
            self.out_channels = WIDTH
            self.weight, self.gain = torch.nn.Parameter(torch.ones(WIDTH, WIDTH)), torch.nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            assert self.out_channels == self.weight.size(1)
            return self.gain * x @ self.weight

    model = drawn(Wrong(lambda m, h: m.own(h), own=Own()))
    plan = trace(model, (X, INDEX))
    hand = deal(plan.dealt, 2, torch.Generator())[1]
    values, places = blocks_of(model, plan, hand)
    sub = narrow(skeleton(model), plan, hand, values)
    torch.testing.assert_close(sub(X, INDEX), masked(model, places)(X, INDEX), rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------- models without values


@pytest.mark.parametrize(
    "make", [lambda: pyg.GraphSAGE(64, 96, 3, 5, norm="batch_norm"), lambda: pyg.GAT(64, 96, 2, 5)]
)
def test_parts_are_filled_as_their_layers_fill_the_whole(make: Callable[[], Module]) -> None:
    with torch.device("meta"):
        model = make()
    assert without_values(model)
    torch.manual_seed(0)
    like = tensors_of(make())
    for name, steps in noted(model).items():
        whole = like[name].detach()
        shape = (*whole.shape[:-1], max(whole.shape[-1] // 2, 1)) if whole.dim() else ()
        part = fill_(torch.empty(shape), steps, 7)
        low, high = whole.double().aminmax()
        assert low - 0.1 * (high - low) <= part.min()
        assert part.max() <= high + 0.1 * (high - low)
        if part.numel() > 1000:
            assert math.isclose(part.std(), whole.std(), rel_tol=0.05)
            assert abs(part.mean()) < 0.1 * part.std()


def test_models_half_without_values_and_odd_starts_are_refused() -> None:
    model = Wrong(lambda m, h: h)
    model.last.to("meta")
    with pytest.raises(InputError, match="either all tensors of 'model' are on the device 'meta' or none"):
        without_values(model)

    class Odd(Linear):
        def reset_parameters(self) -> None:
            torch.nn.init.orthogonal_(self.weight)

    with torch.device("meta"):
        model = Wrong(lambda m, h: m.odd(h))
        model.odd = torch.nn.utils.skip_init(Odd, WIDTH, WIDTH, device="meta")
    with pytest.raises(InputError, match="build the model with values"):
        noted(model)
