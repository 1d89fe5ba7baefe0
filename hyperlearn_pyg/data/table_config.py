from __future__ import annotations

import codecs
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyperlearn_pyg.data._toml import Section, load_toml
from hyperlearn_pyg.errors import InputError, did_you_mean

FEATURE_KINDS = ("numeric", "categorical", "multi", "text")
Slot = tuple[str, "str | None"]  # (modality, role)


@dataclass(frozen=True)
class FileConfig:
    """Where a table lies and how to read it; several files are concatenated in the order given."""

    files: tuple[str, ...]
    separator: str | None = None
    encoding: str = "utf-8"
    quote: str = '"'
    na_values: tuple[str, ...] = ()


@dataclass(frozen=True)
class FeatureConfig:
    """A feature column and its encoder."""

    column: str
    kind: str
    separator: str = "|"
    max_features: int = 200
    max_categories: int = 256


@dataclass(frozen=True)
class GraphConfig:
    """Intra-modal graph: ``kind`` is "knn" (on features), "file" or "cooccurrence" (in training tuples)."""

    kind: str
    k: int = 10
    relation: str | None = None
    table: FileConfig | None = None
    columns: tuple[str, ...] = ()  # source, target and, where edges have one, weight


@dataclass(frozen=True)
class ModalityConfig:
    """A kind of item: with a file, its rows are the items; without, the ids that the relations name are.

    ``items`` is "all" or "related" (only items that a tuple names); ``unknown`` says what to do with ids of a
    relation that the file does not hold: "error", "add" (an item without features) or "drop" (the tuple).
    """

    modality: str
    table: FileConfig | None = None
    id: str | None = None
    name: str | None = None
    label: str | None = None
    items: str = "all"
    unknown: str = "error"
    features: tuple[FeatureConfig, ...] = ()
    graph: GraphConfig | None = None


@dataclass(frozen=True)
class SlotConfig:
    """A column of a relation that holds ids of one modality."""

    slot: Slot
    column: str
    bin: float | None = None
    separator: str | None = None


@dataclass(frozen=True)
class RelationConfig:
    """A table of tuples: one :class:`SlotConfig` for each of its k slots."""

    relation: str
    table: FileConfig
    slots: tuple[SlotConfig, ...]
    value: str | None = None
    weight: str | None = None
    time: str | None = None
    split: str | None = None
    missing: str = "error"
    exclude: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class SplitConfig:
    """Shares of the tuples held out of relations without a split column, and the seed of the draw."""

    test: float = 0.1
    val: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class TableConfig:
    """A whole config file. ``model`` and ``train`` are kept as they stand; ``raw`` is the file as parsed."""

    path: Path
    modalities: Mapping[str, ModalityConfig]
    relations: Mapping[str, RelationConfig]
    split: SplitConfig
    model: Mapping[str, Any]
    train: Mapping[str, Any]
    raw: Mapping[str, Any]


def load_config(path: str | os.PathLike[str]) -> TableConfig:
    """Read and check a TOML config of tables.

    Raises:
        InputError: unknown key, wrong type, or a name that nothing defines; the text holds the key's path.
    """
    raw = load_toml(path)
    top = Section(raw, str(path), "")
    modalities = {name: _modality(name, part) for name, part in top.named("modality")}
    relations = {name: _relation(name, part) for name, part in top.named("relation")}
    split = _split(top.section("split"))
    model, train = top.take("model", dict, {}), top.take("train", dict, {})
    top.done()
    config = TableConfig(Path(path), modalities, relations, split, model, train, raw)
    _check_names(config)
    return config


def _file(part: Section) -> FileConfig:
    files = part.strings("file")
    if not files:
        raise part.error(
            "file", f"missing; a file name or a list of them is expected.{did_you_mean('file', part.values)}"
        )
    separator, quote = part.take("separator", str), part.take("quote", str, '"')
    if separator is not None and len(separator) != 1:
        raise part.error("separator", f"must be one character, got {separator!r}")
    if len(quote) > 1:
        raise part.error("quote", f"must be one character, or empty for none, got {quote!r}")
    encoding = part.take("encoding", str, "utf-8")
    try:
        codecs.lookup(encoding)
    except LookupError as error:
        near = did_you_mean(encoding, ("utf-8", "utf-16", "latin-1", "cp1252", "ascii", "gb18030", "shift_jis"))
        raise part.error("encoding", f"unknown encoding {encoding!r}.{near}") from error
    return FileConfig(files, separator, encoding, quote, part.strings("na_values"))


def _modality(name: str, part: Section) -> ModalityConfig:
    if "." in name or ":" in name:
        raise part.error(name, "a modality's name may hold no '.' and no ':'")
    table = _file(part) if "file" in part else None
    columns = {key: part.take(key, str) for key in ("id", "name", "label")}
    if table is None:
        for key in (
            "id",
            "name",
            "label",
            "features",
            "unknown",
            "separator",
            "encoding",
            "quote",
            "na_values",
        ):
            if key in part:
                near = did_you_mean("file", [k for k in part.values if k not in part.known])
                raise part.error(key, f"has a meaning only beside 'file', which is missing.{near}")
    elif columns["id"] is None:
        raise part.error("id", f"missing: the column of the file that holds the ids.{did_you_mean('id', part.values)}")
    features = part.section("features")
    kinds = tuple(_feature(features, column) for column in features.values)
    graph = _graph(part.section("graph")) if "graph" in part else None
    if graph is not None and graph.kind == "knn" and not kinds:
        raise part.error("graph", f"nearest neighbours need features: add a table [{part.path}.features]")
    items = part.choice("items", ("all", "related"), "all")
    unknown = part.choice("unknown", ("error", "add", "drop"), "error")
    part.take("file", object)
    part.known += ["separator", "encoding", "quote", "na_values"]
    part.done()
    return ModalityConfig(name, table, **columns, items=items, unknown=unknown, features=kinds, graph=graph)


