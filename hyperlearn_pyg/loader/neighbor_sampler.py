from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.sampler import (
    BaseSampler,
    EdgeSamplerInput,
    HeteroSamplerOutput,
    NegativeSampling,
    NodeSamplerInput,
)
from torch_geometric.sampler.neighbor_sampler import edge_sample
from torch_geometric.typing import EdgeType, NodeType

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.loader._draw import draw
from hyperlearn_pyg.loader._fan_out import read_fan_out
from hyperlearn_pyg.loader._graph import Graph, MessageHyperedges
from hyperlearn_pyg.loader._inputs import check_data
from hyperlearn_pyg.loader._registry import first_of_each
from hyperlearn_pyg.loader._walk import Rules, Tables, Walk
from hyperlearn_pyg.loader.negative import NegativeSampler


@dataclass(frozen=True)
class TupleSamplerInput:
    """The tuples of one batch.

    Attributes:
        relation: the hyperedge set.
        input_id: positions in the input of the loader ``[B]``.
        hyperedge: the hyperedges ``[B]``; :obj:`None` where the members are given.
        members: the members of tuples that need not be hyperedges ``[k, B]``.
        time: time of each tuple ``[B]``.
    """

    relation: str
    input_id: Tensor
    hyperedge: Tensor | None = None
    members: Tensor | None = None
    time: Tensor | None = None


@dataclass(frozen=True)
class TupleSeeds:
    """The seeds of a batch of tuples, by local numbers.

    Attributes:
        index: the input.
        time: time of each tuple ``[B]``.
        members: by slot ``[2, n]``: item above position of the tuple in the batch.
        negatives: items of the negatives ``[k, B, num_negatives]``.
        negative_mask: which negatives are there ``[B, num_negatives]``.
    """

    index: TupleSamplerInput
    time: Tensor | None
    members: dict[EdgeType, Tensor]
    negatives: Tensor | None = None
    negative_mask: Tensor | None = None


