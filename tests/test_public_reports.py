"""Inputs that people reported to other projects, one test each; its docstring names the report."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import soundfile

import rrpo
from corpus_trees import wav, write
from rrpo import config
from rrpo.data.corpora import TableOptions, import_corpus
from rrpo.data.cosyvoice import import_cosyvoice
from rrpo.data.manifest import read_manifest
from rrpo.data.shards import Utterance, read_shard, write_shard
from rrpo.errors import UserError
from rrpo.files import require_empty, writing
from rrpo.sound.file import load
from sounds import RATE, encoded, voice


def table(folder: Path, text: str, encoding: str = "utf-8", name: str = "t.csv") -> Path:
    """Write a table beside three sounds."""
    for sound in ("a.wav", "b.wav", "c.wav"):
        wav(folder / sound)
    write(folder / name, text, encoding)
    return folder / name


def cosyvoice(path: Path, tokens: list[int], **columns: list[Any]) -> Path:
    """Write a parquet file of CosyVoice's recipes: three utterances of 2 s each."""
    columns = {
        "utt": ["u0", "u1", "u2"],
        "audio_data": [encoded("wav", voice(2.0, seed)) for seed in range(3)],
        "text": ["One.", "Two.", "Three."],
        "spk": ["s"] * 3,
        "speech_token": [list(range(count)) for count in tokens],
        "emotion": ["happy", "sad", "happy"],
        **columns,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(arrow.table(columns), path)
    return path


def test_tokens_of_the_first_generation(tmp_path: Path) -> None:
    """QwenAudio/CosyVoice#224: its first tokenizer gives 50 tokens a second, not 25."""
    path = cosyvoice(tmp_path / "a.parquet", [100, 100, 100])
    with pytest.raises(UserError, match=r"3 utterances .*u0, 100 tokens of 2\.00 s.*another codec"):
        import_cosyvoice(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    right = import_cosyvoice(cosyvoice(tmp_path / "b.parquet", [50, 49, 52]), tmp_path / "right")
    assert (right.utterances, right.tokens) == (3, 3)
    # Of one that was cut since, the sound stays and its tokens go.
    one = import_cosyvoice(cosyvoice(tmp_path / "c.parquet", [50, 23, 50]), tmp_path / "one")
    assert (one.utterances, one.tokens) == (3, 2)
    assert "1 utterances have tokens that do not fit their sound (u1" in one.findings.lines()[0]
    assert [row.id for row in read_shard(tmp_path / "one" / "tokens")] == ["u0", "u2"]


def test_lengths_that_the_sounds_contradict(tmp_path: Path) -> None:
    """revdotcom/speech-datasets#33: the metadata's durations are not those of the files."""
    rows = [Utterance(f"{at}", "Hi.", "sad", np.arange(50) + at) for at in range(2)]
    write_shard(tmp_path / "plain" / "0.parquet", rows)
    plain = parquet.read_table(tmp_path / "plain" / "0.parquet")
    for seconds, fits in ((2.0, True), (5.0, False)):
        (tmp_path / f"{seconds}").mkdir()
        soundfile.write(tmp_path / f"{seconds}" / "s.wav", voice(seconds), RATE)
        named = plain.append_column("path", arrow.array(["s.wav", "not-there.wav"]))
        parquet.write_table(named, tmp_path / f"{seconds}" / "0.parquet")
        if fits:
            assert len(read_shard(tmp_path / f"{seconds}")) == 2
            continue
        with pytest.raises(UserError, match=r"1 of 2 .*'0' has 50 tokens of 5\.00 s in s\.wav"):
            read_shard(tmp_path / f"{seconds}")


def test_folders_that_look_like_columns(tmp_path: Path) -> None:
    """apache/arrow#11844: a reader takes columns from the names of folders above a file."""
    rows = [Utterance("0", "Hi.", "sad", np.arange(9), corpus="own")]
    path = tmp_path / "corpus=ravdess" / "energy=5" / "language=pl" / "0.parquet"
    write_shard(path, rows)
    for place in (path, path.parent):
        (row,) = read_shard(place)
        assert (row.corpus, row.energy, row.language, row.emotion) == ("own", None, "", "sad")


def test_a_shard_and_its_copy(tmp_path: Path) -> None:
    """huggingface/datasets#6259: rows counted twice, as files lay in a folder twice."""
    rows = [Utterance(f"{at}", "Hi.", "sad", np.arange(9) + at) for at in range(2)]
    write_shard(tmp_path / "00000.parquet", rows)
    write_shard(tmp_path / "other.parquet", [Utterance("0", "Ho.", "sad", np.arange(9))])
    assert len(read_shard(tmp_path)) == 3
    shutil.copy(tmp_path / "00000.parquet", tmp_path / "00000 (1).parquet")
    with pytest.raises(UserError, match="the utterance '0' stands twice, with the same tokens"):
        read_shard(tmp_path)


def test_numbers_of_classes_instead_of_names(tmp_path: Path) -> None:
    """huggingface/datasets#346: labels are numbers, whose names only the data set's code knows."""
    path = cosyvoice(tmp_path / "a.parquet", [50] * 3, emotion=[0, 1, 0])
    with pytest.raises(UserError, match=r"u0 has the number 0 for its emotion: write .* name"):
        import_cosyvoice(path, tmp_path / "out")
    write_shard(tmp_path / "shard.parquet", [Utterance("0", "Hi.", "3", np.arange(9))])
    with pytest.raises(UserError, match="'0' has the number 3 for its emotion"):
        read_shard(tmp_path / "shard.parquet")
    numbered = table(tmp_path / "own", "path,emotion\na.wav,0\nb.wav,1\n")
    with pytest.raises(UserError, match=r"a\.wav has the number 0 for its emotion"):
        read_manifest(numbered)
    with pytest.raises(UserError, match=r"unknown label .0. and 1 more: .* --label 0=EMOTION"):
        import_corpus("csv", numbered, tmp_path / "none")
    done = import_corpus("csv", numbered, tmp_path / "named", {"0": "happy", "1": "sad"})
    assert [one.emotion for one in done.recordings] == ["happy", "sad"]


def test_a_manifest_of_json_lines(tmp_path: Path) -> None:
    """NVIDIA-NeMo/Speech#2234: a manifest of JSON in each line, or of one list, under any name."""
    line = json.dumps({"audio_filepath": "a.wav", "duration": 1.0, "text": "Hi", "emotion": "sad"})
    for content in (f"{line}\n{line}\n", f"[{line}]", f"\n {line}"):
        with pytest.raises(UserError, match="is JSON and no table: write its values as CSV"):
            import_corpus("csv", table(tmp_path, content), tmp_path / "out")


def test_settings_saved_by_a_windows_editor(tmp_path: Path) -> None:
    """ultralytics/yolov5#1669: a YAML file with Chinese remarks in GBK."""
    path = tmp_path / "config.yaml"
    text = "# 训练步数\na: 高兴\n"
    write(path, text, "gbk")
    with pytest.raises(UserError, match=r"not UTF-8 text: save it as UTF-8 .*iconv -f GB18030"):
        config.read(path)
    write(path, f"\ufeff{text}")
    assert config.read(path) == {"a": "高兴"}


def test_columns_by_other_names(tmp_path: Path) -> None:
    """OmarMohammed88/AR-Emotion-Recognition#3: `path_file_name | emotion`, paths in quotes."""
    path = table(tmp_path, "path_file_name | emotion\n 'a.wav' | sad\n'b.wav' | happy\n")
    with pytest.raises(UserError, match=r"lacks the column path.* --column path=OTHER"):
        import_corpus("csv", path, tmp_path / "out")
    options = TableOptions({"path": "path_file_name"})
    with pytest.raises(UserError, match=r"no such audio file: 'a.wav'"):
        import_corpus("csv", path, tmp_path / "out", options=options)
    table(tmp_path, "path_file_name | emotion\na.wav | sad\n b.wav|happy\n")
    done = import_corpus("csv", path, tmp_path / "out", options=options)
    assert [one.path.name for one in done.recordings] == ["a.wav", "b.wav"]


def test_a_text_with_a_comma_and_no_quotes(tmp_path: Path) -> None:
    """TideDancer/interspeech21_emotion#2: some texts in the last column have quotes, some none."""
    path = table(tmp_path, 'path,emotion,text\na.wav,sad,"Oh, no."\nb.wav,sad,Well, yes.\n')
    with pytest.raises(UserError, match="line 3: 4 cells where the header has 3: put a cell"):
        import_corpus("csv", path, tmp_path / "out")


def test_a_column_for_each_emotion(tmp_path: Path) -> None:
    """msplabresearch/MSP-Podcast_Challenge#1: votes for each emotion instead of one label."""
    path = table(tmp_path, "FileName,Angry,Sad,Happy\na.wav,0.2,0.8,0\n")
    options = TableOptions({"path": "FileName"})
    with pytest.raises(UserError, match="lacks the column emotion: it has FileName, Angry, Sad"):
        import_corpus("csv", path, tmp_path / "out", options=options)


@pytest.mark.parametrize(
    ("subtype", "step"), [("PCM_24", 2**-23), ("PCM_16", 2**-15), ("FLOAT", 0.0)]
)
def test_a_chunk_after_the_samples(subtype: str, step: float, tmp_path: Path) -> None:
    """meta-pytorch/torchcodec#1378, pytorch/audio#2083: 24 bits and a chunk behind the samples."""
    sound, path = voice(0.3), tmp_path / "a.wav"
    soundfile.write(path, sound, RATE, subtype=subtype)
    data = bytearray(path.read_bytes())
    data += b"LIST" + (26).to_bytes(4, "little") + b"INFOISFT" + (14).to_bytes(4, "little")
    data += b"Lavf58.76.100\0"
    data[4:8] = (len(data) - 8).to_bytes(4, "little")
    path.write_bytes(data)
    found = load(path)
    assert found.notes == () and found.samples.size == sound.size
    np.testing.assert_allclose(found.samples, sound, rtol=0, atol=step)


def test_a_list_of_files_in_utf_16(tmp_path: Path) -> None:
    """gemelo-ai/vocos#17: a file list that PowerShell wrote begins with the byte 0xff."""
    cosyvoice(tmp_path / "a.parquet", [50] * 3)
    write(tmp_path / "data.list", "a.parquet\r\n\r\n", "utf-16")
    assert import_cosyvoice(tmp_path / "data.list", tmp_path / "out").tokens == 3


def test_lines_with_nothing(tmp_path: Path) -> None:
    """rhasspy/piper#246, RVC-Boss/GPT-SoVITS#832: blank lines, and lines with too few parts."""
    rows = "path|emotion|text\na.wav|sad|One.\n\n   \n||\nb.wav|happy|Two.\n\n\n"
    path = table(tmp_path, rows)
    done = import_corpus("csv", path, tmp_path / "out")
    assert [one.text for one in done.recordings] == ["One.", "Two."]
    table(tmp_path, "path|emotion|text\na.wav|sad|One.\nb.wav\n")
    with pytest.raises(UserError, match="line 3: 1 cells where the header has 3"):
        import_corpus("csv", path, tmp_path / "none")


def test_unknown_labels_are_told_at_once_as_options_for_a_shell(tmp_path: Path) -> None:
    """Labels with blanks or a number sign, and slips: one call says all that is to be said."""
    sound = tmp_path / "a.wav"
    soundfile.write(sound, np.sin(np.arange(16000) / 20).astype("float32"), 16000)
    table = tmp_path / "m.csv"
    labels = ("very happy", "#odd", "Happpy", "grumpy")
    rows = []
    for number, label in enumerate(labels):
        shutil.copy(sound, tmp_path / f"{number}.wav")
        rows.append(f"{number}.wav,{label}\n")
    table.write_text("path,emotion\n" + "".join(rows))
    with pytest.raises(UserError) as error:
        import_corpus("csv", table, tmp_path / "out")
    told = shlex.split(str(error.value).partition(" with ")[2].partition(", or leave")[0])
    assert told == [
        *("--label", "very happy=EMOTION", "--label", "#odd=EMOTION"),
        *("--label", "Happpy=happy", "--label", "grumpy=EMOTION"),
    ]


def test_a_file_where_a_folder_is_to_be_written_is_called_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="file is a file: name a folder"):
        require_empty(tmp_path / "file")
    with (
        pytest.raises(UserError, match="file is a file: name a folder"),
        writing(tmp_path / "file"),
    ):
        raise FileExistsError(17, "File exists")


def test_joy_is_happy_to_a_speaker_too() -> None:
    said = [rrpo.speak("mini", "A cat.", emotion, seed=3) for emotion in ("happy", "joy")]
    assert np.array_equal(said[0][0], said[1][0])


@pytest.mark.parametrize("own", ["my: settings\n", "no YAML: [\n", "train:\n  steps: 3\n"])
def test_a_users_own_configuration_in_the_output_folder_stays(own: str, tmp_path: Path) -> None:
    write(tmp_path / "config.yaml", own)
    with pytest.raises(UserError, match=r"config\.yaml"):
        rrpo.train_sft(tmp_path, settings={"train.steps": 1, "train.warmup_steps": 0})
    assert (tmp_path / "config.yaml").read_text() == own
