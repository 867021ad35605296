"""Our reward in TRL: called as its trainers call it, and in its trainer where it is installed."""

import inspect
from pathlib import Path

import pytest
import torch

from model_folder import write_tokenizer
from rrpo.engines.scoring import BROKEN, by_reward_models
from rrpo.engines.trl import policy_model, reward_function
from rrpo.errors import UserError
from rrpo.mini.world import World
from rrpo.policy import LMConfig, SpeechTokenLM, cosyvoice
from rrpo.policy.cosyvoice_text import read_tokenizer

VERSION = "1.16.0"
TINY = LMConfig(
    text_vocabulary=300, hidden=32, layers=1, heads=2, key_value_heads=1, intermediate=48
)


def called(columns: dict[str, list[str]], completions: list[object]) -> list[float]:
    """Call our function as `GRPOTrainer._calculate_rewards` of `VERSION` does."""
    function = reward_function(by_reward_models(["mini"]), name="emotion")
    assert function.__name__ == "emotion"
    return function(
        prompts=["<|sos|>A.<|task_id|>"] * len(completions),
        completions=completions,
        completion_ids=[[1, 2]] * len(completions),
        **columns,
        trainer_state=None,
        log_extra=print,
        log_metric=print,
    )


def test_as_trl_calls_it() -> None:
    row = World().shard("test_same")[0]
    answer = "".join(f"<|s_{token}|>" for token in row.tokens.tolist())
    columns = {"text": [row.text] * 3, "emotion": [row.emotion, "sad", row.emotion]}
    found = called(columns, [answer, answer, "words"])
    assert found[0] != found[1]
    assert found[2] == BROKEN
    chat = [[{"role": "assistant", "content": one}] for one in (answer, answer, "words")]
    assert called(columns, chat) == found
    assert called(columns | {"speaker": ["", "", ""]}, chat) == found
    with pytest.raises(UserError, match="columns text and emotion"):
        called({"text": [row.text] * 3}, [answer] * 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny CosyVoice2 LM in Hugging Face form, as `rrpo export --to hf` writes it."""
    pytest.importorskip("transformers", reason="needs transformers")
    write_tokenizer(tmp_path / "CosyVoice2")
    torch.manual_seed(0)
    tokenizer = read_tokenizer(tmp_path / "CosyVoice2")
    cosyvoice.save_hugging_face(SpeechTokenLM(TINY), tokenizer, tmp_path / "hf")
    return tmp_path / "hf"


def test_the_model_for_trl_says_codes_alone(folder: Path, tmp_path: Path) -> None:
    model = policy_model(folder)
    ours = cosyvoice.load(folder)
    first = model.config.vocab_size - 6656  # 6561 codes, 3 ends, 2 more, in rows of 128
    rows = (model.lm_head.bias > -1e4).nonzero()[:, 0]
    assert len(rows) == TINY.speech_rows and int(rows[0]) >= first
    assert torch.equal(model.lm_head.bias[rows], ours.head.bias)
    model.save_pretrained(tmp_path / "again")
    for name in ("tokenizer.json", "added_tokens.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            (tmp_path / "again" / name).write_bytes((folder / name).read_bytes())
    for name, value in cosyvoice.load(tmp_path / "again").state_dict().items():
        assert torch.equal(value, ours.state_dict()[name]), name


@pytest.mark.slow
def test_two_steps_of_its_trainer(folder: Path, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl", reason="needs trl")
    from datasets import Dataset
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = "<|endoftext|>"
    texts, emotions = ["It is late.", "The train leaves."], ["happy", "sad"]
    rows = {
        "prompt": [f"<|sos|>{text}<|task_id|>" for text in texts],
        "text": texts,
        "emotion": emotions,
    }
    scorer, seen = by_reward_models(["mini"]), []

    def watched(speech: list[torch.Tensor], prompts: list[object]) -> list[float]:
        found = scorer(speech, prompts)
        seen.extend(zip(speech, prompts, found, strict=True))
        return found

    settings = trl.GRPOConfig(
        output_dir=str(tmp_path / "out"),
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=12,
        max_steps=2,
        learning_rate=1e-2,
        use_cpu=True,
        bf16=False,
        report_to=[],
        logging_steps=1,
        save_strategy="no",
    )
    model = policy_model(folder)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = trl.GRPOTrainer(
        model=model,
        reward_funcs=reward_function(watched),
        args=settings,
        train_dataset=Dataset.from_dict(rows),
        processing_class=tokenizer,
    )
    trainer.train()
    assert len(seen) == 8  # two steps of four answers, none of them broken
    assert {prompt.emotion for _, prompt, _ in seen} == {"happy", "sad"}
    assert all(tokens.numel() <= 12 for tokens, _, _ in seen)
    logged = [row["rewards/rrpo/mean"] for row in trainer.state.log_history if "reward" in row]
    expected = torch.tensor([value for _, _, value in seen]).view(2, 4).mean(1)
    assert logged == pytest.approx(expected.tolist(), rel=1e-3)
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_the_recorded_call_is_that_of_trl() -> None:
    trl = pytest.importorskip("trl", reason="needs trl")
    source = inspect.getsource(trl.GRPOTrainer._calculate_rewards)
    for name in ("prompts=prompts", "completions=completions", "completion_ids="):
        assert name in source