class HypergraphNeighborSampler(BaseSampler):
    """Multi-hop sampling item -> hyperedge -> item in plain torch, for PyG's ``NodeLoader`` and ``LinkLoader``.

    These loaders of PyG do not slice lists: delete ``item_id`` and the like from the data that you give them, or use
    :class:`HypergraphNeighborLoader`, which does.

    A hop goes from the items that came last to hyperedges that hold them, and from there to members of these
    hyperedges. An item or hyperedge is walked from once, at the hop after it is found. Other edge types are walked
    against their direction, as in PyG: those that end at items with the first half of the hop, those that end at
    hyperedges with the second.

    The batch holds the memberships that were walked along, either way, each once: the membership through which a
    hyperedge was found, and those of the members that were drawn. :class:`HypergraphNeighborLoader` says how many hops
    a stack of layers needs.

    Args:
        data: the data. Its edge types are compressed once, by either end.
        num_neighbors: the fan-out, see :class:`HypergraphNeighborLoader`.
        replace: draw with replacement. A membership then stands as often as it was drawn by the side that found it
            first.
        disjoint: every seed gets a subgraph of its own.
        time_attr: name of the attribute of items, hyperedges or edges that holds times. Implies ``disjoint``.
        temporal_strategy: ``"uniform"``, or ``"last"`` for the latest that are there in time.
        strict_time: what has the seed's own time is not there yet.
        message_hyperedges: the hyperedges that may be reached: a split, or a mapping from hyperedge set to a split or a
            mask ``[E]``. Sets that are not named are all reached.
        share_memory: move the compressed edges to shared memory, for workers.

    Raises:
        ValueError: see :class:`HypergraphNeighborLoader`.
    """

    def __init__(
        self,
        data: MultiModalHeteroData,
        num_neighbors: Any,
        *,
        replace: bool = False,
        disjoint: bool = False,
        time_attr: str | None = None,
        temporal_strategy: str = "uniform",
        strict_time: bool = False,
        message_hyperedges: MessageHyperedges | None = None,
        share_memory: bool = False,
    ) -> None:
        if temporal_strategy not in ("uniform", "last"):
            raise ValueError(f"'temporal_strategy' must be 'uniform' or 'last' (got {temporal_strategy!r})")
        if temporal_strategy == "last" and time_attr is None:
            raise ValueError("'temporal_strategy' is 'last': name the attribute that holds times as 'time_attr'")
        check_data(data)
        self.graph = Graph(data, time_attr=time_attr, message_hyperedges=message_hyperedges)
        self.time_attr = time_attr
        self.disjoint = disjoint or time_attr is not None
        fan_out = read_fan_out(
            num_neighbors, modalities=self.graph.modalities, sets=self.graph.sets, edge_types=self.graph.edge_types
        )
        self.rules = Rules(fan_out, replace, temporal_strategy == "last", strict_time)
        self._tables = Tables(self.graph)
        if share_memory:
            self.graph.share_memory_()

    @property
    def num_hops(self) -> int:
        """The number of hops."""
        return self.rules.num_hops

    def sample_from_nodes(
        self, index: NodeSamplerInput, generator: torch.Generator | None = None
    ) -> HeteroSamplerOutput:
        """Sample around items or hyperedges of one type; a seed named twice stands once, unless disjoint.

        A hyperedge as seed takes its members in the first hop.

        Raises:
            ValueError: times are missing, or given without ``time_attr``.
        """
        name, node, input_id = index.input_type, index.node.long(), index.input_id
        time = self._times(name, node, index.time)
        if not self.disjoint:
            first = first_of_each(node)
            if first.numel() < node.numel():
                node, input_id = node[first], None if input_id is None else input_id[first]
        out = self._sample({name: node}, None if time is None else {name: time}, generator)
        out.metadata = (input_id, time)
        return out

    def sample_from_edges(
        self, index: EdgeSamplerInput, neg_sampling: NegativeSampling | None = None
    ) -> HeteroSamplerOutput:
        """Sample around both ends of edges, for PyG's :class:`~torch_geometric.loader.LinkLoader`.

        Raises:
            ValueError: times are missing, or given without ``time_attr``.
        """
        if (index.time is None) != (self.time_attr is None):
            raise ValueError("'edge_label_time' and 'time_attr' go together: pass both or neither")
        sizes, times = self.graph.sizes, self.graph.times or None
        return edge_sample(index, self._sample, sizes, self.disjoint, times, neg_sampling)

    def sample_from_tuples(
        self,
        index: TupleSamplerInput,
        *,
        leave_out: bool | str = True,
        negatives: NegativeSampler | None = None,
        num_negatives: int = 1,
        generator: torch.Generator | None = None,
    ) -> HeteroSamplerOutput:
        """Sample around all members of tuples, slot by slot, and of negatives of the tuples.

        ``metadata`` of what is returned is a :class:`TupleSeeds`.

        Args:
            index: the tuples.
            leave_out: do not walk along the hyperedges that the tuples are (in disjoint mode: each tuple's own in its
                own subgraph); ``"same"``: nor along others with the same members in all slots.
            negatives: draws negatives, for relations with one member in each slot.
            num_negatives: how many for each tuple.
            generator: source of randomness.

        Raises:
            ValueError: times are missing, or given without ``time_attr``.
        """
        time = self._times(index.relation, index.hyperedge, index.time)
        members = self._members(index)
        walk = self._walk(time, self._left_out(index, members, leave_out), generator)
        local = {
            slot: torch.stack([walk.start(slot[0], item, position), position])
            for slot, (item, position) in members.items()
        }
        drawn = mask = None
        if negatives is not None:
            rows = torch.stack([item for item, _ in members.values()])
            drawn, mask = negatives.sample(rows, num_negatives, generator=generator)
            position = torch.arange(rows.size(1)).repeat_interleave(num_negatives)
            starts = [walk.start(slot[0], row.reshape(-1), position) for slot, row in zip(members, drawn, strict=True)]
            drawn = torch.stack(starts).view(drawn.shape)
        out = walk.run()
        out.metadata = TupleSeeds(index, time, local, drawn, mask)
        return out

    def _left_out(
        self, index: TupleSamplerInput, members: Mapping[EdgeType, tuple[Tensor, Tensor]], leave_out: bool | str
    ) -> dict[str, Tensor]:
        """Return the keys of the hyperedges that are not walked to."""
        if not leave_out:
            return {}
        if leave_out == "same":
            rows = torch.stack([item for item, _ in members.values()])
            position, hyperedge = self.graph.equal(index.relation, rows)
        elif index.hyperedge is not None:
            position, hyperedge = torch.arange(index.hyperedge.numel()), index.hyperedge
        else:
            return {}
        if self.disjoint:
            hyperedge = hyperedge + position * max(self.graph.sizes[index.relation], 1)
        return {index.relation: hyperedge.unique()}

    def _members(self, index: TupleSamplerInput) -> dict[EdgeType, tuple[Tensor, Tensor]]:
        """Return item and position of the tuple of all members, by slot."""
        steps = self.graph.members(index.relation)
        out = {}
        for slot, step in enumerate(steps):
            if index.members is not None:
                item = index.members[slot]
                out[step.edge_type] = (item, torch.arange(item.numel()))
            elif index.hyperedge is not None:
                draws = draw(step.adjacency.degree(index.hyperedge), -1, replace=False)
                out[step.edge_type] = (step.adjacency.entries(index.hyperedge, draws)[0], draws.row)
        return out

    def check_time(self, name: str, given: bool, *, known: bool = True) -> None:
        """Check that the seeds have times just where the sampler heeds them.

        Args:
            name: type of the seeds.
            given: their times are given.
            known: the seeds are in the data, so that their own times may stand for them.

        Raises:
            ValueError: times are missing, or given without ``time_attr``.
        """
        if self.time_attr is None and given:
            raise ValueError("'input_time' is given: name the attribute that holds times as 'time_attr'")
        if self.time_attr is not None and not given and not (known and name in self.graph.times):
            raise ValueError(f"'input_time' is missing: '{name}' has no '{self.time_attr}' that could stand for it")

    def _times(self, name: str, node: Tensor | None, time: Tensor | None) -> Tensor | None:
        self.check_time(name, time is not None, known=node is not None)
        return time if time is not None or self.time_attr is None else self.graph.times[name][node]

    def _walk(
        self, group_time: Tensor | None, left_out: Mapping[str, Tensor] | None, generator: torch.Generator | None
    ) -> Walk:
        return Walk(
            self.graph,
            self.rules,
            self._tables.take(self.disjoint),
            disjoint=self.disjoint,
            group_time=group_time,
            left_out=left_out,
            generator=generator,
        )

    def _sample(
        self,
        seed: Mapping[NodeType, Tensor],
        seed_time: Mapping[NodeType, Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> HeteroSamplerOutput:
        """Sample around seeds of several types; in disjoint mode the ``i``-th of all types share a subgraph."""
        times = list((seed_time or {}).values())
        walk = self._walk(max(times, key=len) if times else None, None, generator)
        for name, node in seed.items():
            walk.start(name, node, torch.arange(node.numel()))
        return walk.run()
