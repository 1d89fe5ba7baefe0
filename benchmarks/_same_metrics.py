"""The same data learnt by the plain loop and by a rank a modality, for ``modality_parallel.py``."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from hyperlearn_pyg import HyperLearn, ModalityParallel, ModalityPlan, MultiModalHeteroData
from hyperlearn_pyg.cli.source import load_source
from hyperlearn_pyg.ops.seeds import derive_seed
from hyperlearn_pyg.training import TrainConfig, evaluate
from hyperlearn_pyg.training.steps import epoch_plan

CONFIGS = Path(__file__).resolve().parent.parent / "docs" / "how-to" / "configs"
#: What ``load_source`` is to read, and the folder of the raw data, by name.
SOURCES = {
    "synthetic": ("synthetic", ""),
    "MovieLens-100K u1": ("ml-100k", "ml-100k"),
    "Last.fm": (str(CONFIGS / "lastfm.toml"), "hetrec-lastfm"),
    "Tate": (str(CONFIGS / "tate.toml"), "tate"),
}
#: Tuples whose items are ranked among all others.
RANKED = 500
SEED = 0


class Learnt(NamedTuple):
    """What a run ended with: losses of all steps, and the metrics of the test entries by relation and name."""

    losses: list[float]
    metrics: dict[str, float]


def load(name: str, folder: Path) -> MultiModalHeteroData:
    """Read one of :data:`SOURCES`; nothing is written beside the raw data."""
    source, place = SOURCES[name]
    if source != "ml-100k":
        return load_source(source, folder / place if place else None).data
    with tempfile.TemporaryDirectory() as root:
        (Path(root) / "raw").symlink_to((folder / place).resolve())
        return load_source(source, Path(root)).data


class Learner:
    """Trains a model of the default preset: the plain one where there is one rank, else a modality a rank.

    Args:
        data: the data.
        kind: ``"float32"`` or ``"float64"``.
    """

    def __init__(self, rank: int, size: int, data: MultiModalHeteroData, kind: str) -> None:
        del rank
        torch.set_default_dtype(getattr(torch, kind))
        self.data = _as_type(data, getattr(torch, kind))
        torch.manual_seed(SEED)
        model = HyperLearn.from_data(self.data)
        self.config = TrainConfig.from_preset(model.config.preset)
        plan = ModalityPlan([[name] for name in model.modalities])
        self.model: Any = model if size == 1 else ModalityParallel(model, plan)

    def learn(self, steps: int) -> Learnt | None:
        """Take some steps as the preset says; return what they led to, None on other ranks than the first."""
        inputs = self.model.prepare(self.data, ("train",))
        optimizer = torch.optim.Adam(self.model.parameters(), lr=self.config.lr, fused=True)
        losses: list[float] = []
        epoch = 0
        while len(losses) < steps:
            keep, batches = epoch_plan(inputs, self.config, 0, epoch)
            for number, batch in enumerate(batches[: steps - len(losses)]):
                seed = derive_seed(SEED, epoch, number)
                torch.manual_seed(seed)
                self.model.train()
                loss = self.model.loss(inputs, batch, keep=keep, generator=torch.Generator().manual_seed(seed))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            epoch += 1
        model = self.model.gather_module() if isinstance(self.model, ModalityParallel) else self.model
        return None if model is None else Learnt(losses, self._metrics(model))

    def _metrics(self, model: HyperLearn) -> dict[str, float]:
        found = evaluate(model, self.data, "test", ranking_tuples=RANKED)["relations"]
        return _flat(found)


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, float]:
    """Return the numbers of nested metrics, by the names on the way to them."""
    out: dict[str, float] = {}
    for key, value in values.items():
        out |= _flat(value, f"{before}{key} ") if isinstance(value, Mapping) else {f"{before}{key}": value}
    return out


def _as_type(data: MultiModalHeteroData, kind: torch.dtype) -> MultiModalHeteroData:
    data = copy.copy(data)
    for store in data.stores:
        for key, value in list(store.items()):
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                store[key] = value.to(kind)
    return data
