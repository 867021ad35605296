"""Which utterances the parts of the mini world's corpus are."""

from collections import Counter

import pytest

from rrpo.emotions import EMOTIONS
from rrpo.mini.text import SPEAKERS
from rrpo_world.corpus import BASE_VOICE, PARTS, lines
from rrpo_world.sentences import split_of

SCALE = 0.05


@pytest.mark.parametrize("name", ["base", "reading", "finetune", "codec"])
def test_lines_are_a_function_of_the_seed_and_stay_in_their_split(name: str) -> None:
    rows = lines(name, 3, SCALE)
    assert rows == lines(name, 3, SCALE)
    assert rows != lines(name, 4, SCALE)
    assert {split_of(row.text) for row in rows} == {PARTS[name].split}
    assert len({row.id for row in rows}) == len(rows)
    low, high = PARTS[name].intensity
    assert all(low <= row.intensity <= high for row in rows)


def test_weak_speech_says_each_sentence_neutrally_and_once_otherwise() -> None:
    rows = lines("base", 0, SCALE)
    for plain, acted in zip(rows[::2], rows[1::2], strict=True):
        assert (plain.text, plain.emotion) == (acted.text, "neutral")
        assert acted.emotion in EMOTIONS[1:]


def test_reading_says_other_sentences_once_each_half_of_them_neutrally() -> None:
    rows = lines("reading", 0, 0.25)
    assert len({row.text for row in rows}) == len(rows) == 2000
    neutral = sum(row.emotion == "neutral" for row in rows)
    assert 900 < neutral < 1100
    assert set(Counter(row.emotion for row in rows)) == set(EMOTIONS)
    voices = Counter(row.voice for row in rows)
    assert set(voices) == {BASE_VOICE, *SPEAKERS}
    assert 1400 < voices[BASE_VOICE] < 1600
    known = {row.text for row in lines("base", 0)}
    assert sum(row.text in known for row in rows) < 0.1 * len(rows)
