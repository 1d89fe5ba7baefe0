"""How far the first row of an experiment lies above its floors, in deviations."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any

#: Metrics that are a property of the data, the same for every row: nothing lies above a floor in them.
BASE_RATES = frozenset({"chance"})


def margins(
    lines: Sequence[Mapping[str, Any]], first: str, floors: Collection[str], lower: Collection[str]
) -> list[dict[str, Any]]:
    r"""Return for each metric of the first row the floor that it lies least above.

    A distance is :math:`(\bar{x} - \bar{f}) / \sqrt{s_x^2 + s_f^2}` with the means and sample deviations over the seeds
    of the row and of the floor, the other way round for metrics that are to be low. Seeds draw the same split for both,
    so that the deviation of the difference is smaller as a rule: this is the cautious side. A floor of one seed is
    given the deviation of the row. Metrics of :data:`BASE_RATES` are left out.

    Args:
        lines: the lines of the table, each with ``name``, ``kind`` and ``values``: metric -> one figure a seed.
        first: the name of the row.
        floors: further lines that count as floors, beside those of kind ``"floor"``.
        lower: the metrics that are to be low.

    Returns:
        For each metric that some floor has ``metric``, ``floor``, ``gap`` (positive where the row is better) and
        ``deviations``: None where the row has fewer than two seeds.
    """
    own: Mapping[str, list[float]] = next((line["values"] for line in lines if line["name"] == first), {})
    others = [line for line in lines if line["name"] != first and (line["kind"] == "floor" or line["name"] in floors)]
    out = []
    for metric, mine in own.items():
        if metric in BASE_RATES:
            continue
        sign = -1 if metric in lower else 1
        found = [
            {"metric": metric, "floor": line["name"], **_distance(mine, line["values"][metric], sign)}
            for line in others
            if mine and line["values"].get(metric)
        ]
        if found:
            out.append(min(found, key=_order))
    return out


def _distance(mine: Sequence[float], theirs: Sequence[float], sign: int) -> dict[str, float | None]:
    gap = sign * (statistics.fmean(mine) - statistics.fmean(theirs))
    if len(mine) < 2:
        return {"gap": gap, "deviations": None}
    own = statistics.stdev(mine)
    spread = math.hypot(own, statistics.stdev(theirs) if len(theirs) > 1 else own)
    return {"gap": gap, "deviations": gap / spread if spread else math.copysign(math.inf, gap) if gap else 0.0}


def _order(margin: Mapping[str, Any]) -> tuple[float, float]:
    deviations = margin["deviations"]
    return (-math.inf if deviations is None else deviations, margin["gap"])


def tell(found: Sequence[Mapping[str, Any]], first: str, wanted: float = 3.0) -> list[str]:
    """Return what :func:`margins` found as a sentence; nothing where there is nothing to compare.

    Args:
        found: the margins.
        first: the name of the row.
        wanted: so many deviations are asked for.
    """
    if not found:
        return []
    parts = []
    for margin in found:
        deviations = margin["deviations"]
        if deviations is None:
            parts.append(f"{margin['metric']}: {margin['gap']:+.4f} from {margin['floor']}, deviation not known")
        else:
            met = "yes" if deviations >= wanted else "**no**"
            parts.append(f"{margin['metric']}: {met}, {margin['gap']:+.4f} or {deviations:.1f} from {margin['floor']}")
    return [f"{first} above every floor by {wanted:g} deviations? {'; '.join(parts)}."]
