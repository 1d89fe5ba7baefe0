from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.transforms._common import check_choice, modality_names

METHODS = ("row", "l2", "standardize")
#: Entries that are held at once in double precision: 32 MiB.
_BLOCK = 1 << 22


@functional_transform("modality_normalize_features")
class NormalizeFeatures(BaseTransform):
    r"""Bring the features of each modality to a common scale, in a way of its own if need be.

    * ``"row"``: each item's features are divided by the sum of their absolute values;
    * ``"l2"``: by their Euclidean norm;
    * ``"standardize"``: each column is shifted to mean 0 and scaled to standard deviation 1 (a column that does not
      vary is only shifted). Mean and deviation are those of the items that ``mask`` names.

    An item whose features are all zero stays zero under the first two. PyG's transform of this name divides rows of
    every store alike, after it took off the smallest entry of all.

    Args:
        method: one for all modalities that have features, or a mapping from modality to method; modalities that the
            mapping does not name stay as they are.
        mask: a bool attribute ``[N]`` of the item stores, such as ``"train_mask"``, which the statistics are read
            from; a modality without it, and :obj:`None`, reads all items.
        attr: the attribute to normalise.

    Raises:
        ValueError: unknown method or modality, a named modality without features, a mask that names no item.
    """

    def __init__(
        self, method: str | Mapping[str, str] = "standardize", *, mask: str | None = None, attr: str = "x"
    ) -> None:
        for word in [method] if isinstance(method, str) else method.values():
            check_choice(word, METHODS, "method")
        self.method = method if isinstance(method, str) else dict(method)
        self.mask = mask
        self.attr = attr

    def forward(self, data: MultiModalHeteroData) -> MultiModalHeteroData:
        """Return the data with the features replaced."""
        if isinstance(self.method, str):
            methods = {name: self.method for name in data.modalities if self.attr in data[name]}
        else:
            methods = {name: self.method[name] for name in modality_names(data, self.method)}
        for name, method in methods.items():
            store = data[name]
            if self.attr not in store:
                raise ValueError(f"modality '{name}' has no features '{self.attr}' to normalise")
            store[self.attr] = _normalize(store[self.attr], method, self._known(data, name))
        return data

    def _known(self, data: MultiModalHeteroData, name: str) -> Tensor | None:
        """Return which items of a modality the statistics are read from; :obj:`None` for all."""
        mask = None if self.mask is None else data[name].get(self.mask)
        if mask is None:
            return None
        where, size = f"'{self.mask}' of modality '{name}'", int(data[name].num_nodes)
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or list(mask.shape) != [size]:
            got = f"{mask.dtype} {list(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
            raise ValueError(f"{where} must be bool of shape [{size}] (got {got}): store one split under another name")
        if size and not bool(mask.any()):
            raise ValueError(f"{where} names no item to take the statistics from")
        return mask

    def __repr__(self) -> str:
        mask = "" if self.mask is None else f", mask={self.mask!r}"
        return f"{type(self).__name__}({self.method!r}{mask})"


def _normalize(x: Tensor, method: str, known: Tensor | None) -> Tensor:
    """Normalise ``[N, F]``, block by block; a sparse one keeps its layout except when it is standardised."""
    if not x.is_floating_point():
        x = x.to(torch.get_default_dtype())
    if x.numel() == 0:
        return x
    if x.layout != torch.strided:
        if method != "standardize":
            return _scale_sparse(x, method)
        x = x.to_dense()
    step = max(1, _BLOCK // x.size(1))
    statistics = _mean_and_deviation(x, known, step) if method == "standardize" else None
    out = torch.empty_like(x)
    for block, target in zip(x.split(step), out.split(step), strict=True):
        if statistics is not None:
            target.copy_((block.double() - statistics[0]) / statistics[1])
            continue
        wide = block.float() if block.element_size() < 4 else block
        length = wide.abs().sum(1, keepdim=True) if method == "row" else wide.norm(dim=1, keepdim=True)
        target.copy_(wide / torch.where(length > 0, length, 1.0))
    return out


def _mean_and_deviation(x: Tensor, known: Tensor | None, step: int) -> tuple[Tensor, Tensor]:
    """Return the mean and the deviation of each column ``[F]`` in double precision; 1 for a column that is constant."""
    masks = x.new_ones(x.size(0), dtype=torch.bool).split(step) if known is None else known.to(x.device).split(step)
    count = sum(int(mask.sum()) for mask in masks)
    blocks = list(zip(x.split(step), masks, strict=True))
    mean = torch.stack([block[mask].double().sum(dim=0) for block, mask in blocks]).sum(dim=0) / count
    square = torch.stack([(block[mask].double() - mean).square().sum(dim=0) for block, mask in blocks]).sum(dim=0)
    deviation = (square / count).sqrt()
    return mean, deviation.masked_fill(deviation <= 1e-12 * mean.abs(), 1.0)  # constant, to rounding


def _scale_sparse(x: Tensor, method: str) -> Tensor:
    layout = x.layout
    entries = x.to_sparse_coo().coalesce()
    row, value = entries.indices()[0], entries.values()
    weight = value.abs() if method == "row" else value.square()
    length = value.new_zeros(x.size(0)).index_add(0, row, weight)
    length = length if method == "row" else length.sqrt()
    value = value / torch.where(length > 0, length, 1.0)[row]
    scaled = torch.sparse_coo_tensor(entries.indices(), value, x.shape, check_invariants=False)
    return scaled.coalesce() if layout == torch.sparse_coo else scaled.to_sparse(layout=layout)
