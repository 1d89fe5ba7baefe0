from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck
from torch_geometric import EdgeIndex

from hyperlearn_pyg.nn import HypergraphConv
from hyperlearn_pyg.ops import Incidence
from hyperlearn_pyg.testing import dense_incidence

Make = Callable[..., torch.nn.Module]
Dense = Callable[[torch.nn.Module, Tensor, Tensor, Tensor | None], Tensor]

# Node 4 is isolated, hyperedge 3 empty, hyperedge 2 weightless; node 1 is listed twice in hyperedge 1.
INDEX = torch.tensor([[0, 1, 1, 1, 2, 3, 0], [0, 0, 1, 1, 1, 1, 2]])
WEIGHT = torch.tensor([0.7, 1.2, 0.0, 0.5], dtype=torch.float64)


class Problem:
    """Features, entries, weights (some zero) of hyperedges and entries; repeated entries, bare nodes, sizes from 0."""

    def __init__(self, nodes: int, edges: int, entries: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)

        def sparse_uniform(n: int) -> Tensor:
            value = torch.rand(n, dtype=torch.float64, generator=generator)
            return value * (torch.rand(n, generator=generator) < 0.8)

        self.nodes, self.edges = nodes, edges
        count = entries if nodes and edges else 0
        index = [torch.randint(max(n, 1), (count,), generator=generator) for n in (nodes, edges)]
        self.index = torch.stack(index)
        self.x = torch.randn(nodes, 3, dtype=torch.float64, generator=generator)
        self.weight = sparse_uniform(edges)
        self.values = sparse_uniform(count)
        self.copies = torch.randint(3, (edges,), generator=generator)
        self.repeats = torch.randint(3, (count,), generator=generator)

    @property
    def options(self) -> dict[str, Tensor | int]:
        return {"num_edges": self.edges, "incidence_weight": self.values}


def problems() -> st.SearchStrategy[Problem]:
    return st.builds(Problem, st.integers(0, 6), st.integers(0, 5), st.integers(0, 15), st.integers(0, 999))


