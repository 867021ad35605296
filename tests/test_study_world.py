"""The figures of the mini world: the command in its tiny size, and the parts that can go wrong."""

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rrpo.checkpoint import read_json, write_json
from rrpo.emotions import EMOTIONS
from rrpo.errors import UserError
from rrpo.mini.world import World
from rrpo.studies import aims
from rrpo.studies import world as study
from rrpo.studies.world_codec import transients
from rrpo.studies.world_page import page as write_page
from rrpo.studies.world_page import stages
from rrpo.studies.world_policy import lengths, policy_figures


def test_swapping_texts_is_seen() -> None:
    figures = policy_figures(World(), World().policy())
    assert figures["swapped_loss"]["mean"] > figures["loss"]["mean"]


def test_inserted_clicks_are_found_and_clean_speech_has_none() -> None:
    rows = [row for row in World().shard("test_same") if row.emotion == "neutral"][:6]
    codec = World().codec()
    sounds = codec.decode_batch([torch.from_numpy(row.tokens) for row in rows])
    click = transients(codec, sounds, [row.text for row in rows])["click"]
    assert click["found"]["mean"] > 0.5
    assert click["false_per_second"]["mean"] < click["found"]["mean"]


def test_a_policy_that_never_stops_runs_away() -> None:
    """The bundled base ends by itself; with its stop ids pushed down it only reaches its limit."""
    base = World().policy()
    before = lengths(World(), base, drawn=12, seeds=3)
    assert before["drawn"] == 12
    assert before["runaway"]["mean"] == before["failed"]["mean"] == 0.0
    assert base.head.bias is not None
    with torch.no_grad():
        base.head.bias[base.config.codes :] -= 1e4
    endless = lengths(World(), base, drawn=5, seeds=2)
    assert endless["drawn"] == 6
    assert endless["runaway"]["mean"] == endless["failed"]["mean"] == 1.0
    assert endless["empty"]["mean"] == 0.0


def test_a_policy_that_stops_at_once_is_empty() -> None:
    base = World().policy()
    with torch.no_grad():
        base.head.bias[base.config.codes :] += 1e4
    silent = lengths(World(), base, drawn=4, seeds=1)
    assert silent["empty"]["mean"] == silent["failed"]["mean"] == 1.0
    assert silent["runaway"]["mean"] == silent["length"]["mean"] == 0.0


class Louder:
    """A renderer whose speech is its intensity alone; it keeps the chance each rendering had."""

    def __init__(self) -> None:
        self.drawn: list[float] = []

    def analyse(self, text: str) -> str:
        return text

    def render(
        self, _analysis: str, _emotion: str, intensity: float, _voice: Any, rng: np.random.Generator
    ) -> SimpleNamespace:
        self.drawn.append(float(rng.random()))
        return SimpleNamespace(audio=np.array([intensity]))


def test_each_intensity_has_its_own_chance() -> None:
    codec = SimpleNamespace(encode=lambda audio: audio, decode=lambda tokens: tokens)
    judge = SimpleNamespace(
        probabilities_batch=lambda sounds: np.repeat(np.stack(sounds), len(EMOTIONS), axis=1)
    )
    renderer: Any = Louder()
    texts = ["One.", "Two."]
    assert study.ranked(renderer, codec, judge, texts)["mean"] == 1.0  # type: ignore[arg-type]
    assert len(renderer.drawn) == 2 * (len(EMOTIONS) - 1) * len(study.INTENSITIES)
    assert len(set(renderer.drawn)) == len(renderer.drawn)


def row(text: str, word_error: float | None, probability: float) -> dict[str, Any]:
    return {
        "text": text,
        "word_error": word_error,
        "judge_probability": probability,
        "quality": {},
        "artifacts": [],
        "seconds": 1.0,
    }


def test_differences_are_paired_and_over_all_seeds_of_the_base() -> None:
    texts = ["a", "a", "b", "b"]
    hard = [0.0, 0.4, 0.1, 0.5]
    systems = {
        "rendering": [[row(text, value, 0.5) for text, value in zip(texts, hard, strict=True)]],
        "codec": [[row(text, value + 0.2, 0.5) for text, value in zip(texts, hard, strict=True)]],
        "base": [[row(text, 1.0, 0.1) for text in texts], [row(text, 0.0, 0.3) for text in texts]],
    }
    found = study.differences(systems)
    lost = found["codec − rendering"]["word error"]
    assert (lost["low"], lost["mean"], lost["high"]) == pytest.approx((0.2, 0.2, 0.2))
    assert "DistillMOS" not in found["codec − rendering"]
    gained = found["base − codec"]
    assert gained["judge probability"]["mean"] == pytest.approx(-0.3)
    assert gained["word error"]["mean"] == pytest.approx(0.05)
    systems["codec"] = [[row(text, None, 0.5) for text in texts]]
    assert "word error" not in study.differences(systems)["base − codec"]


