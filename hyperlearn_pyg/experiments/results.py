"""Results of an experiment: JSON, a table in Markdown, a plot."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hyperlearn_pyg._io import atomic_path
from hyperlearn_pyg.experiments.cost import place
from hyperlearn_pyg.experiments.experiment import Experiment
from hyperlearn_pyg.experiments.margins import margins, tell
from hyperlearn_pyg.experiments.plot import save_plot

#: Marks the files that a results page is made of.
KIND = "experiment"
Found = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes:
        name: what was measured.
        kind: ``"floor"``, ``"measured"`` or ``"published"``.
        values: metric -> one figure a seed.
        costs: CPU seconds, wall seconds and peak MiB, one a seed.
        note: remarks.
    """

    name: str
    kind: str
    values: dict[str, list[float]]
    costs: dict[str, list[float]]
    note: str = ""


def table_lines(experiment: Experiment, found: Found) -> list[Line]:
    """Return the lines of an experiment: floors, models, published figures."""
    lines = []
    for row, parts in found.items():
        for name in dict.fromkeys(name for part in parts for name in part["test"]):
            tests = [part["test"][name] for part in parts if name in part["test"]]
            values = {m: [test[m] for test in tests if m in test] for m in experiment.metrics}
            floor = row not in [own.name for own in experiment.rows]
            costs = {} if floor else _costs(parts)
            note = "" if floor else experiment.row(row).note
            lines.append(Line(name, "floor" if floor else "measured", values, costs, note))
    for quoted in experiment.quoted:
        values = {m: [v] for m, v in quoted.values.items()}
        lines.append(Line(quoted.name, quoted.kind, values, {}, quoted.source))
    return lines


def _costs(parts: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    keys = ("cpu_seconds", "seconds", "peak_mib")
    return {key: [part["cost"][key] for part in parts if part["cost"][key] is not None] for key in keys}


def verdicts(experiment: Experiment, found: Found) -> list[dict[str, Any]]:
    """Tell for each target what its row reached."""
    out = []
    for target in experiment.targets:
        row = target.row or experiment.rows[0].name
        scores = [part["test"][row][target.metric] for part in found.get(row, [])]
        mean = statistics.fmean(scores) if scores else math.nan
        sign = -1 if target.metric in experiment.lower else 1
        told = {"metric": target.metric, "mean": mean, "seeds": len(scores), **asdict(target), "row": row}
        for level in ("must", "goal"):
            wanted = getattr(target, level)
            told[f"{level}_met"] = None if wanted is None or not scores else bool(sign * (mean - wanted) >= 0)
        out.append(told)
    return out


def floor_margins(experiment: Experiment, found: Found) -> list[dict[str, Any]]:
    """Tell how far the first row lies above every floor, rows that are floors included.

    See :func:`~hyperlearn_pyg.experiments.margins.margins`.
    """
    lines = [asdict(line) for line in table_lines(experiment, found)]
    floors = [row.name for row in experiment.rows if row.floor]
    return margins(lines, experiment.rows[0].name, floors, experiment.lower)


def write_results(
    experiment: Experiment, found: Found, began: Mapping[str, Any], out: Path, *, seeds: int, quick: bool
) -> list[Path]:
    """Write ``DATE-NAME.json``, ``.md`` and ``.png``, each whole or not at all; later ones of the day replace them.

    Args:
        experiment: the experiment.
        found: the pieces of each row.
        began: :func:`~hyperlearn_pyg.experiments.cost.place` at the start of the run.
        out: the folder.
        seeds: the number of seeds that were asked for.
        quick: whether this was a run to see that it runs.
    """
    out.mkdir(parents=True, exist_ok=True)
    dates = [part["date"] for parts in found.values() for part in parts]
    date = max(dates, default="none")
    stem = out / (f"{date}-{experiment.name}" + ("-quick" if quick else ""))
    content = {
        "kind": KIND,
        "experiment": experiment.name,
        "title": experiment.title,
        "date": date,
        "quick": quick,
        "seeds_asked": seeds,
        "environment": {**began, "load_at_end": place()["load"]},
        "metrics": list(experiment.metrics),
        "split": experiment.split_note,
        "note": experiment.note,
        "verdicts": verdicts(experiment, found),
        "first": experiment.rows[0].name,
        "margins": floor_margins(experiment, found),
        "lines": [asdict(line) for line in table_lines(experiment, found)],
        "settings": {row.name: _settings(experiment, row.name) for row in experiment.rows if row.name in found},
        "parts": {name: list(parts) for name, parts in found.items()},
    }
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("json", "md", "png")]
    with atomic_path(paths[0]) as path:
        path.write_text(json.dumps(content, indent=1, allow_nan=True) + "\n", encoding="utf-8")
    with atomic_path(paths[1]) as path:
        path.write_text(f"# {experiment.title}, {date}\n\n{markdown(content)}", encoding="utf-8")
    with atomic_path(paths[2]) as path:
        save_plot(content, path)
    return paths


