from __future__ import annotations

from hyperlearn_pyg.errors import InputError, did_you_mean


def test_input_error_is_a_value_error():
    assert issubclass(InputError, ValueError)


def test_did_you_mean():
    assert did_you_mean("ratng", ["user", "rating"]) == " Did you mean 'rating'?"
    assert did_you_mean("xyz", ["user", "rating"]) == ""
    assert did_you_mean("x", []) == ""
    assert did_you_mean("Nyc", ("NYC", "Jakarta")) == " Did you mean 'NYC'?"
    assert did_you_mean("Xy", ["xy", "XY", "Xy"]) == " Did you mean 'Xy'?"
    assert did_you_mean("rating", iter(["rating"])) == " Did you mean 'rating'?"
