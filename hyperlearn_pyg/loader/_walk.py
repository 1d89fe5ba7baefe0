from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.sampler import HeteroSamplerOutput
from torch_geometric.typing import EdgeType, NodeType

from hyperlearn_pyg.data.relation import is_membership
from hyperlearn_pyg.loader._adjacency import Skips
from hyperlearn_pyg.loader._draw import Draws, draw, last, positions
from hyperlearn_pyg.loader._fan_out import FanOut
from hyperlearn_pyg.loader._graph import Graph, Step
from hyperlearn_pyg.loader._registry import DenseRegistry, Registry, SortedRegistry


@dataclass(frozen=True)
class Rules:
    """How neighbours are drawn.

    Attributes:
        fan_out: the fan-out of every edge type, hop by hop.
        replace: with replacement.
        latest: the latest neighbours instead of random ones.
        strict: only what is earlier than the seed, not what is of the same time.
    """

    fan_out: Mapping[EdgeType, list[FanOut]]
    replace: bool = False
    latest: bool = False
    strict: bool = False

    @property
    def num_hops(self) -> int:
        """The number of hops."""
        return max((len(hops) for hops in self.fan_out.values()), default=0)


class Tables:
    """The registries of a process: made when first needed, and cleared after each batch."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._dense: dict[NodeType | EdgeType, Registry] = {}

    def take(self, disjoint: bool) -> dict[NodeType | EdgeType, Registry]:
        """Return empty registries of every node type and every membership edge type."""
        keys = [*self._graph.sizes, *(t for t in self._graph.edge_types if is_membership(t))]
        if disjoint:
            return {key: SortedRegistry() for key in keys}
        if not self._dense:
            sizes: dict[NodeType | EdgeType, int] = {**self._graph.sizes, **self._graph.num_edges}
            self._dense = {key: DenseRegistry(sizes[key]) for key in keys}
        for registry in self._dense.values():
            registry.clear()
        return self._dense

    def __getstate__(self) -> dict[str, object]:
        return {"_graph": self._graph, "_dense": {}}


class Walk:
    """The way from the seeds of one batch outwards, hop by hop.

    A hop goes from the items that came last to their hyperedges (and along the other edge types that end at items),
    then from the hyperedges that came last to their members. What came earlier is not walked from again.

    Args:
        graph: where to walk.
        rules: how.
        registry: empty registries of node types and membership edge types.
        group_time: time of each subgraph ``[groups]``; only what is there by then is seen.
        left_out: hyperedges by set that are not walked to, as keys (hyperedge, or group * E + hyperedge).
        generator: source of randomness.
        disjoint: keep the groups apart.
    """

    def __init__(
        self,
        graph: Graph,
        rules: Rules,
        registry: Mapping[NodeType | EdgeType, Registry],
        *,
        disjoint: bool,
        group_time: Tensor | None = None,
        left_out: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.graph, self.rules, self.registry = graph, rules, registry
        self.disjoint, self.group_time, self.generator = disjoint, group_time, generator
        self.left_out = left_out or {}
        self.walked = dict.fromkeys(graph.sizes, 0)
        self.edges: dict[EdgeType, list[tuple[Tensor, Tensor, Tensor]]] = {t: [] for t in graph.edge_types}
        self.num_nodes: dict[NodeType, list[int]] = {}
        self.num_edges: dict[EdgeType, list[int]] = {t: [] for t in graph.edge_types}

    def start(self, name: NodeType, node: Tensor, group: Tensor | None) -> Tensor:
        """Put seeds at the beginning and return their local numbers."""
        return self.registry[name].add(self._key(node, group, self.graph.sizes[name]))

    def run(self) -> HeteroSamplerOutput:
        """Walk all hops and return what was found."""
        self.num_nodes = {name: [len(self.registry[name])] for name in self.graph.sizes}
        for hop in range(self.rules.num_hops):
            count = {t: sum(row.numel() for row, _, _ in parts) for t, parts in self.edges.items()}
            self._half(self.graph.modalities, hop, 0)
            self._half(self.graph.sets, hop, 1)
            for name, sizes in self.num_nodes.items():
                sizes.append(len(self.registry[name]) - sum(sizes))
            for t, parts in self.edges.items():
                self.num_edges[t].append(sum(row.numel() for row, _, _ in parts) - count[t])
        return self._output()

    def _half(self, names: list[NodeType], hop: int, half: int) -> None:
        """Walk from the nodes of these types that were not walked from yet."""
        front = {name: (self.walked[name], len(self.registry[name])) for name in names}
        for step in self.graph.steps:
            if step.start in front and front[step.start][0] < front[step.start][1]:
                fan_out = self.rules.fan_out[step.edge_type][hop][half]
                if fan_out != 0:
                    self._take(step, *front[step.start], fan_out)
        self.walked.update({name: end for name, (_, end) in front.items()})

    def _take(self, step: Step, begin: int, end: int, fan_out: int) -> None:
        node, group = self._split(self.registry[step.start].keys()[begin:end], self.graph.sizes[step.start])
        until = None if self.group_time is None or group is None else self.group_time.index_select(0, group)
        degree = step.adjacency.degree(node, until, strict=self.rules.strict)
        skips = self._skips(step, begin, end, degree)
        left = degree if skips is None else degree - skips.count
        draws = self._draw(left, fan_out)
        if skips is not None:
            draws = skips.shift(draws)
        nbr, edge = step.adjacency.entries(node, draws)
        group = None if group is None else group.index_select(0, draws.row)
        here, there = begin + draws.row, self.registry[step.end].add(self._key(nbr, group, self.graph.sizes[step.end]))
        if is_membership(step.edge_type):  # walked both ways: what the other way has found stands already
            seen, key = self.registry[step.edge_type], self._key(edge, group, self.graph.num_edges[step.edge_type])
            new = positions(seen.find(key) < 0)
            seen.add(key.index_select(0, new))
            here, there, edge = (column.index_select(0, new) for column in (here, there, edge))
        self.edges[step.edge_type].append((here, there, edge) if step.forward else (there, here, edge))

    def _draw(self, degree: Tensor, fan_out: int) -> Draws:
        if self.rules.latest:
            return last(degree, fan_out)
        return draw(degree, fan_out, replace=self.rules.replace, generator=self.generator)

    def _skips(self, step: Step, begin: int, end: int, degree: Tensor) -> Skips | None:
        """Find the entries of the rows ``[begin, end)`` that lead to hyperedges which are left out."""
        keys = self.left_out.get(step.end)
        if keys is None or keys.numel() == 0:
            return None
        hyperedge, group = self._split(keys, self.graph.sizes[step.end])
        back = self.graph.back(step)
        draws = draw(back.degree(hyperedge), -1, replace=False)
        node, edge = back.entries(hyperedge, draws)
        group = None if group is None else group[draws.row]
        row = self.registry[step.start].find(self._key(node, group, self.graph.sizes[step.start]))
        here = (row >= begin) & (row < end)
        offset = step.adjacency.offset(edge[here], node[here])
        return Skips(row[here] - begin, offset, degree)

    def _key(self, node: Tensor, group: Tensor | None, size: int) -> Tensor:
        return node if not self.disjoint or group is None else group * max(size, 1) + node

    def _split(self, key: Tensor, size: int) -> tuple[Tensor, Tensor | None]:
        if not self.disjoint:
            return key, None
        group = key.div(max(size, 1), rounding_mode="floor")
        return key - group * max(size, 1), group

    def _output(self) -> HeteroSamplerOutput:
        nodes = {name: self._split(self.registry[name].keys(), size) for name, size in self.graph.sizes.items()}
        none = torch.empty(0, dtype=torch.long)
        parts = {
            t: [torch.cat([none, *column]) for column in zip(*found, strict=True)] for t, found in self.edges.items()
        }
        parts = {t: found or [none, none, none] for t, found in parts.items()}
        return HeteroSamplerOutput(
            node={name: node for name, (node, _) in nodes.items()},
            row={t: found[0] for t, found in parts.items()},
            col={t: found[1] for t, found in parts.items()},
            edge={t: found[2] for t, found in parts.items()},
            batch={name: group for name, (_, group) in nodes.items()} if self.disjoint else None,
            num_sampled_nodes=self.num_nodes,
            num_sampled_edges=self.num_edges,
        )
