from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.nn import HeteroHypergraphConv, HypergraphConv
from hyperlearn_pyg.ops import Incidence
from hyperlearn_pyg.testing import dense_hetero_hypergraph_conv, dense_incidence

SLOTS = [("a", "member", "e"), ("b", "member:from", "e"), ("b", "member:to", "e"), ("c.d", "member", "e")]
Members = dict[tuple[str, str, str], Tensor]
Problem = tuple[dict[str, Tensor], Members, Members, Tensor]
CHANNELS = {"a": 2, "b": 3, "c.d": 1, "never": 4}


def problem(sizes: list[int], edges: int, entries: list[int], seed: int) -> Problem:
    generator = torch.Generator().manual_seed(seed)
    count = dict(zip(("a", "b", "c.d"), sizes, strict=True))
    x_dict = {m: torch.randn(n, CHANNELS[m], dtype=torch.float64, generator=generator) for m, n in count.items()}
    members, values = {}, {}
    for slot, nnz in zip(SLOTS, entries, strict=True):
        nnz = nnz if edges and count[slot[0]] else 0
        parts = [torch.randint(max(n, 1), (nnz,), generator=generator) for n in (count[slot[0]], edges)]
        members[slot] = torch.stack(parts)
        values[slot] = torch.rand(nnz, dtype=torch.float64, generator=generator)
    weight = torch.rand(edges, dtype=torch.float64, generator=generator)
    return x_dict, members, values, weight * (torch.rand(edges, generator=generator) < 0.8)


PROBLEMS = st.builds(
    problem,
    st.lists(st.integers(0, 5), min_size=3, max_size=3),
    st.integers(0, 4),
    st.lists(st.integers(0, 6), min_size=4, max_size=4),
    st.integers(0, 999),
)


def drawn(**options: object) -> HeteroHypergraphConv:
    conv = HeteroHypergraphConv(CHANNELS, 2, **options).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(parameter.numel()))
    return conv


def dense(conv: HeteroHypergraphConv, x_dict: dict[str, Tensor], incidences: Members, weight: Tensor | None):  # type: ignore[no-untyped-def]
    z = {m: conv.lins[m](x) for m, x in x_dict.items()}
    out = dense_hetero_hypergraph_conv(z, incidences, weight, symmetric=conv.normalization == "symmetric")
    if conv.edge_channels is not None:
        out = {m: conv.lins_out[m](x) for m, x in out.items()}
    if conv.bias is not None:
        out = {m: x + conv.bias[list(CHANNELS).index(m)] for m, x in out.items()}
    return out


@pytest.mark.parametrize("normalization", ["row", "symmetric"])
@pytest.mark.parametrize("edge_channels", [None, 4])
def test_equals_the_dense_formula(normalization: str, edge_channels: int | None) -> None:
    conv = drawn(normalization=normalization, edge_channels=edge_channels, bias=edge_channels is None)

    @given(PROBLEMS, st.booleans(), st.booleans())
    @settings(max_examples=30, deadline=None)
    def law(problem: Problem, weighted: bool, valued: bool) -> None:
        x_dict, members, values, weight = problem
        sizes = {slot: (len(x_dict[slot[0]]), len(weight)) for slot in SLOTS}
        given = {slot: values[slot] for slot in SLOTS[1:]} if valued else {}
        incidences = {slot: dense_incidence(members[slot], sizes[slot], given.get(slot)) for slot in SLOTS}
        own = weight if weighted else None
        expected = dense(conv, x_dict, incidences, own)
        out = conv(x_dict, members, own, len(weight), incidence_weight=given)
        assert out.keys() == x_dict.keys()
        for name, x in out.items():
            assert bool(x.isfinite().all())
            assert torch.allclose(x, expected[name])

    law()


