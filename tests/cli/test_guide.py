"""docs/cosyvoice.md from end to end on a tiny model folder: every command of it, in its order."""

import importlib
import json
import re
import shlex
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor
from typer.testing import CliRunner

from model_folder import HEADS, write_llm, write_package, write_speech_tokenizer, write_tokenizer
from places import ROOT
from rrpo import policy, reward
from rrpo.cli import app
from rrpo.codec.cosyvoice import CosyVoiceCodec
from rrpo.data.shards import Utterance, write_shard
from rrpo.errors import UserError
from rrpo.files import read_json, sha256
from rrpo.judging import evaluate
from rrpo.listen.design import read_design, sound_file
from rrpo.loading import load_policy
from rrpo.mini.world import World
from rrpo.origin import origin_of
from rrpo.policy import cosyvoice
from rrpo.reward import RewardConfig, RewardModel
from rrpo.speaking.best_of import choose, choosing_reward
from rrpo.speaking.cosyvoice import CosyVoiceSpeaker, cap_silence
from rrpo.speaking.speaker import Said, asked

# Looked for and not imported: that takes seconds even where all of these tests are left out.
pytestmark = [
    pytest.mark.slow,
    *(
        pytest.mark.skipif(find_spec(package) is None, reason=f"needs {package}")
        for package in ("transformers", "onnx", "peft")
    ),
]

GUIDE = ROOT / "docs" / "cosyvoice.md"
QUICK = {
    "attack": "--quick --utterances 4",
    "reward": "--set train.steps=2 --set train.warmup_steps=0",
    "sft": "--set train.steps=1 --set train.warmup_steps=0 --set train.learning_rate=1e-3",
    "diffro": "--set train.steps=1 --set train.warmup_steps=0 --set diffro.batch_size=2",
    "grpo": "--set train.steps=1 --set train.warmup_steps=0 --set grpo.prompts=1",
    # What tiny random weights say ends seldom.
    "dpo": "--set train.steps=1 --set train.warmup_steps=0 --set dpo.batch_size=1 "
    "--set pairs.prompts=2 --set pairs.count=64",
    "forgetting": "--texts short.yaml",
}
"""Added to the guide's commands, so that each takes seconds and one step moves the policy."""


def commands() -> list[list[str]]:
    """Return the guide's rrpo commands as words."""
    text = GUIDE.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"```sh\n(.*?)```|(?m:^    (rrpo [^\n]*))", text, re.DOTALL)
    shell = "\n".join("".join(block) for block in blocks)
    return [shlex.split(line, comments=True) for line in shell.splitlines() if "rrpo " in line]


