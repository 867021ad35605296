"""CosyVoice's own data layouts, as tiny trees of the real form, and what is wrong with them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import soundfile

from rrpo.data.cosyvoice import import_cosyvoice
from rrpo.data.manifest import read_manifest
from rrpo.data.shards import Utterance, read_shard, shard_codec, write_shard
from rrpo.errors import UserError


def wav(path: Path, seconds: float = 0.2) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.sin(np.arange(int(16_000 * seconds)) * 0.1), 16_000)
    return path.read_bytes()


@pytest.fixture
def kaldi(tmp_path: Path) -> Path:
    folder = tmp_path / "train"
    for name in ("a", "b"):
        wav(folder / "wavs" / f"{name}.wav")
    (folder / "wav.scp").write_text(f"a wavs/a.wav\nb\t{folder / 'wavs' / 'b.wav'}\n")
    (folder / "text").write_text("a Hello there.\nb 你好 世界。\n", encoding="utf-8")
    (folder / "utt2spk").write_text("a s1\nb s2\n")
    (folder / "utt2emo").write_text("a happy\nb sad\n")
    return folder


def test_a_kaldi_folder_becomes_a_manifest(kaldi: Path, tmp_path: Path) -> None:
    done = import_cosyvoice(kaldi, tmp_path / "out")
    assert (done.utterances, done.tokens) == (2, 0)
    first, second = read_manifest(tmp_path / "out")
    assert (first.emotion, first.text, first.speaker) == ("happy", "Hello there.", "s1")
    assert (second.emotion, second.text, second.speaker) == ("sad", "你好 世界。", "s2")
    assert first.path.samefile(kaldi / "wavs" / "a.wav")


def test_more_of_kaldis_files(kaldi: Path, tmp_path: Path) -> None:
    (kaldi / "spk2utt").write_text("s2 b\ns1 a gone\n")
    (kaldi / "utt2lang").write_text("b zh\n")
    (kaldi / "instruct").write_text("a Speak up.\n")
    done = import_cosyvoice(kaldi, tmp_path / "out")
    assert [one.language for one in read_manifest(tmp_path / "out")] == ["", "zh"]
    first, nobody = done.findings.notes
    assert "instruct is not read" in first and "nobody is held out for tests" in nobody


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("wav.scp", "a wavs/none.wav\n", "no such audio file: wavs/none.wav of a"),
        ("wav.scp", "a sox x.wav -t wav - |\n", "a is a command"),
        ("wav.scp", "a\n", "line 1: a has no value"),
        ("wav.scp", "a wavs/a.wav\na wavs/b.wav\n", "line 2: a stands twice"),
        ("text", "a Hello.\n", "text has no line for b"),
        ("utt2spk", "b s2\n", "utt2spk has no line for a"),
        ("utt2emo", "a happy\n", "b has no emotion: add it to .*train/utt2emo"),
        ("utt2emo", "a happy\nb hapy\n", "train/utt2emo: b: there is no emotion 'hapy'"),
        ("wav.scp", "a wavs/a.wav\nb wavs/../wavs/a.wav\n", r"two utterances name .*a\.wav"),
        ("wav.scp", "", r"train/wav\.scp: it names no utterance"),
        ("text", None, "holds no text"),
        ("spk2utt", "s1 a b\ns2\n", "spk2utt, line 1: b is of s1, and of s2 in utt2spk"),
        ("text", "a Hello.\nb\u3000Hi.\n", r"line 2: b\\u3000Hi\. has no value"),
        ("utt2emo", None, "utt2emo is missing"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(
    kaldi: Path, tmp_path: Path, file: str, content: str | None, message: str
) -> None:
    if content is None:
        (kaldi / file).unlink()
    else:
        (kaldi / file).write_text(content)
    with pytest.raises(UserError, match=message):
        import_cosyvoice(kaldi, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.csv").exists()


def rows(tmp_path: Path, **more: Any) -> dict[str, list[Any]]:
    sound = wav(tmp_path / "one.wav")
    return {
        "utt": ["x/1", "x 2"],
        "audio_data": [sound, sound],
        "wav": ["/elsewhere/1.wav", "/elsewhere/2.wav"],
        "text": ["Hello.", "World."],
        "spk": ["s", "s"],
        "utt_embedding": [[0.1], [0.2]],
        **more,
    }


def test_a_parquet_list_becomes_recordings_a_manifest_and_shards(tmp_path: Path) -> None:
    folder = tmp_path / "parquet"
    folder.mkdir()
    table = rows(tmp_path, speech_token=[[1, 2, 6560], [4, 5]])
    parquet.write_table(arrow.table(table), folder / "parquet_000.tar")
    (folder / "data.list").write_text("parquet_000.tar\n")
    labels = tmp_path / "labels"
    labels.write_text("x/1 happy\n")
    with pytest.raises(
        UserError, match=r"parquet_000\.tar: x 2 has no emotion: add it to .*labels"
    ):
        import_cosyvoice(folder / "data.list", tmp_path / "out", labels)
    assert not (tmp_path / "out").exists()
    table["emotion"] = ["happy", "sad"]
    parquet.write_table(arrow.table(table), folder / "parquet_000.tar")
    done = import_cosyvoice(folder / "data.list", tmp_path / "out")
    assert (done.utterances, done.tokens) == (2, 2)
    recordings = read_manifest(tmp_path / "out")
    assert [one.emotion for one in recordings] == ["happy", "sad"]
    assert recordings[0].path.read_bytes() == (tmp_path / "one.wav").read_bytes()
    spoken = read_shard(tmp_path / "out" / "tokens")
    assert [row.tokens.tolist() for row in spoken] == [[1, 2, 6560], [4, 5]]
    assert [row.text for row in spoken] == ["Hello.", "World."]


def test_recordings_keep_the_form_they_have(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "one.flac", np.zeros(1600), 16_000)
    sound = (tmp_path / "one.flac").read_bytes()
    table = rows(tmp_path, emotion=["happy", "sad"], audio_data=[sound, sound])
    parquet.write_table(arrow.table(table), tmp_path / "one.parquet")
    done = import_cosyvoice(tmp_path / "one.parquet", tmp_path / "out")
    assert done.tokens == 0
    assert read_manifest(tmp_path / "out")[0].path.suffix == ".flac"


def test_a_parquets_partitions_are_kept_and_not_passed_over(tmp_path: Path) -> None:
    parts = {"emotion": ["happy", "sad"], "speech_token": [[1], [2]], "spk": ["s", "t"]}
    table = rows(tmp_path, **parts, partition=["test", "train"])
    parquet.write_table(arrow.table(table), tmp_path / "x.parquet")
    done = import_cosyvoice(tmp_path / "x.parquet", tmp_path / "out")
    assert [one.partition for one in read_manifest(tmp_path / "out")] == ["test", "train"]
    assert [one.partition for one in read_shard(tmp_path / "out" / "tokens")] == ["test", "train"]
    assert not [one for one in done.findings.notes if "held out" in one]
    table = rows(tmp_path, **parts, split=["test", "train"])
    parquet.write_table(arrow.table(table), tmp_path / "x.parquet")
    with pytest.raises(UserError, match="its column split holds test and train"):
        import_cosyvoice(tmp_path / "x.parquet", tmp_path / "other")
    parquet.write_table(arrow.table(rows(tmp_path, **parts)), tmp_path / "x.parquet")
    done = import_cosyvoice(tmp_path / "x.parquet", tmp_path / "none")
    assert any("nobody is held out for tests" in one for one in done.findings.notes)


def test_what_is_wrong_with_a_parquet_list_is_said(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match="nothing at"):
        import_cosyvoice(tmp_path / "data.list", out)
    (tmp_path / "data.list").write_text("gone.parquet\n")
    with pytest.raises(UserError, match=r"gone\.parquet, which is not there"):
        import_cosyvoice(tmp_path / "data.list", out)
    (tmp_path / "gone.parquet").write_text("no parquet")
    with pytest.raises(UserError, match="is not a parquet file"):
        import_cosyvoice(tmp_path / "data.list", out)
    parquet.write_table(arrow.table({"text": ["a"]}), tmp_path / "gone.parquet")
    with pytest.raises(UserError, match="lacks the columns utt and audio_data"):
        import_cosyvoice(tmp_path / "data.list", out)
    wrong = rows(tmp_path, emotion=["happy", "sad"], speech_token=[[6561], [1]])
    parquet.write_table(arrow.table(wrong), tmp_path / "gone.parquet")
    with pytest.raises(UserError, match="x/1 has a speech token outside"):
        import_cosyvoice(tmp_path / "data.list", out)
    (out / "tokens").mkdir(parents=True)
    with pytest.raises(UserError, match="is not empty"):
        import_cosyvoice(tmp_path / "gone.parquet", out)
    silent = rows(tmp_path, emotion=["happy", "sad"], audio_data=[None, None])
    parquet.write_table(arrow.table(silent), tmp_path / "gone.parquet")
    with pytest.raises(UserError, match=r"no such audio file: /elsewhere/1\.wav of x/1, "):
        import_cosyvoice(tmp_path / "gone.parquet", tmp_path / "fresh")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"speech_token": [["a", "b"]]}, "are no numbers"),
        ({"audio_data": ["text"]}, "no bytes of a sound file"),
    ],
)
def test_columns_of_another_kind_are_said_and_nothing_is_left(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    good = {"utt": ["a"], "audio_data": [wav(tmp_path / "a.wav")], "text": ["Hi."], "spk": ["s"]}
    labels = tmp_path / "utt2emo"
    labels.write_text("a happy\n")
    parquet.write_table(arrow.table(good | changed), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=message):
        import_cosyvoice(tmp_path / "x.parquet", tmp_path / "out")
    parquet.write_table(arrow.table(good), tmp_path / "x.parquet")
    assert import_cosyvoice(tmp_path / "x.parquet", tmp_path / "out").utterances == 1


def test_labels_have_one_spelling_at_every_door(kaldi: Path, tmp_path: Path) -> None:
    (kaldi / "utt2emo").write_text("a HAPPY\nb Ａnger\n", encoding="utf-8")
    import_cosyvoice(kaldi, tmp_path / "out")
    assert [one.emotion for one in read_manifest(tmp_path / "out")] == ["happy", "angry"]
    table = tmp_path / "t.csv"
    table.write_text(f"path,emotion\n{kaldi}/wavs/a.wav,Joy\n{kaldi}/wavs/b.wav,Calm\n")
    assert [one.emotion for one in read_manifest(table)] == ["happy", "calm"]
    data = rows(tmp_path, emotion=["SAD", "Sad"])
    parquet.write_table(arrow.table(data), tmp_path / "x.parquet")
    import_cosyvoice(tmp_path / "x.parquet", tmp_path / "fresh")
    assert {one.emotion for one in read_manifest(tmp_path / "fresh")} == {"sad"}
    shard = tmp_path / "0.parquet"
    mixed = Utterance("a", "Hi.", "Happy", np.array([1]), partner_emotion="SAD", partner_weight=0.1)
    write_shard(shard, [mixed])
    assert [(one.emotion, one.partner_emotion) for one in read_shard(shard)] == [("happy", "sad")]


def test_labels_mean_what_the_user_says(kaldi: Path, tmp_path: Path) -> None:
    (kaldi / "utt2emo").write_text("a 3\nb <|SAD|>\n")
    import_cosyvoice(kaldi, tmp_path / "both", labels={"3": "Joy", "<|sad|>": "sad"})
    assert [row.emotion for row in read_manifest(tmp_path / "both")] == ["happy", "sad"]
    done = import_cosyvoice(kaldi, tmp_path / "one", labels={"3": "other", "<|SAD|>": "sad"})
    assert [row.emotion for row in read_manifest(tmp_path / "one")] == ["sad"]
    assert done.findings.unclassed == {"3": 1}
    with pytest.raises(UserError, match="--label 4: no recording has that label; there are 3, <"):
        import_cosyvoice(
            kaldi, tmp_path / "no", labels={"3": "happy", "<|SAD|>": "sad", "4": "sad"}
        )
    with pytest.raises(UserError, match="did you mean happy"):
        import_cosyvoice(kaldi, tmp_path / "no", labels={"3": "hapy"})
    assert not (tmp_path / "no").exists()


def test_labels_of_a_parquet_list_mean_what_the_user_says(tmp_path: Path) -> None:
    sound = wav(tmp_path / "a.wav")
    row = {"utt": "a", "text": "Hi.", "spk": "s1", "audio_data": sound, "emotion": "E-7"}
    parquet.write_table(arrow.Table.from_pylist([row]), tmp_path / "0.parquet")
    import_cosyvoice(tmp_path / "0.parquet", tmp_path / "out", labels={"e-7": "angry"})
    assert [one.emotion for one in read_manifest(tmp_path / "out")] == ["angry"]


def test_a_text_keeps_what_is_no_line_end(kaldi: Path, tmp_path: Path) -> None:
    text = "First\u2028second\x85third\x0bfourth\x0cfifth"
    write = (kaldi / "text").write_bytes
    write(f"\ufeffa\t{text}\r\nb  nan\r\nc Nobody\r\n".encode())
    done = import_cosyvoice(kaldi, tmp_path / "out")
    assert [one.text for one in read_manifest(tmp_path / "out")] == [text, ""]
    assert "text has utterances that wav.scp lacks: c" in done.findings.lines()[-2]


@pytest.mark.parametrize("table", ["utt2spk", "utt2emo", "text", "wav.scp"])
def test_an_utterance_twice_names_both_lines(kaldi: Path, tmp_path: Path, table: str) -> None:
    """Speech-Lab-IITM/Hindi-ASR-Challenge#6: kaldi's own check tells neither line nor name."""
    with (kaldi / table).open("a", encoding="utf-8") as stream:
        stream.write("\na again\n")
    with pytest.raises(UserError, match=f"{table}, line 4: a stands twice, in line 1 too"):
        import_cosyvoice(kaldi, tmp_path / "out")


