"""Words of artworks: the encoder and the floor, against loops."""

from __future__ import annotations

from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from hyperlearn_pyg import HyperLearn, MultiModalHeteroData
from hyperlearn_pyg.experiments.measures import Attribution
from hyperlearn_pyg.experiments.words import (
    WORDS,
    NaiveBayes,
    Silent,
    WordBayes,
    WordCounts,
    WordEncoder,
    word_weights,
)
from hyperlearn_pyg.nn import FeatureCounts, PairCounts
from hyperlearn_pyg.training import TrainConfig, fit


def make_data(seed: int = 0, count: int = 30) -> MultiModalHeteroData:
    """Artworks whose title names their artist now and then."""
    generator = torch.Generator().manual_seed(seed)
    data = MultiModalHeteroData().add_modality("artwork", num_nodes=count)
    data.add_modality("artist", num_nodes=4).add_modality("class", num_nodes=3)
    artist = torch.randint(4, (count,), generator=generator)
    data["artwork"][WORDS] = [f"word{a}" if i % 2 else f"a thing{i % 5}" for i, a in enumerate(artist.tolist())]
    index = torch.stack([torch.arange(count), artist, torch.randint(3, (count,), generator=generator)])
    part = torch.arange(count) % 5
    masks = {"train_mask": part > 1, "val_mask": part == 0, "test_mask": part == 1}
    return data.add_hyperedges("made", index, modalities=["artwork", "artist", "class"], **masks)


@given(st.integers(0, 99), st.integers(0, 6), st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=25, deadline=None)
def test_naive_bayes_equals_the_loops(seed: int, count: int, weight: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    index = torch.stack([torch.randint(n, (count,), generator=generator) for n in (3, 2)])
    words = torch.randint(3, (count, 4), generator=generator).double()
    bayes = NaiveBayes(index, (3, 2), csr_matrix(words.numpy()), 0.7, 5.0, weight)
    asked = torch.tensor([[1, 2, 0, 0]], dtype=torch.float64)  # what no entry holds is the same for all classes
    asked = asked * (words.sum(0) > 0) if count else asked * 0
    found = bayes.score(torch.tensor([[1]]), csr_matrix(asked.numpy()))[0].tolist()
    expected = []
    for c in range(3):
        mine = index[0] == c
        n = int(mine.sum())
        share = (int((index[1] == 1).sum()) + 0.1) / (count + 0.2)
        score = log(n + 1) + log((int((mine & (index[1] == 1)).sum()) + 0.7 * share) / (n + 0.7))
        for t in range(4):
            if asked[0, t]:
                p = float(words[:, t].sum() / words.sum())
                own = float(words[mine][:, t].sum())
                score += weight * float(asked[0, t]) * log((own + 5 * p) / (float(words[mine].sum()) + 5) / p)
        expected.append(score)
    assert [a - found[0] for a in found] == pytest.approx([a - expected[0] for a in expected], abs=1e-9)


def test_the_floor_finds_what_titles_tell_and_reads_no_test_answer() -> None:
    data = make_data()
    bayes = WordBayes("made", "artist", ("class",), word_smoothing=(1.0,), k=(1,), prefix="who ")
    found = bayes.floors(data, 0)["naive Bayes with words"]
    assert found.keys() == {"who mrr", "who accuracy@1"}
    assert found["who accuracy@1"] >= 0.5  # every other title names the artist
    index = data.relation("made").index.clone()
    index[1, data["made"].test_mask] = 0
    other = make_data()
    for key in ("train_mask", "val_mask", "test_mask"):
        assert torch.equal(other["made"][key], data["made"][key])
    other.remove_hyperedges("made")
    masks = {key: data["made"][key] for key in ("train_mask", "val_mask", "test_mask")}
    other.add_hyperedges("made", index, modalities=["artwork", "artist", "class"], **masks)
    first, second = (bayes._metrics(d, ("train",), "val", [(1.0, 1.0, 1.0)]) for d in (data, other))
    assert first == second


def test_the_encoder_sums_the_words_of_each_item() -> None:
    data = make_data()
    weights = word_weights(data, "artwork", "made", 0, min_df=1)
    encoder = WordEncoder(weights, 5, dropout=0.5).eval()
    expected = torch.from_numpy(weights.toarray()).float() @ encoder.weight
    torch.testing.assert_close(encoder(30), expected)
    encoder.train()
    torch.manual_seed(0)
    dropped = encoder(30)
    one_word = torch.from_numpy(weights.getnnz(1)) == 1
    rows = dropped[one_word]
    whole = torch.isclose(rows, 2 * expected[one_word]).all(1)
    assert (whole | (rows == 0).all(1)).all()  # a word is there as a whole, or not at all
    assert whole.any()
    assert not whole.all()


def test_words_of_test_items_are_no_vocabulary() -> None:
    data = make_data()
    texts = list(data["artwork"][WORDS])
    data["artwork"][WORDS] = [f"{t} secret" if i % 5 == 1 else t for i, t in enumerate(texts)]
    other = make_data()
    first, second = (word_weights(d, "artwork", "made", 0, min_df=1) for d in (data, other))
    assert first.shape == second.shape


def test_a_model_is_asked_what_it_was_trained_to_predict_alone() -> None:
    data = make_data()
    model = HyperLearn.from_data(data, 2, "links", predict={"made": ["artist"]})
    assert Attribution("made", "class", k=(1,)).score(model, data, 0) == {}
    found = Attribution("made", "artist", k=(1,), prefix="who ").score(model, data, 0)
    assert found.keys() == {"who accuracy@1", "who mrr", "who count"}
    assert Silent(3)(5).tolist() == [[0.0] * 3] * 5
    assert Silent(2, 1.0)(1).tolist() == [[1.0, 1.0]]


def test_a_count_term_reads_no_words_of_the_test_and_learns_from_the_rest() -> None:
    data, other = make_data(), make_data()
    texts = list(data["artwork"][WORDS])
    other["artwork"][WORDS] = [f"{t} secret" if i % 5 == 1 else t for i, t in enumerate(texts)]
    make = WordCounts("made", ("artist",), ("class",))
    first, second = (make(d)["made"] for d in (data, other))
    assert isinstance(first, FeatureCounts)
    assert first.pairs == ((1, 2),)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])
    model = HyperLearn.from_data(data, 2, "links", predict={"made": ["artist"]}, counts={"made": first})
    fit(model, data, TrainConfig.from_preset("links", epochs=20, lr=0.1), progress=False)
    assert first.feature_weight.item() > 0  # every other title names the artist
    pairs = WordCounts("made", ("artist",), ("class",), words=False)(data)["made"]
    assert type(pairs) is PairCounts
