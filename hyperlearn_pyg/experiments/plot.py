from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

_COLOURS = {"floor": "#b8b8b8", "measured": "#2f6db5", "published": "#e0a64b"}


def save_plot(content: Mapping[str, Any], path: Path) -> None:
    """Draw the first metric of an experiment: a point a line with its deviation, and what must and should be reached.

    Args:
        content: the results as they go into the JSON file.
        path: the PNG file to write.
    """
    metric = content["metrics"][0]
    lines = [line for line in content["lines"] if line["values"].get(metric)]
    figure = Figure(figsize=(8, 1.2 + 0.34 * max(len(lines), 1)), layout="constrained")
    axes = figure.add_subplot()
    seen: set[str] = set()
    for at, line in enumerate(lines):
        values = line["values"][metric]
        error = statistics.stdev(values) if len(values) > 1 else 0.0
        label = None if line["kind"] in seen else line["kind"]
        seen.add(line["kind"])
        colour = _COLOURS[line["kind"]]
        axes.errorbar(statistics.fmean(values), at, xerr=error or None, fmt="o", color=colour, capsize=3, label=label)
    for told in content["verdicts"]:
        for level, style in (("must", "--"), ("goal", ":")):
            if told["metric"] == metric and told[level] is not None:
                axes.axvline(told[level], color="black", linestyle=style, linewidth=1, label=f"{level} {told[level]}")
    every = [statistics.fmean(line["values"][metric]) for line in lines]
    if every:
        low, high = min(every), max(every)
        room = (high - low) * 0.15 or 0.05
        axes.set_xlim(low - room, high + room)
        axes.grid(axis="both", alpha=0.3)
        figure.legend(fontsize="small", loc="outside lower center", ncols=5)
    axes.set_yticks(range(len(lines)), [line["name"] for line in lines], fontsize="small")
    axes.invert_yaxis()
    axes.set_xlabel(metric)
    axes.set_title(content["title"], fontsize="medium")
    figure.savefig(path, format="png", dpi=110)
