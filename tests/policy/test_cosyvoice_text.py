"""CosyVoice's tokenizer and instructions, on a tiny Qwen2 tokenizer in upstream's layout."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from model_folder import HEADS, write_llm, write_tokenizer
from rrpo import loading, policy, reward
from rrpo.cli import speech
from rrpo.data.shards import Utterance, write_shard
from rrpo.errors import UserError
from rrpo.loading import require_one_vocabulary
from rrpo.origin import origin_of
from rrpo.policy import cosyvoice
from rrpo.policy.cosyvoice_text import (
    ADDED,
    END_OF_PROMPT,
    INSTRUCTIONS,
    CosyVoiceTokenizer,
    read_tokenizer,
)
from rrpo.policy.layout import make_examples
from rrpo.policy_runs import PolicyRun
from rrpo.post_training import train_diffro, train_sft
from rrpo.reward import RewardConfig, RewardModel

pytest.importorskip("transformers", reason="needs transformers: pip install 'rrpo[cosyvoice]'")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder with a tokenizer alone."""
    write_tokenizer(tmp_path / "CosyVoice2-0.5B")
    return tmp_path / "CosyVoice2-0.5B"


def test_an_instruction_ends_in_end_of_prompt_once(folder: Path) -> None:
    tokenizer = CosyVoiceTokenizer(folder)
    ids = tokenizer.instruct("happy")
    assert ids.count(tokenizer.end_of_prompt) == 1
    assert ids[-1] == tokenizer.end_of_prompt
    assert len(ids) == len("Speak in a happy voice.") + 1
    assert tokenizer.encode("[breath]") == [tokenizer.end_of_prompt + 1]


def test_version_3_is_told_more(folder: Path) -> None:
    second, third = (CosyVoiceTokenizer(folder, version).instruct("sad") for version in (2, 3))
    assert third[-len(second) :] == second
    assert len(third) > len(second)


def test_version_3_has_phones_and_parts_of_pinyin(folder: Path) -> None:
    """151,663 tokens in version 2, 151,924 in version 3, where Qwen2's own words are whole."""
    second, third = (CosyVoiceTokenizer(folder, version) for version in (2, 3))
    last = second.encode("[mn]")[0]
    assert third.encode("[mn]") == [last]
    assert read_tokenizer(folder, 3).convert_tokens_to_ids("<|endofsystem|>") == last + 1
    # 15 vowels in four forms and 24 consonants, in alphabetical order.
    assert third.encode("[AA1][ZH]") == [last + 4, last + 1 + 15 * 4 + 24]
    assert third.encode("[ǜ]") == [last + 151924 - 151663]
    assert len(second.encode("[ǜ]")) > 1


def test_one_instruction_for_two_emotions_is_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text('prefix: {"2": "Now. "}\nen: {happy: "Be glad.", sad: "Be glad."}')
    told = CosyVoiceTokenizer(folder, instructions=mine).instruction("sad")
    assert told == f"Now. Be glad.{END_OF_PROMPT}"
    assert "sad has the instruction of happy" in "".join(capsys.readouterr())


def test_chinese(folder: Path) -> None:
    ids = CosyVoiceTokenizer(folder, language="zh").instruct("happy")
    assert len(ids) == len("用开心的语气说".encode()) + 1


