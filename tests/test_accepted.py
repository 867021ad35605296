"""docs/inputs.md row by row: what it calls taken is taken, what it calls refused is refused."""

import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import soundfile
import torch

from corpus_trees import write
from foreign_checkpoints import model_folder, upstream_state
from model_folder import write_tokenizer
from places import ROOT
from rrpo import config, loading, policy, policy_runs
from rrpo.cli.data import data_import, tokenize
from rrpo.cli.speech import export
from rrpo.data.shards import Utterance, write_shard
from rrpo.errors import UserError
from rrpo.loading import load_data, load_mixes
from rrpo.mini.world import World
from rrpo.objectives.pairs import CHOSEN, REJECTED, read_pairs
from rrpo.policy.cosyvoice_text import END_OF_PROMPT, CosyVoiceTokenizer
from rrpo.policy.layout import Tokenizer, make_examples
from rrpo.post_training import train_sft
from rrpo.report.page import write_run_page
from rrpo.sound.file import load_voice
from sounds import RATE, encoded, voice

PAGE = ROOT / "docs" / "inputs.md"
TABLE = "path,emotion,text\na.wav,sad,Hi.\nb.wav,happy,Ho.\n"
Given = Callable[[Path], Any]


def rows() -> list[tuple[str, str, str]]:
    """Return door, what is given and the answer, of each row of the page's last table."""
    found, door = [], ""
    for line in PAGE.read_text(encoding="utf-8").split("## Row by row")[1].splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 3 and cells[0] != "door" and set(cells[1]) != {"-"}:
            door = cells[0] or door
            found.append((door, cells[1], cells[2]))
    return found


