from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlearn_pyg.report import write_report
from hyperlearn_pyg.report.report import duration

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Reads a page back; fails on tags that do not nest and on ids given twice."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        self.close()
        assert self.stack == []
        assert len(self.ids) == len(set(self.ids))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.stack.append(tag)
        self.ids += [value or "" for key, value in attrs if key == "id"]
        self.addresses += [value or "" for key, value in attrs if key in {"src", "href", "xlink:href"}]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.stack or self.stack[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def arguments(**changes: Any) -> dict[str, Any]:
    vectors = np.random.default_rng(0).normal(size=(12, 4))
    return {
        "title": "A run",
        "history": [{"epoch": i, "loss": 1 / (i + 1), "val_rmse": 2 / (i + 1), "seconds": i} for i in range(5)],
        "metrics": {
            "validation": {"rmse": 0.87},
            "test": {"rmse": 0.9, "relations": {"rates": {"rmse": 0.9}}},
            "seconds": 12.5,
            "seconds_per_step": 0.05,
            "seed": 3,
            "versions": {"torch": "2.13.0"},
        },
        "floors": {
            "global mean": {"test": {"rmse": 1.15}, "published": False},
            "a paper": {"test": {"rmse": 0.8}, "published": True},
        },
        "embeddings": {"user": vectors},
        "labels": {"user": ["a"] * 8 + ["b"] * 4},
        "names": {"user": [f"user {i}" for i in range(12)]},
        "neighbours": [{"modality": "user", "item": "user 0", "to": "user", "neighbours": [("user 1", 0.5)]}],
        "notes": ["A remark."],
        **changes,
    }


def written(tmp_path: Path, **changes: Any) -> tuple[str, Page]:
    path = write_report(tmp_path / "report.html", **arguments(**changes))
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not re.search(r"\b(nan|inf)\b", text, flags=re.IGNORECASE)
    assert not re.search(r"\bNone\b", page.text)
    return text, page


def test_sections(tmp_path: Path) -> None:
    _, page = written(tmp_path)
    headings = ["Result", "Training", "Maps of the embeddings", "Nearest neighbours", "The run", "Notes"]
    places = [page.text.index(heading) for heading in headings]
    assert places == sorted(places)
    for words in [
        "validation rmse: lowest",
        "user 1 0.5000",
        "seed 3",
        "50 ms",
        "12.5 s",
        "2.13.0",
        "A remark.",
    ]:
        assert words in page.text
    assert page.tags.count("circle") == 12


def test_self_contained_and_deterministic(tmp_path: Path) -> None:
    text, page = written(tmp_path)
    assert all(address.startswith("#") for address in page.addresses)
    for tag in ("script", "link", "iframe"):
        assert tag not in page.tags
    assert "url(" not in re.sub(r"url\(#", "", text)
    assert "@import" not in text
    assert text == written(tmp_path)[0]


def test_rows_ranked_and_marked(tmp_path: Path) -> None:
    _, page = written(tmp_path)
    rows = page.text[page.text.index("Method") :]
    assert rows.index("a paper published") < rows.index("This run (test)") < rows.index("global mean floor")
    assert "rmse 0.9000: better than the best floor, 1.1500." in page.text


@pytest.mark.parametrize(
    ("metric", "own", "floor", "word"),
    [
        ("rmse", 0.9, 1.0, "better than"),
        ("rmse", 1.1, 1.0, "worse than"),
        ("auc", 0.9, 0.8, "better than"),
        ("auc", 0.7, 0.8, "worse than"),
        ("auc", 0.8, 0.8, "the same as"),
    ],
)
def test_verdict_knows_the_direction(tmp_path: Path, metric: str, own: float, floor: float, word: str) -> None:
    floors = {"plain": {"test": {metric: floor}}}
    _, page = written(tmp_path, metrics={"test": {metric: own}}, floors=floors)
    assert word in page.text


def test_relations_have_rows_of_their_own(tmp_path: Path) -> None:
    relations = {"rates": {"rmse": 0.9}, "tags": {"auc": 0.75}}
    floors = {"mean": {"test": {"rmse": 1.0}}, "counts": {"test": {"relations": {"tags": {"auc": 0.8}}}}}
    _, page = written(tmp_path, metrics={"test": {"rmse": 0.9, "relations": relations}}, floors=floors)
    assert "rates rmse 0.9000: better than the best floor, 1.0000. Method rmse ↓" in page.text
    assert "tags auc 0.7500: worse than the best floor, 0.8000. Method auc ↑ counts floor" in page.text


@pytest.mark.parametrize("num", [0, 1, 2, 3, 40])
@pytest.mark.parametrize("channels", [0, 1, 3])
def test_sizes(tmp_path: Path, num: int, channels: int) -> None:
    vectors = np.random.default_rng(1).normal(size=(num, channels)).astype(np.float32)
    for labels, names in itertools.product([None, {"m": None}, {"m": ["x"] * num}], [None, {"m": ["y"] * num}]):
        _, page = written(tmp_path, history=[], embeddings={"m": vectors}, labels=labels, names=names)
        assert page.tags.count("circle") == num


def test_nothing_at_all(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, title="", history=[], metrics={}, floors={}, embeddings={})
    page = Page(path.read_text(encoding="utf-8"))
    assert "Nothing was measured." in page.text
    assert "No training step was recorded." in page.text


def test_floors_alone_and_validation_alone(tmp_path: Path) -> None:
    _, page = written(tmp_path, metrics={})
    assert "This run (validation) –" in page.text
    _, page = written(tmp_path, metrics={"validation": {"auc": 0.8}, "device": None}, floors={})
    assert "This run (validation) 0.8000" in page.text


def test_not_finite_is_left_out(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(12, 4))
    vectors[0, 0], vectors[1, 1] = np.nan, np.inf
    _, page = written(
        tmp_path,
        history=[
            {"epoch": 0, "loss": float("nan"), "val_rmse": None},
            {"loss": 1.0, "val_rmse": float("inf")},
        ],
        metrics={"test": {"rmse": float("nan"), "mae": 0.5}, "seconds": float("nan"), "rank": float("inf")},
        embeddings={"user": vectors},
        neighbours=[{"modality": "a", "item": "b", "to": "c", "neighbours": [("d", float("nan")), ("e", 0.0)]}],
    )
    assert page.tags.count("circle") == 10
    assert "of 10 of 12" in page.text
    assert "d –" in page.text


def test_many_categories_share_a_grey(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(26, 4))
    labels = {"m": [*"abcdefghijklmnopqrstuvwx", "a", "b"]}
    text, page = written(tmp_path, embeddings={"m": vectors}, labels=labels, names=None)
    assert "all others 14" in page.text
    assert text.count('<circle class="g10"') == 14


def test_a_large_modality_is_sampled(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(5000, 4))
    _, page = written(tmp_path, embeddings={"m": vectors}, labels=None, names=None)
    assert page.tags.count("circle") == 3000
    assert "PCA of 3,000 of 5,000" in page.text


nasty = st.text(max_size=12) | st.sampled_from(
    ["<script>alert(1)</script>", '"><img src=x>', "&amp;", "$x^2$", "\udc80"]
)


@settings(max_examples=10, deadline=None)
@given(texts=st.lists(nasty, min_size=8, max_size=8))
def test_any_text_is_harmless(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("report") / "report.html"
    title, modality, item, to, metric, floor, note, fact = texts
    write_report(
        path,
        title=title,
        history=[{"epoch": 0, "loss": 1.0, f"val_{metric}": 0.5}],
        metrics={"test": {metric: 0.5}, fact: item},
        floors={floor: {"test": {metric: 0.4}}},
        embeddings={modality: np.eye(3)},
        labels={modality: [item] * 3},
        names={modality: [to] * 3},
        neighbours=[{"modality": modality, "item": item, "to": to, "neighbours": [(floor, 1.0)]}],
        notes=note,
    )
    page = Page(path.read_text(encoding="utf-8"))
    assert not {"script", "img"} & set(page.tags)


def test_duration_picks_its_unit() -> None:
    assert [duration(s) for s in (0.05, 5.0, 600, 7200, None)] == ["50 ms", "5 s", "10 min", "2 h", "–"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"embeddings": {"user": np.zeros(3)}},
            r"'embeddings\['user'\]' must have shape \[N, C\] \(got \[3\]\)",
        ),
        ({"labels": {"user": ["a"]}}, r"'labels\['user'\]' must hold 12 entries, one an item \(got 1\)"),
        ({"names": {"user": ["a"]}}, r"'names\['user'\]' must hold 12 entries"),
    ],
)
def test_bad_input_leaves_nothing(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_report(tmp_path / "report.html", **arguments(**changes))
    assert list(tmp_path.iterdir()) == []
