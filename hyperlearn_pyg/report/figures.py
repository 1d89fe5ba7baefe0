from __future__ import annotations

import io
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hyperlearn_pyg.report.page import escape, is_number, number, words

#: Two colours that stand for the page's own, so that one drawing suits light and dark.
_TEXT, _ACCENT = "#010203", "#010204"
#: Axes overflow beyond: what a diverged loss reaches is left out.
_DRAWABLE = 1e100
#: Categories with a colour of their own on a map; all further ones share a grey.
CATEGORIES = 10


def curve(phases: Sequence[Sequence[tuple[float, float]]], *, best: tuple[float, float], prefix: str) -> str:
    """Draw one training curve with its best point marked.

    Args:
        phases: Points ``(epoch, value)`` of each phase of the training, finite; a later phase is dashed.
        best: The point to mark.
        prefix: Put before every id in the drawing, so that several fit in one page.

    Returns:
        An ``<svg>`` element.
    """
    figure = Figure(figsize=(4.2, 2.5), layout="constrained")
    axes = figure.add_subplot()
    for i, points in enumerate(phases):
        few = "." if len(points) <= 30 else ""
        axes.plot(*zip(*points, strict=True), color=_ACCENT, linewidth=1.6, marker=few, linestyle="--" if i else "-")
    axes.plot(*best, "o", color=_ACCENT, markersize=6)
    values = [value for points in phases for _, value in points]
    if min(values) > 0 and max(values) > 50 * min(values):
        axes.set_yscale("log")
    axes.set_xlabel("epoch", color=_TEXT)
    axes.locator_params(axis="x", integer=True, nbins=6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_TEXT)
    axes.tick_params(which="both", colors=_TEXT)
    axes.grid(axis="y", color=_TEXT, alpha=0.12)
    return _inline(figure, prefix)


def _inline(figure: Figure, prefix: str) -> str:
    """Return the figure as an SVG element in the colours and the type of the page."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1; font-family: inherit", svg)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    # Text carries no fill of its own: it would be black on black in the dark.
    svg = svg.replace("<svg", '<svg fill="currentColor" role="img"', 1)
    return svg.replace(_TEXT, "currentColor").replace(_ACCENT, "var(--accent)")


def colour_groups(labels: Sequence[str]) -> tuple[list[int], list[tuple[str, int]]]:
    """Sort labels into the most frequent categories, in the order of their names, and a rest.

    Returns:
        The group of each label, and name and count of each group; the last group is "all others"
        where there are more than :data:`CATEGORIES` categories.
    """
    counts = sorted(Counter(labels).items(), key=lambda pair: (-pair[1], pair[0]))
    # By name, so that modalities of the same categories get the same colours.
    groups = sorted(counts[:CATEGORIES])
    place = {label: i for i, (label, _) in enumerate(groups)}
    rest = sum(count for _, count in counts[CATEGORIES:])
    if rest:
        groups.append(("all others", rest))
    return [place.get(label, CATEGORIES) for label in labels], groups


def scatter(plane: NDArray[np.float64], names: Sequence[str], groups: Sequence[int] | None) -> str:
    """Draw a map of items; the name of each shows under the pointer.

    Written as circles by hand: matplotlib has no names on the points of a scatter plot.

    Args:
        plane: Coordinates of shape ``[n, 2]`` in [-1, 1].
        names: One name an item.
        groups: Number of each item's colour; ``None`` for one colour.

    Returns:
        An ``<svg>`` element.
    """
    radius = min(6.0, max(2.2, 90 / math.sqrt(max(len(plane), 1))))
    groups = groups if groups is not None else [0] * len(plane)
    dots = []
    # The grey of the rest first, the rest above it.
    for i in sorted(range(len(plane)), key=lambda i: groups[i] < CATEGORIES):
        x, y = 200 + 185 * plane[i, 0], 200 - 185 * plane[i, 1]
        dots.append(
            f'<circle class="g{groups[i]}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">'
            f"<title>{escape(names[i])}</title></circle>"
        )
    return f'<svg class="map" viewBox="0 0 400 400" role="img">{"".join(dots)}</svg>'


def legend(groups: Sequence[tuple[str, int]]) -> str:
    """List the colours of a map with the number of items of each."""
    entries = "".join(
        f'<li><span class="dot g{i}"></span>{escape(name)} <small>{number(count)}</small></li>'
        for i, (name, count) in enumerate(groups)
    )
    return f'<ul class="legend">{entries}</ul>'


def curves(history: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Draw the loss and every validation metric of a training history.

    Rows without a finite value one can draw are left out, and so are series without any row or equal to one
    already drawn (a metric of the first relation has two names).

    Returns:
        Caption and ``<svg>`` element of each series.
    """
    keys = dict.fromkeys(key for row in history for key in row if key == "loss" or key.startswith("val_"))
    drawn: dict[tuple[tuple[float, float], ...], tuple[str, str]] = {}
    for key in keys:
        phases = _phases(history, key)
        points = tuple(point for phase in phases.values() for point in phase)
        if not points or points in drawn:
            continue
        low = is_error(key)
        best = min(points, key=lambda point: point[1] if low else -point[1])
        name, word = words(key.replace("val_", "validation ")), "lowest" if low else "highest"
        dashed = "".join(f"; dashed: {phase}" for phase in list(phases)[1:])
        caption = f"{name}: {word} {number(best[1])} at epoch {best[0]:g}{dashed}"
        drawn[points] = caption, curve(list(phases.values()), best=best, prefix=f"c{len(drawn)}")
    return list(drawn.values())


def _phases(history: Sequence[Mapping[str, Any]], key: str) -> dict[Any, list[tuple[float, float]]]:
    """Collect the points ``(epoch, value)`` one can draw, apart for each value of ``phase``."""
    phases: dict[Any, list[tuple[float, float]]] = {}
    for i, row in enumerate(history):
        epoch, value = row.get("epoch", i), row.get(key)
        if is_number(epoch) and is_number(value) and abs(float(value)) < _DRAWABLE:  # type: ignore[arg-type]
            phases.setdefault(row.get("phase"), []).append((float(epoch), float(value)))  # type: ignore[arg-type]
    return phases


def is_error(metric: str) -> bool:
    """Tell whether a metric, with or without a prefix such as ``val_``, is an error: better when lower."""
    return metric.lower().rsplit("_", 1)[-1] in {"rmse", "mae", "mse", "loss"}