class Laws:
    """What holds of every layer from nodes to nodes; ``make(in_channels)`` builds one, of any width out."""

    problems = staticmethod(problems)
    index, weight = INDEX, WEIGHT

    @staticmethod
    def drawn(make: Make, width: int = 3) -> torch.nn.Module:
        """Build a layer in float64 all of whose parameters, biases too, are random."""
        conv = make(width).double().eval()
        with torch.no_grad():
            for parameter in conv.parameters():
                parameter.normal_(generator=torch.Generator().manual_seed(parameter.numel()))
        return conv

    @staticmethod
    def one_graph(conv: torch.nn.Module, calls: Iterable[tuple[Any, ...]]) -> None:
        """Check that the compiled layer gives the same, for all sizes from one graph without a break."""
        torch._dynamo.reset()
        graphs = 0

        def backend(module: torch.fx.GraphModule, _: Any) -> Any:
            nonlocal graphs
            graphs += 1
            return module.forward

        compiled = torch.compile(conv, fullgraph=True, dynamic=True, backend=backend)
        for call in calls:
            torch.testing.assert_close(compiled(*call), conv(*call), rtol=1e-4, atol=1e-5)
        assert graphs == 1
        torch._dynamo.reset()

    def all(self, make: Make, dense: Dense, *, hyperedges: bool = True, at_zero: bool = True) -> None:
        """Check every law; the derivative at weight zero too where weights below it are not refused."""
        self.equals_dense(make, dense)
        self.equivariant(make, hyperedges)
        self.additive(make)
        self.multiplicities(make)
        self.differentiable(make, at_zero)
        self.input_forms(make)
        self.lazy_and_drawn_afresh(make)
        self.small(make)
        self.errors(make)

    def preset(self, layer: type[HypergraphConv], normalization: str, reference: Callable[..., Tensor]) -> None:
        """Check the laws of a layer that is the hypergraph convolution of one normalisation."""

        def dense(conv, x, incidence, weight):  # type: ignore[no-untyped-def]
            out = reference(conv.lin(x), incidence, weight)
            return out if conv.bias is None else out + conv.bias

        for bias in (True, False):
            self.equals_dense(partial(layer, out_channels=2, bias=bias), dense)
        make = partial(layer, out_channels=2)
        self.equivariant(make, True)
        self.additive(make)
        self.multiplicities(make)
        self.differentiable(make)
        self.input_forms(make)
        self.small(make)
        conv, other = layer(3, 2), HypergraphConv(3, 2, normalization=normalization)
        other.load_state_dict(conv.state_dict())
        x = torch.randn(5, 3)
        assert torch.equal(conv(x, INDEX), other(x, INDEX))
        assert repr(layer(-1, 2)) == f"{layer.__name__}(-1, 2)"

    def equals_dense(self, make: Make, dense: Dense) -> None:
        conv = self.drawn(make)

        @given(problems(), st.booleans(), st.booleans())
        @settings(max_examples=40, deadline=None)
        def law(problem: Problem, weighted: bool, valued: bool) -> None:
            p, weight = problem, problem.weight if weighted else None
            values = p.values if valued else None
            expected = dense(conv, p.x, dense_incidence(p.index, (p.nodes, p.edges), values), weight)
            out = conv(p.x, p.index, weight, num_edges=p.edges, incidence_weight=values)
            assert bool(out.isfinite().all())
            assert torch.allclose(out, expected)

        law()

    def equivariant(self, make: Make, hyperedges: bool) -> None:
        conv = self.drawn(make)

        @given(problems(), st.randoms(use_true_random=False))
        @settings(max_examples=15, deadline=None)
        def law(problem: Problem, random) -> None:  # type: ignore[no-untyped-def]
            p = problem
            nodes, edges, entries = (
                torch.tensor(random.sample(range(n), n), dtype=torch.long) for n in (p.nodes, p.edges, p.index.size(1))
            )
            moved = torch.stack([nodes.argsort()[p.index[0]], edges.argsort()[p.index[1]]])[:, entries]
            more = {"return_hyperedges": True} if hyperedges else {}
            out = conv(p.x, p.index, p.weight, **p.options, **more)
            options = {"num_edges": p.edges, "incidence_weight": p.values[entries]}
            other = conv(p.x[nodes], moved, p.weight[edges], **options, **more)
            if not hyperedges:
                out, other = (out,), (other,)
            assert torch.allclose(other[0], out[0][nodes])
            if hyperedges:
                assert torch.allclose(other[1], out[1][edges])
                assert torch.allclose(out[0], conv(p.x, p.index, p.weight, **p.options))

        law()

    def additive(self, make: Make) -> None:
        conv = self.drawn(make)

        @given(problems(), problems())
        @settings(max_examples=15, deadline=None)
        def law(a: Problem, b: Problem) -> None:
            index = torch.cat([a.index, b.index + torch.tensor([[a.nodes], [a.edges]])], dim=1)
            weight, values = torch.cat([a.weight, b.weight]), torch.cat([a.values, b.values])
            both = conv(torch.cat([a.x, b.x]), index, weight, incidence_weight=values)
            parts = [conv(p.x, p.index, p.weight, **p.options) for p in (a, b)]
            assert torch.allclose(both, torch.cat(parts))

        law()

    def multiplicities(self, make: Make) -> None:
        """A weight of 2 is a second hyperedge of the same members, or a second listing of the incidence."""
        conv = self.drawn(make)

        @given(problems())
        @settings(max_examples=15, deadline=None)
        def law(problem: Problem) -> None:
            p = problem
            first = p.copies.cumsum(0) - p.copies
            times = p.copies[p.index[1]]
            which = torch.arange(p.index.size(1)).repeat_interleave(times)
            nth = torch.arange(len(which)) - (times.cumsum(0) - times).repeat_interleave(times)
            copied = torch.stack([p.index[0, which], first[p.index[1, which]] + nth])
            out = conv(p.x, p.index, p.copies.double(), num_edges=p.edges)
            assert torch.allclose(out, conv(p.x, copied, num_edges=int(p.copies.sum())))
            out = conv(p.x, p.index, p.weight, num_edges=p.edges, incidence_weight=p.repeats.double())
            repeated = p.index.repeat_interleave(p.repeats, dim=1)
            assert torch.allclose(out, conv(p.x, repeated, p.weight, num_edges=p.edges))

        law()

    def differentiable(self, make: Make, at_zero: bool = True) -> None:
        conv = self.drawn(make, 2)
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(5, 2, dtype=torch.float64, generator=generator, requires_grad=True)
        values = torch.rand(INDEX.size(1), dtype=torch.float64, generator=generator).add(0.5).requires_grad_()
        weight = WEIGHT.clamp(min=0.0 if at_zero else 0.1).requires_grad_()

        def f(x: Tensor, weight: Tensor, values: Tensor, *_: Tensor) -> Tensor:
            return conv(x, INDEX, weight, incidence_weight=values)

        assert gradcheck(f, (x, weight, values, *conv.parameters()))
        weight = torch.zeros(4, dtype=torch.float64, requires_grad=True)
        conv(x, INDEX, weight).square().sum().backward()
        assert bool(torch.cat([x.grad.flatten(), weight.grad]).isfinite().all())

    def input_forms(self, make: Make) -> None:
        conv = self.drawn(make)
        x = torch.randn(5, 3, dtype=torch.float64)
        index = INDEX.unique(dim=1).contiguous()
        out = conv(x, index, WEIGHT)
        ones = torch.ones(index.size(1), dtype=torch.float64)
        sparse = torch.sparse_coo_tensor(index.flip(0), ones, (4, 5), check_invariants=True)
        for form in (Incidence(index, (5, 4)), EdgeIndex(index), sparse, index.int()):
            assert torch.allclose(conv(x, form, WEIGHT), out)
        assert torch.allclose(conv(x, index, torch.ones(4)), conv(x, index, size=(5, 4)))
        static = torch.randn(2, 3, 5, 3, dtype=torch.float64)
        each = torch.stack([torch.stack([conv(x, index, WEIGHT) for x in xs]) for xs in static])
        assert torch.allclose(conv(static, index, WEIGHT), each)

    def lazy_and_drawn_afresh(self, make: Make) -> None:
        conv, x = make(-1), torch.randn(5, 7)
        shape = conv(x, INDEX).shape
        assert conv(x, INDEX).shape == make(7)(x, INDEX).shape == shape
        before = [parameter.clone() for parameter in conv.parameters()]
        with torch.no_grad():
            for parameter in conv.parameters():
                parameter.add_(1)
        conv.reset_parameters()
        moved = zip(before, conv.parameters(), strict=True)
        assert all(not torch.equal(old + 1, new) for old, new in moved)

    def small(self, make: Make) -> None:
        conv, none = make(2), torch.empty(2, 0, dtype=torch.long)
        width = conv(torch.ones(1, 2), torch.zeros(2, 1, dtype=torch.long)).size(1)
        for nodes in (0, 1):
            for edges in (None, 0, 2):
                out = conv(torch.ones(nodes, 2), none, num_edges=edges)
                assert out.shape == (nodes, width)
                out.sum().backward()

    def errors(self, make: Make) -> None:
        conv, x = make(2), torch.randn(5, 2)
        with pytest.raises(ValueError, match=r"must have 4 rows, one per hyperedge \(got 3\)"):
            conv(x, INDEX, torch.ones(3), num_edges=4)
        with pytest.raises(ValueError, match=r"'incidence_weight' must have 7 rows"):
            conv(x, INDEX, incidence_weight=torch.ones(3))
        with pytest.raises(ValueError, match=r"holds node 3, outside \[0, 3\)"):
            conv(x[:3], INDEX)
        with pytest.raises(ValueError, match=r"'x' must have 6 rows"):
            conv(x, INDEX, size=(6, 3))
        for channels in (0, -2):
            with pytest.raises(ValueError, match="'in_channels' must be at least 1, or -1"):
                make(channels)
        for wrong in (torch.randn(5, 3), torch.randn(2)):
            with pytest.raises(ValueError, match=r"'x' must have shape \[\*, N, 2\]"):
                conv(wrong, INDEX)


@pytest.fixture(scope="session")
def laws() -> Laws:
    return Laws()
