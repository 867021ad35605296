"""The disk is full at each write of every command that is no training: one line, nothing by half.

`tests/test_faults.py` does the same with a training.
"""

import copy
import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import soundfile
import torch

from corpus_trees import MAKE, write
from disk_faults import NEEDS_ROOM, faults
from foreign_checkpoints import tiny
from model_folder import write_tokenizer
from rrpo import judging, policy, reward, reward_eval, train_reward, train_sft
from rrpo.cli.data import data_import, tokenize
from rrpo.cli.speech import export, report, speak
from rrpo.data.shards import Utterance, write_shard
from rrpo.errors import UserError
from rrpo.mini.world import World
from rrpo.policy import LMConfig, SpeechTokenLM
from rrpo.reward import RewardConfig, RewardModel
from rrpo.speaking.mini import MiniSpeaker
from sounds import encoded, voice

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("quick_judges")]


def evaluated(run: Path) -> None:
    """Evaluate a run without its page, which `rrpo report` writes as well."""
    (run / "results.json").unlink(missing_ok=True)
    judging.evaluate([run], sentences=1)


LABELS = ("sad", "happy", "sad", "happy")
QUICK = ["train.steps=1", "train.warmup_steps=0"]
Command = Callable[[Path, Path], object]
"""Is given what is there, and where to write; `out/reward` and `out/sft` are runs."""
COMMANDS: dict[str, Command] = {
    "import csv": lambda given, out: data_import("csv", given / "t.csv", out / "x"),
    "import ravdess": lambda given, out: data_import("ravdess", given / "ravdess", out / "x"),
    "import parquet": lambda given, out: data_import("cosyvoice", given / "a.parquet", out / "x"),
    "tokenize": lambda given, out: tokenize(given / "t.csv", out / "x", "mini", 1),
    "export": lambda given, out: export(given / "foreign", "cosyvoice2", out / "x"),
    "export to hf": lambda given, out: export(
        given / "cosyvoice", "hf", out / "x", given / "CosyVoice2"
    ),
    "speak": lambda given, out: speak(str(given / "policy"), "Hi.", out / "x.wav"),
    "report": lambda _, out: report([out / "reward", out / "sft"]),
    "reward eval": lambda given, out: reward_eval.evaluate([str(out / "reward")], [given / "data"]),
    "evaluate": lambda _, out: evaluated(out / "sft"),
}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sounds with a table, a corpus, CosyVoice's parquet, shards, policies and runs."""
    at = tmp_path_factory.mktemp("given")
    for number, name in enumerate("abcd"):
        (at / f"{name}.wav").write_bytes(encoded("wav", voice(0.6, number)))
    rows = [f"{name}.wav,{emotion},Hi.\n" for name, emotion in zip("abcd", LABELS, strict=True)]
    write(at / "t.csv", "path,emotion,text\n" + "".join(rows))
    MAKE["ravdess"](at / "ravdess")
    table = {
        "utt": ["u", "v"],
        "audio_data": [encoded("wav", voice(1.0, seed)) for seed in range(2)],
        "text": ["Hi.", "Ho."],
        "spk": ["s", "s"],
        "speech_token": [list(range(25)), list(range(1, 26))],
        "emotion": ["sad", "happy"],
    }
    parquet.write_table(arrow.table(table), at / "a.parquet")
    codec, size = World().codec_identity, World().tokenizer.vocabulary_size
    small = {"hidden": 8, "layers": 1, "heads": 2, "key_value_heads": 1, "intermediate": 8}
    lm = LMConfig(text_vocabulary=size, codec=codec, **small)
    policy.save(SpeechTokenLM(lm), at / "policy")
    foreign = lm.model_copy(update={"codec": "speech_tokenizer_v2"})
    policy.save(SpeechTokenLM(foreign), at / "foreign")
    scorer = RewardConfig(width=16, layers=1, heads=2, feedforward=16, codec=codec)
    reward.save(RewardModel(scorer), at / "model")
    texts = ("Hi.", "Hello.", "It is late.", "It is noon.")
    data = [
        Utterance(f"{number}", text, emotion, np.arange(30) + number)
        for number, (text, emotion) in enumerate(zip(texts, LABELS, strict=True))
    ]
    write_shard(at / "data" / "0.parquet", data, codec)
    train_reward(at / "runs" / "reward", at / "data", start=at / "model", settings=QUICK)
    settings = [*QUICK, "sft.batch_size=2"]
    train_sft(at / "runs" / "sft", at / "data", start=at / "policy", settings=settings)
    policy.save(tiny(), at / "cosyvoice")
    write_tokenizer(at / "CosyVoice2")
    return at


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave out what takes long and is watched all the same; give other tests their threads."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    texts = judging.first_texts  # of which each is written by the same lines
    monkeypatch.setattr(judging, "first_texts", lambda *given: texts(*given)[:1])
    for place, name in ((MiniSpeaker, "samples"), (judging, "measure")):
        monkeypatch.setattr(place, name, once(getattr(place, name)))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function that writes nothing work once for each of its turns in a command."""
    known: list[Any] = []
    turn = itertools.count()

    def again(*arguments: Any) -> Any:
        number = next(turn)
        if number < 2:
            known.append(function(*arguments))
        return copy.deepcopy(known[number % 2])

    return again


def files(folder: Path) -> dict[str, bytes]:
    """Return name → content of every file below a folder, of Opus its samples.

    An Opus stream has a number of its own each time it is written, in a page, too.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".opus":
            content = soundfile.read(path)[0].tobytes()
        elif path.is_file():
            content = re.sub(rb"base64,[A-Za-z0-9+/=]+", b"", path.read_bytes())
        else:
            continue
        found[path.relative_to(folder).as_posix()] = content
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_at_every_write(name: str, given: Path, tmp_path: Path) -> None:
    if name == "export to hf":
        pytest.importorskip("transformers")
    command, out = COMMANDS[name], tmp_path / "out"

    def begin() -> None:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(given / "runs", out)

    begin()
    before = files(out)
    with faults(None, kill=False) as made:
        command(given, out)
    after, done = files(out), made.done
    assert set(done) <= set(NEEDS_ROOM) and len(done) >= 3
    print(f"{name}: {len(done)} writes")
    begin()
    command(given, out)
    assert files(out) == after  # else nothing below would be a comparison
    for number, kind in enumerate(done):
        begin()
        with pytest.raises(UserError) as caught, faults(number, kill=False):
            command(given, out)
        said = str(caught.value)
        assert "\n" not in said and "cannot write" in said and str(out) in said, (number, kind)
        for path, content in files(out).items():
            assert content in (before.get(path), after.get(path)), (number, kind, path)
        if name.startswith("import") and (out / "x").exists() and any((out / "x").iterdir()):
            shutil.rmtree(out / "x")  # an import wants an empty folder, and says so
        command(given, out)
        assert files(out) == after, (number, kind)
