"""What speakers are asked to say."""

import numpy as np

from rrpo.data.shards import Utterance
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
