"""`rrpo export` writes a model card of what the runs left, and names what was not measured."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from rrpo import config as configuration
from rrpo import policy
from rrpo.cli import app
from rrpo.errors import UserError
from rrpo.export import export
from rrpo.files import sha256, write_json
from rrpo.loading import describe
from rrpo.monitor.config import MonitorConfig
from rrpo.origin import KEPT
from rrpo.policy import LMConfig, SpeechTokenLM, cosyvoice
from rrpo.policy_runs import DiffRORun, SFTRun
from rrpo.provenance import (
    MIXED,
    NOT_FOUND,
    PUBLISHED,
    REPLACED,
    UNSURE,
    trace,
    weights_hash,
)

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
    for name, config in (("sft", sft), ("rrpo", diffro)):
        policy.save(
            SpeechTokenLM(LMConfig(text_vocabulary=30, codec="speech_tokenizer_v2", **SIZES)),
            home / name,
        )
        configuration.dump(config, home / name / "config.yaml")
        data = [[str(home / "tokens"), "cd" * 32]]
        start = base if name == "sft" else describe(start=home / "sft")["start"]
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


def test_the_card_has_what_is_to_be_said_for_each_emotion(runs: Path, tmp_path: Path) -> None:
    """As upstream takes it: with the version's prefix and the end of the prompt."""
    size = LMConfig(text_vocabulary=30, codec="speech_tokenizer_v2", text="byte_pairs", **SIZES)
    policy.save(SpeechTokenLM(size), runs / "sft")
    export(runs / "sft", "cosyvoice2", tmp_path / "bundled")
    assert "- happy: `用开心的语气说<|endofprompt|>`" in card_of(tmp_path / "bundled")[1]
    (runs / "sft" / KEPT).write_text('prefix: {"2": "Now. "}\nzh: {happy: "Be glad."}')
    export(runs / "sft", "cosyvoice2", tmp_path / "kept")
    body = card_of(tmp_path / "kept")[1]
    assert "- happy: `Now. Be glad.<|endofprompt|>`" in body and "- sad:" not in body


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
    assert front["tags"] == ["text-to-speech", "rrpo"]
    assert "as it was found: nothing was trained" in body and "post-trained" not in body
    assert "Nothing was trained: the weights are those of the base." in body


def test_weights_without_their_run_are_not_called_untrained(runs: Path, tmp_path: Path) -> None:
    for name in ("model.json", "model.safetensors"):
        (tmp_path / "alone").mkdir(exist_ok=True)
        shutil.copy(runs / "rrpo" / name, tmp_path / "alone")
    export(tmp_path / "alone", "cosyvoice2", tmp_path / "out")
    front, body = card_of(tmp_path / "out")
    assert front["tags"] == ["text-to-speech", "rrpo"]
    assert "how it was made is not recorded" in body and "nothing was trained" not in body.lower()


def other_weights(folder: Path) -> None:
    """Save a policy of other weights into a folder."""
    torch.manual_seed(1)
    shape = LMConfig(text_vocabulary=30, codec="speech_tokenizer_v2", **SIZES)
    policy.save(SpeechTokenLM(shape), folder)


