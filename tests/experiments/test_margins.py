from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperlearn_pyg.experiments.margins import margins, tell

FIGURES = st.lists(st.integers(0, 20).map(lambda n: n / 20), min_size=2, max_size=4)


def line(name: str, values: dict[str, list[float]], kind: str = "floor") -> dict[str, object]:
    return {"name": name, "kind": kind, "values": values}


@given(FIGURES, st.lists(FIGURES, min_size=1, max_size=3), st.booleans())
def test_the_nearest_floor_is_the_one_of_the_smallest_distance(mine, floors, low):
    lines = [line("ours", {"m": mine}, "measured"), *(line(str(i), {"m": f}) for i, f in enumerate(floors))]
    found = margins(lines, "ours", (), {"m"} if low else ())
    distances = []
    for floor in floors:
        gap = (statistics.fmean(mine) - statistics.fmean(floor)) * (-1 if low else 1)
        spread = math.sqrt(statistics.variance(mine) + statistics.variance(floor))
        distances.append((gap / spread if spread else math.copysign(math.inf, gap) if gap else 0.0, gap))
    assert len(found) == 1
    assert found[0]["deviations"] == pytest.approx(min(distances)[0])
    assert (found[0]["deviations"], found[0]["gap"]) == pytest.approx(distances[int(found[0]["floor"])])


def test_a_base_rate_is_no_metric_to_be_good_at():
    lines = [
        line("ours", {"ap": [0.3, 0.4], "chance": [0.1, 0.1]}, "measured"),
        line("counts", {"ap": [0.2], "chance": [0.1]}),
    ]
    assert [row["metric"] for row in margins(lines, "ours", (), ())] == ["ap"]


def test_rows_that_are_floors_count_and_others_do_not():
    lines = [
        line("ours", {"m": [0.5, 0.5], "n": [0.1, 0.2]}, "measured"),
        line("counts", {"m": [0.1, 0.2]}),
        line("ablation", {"m": [0.9, 0.9]}, "measured"),
        line("printed", {"m": [0.9]}, "published"),
        line("CP", {"m": [0.3, 0.4], "n": [0.3, 0.1]}, "measured"),
    ]
    assert [(row["metric"], row["floor"]) for row in margins(lines, "ours", ["CP"], ())] == [("m", "CP"), ("n", "CP")]
    assert [row["floor"] for row in margins(lines, "ours", (), ())] == ["counts"]
    assert margins(lines, "absent", (), ()) == []


def test_one_seed_has_no_deviation_and_says_so():
    lines = [line("ours", {"m": [0.5]}, "measured"), line("counts", {"m": [0.1, 0.2]})]
    found = margins(lines, "ours", (), ())
    assert found[0]["deviations"] is None
    assert "deviation not known" in tell(found, "ours")[0]
    lines = [line("ours", {"m": [0.5, 0.6]}, "measured"), line("counts", {"m": [0.1]})]
    assert margins(lines, "ours", (), ())[0]["deviations"] == pytest.approx(0.45 / math.sqrt(2 * 0.005))
    assert tell([], "ours") == []


def test_the_sentence_tells_who_is_not_above():
    lines = [
        line("ours", {"m": [0.5, 0.6], "n": [0.5, 0.6]}, "measured"),
        line("counts", {"m": [0.1, 0.1], "n": [0.5, 0.5]}),
    ]
    text = tell(margins(lines, "ours", (), ()), "ours")[0]
    assert "m: yes, +0.4500 or 6.4 from counts" in text
    assert "n: **no**, +0.0500 or 0.7 from counts" in text
