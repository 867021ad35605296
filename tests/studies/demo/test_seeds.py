"""Pooling over seeds: each has a mean, and the interval is over these."""

import numpy as np
import pytest
from scipy.stats import t as student

from rrpo.interval import Interval, exactly
from rrpo.studies.demo.pooled import (
    KEYS,
    Pooled,
    averaged,
    differences,
    hardening,
    matched,
    pooled,
    values_of,
    word_error_less_base,
)
from rrpo.studies.demo.seeds_page import seeds_page


def rows(offset: float) -> dict[str, list[dict[str, object]]]:
    """Three utterances of three systems whose judge's probability is known."""
    return {
        name: [
            {
                "emotion": "happy",
                "judge_emotion": "happy" if index else "sad",
                "judge_probability": base + offset + 0.1 * index,
                "artifacts": [0] * index,
                "seconds": 2.0,
                "quality": {"plcmos": 4.0},
                "content_error": None,
                "kl": 0.1,
                "tokens": 50,
                "repetition": 0.0,
                "ended": True,
            }
            for index in range(3)
        ]
        for name, base in (("base", 0.1), ("diffro", 0.3), ("rrpo", 0.5))
    }


def test_the_interval_is_over_the_means_of_the_seeds() -> None:
    values = values_of([rows(0.0), rows(0.2)], "base", "judge probability")
    np.testing.assert_allclose(values, [[0.1, 0.2, 0.3], [0.3, 0.4, 0.5]])
    found = pooled(values)
    assert found is not None
    assert found.mean == pytest.approx(0.3)
    assert found.seeds == pytest.approx([0.2, 0.4])
    # Student's quantile with one degree of freedom is 12.706, the means .2 apart.
    assert found.high - found.mean == pytest.approx(12.706 * 0.1, rel=1e-4)
    assert values_of([rows(0.0)], "base", "artifacts / s") == [[0.0, 0.5, 1.0]]
    assert values_of([rows(0.0)], "base", "judge accuracy") == [[0.0, 1.0, 1.0]]


def test_what_was_not_measured_is_none() -> None:
    assert values_of([rows(0.0)], "base", "word error") is None
    assert pooled(None) is None


def test_differences_are_paired() -> None:
    """The systems differ by a constant, in both seeds: how far others would differ is not known."""
    table = differences([rows(0.0), rows(0.2)])
    assert set(table) == {"RRPO − DiffRO", "DiffRO − base", "RRPO − base"}
    found = table["RRPO − DiffRO"]["judge probability"]
    assert found.mean == pytest.approx(0.2) and not found.known
    assert found.seeds == pytest.approx([0.2, 0.2])


def test_a_faster_run_on_the_same_path_is_no_better_at_equal_kl() -> None:
    def curve(pace: float, lift: float) -> list[dict[str, float]]:
        points = [pace * step for step in range(5)]
        return [{"kl": kl, "judge_probability": kl / 8, "plcmos": 4 - kl + lift} for kl in points]

    seeds = [{"diffro": curve(1.0, 0.0), "rrpo": curve(0.5, lift)} for lift in (0.1, 0.3)]
    table = matched(seeds)  # of the best of several utterances there is no curve
    assert list(table["kl"]) == ["RRPO − DiffRO"]
    found = table["kl"]["RRPO − DiffRO"]
    assert found["judge probability"].mean == pytest.approx(0.0)
    assert found["PLCMOS"].seeds == pytest.approx([0.1, 0.3])
    assert table["judge_probability"]["RRPO − DiffRO"]["PLCMOS"].mean == pytest.approx(0.2)


def test_the_word_error_is_paired_with_the_bases_over_seeds_or_sentences() -> None:
    def seed(more: float) -> dict[str, list[dict[str, object]]]:
        return {
            name: [
                {"text": text, "content_error": error + (more if name == "rrpo" else 0.0)}
                for text, error in (("a", 0.0), ("a", 0.25), ("b", 0.5), ("b", 0.75))
            ]
            for name in ("base", "rrpo")
        }

    found = word_error_less_base([seed(0.0), seed(0.1)], "rrpo")
    assert found is not None
    half = 0.05 * student.ppf(0.975, 1)
    assert (found.mean, found.high) == (pytest.approx(0.05), pytest.approx(0.05 + half))
    alone = word_error_less_base([seed(0.1)], "rrpo")
    assert alone is not None
    assert (alone.mean, alone.high - alone.low) == (pytest.approx(0.1), pytest.approx(0.0))
    unknown = [{"text": "a", "content_error": None}]
    assert word_error_less_base([{"base": unknown, "rrpo": unknown}], "rrpo") is None


def test_points_are_averaged_inside_dictionaries() -> None:
    points = [
        {"system": "rrpo", "reward": {"plain": 1.0}},
        {"system": "rrpo", "reward": {"plain": 2.0}},
    ]
    assert averaged(points) == {"system": "rrpo", "reward": {"plain": 1.5}}


def test_hardening_is_a_difference_over_seeds() -> None:
    def model(value: float) -> dict[str, object]:
        one = exactly(value)
        figures = {"accuracy": {"same": one}, "robustness": {"FGM": one}}
        return {**figures, "calibration_error": {"same": one}}

    pairs = ((0.5, 0.7), (0.6, 0.7))
    results = [
        {"reward_models": {"plain": model(one), "ls_eam_adv": model(two)}} for one, two in pairs
    ]
    table = hardening(results)
    assert list(table) == ["accuracy, same", "accuracy under FGM", "calibration error, same"]
    plain, hardened, difference = table["accuracy, same"]
    assert (plain.mean, hardened.mean) == (pytest.approx(0.55), pytest.approx(0.7))
    assert difference.seeds == pytest.approx([0.2, 0.1])


def test_the_page_shows_every_measured_figure() -> None:
    cell = Pooled(0.5, 0.4, 0.6, (0.4, 0.6))
    labels = ["judge probability", "judge accuracy", "DNSMOS overall", "DNSMOS P.808", "PLCMOS"]
    labels += ["DistillMOS", "artifacts / s", "word error", "KL / token", "tokens"]
    text = seeds_page(
        {
            "command": "rrpo study seeds",
            "seeds": 3,
            "machine": "x86_64 CPU",
            "systems": {"base": dict.fromkeys(labels, cell), "rrpo": dict.fromkeys(labels)},
            "differences": {"RRPO − base": {"PLCMOS": cell}},
            "matched": {key: {"RRPO − DiffRO": {"PLCMOS": cell}} for key in KEYS},
            "reward_models": {"plain": {"same": cell}},
            "hardening": {"accuracy, same": [cell, cell, cell]},
            "words": {"rrpo": Interval(0.031, -0.011, 0.072), "sft": None},
        }
    )
    assert "| RRPO | +0.031 [-0.011, +0.072] |" in text
    # Each measured figure once, the reward model and hardening; a difference, two that are matched.
    assert text.count("0.50 [0.40, 0.60]") == len(labels) + 1 + 3
    assert text.count("| +0.500 [+0.400, +0.600]") == 1 + len(KEYS)
    assert text.count("[+0.400, +0.600] (2 of 3 seeds)") == len(KEYS)
    header, _, row = text[text.index("| | judge probability") :].splitlines()[:3]
    assert header.count("|") == row.count("|")
    assert "| base | 0.40, 0.60 | 0.40, 0.60 |" in text[text.index("Seed by seed") :]
    assert "rrpo study seeds" in text
