"""`rrpo reward attack`: its page and JSON, and what it refuses."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from attacked_model import EMOTIONS, model, utterances
from command_line import mistake, rrpo
from model_folder import write_llm, write_tokenizer
from rrpo import reward
from rrpo.attack import command
from rrpo.attack.assess import QUICK
from rrpo.attack.goal import draw_goal, margins
from rrpo.attack.page import print_attacks, verdict
from rrpo.codec_identity import identity
from rrpo.data.shards import write_shard
from rrpo.errors import UserError
from rrpo.files import read_json
from rrpo.interval import with_intervals
from rrpo.loading import load_policy, load_reward_model
from rrpo.mini.world import World
from rrpo.reward.posteriors import log_posteriors

CODEC = identity("speech_tokenizer_v2", "ab" * 32)
SMALL = replace(QUICK, exchanges=(1, 2), searched=(1,), rounds=1, tries=1, frames=(2.0,))


@pytest.mark.slow
def test_the_bundled_model_is_attacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "QUICK", SMALL)
    told = command.attack_reward(["mini", "mini"], tmp_path / "a", quick=True, utterances=6)
    figures = read_json(tmp_path / "a" / "attack.json")
    assert list(figures["models"]) == ["mini"]
    assert figures["utterances"] == 6
    assert figures["left_out"] == []
    names = [row["name"] for row in figures["models"]["mini"]["attacks"]]
    assert "2 tokens exchanged, likely ones" in names
    assert "clicks" in names
    assert figures["models"].keys() == told["models"].keys()
    html = (tmp_path / "a" / "attack.html").read_text(encoding="utf-8")
    for name in names:
        assert f">{name}<" in html
    assert f"<p>{verdict(told)[0]}</p>" in html
    capsys.readouterr()
    print_attacks(told, Console(width=200))
    assert verdict(told)[0] in capsys.readouterr().out
    assert "Found on" not in html  # with one model nothing carries over


@pytest.mark.slow
def test_a_model_and_tokens_of_ones_own(tmp_path: Path) -> None:
    for seed in (0, 1):
        reward.save(model(seed, codec=CODEC), tmp_path / f"rm{seed}")
    write_shard(tmp_path / "tokens.parquet", utterances(9), CODEC)
    printed = rrpo(
        "reward", "attack", tmp_path / "rm0", tmp_path / "rm1", "--quick",
        "--data", tmp_path / "tokens.parquet", "--out", tmp_path / "a",
    )  # fmt: skip
    figures = read_json(tmp_path / "a" / "attack.json")
    (note,) = figures["left_out"]
    assert note.startswith("the tokens are of")
    assert f"note: {note}" in printed
    assert f"{tmp_path / 'rm0'} is deceived in" in printed
    html = (tmp_path / "a" / "attack.html").read_text(encoding="utf-8")
    assert "Found on" in html
    for name in ("rm0", "rm1"):  # whose table is whose
        assert f"Attacks on {tmp_path / name}" in html
    assert "clicks" not in {
        row["name"] for row in figures["models"][str(tmp_path / "rm0")]["attacks"]
    }


@pytest.mark.slow
def test_a_policy_a_judge_and_sounds_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "QUICK", replace(SMALL, steps=1))
    folder = tmp_path / "cosyvoice"
    write_tokenizer(folder)
    write_llm(folder)
    codec = load_policy(folder).config.codec
    for seed in (0, 1):
        reward.save(model(seed, codec=codec, codes=6561), tmp_path / f"rm{seed}")
    rows = utterances(9)
    write_shard(tmp_path / "tokens.parquet", rows, codec)
    higher = [replace(row, tokens=np.minimum(row.tokens + 1, 26)) for row in rows[:8]]
    write_shard(tmp_path / "clicks.parquet", higher, codec, "clicks")
    command.attack_reward(
        [str(tmp_path / "rm0")], tmp_path / "a", tmp_path / "tokens.parquet",
        policy=folder, judge=tmp_path / "rm1", inserted=[tmp_path / "clicks.parquet"],
        quick=True,
    )  # fmt: skip
    figures = with_intervals(read_json(tmp_path / "a" / "attack.json"))
    assert figures["left_out"] == []
    assert figures["judge"] == str(tmp_path / "rm1") and figures["policy"] == str(folder)
    assert figures["utterances"] == 8
    (found,) = figures["models"].values()
    rows_of = {row["name"]: row for row in found["attacks"]}
    clicks = rows_of["clicks in the recordings"]
    own, judge = load_reward_model(tmp_path / "rm0"), load_reward_model(tmp_path / "rm1")
    goal = draw_goal({"own": own}, rows[:8], 96, 0)
    changed = [torch.from_numpy(np.minimum(row.tokens + 1, 26)) for row in goal.rows]
    hits = margins(log_posteriors(own, changed), goal.classes(own)) > 0
    silent = log_posteriors(judge, changed).argmax(1) != goal.classes(judge)
    assert clicks["deceived"].mean == pytest.approx(float(hits.double().mean()))
    assert clicks["unheard"].mean == pytest.approx(float((hits & silent).double().mean()))
    assert found["worst_unheard"]["sounds"] == clicks["unheard"]
    for name in ("2 tokens exchanged, likely ones", "said by a policy trained on it"):
        assert "unheard" in rows_of[name]
    assert "8 of 9 utterances are there with every inserted sound" in capsys.readouterr().out


def test_what_a_user_names_beside_the_models_is_refused_in_one_line(tmp_path: Path) -> None:
    reward.save(model(codec=CODEC), tmp_path / "rm")
    reward.save(model(1, codec=World().codec_identity), tmp_path / "other")
    write_shard(tmp_path / "tokens.parquet", utterances(9), CODEC)
    strangers = [replace(row, id=f"x{row.id}") for row in utterances(9)]
    write_shard(tmp_path / "strangers.parquet", strangers, CODEC, "hum")

    def attack(**named: Any) -> None:
        command.attack_reward(
            [str(tmp_path / "rm")], tmp_path / "a", tmp_path / "tokens.parquet", **named
        )

    copied = shutil.copytree(tmp_path / "rm", tmp_path / "copy")
    for itself in (tmp_path / "rm", copied):
        with pytest.raises(UserError, match=r"has the weights of .+rm, which is attacked"):
            attack(judge=itself)
    reward.save(model(emotions=EMOTIONS[:2], codec=CODEC), tmp_path / "two")
    with pytest.raises(UserError, match="two does not know sad: name one"):
        attack(judge=tmp_path / "two")
    with pytest.raises(UserError, match=r"are those of .*token by token"):
        attack(inserted=[tmp_path / "tokens.parquet"])
    other = [replace(row, tokens=row.tokens[::-1]) for row in utterances(9)]
    write_shard(tmp_path / "twice.parquet", [*utterances(9), *other], CODEC, "hum")
    with pytest.raises(UserError, match="more than once with other tokens"):
        attack(inserted=[tmp_path / "twice.parquet"])
    with pytest.raises(UserError, match="codec"):
        attack(judge=tmp_path / "other")
    with pytest.raises(UserError, match="the policy mini"):
        attack(policy="mini")
    with pytest.raises(UserError, match="with hum in the recordings: give the folders"):
        attack(inserted=[tmp_path / "strangers.parquet"])
    relabelled = [replace(row, emotion="neutral") for row in utterances(9)]
    write_shard(tmp_path / "relabelled.parquet", relabelled[1:3], CODEC, "hum")
    with pytest.raises(UserError, match="with hum in the recordings: give the folders"):
        attack(inserted=[tmp_path / "relabelled.parquet"])
    mixed = [replace(row, partner_emotion="sad", partner_weight=0.3) for row in utterances(9)]
    write_shard(tmp_path / "mixed.parquet", mixed, CODEC, "hum")
    with pytest.raises(UserError, match="is mixed with another"):
        attack(inserted=[tmp_path / "mixed.parquet"])
    with pytest.raises(UserError, match="another has the same sound"):
        attack(inserted=[tmp_path / "strangers.parquet"] * 2)
    with pytest.raises(UserError, match="no token shard"):
        attack(inserted=[tmp_path / "nowhere.parquet"])
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no-such-model", "--out", "a"], "no-such-model"),
        (["mini", "--partition", "test", "--out", "a"], "give that, too"),
        (["mini", "--out", "file"], "file is a file"),
        (["mini-tasks", "--out", "a"], "emotion"),
        (["mini", "--data", "one.parquet", "--out", "a"], "at least two of its emotions"),
        (["mini", "--data", "none.parquet", "--out", "a"], "none.parquet"),
    ],
)
def test_what_cannot_be_attacked_is_said_in_one_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    sad = [row for row in utterances(9) if row.emotion == "sad"]
    write_shard(Path("one.parquet"), sad, World().codec_identity)
    assert message in mistake("reward", "attack", *words)
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_told_before_the_attacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "assess", lambda *_: pytest.fail("it was attacked"))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        command.attack_reward(["mini"], tmp_path / "file" / "a", quick=True)


def test_figures_so_far_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def assess(*given: Any) -> dict[str, Any]:
        given[-1]({"models": {"mini": {"attacks": []}}})
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "assess", assess)
    with pytest.raises(KeyboardInterrupt):
        command.attack_reward(["mini"], tmp_path / "a", quick=True, utterances=6)
    kept = read_json(tmp_path / "a" / "attack.json")
    assert kept["models"] == {"mini": {"attacks": []}}
    assert kept["utterances"] == 6
