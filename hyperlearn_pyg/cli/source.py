from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data._toml import Section, load_toml
from hyperlearn_pyg.datasets import MovieLens100K, SyntheticMultiModal, TableDataset
from hyperlearn_pyg.datasets.movielens import SPLITS
from hyperlearn_pyg.errors import InputError, did_you_mean
from hyperlearn_pyg.nn.models.config import ModelConfig
from hyperlearn_pyg.nn.models.presets import resolve_preset
from hyperlearn_pyg.training import TrainConfig
from hyperlearn_pyg.training.parallel import pick_device
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
        labels_in_features: modalities whose features tell their label, so that no probe of it is worth a look.
    """

    name: str
    data: MultiModalHeteroData
    settings: dict[str, Any]
    model: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    published: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    labels_in_features: tuple[str, ...] = ()


def run_name(source: str) -> str:
    """Return a short name: that of the file, or of the folder of a ``config.toml``."""
    path = Path(source)
    return path.stem if path.stem != "config" else path.absolute().parent.name or path.stem


def load_source(
    source: str,
    root: Path | None = None,
    split: str | None = None,
    *,
    model: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
) -> Source:
    """Load ``synthetic``, ``ml-100k`` or the data of a TOML config.

    ``model`` and ``train`` go before the values of the config. All are checked before any data is read.

    Raises:
        InputError: no such source, an unknown or wrong value, or any fault of its files.
    """
    raw = {"dataset": source} if source in BUILTIN else load_toml(_config_file(source))
    top = Section(raw, source, "")
    own_model, own_train = dict(top.take("model", dict, {})), dict(top.take("train", dict, {}))
    check_values(own_model, own_train, f"'{source}': ")
    own_model, own_train = {**own_model, **(model or {})}, {**own_train, **(train or {})}
    check_values(own_model, own_train)
    if "dataset" in raw:
        loaded = _builtin(top, root, split)
    else:
        loaded = _tables(Path(source), root, split)
    notes = list(loaded.notes)
    beside = [key for key in top.values.get("model", {}) if key not in {"preset", *(model or {})}]
    if model and "preset" in model and beside:
        notes.append(f"[model] in '{source}' goes before the preset {model['preset']!r}: {', '.join(beside)}")
    return replace(loaded, model=own_model, train=own_train, notes=notes)


def check_values(model: Mapping[str, Any], train: Mapping[str, Any], where: str = "") -> None:
    """Check the values of both configs as far as can be done without data.

    Raises:
        InputError: an unknown name or preset, a value out of range, a device that is not there.
    """
    try:
        ModelConfig().replace(**model)
        resolve_preset(model.get("preset", "default"), [])
        pick_device(TrainConfig().replace(**train).device)
    except InputError as error:
        raise InputError(f"{where}{error}") from error


def _config_file(source: str) -> Path:
    path = Path(source)
    if path.is_dir():
        inside = ", ".join(f"'{file}'" for file in sorted(path.glob("*.toml"))[:3])
        way = f"name a file in it: {inside}" if inside else "'hyperlearn init FILES' drafts one"
        raise InputError(f"'{source}' is a folder, expected a TOML config: {way}")
    if path.suffix != ".toml":
        if path.exists():
            raise InputError(f"'{source}' is no TOML config: 'hyperlearn init {source}' drafts one from tables")
        raise InputError(
            f"unknown source {source!r}: expected one of {list(BUILTIN)} or the path of a TOML config."
            + did_you_mean(source, BUILTIN)
        )
    return path


def _builtin(top: Section, root: Path | None, split: str | None) -> Source:
    name = top.choice("dataset", BUILTIN, "")
    own_root, own_split = top.take("root", str, "data/ml-100k"), top.take("split", str, "u1")
    top.done()
    if name == "synthetic":
        for option, value in (("--root", root), ("--split", split)):
            if value is not None:
                raise InputError(
                    f"{option} goes with ml-100k: the synthetic data has no files and one split of its own"
                )
        return Source(name, SyntheticMultiModal()[0], {"dataset": name})
    folder, fold = (root or Path(own_root)).absolute(), split or own_split
    if fold not in SPLITS:
        raise InputError(f"split: expected one of {list(SPLITS)} (got {fold!r}).{did_you_mean(fold, SPLITS)}")
    data = KNNGraph(k=10)(MovieLens100K(folder, split=fold)[0])  # on features: no rating is read
    published = {method: {"rmse": value} for method, value in _PUBLISHED_U1.items()} if fold == "u1" else {}
    settings = {"dataset": name, "root": str(folder), "split": fold}  # occupations and genres are features and labels
    return Source(name, data, settings, published=published, labels_in_features=("user", "film"))


def _tables(path: Path, root: Path | None, split: str | None) -> Source:
    if split is not None:
        raise InputError("--split goes with ml-100k: a config names its splits itself, under [split]")
    dataset = TableDataset(path, root=root)
    settings = {k: v for k, v in dataset.config.raw.items() if k not in ("model", "train")}
    settings = _absolute(settings, (root or path.parent).absolute())
    read = {name: [feature.column for feature in m.features] for name, m in dataset.config.modalities.items()}
    told = tuple(name for name, m in dataset.config.modalities.items() if m.label in read[name])
    return Source(run_name(str(path)), dataset[0], settings, notes=list(dataset.notes), labels_in_features=told)


def _absolute(value: Any, base: Path) -> Any:
    """Give every file name of a table config its full path, so that the config can be moved."""
    if isinstance(value, Mapping):
        return {k: _file(v, base) if k == "file" else _absolute(v, base) for k, v in value.items()}
    return value


def _file(value: Any, base: Path) -> Any:
    return [_file(v, base) for v in value] if isinstance(value, list) else str(base / value)
