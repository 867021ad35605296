"""`rrpo reward attack`: its page and JSON, and what it refuses."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attacked_model import model, utterances
from command_line import mistake, rrpo
from rrpo import reward
from rrpo.attack import command
from rrpo.attack.assess import QUICK
from rrpo.codec_identity import identity
from rrpo.data.shards import write_shard
from rrpo.errors import UserError
from rrpo.files import read_json
from rrpo.mini.world import World

CODEC = identity("speech_tokenizer_v2", "ab" * 32)


@pytest.mark.slow
def test_the_bundled_model_is_attacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = replace(QUICK, exchanges=(1, 2), searched=(1,), rounds=1, tries=1, frames=(2.0,))
    monkeypatch.setattr(command, "QUICK", small)
    page = command.attack(["mini", "mini"], tmp_path / "a", quick=True, utterances=6)
    figures = read_json(tmp_path / "a" / "attack.json")
    assert list(figures["models"]) == ["mini"]
    assert figures["utterances"] == 6
    assert figures["left_out"] == []
    names = [row["name"] for row in figures["models"]["mini"]["attacks"]]
    assert "2 tokens exchanged, likely ones" in names
    assert "clicks" in names
    html = page.read_text(encoding="utf-8")
    printed = capsys.readouterr().out
    for name in names:
        assert f">{name}<" in html
    sentence = next(line for line in printed.splitlines() if line.startswith("mini is deceived"))
    assert f"<p>{sentence}</p>" in html
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
    html = (tmp_path / "a" / "attack.html").read_text(encoding="utf-8")
    assert "Found on" in html
    for name in ("rm0", "rm1"):  # whose table is whose
        assert f"Attacks on {tmp_path / name}" in html
    assert "clicks" not in {
        row["name"] for row in figures["models"][str(tmp_path / "rm0")]["attacks"]
    }


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
        command.attack(["mini"], tmp_path / "file" / "a", quick=True)


def test_figures_so_far_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def assess(*given: Any) -> dict[str, Any]:
        given[-1]({"models": {"mini": {"attacks": []}}})
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "assess", assess)
    with pytest.raises(KeyboardInterrupt):
        command.attack(["mini"], tmp_path / "a", quick=True, utterances=6)
    kept = read_json(tmp_path / "a" / "attack.json")
    assert kept["models"] == {"mini": {"attacks": []}}
    assert kept["utterances"] == 6
