from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperlearn_pyg._io import atomic_path
from hyperlearn_pyg.report.figures import colour_groups, curves, is_error, legend, scatter
from hyperlearn_pyg.report.page import escape, is_number, number, page, table, words
from hyperlearn_pyg.report.projection import project, sample_rows


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    history: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Any],
    floors: Mapping[str, Mapping[str, Any]],
    embeddings: Mapping[str, NDArray[np.floating]],
    labels: Mapping[str, Sequence[str] | None] | None = None,
    names: Mapping[str, Sequence[str]] | None = None,
    neighbours: Sequence[Mapping[str, Any]] = (),
    notes: Sequence[str] | str = (),
) -> Path:
    """Write the report of a run as one HTML file that needs nothing from outside.

    What is not a finite number shows as a dash, or is left out of a drawing; every text is escaped.

    Args:
        path: The file; written beside it and renamed, so that it is whole or absent.
        title: Heading of the page.
        history: One row an epoch: ``epoch``, ``loss``, ``val_<metric>``, and ``phase`` where there are several.
        metrics: ``validation`` and ``test`` map a metric to its value, with ``relations`` for each relation's
            own; every other entry but ``floors`` is a fact of the run (of a mapping, every entry).
        floors: Name of a plain method -> ``{"test": {metric: value}, "published": bool}``; ``relations`` within
            ``test`` as in ``metrics``.
        embeddings: Modality -> array of shape ``[N, C]``; N may be 0.
        labels: Modality -> N categories that colour its map, or ``None``.
        names: Modality -> N names shown on its map; the row number stands in for a missing modality.
        neighbours: Rows ``{"modality": m, "item": name, "to": m2, "neighbours": [(name, score), ...]}``.
        notes: Sentences set at the end.

    Returns:
        The path written.

    Raises:
        ValueError: an embedding is no matrix, or ``labels`` or ``names`` differ from it in length.
    """
    labels, names = labels or {}, names or {}
    for modality, vectors in embeddings.items():
        _check(modality, np.asarray(vectors), labels.get(modality), names.get(modality))
    maps = "".join(
        _map(modality, np.asarray(vectors), labels.get(modality), names.get(modality))
        for modality, vectors in embeddings.items()
    )
    lines = [notes] if isinstance(notes, str) else notes
    sections = [
        f"<header><h1>{escape(title)}</h1>{_summary(metrics, embeddings)}</header>",
        _cards(metrics),
        _section("Result", _results(metrics, floors)),
        _section("Training", _training(history)),
        _section("Maps of the embeddings", maps and f'<div class="grid">{maps}</div>'),
        _section("Nearest neighbours", _neighbours(neighbours)),
        _section("The run", _facts(metrics)),
        _section("Notes", "".join(f"<p>{escape(line)}</p>" for line in lines if line)),
    ]
    with atomic_path(path) as temporary:
        temporary.write_text(page(title, "\n".join(filter(None, sections))), encoding="utf-8")
    return Path(path)


def _check(
    modality: str, vectors: NDArray[np.floating], labels: Sequence[str] | None, names: Sequence[str] | None
) -> None:
    if vectors.ndim != 2:
        raise ValueError(f"'embeddings[{modality!r}]' must have shape [N, C] (got {list(vectors.shape)})")
    for what, given in (("labels", labels), ("names", names)):
        if given is not None and len(given) != len(vectors):
            raise ValueError(f"'{what}[{modality!r}]' must hold {len(vectors)} entries, one an item (got {len(given)})")


def _section(heading: str, body: str) -> str:
    return f"<section>\n<h2>{escape(heading)}</h2>\n{body}\n</section>" if body else ""


def _training(history: Sequence[Mapping[str, Any]]) -> str:
    drawn = "".join(
        f'<figure class="card">{svg}<figcaption>{escape(text)}</figcaption></figure>' for text, svg in curves(history)
    )
    return f'<div class="grid">{drawn}</div>' if drawn else "<p>No training step was recorded.</p>"


def _summary(metrics: Mapping[str, Any], embeddings: Mapping[str, NDArray[np.floating]]) -> str:
    parts = [f"{name} {number(len(vectors))}" for name, vectors in embeddings.items()]
    parts += [f"seed {metrics['seed']}"] if "seed" in metrics else []
    return f'<p class="muted">{escape(" · ".join(parts))}</p>' if parts else ""


def _flat(metrics: Mapping[str, Any], split: str) -> dict[str, float]:
    """Return the numbers of a split, without those of single relations."""
    return {str(key): value for key, value in (metrics.get(split) or {}).items() if is_number(value)}


def _cards(metrics: Mapping[str, Any]) -> str:
    test, validation = _flat(metrics, "test"), _flat(metrics, "validation")
    cards = [(number(value), f"test {words(key)}") for key, value in list(test.items())[:3]]
    cards += [(number(value), f"validation {words(key)}") for key, value in list(validation.items())[:1]]
    if is_number(metrics.get("seconds")):
        cards.append((duration(metrics["seconds"]), "training time"))
    if is_number(metrics.get("seconds_per_step")):
        cards.append((duration(metrics["seconds_per_step"]), "a step"))
    body = "".join(
        f'<div class="card"><b class="big">{big}</b><small>{escape(what)}</small></div>' for big, what in cards
    )
    return f'<div class="cards">{body}</div>' if body else ""


def duration(seconds: Any) -> str:
    """Write a time in the unit that suits it."""
    if not is_number(seconds):
        return "–"
    seconds = float(seconds)
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    if seconds < 7200:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h"


