from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

#: Relation name of a membership edge type; a slot with a role is called ``member:ROLE``.
MEMBER = "member"


def is_membership(edge_type: EdgeType) -> bool:
    """Tell whether an edge type is ``(modality, 'member[:ROLE]', set)``: members of a hyperedge set."""
    name: str = edge_type[1]
    return name == MEMBER or name.startswith(f"{MEMBER}:")


def role_of(edge_type: EdgeType) -> str | None:
    """Return the role that a membership edge type names, or :obj:`None`."""
    return edge_type[1][len(MEMBER) + 1 :] or None


@dataclass(frozen=True, eq=False, repr=False)
class Relation:
    """A read-only view of one hyperedge set of a :class:`~hyperlearn_pyg.data.MultiModalHeteroData`.

    Nothing is copied: the view reads the stores of ``data`` whenever an attribute is asked for. *Slot*
    ``s`` is the ``s``-th membership edge type in the order of insertion; two slots of one modality differ
    by role.

    Args:
        data: the data object.
        name: the node type that holds the hyperedges.
    """

    data: HeteroData
    name: str

    @property
    def slots(self) -> tuple[EdgeType, ...]:
        """The membership edge types ``(modality, 'member[:ROLE]', name)``, one a slot."""
        return tuple(t for t in self.data.edge_types if t[2] == self.name and is_membership(t))

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modality of each slot."""
        return tuple(slot[0] for slot in self.slots)

    @property
    def roles(self) -> tuple[str | None, ...]:
        """The role of each slot, :obj:`None` where no role is named."""
        return tuple(role_of(slot) for slot in self.slots)

    @property
    def slot_names(self) -> tuple[str, ...]:
        """What each slot is called: its modality, or ``modality:role``."""
        return tuple(m if r is None else f"{m}:{r}" for m, r in zip(self.modalities, self.roles, strict=True))

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of items of the modality of each slot."""
        return tuple(int(self.data[modality].num_nodes) for modality in self.modalities)

    @property
    def order(self) -> int:
        """The number of slots ``k``."""
        return len(self.slots)

    @property
    def num_hyperedges(self) -> int:
        """The number of hyperedges ``E``, those without a member included."""
        return int(self.data[self.name].num_nodes)

    def __len__(self) -> int:
        return self.num_hyperedges

    @property
    def value(self) -> Tensor | None:
        """The values ``[E]``, or :obj:`None` for a 0/1 relation."""
        return self._attribute("value")

    @property
    def weight(self) -> Tensor | None:
        """The hyperedge weights ``[E]``, or :obj:`None` where all are one."""
        return self._attribute("weight")

    @property
    def time(self) -> Tensor | None:
        """The times ``[E]``, or :obj:`None`."""
        return self._attribute("time")

    def mask(self, split: str) -> Tensor:
        """Return ``{split}_mask``, bool ``[E]``.

        Raises:
            ValueError: the relation has no such mask.
        """
        mask = self._attribute(f"{split}_mask")
        if mask is None:
            known = [key[:-5] for key in self.data[self.name] if key.endswith("_mask")]
            raise ValueError(
                f"'{split}_mask' is missing from relation '{self.name}' (splits present: {known or 'none'}): "
                f"set it, for instance with transforms.RandomRelationSplit('{self.name}')"
            )
        return mask

    def incidence(self, slot: int) -> Tensor:
        """Return ``[2, nnz]`` of a slot: item indices above hyperedge indices.

        Raises:
            ValueError: ``slot`` is not in ``[-k, k)``.
        """
        if not -self.order <= slot < self.order:
            raise ValueError(f"'slot' must be in [-{self.order}, {self.order}) for relation '{self.name}' (got {slot})")
        edge_index: Tensor = self.data[self.slots[slot]].edge_index
        return edge_index

    @property
    def is_uniform(self) -> bool:
        """Whether every hyperedge has exactly one member in every slot."""
        return all(self._uniform_members(slot) is not None for slot in range(self.order))

    @property
    def index(self) -> Tensor:
        """The tuples as item indices ``[k, E]``, int64.

        Raises:
            ValueError: the relation is ragged: some hyperedge has not exactly one member in a slot.
        """
        rows = []
        for slot in range(self.order):
            members = self._uniform_members(slot)
            if members is None:
                count = torch.bincount(self.incidence(slot)[1], minlength=len(self))
                lost = bool((count == 0).any()) and not bool((count > 1).any())
                hint = ", or leave such hyperedges out: 'subgraph(..., hyperedges=\"drop\")'" if lost else ""
                raise ValueError(
                    f"relation '{self.name}' has no index [k, E]: in slot {slot} {self.slots[slot]} some "
                    f"hyperedge has {'no' if lost else 'not exactly one'} member. "
                    f"Read 'incidence({slot})' instead{hint}"
                )
            rows.append(members)
        return torch.stack(rows)

    def _uniform_members(self, slot: int) -> Tensor | None:
        """Return the members ``[E]`` in hyperedge order, or :obj:`None` when the slot is ragged."""
        item: Tensor
        item, hyperedge = self.incidence(slot)
        if item.numel() != len(self):
            return None
        position = torch.arange(len(self), device=item.device)
        if torch.equal(hyperedge, position):
            return item
        order = hyperedge.argsort()
        if not torch.equal(hyperedge[order], position):
            return None
        return item[order]

    def _attribute(self, key: str) -> Tensor | None:
        value: Tensor | None = self.data[self.name].get(key)
        return value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}({', '.join(self.slot_names)}), num_hyperedges={len(self)})"
