"""`rrpo export` writes a model card of what the runs left, and names what was not measured."""

import hashlib
import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from rrpo import config as configuration
from rrpo import policy
from rrpo.checkpoint import sha256, write_json
from rrpo.cli import app
from rrpo.errors import UserError
from rrpo.export import export
from rrpo.model_card import PUBLISHED, chain
from rrpo.policy import LMConfig, SpeechTokenLM, cosyvoice
from rrpo.runs import DiffRORun, SFTRun

SIZES = {"hidden": 32, "layers": 1, "heads": 2, "key_value_heads": 1, "intermediate": 48}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1}
MEASURED = {"mean": 0.125, "low": 0.1, "high": 0.15}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """An SFT run from a published folder, and a DiffRO run from that, in a folder to keep quiet."""
    home = tmp_path / "someone"
    weights = next(iter(PUBLISHED))
    base = [[str(home / "CosyVoice2-0.5B"), hashlib.sha256(weights.encode()).hexdigest()]]
    sft = SFTRun(start=str(home / "CosyVoice2-0.5B"), language="zh")
    diffro = DiffRORun(start=str(home / "sft"), instructions=str(home / "mine.yaml"))
    for name, config, start in (("sft", sft, base), ("rrpo", diffro, [[str(home / "sft"), "ab"]])):
        policy.save(
            SpeechTokenLM(LMConfig(text_vocabulary=30, codec="speech_tokenizer_v2", **SIZES)),
            home / name,
        )
        configuration.dump(config, home / name / "config.yaml")
        data = [[str(home / "tokens"), "cd" * 32]]
        write_json(home / name / "inputs.json", {"start": start, "data": data, "config": "ef"})
        ended = {"schema": 1, "kind": name, "stopped_at": 7, "best_step": None, "seconds": 1.5}
        write_json(home / name / "results.json", ended)
    return home


def card_of(folder: Path, name: str = "README.md") -> tuple[dict[str, object], str]:
    _, head, body = (folder / name).read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head), body


def test_the_card_says_how_the_policy_was_made(runs: Path, tmp_path: Path) -> None:
    words = ["export", str(runs / "rrpo"), "--to", "cosyvoice2", "--precision", "bfloat16"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "its card in" in done.output
    front, body = card_of(tmp_path / "out")
    assert front["base_model"] == "FunAudioLLM/CosyVoice2-0.5B"
    assert front["license"] == "unknown"
    assert front["language"] == "zh"
    assert front["pipeline_tag"] == "text-to-speech"
    assert "### 1. sft, `sft`" in body and "### 2. rrpo, `rrpo`" in body
    assert "7 steps" in body and "| precision | bfloat16 |" in body
    assert "learning_rate: 0.0002" in body  # of the SFT run
    assert f"| data | `tokens` | `{'cd' * 32}` |" in body
    written = tmp_path / "out" / "llm.pt"
    assert f"| `llm.pt` | {written.stat().st_size:,} | `{sha256(written)}` |" in body
    assert str(tmp_path) not in body and "someone" not in body
    assert cosyvoice.load(written, HEADS).config.precision == "bfloat16"


def test_what_was_not_measured_is_named(runs: Path, tmp_path: Path) -> None:
    export(runs / "rrpo", "cosyvoice2", tmp_path / "before")
    _, body = card_of(tmp_path / "before")
    assert "Evaluation: not measured" in body and "- the policy's speech, by any judge" in body
    figures = {"utterances": 4, "kl": MEASURED, "rewards": {str(runs / "rm"): MEASURED}}
    write_json(runs / "rrpo" / "evaluation.json", {"seed": 0, "system": figures})
    ended = {"policy": {"never_ended": 0.5}, "base": {"never_ended": 0.0}}
    group = {"utterances": 3, "kl": MEASURED, **ended}
    report = {"base": str(runs / "CosyVoice2-0.5B"), "groups": {"long": group}}
    write_json(runs / "rrpo" / "forgetting.json", report)
    export(runs / "rrpo", "cosyvoice2", tmp_path / "after")
    _, body = card_of(tmp_path / "after")
    assert "4 utterances, mean with 95 % interval" in body
    assert "| reward, `rm` | 0.12 [0.10, 0.15] |" in body
    assert "| texts | utterances | KL to base | never ended |" in body
    assert "| long | 3 | 0.12 [0.10, 0.15] | 0.50 (0.00) |" in body
    assert "Evaluation: not measured" not in body and "- word error" in body
    assert "no listening test is recorded" in body


def test_a_policy_that_is_no_run_gets_a_card(runs: Path, tmp_path: Path) -> None:
    (runs / "plain").mkdir()
    cosyvoice.save(
        SpeechTokenLM(LMConfig(text_vocabulary=30, codec="speech_tokenizer_v2", **SIZES)),
        runs / "plain" / "llm.pt",
    )
    write_json(runs / "plain" / "CosyVoice-BlankEN" / "config.json", HEADS)
    export(runs / "plain", "cosyvoice2", tmp_path / "out")
    front, body = card_of(tmp_path / "out")
    assert "base_model" not in front
    assert "No training is recorded" in body
    assert chain(runs / "rrpo") == [runs / "sft", runs / "rrpo"]
    assert chain(runs / "rrpo" / "checkpoint") == chain(runs / "rrpo")


def test_a_card_that_is_there_is_left(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("upstream's")
    made = export(runs / "rrpo", "cosyvoice2", tmp_path / "out")
    assert made.card.name == "README.rrpo.md"
    assert (tmp_path / "out" / "README.md").read_text() == "upstream's"
    assert "base_model" in card_of(tmp_path / "out", "README.rrpo.md")[0]


def test_another_base_is_not_called_the_published_one(runs: Path, tmp_path: Path) -> None:
    inputs = json.loads((runs / "sft" / "inputs.json").read_text())
    inputs["start"][0][1] = "12" * 32
    write_json(runs / "sft" / "inputs.json", inputs)
    export(runs / "rrpo", "cosyvoice2", tmp_path / "out")
    front, body = card_of(tmp_path / "out")
    assert "base_model" not in front
    assert "`CosyVoice2-0.5B` (its weights are none that are known by hash)" in body
    assert "look at the base's own licence" in body


def test_mistakes_leave_nothing(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown precision 'half'"):
        export(runs / "rrpo", "cosyvoice2", tmp_path / "out", precision="half")
    (runs / "rrpo" / "results.json").write_text("[]")
    with pytest.raises(UserError, match=r"results\.json is not a JSON object"):
        export(runs / "rrpo", "cosyvoice2", tmp_path / "out")
    assert not (tmp_path / "out").exists()
