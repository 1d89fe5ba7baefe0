from __future__ import annotations

import json
import math
import re
import runpy
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch_geometric.nn as pyg_nn

from hyperlearn_pyg import HyperLearn
from hyperlearn_pyg.distributed import _checkpoint_files as disk
from hyperlearn_pyg.distributed import checkpoint
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.training import FitResult, TrainConfig, fit
from hyperlearn_pyg.training.progress import Progress
from hyperlearn_pyg.training.state import (
    STATE_FOLDER,
    Position,
    has_state,
    pack_extra,
    prune_states,
    read_state,
    split_name,
)

runs = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("runs.py"))))
alike, make_data, make_model, run = runs.alike, runs.make_data, runs.make_model, runs.run
PART = "part-00000-of-00001.pt"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[HyperLearn, FitResult]]:
    """An undisturbed run and its directory, not to be changed."""
    out = tmp_path_factory.mktemp("whole")
    return out, run(make_data(), out=out)


@pytest.fixture
def out(whole: tuple[Path, Any], tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole[0], tmp_path / "out"))


def newest(out: Path) -> Path:
    return checkpoint.committed(out / STATE_FOLDER)[0]


def flip(path: Path, at: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 4
    path.write_bytes(content)


class TestForm:
    def test_values_that_json_does_not_know(self) -> None:
        model = make_model(make_data())
        history = [{"val_rates_auc": math.nan, "loss": -math.inf, "epoch": 1}]
        validation = {"relations": {"float": {"float": math.inf}}}
        before = Position(phase=1, epoch_loss=[0.1, math.nan], result=FitResult(history, validation=validation))
        text = json.dumps(pack_extra(before, model, runs.CONFIG), allow_nan=False)
        head = checkpoint.Checkpoint(Path("c"), 1, {}, {}, json.loads(text))
        only = SimpleNamespace(load_latest=lambda *_: head, world_size=1, saved_as=lambda _: ("", ""))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoint, "names", lambda _: [])
            patch.setattr(checkpoint, "load", lambda *_, **__: head)
            after = read_state(Path("o"), model, runs.CONFIG, only).position  # type: ignore[arg-type]
        assert repr(after) == repr(before)
        assert repr(after.result.history) == repr(history)

    def test_names(self, whole: tuple[Path, Any]) -> None:
        found = checkpoint.load(newest(whole[0]))
        model = make_model(make_data())
        own, learnt = set(model.state_dict()), {name for name, _ in model.named_parameters()}
        groups: dict[str, set[str]] = {"": set(), "average": set(), "best": set(), "initial": set()}
        for name in found.tensors:
            groups[split_name(name)[0]].add(split_name(name)[1])
        assert groups == {"": own, "average": learnt, "best": own, "initial": own}
        assert found.optimizer.keys() == learnt

    def test_it_loads_as_weights(self, whole: tuple[Path, Any]) -> None:
        model = make_model(make_data())
        found = checkpoint.load_latest(whole[0] / STATE_FOLDER, model.state_dict())
        assert found is not None
        model.load_state_dict(found.tensors)

    def test_the_step_counts_all_optimizer_steps(self, whole: tuple[Path, Any]) -> None:
        found = checkpoint.load(newest(whole[0]))
        assert found.step == found.extra["position"]["total_steps"] == len(found.extra["position"]["step_seconds"])
        assert found.step > len(found.extra["position"]["result"]["history"])  # several steps an epoch

    def test_before_the_first_evaluation(self, tmp_path: Path) -> None:
        config = runs.CONFIG.replace(epochs=0)
        first = run(make_data(), config, out=tmp_path)
        assert newest(tmp_path).name == "save-00001-step-00000000"
        assert json.loads((newest(tmp_path) / "manifest.json").read_text())["extra"]["position"]["best_score"] == {
            "float": "inf"
        }
        assert alike(run(make_data(), config, out=tmp_path, resume=True), first)


class TestKept:
    def test_the_last_two(self, whole: tuple[Path, Any]) -> None:
        assert len(list((whole[0] / STATE_FOLDER).iterdir())) == 2

    def test_asking_and_pruning(self, out: Path, tmp_path: Path) -> None:
        assert has_state(out)
        last = newest(out)
        prune_states(out, 1)
        assert checkpoint.committed(out / STATE_FOLDER) == [last]
        (last / "COMMIT").unlink()
        assert not has_state(out)
        assert not has_state(tmp_path / "none")

    def test_a_fresh_run_never_falls_back_to_the_one_before(self, out: Path) -> None:
        before = {path.name for path in (out / STATE_FOLDER).iterdir()}
        run(make_data(), runs.CONFIG.replace(epochs=1, refit=False, checkpoint_every=9), out=out)
        after = {path.name for path in (out / STATE_FOLDER).iterdir()}
        assert (len(before), len(after)) == (2, 1)
        assert not before & after