def write_corpus(folder: Path, count: int) -> None:
    """Write a corpus as CosyVoice's data recipe leaves it, of tones that tell happy from sad."""
    folder.mkdir()
    tables: dict[str, list[str]] = {name: [] for name in ("wav.scp", "text", "utt2spk", "utt2emo")}
    for number in range(count):
        emotion = ("happy", "sad")[number % 2]
        tone = 0.3 * np.sin(np.arange(12_800) * (0.3 if emotion == "happy" else 0.05) + number)
        soundfile.write(folder / f"{number}.wav", tone, 16_000)
        values = (f"{number}.wav", f"Text {number // 2}.", "speaker", emotion)
        for name, value in zip(tables, values, strict=True):
            tables[name].append(f"u{number} {value}\n")
    for name, lines in tables.items():
        (folder / name).write_text("".join(lines))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all the guide speaks of, as the working directory."""
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "CosyVoice2-0.5B"
    write_tokenizer(model)
    write_llm(model)
    write_speech_tokenizer(model)
    write_corpus(tmp_path / "corpus", 8)
    write_corpus(tmp_path / "held-out", 4)
    soundfile.write(
        tmp_path / "voice.wav", 0.1 * np.random.default_rng(0).standard_normal(16_000), 16_000
    )
    (tmp_path / "short.yaml").write_text("en: [Hello.]\nzh: [你好。]\n", encoding="utf-8")
    write_package(tmp_path / "packages")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "cosyvoice"]:
        del sys.modules[name]


@pytest.mark.usefixtures("quick_judges")
def test_every_command_of_the_guide_runs(place: Path) -> None:
    asked = commands()
    assert {" ".join(words[1:3]) for words in asked} >= {
        "data import",
        "reward train",
        "reward eval",
        "reward attack",
        "policy sft",
        "policy diffro",
        "policy grpo",
        "policy dpo",
        "evaluate rrpo-run",
        "policy forgetting",
    }
    for words in asked:
        kind = next((name for name in QUICK if name in words and "eval" not in words), None)
        more = shlex.split(QUICK[kind]) if kind else []
        done = CliRunner().invoke(app, [*words[1:], *more])
        assert done.exit_code == 0, (words, done.output, done.exception)
    trained = cosyvoice.load(place / "CosyVoice2-0.5B-rrpo" / "llm.pt", HEADS)
    before = cosyvoice.load(place / "CosyVoice2-0.5B")
    assert trained.config == before.config
    assert not torch.equal(trained.head.weight, before.head.weight)
    figures = read_json(place / "rrpo-run" / "evaluation.json")["system"]
    assert figures["judge_probability"] is None
    assert figures["rewards"]["rm-hardened"]["mean"] < 0
    assert figures["utterances"] == 4
    assert len(list((place / "rrpo-run" / "samples").glob("*.wav"))) == 4
    groups = read_json(place / "rrpo-run" / "forgetting.json")["groups"]
    assert groups["zh"]["kl"]["mean"] > 0
    card = (place / "CosyVoice2-0.5B-rrpo" / "README.md").read_text(encoding="utf-8")
    assert "| zh | 1 |" in card and "### 2. diffro, `rrpo-run`" in card
    spoken, rate = soundfile.read(place / "x.wav")
    assert rate == 24_000
    assert spoken.size % 960 == 0
    assert spoken.size > 0


def test_tokens_are_spoken_by_the_users_package(place: Path) -> None:
    codec = CosyVoiceCodec(place / "CosyVoice2-0.5B", place / "voice.wav")
    ids = torch.tensor([0, 6560, 3280])
    native = codec.decode_native(ids)
    np.testing.assert_allclose(native[[0, 960, 1920]], [0, 6560 / 6561, 3280 / 6561], atol=1e-6)
    assert codec.decode(ids).size == 3 * 640
    sound = soundfile.read(place / "corpus" / "0.wav", dtype="float32")[0]
    assert codec.encode(sound).numel() == 20
    for wrong in (torch.tensor([], dtype=torch.int64), torch.tensor([6561])):
        with pytest.raises(UserError, match="cannot speak"):
            codec.decode(wrong)


def test_a_voice_is_heard_as_every_other_recording(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """m-bain/whisperX#750: the package would average channels, and hear nothing."""
    given = []

    class Frontend:
        def frontend_zero_shot(self, *words: object) -> dict[str, Tensor]:
            given.append(soundfile.read(words[2], dtype="float32"))
            names = ("flow_prompt_speech_token", "prompt_speech_feat", "flow_embedding")
            return dict.fromkeys(names, torch.zeros(1))

    package = importlib.import_module("cosyvoice.cli.cosyvoice")
    monkeypatch.setattr(package, "Frontend", Frontend)
    model, path = place / "CosyVoice2-0.5B", place / "odd.wav"
    noise = np.random.default_rng(0).normal(0, 0.1, 24_000).astype(np.float32)
    soundfile.write(path, np.stack([noise, -noise], 1), 24_000, subtype="FLOAT")
    CosyVoiceCodec(model, path)
    ((heard, rate),) = given
    assert rate == 24_000
    np.testing.assert_allclose(heard, noise, atol=2**-15)
    assert "a channel is turned over" in capsys.readouterr().out
    for sound, said in ((np.zeros(9000), "is silent"), (90 * noise, "a peak of")):
        soundfile.write(path, sound, 24_000, subtype="FLOAT")
        with pytest.raises(UserError, match=said):
            CosyVoiceCodec(model, path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="is cut off"):
        CosyVoiceCodec(model, path)
    assert len(given) == 1


