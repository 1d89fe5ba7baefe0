from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from hyperlearn_pyg.data import Relation
from hyperlearn_pyg.data._checks import as_tensor, check_count, check_shape

#: What to do with a hyperedge, or an item, above a size limit.
Oversize = Literal["error", "drop"]

#: Number of pairs above which a product is refused as long as no size limit is set: some 5 GiB while it is made.
MAX_PAIRS = 1 << 27
#: Memory for each pair while a product is made.
BYTES = 40


def memory() -> float:
    """Return the bytes of memory that this process can have at most, as far as the system tells."""
    found = [float("inf")]
    if hasattr(os, "sysconf"):
        found.append(float(os.sysconf("SC_PAGE_SIZE")) * float(os.sysconf("SC_PHYS_PAGES")))
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = Path(file).read_text().strip() if Path(file).is_file() else ""
        found += [float(text)] if text.isdigit() else []
    if importlib.util.find_spec("resource") is not None:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        found += [float(limit)] if limit != resource.RLIM_INFINITY else []
    return min(found)


def check_choice(value: object, name: str, choices: Sequence[str]) -> None:
    """Check that the argument ``name`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"'{name}' must be one of {', '.join(map(repr, choices))} (got {value!r})")


def binary_incidence(relation: Relation, mask: Tensor | None = None) -> dict[str, sp.csr_array]:
    """Return modality -> ``[N, E]`` with 1 where an item is a member of a hyperedge, in one slot or several.

    Args:
        relation: the relation.
        mask: bool ``[E]``; the hyperedges that it leaves out are empty.
    """
    keep = None if mask is None else check_mask(mask, relation)
    found: dict[str, list[Tensor]] = {modality: [] for modality in relation.modalities}
    for slot, modality in enumerate(relation.modalities):
        edge_index = relation.incidence(slot)
        found[modality].append(edge_index if keep is None else edge_index[:, keep.to(edge_index.device)[edge_index[1]]])
    out = {}
    for modality, size in zip(relation.modalities, relation.sizes, strict=True):
        index = torch.cat(found[modality], dim=1)
        out[modality] = binary(index, (size, len(relation)))
    return out


def binary(index: Tensor, size: tuple[int, int]) -> sp.csr_array:
    """Return the sparse matrix with 1 at the entries ``index [2, nnz]``, equal entries taken once."""
    row, col = index.detach().cpu().numpy()
    matrix = sp.csr_array((np.ones(len(row)), (row, col)), shape=size)
    matrix.data[:] = 1.0
    return matrix


def check_mask(mask: Tensor, relation: Relation) -> Tensor:
    """Check a mask of the hyperedges of a relation."""
    mask = as_tensor(mask, "'mask'")
    check_shape(mask, (len(relation),), f"'mask' of relation '{relation.name}'")
    if mask.dtype != torch.bool and mask.numel():
        raise ValueError(f"'mask' of relation '{relation.name}' must be of dtype bool (got {mask.dtype})")
    return mask.bool()


def within_limit(count: np.ndarray, limit: int | None, oversize: Oversize, name: str, what: str) -> np.ndarray:
    """Return which of ``count`` lie within ``limit``, or fail at the first that does not.

    Raises:
        ValueError: some count is above the limit and ``oversize`` is ``"error"``.
    """
    check_choice(oversize, "oversize", ("error", "drop"))
    if limit is None:
        return np.ones(len(count), dtype=bool)
    limit = check_count(limit, f"'{name}'")
    within = count <= limit
    if oversize == "error" and not within.all():
        at = int(np.flatnonzero(~within)[0])
        raise ValueError(
            f"{what.format(at)}: {int(count[at])}, above '{name}' ({limit}; {int((~within).sum())} such): "
            f"raise '{name}', or leave them out with oversize='drop'"
        )
    return within


def check_pairs(pairs: float, limit: int | None, name: str, what: str, largest: int) -> None:
    """Refuse a product that would fill the memory; a limit that the caller has set allows what this machine can hold.

    Args:
        pairs: number of pairs, of what lies within the limit.
        limit: the size limit; :obj:`None` where the caller has set none.
        name: the argument that sets it.
        what: what is made.
        largest: the largest count.
    """
    if limit is not None and pairs > MAX_PAIRS and pairs * BYTES > memory():
        raise ValueError(
            f"{what} may have up to {pairs:.3g} pairs (the largest count is {largest}), some "
            f"{pairs * BYTES / 2**30:.3g} GiB, more than the memory ({memory() / 2**30:.3g} GiB): lower '{name}' "
            f"(now {limit}), with oversize='drop' to leave out what lies above it"
        )
    if limit is None and pairs > MAX_PAIRS:
        raise ValueError(
            f"{what} may have up to {pairs:.3g} pairs (the largest count is {largest}), more than {MAX_PAIRS}: "
            f"set '{name}', with oversize='drop' to leave out what lies above it"
        )


def to_edges(matrix: sp.csr_array, device: torch.device, *, loops: bool) -> tuple[Tensor, Tensor]:
    """Return ``edge_index [2, nnz]``, sorted, and ``edge_weight [nnz]`` (float32) of a sparse matrix."""
    matrix.sort_indices()
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    keep = (matrix.data != 0) & (loops | (row != matrix.indices))
    edge_index = torch.from_numpy(np.stack([row[keep], matrix.indices[keep]]).astype(np.int64))
    return edge_index.to(device), torch.from_numpy(matrix.data[keep].astype(np.float32)).to(device)
