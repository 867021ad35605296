"""Inputs that readers of the docs brought of their own, which once were taken without a word."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from corpus_trees import MAKE, wav, write
from foreign_checkpoints import model_folder
from foreign_checkpoints import tiny as small_policy
from rrpo import load_policy, reward, train_reward
from rrpo.data.corpora import import_corpus
from rrpo.data.cosyvoice import import_cosyvoice
from rrpo.data.lengths import odd_lengths
from rrpo.data.manifest import read_manifest
from rrpo.data.shards import Utterance, read_shard, write_shard
from rrpo.errors import UserError
from rrpo.files import read_json
from rrpo.mini.world import World
from rrpo.objectives.pairs import CHOSEN, REJECTED, read_pairs
from rrpo.policy import cosyvoice
from rrpo.sound.file import load
from sounds import encoded, voice, written

LABELS = ["<|HAPPY|>", "生气/angry", "happy/sad", "<unk>"]


def utterances(count: int = 4, **changes: Any) -> list[Utterance]:
    rng = np.random.default_rng(0)
    return [
        Utterance(
            **{
                "id": f"{at}",
                "text": "It is noon.",
                "emotion": "sad",
                "tokens": rng.integers(6561, size=30),
                **changes,
            }
        )
        for at in range(count)
    ]


@pytest.fixture
def cosyvoice_folder(tmp_path: Path) -> Path:
    folder = model_folder(tmp_path / "CosyVoice2")
    cosyvoice.save(small_policy(), folder)
    load_policy(folder)
    return folder


def kaldi(folder: Path, labels: list[str]) -> Path:
    names = [f"u{number}" for number in range(len(labels))]
    for number, name in enumerate(names):
        (folder / f"{name}.wav").parent.mkdir(exist_ok=True)
        (folder / f"{name}.wav").write_bytes(encoded("wav", voice(1.0, number)))
    for file, values in (
        ("wav.scp", [f"{name}.wav" for name in names]),
        ("text", ["Hi."] * len(names)),
        ("utt2spk", ["s"] * len(names)),
        ("utt2emo", labels),
    ):
        lines = [f"{name} {value}\n" for name, value in zip(names, values, strict=True)]
        write(folder / file, "".join(lines))
    return folder


def test_a_description_of_a_model_that_was_changed(tiny: Path, tmp_path: Path) -> None:
    """The order of its classes, sorted by hand, made every emotion another."""
    quick = {"train.steps": 1, "train.warmup_steps": 0}
    train_reward(tmp_path / "run", tiny / "data", start=tiny / "reward", settings=quick)
    file = tmp_path / "run" / "checkpoint" / "model.json"
    before = file.read_text()
    known = read_json(file)
    known["config"]["tasks"]["emotion"].sort()
    file.write_text(json.dumps(known))
    with pytest.raises(UserError, match=r"model\.json is not what the training wrote"):
        reward.load(tmp_path / "run")
    file.write_text(before)
    reward.load(tmp_path / "run")


def test_settings_changed_in_a_run(tiny: Path, tmp_path: Path) -> None:
    """Its page said another learning rate than that of its weights."""
    settings = {"train.steps": 1, "train.warmup_steps": 0, "fit.batch_size": 2}
    given: dict[str, Any] = {"data": tiny / "data", "start": tiny / "reward"}
    train_reward(tmp_path / "run", **given, settings=settings)
    file = tmp_path / "run" / "config.yaml"
    file.write_text(file.read_text().replace("learning_rate: 0.0003", "learning_rate: 0.003"))
    with pytest.raises(UserError, match=r"config\.yaml was changed after the run began"):
        train_reward(tmp_path / "run", **given, config=file, resume=True)


@pytest.mark.parametrize("label", LABELS)
def test_labels_of_programs(label: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds '.', as programs write labels"):
        import_cosyvoice(kaldi(tmp_path / "data", ["sad", label]), tmp_path / "out")


@pytest.mark.parametrize("label", ["खुश", "มีความสุข", "speech-happy", "très_gai"])
def test_labels_of_any_script(label: str, tmp_path: Path) -> None:
    """Vowel signs are no letters to Python."""
    import_cosyvoice(kaldi(tmp_path / "data", ["sad", label]), tmp_path / "out")
    assert [one.emotion for one in read_manifest(tmp_path / "out")] == ["sad", label]


def test_labels_that_say_that_there_is_none(tmp_path: Path) -> None:
    labels = ["sad", "xxx", "Unknown", "happy", "xxx"]
    done = import_cosyvoice(kaldi(tmp_path / "data", labels), tmp_path / "out")
    assert [one.emotion for one in read_manifest(tmp_path / "out")] == ["sad", "happy"]
    assert "left out: 2 labelled xxx (no class)" in done.findings.lines()
    write_shard(tmp_path / "0.parquet", utterances(emotion="unknown"))
    with pytest.raises(UserError, match="the emotion 'unknown' is none: leave it out"):
        read_shard(tmp_path / "0.parquet")


def test_a_label_is_not_taken_for_its_contrary(tmp_path: Path) -> None:
    for label, option in (("unhappy", "unhappy=EMOTION"), ("EMO_UNKNOWN", "EMO_UNKNOWN=EMOTION")):
        wav(tmp_path / "a.wav")
        write(tmp_path / "t.csv", f"path,emotion\na.wav,{label}\n")
        with pytest.raises(UserError, match=f"--label {option}"):
            import_corpus("csv", tmp_path / "t.csv", tmp_path / "out")


def test_a_folder_of_esd_and_its_labels_that_contradict(tmp_path: Path) -> None:
    MAKE["esd"](tmp_path / "esd")
    import_corpus("esd", tmp_path / "esd", tmp_path / "right")
    file = tmp_path / "esd" / "0001" / "0001.txt"
    lines = file.read_bytes().decode("gb18030")
    assert "生气" in lines
    write(file, lines.replace("生气", "伤心"))
    with pytest.raises(UserError, match="lies in Angry and is labelled 伤心 in 0001"):
        import_corpus("esd", tmp_path / "esd", tmp_path / "out")


@pytest.mark.parametrize(
    "text",
    [
        '{"text": "It is late."}',
        "['It', 'is', 'late']",
        "b'It is late.'",
        "[0.00-1.56] It is late.",
        "00:01,000 --> 00:02,000 It is late.",
        "It is late.\\nIt is dark.",
        "It%20is%20late.",
        "r1.wav",
        "It is late|sad|s1",
        "{name}",
    ],
)
def test_texts_that_programs_wrote(text: str, tmp_path: Path) -> None:
    write_shard(tmp_path / "0.parquet", utterances(1, text=text))
    with pytest.raises(UserError, match=r"utterance '0': its text .*: repair it"):
        read_shard(tmp_path / "0.parquet")


def test_tokens_filled_up_to_the_longest() -> None:
    rows = utterances(8)
    assert odd_lengths(rows, Path("x")) == []
    for number, row in enumerate(rows[1:], start=1):
        row.tokens[-2 - number :] = 0
    (note,) = odd_lengths(rows, Path("x"))
    assert "all 8 utterances have 30 tokens, and 7 end in 3 or more alike, such as '1' in 0" in note


def test_partitions_of_shards_by_another_name(tmp_path: Path) -> None:
    write_shard(tmp_path / "plain.parquet", utterances())
    table = parquet.read_table(tmp_path / "plain.parquet")
    split = arrow.array(["train", "test", "train", "test"])
    parquet.write_table(table.append_column("split", split), tmp_path / "0.parquet")
    with pytest.raises(UserError, match="its column split holds test and train"):
        read_shard(tmp_path / "0.parquet")


def test_a_speaker_of_shards_in_two_partitions(tmp_path: Path) -> None:
    rows = utterances(2, speaker="Anna", partition="train")
    rows += utterances(4, speaker="anna", partition="test")[2:]
    write_shard(tmp_path / "0.parquet", rows)
    with pytest.raises(UserError, match=r"anna is in train and in test, as '0' and '2'"):
        read_shard(tmp_path / "0.parquet")


def test_one_answer_to_two_texts(tmp_path: Path) -> None:
    chosen, rejected = utterances(2), utterances(2, tokens=np.arange(30))
    rows = [Utterance(**{**vars(row), "text": f"It is {row.id}."}) for row in chosen]
    write_shard(tmp_path / CHOSEN, rows)
    rows = [Utterance(**{**vars(row), "text": f"It is {row.id}."}) for row in rejected]
    write_shard(tmp_path / REJECTED, rows)
    with pytest.raises(UserError, match="'0' and '1' have the same tokens and two texts"):
        read_pairs(tmp_path, World().tokenizer)


def test_samples_of_another_size_than_the_header_says(tmp_path: Path) -> None:
    """24 bits at the right end of 32: 48 dB too quiet, and no silence."""
    (note,) = load(written(tmp_path / "a.wav", encoded("float", voice() / 200))).notes
    peak = np.abs(voice()).max() / 200
    assert note.startswith(f"its peak is {-20 * np.log10(peak):.0f} dB under full scale: its")


def test_two_sets_of_weights_in_one_folder(cosyvoice_folder: Path) -> None:
    (cosyvoice_folder / "llm.safetensors").write_bytes(b"other")
    with pytest.raises(UserError, match=r"holds llm\.pt and llm\.safetensors: name the one"):
        load_policy(cosyvoice_folder)


def test_a_window_of_attention(cosyvoice_folder: Path) -> None:
    file = cosyvoice_folder / "CosyVoice-BlankEN" / "config.json"
    file.write_text(json.dumps({**read_json(file), "use_sliding_window": True}))
    with pytest.raises(UserError, match="use_sliding_window"):
        load_policy(cosyvoice_folder)
