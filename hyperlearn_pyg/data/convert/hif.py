from __future__ import annotations

import gzip
import io
import json
import math
import os
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hyperlearn_pyg._io import atomic_path
from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.convert._records import HEADER, MODALITY, RELATION, Records, group_of, named, to_records
from hyperlearn_pyg.data.convert._records_in import checked_header, from_records
from hyperlearn_pyg.data.convert.homogeneous import HYPEREDGE, NODE
from hyperlearn_pyg.errors import InputError, did_you_mean

#: Attribute that says which role an incidence belongs to.
ROLE = "role"
_TOP = ("network-type", "metadata", "incidences", "nodes", "edges")
_NETWORKS = ("undirected", "directed", "asc")
_DIRECTIONS = ("head", "tail")
#: Global attribute that keeps the metadata of a foreign file.
_METADATA = "hif_metadata"


def to_hif(data: MultiModalHeteroData, path: str | os.PathLike[str], *, relations: Sequence[str] | None = None) -> None:
    """Write data as a file in the hypergraph interchange format, HIF (Coll et al., Network Science 13, 2025, e21).

    Each node has the attribute ``modality``, each edge ``relation``, and each incidence of a slot with a role ``role``;
    if all roles are ``head`` and ``tail``, the network is directed instead. Nodes are called by ``item_id`` or, without
    it, by number, with ``modality/`` before it where there are several. Edges within a modality become edges with two
    nodes. What JSON cannot say (types, shapes, slots without a member) is in the metadata below ``hyperlearn_pyg``, so
    that :func:`from_hif` gives the very same data.

    The file is written whole or not at all, one record a line, and compressed where its name ends in ``.gz``.

    Args:
        data: the data.
        path: the file.
        relations: the relations to write; :obj:`None` for all, and for the edges within modalities.

    Raises:
        ValueError: no such relation, an attribute that is not finite or has no form in JSON, or the name of an
            attribute that is used otherwise.
        OSError: the file cannot be written.
    """
    lines = _lines(to_records(data, relations))
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        packed = gzip.GzipFile("", "wb", fileobj=file, mtime=0) if str(path).endswith(".gz") else file
        with io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as text:
            text.writelines(lines)


def from_hif(
    path: str | os.PathLike[str], *, modality: str = MODALITY, relation: str = RELATION, ignore_header: bool = False
) -> MultiModalHeteroData:
    """Read a HIF file, of this package or any other.

    A node without the attribute ``modality`` is of the modality ``node``, an edge without ``relation`` of the relation
    ``hyperedge``. The head and the tail of directed edges are the roles ``head`` and ``tail``. An abstract simplicial
    complex (``asc``) has those hyperedges that the file lists. Of foreign files, identifiers become ``item_id`` and
    ``hyperedge_id`` (unless they are 0, 1, 2, ...); attributes that all nodes (edges) have as numbers or bools become
    tensors, others lists with :obj:`None` where they are missing; an attribute whose name means something else here
    gets the prefix ``attr_``. A weight that only some edges or incidences have is one for the others.

    A package that reads a file of :func:`to_hif` and writes it again may keep the metadata below ``hyperlearn_pyg``
    but not all that they speak of: weights, roles. Such a file is read as a foreign one, with a warning.

    Args:
        path: the file; it is unpacked where its name ends in ``.gz``.
        modality: the attribute of nodes that names their modality.
        relation: the attribute of edges that names their relation.
        ignore_header: leave the metadata below ``hyperlearn_pyg`` unread, and so read the file as a foreign one.

    Warns:
        UserWarning: the metadata below ``hyperlearn_pyg`` do not fit the rest of the file.

    Raises:
        InputError: the file is damaged or not of this form; the text says where, what was expected and what came.
        OSError: the file cannot be read.
    """
    content = _parse(Path(path))
    try:
        records = _records(content, modality, relation, ignore_header)
        data, fault = _by_header(records)
        if data is None:
            _warn_of_header(path, fault)
            records = _records(content, modality, relation, True)
            data = from_records(records)
    except ValueError as error:
        raise InputError(f"'{path}': {error}") from error
    except (KeyError, TypeError, AttributeError) as error:  # the header alone is taken on trust
        raise InputError(
            f"'{path}', metadata.{HEADER}: damaged ({type(error).__name__}: {error}); with "
            "ignore_header=True the file is read as that of another package"
        ) from error
    if records.metadata:
        setattr(data, _METADATA, records.metadata)
    return data