@given(PROBLEMS, st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_equivariant_to_the_order_of_items_hyperedges_and_slots(problem: Problem, random) -> None:  # type: ignore[no-untyped-def]
    x_dict, members, values, weight = problem
    conv = drawn()
    order = {m: torch.tensor(random.sample(range(len(x)), len(x)), dtype=torch.long) for m, x in x_dict.items()}
    edges = torch.tensor(random.sample(range(len(weight)), len(weight)), dtype=torch.long)
    moved = {
        slot: torch.stack([order[slot[0]].argsort()[index[0]], edges.argsort()[index[1]]])
        for slot, index in reversed(members.items())
    }
    out, h = conv(x_dict, members, weight, incidence_weight=values, return_hyperedges=True)
    other = {m: x_dict[m][order[m]] for m in reversed(x_dict)}
    again, g = conv(other, moved, weight[edges], incidence_weight=values, return_hyperedges=True)
    assert torch.allclose(g, h[edges])
    assert all(torch.allclose(again[m], out[m][order[m]]) for m in out)


@given(PROBLEMS, PROBLEMS)
@settings(max_examples=20, deadline=None)
def test_additive_over_disjoint_unions(a: Problem, b: Problem) -> None:
    conv = drawn(normalization="symmetric")
    x_dict = {m: torch.cat([a[0][m], b[0][m]]) for m in a[0]}
    shift = {slot: torch.tensor([[len(a[0][slot[0]])], [len(a[3])]]) for slot in SLOTS}
    members = {slot: torch.cat([a[1][slot], b[1][slot] + shift[slot]], dim=1) for slot in SLOTS}
    out = conv(x_dict, members, torch.cat([a[3], b[3]]))
    parts = [conv(p[0], p[1], p[3]) for p in (a, b)]
    assert all(torch.allclose(out[m], torch.cat([part[m] for part in parts])) for m in out)


@pytest.mark.parametrize("normalization", ["row", "symmetric"])
def test_of_one_modality_it_is_the_hypergraph_convolution(normalization: str) -> None:
    conv = HeteroHypergraphConv(3, 2, modalities=["a"], normalization=normalization)
    one = HypergraphConv(3, 2, normalization=normalization)
    one.lin.weight.data = conv.lins["a"].weight.data
    x, index, weight = torch.randn(2, 4, 3), torch.tensor([[0, 1, 1, 2], [0, 0, 1, 1]]), torch.rand(2)
    assert torch.allclose(conv({"a": x}, {("a", "member", "e"): index}, weight)["a"], one(x, index, weight))


def test_derivative() -> None:
    conv = drawn(edge_channels=3)
    x_dict, members, values, weight = problem([3, 2, 2], 3, [4, 3, 3, 2], 0)
    weight = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    inputs = [x.requires_grad_() for x in x_dict.values()]
    own = values[SLOTS[0]].requires_grad_()

    def f(weight: Tensor, own: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        x = dict(zip(x_dict, rest, strict=False))
        return tuple(conv(x, members, weight, incidence_weight={SLOTS[0]: own}).values())

    used = [p for name, p in conv.named_parameters() if "never" not in name]
    assert gradcheck(f, (weight, own, *inputs, *used))


def test_a_relation_of_the_data_object() -> None:
    data = MultiModalHeteroData()
    data.add_modality("user", x=torch.randn(3, 2))
    data.add_modality("film", x=torch.randn(4, 5))
    index = torch.tensor([[0, 1, 1], [3, 3, 2]])
    data.add_hyperedges("rates", index, modalities=("user", "film"), weight=torch.tensor([1.0, 2.0, 0.0]))
    conv = HeteroHypergraphConv(-1, 2, modalities=["user", "film"])
    out, edges = conv(data.x_dict, data.relation("rates"), return_hyperedges=True)
    assert {m: list(x.shape) for m, x in out.items()} == {"user": [3, 2], "film": [4, 2]}
    assert edges.shape == (3, 2)
    slots = {t: data[t].edge_index for t in data.edge_types}
    again = conv(data.x_dict, slots, data["rates"].weight)
    assert all(torch.equal(out[m], again[m]) for m in out)
    assert out["user"][2].abs().sum() == 0
    assert repr(conv) == "HeteroHypergraphConv({'user': -1, 'film': -1}, 2)"


def test_the_structure_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    from hyperlearn_pyg.ops import stack

    real = stack.Incidence
    monkeypatch.setattr(stack, "Incidence", lambda *a, **k: built.append(1) or real(*a, **k))
    x_dict, members, _, weight = problem([3, 2, 2], 3, [4, 3, 3, 2], 0)
    for conv in (drawn(), drawn()):
        conv(x_dict, members, weight)
    assert len(built) == 1
    members[SLOTS[2]][0, 0] = 1 - members[SLOTS[2]][0, 0]
    out = drawn()(x_dict, members, weight)
    assert len(built) == 2
    assert all(torch.equal(out[m], x) for m, x in drawn(cached=False)(x_dict, members, weight).items())
    assert len(built) == 3


def test_without_members_there_is_the_bias() -> None:
    conv = drawn()
    out = conv({"b": torch.randn(2, 3, dtype=torch.float64)}, {})
    assert torch.equal(out["b"], conv.bias[1].expand(2, 2))


@pytest.mark.parametrize("mode", ["node", "edge"])
@pytest.mark.parametrize("concat", [True, False])
def test_attention_is_that_of_the_hypergraph_convolution(mode: str, concat: bool) -> None:
    """All modalities with one matrix are one modality."""
    options = {"use_attention": True, "attention_mode": mode, "heads": 2, "concat": concat}
    conv = HeteroHypergraphConv({"a": 3, "b": 3}, 2, normalization="symmetric", bias=False, **options)  # type: ignore[arg-type]
    one = HypergraphConv(3, 2, normalization="symmetric", bias=False, **options)  # type: ignore[arg-type]
    one.att.data = conv.att.data
    one.lin.weight.data = conv.lins["b"].weight.data = conv.lins["a"].weight.data
    x_dict = {"a": torch.randn(5, 4, 3), "b": torch.randn(5, 2, 3)}
    a, b = torch.tensor([[0, 1, 2, 1], [0, 0, 1, 1]]), torch.tensor([[1, 0, 1], [0, 1, 2]])
    members = {("a", "member", "e"): a, ("b", "member", "e"): b}
    weight = torch.tensor([1.0, 0.5, 0.0])
    out, edges, alphas = conv(x_dict, members, weight, return_hyperedges=True, return_attention_weights=True)
    index = torch.cat([a, b + torch.tensor([[4], [0]])], dim=1)
    x = torch.cat(list(x_dict.values()), dim=1)
    expected, way, (_, alpha) = one(x, index, weight, return_hyperedges=True, return_attention_weights=True)
    torch.testing.assert_close(torch.cat([out["a"], out["b"]], dim=1), expected)
    torch.testing.assert_close(edges, way)
    torch.testing.assert_close(torch.cat([alphas[slot] for slot in members]), alpha)


def test_a_constant_stays_constant_with_attention_and_what_nobody_reaches_is_zero() -> None:
    conv = HeteroHypergraphConv({"a": 2, "b": 2, "none": 2}, 3, use_attention=True, bias=False)
    for lin in conv.lins.children():
        lin.weight.data = torch.ones(3, 2)
    x_dict = {"a": torch.ones(3, 2), "b": torch.ones(2, 2), "none": torch.ones(0, 2)}
    slots = {("a", "member", "e"): [[0, 0, 1], [0, 1, 1]], ("b", "member:to", "e"): [[1, 1], [0, 0]]}
    empty = {("none", "member", "e"): torch.empty(2, 0, dtype=torch.long)}
    out = conv(x_dict, {**{k: torch.tensor(v) for k, v in slots.items()}, **empty}, torch.rand(4).requires_grad_())
    expected = torch.tensor([2.0, 2.0, 0.0])[:, None].expand(3, 3)
    torch.testing.assert_close(out["a"], expected)
    torch.testing.assert_close(out["b"], expected[[2, 0]])
    assert out["none"].shape == (0, 3)


def test_heads_and_perceptrons_have_the_widths_told() -> None:
    x_dict = {"a": torch.randn(3, 2), "b": torch.randn(2, 5)}
    members = {("a", "member", "e"): torch.tensor([[0, 1], [0, 1]]), ("b", "member", "e"): torch.tensor([[0], [1]])}
    for options, width, middle in (
        ({"heads": 2}, 8, 8),
        ({"heads": 2, "concat": False}, 4, 4),
        ({"heads": 2, "edge_channels": 3}, 4, 6),
        ({"heads": 2, "edge_channels": 3, "concat": False}, 4, 3),
    ):
        conv = HeteroHypergraphConv(-1, 4, modalities=["a", "b"], use_attention=True, **options)  # type: ignore[arg-type]
        out, edges = conv(x_dict, members, return_hyperedges=True)
        assert {m: tuple(x.shape) for m, x in out.items()} == {"a": (3, width), "b": (2, width)}
        assert edges.shape == (2, middle)
        sum(x.square().sum() for x in out.values()).backward()
        assert all(p.grad is not None for p in conv.parameters())


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # by dynamo itself
@pytest.mark.parametrize("use_attention", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_compiled_in_one_graph_for_all_sizes(laws: Any, use_attention: bool) -> None:
    sizes = ([5, 6, 7], 8, [9, 10, 11, 12]), ([15, 26, 9], 18, [39, 21, 16, 14])
    given = (problem(*size, 0) for size in sizes)
    calls = [(x_dict, members, weight) for x_dict, members, _, weight in given]
    laws.one_graph(HeteroHypergraphConv(CHANNELS, 2, use_attention=use_attention).double(), calls)


def test_numbers_are_the_same_in_int64_and_in_low_precision_nearly(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = drawn(cached=False, use_attention=True)
    given = problem([3, 2, 2], 3, [4, 3, 3, 2], 0)
    first = conv(given[0], given[1], given[3])
    with torch.autocast("cpu", torch.bfloat16):
        mixed = conv.float()({m: x.float() for m, x in given[0].items()}, given[1], given[3])
    assert all(torch.allclose(mixed[m].double(), first[m], atol=0.2, rtol=0.1) for m in first)
    conv.double()
    monkeypatch.setitem(Incidence.__init__.__globals__, "_INT32_MAX", 2)
    assert all(torch.allclose(x, first[m], atol=1e-6) for m, x in conv(given[0], given[1], given[3]).items())


def test_errors() -> None:
    conv = HeteroHypergraphConv({"a": 2, "b": 3}, 2)
    x_dict = {"a": torch.randn(3, 2), "b": torch.randn(2, 3)}
    index = torch.tensor([[0, 1], [0, 0]])
    slot = ("a", "member", "e")
    with pytest.raises(ValueError, match="'x_dict' is empty"):
        conv({}, {})
    with pytest.raises(ValueError, match="'x_dict' names modality 'c', the layer knows"):
        conv({"c": x_dict["a"]}, {})
    with pytest.raises(ValueError, match=r"x_dict\['a'\]' must have shape \[\*, N, 2\]"):
        conv({"a": x_dict["b"]}, {})
    with pytest.raises(ValueError, match="must be of one hyperedge set"):
        conv(x_dict, {slot: index, ("a", "member", "f"): index})
    with pytest.raises(ValueError, match="'x_dict' must hold 'a', which membership"):
        conv({"b": x_dict["b"]}, {slot: index})
    with pytest.raises(ValueError, match=r"\('a', 'member', 'e'\): 'index' row 0 holds node 3, outside \[0, 3\)"):
        conv(x_dict, {slot: index + torch.tensor([[2], [0]])})
    with pytest.raises(ValueError, match=r"'hyperedge_weight' must have 2 rows, one per hyperedge \(got 1\)"):
        conv(x_dict, {slot: index}, torch.ones(1), num_edges=2)
    with pytest.raises(ValueError, match=r"'incidence_weight' of .* must have 2 rows \(got 3\)"):
        conv(x_dict, {slot: index}, incidence_weight={slot: torch.ones(3)})
    with pytest.raises(ValueError, match="'incidence_weight' names"):
        conv(x_dict, {slot: index}, incidence_weight={("b", "member", "e"): torch.ones(2)})
    with pytest.raises(ValueError, match="'modalities' must name the modalities"):
        HeteroHypergraphConv(3, 2)
    with pytest.raises(ValueError, match="'modalities' and 'in_channels' differ"):
        HeteroHypergraphConv({"a": 3}, 2, modalities=["b"])
    with pytest.raises(ValueError, match="'normalization' must be 'row' or 'symmetric'"):
        HeteroHypergraphConv({"a": 3}, 2, normalization="column")
    with pytest.raises(ValueError, match="'heads' must be 1 without attention"):
        HeteroHypergraphConv({"a": 3}, 2, heads=2)
    with pytest.raises(ValueError, match="'return_attention_weights' goes with use_attention=True"):
        conv(x_dict, {slot: index}, return_attention_weights=True)


@pytest.mark.parametrize("members", ["rates", [torch.zeros(2, 0).long()], MultiModalHeteroData()])
def test_members_must_be_a_relation_or_a_mapping(members: Any) -> None:
    conv = HeteroHypergraphConv({"user": 3}, 2)
    with pytest.raises(ValueError, match=r"'members' must be data.relation\(NAME\), or a mapping"):
        conv({"user": torch.ones(2, 3)}, members)
