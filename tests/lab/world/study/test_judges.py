"""Degrading speech: what each way does to it, and the command in its tiny size."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from rrpo.audio import to_peak
from rrpo.emotions import EMOTIONS
from rrpo.evaluate.panel import Judges
from rrpo.files import read_json
from rrpo.interval import exactly
from rrpo.mini.world import World
from rrpo_world.study import degraded
from rrpo_world.study import judges as study
from rrpo_world.study.judges_page import asked_of_judges


@given(st.integers(10, 80), st.floats(0.0, 1.0), st.integers(0, 9))
@example(40, 1.0, 0)
def test_exchanged_tokens_are_the_same_ones_elsewhere(size: int, share: float, seed: int) -> None:
    tokens = np.arange(size)
    changed = degraded.exchange(tokens, share, np.random.default_rng(seed))
    assert sorted(changed) == list(tokens)
    assert (changed != tokens).sum() <= round(share * size)
    if share == 0.0:
        np.testing.assert_array_equal(changed, tokens)
    if share == 1.0:
        assert (changed != tokens).any()


@given(st.integers(10, 80), st.integers(0, 40), st.integers(0, 9))
def test_a_held_token_is_said_again_and_nothing_is_lost(size: int, more: int, seed: int) -> None:
    tokens = np.arange(size)
    held = degraded.hold(tokens, more, np.random.default_rng(seed))
    assert held.size == size + more
    kept, counts = np.unique(held, return_counts=True)
    np.testing.assert_array_equal(kept, tokens)
    assert sorted(counts)[-1] == 1 + more


@given(st.integers(10, 80), st.integers(0, 10), st.integers(0, 9))
def test_repeated_tokens_stay_where_they_are_and_more_only_adds(
    size: int, count: int, seed: int
) -> None:
    tokens = np.arange(size)
    said = degraded.repeat(tokens, count, np.random.default_rng(seed))
    kept, counts = np.unique(said, return_counts=True)
    np.testing.assert_array_equal(kept, tokens)
    np.testing.assert_array_equal(said, np.sort(said))
    assert (counts == 1 + degraded.REPEATS).sum() == count
    assert said.size == size + degraded.REPEATS * count
    fewer = degraded.repeat(tokens, count // 2, np.random.default_rng(seed))
    fewer_kept, fewer_counts = np.unique(fewer, return_counts=True)
    assert set(fewer_kept[fewer_counts > 1]) <= set(kept[counts > 1])


@pytest.mark.parametrize("kind", ["clicks", "pops"])
def test_a_higher_level_adds_to_a_lower_one(kind: str) -> None:
    quiet = np.zeros(16_000, dtype=np.float32)
    one, three = (
        degraded.IN_SOUND[kind](quiet, level, np.random.default_rng(1)) for level in (1, 3)
    )
    clicked = np.flatnonzero(one)
    assert clicked.size > 0
    assert np.abs(one).max() == pytest.approx(0.3, abs=1e-3)
    assert (three != 0).sum() > clicked.size


def test_noise_lies_as_far_under_the_speech_as_said() -> None:
    tone = 0.3 * np.sin(np.arange(16_000) * 0.1).astype(np.float32)
    np.testing.assert_array_equal(
        degraded.IN_SOUND["noise"](tone, 0, np.random.default_rng(0)), tone
    )
    added = degraded.IN_SOUND["noise"](tone, 2, np.random.default_rng(0)) - tone
    below = 10 * np.log10(np.mean(tone**2) / np.mean(added**2))
    assert below == pytest.approx(30.0, abs=0.1)


def test_a_response_knows_rising_from_falling() -> None:
    falling = study.response(np.array([[3.0, 4.0], [2.0, 3.5], [1.0, 1.0]]))
    assert falling["rank"].mean == pytest.approx(-1.0)
    assert [round(one.mean, 2) for one in falling["at"]] == [3.5, 2.75, 1.0]
    deaf = study.response(np.ones((3, 2)))
    assert deaf["rank"].mean == 0.0


def test_no_two_degraded_utterances_say_the_same() -> None:
    rows = World().shard("test_same")
    texts = list(dict.fromkeys(row.text for row in rows))
    # Of the first sentence there is no neutral reading, so it is left for anger.
    chosen = study.different_sentences(rows[1:], texts, EMOTIONS, 4)
    assert [row.emotion for row in chosen] == [name for name in EMOTIONS for _ in range(4)]
    assert len({row.text for row in chosen}) == 24
    assert chosen[4].text == texts[0]


@pytest.mark.slow
def test_speech_at_a_peak_of_seven_tenths_gains_nothing_by_being_brought_there() -> None:
    world = World()
    row = world.shard("test_same")[0]
    codec = world.codec()
    spoken = to_peak(codec.decode(torch.from_numpy(row.tokens)))
    at_level: Any = SimpleNamespace(decode=lambda _: spoken)
    heard = study.level_heard(at_level, world.judge(), [row, row])
    assert heard["difference"].mean == pytest.approx(0.0, abs=1e-5)
    whispered: Any = SimpleNamespace(decode=lambda _: 0.05 * spoken)
    soft = study.level_heard(whispered, world.judge(), [row, row])
    assert soft["levelled"].mean == pytest.approx(heard["own"].mean, abs=1e-4)
    assert soft["own"] != soft["levelled"]


def test_neutral_speech_has_no_intensity() -> None:
    def render(
        _text: str, _emotion: str, _intensity: float, _voice: Any, rng: np.random.Generator
    ) -> SimpleNamespace:
        return SimpleNamespace(audio=0.1 * rng.standard_normal(6400).astype(np.float32))

    renderer: Any = SimpleNamespace(analyse=lambda text: SimpleNamespace(text=text), render=render)
    world = World()
    figures = study.acted(
        renderer, world.codec(), Judges(world.judge(), {}), ["One."], ["neutral", "sad"]
    )
    assert list(figures) == ["neutral", "sad, 0.2", "sad, 0.6", "sad, 1.0"]


@pytest.mark.slow
@pytest.mark.usefixtures("quick_judges")
def test_the_command_writes_its_page_and_picture(tmp_path: Path) -> None:
    pytest.importorskip("hibari", reason="needs the packaged voice: pip install 'rrpo[mini]'")
    pytest.importorskip("pyworld", reason="needs WORLD: pip install 'rrpo[mini]'")
    text = study.run(tmp_path, study.SMOKE).read_text(encoding="utf-8")
    figures = read_json(tmp_path / "study.json")
    assert list(figures["curves"]) == list(degraded.LEVELS)
    assert list(figures["acted"]) == ["neutral"]
    assert "Exchanged tokens" in text
    assert (tmp_path / "figure.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")


@pytest.mark.parametrize("way", degraded.LEVELS)
def test_nothing_is_degraded_at_the_first_level(way: str) -> None:
    """So intact speech is judged once for all ways."""
    assert degraded.LEVELS[way][0] == 0
    tokens, sound = np.arange(40), np.full(16_000, 0.5, dtype=np.float32)
    rng = np.random.default_rng(1)
    if way in degraded.IN_TOKENS:
        np.testing.assert_array_equal(degraded.IN_TOKENS[way](tokens, 0, rng), tokens)
    else:
        np.testing.assert_array_equal(degraded.IN_SOUND[way](sound, 0, rng), sound)


def test_judges_are_asked_to_fall_and_the_recogniser_to_rise() -> None:
    def way(**ranks: float) -> dict[str, Any]:
        return {"measures": {name: {"rank": exactly(ranks[name])} for name in ranks}}

    ways = {
        "clicks": way(PLCMOS=-0.9),
        "noise": way(PLCMOS=-1.0),
        "held token": way(PLCMOS=0.1),
        "repeated tokens": way(PLCMOS=-0.7),
        "exchanged tokens": way(PLCMOS=-0.8, **{"word error": 0.9}),
    }
    found = {aim.asked: aim.verdict for aim in asked_of_judges(ways)}
    assert found == {
        "PLCMOS falls with clicks": "met",
        "PLCMOS falls with noise": "met",
        "PLCMOS falls with held token": "missed",
        "PLCMOS falls with repeated tokens": "met",
        "word error rises with exchanged tokens": "met",
    }
    ways["exchanged tokens"] = way(PLCMOS=-0.8)
    assert asked_of_judges(ways)[-1].verdict == "not measured"