@pytest.mark.slow
def test_mistakes_get_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no instructions for language 'fr'"):
        CosyVoiceTokenizer(folder, language="fr")
    with pytest.raises(UserError, match="holds no tokenizer"):
        CosyVoiceTokenizer(tmp_path)
    with pytest.raises(UserError, match="no instruction for 'bored'"):
        CosyVoiceTokenizer(folder).instruct("bored")
    with pytest.raises(UserError, match="text is empty"):
        CosyVoiceTokenizer(folder).encode("  ")
    twice = tmp_path / "twice.yaml"
    twice.write_text(f'en:\n  happy: "Be {END_OF_PROMPT} happy{END_OF_PROMPT}"\n')
    with pytest.raises(UserError, match="once"):
        CosyVoiceTokenizer(folder, instructions=twice)
    with pytest.raises(UserError, match="leave it out"):
        CosyVoiceTokenizer(folder).encode(f"Be quiet.{END_OF_PROMPT} Now.")
    for text, reason in (
        (f'prefix: {{2: "A{END_OF_PROMPT}"}}\nen: {{happy: "x"}}', "prefix"),
        ("en: [", "is not YAML"),
        ('prefix: 5\nen: {happy: "x"}', "prefix"),
        ('prefix: {2: 5}\nen: {happy: "x"}', "prefix"),
        ("en: {happy: [a, b]}", "'happy' needs one line of text"),
        ("en: {happy: }", "'happy' needs one line of text"),
        (f'en: {{sad: "x", happy: " {END_OF_PROMPT}"}}', "'happy' needs one line of text"),
    ):
        twice.write_text(text)
        with pytest.raises(UserError, match=reason) as error:
            CosyVoiceTokenizer(folder, instructions=twice)
        assert "\n" not in str(error.value)
    size = len(read_tokenizer(folder))
    CosyVoiceTokenizer(folder, rows=size)
    with pytest.raises(UserError, match="belongs to another model"):
        CosyVoiceTokenizer(folder, rows=size - 1)
    with pytest.raises(UserError, match="not CosyVoice's tokenizer"):
        CosyVoiceTokenizer(folder, rows=151936)  # the published table, and another vocabulary
    words = json.loads((folder / "CosyVoice-BlankEN" / "vocab.json").read_text())
    words |= {f"word{number}": number for number in range(len(words), 151650)}
    (folder / "CosyVoice-BlankEN" / "vocab.json").write_text(json.dumps(words))
    with pytest.raises(UserError, match="not CosyVoice's tokenizer"):
        CosyVoiceTokenizer(folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("……", "nothing to say"),
        ("?!...", "nothing to say"),
        ("\u200b\u200b", "nothing to say"),
        ("😀", "nothing to say"),
        ("Hello <|endoftext|> there", r"holds <\|endoftext\|>: leave it out"),
        ("<|im_start|>", r"holds <\|im_start\|>"),
        ("<|zh|>今天天气很好", r"holds <\|zh\|>"),
        ("happy <endofprompt> hello there", "holds <endofprompt>: leave it out"),
        ("One.<br>Two.", "holds <br>"),
        ("Be <b>loud</b>.", "holds <b>"),
        ("It&#39;s R&amp;B.", "holds &#39;: leave it out"),
        ("[BREATHING] Yeah.", r"holds \[BREATHING\], a note and no speech: leave it out"),
        ("Oh [Laughter] yes.", r"holds \[Laughter\]: write \[laughter\]"),
    ],
)
def test_a_text_that_is_no_speech_names_its_utterance(folder: Path, text: str, words: str) -> None:
    """CosyVoice#1432, #1065, EveryVoice#741: stray tags, and marks with nothing to say."""
    rows = [
        Utterance("0", "Hello there.", "sad", np.array([1])),
        Utterance("5", text, "sad", np.array([1])),
    ]
    for version in (2, 3):
        with pytest.raises(UserError, match=f"utterance '5': the text .*{words}"):
            make_examples(CosyVoiceTokenizer(folder, version), rows)


