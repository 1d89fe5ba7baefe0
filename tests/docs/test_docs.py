"""Run the code of the README, the tutorials and the how-to pages.

All blocks of a page run in order in one temporary directory: ``python`` blocks in one namespace; ``console`` and
``bash`` blocks whose first line starts with ``$ hyperlearn``, line by line. Above a fence may stand a remark, ``% ...``
in MyST or ``<!-- ... -->``: ``no-test`` keeps the block out, ``file: NAME`` writes it to a file. The front matter of a
page may say ``needs-data: NAME`` (several by commas), and the page is skipped where that data is absent, or
``slow: true``. In a page that needs data, the environment variable ``HYPERLEARN_DATA`` names the folder that holds it,
and ``ml-100k`` stands below the directory. The configs of the how-to pages are copied to ``configs``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from hyperlearn_pyg.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("docs/tutorials/*.md")), *sorted(ROOT.glob("docs/how-to/*.md"))]


@dataclass
class Block:
    language: str
    comment: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        name = re.fullmatch(r"file:\s*(\S+)", self.comment)
        return name and name[1]

    @property
    def runs(self) -> bool:
        if self.comment == "no-test":
            return False
        shell = self.language in {"console", "bash"} and self.text.startswith("$ hyperlearn")
        return shell or self.language == "python" or self.file is not None


def front_matter(text: str) -> dict[str, str]:
    found = re.match(r"---\n(.*?)\n---\n", text, flags=re.DOTALL)
    return dict(re.findall(r"^([\w-]+):[ \t]*(.*?)[ \t]*$", found[1], flags=re.MULTILINE)) if found else {}


def blocks(text: str) -> list[Block]:
    """Collect the fenced blocks of a page; ``line`` is the number of the first line within."""
    found, comment, lines = [], "", text.split("\n")
    i = 0
    while i < len(lines):
        fence = re.match(r"( *)(`{3,})(\S*)\s*$", lines[i])
        if fence:
            indent, ticks, language = fence.groups()
            close = next(j for j in range(i + 1, len(lines)) if lines[j].strip() == ticks)
            body = [line.removeprefix(indent) for line in lines[i + 1 : close]]
            found.append(Block(language, comment, "\n".join(body) + "\n", i + 2))
            i = close
        remark = re.match(r"(?:%\s*(.*?)|<!--\s*(.*?)\s*-->)\s*$", lines[i])
        if remark or fence or lines[i].strip():
            comment = (remark[1] or remark[2] or "") if remark else ""
        i += 1
    return found


def shell_commands(text: str) -> list[str]:
    """Take the lines after ``$``, joined where they end in a backslash; the rest is output."""
    return [m[1] for m in re.finditer(r"^\$ ((?:[^\n]*\\\n)*[^\n]*)", text, flags=re.MULTILINE)]


def run_shell(command: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0, f"$ {command}\n{done.stdout}\n{done.stderr}"


def run_page(page: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page.read_text(encoding="utf-8")):
        if not block.runs:
            continue
        if block.file:
            Path(block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            # Empty lines in front, so that a traceback names the line of the page.
            exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), namespace)
        else:
            for command in shell_commands(block.text):
                run_shell(command)


def as_parameter(page: Path) -> Any:
    slow = front_matter(page.read_text(encoding="utf-8")).get("slow") == "true"
    marks = [pytest.mark.slow] if slow else []
    return pytest.param(page, marks=marks, id=str(page.relative_to(ROOT)))


@pytest.mark.parametrize("page", [as_parameter(page) for page in PAGES])
def test_page(page: Path, data_dir: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = front_matter(page.read_text(encoding="utf-8")).get("needs-data", "")
    for name in filter(None, re.split(r"[,\s]+", needs)):
        monkeypatch.setenv("HYPERLEARN_DATA", str(data_dir(name).parent.resolve()))
        if name == "ml-100k":  # as if it had been downloaded
            (tmp_path / name / "raw").mkdir(parents=True)
            for file in data_dir(name).iterdir():
                (tmp_path / name / "raw" / file.name).symlink_to(file.resolve())
    shutil.copytree(ROOT / "docs" / "how-to" / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    run_page(page)


def test_readme_prints_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(ROOT / "README.md")
    float(capsys.readouterr().out.split()[-1])


def test_every_command_and_option_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    program = typer.main.get_command(app)
    assert isinstance(program, TyperGroup)
    assert [section.split()[1] for section in sections] == list(program.commands)
    for section, command in zip(sections, program.commands.values(), strict=True):
        options = {word for parameter in command.params for word in parameter.opts if word.startswith("-")}
        assert options - {"--help", "-h"} == set(re.findall(r"`(--?[\w-]+)", section.split("The directory then")[0]))


EXAMPLE = """---
needs-data: one, two
slow: true
---
% file: a.txt
```text
hello
```
```python
x = 1
```
% no-test
```python
raise RuntimeError
```
<!-- no-test -->

```python
raise RuntimeError
```
1. A list:

   ```python
   from pathlib import Path
   assert Path("a.txt").read_text().strip() == "hello"
   print(x + 1)
   ```
```console
$ hyperlearn --not-run
```
```bash
$ not ours
```
"""


def test_blocks_are_found() -> None:
    assert front_matter(EXAMPLE) == {"needs-data": "one, two", "slow": "true"}
    assert front_matter("no front matter") == {}
    found = blocks(EXAMPLE)
    assert [block.runs for block in found] == [True, True, False, False, True, True, False]
    lines = EXAMPLE.split("\n")
    for block in found:
        assert lines[block.line - 1].strip() == block.text.split("\n")[0].strip()


def test_blocks_run_in_one_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(EXAMPLE.replace("$ hyperlearn --not-run", "$ not ours"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    run_page(page)
    assert capsys.readouterr().out == "2\n"


def test_a_failure_names_page_and_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```python\n\n1 / 0\n```\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZeroDivisionError) as error:
        run_page(page)
    assert (str(error.traceback[-1].path), error.traceback[-1].lineno + 1) == (str(page), 5)


def test_shell_commands() -> None:
    text = "$ hyperlearn fit \\\n    --rank 3\noutput\n$ cat x\n"
    assert shell_commands(text) == ["hyperlearn fit \\\n    --rank 3", "cat x"]
    run_shell("true && echo")
    with pytest.raises(AssertionError, match=r"\$ false"):
        run_shell("false")
