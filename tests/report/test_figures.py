from __future__ import annotations

from xml.etree import ElementTree

import matplotlib
import pytest

from hyperlearn_pyg.report.figures import colour_groups, curve, curves, is_error
from hyperlearn_pyg.report.page import escape, number


@pytest.mark.parametrize("values", [[1.0], [0.0, 0.0], [1e-9, 1e9], [-5.0, 3.0, 1.0], [3e38, 1.0]])
@pytest.mark.parametrize("phases", [1, 2])
def test_curve_is_well_formed_and_takes_the_colours_of_the_page(values: list[float], phases: int) -> None:
    before = dict(matplotlib.rcParams)
    points = list(enumerate(values))
    svg = curve([points] * phases, best=points[-1], prefix="p")
    root = ElementTree.fromstring(svg)
    assert root.get("width") is None
    assert "currentColor" in svg
    assert "var(--accent)" in svg
    assert dict(matplotlib.rcParams) == before


def test_curves_name_the_best_point() -> None:
    history = [{"epoch": 1, "loss": 3.0, "val_auc": 0.5}, {"epoch": 2, "loss": 1.0, "val_auc": 0.4}]
    captions = [caption for caption, _ in curves(history)]
    assert captions == ["loss: lowest 1.0000 at epoch 2", "validation auc: highest 0.5000 at epoch 1"]
    assert curves([]) == []
    twice = [{"epoch": 1, "loss": 1.0, "val_auc": 0.5, "val_rates_auc": 0.5}]
    assert len(curves(twice)) == 2
    phased = curves([{"phase": "a", "epoch": 1, "loss": 2.0}, {"phase": "b", "epoch": 1, "loss": 1.0}])
    assert phased[0][0] == "loss: lowest 1.0000 at epoch 1; dashed: b"
    diverged = curves([{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1e308}, {"epoch": 3, "loss": -1e308}])
    assert diverged[0][0] == "loss: lowest 2.0000 at epoch 1"
    assert curves([{"epoch": 1, "loss": float("nan"), "seconds": 3.0}]) == []


def test_is_error() -> None:
    assert is_error("RMSE")
    assert is_error("val_rates_mae")
    assert not is_error("hits@10")


def test_colour_groups_order_by_count_then_name() -> None:
    assert colour_groups(["b", "a", "c", "c"]) == ([1, 0, 2, 2], [("a", 1), ("b", 1), ("c", 2)])
    assert colour_groups([]) == ([], [])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (1234567, "1,234,567"),
        (0.0, "0"),
        (0.89731, "0.8973"),
        (0.01234567, "0.01235"),
        (12.3456, "12.346"),
        (123.456, "123.5"),
        (4567.8, "4,568"),
        (1.5e7, "1.500e+07"),
        (-2e-6, "-2.000e-06"),
        (float("nan"), "–"),
        (None, "–"),
        ("text", "–"),
        (True, "–"),
    ],
)
def test_number(value: object, text: str) -> None:
    assert number(value) == text


def test_escape_takes_anything() -> None:
    assert escape('<a b="c">&\udc80') == "&lt;a b=&quot;c&quot;&gt;&amp;?"