def _feature(part: Section, column: str) -> FeatureConfig:
    value = part.values[column]
    if isinstance(value, str):
        return FeatureConfig(column, part.choice(column, FEATURE_KINDS, "numeric"))
    inner = part.section(column, part.take(column, dict))
    inner.take("kind", str, required=True)
    kind = inner.choice("kind", FEATURE_KINDS, "numeric")
    made = FeatureConfig(
        column,
        kind,
        inner.take("separator", str, "|") if kind == "multi" else "|",
        inner.positive("max_features", 200) if kind == "text" else 200,
        inner.positive("max_categories", 256) if kind in ("categorical", "multi") else 256,
    )
    if not made.separator:
        raise inner.error("separator", "must not be empty")
    inner.done()
    return made


def _graph(part: Section) -> GraphConfig:
    given = [key for key in ("knn", "file", "cooccurrence") if key in part]
    if len(given) != 1:
        listed = " and ".join(given) or "none" + did_you_mean("knn", part.values)
        raise InputError(f"'{part.file}', table [{part.path}]: exactly one of knn, file, cooccurrence, got {listed}")
    if given == ["knn"]:
        graph = GraphConfig("knn", k=part.positive("knn", 10))
    elif given == ["cooccurrence"]:
        graph = GraphConfig("cooccurrence", k=part.positive("k", 10), relation=part.take("cooccurrence", str))
    else:
        table, weight = _file(part), part.take("weight", str)
        ends = tuple(part.take(key, str, required=True) for key in ("source", "target"))
        graph = GraphConfig("file", table=table, columns=ends + ((weight,) if weight else ()))
    part.done()
    return graph


def _relation(name: str, part: Section) -> RelationConfig:
    table = _file(part)
    columns = part.section("columns")
    slots = tuple(_slot(columns, key) for key in columns.values)
    if len(slots) < 2:
        raise part.error("columns", f'at least two slots are expected (slot = "column"), got {len(slots)}')
    exclude = part.section("exclude")
    made = RelationConfig(
        name,
        table,
        slots,
        **{key: part.take(key, str) for key in ("value", "weight", "time", "split")},
        missing=part.choice("missing", ("error", "drop"), "error"),
        exclude={column: exclude.strings(column) for column in exclude.values},
    )
    part.take("file", object)
    part.done()
    return made


def _slot(part: Section, key: str) -> SlotConfig:
    modality, _, role = key.partition(".")
    slot = (modality, role or None)
    if ":" in key or "." in role:
        raise part.error(key, "a slot is MODALITY or \"MODALITY.ROLE\"; a role holds no '.' and no ':'")
    if isinstance(part.values[key], str):
        return SlotConfig(slot, part.values[key])
    inner = part.section(key, part.take(key, dict))
    if "column" not in inner and all(isinstance(v, str) for v in inner.values.values()):
        role = next(iter(inner.values), "ROLE")
        near = did_you_mean("column", inner.values)
        hint = f'\'column\' is missing.{near} A role is written in quotes: "{key}.{role}" = "COLUMN"'
        raise part.error(key, hint)
    column = inner.take("column", str, required=True)
    bin_, separator = inner.take("bin", float), inner.take("separator", str)
    if bin_ is not None and not (math.isfinite(bin_) and bin_ > 0):
        raise inner.error("bin", f"must be a number above 0, got {bin_}")
    if separator == "" or (separator is not None and bin_ is not None):
        raise inner.error("separator", "must not be empty, and excludes 'bin'")
    inner.done()
    return SlotConfig(slot, column, None if bin_ is None else float(bin_), separator)


def _split(part: Section) -> SplitConfig:
    made = SplitConfig(
        float(part.take("test", float, 0.1)),
        float(part.take("val", float, 0.1)),
        int(part.take("seed", int, 0)),
    )
    if not (0 <= made.test < 1 and 0 <= made.val < 1 and made.test + made.val < 1):
        raise part.error("test", f"shares from 0 and below 1 in sum are expected, got test {made.test}, val {made.val}")
    part.done()
    return made


def _check_names(config: TableConfig) -> None:
    """Every slot names a modality, every graph a relation, and every modality has items."""
    file = config.path
    if not config.relations:
        raise InputError(f"'{file}': no relation: add a table [relation.NAME] with 'file' and 'columns'")
    for relation in config.relations.values():
        path = f"relation.{relation.relation}"
        if relation.relation in config.modalities:
            raise InputError(f"'{file}', key '{path}': a modality has the same name: rename one of the two")
        for slot in relation.slots:
            if slot.slot[0] not in config.modalities:
                hint = did_you_mean(slot.slot[0], config.modalities) or f" Add a table [modality.{slot.slot[0]}]."
                raise InputError(f"'{file}', key '{path}.columns.{slot.slot[0]}': no such modality.{hint}")
    named = {slot.slot[0] for relation in config.relations.values() for slot in relation.slots}
    for name, modality in config.modalities.items():
        if modality.table is None and name not in named:
            raise InputError(f"'{file}', key 'modality.{name}': it has no 'file' and no relation names it")
        graph = modality.graph
        if graph is None or graph.relation is None:
            continue
        key = f"'{file}', key 'modality.{name}.graph.cooccurrence'"
        if graph.relation not in config.relations:
            hint = did_you_mean(graph.relation, config.relations)
            raise InputError(f"{key}: no relation {graph.relation!r}.{hint}")
        if name not in [slot.slot[0] for slot in config.relations[graph.relation].slots]:
            raise InputError(f"{key}: relation {graph.relation!r} has no slot of modality {name!r}")
