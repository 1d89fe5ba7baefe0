from __future__ import annotations

import pytest
import torch

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.experiments import wikipedia
from hyperlearn_pyg.nn import HyperLearn


def pairs(count: int = 60) -> MultiModalHeteroData:
    """Make pairs of three categories, which the features nearly tell."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(count) % 3
    data = MultiModalHeteroData()
    for name, width in (("image", 5), ("text", 4)):
        means = torch.randn(3, width, generator=generator)
        x = means[y] + 0.1 * torch.randn(count, width, generator=generator)
        data.add_modality(name, x=x.double(), y=y)
    data.add_modality("category", num_nodes=3)
    test = torch.arange(count) >= count - 12
    masks = {"train_mask": ~test, "test_mask": test}
    index = torch.stack([torch.arange(count), torch.arange(count), y])
    data.add_hyperedges("pair", index, modalities=("image", "text", "category"), **masks)
    for slot, name in enumerate(("image", "text")):
        data.add_hyperedges(f"{name} is of", index[[slot, 2]], modalities=(name, "category"), **masks)
    return data


def model_of(data: MultiModalHeteroData, relations: tuple[str, ...], decoder: str) -> HyperLearn:
    torch.manual_seed(0)
    return HyperLearn.from_data(
        data, 4, "links", relations=relations, decoder=decoder, encoders=wikipedia._encoders(data, 4)
    )


@pytest.mark.parametrize("decoder", ["pairwise", "cp"])
@pytest.mark.parametrize("relations", [("pair",), ("image is of", "text is of"), ("pair", "image is of", "text is of")])
def test_the_probabilities_of_a_side_are_those_of_the_mean_over_the_other(relations, decoder):
    data = pairs(9)
    model = model_of(data, relations, decoder).double().eval()
    with torch.no_grad():
        factors = model(data)
        for slot, side in enumerate(("image", "text")):
            found = wikipedia.category_scores(model, factors, side)
            if len(relations) == 1:
                every = torch.cartesian_prod(*(torch.arange(n) for n in (9, 9, 3))).t()
                dense = model.score("pair", factors, every).view(9, 9, 3).mean(1 - slot)
            else:
                every = torch.cartesian_prod(torch.arange(9), torch.arange(3)).t()
                dense = model.score(f"{side} is of", factors, every).view(9, 3)
            torch.testing.assert_close(found, dense.log_softmax(1))


def test_an_item_is_held_out_of_all_relations_at_once():
    data = wikipedia._split(pairs(), seed=3)
    val = data["pair"].val_mask
    assert 0 < int(val.sum()) < 12
    for name in data.hyperedge_types:
        assert torch.equal(data[name].val_mask, val)
        assert not (data[name].train_mask & val).any()
        assert not (data[name].test_mask & (val | data[name].train_mask)).any()


def test_the_floors_find_what_the_features_tell():
    data = wikipedia._split(pairs(), seed=0)
    found = wikipedia._regression(data, "image", (0.1, 10.0))
    assert torch.equal(found.argmax(1), data["image"].y)
    torch.testing.assert_close(found.sum(1), torch.zeros(60, dtype=torch.float64), atol=1e-12, rtol=0)
    perfect = torch.nn.functional.one_hot(data["image"].y).double()
    assert wikipedia._both_ways(data, {"image": perfect, "text": perfect}) == {
        "image to text": 1.0,
        "text to image": 1.0,
        "mean": 1.0,
    }