def _lines(records: Records) -> Iterator[str]:
    """Return the file piece by piece."""
    metadata = dict((records.header or {}).get("attributes", {}).get(_METADATA, {}).get("value", {}))
    directed = bool(records.role) and set(records.role) <= set(_DIRECTIONS)
    yield f'{{"network-type": "{_NETWORKS[directed]}",\n"metadata": '
    yield _dump({**metadata, HEADER: records.header}, "the metadata")
    incidences = (
        {
            "edge": records.edge_id[edge],
            "node": records.node_id[node],
            **({} if weight is None else {"weight": weight}),
            **({} if role is None else {"direction": role} if directed else {"attrs": {ROLE: role}}),
        }
        for edge, node, role, weight in zip(records.edge, records.node, records.role, records.weight, strict=True)
    )
    yield from _array("incidences", incidences)
    nodes = zip(records.node_id, records.modality, records.node_attrs, strict=True)
    yield from _array("nodes", (_record("node", i, MODALITY, m, attrs) for i, m, attrs in nodes))
    edges = zip(records.edge_id, records.relation, records.edge_attrs, strict=True)
    yield from _array("edges", (_record("edge", i, RELATION, r, attrs) for i, r, attrs in edges))
    yield "}\n"


def _record(kind: str, name: Any, key: str, group: str, attrs: dict[str, Any]) -> dict[str, Any]:
    attrs = named(attrs, group, (key, group))
    weight = attrs.get("weight")
    if isinstance(weight, int | float) and not isinstance(weight, bool):
        del attrs["weight"]
        return {kind: name, "weight": weight, "attrs": attrs}
    return {kind: name, "attrs": attrs}


def _array(name: str, records: Iterable[dict[str, Any]]) -> Iterator[str]:
    yield f',\n"{name}": ['
    for i, record in enumerate(records):
        yield ("\n" if i == 0 else ",\n") + _dump(record, f"{name}[{i}]")
    yield "]"


def _dump(value: Any, where: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} cannot be written as JSON ({error}): {value!r:.200}") from error


def _parse(path: Path) -> dict[str, Any]:
    try:
        if path.name.endswith(".gz"):
            with gzip.open(path) as file:
                text = file.read().decode()
        else:
            text = path.read_bytes().decode()
        content = json.loads(text, parse_constant=_no_number)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"'{path}' is no intact gzip file ({error}): get it again") from error
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}', byte {error.start}: no UTF-8 text ({error.reason})") from error
    except json.JSONDecodeError as error:
        raise InputError(f"'{path}', line {error.lineno}, column {error.colno}: no valid JSON ({error.msg})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"'{path}': no valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"'{path}': expected a JSON object with 'incidences' (got {type(content).__name__})")
    return content


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number")


class _Reader:
    """Checks parts of the file against the schema; errors name the place."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content
        self.keys(content, _TOP, "the file")
        if "incidences" not in content:
            raise InputError("'incidences' is missing")
        self.network = content.get("network-type", "undirected")
        if self.network not in _NETWORKS:
            raise InputError(f"network-type: expected one of {', '.join(_NETWORKS)}, got {self.network!r}")
        self.metadata = self.typed(content.get("metadata", {}), dict, "metadata")

    def records(
        self, name: str, fields: Sequence[str], required: Sequence[str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return the place and the content of each record of an array, its fields checked."""
        for i, record in enumerate(self.typed(self.content.get(name, []), list, name)):
            where = f"{name}[{i}]"
            self.keys(self.typed(record, dict, where), fields, where)
            for key in required:
                if key not in record:
                    raise InputError(f"{where}: '{key}' is missing")
                if isinstance(record[key], bool) or not isinstance(record[key], str | int):
                    raise InputError(f"{where}.{key}: expected a string or an integer, got {record[key]!r:.100}")
            self.typed(record.get("attrs", {}), dict, f"{where}.attrs")
            weight = record.get("weight", 1)
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
                raise InputError(f"{where}.weight: expected a number, got {weight!r:.100}")
            yield where, record

    def keys(self, record: Mapping[str, Any], known: Sequence[str], where: str) -> None:
        for key in record:
            if key not in known:
                raise InputError(
                    f"{where}: unknown field '{key}' (fields: {', '.join(known)}).{did_you_mean(key, known)}"
                )

    def typed(self, value: Any, kind: type, where: str) -> Any:
        if not isinstance(value, kind):
            word = "an object" if kind is dict else "an array"
            raise InputError(f"{where}: expected {word}, got {type(value).__name__}")
        return value


def _by_header(records: Records) -> tuple[MultiModalHeteroData | None, str]:
    """Return the data, or :obj:`None` and in what the header and the rest of the file disagree.

    A header of another form or version is an error.
    """
    header = checked_header(records.header)
    if records.header is None:
        return from_records(records), ""
    fault = _slot_fault(records, header)
    try:
        return (from_records(records), "") if not fault else (None, fault)
    except ValueError as error:
        return None, str(error)