def test_an_utterance_in_two_parquet_files_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        table = arrow.table(rows(tmp_path, emotion=["sad", "sad"]))
        parquet.write_table(table, tmp_path / f"{name}.tar")
    names = tmp_path / "data.list"
    out = tmp_path / "out"
    names.write_text("one.tar\ntwo.tar\n")
    with pytest.raises(UserError, match=r"two\.tar: x/1 stands twice, in .*one\.tar too"):
        import_cosyvoice(names, out)
    names.write_text("one.tar\r\n\r\n./one.tar\r\n")
    with pytest.raises(UserError, match=r"line 3: one\.tar is named twice, in line 1 too"):
        import_cosyvoice(names, out)
    assert not out.exists()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "data.list").write_text("../one.tar\n")
    with pytest.raises(UserError, match=r"name its list, .*data\.list"):
        import_cosyvoice(tmp_path / "folder", out)
    halves = rows(tmp_path, emotion=["sad", "sad"], speech_token=[[1.0, 2.5], [1.0, 2.0]])
    parquet.write_table(arrow.table(halves), tmp_path / "one.tar")
    with pytest.raises(UserError, match="of x/1 are no numbers, or no whole ones"):
        import_cosyvoice(tmp_path / "one.tar", out)


def test_a_label_in_two_places_is_one(tmp_path: Path) -> None:
    table = rows(tmp_path, emotion=["Happy", "sad"])
    parquet.write_table(arrow.table(table), tmp_path / "x.parquet")
    (tmp_path / "utt2emo").write_text("x/1 joy\n")
    import_cosyvoice(tmp_path / "x.parquet", tmp_path / "out")
    assert [one.emotion for one in read_manifest(tmp_path / "out")] == ["happy", "sad"]
    (tmp_path / "utt2emo").write_text("x/1 angry\n")
    expected = r"x\.parquet: x/1 is Happy in the column emotion, and angry in .*utt2emo: correct"
    with pytest.raises(UserError, match=expected):
        import_cosyvoice(tmp_path / "x.parquet", tmp_path / "other")


