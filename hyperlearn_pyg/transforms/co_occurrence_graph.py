from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from hyperlearn_pyg.data import MultiModalHeteroData, Relation
from hyperlearn_pyg.transforms._common import find_slots, note_seen

#: Items whose similarities are found at once.
_ROWS = 4096


@functional_transform("co_occurrence_graph")
class CoOccurrenceGraph(BaseTransform):
    r"""Tie each item to the ``k`` items of its modality that keep the most similar company in a relation.

    With :math:`B_{ij} = 1` where some *training* tuple holds item :math:`i` of the modality together with item
    :math:`j` of another slot (all other slots side by side; the hyperedge itself where a slot has several members),
    the weight is the cosine of rows :math:`i` and :math:`i'` of :math:`B`. Held-out tuples are never read.

    Adds the edge type ``(modality, "cooccurs", modality)`` with ``edge_weight`` in (0, 1]: symmetric, no loops.

    Args:
        relation: the relation, which must have ``train_mask``.
        modality: one of its modalities.
        k: neighbours an item, at most.
        max_degree: columns of ``B`` that more items share are left out: they say little and cost its square.
            :obj:`None` keeps all.

    Raises:
        ValueError: no such relation, no such modality in it, no training mask, ``k`` below 1.
    """

    def __init__(self, relation: str, modality: str, k: int = 10, *, max_degree: int | None = 1000) -> None:
        if k < 1:
            raise ValueError(f"'k' must be at least 1 (got {k})")
        self.relation = relation
        self.modality = modality
        self.k = k
        self.max_degree = max_degree

    def forward(self, data: MultiModalHeteroData) -> MultiModalHeteroData:
        """Return the data with the graph added."""
        relation = data.relation(self.relation)
        find_slots(relation, self.modality)
        graph = _nearest(self._company(relation), self.k)
        graph = graph.maximum(graph.T).tocoo()
        device = relation.incidence(0).device
        store = data[self.modality, "cooccurs", self.modality]
        store.edge_index = torch.from_numpy(np.stack([graph.row, graph.col]).astype(np.int64)).to(device)
        store.edge_weight = torch.from_numpy(graph.data.astype(np.float32)).to(device)
        note_seen(data, relation, (self.modality, "cooccurs", self.modality), relation.mask("train"))
        return data

    def _company(self, relation: Relation) -> sp.csr_array:
        """Return ``B`` with rows of unit length."""
        train = relation.mask("train")
        members = [_incidence(relation, slot, train) for slot in range(relation.order)]
        blocks = []
        for a, name in enumerate(relation.modalities):
            if name == self.modality:
                blocks += [members[a] @ members[b].T for b in range(relation.order) if b != a]
                blocks += [members[a]] if (members[a].sum(axis=0) > 1).any() else []
        size = relation.sizes[relation.modalities.index(self.modality)]
        company = sp.csc_array(sp.hstack(blocks)) if blocks else sp.csc_array((size, 0))
        company.data = np.minimum(company.data, 1.0)
        if self.max_degree is not None:
            company = company[:, np.diff(company.indptr) <= self.max_degree]
        company = sp.csr_array(company)
        norm = np.sqrt(np.diff(company.indptr))  # entries are 0 or 1
        company.data = company.data / np.repeat(norm, np.diff(company.indptr))
        return company

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.relation!r}, {self.modality!r}, k={self.k})"


def _incidence(relation: Relation, slot: int, train: Tensor) -> sp.csr_array:
    """Return the memberships ``[N, E]`` of the training tuples in a slot."""
    item, hyperedge = relation.incidence(slot)
    keep = train[hyperedge]
    item, hyperedge = item[keep].cpu().numpy(), hyperedge[keep].cpu().numpy()
    shape = (relation.sizes[slot], len(relation))
    return sp.csr_array((np.ones(len(item)), (item, hyperedge)), shape=shape)


def _nearest(rows: sp.csr_array, k: int) -> sp.csr_array:
    """Return the ``k`` largest products of each row with other rows, as a sparse ``[N, N]``."""
    size = rows.shape[0]
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for start in range(0, size, _ROWS):
        product = (rows[start : start + _ROWS] @ rows.T).tocoo()
        source, target, value = product.row + start, product.col, product.data
        keep = source != target
        source, target, value = source[keep], target[keep], value[keep]
        order = np.lexsort((target, -value, source))
        source, target, value = source[order], target[order], value[order]
        first = np.searchsorted(source, source)
        top = np.arange(len(source)) - first < k
        found.append((source[top], target[top], value[top]))
    if not found:
        return sp.csr_array((size, size))
    source, target, value = (np.concatenate(part) for part in zip(*found, strict=True))
    return sp.csr_array((np.minimum(value, 1.0), (source, target)), shape=(size, size))
