from __future__ import annotations

import datetime
import json

import harness
import pytest
from harness import COLUMNS, Row, environment, interleave, markdown_table, print_table, spread, write_results


def test_spread_gives_the_mean_and_the_sample_deviation():
    assert spread([]) == ""
    assert spread([0.95]) == "0.9500"
    assert spread([1.0, 2.0, 3.0], digits=2) == "2.00 ± 1.00"


def test_a_measured_row_and_a_published_one_are_told_apart():
    measured = Row("ours", [0.9, 0.92], [0.8, 0.8], [0.01, 0.03], [2.0, 4.0])
    assert measured.cells() == ["ours", "measured", "0.8000 ± 0.0000", "0.9100 ± 0.0141", "20", "3.0"]
    assert Row("theirs", [0.94, 0.95], published=True).cells() == ["theirs", "published", "", "0.940 to 0.950", "", ""]
    assert len(measured.cells()) == len(COLUMNS)


def test_interleave_takes_the_steps_in_turn_and_leaves_the_warmup_out():
    calls = []
    seconds = interleave({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3, warmup=1)
    assert calls == ["a", "b"] * 4
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}
    assert all(time >= 0 for times in seconds.values() for time in times)
    with pytest.raises(ValueError, match="'rounds' must be at least 1"):
        interleave({}, 0)


def test_environment_can_be_written_as_json():
    place = json.loads(json.dumps(environment()))
    assert place["cores"] >= 1
    assert place["threads"] >= 1
    assert {"torch", "python", "hyperlearn_pyg"} <= place["versions"].keys()


def test_markdown_table_has_a_line_a_row():
    text = markdown_table(["a", "b"], [["1", "x|y"]])
    assert text == "| a | b |\n| --- | --- |\n| 1 | x\\|y |\n"


def test_results_are_dated_whole_and_replaced_by_a_later_run(tmp_path):
    for score in (1.0, 2.0):
        paths = write_results("tiny", {"rows": [Row("one", [score], extra={"k": 1})]}, "text\n", folder=tmp_path / "r")
    today = datetime.date.today().isoformat()
    assert [p.name for p in paths] == [f"{today}-tiny.json", f"{today}-tiny.md"]
    assert sorted(p.name for p in paths) == sorted(p.name for p in (tmp_path / "r").iterdir())
    content = json.loads(paths[0].read_text(encoding="utf-8"))
    assert content["rows"][0]["test"] == [2.0]
    assert content["environment"]["threads"] >= 1
    assert paths[1].read_text(encoding="utf-8").startswith(f"# tiny, {today}\n")


def test_results_say_where_the_run_started(tmp_path):
    place = {**environment(), "revision": "abc1234"}
    paths = write_results("tiny", {}, "", place=place, folder=tmp_path)
    assert json.loads(paths[0].read_text(encoding="utf-8"))["environment"]["revision"] == "abc1234"
    assert "Revision abc1234" in paths[1].read_text(encoding="utf-8")


def test_what_is_not_json_is_refused_and_leaves_nothing_behind(tmp_path):
    with pytest.raises(TypeError, match="cannot be written as JSON"):
        write_results("tiny", {"rows": object()}, "", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_table_is_printed(capsys):
    print_table("title", COLUMNS, [Row("model", [0.5]).cells()])
    shown = capsys.readouterr().out
    assert "title" in shown
    assert "0.5000" in shown


def test_results_lie_beside_the_scripts():
    assert harness.RESULTS.parent.name == "benchmarks"
