"""A search for the settings of a row of an experiment, on its validation entries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.errors import InputError, did_you_mean
from hyperlearn_pyg.experiments.experiment import Experiment, Row
from hyperlearn_pyg.experiments.sources import data_root
from hyperlearn_pyg.tuning import TuneResult, tune


def tune_row(
    experiment: Experiment, row: str | None = None, *, data: Path | None = None, device: str = "auto", **options: Any
) -> TuneResult:
    """Search for better settings of a row: the repeats of a trial are the seeds of the experiment.

    Args:
        experiment: the experiment.
        row: name of the row; the first where absent.
        data: folder of the data sets, as in :class:`~hyperlearn_pyg.experiments.runner.Options`.
        device: as in ``TrainConfig``.
        **options: those of :func:`~hyperlearn_pyg.tuning.tune`; ``train`` goes before the values of the row.

    Raises:
        InputError: an unknown row, one that goes on with a trained model, no data, or as
            :func:`~hyperlearn_pyg.tuning.tune`.
    """
    known = [own.name for own in experiment.rows]
    if row is not None and row not in known:
        raise InputError(f"'{experiment.name}' has no row {row!r} (known: {known}).{did_you_mean(row, known)}")
    chosen = experiment.rows[0] if row is None else experiment.row(row)
    if chosen.growth is not None:
        raise InputError(f"the row {chosen.name!r} goes on with a trained model: tune the row that it starts from")
    train = {**chosen.train, "device": device, **options.pop("train", {})}
    return tune(
        _reader(experiment, chosen, data),
        preset=chosen.preset,
        model=chosen.model,
        train=train,
        relations=chosen.relations,
        encoders=chosen.encoders,
        counts=chosen.counts,
        **options,
    )


def _reader(experiment: Experiment, row: Row, folder: Path | None) -> Callable[[int], MultiModalHeteroData]:
    loaded: list[MultiModalHeteroData] = []

    def read(seed: int) -> MultiModalHeteroData:
        if not loaded:
            loaded.append(experiment.load(data_root(folder)))
        data = loaded[0].clone()
        data = data if experiment.split is None else experiment.split(data, seed)
        return data if row.change is None else row.change(data)

    return read
