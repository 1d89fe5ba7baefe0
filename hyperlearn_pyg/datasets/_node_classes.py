from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.datasets._base import RawFilesDataset


class NodeClassDataset(RawFilesDataset):
    """Items of one modality with a class each, and one set of hyperedges over them; the base of such data sets.

    A subclass names the two node types and the files, and gives the data object in :meth:`read`.

    Args:
        root: folder of the data set.
        transform: applied at each access.
        pre_transform: applied once, before the data is stored.
        force_reload: process again although the processed file is there.

    Raises:
        InputError: the processed file is damaged, or a raw one.
    """

    #: Node type of the items, which holds ``x``, ``y`` and the masks.
    item_type: ClassVar[str]
    #: Node type of the hyperedges.
    hyperedge_type: ClassVar[str]

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        y: Tensor = self._data[self.item_type].y
        return int(y.max()) + 1 if y.numel() else 0

    def hyperedge_index(self, *, singletons: bool = False) -> Tensor:
        """Return the plain index ``[2, nnz]``, nodes above hyperedges, that hypergraph layers take.

        Args:
            singletons: give each node that is in no hyperedge one of its own, numbered behind the others in the order
                of the nodes: layers without a self-connection then see at least its own features.
        """
        index: Tensor = self._data.relation(self.hyperedge_type).incidence(0)
        if not singletons:
            return index
        alone = torch.ones(self._data[self.item_type].num_nodes, dtype=torch.bool)
        alone[index[0]] = False
        nodes = alone.nonzero().view(-1)
        first = int(self._data[self.hyperedge_type].num_nodes)
        return torch.cat([index, torch.stack([nodes, first + torch.arange(nodes.numel())])], dim=1)

    def build(
        self, x: Tensor, y: Tensor, masks: dict[str, Tensor], ids: list[str], index: Tensor, sets: list[str]
    ) -> MultiModalHeteroData:
        """Return the data object: ``x [N, F]``, ``y [N]``, masks ``[N, splits]`` on the items; names on both."""
        data = MultiModalHeteroData().add_modality(self.item_type, x=x, item_id=ids)
        data[self.item_type].update({"y": y, **masks})
        data.add_hyperedges(
            self.hyperedge_type, {self.item_type: index}, num_hyperedges=len(sets), item_id=sets
        )  # the set is a node type too: its names stand where those of items do
        return data
