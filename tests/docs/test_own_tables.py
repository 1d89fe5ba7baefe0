"""What the page on own tables shows is what the program writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hyperlearn_pyg.data.init_config import write_config
from hyperlearn_pyg.data.tables import read_tables
from hyperlearn_pyg.errors import InputError

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "own-tables.md").read_text(encoding="utf-8")


def shown(remark: str) -> list[str]:
    return re.findall(rf"^% {remark}\n```\w+\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def drafted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    for name, text in re.findall(r"^% file: (\S+)\n```text\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL):
        Path(name).write_text(text, encoding="utf-8")
    write_config(["readers.csv", "books.csv", "ratings.csv"], "books.toml")
    return Path("books.toml").read_text(encoding="utf-8")


def test_config_shown_is_the_one_drafted(drafted: str) -> None:
    (block,) = shown("drafted")
    written = iter(drafted.splitlines())  # looked through once: the order counts as well
    assert [line for line in block.splitlines() if line and line not in written] == []


def test_columns_to_uncomment_are_those_left_out(drafted: str) -> None:
    left_out = re.findall(r"^# (\w+) = .*# left out", drafted, flags=re.MULTILINE)
    assert left_out == ["city", "genres"]
    (mended,) = re.findall(r"^```toml\n(\[modality\.reader\.features\].*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    features = r"\[modality\.(\w+)\.features\]\n((?:.+\n)+)"
    blocks = dict(re.findall(features, mended))
    Path("books.toml").write_text(
        re.sub(features, lambda m: f"[modality.{m[1]}.features]\n{blocks[m[1]]}", drafted), encoding="utf-8"
    )
    names = read_tables("books.toml").feature_names
    assert [name for name in names["reader"] if name.startswith("city=")]
    assert "genres=crime" in names["book"]


def test_error_shown_is_the_one_printed(drafted: str) -> None:
    (line,) = re.findall(r"^% printed for: (.*)$", PAGE, flags=re.MULTILINE)
    (block,) = shown(f"printed for: {re.escape(line)}")
    table = Path("ratings.csv").read_text(encoding="utf-8")
    start = line.rpartition(",")[0]
    Path("ratings.csv").write_text(re.sub(rf"^{start},.*$", line, table, flags=re.MULTILINE), encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_tables("books.toml")
    assert block == f"error: {error.value}\n"


@pytest.mark.parametrize("content", [b"PK\x03\x04\r\x00a\xff\n", b"", b"id,name\n1,a\n", bytes(range(256)) * 600])
@pytest.mark.parametrize("suffix", [".xlsx", ".XLS", ".ods"])
def test_a_spreadsheet_is_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    (tmp_path / f"books{suffix}").write_bytes(content)
    with pytest.raises(InputError, match="save its table as CSV"):
        write_config([tmp_path / f"books{suffix}"], tmp_path / "books.toml")