def test_a_reward_model_is_right_less_often_by_the_difference_of_its_accuracies() -> None:
    figures = study.reward_figures(World(), World().reward_model())
    right = figures["accuracy"]
    assert set(right) == {"same", "altered", "mandarin"}
    for name, gap in figures["less"].items():
        assert gap["mean"] == pytest.approx(right["same"]["mean"] - right[name]["mean"])
        assert gap["low"] < gap["mean"] < gap["high"]


def test_seconds_of_a_stage_say_when_they_are_not_all(tmp_path: Path) -> None:
    write_json(
        tmp_path / "recipe.json",
        {"seed": 1, "codec": {"seconds": 3.0, "steps": 5}, "policy": {"seconds": 2.5, "legs": 2}},
    )
    found = study.cost(World(tmp_path))
    assert found["recipe"] == {"codec": {"seconds": 3.0}, "policy": {"seconds": 2.5, "legs": 2}}
    table = "\n".join(stages(found["recipe"]))
    assert "| codec | 3.0 |" in table
    assert "| policy | 2.5 (the last of 2 times it was taken up) |" in table
    assert found["assets"]["mean"] == (tmp_path / "recipe.json").stat().st_size / 1e6


def test_the_command_writes_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("hibari", reason="needs the packaged voice: pip install 'rrpo[mini]'")
    pytest.importorskip("pyworld", reason="needs WORLD: pip install 'rrpo[mini]'")
    page = study.run(tmp_path, study.SMOKE, command="rrpo study world --smoke").read_text()
    figures = read_json(tmp_path / "study.json")
    columns = ["rendering", "codec", "base", "base, seed 0", "base, seed 1"]
    assert list(figures["speech"]) == columns
    assert figures["speech"]["codec"]["utterances"] == 6
    assert figures["speech"]["base"]["utterances"] == 12
    assert list(read_json(tmp_path / "rows.json")) == [*columns[:2], *columns[3:]]
    assert "`rrpo study world --smoke`" in page
    assert f"{figures['judge']['test_same']['mean']:.2f}" in page
    assert "| base, seed 1 |" in page
    printed = capsys.readouterr().out
    for aim in aims.of_world(figures):
        bar, measured, verdict = aim.cells()
        assert f"| {aim.asked} | {bar} | {measured} | {verdict} |" in page
    assert "Aims" in printed
    assert "missed" in printed
    assert "run again" not in page
    write_json(tmp_path / "plan.json", {"world": "another"})
    with pytest.raises(UserError, match="study with another world"):
        study.run(tmp_path, study.SMOKE)
    _again(figures)


def _again(figures: dict[str, Any]) -> None:
    """The same figures as another seed's are the same; one that moved by its interval is not."""
    assert figures["recipe_seed"] == 0
    other = deepcopy(figures) | {"recipe_seed": 1}
    table = [line for line in write_page(figures, other).splitlines() if line.startswith("| ")]
    same = [line for line in table if line.endswith("| yes |")]
    assert len(same) == sum(aim.value is not None for aim in aims.of_world(figures))
    assert "| | seed 0 | seed 1 | difference | the same |" in table
    other["policy"]["length"] = {"mean": 9.0, "low": 8.0, "high": 10.0}
    moved = [line for line in write_page(figures, other).splitlines() if line.endswith("| no |")]
    assert [line.split(" | ")[0] for line in moved] == ["| base, length over real speech"]


def test_only_the_study_of_another_seed_is_compared_with(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no study: run `rrpo study world --out"):
        study.run(tmp_path / "out", study.SMOKE, against=tmp_path)
    for found in ({"recipe_seed": 0}, {}):
        write_json(tmp_path / "study.json", found)
        with pytest.raises(UserError, match="seed 0 made, too, or does not say"):
            study.run(tmp_path / "out", study.SMOKE, against=tmp_path)
    assert not (tmp_path / "out").exists()
