"""Rows that stream: each once an epoch, whatever the processes, and the same after a resume."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rrpo.data import stream as streaming
from rrpo.data.manifest import TEST
from rrpo.data.scan import MOST_HELD_OUT, Choice, file_of, scan
from rrpo.data.shards import Utterance, write_shard
from rrpo.data.stream import POSITION, Shards, Streamed, carried_by
from rrpo.data.utterance import SCHEMA
from rrpo.errors import UserError
from rrpo.loading import load_data
from rrpo.mini.world import World
from rrpo.objectives import pairs
from rrpo.policy.layout import choose


def utterance(number: int, **more: object) -> Utterance:
    row: dict[str, object] = {
        "id": f"{number:04d}",
        "text": f"sentence {number // 4}",
        "emotion": ("happy", "sad")[number % 2],
        "tokens": np.arange(number, number + 1 + number % 7),
    }
    return Utterance(**(row | more))  # type: ignore[arg-type]


def write(folder: Path, rows: list[Utterance], files: int = 3, group: int = 4) -> Path:
    """Write rows in their order into files of row groups."""
    folder.mkdir(exist_ok=True)
    for number, part in enumerate(np.array_split(np.arange(len(rows)), files)):
        path = folder / f"{number:03d}.parquet"
        write_shard(path, [rows[index] for index in part], "mini")
        parquet.write_table(parquet.read_table(path), path, row_group_size=group)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty rows, six of them for tests, in fifteen row groups of three files."""
    rows = [utterance(n, partition=TEST if n % 10 == 3 else "train") for n in range(60)]
    return write(tmp_path_factory.mktemp("corpus"), rows)


def among(rank: int, processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "process", lambda: rank)
    monkeypatch.setattr(streaming, "processes", lambda: processes)


def ids(shards: Shards, count: int) -> list[str]:
    return [shards[place].id for place in shards.take(count)]


TRAINED = {f"{n:04d}" for n in range(60) if n % 10 != 3}


@pytest.mark.parametrize("buffer", [1, 7, 20, 1000])
def test_each_row_comes_once_an_epoch(corpus: Path, buffer: int) -> None:
    shards = Shards(scan(corpus, Choice()), buffer, seed=0)
    assert shards.rows == len(TRAINED) == 54
    first, second = ids(shards, 54), [row for _ in range(9) for row in ids(shards, 6)]
    assert sorted(first) == sorted(second) == sorted(TRAINED)
    assert first != second, "a new order each epoch"
    assert ids(Shards(scan(corpus, Choice()), buffer, seed=0), 54) == first
    assert ids(Shards(scan(corpus, Choice()), buffer, seed=1), 54) != first


