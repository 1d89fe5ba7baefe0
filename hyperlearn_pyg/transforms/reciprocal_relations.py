from __future__ import annotations

from collections.abc import Sequence

from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from hyperlearn_pyg.data import MultiModalHeteroData, Relation
from hyperlearn_pyg.data._members import Slot, slot_edge_type
from hyperlearn_pyg.data._rows import forget_graphs
from hyperlearn_pyg.transforms._common import find_slots

ASKED = "asked"


@functional_transform("reciprocal_relations")
class ReciprocalRelations(BaseTransform):
    r"""Turn a relation into several, one for each slot that is to be filled, in which items play roles of their own.

    With *fact* of a relation and the entities ``arg1`` and ``arg2``, ``ReciprocalRelations("fact", "entity")`` makes

    * ``fact_arg1`` of (relation as ``for_arg1``, entity as ``arg1_asked``, entity as ``arg2``) and
    * ``fact_arg2`` of (relation as ``for_arg2``, entity as ``arg1``, entity as ``arg2_asked``),

    each with all hyperedges and their attributes. With ``roles="independent"`` a model then learns for an item one
    vector for each slot where it is given and another for each where it is asked for, and for an item of a modality
    that is never asked for (here the relation) one for each slot that is: the reciprocal relations of Lacroix, Usunier
    and Obozinski (ICML 2018, section 3), for tuples of any order. With ``asked=False`` an item is the same whether
    given or asked for, and those of the relation alone differ. Say that each relation predicts its one slot::

        reciprocal = ReciprocalRelations("fact", "entity")
        data = reciprocal(data)
        model = HyperLearn.from_data(
            data, preset="links", decoder="cp_around_ones", roles="independent", predict=reciprocal.predict(data)
        )

    Args:
        relation: the relation, which goes.
        slots: what is asked for: a modality (all its slots), a pair (modality, role), or a list of these;
            :obj:`None` for all slots.
        asked: items that are asked for have a role of their own.

    Raises:
        ValueError: no such relation or slot, or the data has one of the new relations already.
    """

    def __init__(self, relation: str, slots: Slot | Sequence[Slot] | None = None, *, asked: bool = True) -> None:
        self.relation = relation
        self.slots = slots
        self.asked = asked

    def forward(self, data: MultiModalHeteroData) -> MultiModalHeteroData:
        """Return the data with the new relations in the place of the old one."""
        if self.relation not in data.hyperedge_types and (made := self._made(data)):
            raise ValueError(f"relation '{self.relation}' was taken apart already, into {list(made)}")
        relation = data.relation(self.relation)
        asked = self._asked(relation)
        modalities = {relation.modalities[slot] for slot in asked}
        for slot in asked:
            self._add(data, relation, slot, modalities)
        data.remove_hyperedges(self.relation)
        forget_graphs(data)
        return data

    def predict(self, data: MultiModalHeteroData) -> dict[str, tuple[str, ...]]:
        """Return which slot each of the new relations of transformed data asks for, as ``ModelConfig.predict``.

        Raises:
            ValueError: the data has none of the new relations.
        """
        out = self._made(data)
        if not out:
            names = data.hyperedge_types
            raise ValueError(f"'data' has no relation that {self} made (relations: {names}): transform it first")
        return out

    def _made(self, data: MultiModalHeteroData) -> dict[str, tuple[str, ...]]:
        out = {}
        for name in data.hyperedge_types:
            relation, word = data.relation(name), name.removeprefix(f"{self.relation}_")
            slots = zip(relation.modalities, relation.roles, strict=True)
            found = [(m, r) for m, r in slots if r == f"{word}_{ASKED}" or word == (m if r in (None, ASKED) else r)]
            if found and word != name:
                out[name] = tuple(m if r is None else f"{m}.{r}" for m, r in found)
        return out

    def _asked(self, relation: Relation) -> list[int]:
        if self.slots is None:
            return list(range(relation.order))
        one = isinstance(self.slots, str | tuple)
        wanted: Sequence[Slot] = [self.slots] if one else self.slots  # type: ignore[list-item]
        found = {slot for name in wanted for slot in find_slots(relation, name)}
        if not found:
            raise ValueError(f"'slots' must name at least one slot of relation '{relation.name}' (got none)")
        return sorted(found)

    def _add(self, data: MultiModalHeteroData, relation: Relation, asked: int, modalities: set[str]) -> None:
        """Add the relation that asks for one slot: the same tensors under other names."""
        word = relation.roles[asked] or relation.modalities[asked]
        name = f"{relation.name}_{word}"
        if name in data.node_types:
            raise ValueError(f"'{name}' is already present: rename it, or relation '{relation.name}', first")
        data.get_node_store(name).update(dict(data[relation.name]))
        for slot, old in enumerate(relation.slots):
            modality, role = relation.modalities[slot], relation.roles[slot]
            if slot == asked and self.asked:
                role = ASKED if role is None else f"{role}_{ASKED}"
            elif slot != asked and modality not in modalities:
                role = f"for_{word}" if role is None else f"{role}_for_{word}"
            new = slot_edge_type(modality if role is None else (modality, role), name)
            data[new].update(dict(data[old]))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.relation!r}, {self.slots!r}, asked={self.asked})"