def test_columns_that_are_not_read_are_told(tmp_path: Path) -> None:
    table = rows(tmp_path, emotion=["happy", "sad"], instruct=["Shout.", ""])
    table["reject_speech_token"] = [[1], [2]]
    parquet.write_table(arrow.table(table), tmp_path / "x.parquet")
    one, other, *_ = import_cosyvoice(tmp_path / "x.parquet", tmp_path / "out").findings.notes
    assert one.startswith(f"the column instruct is not read ({tmp_path}/x.parquet): a policy is")
    assert other.startswith("the column reject_speech_token is not read")


def test_sounds_lie_beside_their_parquet_file_or_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wav(tmp_path / "corpus" / "wavs" / "1.wav")
    wav(tmp_path / "here" / "wavs" / "2.wav")
    paths = {"audio_data": [None, None], "wav": ["wavs/1.wav", "wavs/2.wav"]}
    table = rows(tmp_path, emotion=["happy", "sad"], **paths)
    parquet.write_table(arrow.table(table), tmp_path / "corpus" / "x.parquet")
    monkeypatch.chdir(tmp_path / "here")
    import_cosyvoice(tmp_path / "corpus" / "x.parquet", tmp_path / "out")
    found = [one.path for one in read_manifest(tmp_path / "out")]
    assert found == [tmp_path / "corpus/wavs/1.wav", tmp_path / "here/wavs/2.wav"]


