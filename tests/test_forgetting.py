"""What a policy forgot against its base: the KL both ways, lengths, words, instructions read."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from model_folder import SIZES, write_llm, write_tokenizer
from rrpo import config as configuration
from rrpo import policy
from rrpo.audio import Audio
from rrpo.cli import app
from rrpo.errors import UserError
from rrpo.evaluate import content
from rrpo.evaluate.panel import kl_of
from rrpo.forgetting import forgetting, read_aloud
from rrpo.mini.world import World
from rrpo.policy import SpeechTokenLM, cosyvoice
from rrpo.policy.layout import Prompt
from rrpo.policy_runs import DiffRORun


class Echo:
    """A recogniser that hears one text, whatever is said."""

    def transcribe(self, sounds: Sequence[Audio]) -> list[str]:
        return ["it is late" for _ in sounds]


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that began from the bundled base and moved away from it; texts of two groups."""
    monkeypatch.setattr(content, "available", lambda: (Echo(), ""))
    model, run = World().policy(), tmp_path / "run"
    torch.manual_seed(0)
    with torch.no_grad():
        model.head.weight += 0.02 * torch.randn_like(model.head.weight)
    policy.save(model, run / "checkpoint")
    configuration.dump(DiffRORun(), run / "config.yaml")
    (tmp_path / "texts.yaml").write_text("en: [It is late.]\nde mini: [It is late.]\n")
    return run


@pytest.mark.slow
def test_a_policy_that_moved_is_told_from_its_base(mini: Path) -> None:
    done = CliRunner().invoke(
        app, ["policy", "forgetting", str(mini), "--texts", str(mini.parent / "texts.yaml")]
    )
    assert done.exit_code == 0, (done.output, done.exception)
    assert "KL to base" in done.output and "de mini" in done.output
    report = json.loads((mini / "forgetting.json").read_text())
    assert report["base"] == "mini"
    english, other = report["groups"]["en"], report["groups"]["de mini"]
    assert english["kl"]["mean"] > 0.01 and english["kl_base"]["mean"] > 0.01
    assert english["policy"]["word_error"]["mean"] == 0.0  # Echo heard just that
    assert other["policy"]["word_error"] is None  # no English recogniser is asked
    assert english["policy"]["read_aloud"] is None  # nothing is told in words there
    # The figure is that of the panel, on the very tokens.
    again = forgetting(mini, texts=mini.parent / "texts.yaml", base=mini)
    assert again["groups"]["en"]["kl"].mean == 0.0
    assert again["groups"]["en"]["length"].mean == 1.0


@pytest.mark.slow
def test_the_minis_own_groups_are_usual_and_long(mini: Path) -> None:
    report = forgetting(mini)
    assert {name: group["utterances"] for name, group in report["groups"].items()} == {
        "usual": 4,
        "long": 2,
    }
    for group in report["groups"].values():
        assert group["kl"].low <= group["kl"].mean <= group["kl"].high


def test_the_two_directions_are_those_of_the_two_speakers(mini: Path) -> None:
    model, base = policy.load(mini), World().policy()
    prompts = [Prompt("x", "happy", torch.tensor([3, 4]), torch.tensor([1]))]
    speech = [torch.tensor([5, 6, 7])]
    assert kl_of(model, base, prompts, speech) != kl_of(base, model, prompts, speech)


def prompt(text: int, told: int) -> Prompt:
    return Prompt("text", "happy", torch.zeros(text).long(), torch.zeros(told).long())


def said(*sizes: int) -> list[Tensor]:
    return [torch.zeros(size).long() for size in sizes]


def test_speech_as_long_as_with_its_instruction_is_told() -> None:
    """The base takes 4 tokens an id; 10 ids and 8 of an instruction are 40, and 56 with half."""
    prompts = [prompt(10, 9)] * 3
    base = said(40, 40, 44)
    assert read_aloud(said(40, 55, 56), base, prompts, True) == [False, False, True]
    assert read_aloud(said(40, 55, 72), base, prompts, False) == []
    # No utterance may become as long: at most 20 tokens an id, 5 · (1 + 8) are needed.
    assert read_aloud(said(20), said(5), [prompt(1, 17)], True) == []
    assert read_aloud(said(9), said(0), [prompt(10, 9)], True) == []


@pytest.fixture
def cosy(tmp_path: Path) -> Path:
    """A run that began from a tiny CosyVoice2 folder and has its weights."""
    pytest.importorskip("transformers", reason="needs transformers: pip install 'rrpo[cosyvoice]'")
    folder, run = tmp_path / "CosyVoice2", tmp_path / "run"
    write_tokenizer(folder)
    write_llm(folder)
    policy.save(cosyvoice.load(folder), run / "checkpoint")
    configuration.dump(DiffRORun(start=str(folder), language="zh"), run / "config.yaml")
    return run


def reading(model: SpeechTokenLM, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a policy say `size` tokens for each text id, and its base one."""
    from rrpo.speaking import cosyvoice as speaking

    def drawn(given: SpeechTokenLM, prompts: Sequence[Prompt], _: int) -> list[Any]:
        own = torch.equal(given.head.weight, model.head.weight)
        each = size if own else 1
        return [speaking.Said(torch.arange(each * p.text_ids.numel()) % 9, True) for p in prompts]

    monkeypatch.setattr(speaking, "draw", drawn)


@pytest.mark.slow
def test_an_instruction_that_is_read_shows_in_the_length(
    cosy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = policy.load(cosy)
    model.head.weight.data.add_(0.1)
    policy.save(model, cosy / "checkpoint")
    reading(model, 3, monkeypatch)
    report = forgetting(cosy)
    groups = report["groups"]
    assert {"en", "zh", "long en", "long zh"} <= groups.keys() and len(groups) > 8
    for group in groups.values():
        assert group["length"].mean == 3.0
        assert group["policy"]["word_error"] is None  # without a voice nothing is heard
    assert groups["en"]["policy"]["read_aloud"].mean == 1.0
    assert groups["en"]["base"]["read_aloud"].mean == 0.0
    reading(model, 1, monkeypatch)
    calm = forgetting(cosy)["groups"]["en"]
    assert calm["policy"]["read_aloud"].mean == 0.0 and calm["length"].mean == 1.0


def test_mistakes(mini: Path) -> None:
    for text, said_ in (
        ("", "holds no texts"),
        ("en: It is late.", "'en' is no list of texts"),
        ("en: []", "'en' is no list of texts"),
        ("en: ['…']", "en 0"),
    ):
        (mini.parent / "wrong.yaml").write_text(text)
        with pytest.raises(UserError, match=said_):
            forgetting(mini, texts=mini.parent / "wrong.yaml")
    with pytest.raises(UserError, match="are for CosyVoice's policies"):
        forgetting(mini, voice="x.wav")
    assert not (mini / "forgetting.json").exists()


def test_two_codecs_are_not_compared(cosy: Path) -> None:
    with pytest.raises(UserError, match=r"mini is of the codec mini .*of speech_tokenizer_v2"):
        forgetting(cosy, base="mini")
    assert SIZES["layers"] == 1