def _slot_fault(records: Records, header: dict[str, Any]) -> str:
    """Return in what slots and weights of the incidences differ from those that the header names."""
    found: dict[tuple[str, str, str | None], list[int]] = {}
    for edge, node, role, weight in zip(records.edge, records.node, records.role, records.weight, strict=True):
        count = found.setdefault((records.relation[edge], records.modality[node], role), [0, 0])
        count[0] += 1
        count[1] += weight is not None
    for name, schema in header["relations"].items():
        known = {(m, role): dtype for m, role, dtype in schema.get("slots", [])}
        for (relation, modality, role), (total, weighted) in found.items():
            if relation != name:
                continue
            slot = f"'{modality}'" + ("" if role is None else f" with role '{role}'")
            if (modality, role) not in known:
                return f"the incidences of '{name}' have the slot {slot}, which the header lacks"
            expected = 0 if known[modality, role] is None else total
            if weighted != expected:
                return f"{weighted} of {total} incidences of slot {slot} of '{name}' have a weight, expected {expected}"
        for (modality, role, _), expected in zip(schema.get("slots", []), schema.get("members", []), strict=False):
            total = found.get((name, modality, role), [0])[0]
            if total < expected:
                return f"'{name}' has {total} incidences with nodes of '{modality}', expected {expected}"
    return ""


def _warn_of_header(path: str | os.PathLike[str], fault: str) -> None:
    warnings.warn(
        f"'{path}': metadata.{HEADER} and the rest of the file disagree, as where another package wrote it again "
        f"({fault}). It is read as a file of another package (ignore_header=True: the same without this warning)",
        UserWarning,
        stacklevel=3,
    )


def _records(content: dict[str, Any], modality: str, relation: str, ignore_header: bool) -> Records:
    reader = _Reader(content)
    out = Records()
    if HEADER in reader.metadata and not ignore_header:
        out.header = reader.typed(reader.metadata[HEADER], dict, f"metadata.{HEADER}")
    nodes = _entries(reader, "nodes", "node", modality, NODE)
    edges = _entries(reader, "edges", "edge", relation, HYPEREDGE)
    node_at, edge_at = ({entry[0]: i for i, entry in enumerate(entries)} for entries in (nodes, edges))
    fields = ("edge", "node", "weight", "direction", "attrs")
    for where, record in reader.records("incidences", fields, ("edge", "node")):
        node, edge = record["node"], record["edge"]
        if out.header is not None:
            _check_listed(where, node, edge, node_at, edge_at)
        if node_at.setdefault(node, len(nodes)) == len(nodes):
            nodes.append((node, NODE, {}))
        if edge_at.setdefault(edge, len(edges)) == len(edges):
            edges.append((edge, HYPEREDGE, {}))
        out.node.append(node_at[node])
        out.edge.append(edge_at[edge])
        out.role.append(_role(record, where, reader.network))
        out.weight.append(record.get("weight"))
    if nodes:
        out.node_id, out.modality, out.node_attrs = (list(column) for column in zip(*nodes, strict=True))
    if edges:
        out.edge_id, out.relation, out.edge_attrs = (list(column) for column in zip(*edges, strict=True))
    if out.header is None:
        out.metadata = {key: value for key, value in reader.metadata.items() if key != HEADER}
        for rows in (out.node_attrs, out.edge_attrs):
            if any("weight" in attrs for attrs in rows):
                for attrs in rows:
                    attrs.setdefault("weight", 1.0)
    return out


def _check_listed(where: str, node: Any, edge: Any, node_at: dict[Any, int], edge_at: dict[Any, int]) -> None:
    """Check that a file of this package, which lists all nodes and edges, has those of an incidence."""
    for kind, name, known in (("node", node, node_at), ("edge", edge, edge_at)):
        if name not in known:
            raise InputError(
                f"{where}: {kind} {name!r} is missing in '{kind}s', where hyperlearn_pyg lists all: the file is "
                "damaged; with ignore_header=True it is read as that of another package"
            )


def _entries(reader: _Reader, name: str, kind: str, key: str, default: str) -> list[tuple[Any, str, dict[str, Any]]]:
    """Return identifier, group and attributes of each node or edge that the file lists."""
    out: list[tuple[Any, str, dict[str, Any]]] = []
    seen: dict[Any, str] = {}
    for where, record in reader.records(name, (kind, "weight", "attrs"), (kind,)):
        if seen.setdefault(record[kind], where) != where:
            raise InputError(f"{where}: {kind} {record[kind]!r} stands at {seen[record[kind]]} already")
        attrs = dict(record.get("attrs", {}))
        group = group_of(attrs, key, default, where)
        if "weight" in record:
            attrs["weight"] = record["weight"]
        out.append((record[kind], group, attrs))
    return out


def _role(record: dict[str, Any], where: str, network: str) -> str | None:
    direction = record.get("direction")
    if direction is not None and direction not in _DIRECTIONS:
        raise InputError(f"{where}.direction: expected 'head' or 'tail', got {direction!r:.100}")
    if network == "directed" and direction is None:
        raise InputError(f"{where}: 'direction' is missing, and the network is directed")
    role = record.get("attrs", {}).get(ROLE, direction)
    if role is not None and (not isinstance(role, str) or not role):
        raise InputError(f"{where}.attrs.{ROLE}: expected a string that is not empty, got {role!r:.100}")
    return role
