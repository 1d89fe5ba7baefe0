from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data._toml import load_toml
from hyperlearn_pyg.datasets import MovieLens100K, SyntheticMultiModal, TableDataset
from hyperlearn_pyg.errors import InputError, did_you_mean
from hyperlearn_pyg.transforms import KNNGraph

BUILTIN = ("synthetic", "ml-100k")

#: Test RMSE on the split u1, as printed by their authors (sRGCNN: NeurIPS 2017; GC-MC: arXiv:1706.02263; IGMC: ICLR
#: 2020; HyperLearn: read off a curve of the poster).
_PUBLISHED_U1 = {
    "sRGCNN": 0.929,
    "GC-MC": 0.910,
    "GC-MC with features": 0.905,
    "IGMC": 0.905,
    "HyperLearn (poster, read off a curve)": 0.942,
}


@dataclass(frozen=True)
class Source:
    """What ``hyperlearn fit`` trains on.

    Attributes:
        name: short name, for titles and folders.
        data: the data.
        settings: the part of ``config.toml`` that gives this data again.
        model: values of the model's config that the source asks for, ``preset`` included.
        train: values of the trainer's config that the source asks for.
        published: published results to stand beside, method -> metrics of the test split.
        notes: what was left out or added while reading.
    """

    name: str
    data: MultiModalHeteroData
    settings: dict[str, Any]
    model: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    published: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def load_source(source: str, root: Path | None, split: str | None) -> Source:
    """Load ``synthetic``, ``ml-100k`` or the data of a TOML config.

    Raises:
        InputError: no such source, or any fault of its files.
    """
    if source in BUILTIN:
        return _builtin({"dataset": source}, root, split)
    path = Path(source)
    if path.suffix != ".toml" and not path.exists():
        raise InputError(
            f"unknown source {source!r}: expected one of {list(BUILTIN)} or the path of a TOML config."
            + did_you_mean(source, BUILTIN)
        )
    raw = load_toml(path)
    if "dataset" in raw:
        return _builtin(raw, root, split)
    return _tables(path, root, split)


def _builtin(settings: Mapping[str, Any], root: Path | None, split: str | None) -> Source:
    known = {"dataset", "root", "split", "model", "train"}
    for key in settings.keys() - known:
        raise InputError(f"unknown key {key!r} in the config.{did_you_mean(key, known)} Known: {sorted(known)}")
    name = settings["dataset"]
    own = {"model": dict(settings.get("model", {})), "train": dict(settings.get("train", {}))}
    if name == "synthetic":
        if split is not None:
            raise InputError("--split goes with ml-100k: the synthetic data has one split of its own")
        return Source(name, SyntheticMultiModal()[0], {"dataset": name}, model=own["model"], train=own["train"])
    if name != "ml-100k":
        raise InputError(f"dataset: expected one of {list(BUILTIN)} (got {name!r}).{did_you_mean(str(name), BUILTIN)}")
    folder = (root or Path(settings.get("root", "data/ml-100k"))).absolute()
    fold = split or str(settings.get("split", "u1"))
    try:
        data = KNNGraph(k=10)(MovieLens100K(folder, split=fold)[0])  # on features: no rating is read
    except InputError:
        raise
    except ValueError as error:
        raise InputError(str(error)) from error
    published = {method: {"rmse": value} for method, value in _PUBLISHED_U1.items()} if fold == "u1" else {}
    return Source(
        name,
        data,
        {"dataset": name, "root": str(folder), "split": fold},
        published=published,
        model=own["model"],
        train=own["train"],
    )


def _tables(path: Path, root: Path | None, split: str | None) -> Source:
    if split is not None:
        raise InputError("--split goes with ml-100k: a config names its splits itself, under [split]")
    dataset = TableDataset(path, root=root)
    settings = {k: v for k, v in dataset.config.raw.items() if k not in ("model", "train")}
    return Source(
        path.stem if path.stem != "config" else path.absolute().parent.name,
        dataset[0],
        _absolute(settings, (root or path.parent).absolute()),
        dict(dataset.config.model),
        dict(dataset.config.train),
        notes=list(dataset.notes),
    )


def _absolute(value: Any, base: Path) -> Any:
    """Give every file name of a table config its full path, so that the config can be moved."""
    if isinstance(value, Mapping):
        return {k: _file(v, base) if k == "file" else _absolute(v, base) for k, v in value.items()}
    return value


def _file(value: Any, base: Path) -> Any:
    return [_file(v, base) for v in value] if isinstance(value, list) else str(base / value)