def _results(metrics: Mapping[str, Any], floors: Mapping[str, Mapping[str, Any]]) -> str:
    """Rank this run among the floors and the published rows; a table a relation where there are several."""
    split = "test" if _flat(metrics, "test") else "validation"
    relations = (metrics.get(split) or {}).get("relations") or {}
    legend = '<p class="muted">↓ lower is better, ↑ higher is better. Best first.</p>'
    if len(relations) < 2:
        body = _comparison(
            split, _flat(metrics, split), {name: _flat(row, "test") for name, row in floors.items()}, floors
        )
        return body + legend if "<table" in body else body
    parts = []
    for relation, own in relations.items():
        first = relation == next(iter(relations))
        beside = {}
        for name, row in floors.items():
            test = row.get("test") or {}
            # What is not said of a relation by name is about the first.
            beside[name] = test.get("relations", {}).get(relation, test if first else {})
        others = {name: _flat({"test": row}, "test") for name, row in beside.items()}
        parts.append(f"<h3>{escape(relation)}</h3>{_comparison(split, _flat({split: own}, split), others, floors)}")
    return "".join(parts) + legend


def _comparison(
    split: str,
    own: Mapping[str, float],
    others: Mapping[str, Mapping[str, float]],
    floors: Mapping[str, Mapping[str, Any]],
) -> str:
    """Rank one set of metrics among those of others by the first metric."""
    columns = list(own) or list(dict.fromkeys(key for row in others.values() for key in row))
    if not columns:
        return "<p>Nothing was measured.</p>"
    first, low = columns[0], is_error(columns[0])
    rows = [(f"This run ({split})", own, True, "")]
    for name, row in others.items():
        if any(key in row for key in columns):
            tag = "published, not measured here" if floors[name].get("published") else "floor"
            rows.append((name, row, False, f'<span class="tag">{tag}</span>'))
    rows.sort(key=lambda row: (first not in row[1], (1 if low else -1) * row[1].get(first, 0.0)))
    head = ["Method", *(f"{words(key)} {'↓' if is_error(key) else '↑'}" for key in columns)]
    body = [(escape(name) + tag, [number(row.get(key)) for key in columns]) for name, row, _, tag in rows]
    ours = [row[first] for name, row in others.items() if first in row and not floors[name].get("published")]
    mark = next(i for i, row in enumerate(rows) if row[2])
    return _verdict(first, own, ours) + table(head, body, mark=mark)


def _verdict(metric: str, own: Mapping[str, float], floors: Sequence[float]) -> str:
    """Say in a sentence whether the run beats the best of the floors."""
    if not floors or metric not in own:
        return ""
    best = min(floors) if is_error(metric) else max(floors)
    better = own[metric] < best if is_error(metric) else own[metric] > best
    word = "better than" if better else "the same as" if own[metric] == best else "worse than"
    return f"<p>{escape(words(metric))} {number(own[metric])}: {word} the best floor, {number(best)}.</p>"


def _map(
    modality: str, vectors: NDArray[np.floating], labels: Sequence[str] | None, names: Sequence[str] | None
) -> str:
    kept = sample_rows(vectors)
    plane, method = project(vectors[kept])
    shown = [str(names[i]) if names is not None else str(i) for i in kept]
    groups, colours = None, ""
    if labels is not None and len(kept):
        groups, counted = colour_groups([str(labels[i]) for i in kept])
        colours = legend(counted)
        shown = [f"{name} ({labels[i]})" for name, i in zip(shown, kept, strict=True)]
    sampled = f" of {number(len(kept))} of {number(len(vectors))}" if len(kept) < len(vectors) else ""
    caption = f"{method}{sampled} · {number(vectors.shape[1])} factors · names show under the pointer"
    drawing = scatter(plane, shown, groups) if len(kept) else "<p>No item to show.</p>"
    return (
        f'<figure class="card"><h3>{escape(modality)}</h3>{drawing}{colours}<figcaption>{caption}</figcaption></figure>'
    )


def _neighbours(rows: Sequence[Mapping[str, Any]]) -> str:
    cards = []
    for row in rows:
        scores = [float(score) for _, score in row["neighbours"] if is_number(score)]
        top = max((abs(score) for score in scores), default=0.0)
        items = "".join(
            f'<li style="--part: {100 * max(float(score), 0) / top if top and is_number(score) else 0:.0f}%">'
            f"<span>{escape(name)}</span><span>{number(score)}</span></li>"
            for name, score in row["neighbours"]
        )
        where = f"{escape(row['modality'])} → {escape(row['to'])}"
        cards.append(
            f'<div class="card"><h3>{escape(row["item"])}<span class="tag">{where}</span></h3>'
            f'<ol class="near">{items or "<li>none</li>"}</ol></div>'
        )
    return f'<div class="grid">{"".join(cards)}</div>' if cards else ""


def _facts(metrics: Mapping[str, Any]) -> str:
    rows = []
    for key, value in metrics.items():
        if key in {"validation", "test", "floors"}:
            continue
        parts = value.items() if isinstance(value, Mapping) else [("", value)]
        for name, part in parts:
            label = f"{key}: {name}" if name else words(key)
            text = duration(part) if str(key).startswith("seconds") else _fact(part)
            rows.append(f"<div><dt>{escape(label)}</dt><dd>{escape(text)}</dd></div>")
    return f'<dl class="facts card">{"".join(rows)}</dl>' if rows else ""


def _fact(value: object) -> str:
    if isinstance(value, float):
        return number(value)
    return "–" if value is None else str(value)
