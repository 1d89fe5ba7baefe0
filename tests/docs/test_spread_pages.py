"""The scripts of the pages about several devices print one loss in one process and under torchrun."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOW_TO = ROOT / "docs" / "how-to"
SCRIPTS = [
    ("spread-your-own-model.md", "own_model.py", (1, 2, 4)),
    ("spread-over-devices.md", "train.py", (1, 3)),
    ("spread-over-devices.md", "by_modality.py", (2,)),
]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT)}


def script(page: str, name: str) -> str:
    found = re.search(rf"^% file: {name}\n```python\n(.*?)^```", (HOW_TO / page).read_text(), flags=re.DOTALL | re.M)
    assert found is not None, f"{page} holds no block with the remark 'file: {name}'"
    return found[1]


def last_number(path: Path, ranks: int) -> float:
    """Run a script; return the number that its last line ends with."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node"]
    command = [sys.executable, *([*launcher, str(ranks)] if ranks > 1 else []), str(path)]
    ended = subprocess.run(
        command, env=ENVIRONMENT, cwd=path.parent, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return float(ended.stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(("page", "name", "worlds"), SCRIPTS, ids=[name for _, name, _ in SCRIPTS])
def test_script_prints_the_same_on_any_number_of_ranks(
    page: str, name: str, worlds: tuple[int, ...], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(script(page, name))
    found = {ranks: last_number(path, ranks) for ranks in worlds}
    assert len({round(value, 4) for value in found.values()}) == 1, found


def test_the_model_of_the_page_is_short() -> None:
    text = script("spread-your-own-model.md", "own_model.py")
    start, end = text.index("class Recommender"), text.index("def make_data")
    assert text[start:end].strip().count("\n") < 30
