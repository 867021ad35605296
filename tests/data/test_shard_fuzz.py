"""Malformed shards, mixes, pairs and CosyVoice's parquet, several hundred for each door."""

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from malformed import MUTATIONS, taken
from rrpo.codec_identity import SPEECH_CODES
from rrpo.data.cosyvoice import import_cosyvoice
from rrpo.data.manifest import read_manifest
from rrpo.data.shards import (
    Utterance,
    for_tests,
    for_training,
    read_shard,
    shard_codec,
    write_shard,
)
from rrpo.data.utterance import SCHEMA
from rrpo.loading import load_data, load_mixes
from rrpo.mini.world import World
from rrpo.objectives.pairs import CHOSEN, REJECTED, read_pairs
from sounds import encoded, voice, written

pytestmark = pytest.mark.thorough

TEXTS = ("The train is late.", "The door is open.", "A bird sat here.", "It is noon.")


def rows(seed: int = 0, mixed: bool = False) -> list[Utterance]:
    rng = np.random.default_rng(seed)
    more: dict[str, Any] = {"partner_emotion": "sad", "partner_weight": 0.3} if mixed else {}
    return [
        Utterance(f"{at}", text, "happy" if at % 2 else "sad", rng.integers(6561, size=9), **more)
        for at, text in enumerate(TEXTS)
    ]


class Letters:
    """A tokenizer of letters: the mini world's takes most of the time of this test."""

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def instruct(self, emotion: str, speaker: str = "") -> list[int]:
        return [len(emotion), len(speaker)]


def plain(utterances: list[Utterance]) -> dict[str, list[Any]]:
    """Return utterances as columns."""
    columns = {name: [getattr(row, name) for row in utterances] for name in SCHEMA.names}
    return columns | {"tokens": [row.tokens.tolist() for row in utterances]}


VALUES: tuple[Any, ...] = (
    None, "", "nan", "None", "x" * 9999, "a\0b", "\u2028", 0, -1, 1.5, float("nan"), float("inf"),
    -float("inf"), 1e30, 2**62, True, b"\xff", [], [None], [-1], [SPEECH_CODES], [2**40], [1.5],
    [float("nan")], ["1"], [[1]], [[]], [0] * 99999, {"a": 1}, "test", "dev", "TRAIN",
)  # fmt: skip
"""What a column may hold by mistake, in one row or in all."""


def odd_table(rng: random.Random, columns: dict[str, list[Any]]) -> arrow.Table | None:
    """Change a column: a value, all values, its name or its kind; None: arrow takes no such."""
    changed = {name: list(values) for name, values in columns.items()}
    name = rng.choice(list(changed))
    value = rng.choice(VALUES)
    change = rng.randrange(6)
    if change < 2:
        changed[name] = [value] * len(changed[name])
    elif change < 4:
        changed[name][rng.randrange(len(changed[name]))] = value
    elif change == 4:
        del changed[name]
    else:
        changed[rng.choice([name.upper(), f"{name} ", "", "audio"])] = changed.pop(name)
    try:
        return arrow.table(changed)
    except (arrow.ArrowException, TypeError, ValueError, OverflowError):
        return None


def check_shard(path: Path, found: list[bool]) -> None:
    """Read a shard as every command does; what is taken is whole."""
    got = taken(lambda: read_shard(path))
    found.append(got is None)
    for read in (for_training, for_tests, load_data, load_mixes, shard_codec):
        taken(lambda read=read: read(path))
    for row in got or ():
        assert row.tokens.size and row.tokens.min() >= 0 and row.tokens.max() < SPEECH_CODES
        assert row.emotion.strip() and row.partition in ("", "train", "validation", "test")
        assert 0 <= row.partner_weight <= 1
        assert row.intensity is None or 0 <= row.intensity <= 1
        assert row.energy is None or np.isfinite(row.energy)


@pytest.mark.parametrize("mixed", [False, True], ids=["tokens", "mixes"])
def test_shards_with_odd_columns(mixed: bool, tmp_path: Path) -> None:
    columns, path = plain(rows(mixed=mixed)), tmp_path / "a.parquet"
    rng, found = random.Random(mixed), list[bool]()
    while len(found) < 300:
        table = odd_table(rng, columns)
        if table is not None:
            parquet.write_table(table, path)
            check_shard(path, found)
    assert 150 < sum(found) < 290


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_damaged_shards(mutation: str, tmp_path: Path) -> None:
    path, rng, found = tmp_path / "a.parquet", random.Random(mutation), list[bool]()
    for mixed in (False, True):
        write_shard(path, rows(mixed=mixed), World().codec_identity)
        data = path.read_bytes()
        for _ in range(50):
            path.write_bytes(MUTATIONS[mutation](rng, data))
            check_shard(path, found)
    assert sum(found) > 50


def test_folders_of_pairs(tmp_path: Path) -> None:
    """Either of the two shards has odd columns or is damaged; a pair that is taken is one."""
    folder = tmp_path / "pairs"
    columns = {CHOSEN: plain(rows()), REJECTED: plain(rows(1))}
    rng, refused, count = random.Random(0), 0, 0
    whole = {}
    for name in columns:
        write_shard(folder / name, rows(name == REJECTED), World().codec_identity)
        whole[name] = (folder / name).read_bytes()
    while count < 500:
        name = rng.choice([CHOSEN, REJECTED])
        if count % 2:
            table = odd_table(rng, columns[name])
            if table is None:
                continue
            parquet.write_table(table, folder / name)
        else:
            change = MUTATIONS[rng.choice(list(MUTATIONS))]
            written(folder / name, change(rng, whole[name]))
        count += 1
        pairs = taken(lambda: read_pairs(folder, Letters()))
        refused += pairs is None
        written(folder / name, whole[name])
        for pair in pairs or ():
            assert pair.prompt.text.strip()
            assert pair.chosen.tolist() != pair.rejected.tolist()
    assert 250 < refused < 490


def test_parquet_of_cosyvoice(tmp_path: Path) -> None:
    """All of it is imported, or nothing is left."""
    rng = random.Random(0)
    columns: dict[str, list[Any]] = {
        "utt": ["a", "b"],
        "audio_data": [encoded("wav", voice(0.4, seed)) for seed in range(2)],
        "text": list(TEXTS[:2]),
        "spk": ["s"] * 2,
        "speech_token": [list(range(10))] * 2,
        "emotion": ["happy", "sad"],
    }
    path, out = tmp_path / "a.parquet", tmp_path / "out"
    parquet.write_table(arrow.table(columns), path)
    data = path.read_bytes()
    refused, count = 0, 0
    while count < 500:
        if count % 2:
            table = odd_table(rng, columns)
            if table is None:
                continue
            parquet.write_table(table, path)
        else:
            path.write_bytes(MUTATIONS[rng.choice(list(MUTATIONS))](rng, data))
        count += 1
        done = taken(lambda: import_cosyvoice(path, out))
        refused += done is None
        if done is None:
            assert not out.exists() or not list(out.iterdir())
        else:
            assert len(read_manifest(out)) == done.utterances
            if done.tokens:
                assert len(read_shard(out / "tokens")) == done.tokens
        shutil.rmtree(out, ignore_errors=True)
    assert 250 < refused < 490
