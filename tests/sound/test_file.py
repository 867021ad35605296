"""What the reader of sound files takes, what it refuses, and what it notes."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from places import CORPORA
from rrpo.audio import checked, is_silent
from rrpo.errors import UserError
from rrpo.sound.file import inspect, load, load_speech, load_voice
from sounds import FORMATS, RATE, encoded, voice, written

LOSSY = ("ogg", "opus", "mp3", "adpcm", "gsm")


def mistake(path: Path, voice_channel: int | None = None) -> str:
    """Return what is said of a file that is refused; it begins with its name, or names it."""
    with pytest.raises(UserError) as caught:
        load_speech(path, voice=voice_channel)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read_whole_and_refused_in_part(kind: str, tmp_path: Path) -> None:
    """bastibe/python-soundfile#385: a part of a file was read as if it were the whole."""
    sound = voice()
    data = encoded(kind, sound)
    path = written(tmp_path / "a.wav", data)
    found = load(path)
    assert found.notes == ()
    assert abs(found.samples.size - sound.size) <= (1100 if kind in LOSSY else 0)
    if kind not in LOSSY:
        np.testing.assert_allclose(found.samples, sound, atol=2**-15)
    elif kind != "gsm":
        size = min(found.samples.size, sound.size)
        assert np.corrcoef(found.samples[:size], sound[:size])[0, 1] > 0.9
    assert inspect(path)[0] == RATE
    for share in (0.0, 0.02, 0.3, 0.5, 0.97):
        part = written(tmp_path / f"part {share}.wav", data[: int(share * len(data))])
        mistake(part)
        if kind != "flac":  # which says its length first: half of it is told by decoding
            with pytest.raises(UserError):
                inspect(part)


def test_less_than_a_header_may_be_missing(tmp_path: Path) -> None:
    """MediaArea/BWFMetaEdit#160 and debpalash/VoiceStudio#1620: a byte, and some, cut off.

    Where fewer bytes are missing than a header has, comparing sizes of files does not tell.
    """
    sound = voice()
    data = encoded("wav", sound)
    found = load(written(tmp_path / "a.wav", data[:-1]))
    assert found.samples.size == sound.size - 1
    assert found.notes == ("its last sample is not whole and left out",)
    for missing in (2, 20, 43):
        said = mistake(written(tmp_path / "b.wav", data[:-missing]))
        assert f"is cut off: {missing} bytes are missing" in said
    # Some programs count the header among the sound.
    counted = data[:40] + struct.pack("<I", len(data)) + data[44:]
    assert load(written(tmp_path / "c.wav", counted)).samples.size == sound.size


def test_a_stream_reaches_to_the_end_of_its_file(tmp_path: Path) -> None:
    """JamesHeinrich/getID3#468: both lengths zero, as they are before a stream ends."""
    sound = voice()
    data = encoded("wav", sound)
    for riff, size in ((0, 0), (0xFFFFFFFF, 0xFFFFFFFF), (36, 0), (0x7FFFF024, 0x7FFFF000)):
        sized = [struct.pack("<I", number) for number in (riff, size)]
        stream = data[:4] + sized[0] + data[8:40] + sized[1] + data[44:]
        found = load(written(tmp_path / "a.wav", stream))
        np.testing.assert_allclose(found.samples, sound, atol=2**-15)
        assert "does not say how long it is" in found.notes[0]
    au = encoded("au", sound)
    for size in (0, 0xFFFFFFFF):
        stream = au[:8] + struct.pack(">I", size) + au[12:]
        assert load(written(tmp_path / "a.au", stream)).samples.size == sound.size
    # Nothing recorded, and more chunks behind: that is no stream.
    empty = data[:40] + bytes(4) + b"LIST" + struct.pack("<I", 4) + b"INFO"
    empty = empty[:4] + struct.pack("<I", len(empty) - 8) + empty[8:]
    assert "holds no samples" in mistake(written(tmp_path / "b.wav", empty))


def test_an_mp3_without_a_count_is_read_to_its_end(tmp_path: Path) -> None:
    """libsndfile/libsndfile#1001: frames of an MP3 by its header are not those that it has."""
    sound = voice(2.0)
    data = encoded("mp3", sound)
    assert data.find(b"Xing") == 13
    size = 288  # of the frame that counts
    plain = data[size:]
    with soundfile.SoundFile(written(tmp_path / "a.mp3", plain)) as file:
        assert file.frames < 0.6 * sound.size  # guessed
    found = load(tmp_path / "a.mp3")
    assert sound.size <= found.samples.size < sound.size + 2304
    assert found.notes == ()
    assert "is cut off within its frame" in mistake(written(tmp_path / "b.mp3", plain[:-7]))
    tagged = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + plain + b"TAG" + bytes(125)
    assert load(written(tmp_path / "c.mp3", tagged)).samples.size == found.samples.size
    damaged = plain[:2000] + bytes(500) + plain[2500:]
    assert "damaged" in mistake(written(tmp_path / "d.mp3", damaged))