def test_rewards_are_audited_in_one_voice_and_in_matching_ones(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codec = load_policy("CosyVoice2-0.5B").config.codec
    rows = [
        Utterance(f"{number}", "Text.", emotion, np.arange(5) + number)
        for number, emotion in enumerate(("happy", "sad"))
    ]
    write_shard(place / "shards" / "0.parquet", rows, codec)
    torch.manual_seed(0)
    small = RewardConfig(width=16, layers=1, heads=2, feedforward=16, codec=codec)
    reward.save(RewardModel(small), place / "rm")
    asked = {"sentences": 1, "data": "shards", "voice": "voice.wav"}
    (place / "voices").mkdir()
    shutil.copy("voice.wav", place / "voices" / "happy.wav")
    with pytest.raises(UserError, match=r"--matching voices lacks sad\.wav"):
        evaluate(["CosyVoice2-0.5B"], ["rm"], matching="voices", **asked)
    with pytest.raises(UserError, match="--matching is for CosyVoice"):
        evaluate(["mini"], sentences=1, matching="voices")
    shutil.copy("voice.wav", place / "voices" / "sad.wav")
    heard: list[str] = []
    original = CosyVoiceCodec.in_voice

    def listen(codec: CosyVoiceCodec, voice: Path) -> CosyVoiceCodec:
        heard.append(voice.name)
        return original(codec, voice)

    monkeypatch.setattr(CosyVoiceCodec, "in_voice", listen)
    found = evaluate(["CosyVoice2-0.5B"], ["rm"], matching="voices", **asked)["CosyVoice2-0.5B"]
    assert sorted(heard) == ["happy.wav", "sad.wav"]
    for key in ("recodec", "recodec_matching"):
        assert set(found[key]["rm"]) == {"all", "happy", "sad"}
        assert found[key]["rm"]["all"].mean != 0.0
    # The package of this test speaks alike in every voice.
    assert found["recodec"] == found["recodec_matching"]
    (place / "CosyVoice2-0.5B" / "speech_tokenizer_v2.onnx").unlink()
    shutil.copy("voice.wav", "other.wav")  # the codec of a voice is loaded once
    asked |= {"voice": "other.wav", "codec_of": codec}
    found = evaluate(["CosyVoice2-0.5B"], ["rm"], **asked)["CosyVoice2-0.5B"]
    assert "recodec" not in found
    assert "note: no recodec audit: " in capsys.readouterr().out


def test_what_is_missing_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, voice = place / "CosyVoice2-0.5B", place / "voice.wav"
    with pytest.raises(UserError, match="no reference recording at"):
        CosyVoiceCodec(model, place / "none.wav")
    with pytest.raises(UserError, match="no CosyVoice model folder at"):
        CosyVoiceCodec(place / "none", voice)
    voice.rename(place / "broken.wav")
    with pytest.raises(UserError, match=r"or read .*broken\.wav: cannot decode$"):
        CosyVoiceCodec(model, place / "broken.wav")
    monkeypatch.setitem(sys.modules, "cosyvoice.cli.cosyvoice", None)
    with pytest.raises(UserError, match="third_party/Matcha-TTS on PYTHONPATH"):
        CosyVoiceCodec(model, place / "broken.wav")


def test_policies_of_two_worlds_are_not_evaluated_together(place: Path, tmp_path: Path) -> None:
    mini = tmp_path / "mini"
    policy.save(World().policy(), mini)
    with pytest.raises(UserError, match=r"is of the codec speech_tokenizer_v2 .*of mini"):
        evaluate([mini, place / "CosyVoice2-0.5B"], voice=place / "voice.wav")
    with pytest.raises(UserError, match="give CosyVoice's own with --data"):
        evaluate([place / "CosyVoice2-0.5B"], sentences=1, voice=place / "voice.wav")


def test_a_base_is_told_what_the_run_beside_it_is(place: Path) -> None:
    """Else the two differ in their prompts, and not in their training alone."""
    folder, run = place / "CosyVoice2-0.5B", place / "told"
    run.mkdir()
    (run / "own.yaml").write_text("en:\n  happy: Glad, please.\n")
    (run / "config.yaml").write_text(
        json.dumps({"start": str(folder), "language": "en", "instructions": str(run / "own.yaml")})
    )
    model, voice = load_policy(folder), place / "voice.wav"
    told = (None, origin_of(run))
    alone, beside = (CosyVoiceSpeaker(str(folder), model, voice, told=one) for one in told)
    assert list(beside.emotions) == ["happy"] and len(alone.emotions) > 1
    row = asked("Text one.", "happy")
    ids = [one.prompts([row])[0].instruct_ids.tolist() for one in (alone, beside)]
    assert ids[0] != ids[1]


def test_a_policy_is_told_in_the_users_words(place: Path) -> None:
    own = place / "glad.yaml"
    own.write_text("fr:\n  happy: Avec joie.\n")
    words = ["speak", "--policy", "CosyVoice2-0.5B", "--text", "Text one.", "--emotion", "happy"]
    words += ["--voice", "voice.wav", "--out", "said.wav"]
    french = ["--language", "fr", "--instructions", "glad.yaml"]
    sounds = set()
    for more in ([], ["--language", "zh"], french):
        done = CliRunner().invoke(app, [*words, *more])
        assert done.exit_code == 0, (done.output, done.exception)
        sounds.add((place / "said.wav").read_bytes())
    assert len(sounds) == 3
    for more, why in (
        (["--language", "fr"], "has no instructions for language 'fr'"),
        (french[2:], "has no instructions for language 'en'"),
        (["--instructions", "none.yaml"], "none.yaml"),
    ):
        refused = CliRunner().invoke(app, [*words, *more]).exception
        assert isinstance(refused, UserError) and why in str(refused)
    mini = ["speak", "--policy", "mini", "--text", "Hi.", "--out", "said.wav", "--language", "zh"]
    refused = CliRunner().invoke(app, mini).exception
    assert isinstance(refused, UserError) and "are for CosyVoice's policies" in str(refused)


def test_the_page_of_play_speaks_as_the_command(place: Path) -> None:
    for package in ("starlette", "uvicorn", "httpx2"):
        pytest.importorskip(package, reason="needs rrpo[play] and a client")
    from starlette.testclient import TestClient

    from rrpo.play import page

    folder, voice = "CosyVoice2-0.5B", place / "voice.wav"
    with pytest.raises(UserError, match="name a recording of a --voice"):
        page.load_speakers([folder])
    speakers = page.load_speakers([folder], voice)
    client = TestClient(page.make(speakers, "127.0.0.1"), base_url="http://127.0.0.1")
    assert "<option>surprised</option>" in client.get("/").text
    asked = {"policy": 0, "text": "Text one.", "emotion": "sad", "seed": 1}
    answer = client.post("/speech", json=asked)
    assert answer.status_code == 200, answer.text
    words = ["--policy", folder, "--text", "Text one.", "--emotion", "sad", "--seed", "1"]
    words += ["--voice", str(voice), "--out", "said.wav"]
    done = CliRunner().invoke(app, ["speak", *words])
    assert done.exit_code == 0, done.output
    assert (place / "said.wav").read_bytes() == answer.content


def test_cosyvoice_policies_are_compared_in_a_listening_test(place: Path) -> None:
    pytest.importorskip("pyloudnorm", reason="needs pyloudnorm: pip install 'rrpo[listen]'")
    listen = ["listen", "build", "before=CosyVoice2-0.5B", "after=CosyVoice2-0.5B"]
    listen += ["--voice", "voice.wav", "--texts", "2", "--listeners", "2", "--out", "heard"]
    without = CliRunner().invoke(app, listen).exception
    assert isinstance(without, UserError)
    assert "give CosyVoice's own with --data" in str(without)
    for words in commands():
        if any("held-out" in word for word in words) and words[1] in ("data", "tokenize"):
            assert CliRunner().invoke(app, words[1:]).exit_code == 0, words
    done = CliRunner().invoke(app, [*listen, "--data", "tokens-held-out/tokens"])
    assert done.exit_code == 0, done.output
    design = read_design(place / "heard")
    assert design.systems == ["before", "after"]
    assert not design.bundled_voice
    spoken = [one for one in design.sounds if one.system in design.systems]
    assert len(spoken) >= 4
    for one in spoken:
        assert soundfile.info(sound_file(place / "heard", one.id)).samplerate == 24_000


def test_an_utterance_without_a_token_is_judged_as_silence(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = cosyvoice.load(place / "CosyVoice2-0.5B")
    spoken = CosyVoiceSpeaker(str(place / "CosyVoice2-0.5B"), model, place / "voice.wav", None)
    said = [torch.tensor([], dtype=torch.int64), torch.tensor([5, 6])]
    drawn = [Said(tokens, True) for tokens in said]
    monkeypatch.setattr(spoken, "say", lambda rows, seed: drawn)  # noqa: ARG005
    with pytest.warns(UserWarning, match="nothing was said to 'one'"):
        silent, other = spoken.samples([asked("one", "happy"), asked("two", "sad")], 0)
    assert silent.audio.size == 640 * silent.tokens.numel() > 0
    assert not silent.audio.any()
    assert other.tokens.tolist() == [5, 6]


def test_an_emotion_the_reward_model_lacks_is_said_before_anything_is_spoken(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = {"emotion": ["bored", "proud"]}
    codec = "speech_tokenizer_v2"
    small = RewardConfig(width=16, layers=1, heads=2, feedforward=16, tasks=tasks, codec=codec)
    reward.save(RewardModel(small), place / "other")
    rows = [Utterance("a", "one two", "happy", np.arange(9))]
    write_shard(place / "shard" / "0.parquet", rows, codec)
    monkeypatch.setattr(CosyVoiceSpeaker, "say", None)  # whoever speaks fails
    folder, voice = place / "CosyVoice2-0.5B", place / "voice.wav"
    with pytest.raises(UserError, match="does not know the emotion 'happy'"):
        evaluate([folder], [place / "other"], sentences=1, data=place / "shard", voice=voice)


def test_the_best_of_several_of_a_cosyvoice_policy(place: Path) -> None:
    """Its content head reads characters; one that reads ids of another text is refused."""
    codec = "speech_tokenizer_v2"
    shape = {"width": 16, "layers": 1, "heads": 2, "feedforward": 16, "codec": codec}
    letters = sorted(set(map(ord, "text one")))
    torch.manual_seed(0)
    heard = RewardModel(RewardConfig(symbols=letters, text="characters", **shape))
    reward.save(heard, place / "rm")
    reward.save(RewardModel(RewardConfig(phones=40, **shape)), place / "other")
    words = ["speak", "--policy", "CosyVoice2-0.5B", "--text", "Text one.", "--emotion", "sad"]
    words += ["--voice", "voice.wav", "--out", "said.wav", "--best-of", "3", "--reward"]
    sounds = []
    for _ in range(2):
        done = CliRunner().invoke(app, [*words, "rm"])
        assert done.exit_code == 0, (done.output, done.exception)
        sounds.append((place / "said.wav").read_bytes())
    assert sounds[0] == sounds[1]
    folder = place / "CosyVoice2-0.5B"
    spoken = CosyVoiceSpeaker(str(folder), load_policy(folder), place / "voice.wav", None)
    row = asked("Text one.", "sad")
    drawn = spoken.say([row] * 3, 0)
    payer = choosing_reward([reward.load(place / "rm")])
    assert set(payer.weights) == {"emotion", "content"}
    choice = choose(payer, spoken.prompts([row])[0], drawn)
    assert choice is not None and choice.line() in done.output
    sound, _ = soundfile.read(place / "said.wav")
    assert sound.size == spoken.sound(drawn[choice.index].tokens).size
    refused = CliRunner().invoke(app, [*words, "other"]).exception
    assert isinstance(refused, UserError) and "another policy's text" in str(refused)
    of_mini = CliRunner().invoke(app, [*words, "mini"]).exception
    assert isinstance(of_mini, UserError) and "their tokens mean other sounds" in str(of_mini)


def test_silence_is_capped_as_cosyvoice3_does() -> None:
    tokens = torch.tensor([7, 1, 2, 28, 29, 55, 248, 1, 9, 1, 1, 9])
    assert cap_silence(tokens).tolist() == [7, 1, 2, 28, 29, 55, 9, 1, 1, 9]
    assert cap_silence(torch.tensor([5, 6])).tolist() == [5, 6]


def test_a_folder_that_moved_is_named_with_model(place: Path) -> None:
    """The tokenizer, too, comes from the folder that is named."""
    moved = place / "elsewhere"
    model = cosyvoice.load(place / "CosyVoice2-0.5B")
    (place / "CosyVoice2-0.5B").rename(moved)
    speech = CosyVoiceSpeaker("CosyVoice2-0.5B", model, place / "voice.wav", moved)
    assert speech.say([asked("Hello.", "happy")], seed=0)[0].tokens.ndim == 1
    with pytest.raises(UserError, match="is not at"):
        CosyVoiceSpeaker("CosyVoice2-0.5B", model, place / "voice.wav", None)


def test_what_cannot_be_asked_is_told_before_anything_is_drawn(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = place / "CosyVoice2-0.5B"
    spoken = CosyVoiceSpeaker(str(folder), cosyvoice.load(folder), place / "voice.wav", None)
    monkeypatch.setattr("rrpo.speaking.cosyvoice.generate", None)  # whoever draws fails
    rows = [asked("Hello.", "happy", name=f"{number}") for number in range(20)]
    for text, emotion, said in (
        ("……", "happy", "nothing to say"),
        ("Hi.", "bored", "no instruction for 'bored'"),
    ):
        with pytest.raises(UserError, match=f"utterance 'last': .*{said}"):
            spoken.say([*rows, asked(text, emotion, name="last")], 0)


def test_a_model_folder_of_another_codec_is_refused(place: Path) -> None:
    """Its flow would speak the same numbers as other sounds."""
    folder, voice = place / "CosyVoice2-0.5B", place / "voice.wav"
    model = cosyvoice.load(folder)
    tokenizer = folder / "speech_tokenizer_v2.onnx"
    model.config = model.config.model_copy(
        update={"codec": f"speech_tokenizer_v2 {sha256(tokenizer)}"}
    )
    CosyVoiceSpeaker("sft", model, voice, folder)
    newer = shutil.copytree(folder, place / "CosyVoice3")
    (newer / tokenizer.name).rename(newer / "speech_tokenizer_v3.onnx")
    with pytest.raises(UserError, match=r"CosyVoice3 is of the codec speech_tokenizer_v3 .*v2"):
        CosyVoiceSpeaker("sft", model, voice, newer)
    # With both files there, that of the policy's name counts, and its weights.
    shutil.copy(tokenizer, newer)
    CosyVoiceSpeaker("sft", model, voice, newer)
    (newer / tokenizer.name).write_bytes(tokenizer.read_bytes() + b"x")
    with pytest.raises(UserError, match=r"of the codec speech_tokenizer_v2 \("):
        CosyVoiceSpeaker("sft", model, voice, newer)
