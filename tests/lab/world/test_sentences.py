import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrpo.errors import UserError
from rrpo_world.sentences import LENGTHS, SPLITS, VOCABULARY, compose, split_of, words


@pytest.fixture(scope="module")
def composed() -> dict[str, list[str]]:
    """Many sentences of every split."""
    sizes = {"train": 8000, "finetune": 500, "test": 500, "judge": 500, "general": 1500}
    return {split: compose(count, 0, split) for split, count in sizes.items()}


@pytest.mark.slow
def test_enough_sentences_and_words(composed: dict[str, list[str]]) -> None:
    assert len(set(composed["train"])) == 8000
    assert len(VOCABULARY) >= 450
    assert {word for text in composed["train"] for word in words(text)} == set(VOCABULARY)


def test_splits_share_no_sentence(composed: dict[str, list[str]]) -> None:
    for first, second in itertools.combinations(composed, 2):
        lowered = {text.lower() for text in composed[first]}
        assert lowered.isdisjoint(text.lower() for text in composed[second])


def test_ranges_of_the_splits_tile_the_buckets() -> None:
    buckets = [bucket for first, end in SPLITS.values() for bucket in range(first, end)]
    assert sorted(buckets) == list(range(100))


def test_words_of_the_test_split_occur_in_a_small_train_set(
    composed: dict[str, list[str]],
) -> None:
    known = {word for text in compose(3000, 1, "train") for word in words(text)}
    assert {word for text in composed["test"] for word in words(text)} <= known


def test_form(composed: dict[str, list[str]]) -> None:
    for text in itertools.chain.from_iterable(composed.values()):
        assert text[0].isupper()
        assert text[-1] in ".?"
        assert "{" not in text
        assert "  " not in text
        assert len(words(text)) in LENGTHS
        assert set(words(text)) <= set(VOCABULARY)


def test_articles(composed: dict[str, list[str]]) -> None:
    followers: dict[str, set[str]] = {"a": set(), "an": set()}
    for text in composed["train"]:
        for article, after in itertools.pairwise(words(text)):
            if article in followers:
                followers[article].add(after)
    assert {"orange", "airport", "hour", "empty", "old"} <= followers["an"]
    assert "university" in followers["a"]
    assert followers["a"].isdisjoint(followers["an"])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(sorted(SPLITS)), st.integers(0, 12))
def test_a_longer_draw_continues_a_shorter_one(seed: int, split: str, count: int) -> None:
    texts = compose(count + 5, seed, split)
    assert compose(count, seed, split) == texts[:count]
    assert {split_of(text) for text in texts} == {split}


def test_seeds_differ() -> None:
    assert compose(20, 0, "train") != compose(20, 1, "train")


def test_mistakes() -> None:
    with pytest.raises(UserError, match="unknown split 'dev'"):
        compose(1, 0, "dev")
    with pytest.raises(UserError, match="from 0 up"):
        compose(-1, 0, "train")


def test_running_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rrpo_world.sentences.TEMPLATES", ("the cat sat down.",))
    with pytest.raises(UserError, match="fewer than 3 sentences"):
        compose(3, 0, split_of("The cat sat down."))
