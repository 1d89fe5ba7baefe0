from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from hyperlearn_pyg._io import atomic_path
from hyperlearn_pyg.nn import ModelConfig
from hyperlearn_pyg.training import TrainConfig
from hyperlearn_pyg.tuning.space import Range, Space, split_values

TRIALS_FILE, NOTE_FILE = "trials.csv", "tune.md"
#: So many of the best trials stand in the note.
_SHOWN = 10


def write_results(
    out: Path,
    rows: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any],
    model: ModelConfig,
    train: TrainConfig,
    space: Space,
    brief: Mapping[str, Any],
    settings: Mapping[str, Any] | None,
    name: str,
) -> None:
    """Write the table of trials, a note, and the best settings; each whole or not at all.

    Args:
        out: the folder.
        rows: a row for each finished trial.
        best: the best one.
        model: its settings of the model.
        train: its settings of the trainer.
        space: what was searched.
        brief: what all trials had in common.
        settings: what the file of the best settings holds besides; without it they stand there as far as searched.
        name: name of that file.
    """
    with atomic_path(out / TRIALS_FILE) as path, path.open("w", newline="", encoding="utf-8") as file:
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    changed = split_values({key: best[key] for key in space.entries})
    if settings is None:
        content: dict[str, Any] = {part: values for part, values in changed.items() if values}
    else:
        own = {key: value for key, value in train.to_dict().items() if value is not None}
        content = {**settings, "model": model.to_dict(), "train": own}
    with atomic_path(out / name) as path:
        path.write_text(tomli_w.dumps(content), encoding="utf-8")
    with atomic_path(out / NOTE_FILE) as path:
        path.write_text(note(rows, best, space, brief, name), encoding="utf-8")


def note(
    rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any], space: Space, brief: Mapping[str, Any], name: str
) -> str:
    """Return the note in Markdown: how it went, the best settings beside those at the start, the best trials."""
    cut = sum(row["state"] != "complete" for row in rows)
    seconds = sum(row["seconds"] or 0.0 for row in rows)
    metrics = [key for key in best if key not in _OWN and key not in space.entries]
    scored = ", ".join(f"{key} {best[key]:.4f}" for key in metrics)
    head = (
        f"{len(rows)} trials, {cut} of them cut short, {seconds / 60:.1f} minutes; {brief['repeats']} training(s) a "
        f"trial, seed {brief['train']['seed']}. Scored on validation entries alone (lower is better); no test entry "
        "was read."
    )
    outcome = f"Best: trial {best['trial']}, score {best['score']:.4f} ({scored}). Its settings are in `{name}`."
    outside = [key for key, entry in space.entries.items() if _value(brief, key) not in entry]
    start = (
        f"No trial has the values at the start: {', '.join(outside)} lie outside of what was searched, so the best may "
        "be worse than they are."
        if outside
        else "The first trial has the values at the start."
    )
    drawn = ", ".join(f"'{name}'" for name in brief["drawn"])
    share = brief["train"]["val_fraction"]
    held = f"The data names no validation entries of {drawn}: train.val_fraction = {share} of their training entries."
    settings = [[key, _range(e), _cell(_value(brief, key)), _cell(best[key])] for key, e in space.entries.items()]
    whole = sorted((row for row in rows if row["state"] == "complete"), key=lambda row: float(row["score"]))[:_SHOWN]
    columns = ["trial", "score", *metrics, *space.entries]
    cells = [[_cell(row.get(column, "")) for column in columns] for row in whole]
    tables = [_table(["setting", "searched", "before", "best"], settings), _table(columns, cells)]
    told = [head, outcome, start, *([held] if drawn else [])]
    return "\n\n".join(["# Search for settings", *told, *tables]) + "\n"


_OWN = ("trial", "state", "score", "best_epoch", "seconds", "fault")


def _range(entry: Any) -> str:
    if isinstance(entry, Range):
        return f"{_cell(entry.low)} to {_cell(entry.high)}" + (", log" if entry.log else "")
    return ", ".join(map(str, entry.values))


def _value(brief: Mapping[str, Any], key: str) -> Any:
    """Return a value at the start."""
    part, name = key.split(".")
    return brief[part][name]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else str(value)
    return str(value)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