def sounds(folder: Path, **files: bytes) -> Path:
    """Write two good sounds, and others by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate("ab"):
        (folder / f"{name}.wav").write_bytes(encoded("wav", voice(0.6, number)))
    for name, data in files.items():
        (folder / f"{name}.wav").write_bytes(data)
    return folder


def csv(content: str | bytes, encoding: str = "utf-8") -> Given:
    """Import a table beside two sounds."""

    def run(at: Path) -> None:
        data = content if isinstance(content, bytes) else content.encode(encoding)
        (sounds(at / "csv") / "t.csv").write_bytes(data)
        data_import("csv", at / "csv" / "t.csv", at / "out")

    return run


def several(*given: Given) -> Given:
    """Try one after the other, each in a folder of its own."""

    def run(at: Path) -> None:
        for number, one in enumerate(given):
            (at / f"{number}").mkdir()
            one(at / f"{number}")

    return run


def kaldi(**files: str) -> Given:
    def run(at: Path) -> None:
        folder = sounds(at / "kaldi")
        plain = {
            "wav.scp": "a a.wav\nb b.wav\n",
            "text": "a Hi.\nb Ho.\n",
            "utt2spk": "a s\nb s\n",
            "utt2emo": "a sad\nb happy\n",
        }
        for name, content in (
            plain | {key.replace("_", "."): v for key, v in files.items()}
        ).items():
            write(folder / name, content)
        data_import("cosyvoice", folder, at / "out")

    return run


def cosyvoice(**columns: list[Any]) -> Given:
    def run(at: Path) -> None:
        table = {
            "utt": ["a", "b"],
            "audio_data": [encoded("wav", voice(1.0, seed)) for seed in range(2)],
            "text": ["Hi.", "Ho."],
            "spk": ["s", "s"],
            "speech_token": [list(range(25))] * 2,
            "emotion": ["sad", "happy"],
        }
        parquet.write_table(arrow.table(table | columns), at / "a.parquet")
        data_import("cosyvoice", at / "a.parquet", at / "out")

    return run


def tokenized(table: str = TABLE, mixes: int = 0, **files: bytes) -> Given:
    def run(at: Path) -> None:
        write(sounds(at / "own", **files) / "manifest.csv", table)
        tokenize(at / "own", at / "out", "mini", mixes)

    return run


def formats(at: Path) -> None:
    kinds = ("wav", "flac", "mp3", "ogg")
    lines = "".join(f"{kind}.{kind},sad\n" for kind in kinds)
    write(at / "own" / "manifest.csv", f"path,emotion\n{lines}")
    for number, kind in enumerate(kinds):
        (at / "own" / f"{kind}.{kind}").write_bytes(encoded(kind, voice(0.6, number)))
    tokenize(at / "own", at / "out")


def stereo() -> bytes:
    return encoded("flac", np.repeat(voice(0.6)[:, None], 2, axis=1), 48_000)


def utterances(count: int = 2, **changes: Any) -> list[Utterance]:
    return [
        Utterance(**{"id": f"{at}", "text": "It is noon.", "emotion": "sad",
                     "tokens": np.arange(20) + at, **changes})
        for at in range(count)
    ]  # fmt: skip


def shard(**changes: Any) -> Given:
    def run(at: Path) -> None:
        write_shard(at / "a.parquet", utterances(**changes), World().codec_identity)
        load_data(at / "a.parquet", World().policy())

    return run


def made_by_tokenize(at: Path) -> None:
    tokenized(mixes=1)(at)
    load_data(at / "out" / "tokens", World().policy())


def mixed(name: str, read: Callable[[Path], Any]) -> Given:
    def run(at: Path) -> None:
        tokenized(mixes=1)(at)
        read(at / "out" / name)

    return run


def copied(at: Path) -> None:
    write_shard(at / "0.parquet", utterances())
    shutil.copy(at / "0.parquet", at / "0 copy.parquet")
    load_data(at)


def same_tokens(*emotions: str) -> Given:
    def run(at: Path) -> None:
        rows = [Utterance(f"{n}", "Hi.", one, np.arange(25)) for n, one in enumerate(emotions)]
        write_shard(at / "a.parquet", rows)
        load_data(at / "a.parquet")

    return run


def other_sound(at: Path) -> None:
    soundfile.write(at / "s.wav", voice(5.0), RATE)
    write_shard(at / "0.parquet", utterances(1))
    named = parquet.read_table(at / "0.parquet").append_column("path", arrow.array(["s.wav"]))
    parquet.write_table(named, at / "0.parquet")
    load_data(at / "0.parquet")


def half_shard(at: Path) -> None:
    write_shard(at / "0.parquet", utterances())
    data = (at / "0.parquet").read_bytes()
    (at / "0.parquet").write_bytes(data[: len(data) // 2])
    load_data(at / "0.parquet")


def pairs(rejected: list[Utterance] | None, **chosen: Any) -> Given:
    def run(at: Path) -> None:
        write_shard(at / CHOSEN, utterances(**chosen))
        if rejected is not None:
            write_shard(at / REJECTED, rejected)
        read_pairs(at, World().tokenizer)

    return run


def twice(turned: bool) -> Given:
    def run(at: Path) -> None:
        good, bad = utterances(1), utterances(1, tokens=np.arange(30))
        again = [Utterance(**{**vars(row), "id": "again"}) for row in (good[0], bad[0])]
        first, second = again[::-1] if turned else again
        write_shard(at / CHOSEN, [*good, first])
        write_shard(at / REJECTED, [*bad, second])
        read_pairs(at, World().tokenizer)

    return run


def spoken(text: str, cosyvoice: bool = False) -> Given:
    def run(at: Path) -> None:
        tokenizer: Tokenizer = World().tokenizer
        if cosyvoice:
            pytest.importorskip("transformers")
            write_tokenizer(at / "CosyVoice2")
            tokenizer = CosyVoiceTokenizer(at / "CosyVoice2")
        make_examples(tokenizer, utterances(text=text))

    return run


def played(name: str = "mini", text: str = "It is noon.", voice: str | None = None) -> Given:
    def run(at: Path) -> None:
        pytest.importorskip("starlette")
        pytest.importorskip("httpx2")
        from starlette.testclient import TestClient

        from rrpo.play import page

        if name.endswith("policy"):
            tiny_policy(at / "policy")
        speakers = page.load_speakers([name.format(at)], voice)
        browser = TestClient(page.make(speakers, "127.0.0.1"), base_url="http://127.0.0.1:8025")
        asked = {"policy": 0, "text": text, "emotion": "sad", "seed": 0}
        answer = browser.post("/speech", json=asked)
        if answer.status_code != 200:
            raise UserError(answer.text)

    return run


def recorded(seconds: float, end: int | None = None) -> Given:
    def run(at: Path) -> None:
        (at / "voice.wav").write_bytes(encoded("wav", voice(seconds))[:end])
        load_voice(at / "voice.wav")

    return run


def checkpoint(change: Callable[[dict[str, Any]], Any], end: int | None = None) -> Given:
    def run(at: Path) -> None:
        folder = model_folder(at / "CosyVoice2")
        torch.save(change(upstream_state(at)), folder / "llm.pt")
        data = (folder / "llm.pt").read_bytes()
        (folder / "llm.pt").write_bytes(data[:end])
        loading.load_policy(str(folder))

    return run


QUERY = "llm.model.model.layers.0.self_attn.q_proj.weight"


def archived(at: Path) -> None:
    write(at / "inner", "x")
    with tarfile.open(at / "llm.pt", "w") as archive:
        archive.add(at / "inner")
    loading.load_policy(str(at / "llm.pt"))


def empty_folder(at: Path) -> None:
    loading.load_policy(str(model_folder(at / "CosyVoice2") / "llm.pt"))


def settings(content: str, *options: str, encoding: str = "utf-8") -> Given:
    def run(at: Path) -> None:
        write(at / "c.yaml", content, encoding)
        config.load(policy_runs.SFTRun, at / "c.yaml", options)

    return run


def instructions(content: str) -> Given:
    def run(at: Path) -> None:
        pytest.importorskip("transformers")
        write_tokenizer(at / "CosyVoice2")
        write(at / "i.yaml", content)
        CosyVoiceTokenizer(at / "CosyVoice2", instructions=at / "i.yaml")

    return run


def tiny_policy(folder: Path, codec: str = "") -> Path:
    size, codec = World().tokenizer.vocabulary_size, codec or World().codec_identity
    small = {"hidden": 8, "layers": 1, "heads": 2, "key_value_heads": 1, "intermediate": 8}
    model = policy.SpeechTokenLM(policy.LMConfig(text_vocabulary=size, codec=codec, **small))
    policy.save(model, folder)
    return folder


def trained(at: Path, text: str = "It is noon.", resume: bool = False) -> Path:
    start = at / "policy" if resume else tiny_policy(at / "policy")
    data = [*utterances(), *utterances(text=text, id="x")[:1]]
    write_shard(at / "data" / "0.parquet", data, World().codec_identity)
    quick = ["train.steps=1", "train.warmup_steps=0", "sft.batch_size=2"]
    train_sft(at / "run", at / "data", start=start, settings=quick, resume=resume)
    return at / "run"


def resumed(change: Callable[[Path], None] = lambda _: None, text: str = "It is late.") -> Given:
    def run(at: Path) -> None:
        change(trained(at, "It is late."))
        trained(at, text, resume=True)
        write_run_page(at / "run")

    return run


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def halve(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def exported(
    to: str,
    twice: bool = False,
    precision: str | None = None,
    codec: str = "speech_tokenizer_v2",
) -> Given:
    def run(at: Path) -> None:
        tiny_policy(at / "policy", codec)
        for _ in range(1 + twice):
            export(at / "policy", to, at / "out", precision=precision)

    return run


def harmful(state: dict[str, Any]) -> Any:
    return {**state, "x": PAGE}


SAME = encoded("wav", voice(0.6))
LOST = "path,emotion\nx.wav,sad\n"
GIVEN: dict[tuple[str, str], Given] = {
    ("rrpo data import csv", "commas, semicolons, tabs or pipes between cells"): several(
        *(csv(TABLE.replace(",", sign)) for sign in ",;\t|")
    ),
    ("rrpo data import csv", "UTF-16 of Excel, UTF-8 with a byte order mark"): several(
        csv(TABLE, "utf-16"), csv(TABLE, "utf-8-sig")
    ),
    ("rrpo data import csv", "Chinese in GB18030"): csv(
        TABLE.replace("Hi.", "今天天气很好"), "gb18030"
    ),
    ("rrpo data import csv", r"lines that end in `\r` alone, blank lines"): several(
        csv(TABLE.replace("\n", "\r")), csv(TABLE.replace("\n", "\n\n"))
    ),
    ("rrpo data import csv", "a quote that is not closed"): csv(TABLE.replace("Ho.", '"Ho.')),
    ("rrpo data import csv", "a row with a cell too few"): csv(TABLE.replace(",Ho.", "")),
    ("rrpo data import csv", "no header"): csv(TABLE.partition("\n")[2]),
    ("rrpo data import csv", "JSON lines"): csv('{"path": "a.wav", "emotion": "sad"}\n'),
    ("rrpo data import csv", "an Excel workbook"): csv(b"PK\x03\x04" + bytes(99)),
    ("rrpo data import csv", "a label of its own"): csv(TABLE.replace("sad", "gloomy")),
    ("rrpo data import csv", "a recording named twice"): csv(TABLE.replace("b.wav", "./a.wav")),
    ("rrpo data import csv", "a part of a recording"): csv(
        "path,emotion,start,end\na.wav,sad,0,0.3\na.wav,happy,0.3,0.6\n"
    ),
    ("rrpo data import csv", "a speaker in two partitions"): csv(
        "path,emotion,speaker,partition\na.wav,sad,s,train\nb.wav,sad,s,test\n"
    ),
    ("rrpo data import csv", "a speaker as `1.0E+05` and as `100000`"): csv(
        "path,emotion,speaker\na.wav,sad,100000\nb.wav,sad,1.0E+05\n"
    ),
    ("rrpo data import csv", "a text read in a wrong encoding once"): csv(
        TABLE.replace("Hi.", "It’s".encode().decode("cp1252"))
    ),
    ("rrpo data import csv", "an error of a spreadsheet"): csv(TABLE.replace("Ho.", "#NAME?")),
    ("rrpo data import csv", "partitions `Train` and `dev`"): csv(
        "path,emotion,partition\na.wav,sad,Train\nb.wav,sad,dev\n"
    ),
    ("rrpo data import csv", "partitions in a column `split`"): csv(
        "path,emotion,split\na.wav,sad,train\nb.wav,sad,test\n"
    ),
    ("rrpo data import csv", "a recording that is not there, of two"): csv(
        TABLE.replace("b.wav", "x.wav")
    ),
    ("rrpo data import csv", "all recordings are missing"): csv(LOST),
    ("rrpo data import cosyvoice", "wav.scp, text, utt2spk, utt2emo"): kaldi(),
    ("rrpo data import cosyvoice", "an utterance that stands twice"): kaldi(
        text="a Hi.\nb Ho.\na Oh.\n"
    ),
    ("rrpo data import cosyvoice", "a command in wav.scp"): kaldi(
        wav_scp="a sox a.wav -t wav - |\nb b.wav\n"
    ),
    ("rrpo data import cosyvoice", "spk2utt that says another speaker"): kaldi(spk2utt="t a\n"),
    ("rrpo data import cosyvoice", "a file `instruct` beside"): kaldi(instruct="a Speak up.\n"),
    ("rrpo data import cosyvoice", "parquet with tokens, 25 a second"): cosyvoice(),
    ("rrpo data import cosyvoice", "parquet with tokens of CosyVoice1, 50 a second"): cosyvoice(
        speech_token=[list(range(50))] * 2
    ),
    ("rrpo data import cosyvoice", "parquet with tokens over 6560"): cosyvoice(
        speech_token=[[6561] * 25] * 2
    ),
    ("rrpo data import cosyvoice", "parquet with numbers for emotions"): cosyvoice(emotion=[1, 0]),
    ("rrpo tokenize", "WAV, FLAC, MP3, Ogg"): formats,
    ("rrpo tokenize", "48 kHz, two channels of the same"): lambda at: tokenized(a=stereo())(at),
    ("rrpo tokenize", "half a file, of two"): tokenized(b=encoded("wav", voice(0.6))[:9000]),
    ("rrpo tokenize", "silence, of two"): tokenized(b=encoded("wav", np.zeros(9600))),
    ("rrpo tokenize", "an offset and nothing else, of two"): tokenized(
        b=encoded("wav", np.full(9600, 0.2))
    ),
    ("rrpo tokenize", "a recording and its copy"): tokenized(
        "path,emotion\na.wav,sad\nb.wav,sad\n", b=SAME
    ),
    ("rrpo tokenize", "a recording and its copy with another label"): tokenized(b=SAME),
    ("rrpo tokenize", "a recording and its copy, held out for tests"): tokenized(
        "path,emotion,partition\na.wav,sad,test\nb.wav,sad,train\n", b=SAME
    ),
    ("rrpo tokenize", "a manifest with numbers for emotions"): tokenized(TABLE.replace("sad", "1")),
    ("--data", "token shards of `rrpo tokenize`"): made_by_tokenize,
    ("--data", "the folder above `tokens`"): mixed("", load_data),
    ("--data", "a mix pool"): mixed("mixes", load_data),
    ("--data", "a shard and its copy"): copied,
    ("--data", "the same tokens under two ids"): same_tokens("sad", "sad"),
    ("--data", "the same tokens with two emotions"): same_tokens("sad", "happy"),
    ("--data", "an utterance without an emotion"): shard(emotion=""),
    ("--data", "tokens that are not as long as the sound in a column path"): other_sound,
    ("--data", "half a parquet file"): half_shard,
    ("--data", "a minute and more in an utterance"): shard(tokens=np.arange(2000), count=1),
    ("--mixes", "mixes of `rrpo tokenize --mix`"): mixed("mixes", load_mixes),
    ("--mixes", "token shards that are not mixed"): mixed("tokens", load_mixes),
    ("--pairs", "two shards with the same ids"): pairs(utterances(tokens=np.arange(30))),
    ("--pairs", "both of a pair the same"): pairs(utterances()),
    ("--pairs", "two texts in a pair"): pairs(utterances(text="It is late.")),
    ("--pairs", "two speakers in a pair"): pairs(
        utterances(tokens=np.arange(30), speaker="willow"), speaker="cedar"
    ),
    ("--pairs", "one of the two shards"): pairs(None),
    ("--pairs", "a pair and the same turned over"): twice(turned=True),
    ("--pairs", "a pair under two ids"): twice(turned=False),
    ("--data, --text", "words, numbers and marks"): spoken("Well, 3 trains left."),
    ("--data, --text", "marks alone"): spoken("?!..."),
    ("--data, --text", "-5 degrees"): spoken("-5 degrees."),
    ("--data, --text", "a sign that the mini world cannot read"): spoken("It costs 5 €."),
    ("--data, --text", "CosyVoice's own marks, any script"): spoken(
        "今天 [laughter] <strong>5 €</strong>", cosyvoice=True
    ),
    ("--data, --text", "an invisible sign alone"): spoken("\u200b", cosyvoice=True),
    ("--data, --text", "a control token"): spoken("Hi <|endoftext|>", cosyvoice=True),
    ("--data, --text", "a transcriber's note, such as [GARBAGE]"): spoken(
        "Hi [GARBAGE] there.", cosyvoice=True
    ),
    ("--data, --text", "a tag of another program"): spoken("One.<br>Two.", cosyvoice=True),
    ("--voice", "3 s at 16 kHz"): recorded(3.0),
    ("--voice", "over 30 s"): recorded(30.5),
    ("--voice", "20 ms"): recorded(0.02),
    ("--voice", "half a file"): recorded(3.0, end=9000),
    ("rrpo play", "the bundled base, a run"): several(played(), played("{}/policy")),
    ("rrpo play", "a folder without a policy"): played("{}"),
    ("rrpo play", "a voice for the mini world"): played(voice="x.wav"),
    ("rrpo play", "a sign that cannot be read"): played(text="50 %"),
    ("rrpo play", "a text of 501 characters"): played(text="a" * 501),
    ("--from", 'llm.pt, with `module.` before its keys, or under "model"'): several(
        checkpoint(lambda state: state),
        checkpoint(lambda state: {f"module.{key}": value for key, value in state.items()}),
        checkpoint(lambda state: {"model": state, "epoch": 3}),
    ),
    ("--from", "a checkpoint with a class in it"): checkpoint(harmful),
    ("--from", "half a checkpoint"): checkpoint(lambda state: state, 20_000),
    ("--from", "a matrix of zeros"): checkpoint(
        lambda state: {**state, QUERY: torch.zeros_like(state[QUERY])}
    ),
    ("--from", "a tar archive"): archived,
    ("--from", "a folder without weights"): empty_folder,
    ("--config, --set", "a file in UTF-8, a value of another kind of number"): settings(
        "# 步数\ntrain:\n  steps: 3\n", "train.learning_rate=1e-5", "train.learning_rate=1"
    ),
    ("--config, --set", "a file in GBK"): settings("# 训练步数\n", encoding="gbk"),
    ("--config, --set", "a key that is not known"): settings("train:\n  stepps: 3\n"),
    ("--config, --set", "NaN"): settings("", "train.learning_rate=.nan"),
    ("--config, --set", "a reference to another value (`*name`)"): settings(
        "train:\n  steps: &a 3\n  warmup_steps: *a\n"
    ),
    ("--set instructions=FILE", "a line for each emotion below a language"): instructions(
        "en:\n  happy: Be happy.\n"
    ),
    ("--set instructions=FILE", "another language alone"): instructions("zh:\n  happy: 高兴\n"),
    ("--set instructions=FILE", "the end of a prompt in the middle"): instructions(
        f"en:\n  happy: Be{END_OF_PROMPT} happy.\n"
    ),
    ("--resume, rrpo report", "a run that is over"): resumed(),
    ("--resume, rrpo report", "a checkpoint with a byte changed"): resumed(
        lambda run: flip(run / "checkpoint" / "model.safetensors")
    ),
    ("--resume, rrpo report", "half of results.json"): resumed(
        lambda run: halve(run / "results.json")
    ),
    ("--resume, rrpo report", "other data than before"): resumed(text="It is cold."),
    ("rrpo export", "a policy for the version that it has"): exported("cosyvoice2"),
    ("rrpo export", "a policy for the other version"): exported("cosyvoice3"),
    ("rrpo export", "a policy of the mini world"): exported("cosyvoice2", codec="mini"),
    ("rrpo export", "an llm.pt that is there already"): exported("cosyvoice2", twice=True),
    ("rrpo export", "a precision that is none of the three"): exported(
        "cosyvoice2", precision="int8"
    ),
}


def test_every_row_is_tried_and_every_trial_is_a_row() -> None:
    assert [(door.replace("`", ""), given) for door, given, _ in rows()] == list(GIVEN)


@pytest.mark.parametrize(("door", "given", "answer"), rows())
def test_a_row(
    door: str, given: str, answer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is refused leaves no folder behind but those of its own making."""
    attempt = GIVEN[door.replace("`", ""), given]
    kind, _, words = answer.partition(": ")
    if kind == "refused":
        with pytest.raises(UserError) as caught:
            attempt(tmp_path)
        assert words in str(caught.value)
        return
    attempt(tmp_path)
    assert kind == "taken" or words in capsys.readouterr().out
