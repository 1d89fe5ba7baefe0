from __future__ import annotations

import copy
import itertools
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import tomli_w
import torch
from torch import Tensor

from hyperlearn_pyg._io import atomic_path, new_folders
from hyperlearn_pyg.cli.source import Source
from hyperlearn_pyg.data.splits import split_positions
from hyperlearn_pyg.distributed import ModalityParallel
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.nn import HyperLearn
from hyperlearn_pyg.ops.seeds import derive_seed
from hyperlearn_pyg.report import write_report
from hyperlearn_pyg.training import FitResult, TrainConfig, evaluate, fit, floors, linear_probe
from hyperlearn_pyg.training.run import MODEL_FILE, Run, item_texts, save_embeddings, save_json, save_model, versions
from hyperlearn_pyg.training.state import STATE_FOLDER, has_state, prune_states

CONFIG_FILE = "config.toml"
METRICS_FILE = "metrics.json"
_SHOWN_ITEMS = 4
#: Labels are probed on so many items at most, and only where there are so few of them.
_PROBED_ITEMS, _PROBED_LABELS = 5000, 100


def check_out(out: Path, *, resume: bool) -> None:
    """Check the output directory before anything is computed.

    Raises:
        InputError: it is not empty (or, to resume, holds no training state), or is no directory.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out: '{out}' is a file, expected a directory: name another one")
    if resume:
        if not has_state(out):
            raise InputError(f"nothing to resume: '{out}' holds no training state. Leave --resume out to start")
    elif out.is_dir() and any(out.iterdir()):
        way = "--resume goes on with it, " if has_state(out) else ""
        raise InputError(f"--out: '{out}' is not empty: {way}'--out {_free_name(out)}' starts afresh")


def _free_name(out: Path) -> Path:
    out = out if out.name else out.absolute()
    names = (out.with_name(f"{out.name}-{number}") for number in itertools.count(2))
    return next(path for path in names if not path.exists())


def build(source: Source, only: Collection[str] | None = None, *, replica: int = 0) -> tuple[HyperLearn, TrainConfig]:
    """Make the model (``only`` some of its encoders) and the trainer's config: the preset with the source's values.

    Other replicas than the first start from parameters of their own.
    """
    values = dict(source.model)
    preset = values.pop("preset", "default")
    seed = source.train.get("seed", 0)
    torch.manual_seed(derive_seed(seed, replica) if replica else seed)
    try:
        model = HyperLearn.from_data(source.data, values.pop("rank", None), preset, only=only, **values)
    except InputError:
        raise
    except ValueError as error:  # the tables gave data that no model can be built on
        raise InputError(str(error)) from error
    return model, TrainConfig.from_preset(model.config.preset, **source.train)


def save_config(out: Path, source: Source, model: HyperLearn | ModalityParallel, config: TrainConfig) -> None:
    """Write ``config.toml``: all that is needed to run the same again."""
    train = {key: value for key, value in config.to_dict().items() if value is not None}
    with atomic_path(out / CONFIG_FILE) as path:
        path.write_text(
            tomli_w.dumps({**source.settings, "model": model.config.to_dict(), "train": train}), encoding="utf-8"
        )


def run_fit(
    source: Source,
    model: HyperLearn | ModalityParallel,
    config: TrainConfig,
    out: Path,
    *,
    resume: bool,
    progress: bool,
    tensorboard: bool,
    whole: Callable[[], tuple[Source, HyperLearn] | None] | None = None,
    speaks: bool | None = None,
) -> tuple[FitResult, dict[str, Any]]:
    """Train, score and write the results to ``out``: all of them or, where interrupted or at fault, none.

    The training state is kept for ``resume`` unless it was the input that was at fault; of a finished run the last one.

    Args:
        source: what to train on; of several ranks each has what it needs of the data.
        model: the model.
        config: how to train.
        out: the directory.
        resume: go on from the state there.
        progress: show a progress bar.
        tensorboard: write events.
        whole: gives all of the data and the plain model after the training; None on ranks that write nothing.
        speaks: whether this process writes; rank 0 of a spread model where absent.
    """
    if speaks is None:
        speaks = not isinstance(model, ModalityParallel) or model.ranks.rank == 0
    with new_folders(out), _no_remains(out, resume) if speaks else nullcontext():
        if speaks and not resume:
            save_config(out, source, model, config)
        result = fit(model, source.data, config, out=out, resume=resume, progress=progress, tensorboard=tensorboard)
        if result.interrupted:
            return result, {}
        trained = (source, cast(HyperLearn, model)) if whole is None else whole()
        if trained is None:
            return result, {}
        for remains in out.glob(".results.*"):  # of an attempt that was killed
            shutil.rmtree(remains, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=".results.", dir=out) as folder:
            metrics = _write_results(Path(folder), *trained, config, result, _placement(model))
            _publish(Path(folder), out)
        prune_states(out, keep=1)
    return result, metrics


@contextmanager
def _no_remains(out: Path, resume: bool) -> Iterator[None]:
    """On a failure of a fresh run remove what it wrote; with a state to go on from, only if the input is at fault."""
    try:
        yield
    except BaseException as error:
        if not resume and (isinstance(error, InputError) or not has_state(out)):
            shutil.rmtree(out / STATE_FOLDER, ignore_errors=True)
            for path in (out / CONFIG_FILE, *out.glob("events.out.tfevents.*")):
                path.unlink(missing_ok=True)
        raise


def _publish(folder: Path, out: Path) -> None:
    """Move the results to their places; ``metrics.json``, the last, tells that all are there."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: path.name == METRICS_FILE):
        target = out / path.relative_to(folder)
        target.parent.mkdir(exist_ok=True)
        path.replace(target)


