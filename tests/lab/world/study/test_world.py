"""The figures of the mini world: the command in its tiny size, and the parts that can go wrong."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rrpo.codec_identity import SPEECH_CODES
from rrpo.emotions import EMOTIONS
from rrpo.errors import UserError
from rrpo.files import read_json, write_json
from rrpo.interval import Interval, with_intervals
from rrpo.mini.world import World
from rrpo_world.corpus import lines
from rrpo_world.study import codec as world_codec
from rrpo_world.study import models, speech
from rrpo_world.study import world as study
from rrpo_world.study.again import Other, together
from rrpo_world.study.asked import ASKED, of_world
from rrpo_world.study.codec import transients
from rrpo_world.study.page import page as write_page
from rrpo_world.study.page import stages
from rrpo_world.study.policy import lengths, policy_figures

PAIRED = [one.title for one in ASKED if one.system]
"""What two worlds are compared on in pairs."""


@pytest.mark.slow
def test_swapping_texts_is_seen() -> None:
    figures = policy_figures(World(), World().policy())
    assert figures["swapped_loss"].mean > figures["loss"].mean


@pytest.mark.slow
def test_inserted_clicks_are_found_and_clean_speech_has_none() -> None:
    rows = [row for row in World().shard("test_same") if row.emotion == "neutral"][:6]
    codec = World().codec()
    sounds = codec.decode_batch([torch.from_numpy(row.tokens) for row in rows])
    found = transients(codec, sounds)
    changed = np.mean([row["click_found"] for row in found])
    assert changed > 0.5
    assert np.mean([row["click_false_per_second"] for row in found]) < changed


@pytest.mark.slow
def test_a_policy_that_never_stops_runs_away() -> None:
    """The bundled base ends by itself; with its stop ids pushed down it only reaches its limit."""
    base = World().policy()
    before = lengths(World(), base, drawn=12, seeds=3)
    assert before["drawn"] == 12
    assert before["runaway"].mean == before["failed"].mean == 0.0
    assert base.head.bias is not None
    with torch.no_grad():
        base.head.bias[base.config.codes :] -= 1e4
    endless = lengths(World(), base, drawn=5, seeds=2)
    assert endless["drawn"] == 6
    assert endless["runaway"].mean == endless["failed"].mean == 1.0
    assert endless["empty"].mean == 0.0


def test_a_policy_that_stops_at_once_is_empty() -> None:
    base = World().policy()
    with torch.no_grad():
        base.head.bias[base.config.codes :] += 1e4
    silent = lengths(World(), base, drawn=4, seeds=1)
    assert silent["empty"].mean == silent["failed"].mean == 1.0
    assert silent["runaway"].mean == silent["length"].mean == 0.0


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
    found = models.ranked(renderer, codec, judge, texts)  # type: ignore[arg-type]
    assert [(row["text"], row["emotion"]) for row in found] == [
        (text, emotion) for text in texts for emotion in EMOTIONS[1:]
    ]
    assert {row["right"] for row in found} == {1.0}
    assert len(renderer.drawn) == 2 * (len(EMOTIONS) - 1) * len(models.INTENSITIES)
    assert len(set(renderer.drawn)) == len(renderer.drawn)


def row(text: str, word_error: float | None, probability: float) -> dict[str, Any]:
    return {
        "text": text,
        "content_error": word_error,
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
    found = speech.differences(systems)
    lost = found["codec − rendering"]["word error"]
    assert (lost.low, lost.mean, lost.high) == pytest.approx((0.2, 0.2, 0.2))
    assert "DistillMOS" not in found["codec − rendering"]
    gained = found["base − codec"]
    assert gained["judge probability"].mean == pytest.approx(-0.3)
    assert gained["word error"].mean == pytest.approx(0.05)
    systems["codec"] = [[row(text, None, 0.5) for text in texts]]
    assert "word error" not in speech.differences(systems)["base − codec"]


@pytest.mark.slow
def test_a_reward_model_is_right_less_often_by_the_difference_of_its_accuracies() -> None:
    figures = models.reward_figures(World(), World().reward_model())
    right = figures["accuracy"]
    assert set(right) == {"same", "altered", "mandarin"}
    for name, gap in figures["less"].items():
        assert gap.mean == pytest.approx(right["same"].mean - right[name].mean)
        assert gap.low < gap.mean < gap.high


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
    assert found["assets"].mean == (tmp_path / "recipe.json").stat().st_size / 1e6


OF_THE_WORLD = (
    "fine_tune_reward",
    "judge_figures",
    "lengths",
    "policy_figures",
    "reward_figures",
    "transient_tokens",
    "voices",
)
"""Parts of the study whose figures hang on the world alone."""


@pytest.mark.slow
@pytest.mark.usefixtures("quick_judges")
def test_the_command_writes_its_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("hibari", reason="needs the packaged voice: pip install 'rrpo[mini]'")
    pytest.importorskip("pyworld", reason="needs WORLD: pip install 'rrpo[mini]'")
    few = partial(world_codec.transient_shares, ids=range(0, SPEECH_CODES, 20))
    monkeypatch.setattr(world_codec, "transient_shares", few)
    own: dict[str, Any] = {}
    for name in OF_THE_WORLD:
        monkeypatch.setattr(study, name, watched(own, name, getattr(study, name)))
    page = study.run(tmp_path, study.SMOKE, command="rrpo study world --smoke").read_text()
    assert set(own) == set(OF_THE_WORLD)
    figures = with_intervals(read_json(tmp_path / "study.json"))
    columns = ["rendering", "codec", "base", "base, seed 0", "base, seed 1"]
    assert list(figures["speech"]) == columns
    assert figures["speech"]["codec"]["utterances"] == 6
    assert figures["speech"]["base"]["utterances"] == 12
    rows = read_json(tmp_path / "rows.json")
    assert list(rows) == [*columns[:2], *columns[3:], "resynthesis", "ranked"]
    assert "`rrpo study world --smoke`" in page
    assert f"{figures['judge']['test_same'].mean:.2f}" in page
    assert "| base, seed 1 |" in page
    printed = capsys.readouterr().out
    for aim in of_world(figures):
        bar, measured, verdict = aim.cells()
        assert f"| {aim.asked} | {bar} | {measured} | {verdict} |" in page
    assert "Aims" in printed
    assert "missed" in printed
    assert "run again" not in page
    write_json(tmp_path / "plan.json", {"world": "another"})
    with pytest.raises(UserError, match="study with another world"):
        study.run(tmp_path, study.SMOKE)
    _against_itself(figures, rows)
    # What is of the world and not of the sentences is the same, and not measured again.
    for name, known in own.items():
        monkeypatch.setattr(study, name, lambda *_, known=known: known)
    _against_another(tmp_path, figures, rows)


def watched(own: dict[str, Any], name: str, figure: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that also keeps what it finds under its name."""

    def found(*given: Any) -> Any:
        own[name] = figure(*given)
        return own[name]

    return found


