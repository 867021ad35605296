"""Other voices: systems are compared with the base in pairs; seeds or sentences count."""

from typing import Any

import pytest
from scipy.stats import ttest_1samp

from rrpo.studies.demo.pooled import Pooled
from rrpo_studies.voices import differences, page

TEXTS = ["a", "a", "b", "b", "c", "c"]


def rows(values: list[float]) -> list[dict[str, Any]]:
    """Utterances whose judge's probability is known and whose word error was not measured."""
    return [
        {
            "text": text,
            "emotion": "happy",
            "judge_emotion": "happy",
            "judge_probability": value,
            "artifacts": [],
            "seconds": 1.0,
            "quality": {},
            "content_error": None,
            "kl": 0.0,
            "tokens": 50,
            "repetition": 0.0,
            "ended": True,
        }
        for text, value in zip(TEXTS, values, strict=True)
    ]


def test_the_interval_of_one_seed_is_students_over_sentences() -> None:
    base = [0.2, 0.2, 0.5, 0.5, 0.7, 0.7]
    gains = [0.1, 0.2, 0.4, 0.5, 0.1, 0.4]
    sft = [value + gain for value, gain in zip(base, gains, strict=True)]
    seeds = [{"base": rows(base), "sft": rows(sft)}]
    found = differences(seeds, ["sft"])["SFT − base"]["judge probability"]
    interval = ttest_1samp([0.15, 0.45, 0.25], 0.0).confidence_interval()
    assert found.mean == pytest.approx(0.85 / 3)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.seeds == pytest.approx([1.7 / 6])


def test_differences_to_the_base_are_paired() -> None:
    """Sentences differ far more than the two systems do, and by as much in both."""
    base = [0.1, 0.2, 0.5, 0.6, 0.8, 0.7]
    seeds = [
        {"base": rows(base), "sft": rows([value + gain for value in base])} for gain in (0.0, 0.1)
    ]
    found = differences(seeds, ["sft"])["SFT − base"]
    gap = found["judge probability"]
    interval = ttest_1samp([0.0, 0.1], 0.0).confidence_interval()
    assert (gap.low, gap.high) == pytest.approx((interval.low, interval.high))
    assert gap.mean == pytest.approx(0.05)
    assert gap.seeds == pytest.approx([0.0, 0.1])
    assert "word error" not in found


def test_the_page_shows_voices_and_differences() -> None:
    cell = Pooled(0.5, 0.4, 0.6, (0.4, 0.6))
    text = page(
        {
            "command": "rrpo study voices",
            "machine": "x86_64 CPU",
            "seeds": 2,
            "sentences": 4,
            "utterances": 24,
            "voices": {"cedar": {"base": {"tokens": cell, "word error": None}}},
            "differences": {"cedar": {"SFT − base": {"tokens": cell}}},
        }
    )
    assert text.count("| | tokens |") == 2
    assert text.count(" | 0.50 [0.40, 0.60] |") == 2
    assert "word error" not in text
    assert "Cedar, paired differences:" in text