def test_files_one_behind_the_other(tmp_path: Path) -> None:
    sound = voice()
    for kind, said in (("wav", "a second file behind the first"), ("ogg", "more than one stream")):
        assert said in mistake(written(tmp_path / f"a.{kind}", 2 * encoded(kind, sound)))
    twice = load(written(tmp_path / "a.mp3", 2 * encoded("mp3", sound)))
    assert twice.samples.size >= 2 * sound.size
    assert "its header counts" in twice.notes[0]


def test_an_ogg_with_a_page_changed_or_missing(tmp_path: Path) -> None:
    data = encoded("ogg", voice(3.0))
    page = data.rfind(b"OggS", 0, data.rfind(b"OggS"))
    changed = bytearray(data)
    changed[page + 300] ^= 4
    said = mistake(written(tmp_path / "a.ogg", bytes(changed)))
    assert "is damaged within its page" in said or "not as it was written" in said
    without = data[:page] + data[data.rfind(b"OggS") :]
    assert "is missing" in mistake(written(tmp_path / "b.ogg", without))


def test_a_flac_whose_samples_are_not_those_that_were_encoded(tmp_path: Path) -> None:
    data = bytearray(encoded("flac", voice()))
    data[30] ^= 1  # of the checksum of its samples
    assert "not those that were encoded" in mistake(written(tmp_path / "a.flac", bytes(data)))


def test_a_header_that_contradicts_itself(tmp_path: Path) -> None:
    """Twice the channels are twice the pitch, were it not for the bytes of a sample."""
    data = bytearray(encoded("wav", voice()))
    data[22] = 2
    assert "contradicts itself" in mistake(written(tmp_path / "a.wav", bytes(data)))
    data[22], data[24:28] = 1, struct.pack("<I", 32_000)
    (note,) = load(written(tmp_path / "b.wav", bytes(data))).notes
    assert note == "its header says 32000 Hz, and 32000 bytes a second where 64000 are right"
    data[24:28] = struct.pack("<I", 2**30)
    assert "beyond any converter" in mistake(written(tmp_path / "c.wav", bytes(data)))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "has 0 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "run git lfs pull"),
        (b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(500), "is MPEG-4, which is not read here"),
        (b"<html>404</html>", "holds text"),
        (b"Not found, sorry.", "holds text"),
        (bytes(5000), "zeros alone"),
        (bytes(range(256)) * 9, "is in no known format of sound"),
        (b"RIFF\x10\0\0\0AVI LIST", "is in no known format of sound"),
        (b"FORM\0\0\0\x108SVXVHDR", "is in no known format of sound"),
    ],
)
def test_what_is_no_sound_is_named(data: bytes, said: str, tmp_path: Path) -> None:
    assert said in mistake(written(tmp_path / "a.wav", data))


def test_samples_that_are_no_amplitudes(tmp_path: Path) -> None:
    sound = voice()
    path = written(tmp_path / "a.wav", encoded("float", sound * 32768))
    assert "where 1 is full scale: divide its samples" in mistake(path)
    loud = load(written(tmp_path / "b.wav", encoded("float", sound / np.abs(sound).max() * 2)))
    assert loud.notes == ("its peak is 2 where 1 is full scale",)
    sound[7] = np.nan
    assert "NaN or infinite" in mistake(written(tmp_path / "c.wav", encoded("float", sound)))
    clipped = np.clip(20 * voice(), -1, 1)
    *_, note = load(written(tmp_path / "d.wav", encoded("wav", clipped))).notes
    assert note.endswith("of its samples are at the end of the scale: it is clipped")


def test_an_offset_is_no_sound(tmp_path: Path) -> None:
    """Frieve-A/effetune#35: silence is judged without the constant."""
    for level in (0.2, -0.02, 0.9):
        path = written(tmp_path / "a.wav", encoded("float", np.full(8000, level, np.float32)))
        assert "is silent" in mistake(path)
        assert is_silent(np.full(7, level))
        short = encoded("float", np.full(40, level, np.float32), 8000)
        assert "is silent" in mistake(written(tmp_path / "d.wav", short))
    sound = voice()
    for level in (0.2, -0.6):
        for rate in (RATE, 48_000):
            data = encoded("float", sound + np.float32(level), rate)
            found = load(written(tmp_path / "b.wav", data), sample_rate=None)
            assert found.notes[0] == f"an offset of {level:g} is taken out"
            np.testing.assert_allclose(found.samples, sound - sound.mean(), atol=1e-5)
    # Of a sound that ends within a wave the mean is no offset.
    short = load(written(tmp_path / "c.wav", encoded("float", sound[:40] + np.float32(0.1))))
    np.testing.assert_allclose(short.samples, sound[:40] + 0.1, atol=1e-7)