class TestDamage:
    @pytest.mark.parametrize("name", [PART, "manifest.json", "COMMIT"])
    @pytest.mark.parametrize("at", [0.0, 0.3, 0.99])
    def test_flipped_bits(self, whole: tuple[Path, Any], out: Path, name: str, at: float) -> None:
        bad = newest(out)
        flip(bad / name, at)
        with pytest.warns(UserWarning, match=f"checkpoint left out: .*{bad.name}") as caught:
            result = run(make_data(), out=out, resume=True)
        assert len(caught) == 1
        assert name in str(caught[0].message)
        assert alike(result, whole[1])
        assert newest(out) != bad
        assert alike(run(make_data(), out=out, resume=True), whole[1])  # the new one is intact

    def test_damage_in_the_middle_of_the_run(
        self, whole: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[Any] = []

        def update(self: Progress, row: Any, total: int) -> None:
            seen.append(row)
            if len(seen) == 6:
                raise InterruptedError

        with monkeypatch.context() as patch:
            patch.setattr(Progress, "update", update)
            with pytest.raises(InterruptedError):
                run(make_data(), out=tmp_path)
        steps = checkpoint.load(newest(tmp_path)).step
        flip(newest(tmp_path) / PART, 0.5)
        with pytest.warns(UserWarning, match=PART):
            assert alike(run(make_data(), out=tmp_path, resume=True), whole[1])
        assert 0 < steps < checkpoint.load(newest(tmp_path)).step

    def test_none_is_intact(self, out: Path) -> None:
        for path in checkpoint.committed(out / STATE_FOLDER):
            flip(path / PART, 0.5)
        with (
            pytest.warns(UserWarning, match="left out"),
            pytest.raises(InputError, match=rf"no checkpoint is intact.*{newest(out).name}/{PART}"),
        ):
            run(make_data(), out=out, resume=True)

    def test_never_committed(self, out: Path) -> None:
        for path in checkpoint.committed(out / STATE_FOLDER):
            (path / "COMMIT").unlink()
        with pytest.warns(UserWarning, match="no COMMIT"), pytest.raises(InputError, match="nothing to resume"):
            run(make_data(), out=out, resume=True)


class TestRefused:
    @pytest.mark.parametrize(
        ("extra", "expected"),
        [({}, "is no training state of hyperlearn_pyg"), ({"format": 99}, "has format 99, expected 1")],
    )
    def test_a_foreign_or_newer_one(self, out: Path, extra: dict[str, Any], expected: str) -> None:
        found = checkpoint.load(newest(out))
        checkpoint.save(out / STATE_FOLDER, 1, found.tensors, extra={**found.extra, **extra} if extra else {})
        with pytest.raises(InputError, match=f"{newest(out).name}' {expected}"):
            run(make_data(), out=out, resume=True)

    @pytest.mark.parametrize(("layers", "reason"), [(1, "Unexpected key"), (3, "Missing key")])
    def test_an_encoder_of_other_layers(self, tmp_path: Path, layers: int, reason: str) -> None:
        data = make_data()
        config = runs.CONFIG.replace(epochs=1)

        def model(layers: int) -> HyperLearn:
            mlp = pyg_nn.MLP([4] + [5] * (layers - 1) + [3])
            return make_model(data, encoders={"user": mlp})

        fit(model(2), data, config, out=tmp_path, progress=False)
        with pytest.raises(InputError, match=rf"the training state in '.*' is that of another model: (?s:.*){reason}"):
            fit(model(layers), data, config, out=tmp_path, resume=True, progress=False)

    def test_other_relations(self, out: Path) -> None:
        data = make_data()
        del data["tags"], data["user", "member", "tags"], data["item", "member", "tags"], data["tag", "member", "tags"]
        with pytest.raises(InputError, match=r"is that of another model: its relation 'tags' is {.*}, that of .* None"):
            run(data, out=out, resume=True)


class TestFullDisk:
    @pytest.fixture
    def full(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[str]]:
        """Let the ``number``-th part find no space."""

        def begin(number: int) -> list[str]:
            write, seen = disk.write_part, list[str]()

            def part(directory: Path, *args: Any) -> None:
                seen.append(directory.name)
                if len(seen) == number:
                    raise OSError(28, "No space left on device", str(directory / PART))
                write(directory, *args)

            monkeypatch.setattr(disk, "write_part", part)
            return seen

        return begin

    @pytest.mark.parametrize("number", [2, 5, 7])  # the last is the one at the end
    def test_the_fault_comes_as_it_is_and_the_run_can_go_on(
        self, whole: tuple[Path, Any], tmp_path: Path, full: Callable[[int], list[str]], number: int
    ) -> None:
        assert newest(whole[0]).name.startswith("save-00007")
        seen = full(number)
        with pytest.raises(OSError, match=re.escape(f"No space left on device: '{tmp_path}")):
            run(make_data(), out=tmp_path)
        assert len(seen) == number  # nothing was saved after it
        assert seen[-1] not in {path.name for path in (tmp_path / STATE_FOLDER).iterdir()}
        assert alike(run(make_data(), out=tmp_path, resume=True), whole[1])

    def test_the_first_error_is_not_hidden(
        self, tmp_path: Path, full: Callable[[int], list[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen, loss, factors = full(1), HyperLearn.loss, iter([1.0, math.nan])
        monkeypatch.setattr(HyperLearn, "loss", lambda *args, **kwargs: loss(*args, **kwargs) * next(factors))
        with (
            pytest.warns(UserWarning, match=r"the last checkpoint was not saved: .*No space left"),
            pytest.raises(InputError, match="the loss became nan in epoch 2"),
        ):
            run(make_data(), TrainConfig(epochs=3, checkpoint_every=1, device="cpu"), out=tmp_path)
        assert len(seen) == 1

    def test_all_is_written_when_fit_ends(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write, threads = disk.write_part, list[str]()

        def slowly(*args: Any) -> None:
            time.sleep(0.1)
            threads.append(threading.current_thread().name)
            write(*args)

        monkeypatch.setattr(disk, "write_part", slowly)
        run(make_data(), runs.CONFIG.replace(epochs=1), out=tmp_path)
        assert threads[-1] == f"save of {newest(tmp_path).name}"  # beside the training
