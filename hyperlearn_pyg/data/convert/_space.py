from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData


@dataclass(frozen=True)
class NodeSpace:
    """Several node types on top of one another as one range of nodes.

    Args:
        names: the node types, in order.
        sizes: their numbers of nodes.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, data: MultiModalHeteroData, names: Sequence[str]) -> NodeSpace:
        """Return the space of the node types ``names`` of ``data``."""
        for name in names:
            if data[name].get("num_nodes") is None:
                raise ValueError(f"'num_nodes' of '{name}' is missing: set data['{name}'].num_nodes")
        return cls(tuple(names), tuple(int(data[name].num_nodes) for name in names))

    @property
    def num_nodes(self) -> int:
        """The number of nodes of all types."""
        return sum(self.sizes)

    @property
    def offsets(self) -> dict[str, int]:
        """Node type -> its first node."""
        return {name: sum(self.sizes[:i]) for i, name in enumerate(self.names)}

    def node_type(self, device: torch.device | None = None) -> Tensor:
        """Return the position in ``names`` of the type of each node ``[N]``."""
        count = torch.tensor(self.sizes, dtype=torch.long, device=device)
        return torch.arange(len(self.names), device=device).repeat_interleave(count)

    def node_index(self, device: torch.device | None = None) -> Tensor:
        """Return the position of each node within its type ``[N]``."""
        return torch.cat([torch.arange(size, device=device) for size in (*self.sizes, 0)])

    def features(self, data: MultiModalHeteroData) -> Tensor | None:
        """Return ``x [N, F]`` where all modalities have features of one width and type, else :obj:`None`.

        Hyperedge sets without ``x`` get zeros.
        """
        sets = data.hyperedge_types
        found = {name: data[name].get("x") for name in self.names if name not in sets or "x" in data[name]}
        kinds = {
            (x.size(1), x.dtype) if isinstance(x, Tensor) and x.layout == torch.strided and x.dim() == 2 else None
            for x in found.values()
        }
        if len(kinds) != 1 or None in kinds:
            return None
        like = next(iter(found.values()))
        blocks = [found.get(m, like.new_zeros(n, like.size(1))) for m, n in zip(self.names, self.sizes, strict=True)]
        return torch.cat(blocks)