def test_a_row_is_what_was_written(tmp_path: Path) -> None:
    rows = [
        utterance(n, speaker="anna", language="en", intensity=n / 20, corpus="own", energy=-n / 2)
        for n in range(20)
    ]
    shards = Shards(scan(write(tmp_path, rows), Choice()), 6, seed=0)
    for place in shards.take(20):
        read = shards[place]
        written = rows[int(read.id)]
        assert np.array_equal(read.tokens, written.tokens)
        fields = set(SCHEMA.names) - {"tokens", "intensity"}
        assert all(getattr(read, name) == getattr(written, name) for name in fields)
        assert read.intensity == pytest.approx(written.intensity)


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_processes_see_rows_of_their_own(
    corpus: Path, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    found = scan(corpus, Choice())
    for rank in range(processes):
        among(rank, processes, monkeypatch)
        shards = Shards(found, 10, seed=0)
        seen.append([shards[place].id for _ in range(18) for place in shards.take(3)])
    # 54 rows each: as many whole epochs as there are processes.
    assert Counter(row for rows in seen for row in rows) == dict.fromkeys(TRAINED, processes)
    for step in range(0, 54 // processes, 3):
        batches = [row for rows in seen for row in rows[step : step + 3]]
        assert len(set(batches)) == 3 * processes


@pytest.mark.slow
@given(
    batch=st.integers(1, 9),
    steps=st.integers(0, 12),
    buffer=st.integers(16, 60),
    processes=st.integers(1, 3),
)
@settings(max_examples=8, deadline=None)
def test_a_resumed_run_sees_what_an_uninterrupted_one_would(
    corpus: Path, batch: int, steps: int, buffer: int, processes: int
) -> None:
    found = scan(corpus, Choice())
    for rank in range(processes):
        with pytest.MonkeyPatch.context() as monkeypatch:
            among(rank, processes, monkeypatch)
            whole, cut = (Shards(found, buffer, seed=3) for _ in range(2))
            expected = [ids(whole, batch) for _ in range(steps + 3)]
            for _ in range(steps):
                cut.take(batch)
            resumed = Shards(found, buffer, seed=3)
            resumed.carried |= cut.carried  # as a checkpoint does
            assert [ids(resumed, batch) for _ in range(3)] == expected[steps:]


def test_another_number_of_processes_goes_on_in_the_same_epoch(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, seen = scan(corpus, Choice()), []
    for rank in range(2):
        among(rank, 2, monkeypatch)
        shards = Shards(found, 10, seed=0)
        seen += ids(shards, 12)
    position = shards.carried
    assert position[POSITION] == 24
    for rank in range(3):
        among(rank, 3, monkeypatch)
        shards = Shards(found, 10, seed=0)
        shards.carried |= position
        seen += ids(shards, 10)
    assert sorted(seen) == sorted(TRAINED)


def test_a_place_given_back_is_the_same_row(corpus: Path) -> None:
    """As rollouts that serve several steps ask for their prompts again, after a resume too."""
    shards = Shards(scan(corpus, Choice()), 8, seed=0)
    places = shards.take(54) + shards.take(20)
    rows = [shards[place].id for place in places[-20:]]
    again = Shards(scan(corpus, Choice()), 8, seed=0)
    assert [again[place].id for place in places[-20:]] == rows


@pytest.mark.slow
def test_rows_are_well_mixed(tmp_path: Path) -> None:
    """In files in the order of the ids, places tell next to nothing about ids."""
    rows = [utterance(n) for n in range(1600)]
    shards = Shards(scan(write(tmp_path, rows, files=4, group=20), Choice()), 320, seed=0)
    correlations = []
    for _ in range(4):
        order = np.array([int(one) for one in ids(shards, 1600)])
        correlations.append(np.corrcoef(order, np.arange(1600))[0, 1])
        neighbours = np.abs(np.diff(order)) == 1
        assert neighbours.mean() < 0.012
        # Rows of one group lie apart: in a buffer of 16 groups a sixteenth of neighbours share it.
        shared = (np.diff(order // 20) == 0).mean()
        assert 0.04 < shared < 0.09
        # Every batch of 32 comes from many groups; of sorted rows it would be one or two.
        groups = [np.unique(order[at : at + 32] // 20).size for at in range(0, 1600, 32)]
        assert min(groups) >= 7
    # What is free within an epoch are 80 groups, so one correlation has a deviation of 0.11.
    assert abs(np.mean(correlations)) < 0.15


def test_an_epoch_reads_each_row_group_once(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[Path, int]] = []
    true = streaming.read_group

    def counted(file: Path, number: int) -> arrow.Table:
        read.append((file, number))
        return true(file, number)

    monkeypatch.setattr(streaming, "read_group", counted)
    shards = Shards(scan(corpus, Choice()), 10, seed=0)
    ids(shards, 5)
    assert 2 <= len(read) <= 6, "no more than two buffers"
    for _ in range(49):
        ids(shards, 1)
    every = shards.scan.groups
    assert sorted(read[: len(every)]) == sorted(every), "before any of the next epoch"
    assert len(read) <= len(every) + 3


def test_texts_are_held_out_with_all_their_readings(corpus: Path) -> None:
    found = scan(corpus, Choice(held_out=0.3, seed=1))
    shards = Shards(found, 10, seed=0)
    kept = [shards[place] for place in shards.take(shards.rows)]
    out = found.held_out
    assert kept and out and len(kept) + len(out) == 54
    assert not {row.text for row in kept} & {row.text for row in out}
    other = scan(corpus, Choice(held_out=0.3, seed=2))
    assert {row.id for row in other.held_out} != {row.id for row in out}
    assert TEST not in {row.partition for row in kept + out}


def test_few_rows_are_held_out_of_many(tmp_path: Path) -> None:
    rows = [utterance(n, text=f"text {n}") for n in range(6000)]
    found = scan(write(tmp_path, rows, group=500), Choice(held_out=0.5))
    assert 0.8 * MOST_HELD_OUT < len(found.held_out) <= MOST_HELD_OUT
    assert sum(found.kept) > 4900


def test_no_text_held_out_is_said(tmp_path: Path) -> None:
    rows = [utterance(n, text="one text") for n in range(8)]
    with pytest.raises(UserError, match="none was held out: raise held_out, or leave `stream`"):
        scan(write(tmp_path, rows), Choice(held_out=1e-9))


def test_what_leaves_nothing_to_train_on_is_counted(tmp_path: Path) -> None:
    rows = [utterance(n, partition=TEST) for n in range(5)]
    rows.append(utterance(5, partition="train"))
    write(tmp_path, rows)
    with pytest.raises(UserError) as found:
        scan(tmp_path, Choice(held_out=0.999999))
    assert str(found.value) == (
        f"{tmp_path}: of 6 utterances none is left to train on: 5 in the partition 'test', 1 whose "
        "texts held_out=0.999999 keeps out: lower held_out, or leave `stream` out"
    )


def test_the_file_of_a_row_is_found(tmp_path: Path) -> None:
    """By its text, too, as several files may use the same ids."""
    for name, text in (("a", "One."), ("b", "Two.")):
        rows = [utterance(n, id=f"{n}", text=text) for n in range(9)]
        write(tmp_path / name, rows, files=1)
        (tmp_path / name / "000.parquet").rename(tmp_path / f"{name}.parquet")
    for name, text in (("a", "One."), ("b", "Two.")):
        row = utterance(7, id="7", text=text)
        assert file_of(tmp_path, row) == tmp_path / f"{name}.parquet"
    assert file_of(tmp_path, utterance(70)) == tmp_path


def test_choose_takes_what_comes_next(corpus: Path) -> None:
    import torch

    shards = Shards(scan(corpus, Choice()), 10, seed=0)
    names, sizes = Streamed(shards, lambda row: row.id), Streamed(shards, lambda row: row.tokens)
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    chosen = choose(5, names, generator)
    assert chosen == [0, 1, 2, 3, 4] and choose(2, sizes, generator) == [5, 6]
    assert [sizes[place].size for place in chosen] == [
        int(names[place]) % 7 + 1 for place in chosen
    ]
    assert names.map(len)[0] == 4 and len(names) == 54
    assert carried_by(names) is shards.carried and carried_by(["in memory"]) == {}
    assert torch.equal(generator.get_state(), before)


def test_of_each_emotion_one_row_is_known(corpus: Path) -> None:
    shards = Shards(scan(corpus, Choice()), 10, seed=0)
    assert {row.emotion for row in Streamed(shards, lambda row: row).first()} == {"happy", "sad"}


def changed(**values: object) -> Callable[[Path], None]:
    """Return what changes a row in the midst of the third file."""

    def change(folder: Path) -> None:
        path = folder / "002.parquet"
        rows = parquet.read_table(path).to_pylist()
        rows[7] |= values
        schema = parquet.read_schema(path)
        parquet.write_table(arrow.Table.from_pylist(rows, schema), path, row_group_size=4)

    return change


MISTAKES = {
    "token": changed(tokens=[5, 6561]),
    "negative": changed(tokens=[-3]),
    "no tokens": changed(tokens=[]),
    "no text": changed(text="  "),
    "a word for nothing": changed(text="NaN"),
    "web text": changed(text="R&amp;B"),
    "emotion": changed(emotion="hapy"),
    "no emotion": changed(emotion=""),
    "intensity": changed(intensity=2.0),
    "mixed": changed(partner_emotion="sad", partner_weight=0.5),
    "partition": changed(partition="holdout"),
    "missing": changed(speaker=None),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_memory_refuses_streaming_refuses(mistake: str, tmp_path: Path) -> None:
    """In the same words, which name the row, before the first step."""
    write(tmp_path, [utterance(n) for n in range(60)])
    MISTAKES[mistake](tmp_path)
    model = World().policy()
    with pytest.raises(UserError) as expected:
        load_data(tmp_path, model, codec_of="mini")
    with pytest.raises(UserError) as found:
        scan(tmp_path, Choice())
    words = [str(one.value).replace("/002.parquet", "") for one in (expected, found)]
    assert words[0] == words[1] and "\n" not in words[0]


def test_a_speaker_in_two_partitions_is_refused(tmp_path: Path) -> None:
    rows = [utterance(n, speaker="Anna", partition="train") for n in range(20)]
    rows.append(utterance(20, speaker="ANNA", partition=TEST))
    with pytest.raises(UserError, match="the speaker ANNA is in train and in test: a speaker"):
        scan(write(tmp_path, rows), Choice())


def test_a_split_by_another_name_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [utterance(n) for n in range(12)], files=1)
    path = tmp_path / "000.parquet"
    table = parquet.read_table(path)
    split = arrow.array(["train"] * 9 + ["test"] * 3)
    parquet.write_table(table.append_column("split", split), path, row_group_size=4)
    with pytest.raises(UserError, match="its column split holds test and train"):
        scan(tmp_path, Choice())


def test_shards_of_before_and_of_wider_numbers_are_read(tmp_path: Path) -> None:
    write(tmp_path, [utterance(n) for n in range(24)])
    path = tmp_path / "001.parquet"
    table = parquet.read_table(path).drop_columns(["corpus", "partition", "energy"])
    wide = table.column("tokens").cast(arrow.large_list(arrow.int64()))
    parquet.write_table(table.set_column(6, "tokens", wide), path)
    shards = Shards(scan(tmp_path, Choice()), 5, seed=0)
    rows = [shards[place] for place in shards.take(24)]
    assert len({row.id for row in rows}) == 24
    assert {row.corpus for row in rows} == {row.partition for row in rows} == {""}


def test_only_tests_empty_and_damaged_files(tmp_path: Path) -> None:
    every = write(tmp_path / "tests", [utterance(n, partition=TEST) for n in range(6)])
    with pytest.raises(UserError, match="every utterance is in the partition 'test'"):
        scan(every, Choice())
    (tmp_path / "empty").mkdir()
    write_shard(tmp_path / "empty" / "0.parquet", [])
    with pytest.raises(UserError, match="holds no utterances"):
        scan(tmp_path / "empty", Choice())
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "0.parquet").write_bytes(b"PAR1 no parquet")
    with pytest.raises(UserError, match=r"0\.parquet is not a readable parquet file"):
        scan(tmp_path / "broken", Choice())


def test_a_file_that_changes_meanwhile_is_named(tmp_path: Path) -> None:
    write(tmp_path, [utterance(n) for n in range(24)])
    shards = Shards(scan(tmp_path, Choice()), 5, seed=0)
    write(tmp_path, [utterance(n) for n in range(20)])
    with pytest.raises(UserError, match=r"\.parquet (has been|is not what it was)"):
        ids(shards, 24)


def damaged(column: str, values: object) -> arrow.Table:
    """Eight good rows, of which one column is another."""
    names = SCHEMA.names
    rows = [utterance(number, speaker="anna", energy=-20.0) for number in range(8)]
    columns = {name: [getattr(row, name) for row in rows] for name in names}
    columns["tokens"] = [row.tokens.astype(np.int16) for row in rows]
    table = arrow.table({name: columns[name] for name in names}, schema=SCHEMA)
    return table.set_column(names.index(column), column, values)


NO_TEXT = arrow.Array.from_buffers(
    arrow.string(), 8, arrow.array([b"ok"] * 7 + [b"\xff\xfe"], arrow.binary()).buffers()
)


@pytest.mark.parametrize(
    ("column", "values", "told"),
    [
        ("energy", arrow.array([1.0] * 7 + [float("nan")], arrow.float32()), "has the energy nan"),
        ("intensity", arrow.array([float("nan")] * 8, arrow.float32()), "has the intensity nan"),
        *((name, NO_TEXT, "not a readable parquet file") for name in ("id", "speaker", "text")),
        *((name, NO_TEXT, "not a readable parquet file") for name in ("emotion", "partition")),
    ],
)
def test_what_a_step_would_end_at_is_found_by_the_scan(
    column: str, values: arrow.Array, told: str, tmp_path: Path
) -> None:
    """A run that meets such a row hours later could not go on after it either."""
    parquet.write_table(damaged(column, values), tmp_path / "0.parquet")
    with pytest.raises(UserError, match=told):
        scan(tmp_path, Choice())


def test_a_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    table = damaged("energy", arrow.array([1.0] * 8, arrow.float32()))
    parquet.write_table(table.append_column("text", table["text"]), tmp_path / "0.parquet")
    with pytest.raises(UserError, match="has the column text twice"):
        scan(tmp_path, Choice())


def test_every_speaker_is_among_the_first_rows(tmp_path: Path) -> None:
    """So that a reward that knows voices refuses an unknown one before the first step."""
    rows = [utterance(number, speaker=f"s{number // 10}") for number in range(30)]
    found = scan(write(tmp_path / "rows", rows), Choice())
    assert {row.speaker for row in found.first} == {"s0", "s1", "s2"}
    assert {row.emotion for row in found.first} == {"happy", "sad"}


@pytest.mark.parametrize("others", [1, 2, 4])
def test_every_process_draws_pairs_for_prompts_of_its_own(
    others: int, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream deals its rows out by itself; dealt out again, some came twice and some never."""
    found: list[str] = []
    for rank in range(others):
        among(rank, others, monkeypatch)
        monkeypatch.setattr(pairs, "process", lambda rank=rank: rank)
        monkeypatch.setattr(pairs, "processes", lambda: others)
        rows = Streamed(Shards(scan(corpus, Choice()), 12, 0), lambda row: row.id)
        places, asked = pairs.own_prompts(rows, len(rows), torch.Generator())
        assert len(places) == len(asked)
        found += asked
    assert len(found) == len(set(found)) == 54