def test_an_instruction_with_a_control_token_is_refused(folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text('en: {happy: "Be happy.", sad: "Be <|im_start|> sad."}\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"mine\.yaml, .*holds <\|im_start\|>: leave it out"):
        CosyVoiceTokenizer(folder, instructions=mine)
    mine.write_text('prefix: {2: "<|im_start|>A "}\nen: {sad: "Be sad."}\n')
    with pytest.raises(UserError, match=r"the prefix .* holds <\|im_start\|>"):
        CosyVoiceTokenizer(folder, instructions=mine)


def test_an_emotion_without_an_instruction_names_the_file_to_copy(folder: Path) -> None:
    with pytest.raises(UserError, match=f"for 'disgust': {re.escape(str(INSTRUCTIONS))} has neu"):
        CosyVoiceTokenizer(folder).instruct("disgust")


@pytest.mark.parametrize(
    "text",
    [
        "Oh [laughter] <strong>you</strong>!",
        "He [Smith] left R&B; [OK]?",
        "<laughter>No</laughter> way.",
        "今天天气很好。",
        "2 < 3 and 5 > 4",
        "I <3 you",
        "½ Ⅷ مرحبا",
        "One.\nTwo.",
    ],
)
def test_what_cosyvoice_has_marks_for_is_read(folder: Path, text: str) -> None:
    assert CosyVoiceTokenizer(folder).encode(text)


def test_code_beside_a_tokenizer_is_not_run(folder: Path, tmp_path: Path) -> None:
    inner = folder / "CosyVoice-BlankEN"
    (inner / "harm.py").write_text(f"open({str(tmp_path / 'harmed')!r}, 'w')\nclass Harm: pass\n")
    config = {"auto_map": {"AutoTokenizer": ["harm.Harm", None]}, "tokenizer_class": "Harm"}
    (inner / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="cannot be read"):
        CosyVoiceTokenizer(folder)
    assert not (tmp_path / "harmed").exists()


def test_a_content_head_reads_the_ids_of_the_policys_text(folder: Path, tmp_path: Path) -> None:
    tokenizer = CosyVoiceTokenizer(folder)
    assert tokenizer.vocabulary == CosyVoiceTokenizer(folder, version=3).vocabulary
    model = RewardModel(RewardConfig(width=16, layers=1, heads=2, feedforward=16))
    model.add_content_head("ids", 0, tokenizer.encode("ab"), tokenizer.vocabulary)
    reward.save(model, tmp_path / "reward")
    again = reward.load(tmp_path / "reward")
    require_one_vocabulary({"reward": again}, tokenizer)
    other = tmp_path / "other" / "CosyVoice-BlankEN"
    shutil.copytree(folder / "CosyVoice-BlankEN", other)
    words = json.loads((other / "vocab.json").read_text(encoding="utf-8"))
    turned = dict(zip(words, reversed(words.values()), strict=True))
    (other / "vocab.json").write_text(json.dumps(turned), encoding="utf-8")
    with pytest.raises(UserError, match="the content head of reward reads text ids of another"):
        require_one_vocabulary({"reward": again}, CosyVoiceTokenizer(tmp_path / "other"))


def test_a_damaged_vocabulary_gets_one_line(folder: Path) -> None:
    (folder / "CosyVoice-BlankEN" / "vocab.json").write_text("[1, 2]")
    with pytest.raises(UserError, match="cannot be read"):
        CosyVoiceTokenizer(folder)


def test_the_bundled_file_covers_the_bundled_emotions() -> None:
    import yaml

    from rrpo.emotions import EMOTIONS

    content = yaml.safe_load(INSTRUCTIONS.read_text(encoding="utf-8"))
    assert all(tuple(content[language]) == EMOTIONS for language in ("en", "zh"))
    assert len(ADDED) == 19


@pytest.mark.slow
def test_a_cosyvoice_folder_is_trained_and_exported(folder: Path, tmp_path: Path) -> None:
    """The whole way by the command line's own functions, on random weights of a tiny size."""
    write_llm(folder)
    config = HEADS
    rows = [
        Utterance(f"{n}", text, emotion, np.arange(n, n + 12))
        for n, (text, emotion) in enumerate(
            (text, emotion) for text in ("one", "two", "three") for emotion in ("happy", "sad")
        )
    ]
    write_shard(tmp_path / "tokens.parquet", rows, "speech_tokenizer_v2")
    codec = "speech_tokenizer_v2"
    small = RewardConfig(width=16, layers=1, heads=2, feedforward=16, codec=codec)
    reward.save(RewardModel(small), tmp_path / "reward")
    quick = [
        "train.steps=2",
        "language=zh",
        "diffro.rollout.max_ratio=2.0",
        "recompute=true",
        "text_table=frozen",
        "reference_precision=bfloat16",
    ]
    judges = [tmp_path / "reward"]
    train_diffro(tmp_path / "run", judges, tmp_path, start=folder, settings=quick)
    speech.export(tmp_path / "run", "cosyvoice2", tmp_path / "out")
    before, after = (cosyvoice.load(path, config) for path in (folder, tmp_path / "out"))
    assert before.config == after.config
    assert not torch.equal(before.head.weight, after.head.weight)
    assert torch.equal(before.text_embedding.weight, after.text_embedding.weight)
    # A run of a run finds the tokenizer and keeps the language, also from its checkpoint.
    once = {"train.steps": 1}
    mine = tmp_path / "mine.yaml"
    mine.write_text("zh:\n  happy: 高兴地说\n  sad: 难过地说\n", encoding="utf-8")
    told = {**once, "instructions": str(mine)}
    train_sft(tmp_path / "second", tmp_path, start=tmp_path / "run", settings=told)
    mine.unlink()  # what a run was told stays with it
    second = loading.load_tokenizer(origin_of(tmp_path / "second"), policy.load(tmp_path / "run"))
    assert isinstance(second, CosyVoiceTokenizer)
    assert second.instruction("happy").startswith("高兴地说")
    for start in (tmp_path / "second", tmp_path / "second" / "checkpoint"):
        first = origin_of(str(start))
        assert (first.start, first.language) == (str(folder), "zh")
    with pytest.raises(UserError, match="is there already"):
        speech.export(tmp_path / "run", "cosyvoice2", tmp_path / "out")
    speech.export(tmp_path / "second", "hf", tmp_path / "hf", folder)
    assert "- happy: `高兴地说" in (tmp_path / "hf" / "README.md").read_text(encoding="utf-8")
    with pytest.raises(UserError, match="is there already"):  # it would be read in its place
        speech.export(tmp_path / "run", "cosyvoice2", tmp_path / "hf")
    for taken in (folder, tmp_path / "hf"):
        with pytest.raises(UserError, match="holds a model"):
            train_sft(taken, tmp_path, start=folder)
    for full in (tmp_path / "hf", tmp_path / "second", folder):
        with pytest.raises(UserError, match="is not empty"):
            speech.export(tmp_path / "second", "hf", full, folder)
    assert cosyvoice.load(tmp_path / "hf").config.text_vocabulary >= 256
    with pytest.raises(UserError, match="give CosyVoice's own with --data"):
        train_sft(tmp_path / "x", start=folder)
    with pytest.raises(UserError, match="give CosyVoice's own with --data"):
        train_sft(tmp_path / "x", start=tmp_path / "run")
    with pytest.raises(UserError, match="the reward model mini is of the codec mini"):
        train_diffro(tmp_path / "x", ["mini"], tmp_path, start=folder)
    rows[2] = Utterance("mute", " ", "sad", np.arange(5))
    write_shard(tmp_path / "mute" / "0.parquet", rows, "speech_tokenizer_v2")
    with pytest.raises(UserError, match="'mute' has no text"):
        train_sft(tmp_path / "x", tmp_path / "mute", start=folder)
    model = policy.load(tmp_path / "run")
    with pytest.raises(UserError, match="not at"):
        loading.load_tokenizer(PolicyRun(start=str(tmp_path / "moved")), model)
    out, voice = tmp_path / "x.wav", tmp_path / "voice.wav"
    with pytest.raises(UserError, match="name a recording of a --voice"):
        speech.speak(str(tmp_path / "run"), "one", out, "happy")
    with pytest.raises(UserError, match="no reference recording at"):
        speech.speak(str(tmp_path / "run"), "one", out, "happy", voice=voice)
