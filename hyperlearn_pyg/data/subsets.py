from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from hyperlearn_pyg.data import _checks, _rows, components
from hyperlearn_pyg.data._marks import drop_marks, graph_marks
from hyperlearn_pyg.errors import did_you_mean

if TYPE_CHECKING:
    from hyperlearn_pyg.data.multimodal import MultiModalHeteroData

D = TypeVar("D", bound="MultiModalHeteroData")
#: What becomes of a hyperedge that loses members: "keep", "drop", or the least number it must have left.
Rule = str | int


def subgraph(data: D, subset_dict: Mapping[str, Any], *, hyperedges: Rule | Mapping[str, Rule] = "keep") -> D:
    """Return the part on some of the items and some of the hyperedges.

    Node types that ``subset_dict`` does not name stay whole. Attributes with one row an item or a hyperedge follow,
    lists of strings too; an edge or membership stays where both its ends do. The order is that of ``subset_dict``. The
    data object stays as it is.

    Args:
        subset_dict: modality or hyperedge set -> the indices to keep (int64 ``[n]``, each once) or a mask (bool
            ``[N]``).
        hyperedges: what becomes of a hyperedge that loses members because items go: ``"keep"`` it with those left,
            even if none is; ``"drop"`` it; or a number ``k``: drop it where fewer than ``k`` memberships are left.
            A mapping says it for single hyperedge sets; those not named keep theirs. A hyperedge that loses none stays.

    Raises:
        ValueError: there is no such node type, an index is out of range or named twice, a mask has a wrong length, or
            ``hyperedges`` is none of these.
    """
    _check_mapping(data, subset_dict)
    subsets = {name: _as_subset(data, name, subset) for name, subset in subset_dict.items()}
    position = {name: _rows.positions(subset, _rows.num_nodes(data, name)) for name, subset in subsets.items()}
    for name, rule in _rules(data, hyperedges).items():
        kept = _kept(data, name, rule, position)
        if kept is not None:
            chosen = subsets.get(name)
            subsets[name] = kept.nonzero().view(-1) if chosen is None else chosen[kept.to(chosen.device)[chosen]]
            position[name] = _rows.positions(subsets[name], kept.numel())
    out = copy.copy(data)
    for name, subset in subsets.items():
        _rows.select_nodes(out[name], subset, _rows.num_nodes(data, name))
    for edge_type in data.edge_types:
        if edge_type[0] in position or edge_type[2] in position:
            _rows.select_edges(out[edge_type], position.get(edge_type[0]), position.get(edge_type[2]))
    _rows.forget_graphs(out)
    return out


def hyperedge_subgraph(data: D, subset_dict: Mapping[str, Any], *, remove_isolated: bool = False) -> D:
    """Return the part on some of the hyperedges; sets that ``subset_dict`` does not name stay whole.

    Args:
        subset_dict: hyperedge set -> the indices to keep (int64 ``[n]``, each once) or a mask (bool ``[E]``).
        remove_isolated: leave out the items that are then in no hyperedge and no edge. Edges within a modality count:
            where a graph ties all items, none is isolated.

    Raises:
        ValueError: there is no such hyperedge set, or as in :meth:`subgraph`.
    """
    _check_mapping(data, subset_dict)
    for name in subset_dict:
        data.relation(name)
    out = subgraph(data, subset_dict)
    if remove_isolated:
        isolated = {name: mask for name, mask in components.isolated_items(out).items() if bool(mask.any())}
        out = subgraph(out, {name: ~mask for name, mask in isolated.items()})
    return out


def modality_subgraph(data: D, modalities: Iterable[str], *, hyperedges: Rule | Mapping[str, Rule] = "keep") -> D:
    """Return the part on some of the modalities: their items, the edges among them and the hyperedges over them.

    Hyperedges that span other modalities too lose these members; the slots go. A set that has no slot left goes too.

    Args:
        modalities: the modalities to keep; they stay in the order in which they stand.
        hyperedges: what becomes of a hyperedge that loses members, as in :meth:`subgraph`. With ``"drop"`` only
            those stay that lie wholly within ``modalities``.

    Raises:
        ValueError: there is no such modality, or ``hyperedges`` is no such rule.
    """
    if isinstance(modalities, str):
        raise ValueError(f"'modalities' must be a list of names (got {modalities!r}): write [{modalities!r}]")
    kept = list(modalities)
    known = data.modalities
    for name in kept:
        if name not in known:
            raise ValueError(f"there is no modality {name!r} (modalities: {known}).{did_you_mean(name, known)}")
    gone = [name for name in known if name not in kept]
    before = data.hyperedge_types
    out = subgraph(data, {name: [] for name in gone}, hyperedges=hyperedges) if gone else copy.copy(data)
    discard(out, gone)
    discard(out, [name for name in before if name not in out.hyperedge_types])
    return out