def _settings(experiment: Experiment, name: str) -> dict[str, Any]:
    row = experiment.row(name)
    return {"preset": row.preset, "model": dict(row.model), "train": dict(row.train), "relations": row.relations}


def markdown(content: Mapping[str, Any], *, explain: bool = True) -> str:
    """Return the note of an experiment from its JSON, without the title.

    Args:
        content: the content of the JSON file.
        explain: whether to say what the columns mean.
    """
    metrics = content["metrics"]
    head = ["", "source", *metrics, "seeds", "CPU s", "peak MiB"]
    rows = [_cells(line, metrics) for line in content["lines"]]
    notes = [f"* {line['name']}: {line['note']}" for line in content["lines"] if line["note"]]
    told = [*_told(content), *tell(content.get("margins", ()), content.get("first", ""))]
    blocks = [_where(content), markdown_table(head, rows).rstrip(), *told, f"Split: {content['split']}."]
    blocks += [content["note"]] if content["note"] else []
    explanation = [
        "Mean ± sample deviation over the seeds; a seed draws split (where none is published), validation, start and "
        "negatives. The epoch is chosen on validation, the test is scored once a seed. CPU seconds and peak resident "
        "memory are those of selection, refit and test of one seed, the interpreter and the data included. Deviations "
        "between a row and a floor: the difference of the means over the root of the sum of the squares of both "
        "deviations, of the nearest floor."
    ]
    blocks += explanation if explain else []
    return "\n\n".join([*blocks, "\n".join(notes)] if notes else blocks) + "\n"


def _cells(line: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
    quoted = not line["costs"] and line["note"]
    digits = 3 if quoted else 4
    cells = [spread(line["values"].get(metric, []), digits) for metric in metrics]
    count = "" if quoted else str(max((len(v) for v in line["values"].values()), default=0))
    costs = [f"{statistics.fmean(c):.0f}" if (c := line["costs"].get(k)) else "" for k in ("cpu_seconds", "peak_mib")]
    return [line["name"], line["kind"], *cells, count, *costs]


def _told(content: Mapping[str, Any]) -> list[str]:
    out = []
    for told in content["verdicts"]:
        levels = []
        for level in ("must", "goal"):
            if told[level] is not None:
                met = {True: "met", False: "**not met**", None: "not run"}[told[f"{level}_met"]]
                levels.append(f"{level} {told[level]:.3f}: {met}")
        short = told["seeds"] < content["seeds_asked"]
        seeds = f" ({told['seeds']} of {content['seeds_asked']} seeds)" if short else ""
        out.append(f"{told['metric']} of {told['row']}: {told['mean']:.4f}{seeds}; {', '.join(levels)}.")
    return out


def _where(content: Mapping[str, Any]) -> str:
    at = content["environment"]
    parts = [part for own in content["parts"].values() for part in own]
    found = {part.get("revision") for part in parts} - {None} or {at.get("revision")} - {None}
    revision = f", revision {', '.join(sorted(found))}" if found else ""
    loads = [part["load"][0] for part in parts if part["load"]]
    busy = f", load {min(loads):.1f} to {max(loads):.1f} meanwhile" if loads else ""
    packages = ", ".join(f"{name} {at['versions'][name]}" for name in ("torch", "torch_geometric", "hyperlearn_pyg"))
    quick = "**A quick run: it shows that the experiment runs, and nothing more.** " if content["quick"] else ""
    return (
        f"{quick}{content['date']}{revision}; {at['processor']}, "
        f"{at['cores']} cores, {at['threads']} thread(s), {at['memory_gib']} GiB, "
        f"accelerator: {at['accelerator'] or 'none'}{busy}. {packages}."
    )


def spread(values: Sequence[float], digits: int = 4) -> str:
    """Return mean and sample deviation as text; the mean alone for one value, nothing for none."""
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"
