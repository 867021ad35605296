"""Malformed sound files, several hundred of them, drawn by a seed: samples or one line, no more."""

import io
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rrpo.errors import UserError
from rrpo.sound.file import Sound, inspect, load, load_speech
from sounds import FORMATS, encoded, voice, written

FUZZ = Path("fuzz.wav")


def taken(path: Path) -> Sound | None:
    """Read a file, by its header alone, too; None where it is refused, in a line with its name."""
    found = None
    for reader in (inspect, partial(load, sample_rate=None)):
        try:
            found = reader(path)
        except UserError as error:
            said = str(error)
            assert str(path) in said and "\n" not in said and len(said) < 300
            found = None
    return found if isinstance(found, Sound) else None


@pytest.fixture(scope="module")
def whole() -> dict[str, bytes]:
    return {kind: encoded(kind, voice(0.3)) for kind in FORMATS}


@pytest.mark.slow
def test_cut_at_random_places(whole: dict[str, bytes], tmp_path: Path) -> None:
    """What is taken lacks nothing, or less than one sample."""
    rng = np.random.default_rng(1)
    counts: Counter[bool] = Counter()
    for kind, data in whole.items():
        expected = load(written(tmp_path / FUZZ, data)).samples
        for end in rng.integers(0, len(data), 12):
            found = taken(written(tmp_path / FUZZ, data[: int(end)]))
            counts[found is None] += 1
            if found is not None:
                assert expected.size - found.samples.size <= 1, (kind, end)
                np.testing.assert_array_equal(found.samples, expected[: found.samples.size])
                assert found.notes or found.samples.size == expected.size
    assert counts[True] > 150  # nearly all


@pytest.mark.slow
def test_headers_with_bits_turned_over(whole: dict[str, bytes], tmp_path: Path) -> None:
    """What is taken without a note is what another reader finds in the same file."""
    rng = np.random.default_rng(2)
    counts: Counter[bool] = Counter()
    for kind, data in whole.items():
        for _ in range(25):
            damaged = bytearray(data)
            for place in rng.integers(0, min(80, len(data)), int(rng.integers(1, 4))):
                damaged[int(place)] ^= 1 << int(rng.integers(8))
            found = taken(written(tmp_path / FUZZ, bytes(damaged)))
            counts[found is None] += 1
            if found is None or found.notes:
                continue
            assert np.isfinite(found.samples).all() and found.samples.size
            if kind in ("mp3", "gsm", "adpcm") or found.rate != 16_000:
                continue
            other, _ = soundfile.read(io.BytesIO(damaged), dtype="float32", always_2d=True)
            np.testing.assert_allclose(found.samples, other.mean(1), atol=1e-6)
    assert min(counts.values()) > 30


@pytest.mark.slow
def test_compressed_sound_with_bytes_changed(whole: dict[str, bytes], tmp_path: Path) -> None:
    """FLAC and Ogg know what they held: nothing else is taken."""
    rng = np.random.default_rng(3)
    for kind in ("flac", "ogg", "opus"):
        data = whole[kind]
        expected = load(written(tmp_path / FUZZ, data)).samples
        for place in rng.integers(100, len(data), 20):
            damaged = bytearray(data)
            damaged[int(place)] ^= 1 << int(rng.integers(8))
            found = taken(written(tmp_path / FUZZ, bytes(damaged)))
            if found is not None:
                np.testing.assert_array_equal(found.samples, expected)


def test_random_bytes_behind_every_beginning(whole: dict[str, bytes], tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    for data in [b"", b"ID3", b"\xff\xf3\x88\xc4", *whole.values()]:
        for size in (4, 12, 44, 60):
            noise = rng.bytes(int(rng.integers(0, 3000)))
            taken(written(tmp_path / FUZZ, data[:size] + noise))


def test_channels_and_values(tmp_path: Path) -> None:
    """Any number of channels of the same voice is that voice; a value that is none is refused."""
    rng = np.random.default_rng(5)
    sound = voice(0.3)
    for count in (1, 2, 3, 5, 7, 8, 16, 31):
        channels = np.repeat(sound[:, None], count, axis=1)
        path = written(tmp_path / FUZZ, encoded("float", channels))
        np.testing.assert_allclose(load_speech(path).samples, sound, atol=1e-6)
        for value in (np.nan, np.inf, -np.inf, 1e30, -9.0):
            damaged = channels.copy()
            damaged[rng.integers(sound.size), rng.integers(count)] = value
            assert taken(written(tmp_path / FUZZ, encoded("float", damaged))) is None
