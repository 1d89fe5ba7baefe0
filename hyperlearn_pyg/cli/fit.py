from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
from torch import Tensor

from hyperlearn_pyg._io import atomic_path
from hyperlearn_pyg.cli.source import Source
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.nn import HyperLearn
from hyperlearn_pyg.nn.models.inputs import split_positions
from hyperlearn_pyg.report import write_report
from hyperlearn_pyg.training import FitResult, TrainConfig, evaluate, fit
from hyperlearn_pyg.training.floors import floors
from hyperlearn_pyg.training.loop import STATE_FILE
from hyperlearn_pyg.training.run import MODEL_FILE, Run, item_texts, save_embeddings, save_json, save_model, versions

_SHOWN_ITEMS = 4


def check_out(out: Path, *, resume: bool) -> None:
    """Check the output directory before anything is computed.

    Raises:
        InputError: it is not empty (or, to resume, holds no training state), or is no directory.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"'{out}' is a file: name a directory with --out")
    if resume:
        if not (out / STATE_FILE).is_file():
            raise InputError(f"nothing to resume: '{out}' holds no {STATE_FILE}. Leave --resume out to start")
    elif out.is_dir() and any(out.iterdir()):
        way = "--resume goes on with it, " if (out / STATE_FILE).is_file() else ""
        raise InputError(f"'{out}' is not empty: {way}--out names another directory")


def build(
    source: Source, model_values: Mapping[str, Any], train_values: Mapping[str, Any]
) -> tuple[HyperLearn, TrainConfig]:
    """Make the model and the trainer's config: preset, then the source's own values, then those given here."""
    values = {**source.model, **model_values}
    preset = values.pop("preset", "default")
    train = {**source.train, **train_values}
    torch.manual_seed(int(train.get("seed", 0)))
    try:
        model = HyperLearn.from_data(source.data, values.pop("rank", None), preset, **values)
    except InputError:
        raise
    except ValueError as error:  # the tables gave data that no model can be built on
        raise InputError(str(error)) from error
    return model, TrainConfig.from_preset(model.config.preset, **train)


def save_config(out: Path, source: Source, model: HyperLearn, config: TrainConfig) -> None:
    """Write ``config.toml``: all that is needed to run the same again."""
    train = {key: value for key, value in config.to_dict().items() if value is not None}
    with atomic_path(out / "config.toml") as path:
        path.write_text(
            tomli_w.dumps({**source.settings, "model": model.config.to_dict(), "train": train}), encoding="utf-8"
        )


def run_fit(
    source: Source,
    model: HyperLearn,
    config: TrainConfig,
    out: Path,
    *,
    resume: bool,
    progress: bool,
    tensorboard: bool,
) -> tuple[FitResult, dict[str, Any]]:
    """Train, score and write everything to ``out``; an interrupted run writes no results."""
    out.mkdir(parents=True, exist_ok=True)
    save_config(out, source, model, config)
    result = fit(model, source.data, config, out=out, resume=resume, progress=progress, tensorboard=tensorboard)
    if result.interrupted:
        return result, {}
    began = time.perf_counter()
    device = next(model.parameters()).device
    with torch.no_grad():
        factors = model(copy.copy(source.data).to(device))
    metrics = _metrics(source, model, config, result)
    save_embeddings(out / "embeddings", source.data, model, factors)
    save_model(out / MODEL_FILE, model, factors)
    save_json(out / "history.json", result.history)
    metrics["seconds_evaluation"] = round(time.perf_counter() - began, 3)
    beside = floors(source.data) if _has_test(source) else {}
    metrics["floors"] = {name: row.get("test", {}) for name, row in beside.items()}
    for method, values in source.published.items():
        beside[method] = {"test": values, "published": True}
    _write_report(out, source, model, result, metrics, beside, factors)
    save_json(out / "metrics.json", metrics)
    return result, metrics


def _has_test(source: Source) -> bool:
    return any(len(split_positions(source.data, name, ("test",))) for name in source.data.hyperedge_types)


def _metrics(source: Source, model: HyperLearn, config: TrainConfig, result: FitResult) -> dict[str, Any]:
    return {
        "validation": result.validation,
        "test": evaluate(model, source.data, "test", seed=config.seed) if _has_test(source) else {},
        "seconds": round(result.seconds, 3),
        "seconds_per_step": round(result.seconds_per_step, 6),
        "best_epoch": result.best_epoch,
        "seed": config.seed,
        "source": source.name,
        "preset": model.config.preset,
        "rank": model.rank,
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": str(next(model.parameters()).device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


def _write_report(
    out: Path,
    source: Source,
    model: HyperLearn,
    result: FitResult,
    metrics: dict[str, Any],
    beside: Mapping[str, Mapping[str, Any]],
    factors: Mapping[str, Tensor],
) -> None:
    data = source.data
    vectors = {m: np.asarray(table[:, : model.rank].detach().float().cpu()) for m, table in factors.items()}
    write_report(
        out / "report.html",
        title=f"HyperLearn on {source.name}",
        history=result.history,
        metrics=metrics,
        floors=beside,
        embeddings=vectors,
        labels={m: item_texts(data, m, "item_label") if "item_label" in data[m] else None for m in vectors},
        names={m: item_texts(data, m, "item_name" if "item_name" in data[m] else "item_id") for m in vectors},
        neighbours=_neighbours(source, Run.load(out)),
        notes=source.notes,
    )


def _neighbours(source: Source, run: Run) -> list[dict[str, Any]]:
    """Neighbours, within and across modalities, of the items that training entries name most."""
    rows = []
    for modality in run.factors:
        counts = torch.zeros(len(run.ids[modality]), dtype=torch.long)
        partners = [modality]
        for name, spec in run.relations.items():
            index = source.data.relation(name).index[:, split_positions(source.data, name, ("train", "val"))].cpu()
            for slot, m in enumerate(spec.modalities):
                if m == modality:
                    counts += torch.bincount(index[slot], minlength=len(counts))
                    partners += [other for other in spec.modalities if other not in partners]
        for item in counts.topk(min(_SHOWN_ITEMS, len(counts))).indices.tolist():
            for to in partners:
                found = run.neighbors(modality, item, to, k=5)
                near = [(run.names[to][i], score) for i, score in found]
                rows.append({"modality": modality, "item": run.names[modality][item], "to": to, "neighbours": near})
    return rows
