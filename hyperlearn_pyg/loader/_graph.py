from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.edge_index import EdgeIndex
from torch_geometric.typing import EdgeType, NodeType

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.relation import is_membership
from hyperlearn_pyg.data.tuples import TupleNumbers
from hyperlearn_pyg.errors import did_you_mean
from hyperlearn_pyg.loader._adjacency import Adjacency
from hyperlearn_pyg.loader._draw import enumerate_rows
from hyperlearn_pyg.loader._inputs import read_split

#: Which hyperedges may carry messages: a split of all sets, or a split or a mask ``[E]`` a set.
MessageHyperedges = str | Mapping[str, str | Tensor]


@dataclass(frozen=True)
class Step:
    """One way to walk along an edge type: from nodes that are there to neighbours that send them messages.

    Attributes:
        edge_type: the edge type.
        start: type of the nodes that are there.
        end: type of their neighbours.
        adjacency: the neighbours of each.
        forward: walk from source to destination: from an item to its hyperedges.
    """

    edge_type: EdgeType
    start: NodeType
    end: NodeType
    adjacency: Adjacency
    forward: bool


class Graph:
    """All ways to walk in a data set, compressed once.

    Args:
        data: the data.
        time_attr: the attribute that holds times.
        message_hyperedges: the hyperedges that may be reached.

    Raises:
        ValueError: a store that a walk needs is missing or does not fit.
    """

    def __init__(
        self, data: MultiModalHeteroData, *, time_attr: str | None, message_hyperedges: MessageHyperedges | None
    ) -> None:
        self.modalities, self.sets = data.modalities, data.hyperedge_types
        self.edge_types: list[EdgeType] = list(data.edge_types)
        self.sizes = {name: _size(data, name) for name in data.node_types}
        self.num_edges: dict[EdgeType, int] = {}
        self.times = _times(data, time_attr, self.sizes)
        self.allowed = _allowed(data, message_hyperedges)
        self.steps: list[Step] = []
        self._back: dict[EdgeType, Adjacency] = {}
        self._numbers: dict[str, tuple[TupleNumbers, Tensor, Tensor]] = {}
        for edge_type in self.edge_types:
            self._add(data, edge_type, time_attr)

    def members(self, name: str) -> list[Step]:
        """The steps from the hyperedges of a set to their members, one a slot."""
        return [s for s in self.steps if s.start == name and not s.forward and is_membership(s.edge_type)]

    def equal(self, name: str, members: Tensor) -> tuple[Tensor, Tensor]:
        """Find the hyperedges of a set that have just these members ``[k, B]``: position of the tuple, hyperedge.

        Raises:
            ValueError: some hyperedge has not exactly one member in a slot.
        """
        if name not in self._numbers:
            steps = self.members(name)
            if any(bool((step.adjacency.ptr.diff() != 1).any()) for step in steps):
                raise ValueError(f"'leave_out' is 'same', and hyperedges of '{name}' have not one member in every slot")
            index = torch.stack([step.adjacency.nbr.long() for step in steps])
            numbers = TupleNumbers(index, [self.sizes[step.end] for step in steps])
            self._numbers[name] = (numbers, *numbers(index).sort())
        numbers, ascending, order = self._numbers[name]
        number = numbers(members)
        first = torch.searchsorted(ascending, number)
        draws = enumerate_rows(torch.searchsorted(ascending, number, right=True) - first)
        return draws.row, order[first[draws.row] + draws.offset]

    def back(self, step: Step) -> Adjacency:
        """The same edges, from the neighbours back; made when first needed unless it is a step itself."""
        if step.forward:
            return next(s for s in self.members(step.end) if s.edge_type == step.edge_type).adjacency
        if step.edge_type not in self._back:
            row = torch.arange(self.sizes[step.start]).repeat_interleave(step.adjacency.ptr.diff().long())
            adjacency = step.adjacency
            index = torch.stack([adjacency.nbr.long(), row])[:, adjacency.edge.argsort()]
            self._back[step.edge_type] = Adjacency(index, (self.sizes[step.end], self.sizes[step.start]))
        return self._back[step.edge_type]

    def prepare(self, name: str) -> None:
        """Make what leaving out hyperedges of a set needs, before workers each make their own."""
        for step in self.steps:
            if step.end == name:
                step.adjacency.rank()
                self.back(step)

    def share_memory_(self) -> None:
        """Move everything to shared memory, for workers."""
        for step in self.steps:
            step.adjacency.share_memory_()

    def _add(self, data: MultiModalHeteroData, edge_type: EdgeType, time_attr: str | None) -> None:
        src, _, dst = edge_type
        index = _edge_index(data, edge_type)
        self.num_edges[edge_type] = index.size(1)
        time = data[edge_type].get(time_attr) if time_attr is not None else None
        both = [(index.flip(0), dst, src, False)]
        if is_membership(edge_type):
            both.append((index, src, dst, True))
        for entries, start, end, forward in both:
            keep = self.allowed[end][entries[1]] if end in self.allowed else None
            adjacency = Adjacency(
                entries,
                (self.sizes[start], self.sizes[end]),
                keep=keep,
                time=_latest(time, self.times.get(end), entries[1]),
            )
            self.steps.append(Step(edge_type, start, end, adjacency, forward))


