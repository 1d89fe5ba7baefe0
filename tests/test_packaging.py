from __future__ import annotations

import re
import stat
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import hyperlearn_pyg

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def requirements(path: str) -> list[Requirement]:
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_readme_shows_code_within_twenty_lines() -> None:
    top = README.split("\n")[:20]
    start = top.index("```python")
    assert "print(" in "\n".join(top[start : top.index("```", start)])


def test_readme_has_two_set_up_commands_from_nothing() -> None:
    commands = [line for line in README.split("\n") if "pip install" in line]
    start = "python3 -m venv .venv && . .venv/bin/activate && pip install -c constraints.txt "
    assert commands == [
        f"{start}. && hyperlearn fit synthetic --out runs/first",
        f"{start}-e '.[dev]' && pytest -m \"not slow\"",
    ]


def test_ci_takes_the_second_command_from_the_readme() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    pattern = re.search(r"grep -E '(.*)' README\.md", script.read_text(encoding="utf-8"))
    assert pattern is not None
    found = [line for line in README.split("\n") if re.search(pattern[1], line)]
    assert found == [line for line in README.split("\n") if "pip install" in line][1:]


def test_paths_named_in_readme_exist() -> None:
    links = re.findall(r"\]\(([^):]+)\)", README)
    listed = re.findall(r"`((?:hyperlearn_pyg|benchmarks|docs|tests)/[\w./-]*)`", README)
    assert links
    assert listed
    assert [name for name in [*links, *listed] if not (ROOT / name).exists()] == []


def test_every_direct_dependency_is_pinned_within_its_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [Requirement(line) for line in [*project["dependencies"], *extras["docs"], *extras["dev"], *extras["viz"]]]
    pins = {canonicalize_name(pin.name): next(iter(pin.specifier)) for pin in requirements("constraints.txt")}
    for need in wanted:
        if need.name == project["name"] or (need.marker and not need.marker.evaluate()):
            continue
        pin = pins[canonicalize_name(need.name)]
        assert pin.operator == "=="
        assert need.specifier.contains(pin.version, prereleases=True), f"{need} against {pin}"


def test_pins_have_no_local_version() -> None:
    assert not [str(pin) for pin in requirements("constraints.txt") if "+" in str(pin.specifier)]


def test_setup_cfg_holds_the_layers_only() -> None:
    sections = re.findall(r"^\[(.*)\]", (ROOT / "setup.cfg").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sections
    assert all(section.startswith("importlinter") for section in sections)


def test_changelog_starts_with_this_version() -> None:
    versions = re.findall(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert versions[0] == hyperlearn_pyg.__version__


@pytest.mark.parametrize("name", ["CITATION.cff", ".pre-commit-config.yaml"])
def test_yaml_files_parse(name: str) -> None:
    assert yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_citation_names_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["references"][0]["doi"] == "10.1145/3343031.3350572"


def test_pre_commit_hooks_are_local() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert {repo["repo"] for repo in config["repos"]} == {"local"}