def test_a_start_that_was_made_again_is_not_described(runs: Path, tmp_path: Path) -> None:
    other_weights(runs / "sft")
    words = ["export", str(runs / "rrpo"), "--to", "cosyvoice2", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    front, body = card_of(tmp_path / "out")
    assert "### 1. Not known, `sft`" in body and "### 2. rrpo, `rrpo`" in body
    assert REPLACED.capitalize() in body and f"sft: {REPLACED}" in " ".join(done.output.split())
    assert "learning_rate: 0.0002" not in body and "base_model" not in front
    assert "| base | not known, as `sft` is not, see below |" in body
    # The policy's own settings and the hash of what it was made from are known as before.
    assert "| start | `sft` |" in body and "kl_reduction" in body


def test_a_start_that_is_gone_is_named(runs: Path, tmp_path: Path) -> None:
    shutil.rmtree(runs / "sft")
    made = export(runs / "rrpo", "cosyvoice2", tmp_path / "out")
    _, body = card_of(tmp_path / "out")
    assert f"### 1. Not known, `sft`\n\n{NOT_FOUND.capitalize()}." in body
    assert made.notes == [f"note: {runs / 'sft'}: {NOT_FOUND}"]


def test_a_start_without_a_recorded_hash_is_doubted(runs: Path, tmp_path: Path) -> None:
    (runs / "rrpo" / "inputs.json").unlink()
    export(runs / "rrpo", "cosyvoice2", tmp_path / "out")
    _, body = card_of(tmp_path / "out")
    assert body.count(UNSURE) == 1 and "learning_rate: 0.0002" in body


def reported(run: Path, weights: str | None = None) -> None:
    """Write an evaluation and a forgetting report into a run."""
    of = {} if weights is None else {"weights": weights}
    system = {"utterances": 4, "kl": MEASURED}
    write_json(run / "evaluation.json", {"seed": 0, "system": system, **of})
    group = {"utterances": 3, "kl": MEASURED}
    write_json(run / "forgetting.json", {"base": "mini", "groups": {"long": group}, **of})


def test_figures_of_other_weights_are_left_out(runs: Path, tmp_path: Path) -> None:
    run = runs / "rrpo"
    reported(run)
    shutil.copytree(run, run / "checkpoint-copied", ignore=shutil.ignore_patterns("*.yaml"))
    export(run / "checkpoint-copied", "cosyvoice2", tmp_path / "same")
    _, body = card_of(tmp_path / "same")
    assert "| long | 3 |" in body and "7 steps, 1.5 s." in body
    other_weights(run / "checkpoint-kept")
    write_json(run / "checkpoint-kept" / "training.json", {"step": 5, "finished": False})
    export(run / "checkpoint-kept", "cosyvoice2", tmp_path / "kept")
    _, body = card_of(tmp_path / "kept")
    assert "Weights of step 5 of 80; they are not the run's last." in body
    assert "| long | 3 |" not in body and "4 utterances" not in body
    assert body.count("7 steps") == 1, "of the SFT run"
    assert body.count("Figures of the run's last weights are not shown, as these are others.") == 2
    for place in (run, run / "checkpoint-kept", run / "checkpoint-kept" / "model.safetensors"):
        assert [one.run for one in trace(place).stages] == [runs / "sft", run]


def test_a_report_of_an_earlier_step_is_left_out(runs: Path, tmp_path: Path) -> None:
    reported(runs / "rrpo", weights_hash(runs / "rrpo"))
    export(runs / "rrpo", "cosyvoice2", tmp_path / "same")
    assert "| long | 3 |" in card_of(tmp_path / "same")[1]
    reported(runs / "rrpo", "12" * 32)
    export(runs / "rrpo", "cosyvoice2", tmp_path / "out")
    _, body = card_of(tmp_path / "out")
    assert "| long | 3 |" not in body and "4 utterances" not in body
    assert body.count("is of earlier weights of the run: not shown.") == 2


def test_the_end_of_another_training_is_not_described(runs: Path, tmp_path: Path) -> None:
    other_weights(runs / "rrpo" / "checkpoint-best")
    ended = {"step": 80, "finished": True}
    write_json(runs / "rrpo" / "checkpoint-best" / "training.json", ended)
    export(runs / "rrpo" / "checkpoint-best", "cosyvoice2", tmp_path / "out")
    _, body = card_of(tmp_path / "out")
    assert MIXED.capitalize() in body and "kl_reduction" not in body


def test_an_unfinished_run_is_said_to_be_one(runs: Path, tmp_path: Path) -> None:
    run = runs / "rrpo"
    (run / "results.json").unlink()
    write_json(run / "training.json", {"step": 3, "finished": False, "best_step": None})
    words = ["export", str(run), "--to", "cosyvoice2", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert "rrpo: not finished: step 3 of 80" in " ".join(done.output.split())
    _, body = card_of(tmp_path / "out")
    assert "### 2. diffro, `rrpo`\n\nNot finished: step 3 of 80." in body
    write_json(run / "training.json", {"step": 9, "finished": True, "best_step": 4})
    assert export(run, "cosyvoice2", tmp_path / "end").notes == []
    assert "9 steps, weights of step 4 kept." in card_of(tmp_path / "end")[1]


def test_no_folder_of_the_machine_is_given(runs: Path, tmp_path: Path) -> None:
    looks = MonitorConfig(voice=str(runs / "voice.wav"))
    config = DiffRORun(start=str(runs / "sft"), monitor=looks)
    configuration.dump(config, runs / "rrpo" / "config.yaml")
    export(runs / "rrpo", "cosyvoice2", tmp_path / "out")
    _, body = card_of(tmp_path / "out")
    assert "voice: voice.wav" in body and "someone" not in body


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
    assert "### 1. Not known, `CosyVoice2-0.5B`" in body  # it is not at its place
    assert "look at the base's own licence" in body


def test_mistakes_leave_nothing(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown precision 'half'"):
        export(runs / "rrpo", "cosyvoice2", tmp_path / "out", precision="half")
    (runs / "rrpo" / "results.json").write_text("[]")
    with pytest.raises(UserError, match=r"results\.json is not a JSON object"):
        export(runs / "rrpo", "cosyvoice2", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", ["cosyvoice2", "hf"])
def test_a_policy_of_the_mini_world_is_not_exported(to: str, tmp_path: Path) -> None:
    """Read again it would be of CosyVoice's codec, which nothing told from the right one."""
    with pytest.raises(UserError, match="is a policy of the mini world"):
        export("mini", to, tmp_path / "out", tmp_path)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