def test_channels_of_the_same_sound(tmp_path: Path) -> None:
    """m-bain/whisperX#750: where one channel is the other turned over, the mean is silence."""
    sound, silence = voice(), np.zeros(8000, np.float32)
    for channels, note in (
        ([sound, sound], ""),
        ([sound, 0.5 * sound], ""),
        ([sound, -sound], "turned over"),
        ([sound, -0.9 * sound], "turned over"),
        ([sound, silence], "1 of 2 channels are next to silent"),
        ([silence, sound], "1 of 2 channels are next to silent"),
        ([sound, *[silence] * 5], "5 of 6 channels are next to silent"),
    ):
        path = written(tmp_path / "a.wav", encoded("float", np.stack(channels, 1)))
        found = load(path)
        assert bool(found.notes) == bool(note)
        assert note in "".join(found.notes)
        level = 0.75 if channels[1] is not silence and np.allclose(channels[1], sound / 2) else 1.0
        np.testing.assert_allclose(found.samples, level * sound, atol=1e-5)


def test_a_second_microphone_hears_later(tmp_path: Path) -> None:
    """tphakala/birdnet-go#1724: the mean of two microphones is a comb filter."""
    sound = voice(1.0)
    for delay in (8, 40, 200):
        late = np.concatenate([np.zeros(delay, np.float32), sound])[: sound.size]
        path = written(tmp_path / "a.wav", encoded("float", np.stack([sound, late], 1)))
        found = load(path)
        assert "a channel is later: number 1 of 2 alone is taken" in found.notes
        np.testing.assert_allclose(found.samples, sound, atol=1e-6)


def test_channels_of_different_sounds_are_refused_unless_the_voices_is_known(
    tmp_path: Path,
) -> None:
    """audeering's EmoDB 2.0: the original recordings have a laryngograph beside the voice."""
    sound = voice()
    larynx = 0.9 * np.sign(np.sin(2 * np.pi * 311 * np.arange(sound.size) / RATE))
    path = written(tmp_path / "a.wav", encoded("float", np.stack([sound, larynx], 1)))
    assert "hold different sounds" in mistake(path)
    np.testing.assert_allclose(load(path, voice=0).samples, sound, atol=1e-6)
    assert "the voice should be in 4" in mistake(path, 3)
    mono = written(tmp_path / "b.wav", encoded("float", sound))
    np.testing.assert_allclose(load(mono, voice=0).samples, sound, atol=1e-6)


def test_a_voice_to_be_taken_over(tmp_path: Path) -> None:
    sound = voice(1.0)
    for rate, size, said in ((8000, 1, "needs 16000 Hz at least"), (16_000, 31, "30 s at most")):
        path = written(tmp_path / "a.wav", encoded("wav", np.tile(sound, size), rate))
        with pytest.raises(UserError, match=said):
            load_voice(path)
    path = written(tmp_path / "b.wav", encoded("wav", np.stack([sound, -sound], 1), 24_000))
    found = load_voice(path)
    assert (found.rate, found.samples.size) == (24_000, sound.size)


def test_codecs_refuse_what_files_would_be_refused_for() -> None:
    for wrong, said in (
        (np.zeros((2, 3)), "mono"),
        (np.zeros(0), "mono"),
        (np.array([0.0, np.inf]), "NaN or infinite"),
        (np.array([0.0, 16384.0]), "a peak of 16384"),
    ):
        with pytest.raises(UserError, match=said):
            checked(wrong)


@pytest.mark.skipif(not CORPORA.is_dir(), reason="no real speech here")
def test_real_speech_is_taken_as_it_is() -> None:
    for corpus in sorted(CORPORA.iterdir()):
        paths = sorted(path for path in corpus.iterdir() if path.suffix in (".flac", ".wav"))
        for path in paths[:: max(1, len(paths) // 5)]:
            found = load_speech(path, sample_rate=None)
            expected, rate = soundfile.read(path, dtype="float32")
            assert (found.rate, found.notes) == (rate, ())
            np.testing.assert_array_equal(found.samples, expected)