def test_a_number_is_a_name_also_zero(tmp_path: Path) -> None:
    table = rows(tmp_path, utt=[0, 1], emotion=["happy", "sad"], speech_token=[[1], [2]])
    parquet.write_table(arrow.table(table), tmp_path / "x.parquet")
    import_cosyvoice(tmp_path / "x.parquet", tmp_path / "out")
    assert [row.id for row in read_shard(tmp_path / "out" / "tokens")] == ["0", "1"]
    table["utt"] = [None, 1]
    parquet.write_table(arrow.table(table), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=r"x\.parquet: an utterance has no name"):
        import_cosyvoice(tmp_path / "x.parquet", tmp_path / "other")


def test_an_empty_parquet_file_is_named(tmp_path: Path) -> None:
    table = arrow.table(rows(tmp_path, emotion=["happy", "sad"]))
    parquet.write_table(table.slice(0, 0), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=r"x\.parquet: no utterance to import"):
        import_cosyvoice(tmp_path / "x.parquet", tmp_path / "out")


def test_tokens_of_an_unknown_codec_are_told(tmp_path: Path) -> None:
    table = rows(tmp_path, emotion=["happy", "sad"], speech_token=[[1], [2]])
    parquet.write_table(arrow.table(table), tmp_path / "x.parquet")
    said = import_cosyvoice(tmp_path / "x.parquet", tmp_path / "out").findings.lines()
    assert sum("import with --codec-of s3:FOLDER" in line for line in said) == 1
    done = import_cosyvoice(tmp_path / "x.parquet", tmp_path / "told", codec="speech_tokenizer_v2")
    assert not any("--codec-of" in line for line in done.findings.lines())
    assert shard_codec(tmp_path / "told" / "tokens") == "speech_tokenizer_v2"


def test_an_import_that_is_cut_off_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = rows(tmp_path, emotion=["happy", "sad"], speech_token=[[1], [2]])
    parquet.write_table(arrow.table(table), tmp_path / "x.parquet")
    out = tmp_path / "new" / "out"

    def interrupted(*_: object) -> None:
        assert not (out / "tokens").exists()
        raise KeyboardInterrupt

    with monkeypatch.context() as changed, pytest.raises(KeyboardInterrupt):
        changed.setattr("rrpo.data.cosyvoice.write_manifest", interrupted)
        import_cosyvoice(tmp_path / "x.parquet", out)
    assert not (tmp_path / "new").exists()
    assert import_cosyvoice(tmp_path / "x.parquet", out).tokens == 2
    assert sorted(path.name for path in out.iterdir()) == ["audio", "manifest.csv", "tokens"]