def _against_itself(figures: dict[str, Any], rows: dict[str, Any]) -> None:
    """The same figures are the same; one that moved by more than its interval is not."""
    other = deepcopy(figures) | {"recipe_seed": 1}
    again = together(figures, rows, Other(other, rows))
    assert [one.asked for one in again.compared if one.paired] == PAIRED
    assert all(one.same and one.apart.mean == 0.0 for one in again.compared)
    written = write_page(figures, again).splitlines()
    assert "| | seed 0 | seed 1 | difference | paired | the same |" in written
    assert sum(line.endswith("| yes | yes |") for line in written) == len(PAIRED)
    other["policy"]["length"] = Interval(9.0, 8.0, 10.0)
    moved = [
        one.asked for one in together(figures, rows, Other(other, rows)).compared if not one.same
    ]
    assert moved == ["base, length over real speech"]
    swapped = rows | {"ranked": rows["ranked"][::-1]}
    with pytest.raises(UserError, match="same sentences"):
        together(figures, rows, Other(other, swapped))


def _against_another(out: Path, figures: dict[str, Any], rows: dict[str, Any]) -> None:
    """A world of seed 0 against a study said to be of seed 1: its sentences, and pairs of them."""
    write_json(out / "study.json", figures | {"recipe_seed": 1, "sentences_seed": 1})
    texts = [line.text for line in lines("test_same", 1) if line.emotion == "neutral"]
    said = {
        name: [{**row, "text": texts[-1] if name == "ranked" else texts[0]} for row in measured]
        for name, measured in rows.items()
    }
    write_json(out / "rows.json", said)
    written = study.run(out / "again", study.SMOKE, against=out).read_text()
    ours = read_json(out / "again" / "rows.json")
    assert {row["text"] for row in ours["codec"]} == {texts[0]}
    assert "unseen sentences (of seed 1)" in written
    found = with_intervals(read_json(out / "again" / "study.json"))
    other = Other(with_intervals(read_json(out / "study.json")), said)
    pairs = [one for one in together(found, ours, other).compared if one.paired]
    assert [one.asked for one in pairs] == PAIRED
    for one in pairs:
        # The mean of the pairs is the difference of the means that the two studies show.
        assert one.apart.mean == pytest.approx(one.ours.mean - one.theirs.mean), one.asked


def test_only_the_study_of_another_seed_is_compared_with(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no study: run `rrpo study world --out"):
        study.run(tmp_path / "out", study.SMOKE, against=tmp_path)
    write_json(tmp_path / "rows.json", {})
    for found in ({"recipe_seed": 0}, {}):
        write_json(tmp_path / "study.json", found)
        with pytest.raises(UserError, match="seed 0 made, too, or does not say"):
            study.run(tmp_path / "out", study.SMOKE, against=tmp_path)
    for found, message in (
        ([], "holds no study of a world"),
        ({}, "lacks seeds, sentences, sentences_seed: measure that world again"),
        (
            {"sentences_seed": 1, "sentences": 24, "seeds": 2},
            "lacks codec, ranked, resynthesis: measure",
        ),
        ({"sentences_seed": 1, "sentences": 24, "seeds": 2}, "has 24 sentences with 2 .* not 1"),
    ):
        whole = "resynthesis" not in message
        systems = {one.system: [] for one in ASKED if one.system}
        write_json(tmp_path / "rows.json", systems if whole else {})
        named = {"recipe_seed": 1, **found} if isinstance(found, dict) else found
        write_json(tmp_path / "study.json", named)
        with pytest.raises(UserError, match=message):
            study.run(tmp_path / "out", study.SMOKE, against=tmp_path)
    assert not (tmp_path / "out").exists()
