from __future__ import annotations

from typing import Any

import pytest
import torch
import torch_geometric.transforms as T

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.transforms import NormalizeFeatures, normalize_features


def items(x: torch.Tensor) -> MultiModalHeteroData:
    data = MultiModalHeteroData().add_modality("a", x=x).add_modality("b", num_nodes=2)
    return data.add_hyperedges("s", {"a": [], "b": []})


def features(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[2] = 0
    return x.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rows(dtype: torch.dtype) -> None:
    x = features(dtype)
    for method, norm in (("row", 1), ("l2", 2)):
        out = NormalizeFeatures(method)(items(x))["a"].x
        assert out.dtype == dtype
        length = out.double().norm(p=norm, dim=1)
        ones = torch.ones(6, dtype=torch.float64).index_fill(0, torch.tensor([2]), 0)
        torch.testing.assert_close(length, ones, atol=2e-2 if dtype == torch.bfloat16 else 1e-6, rtol=0)
    assert torch.equal(x, features(dtype))


def test_rows_agree_with_pyg_where_its_shift_is_none() -> None:
    x = torch.tensor([[2.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 5.0, 2.0]])
    torch.testing.assert_close(NormalizeFeatures("row")(items(x))["a"].x, T.NormalizeFeatures()(items(x))["a"].x)


@pytest.mark.parametrize("method", ["row", "l2"])
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_sparse_rows(method: str, layout: torch.layout) -> None:
    x = features().relu()
    out = NormalizeFeatures(method)(items(x.to_sparse(layout=layout)))["a"].x
    assert out.layout == layout
    torch.testing.assert_close(out.to_dense(), NormalizeFeatures(method)(items(x))["a"].x)


def test_statistics_of_the_training_items_only() -> None:
    x = features(torch.float64)
    x[:, 1] = 4096.1
    data = items(x)
    data["a"].train_mask = torch.tensor([True, True, True, True, False, False])
    out = NormalizeFeatures(mask="train_mask")(data)["a"].x
    torch.testing.assert_close(out[:4, ::2].mean(dim=0), torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(out[:4, ::2].std(dim=0, correction=0), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(out[:, 1], torch.zeros(6, dtype=torch.float64))
    data["a"].x = x.clone()
    data["a"].x[4:] = 100
    assert torch.equal(NormalizeFeatures(mask="train_mask")(data)["a"].x[:4], out[:4])
    every = NormalizeFeatures()(items(x))["a"].x
    torch.testing.assert_close(every.mean(dim=0), torch.zeros(3, dtype=torch.float64))
    assert not torch.equal(every, out)


@pytest.mark.parametrize("method", ["row", "l2", "standardize"])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    data = items(features(torch.float64))
    data["a"].train_mask = torch.arange(6) < 4
    whole = NormalizeFeatures(method, mask="train_mask")(data)["a"].x
    monkeypatch.setattr(normalize_features, "_BLOCK", 7)
    torch.testing.assert_close(NormalizeFeatures(method, mask="train_mask")(data)["a"].x, whole)


def test_a_method_a_modality() -> None:
    data = items(features())
    data["b"].x = torch.full((2, 2), 3.0)
    out = NormalizeFeatures({"a": "l2"})(data)
    assert out["b"].x is data["b"].x
    out = NormalizeFeatures({"a": "l2", "b": "row"})(data)
    assert out["b"].x.eq(0.5).all()
    data["a"].code = torch.tensor([[1], [2], [3], [4], [5], [6]])
    assert NormalizeFeatures("row", attr="code")(data)["a"].code.eq(1).all()


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("method", ["row", "l2", "standardize"])
def test_small_sizes(size: int, method: str) -> None:
    data = items(torch.full((size, 2), 3.0))
    data["a"].train_mask = torch.ones(size, dtype=torch.bool)
    out = NormalizeFeatures(method, mask="train_mask")(data)
    assert out["a"].x.shape == (size, 2)
    assert out.validate()
    assert NormalizeFeatures(method)(items(torch.ones(size, 0)))["a"].x.shape == (size, 0)


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        (("l1",), {}, "'method' must be one of .*got 'l1'"),
        (({"a": "rows"},), {}, "'method' must be one of .*Did you mean 'row'"),
        (({"z": "row"},), {}, "no modality 'z'"),
        (({"b": "row"},), {}, "modality 'b' has no features 'x'"),
        ((), {"mask": "ten"}, r"'ten' of modality 'a' must be bool of shape \[6\] \(got torch.bool \[6, 10\]\)"),
        ((), {"mask": "item_id"}, r"'item_id' of modality 'a' must be bool of shape \[6\] \(got list\)"),
        ((), {"mask": "none"}, "'none' of modality 'a' names no item"),
    ],
)
def test_bad_arguments(args: tuple[Any, ...], kwargs: dict[str, Any], text: str) -> None:
    data = items(features())
    data["a"].ten, data["a"].item_id = torch.ones(6, 10, dtype=torch.bool), list("abcdef")
    data["a"].none = torch.zeros(6, dtype=torch.bool)
    with pytest.raises(ValueError, match=text):
        NormalizeFeatures(*args, **kwargs)(data)


def test_repr() -> None:
    assert repr(NormalizeFeatures()) == "NormalizeFeatures('standardize')"
    assert repr(NormalizeFeatures("l2", mask="m")) == "NormalizeFeatures('l2', mask='m')"