def _placement(model: HyperLearn | ModalityParallel) -> dict[str, Any] | None:
    """Return who held what, for ``metrics.json``."""
    if not isinstance(model, ModalityParallel):
        return None
    plan = model.plan
    return {
        "processes": model.ranks.world_size,
        "groups": [list(group) for group in plan.groups],
        "replicas": plan.replicas,
        "devices": list(plan.devices),
    }


def _write_results(
    out: Path,
    source: Source,
    model: HyperLearn,
    config: TrainConfig,
    result: FitResult,
    placement: dict[str, Any] | None,
) -> dict[str, Any]:
    began = time.perf_counter()
    device = next(model.parameters()).device
    with torch.no_grad():
        factors = model(copy.copy(source.data).to(device))
    metrics = _metrics(source, model, config, result, placement)
    save_config(out, source, model, config)
    save_embeddings(out / "embeddings", source.data, model, factors)
    save_model(out / MODEL_FILE, model, factors)
    save_json(out / "history.json", result.history)
    metrics["linear probe"] = _probes(source, model, factors)
    told = sorted(_read_as_input(source, model) & factors.keys())
    if told:
        metrics["linear probe left out"] = f"the label is among the features: {', '.join(told)}"
    metrics["seconds_evaluation"] = round(time.perf_counter() - began, 3)
    beside = floors(source.data, predict=model.config.predict, seed=config.seed) if _has_test(source) else {}
    metrics["floors"] = {name: row.get("test", {}) for name, row in beside.items()}
    for method, values in source.published.items():
        beside[method] = {"test": values, "published": True}
    _write_report(out, source, model, result, metrics, beside, factors)
    save_json(out / METRICS_FILE, metrics)
    return metrics


def _has_test(source: Source) -> bool:
    return any(len(split_positions(source.data, name, ("test",))) for name in source.data.hyperedge_types)


def _metrics(
    source: Source, model: HyperLearn, config: TrainConfig, result: FitResult, placement: dict[str, Any] | None
) -> dict[str, Any]:
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
        **({} if placement is None else {"placement": placement}),
    }


def _read_as_input(source: Source, model: HyperLearn) -> set[str]:
    """Return the modalities whose label the model may have read: from the features, or from a graph made of them."""
    config = model.config
    reads = config.features or config.smoothness > 0 or config.encoder == "diffusion"
    return set(source.labels_in_features) if reads else set()


def _probes(source: Source, model: HyperLearn, factors: Mapping[str, Tensor]) -> dict[str, float]:
    """Tell how well a linear classifier reads each modality's labels from its vectors, beside the most frequent one.

    A label that is among the features is left out: reading an input back tells nothing of the vectors.
    """
    out: dict[str, float] = {}
    told = _read_as_input(source, model)
    for modality, table in factors.items():
        if "item_label" not in source.data[modality] or modality in told:
            continue
        labels = item_texts(source.data, modality, "item_label")
        rows = torch.arange(len(labels))[:: max(1, -(-len(labels) // _PROBED_ITEMS))]
        some = [labels[i] for i in rows.tolist()]
        if 2 <= len(set(some)) <= _PROBED_LABELS:
            vectors = table[:, : model.rank].detach().cpu()[rows]
            found = linear_probe(vectors, some, method="ridge", seeds=range(3))
            out |= {f"{modality} {key}": round(found[key], 4) for key in ("accuracy", "majority")}
    return out


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