def _size(data: MultiModalHeteroData, name: str) -> int:
    size = data[name].get("num_nodes")
    if size is None:
        raise ValueError(f"'num_nodes' of '{name}' is missing: set data['{name}'].num_nodes, counts are never guessed")
    return int(size)


def _edge_index(data: MultiModalHeteroData, edge_type: EdgeType) -> Tensor:
    index = data[edge_type].get("edge_index")
    if not isinstance(index, Tensor):
        raise ValueError(
            f"{edge_type} has no 'edge_index' (it holds {list(data[edge_type])}): neighbours are drawn from it"
        )
    return (index.as_tensor() if isinstance(index, EdgeIndex) else index).cpu()


def _times(data: MultiModalHeteroData, time_attr: str | None, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """Return the times of items and hyperedges."""
    if time_attr is None:
        return {}
    times = {name: data[name][time_attr].cpu() for name in data.node_types if time_attr in data[name]}
    for name, time in times.items():
        if tuple(time.shape) != (sizes[name],):
            raise ValueError(f"'{time_attr}' of '{name}' must be of shape [{sizes[name]}] (got {list(time.shape)})")
    if not times and not any(time_attr in data[edge_type] for edge_type in data.edge_types):
        raise ValueError(f"'time_attr' is {time_attr!r}, which no store of the data holds")
    return times


def _latest(edge: Tensor | None, node: Tensor | None, nodes: Tensor) -> Tensor | None:
    """Return from when on an entry is there: since both the edge and the neighbour are."""
    if node is None:
        return None if edge is None else edge.cpu()
    return node[nodes] if edge is None else torch.maximum(edge.cpu(), node[nodes])


def _allowed(data: MultiModalHeteroData, given: MessageHyperedges | None) -> dict[str, Tensor]:
    if given is None:
        return {}
    sets = data.hyperedge_types
    if isinstance(given, str):
        given = dict.fromkeys(sets, given)
    out = {}
    for name, mask in given.items():
        if name not in sets:
            raise ValueError(f"'message_hyperedges' names {name!r} (sets: {sets}).{did_you_mean(name, sets)}")
        where = f"'message_hyperedges' of '{name}'"
        mask = read_split(data, name, mask, where) if isinstance(mask, str) else mask
        if mask.dtype != torch.bool or tuple(mask.shape) != (data[name].num_nodes,):
            raise ValueError(
                f"{where} must be a bool mask of shape [{data[name].num_nodes}] or a split (got {list(mask.shape)}, "
                f"{mask.dtype})"
            )
        out[name] = mask.cpu()
    return out
