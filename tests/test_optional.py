from __future__ import annotations

import json

import pytest

from hyperlearn_pyg import _optional


def test_what_is_there_is_imported():
    assert _optional.available("json")
    assert _optional.require("json") is json


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("torch_scatter", "pip install -c constraints.txt '.[accel]' (in the clone)"),
        ("no_such_package", "pip install no_such_package"),
    ],
)
def test_what_is_missing_says_how_to_install_it(monkeypatch, name, how):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert not _optional.available(name)
    with pytest.raises(ImportError) as error:
        _optional.require(name)
    assert str(error.value) == f"'{name}' is needed here and not installed. Install it with: {how}"
