"""What speakers are asked to say."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from rrpo.data.shards import Utterance
from rrpo.speaking import by_name
from rrpo.speaking.speaker import every_emotion


def test_each_text_keeps_its_language() -> None:
    """By which the words of German are not counted as wrong English."""
    said = [("Guten Tag.", "happy", "de"), ("Good day.", "sad", "en"), ("Salut.", "sad", "")]
    rows = [Utterance("", *one[:2], np.arange(3), language=one[2]) for one in said]
    found = every_emotion(rows, 2)
    assert [(row.text, row.emotion, row.language) for row in found] == [
        ("Guten Tag.", "happy", "de"),
        ("Guten Tag.", "sad", "de"),
        ("Good day.", "happy", "en"),
        ("Good day.", "sad", "en"),
    ]


def test_a_long_text_is_told_before_it_is_spoken(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []
    monkeypatch.setattr(by_name.NamedSpeaker, "say", lambda _, text, *__: said.append(text))
    options = {"speaker": "", "voice": None, "folder": None, "seed": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        by_name.speech(tiny / "policy", "a" * 500, "happy", **options)
        with pytest.raises(UserWarning, match="a text of 501 characters is spoken in one piece"):
            by_name.speech(tiny / "policy", "a" * 501, "happy", **options)
    assert said == ["a" * 500]