def discard(data: MultiModalHeteroData, names: Iterable[str]) -> None:
    """Take node types out of ``data`` in place, with all edge types that touch them; relations forget these graphs."""
    names, graphs = set(names), graph_marks(data)
    for edge_type in data.edge_types:
        if edge_type[0] in names or edge_type[2] in names:
            del data._edge_store_dict[edge_type]
    for name in names:
        del data._node_store_dict[name]
    drop_marks(data, graphs)


def _check_mapping(data: MultiModalHeteroData, subset_dict: Any) -> None:
    if not isinstance(subset_dict, Mapping):
        example = next(iter(data.node_types), "user")
        raise ValueError(
            f"'subset_dict' must be a mapping from node type to indices or a mask (got {type(subset_dict).__name__}): "
            f"write {{{example!r}: ...}} (node types: {data.node_types})"
        )


def _as_subset(data: MultiModalHeteroData, name: Any, subset: Any) -> Tensor:
    """Take a subset of a node type as checked indices."""
    known = data.node_types
    if name not in known:
        raise ValueError(f"there is no node type {name!r} (node types: {known}).{did_you_mean(name, known)}")
    where, size = f"the subset of '{name}'", _rows.num_nodes(data, name)
    tensor = _checks.as_tensor(subset, where)
    if tensor.dtype == torch.bool:
        _checks.check_shape(tensor, (size,), where)
        return tensor.nonzero().view(-1)
    index = _checks.as_index(subset if tensor.numel() == 0 and not isinstance(subset, Tensor) else tensor, where)
    if index.dim() != 1:
        raise ValueError(f"{where} must be of shape [n] (got {list(index.shape)})")
    _checks.check_bound(index, size, where)
    count = torch.bincount(index, minlength=size)
    if bool((count > 1).any()):
        at = int((count > 1).nonzero()[0])
        raise ValueError(f"{where} names index {at} {int(count[at])} times: name each once")
    return index


def _rules(data: MultiModalHeteroData, hyperedges: Any) -> dict[str, Rule]:
    """Return hyperedge set -> rule, of those whose rule is not to keep."""
    known = data.hyperedge_types
    for rule in hyperedges.values() if isinstance(hyperedges, Mapping) else [hyperedges]:
        number = isinstance(rule, int) and not isinstance(rule, bool) and rule >= 0
        if not number and rule not in ("keep", "drop"):
            raise ValueError(f"'hyperedges' must be 'keep', 'drop' or a number of at least 0 (got {rule!r})")
    rules = dict(hyperedges) if isinstance(hyperedges, Mapping) else dict.fromkeys(known, hyperedges)
    for name in rules:
        if name not in known:
            raise ValueError(f"'hyperedges' names {name!r} (hyperedge sets: {known}).{did_you_mean(name, known)}")
    return {name: rule for name, rule in rules.items() if rule != "keep"}


def _kept(data: MultiModalHeteroData, name: str, rule: Rule, position: Mapping[str, Tensor]) -> Tensor | None:
    """Return which hyperedges stay, bool ``[E]``, or None where all do."""
    relation = data.relation(name)
    slots = [slot for slot, edge_type in enumerate(relation.slots) if edge_type[0] in position]
    if not slots:
        return None
    left = lost = torch.zeros(len(relation), dtype=torch.long)
    for slot, edge_type in enumerate(relation.slots):
        item, hyperedge = relation.incidence(slot)
        stays = torch.ones_like(item, dtype=torch.bool)
        if edge_type[0] in position:
            stays = position[edge_type[0]].to(item.device)[item] >= 0
        left = left.to(item.device) + torch.bincount(hyperedge[stays], minlength=len(relation))
        lost = lost.to(item.device) + torch.bincount(hyperedge[~stays], minlength=len(relation))
    return (lost == 0) if isinstance(rule, str) else (lost == 0) | (left >= rule)
