"""Stream synthetic token shards for one epoch, and say how fast that is and in how much memory.

    python scripts/stream_rows.py write --out shards --rows 10000000
    python scripts/stream_rows.py read --data shards --out docs/studies/streaming.json

`write` makes files of 100,000 rows in row groups of 5,000: an utterance is five seconds, 125 random
tokens, with a text of nine words, one of the six emotions that the bundled policy knows and one of
20,000 speakers; each hundredth speaker is held out for tests. Ten million of them take 2.3 GB.
`read` scans them and reads an epoch as a training does, `--processes` of them side by side on one
machine, and checks that each row to be trained on came exactly once.
"""

import argparse
import json
import multiprocessing
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet

from rrpo.codec_identity import SPEECH_CODES, TOKEN_RATE
from rrpo.cores import machine
from rrpo.data import stream
from rrpo.data.scan import Choice, scan
from rrpo.data.stream import Shards
from rrpo.data.utterance import SCHEMA
from rrpo.emotions import EMOTIONS
from rrpo.mini.world import World

FILE, GROUP, SECONDS = 100_000, 5_000, 5
WORDS = np.array(["the", "train", "door", "road", "house", "late", "open", "cold", "never", "go"])
NAMES = np.array([*EMOTIONS])


def shard(first: int, count: int) -> arrow.Table:
    """Return rows `first` … `first + count - 1`, drawn by their number."""
    rng = np.random.default_rng(first)
    words = WORDS[rng.integers(len(WORDS), size=(count, 9))]
    ends = np.arange(count + 1, dtype=np.int32) * SECONDS * TOKEN_RATE
    tokens = rng.integers(SPEECH_CODES, size=ends[-1], dtype=np.int16)
    numbers = np.arange(first, first + count)
    columns = {
        "id": arrow.array(numbers.astype(str)),
        "text": arrow.array([" ".join(row) for row in words.tolist()]),
        "emotion": arrow.array(NAMES[rng.integers(len(NAMES), size=count)]),
        "speaker": arrow.array([f"s{one}" for one in numbers // 5 % 20_000]),
        "language": arrow.array(["en"] * count),
        "intensity": arrow.nulls(count, arrow.float32()),
        "tokens": arrow.ListArray.from_arrays(ends, tokens),
        "partner_emotion": arrow.nulls(count, arrow.string()),
        "partner_weight": arrow.array(np.zeros(count, dtype=np.float32)),
        "corpus": arrow.array(["synthetic"] * count),
        "partition": arrow.array(np.where(numbers // 5 % 100 == 0, "test", "train")),
        "energy": arrow.array(rng.normal(-25, 5, count).astype(np.float32)),
    }
    schema = SCHEMA.with_metadata({b"rrpo.codec": World().codec_identity})
    return arrow.table(columns, schema=schema)


def write(out: Path, rows: int) -> None:
    """Write the shards."""
    out.mkdir(parents=True)
    for first in range(0, rows, FILE):
        table = shard(first, min(FILE, rows - first))
        path = out / f"{first // FILE:05d}.parquet"
        parquet.write_table(table, path, compression="zstd", row_group_size=GROUP)


def peak() -> float:
    """Return the greatest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def read(data: Path, buffer: int, batch: int, rank: int, processes: int) -> dict[str, object]:
    """Scan the shards and read one epoch's share of one process."""
    # As if a launcher had started the others.
    stream.process, stream.processes = (lambda: rank), (lambda: processes)
    before, began, worked = peak(), time.perf_counter(), time.process_time()
    found = scan(data, Choice(held_out=0.1))
    scanned, scan_worked = time.perf_counter() - began, time.process_time() - worked
    began, worked = time.perf_counter(), time.process_time()
    shards, after_scan = Shards(found, buffer, seed=0), peak()
    own = len(range(rank, shards.rows, processes))
    seen = np.zeros(found.total, dtype=bool)
    longest, left = 0.0, own
    while left:
        taking = time.perf_counter()
        rows = [shards[place] for place in shards.take(min(batch, left))]
        longest = max(longest, time.perf_counter() - taking)
        numbers = np.array([int(row.id) for row in rows])
        assert not seen[numbers].any(), "a row came twice"
        seen[numbers] = True
        left -= len(rows)
    seconds, worked = time.perf_counter() - began, time.process_time() - worked
    np.save(data / f"seen-{rank}.npy", seen)
    return {
        "rows": own,
        "scan_rows_per_second": round(found.total / scanned),
        "scan_rows_per_cpu_second": round(found.total / scan_worked),
        "rows_per_second": round(own / seconds),
        "rows_per_cpu_second": round(own / worked),
        "longest_batch_seconds": round(longest, 2),
        "peak_mb_before": round(before),
        "peak_mb_after_scan": round(after_scan),
        "peak_mb": round(peak()),
    }


def epoch(data: Path, buffer: int, batch: int, processes: int) -> dict[str, object]:
    """Read an epoch in processes side by side, and check that each row came once in all."""
    jobs = [(data, buffer, batch, rank, processes) for rank in range(processes)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        found = pool.starmap(read, jobs)
    masks = [np.load(data / f"seen-{rank}.npy") for rank in range(processes)]
    times = np.sum(masks, axis=0)
    for rank in range(processes):
        (data / f"seen-{rank}.npy").unlink()
    assert times.max() == 1 and int(times.sum()) == sum(int(one["rows"]) for one in found)
    files = list(data.glob("*.parquet"))
    return {
        "command": "python scripts/stream_rows.py " + " ".join(sys.argv[1:]),
        "machine": f"{os.cpu_count()} cores, {machine()}",
        "load": [round(one, 1) for one in os.getloadavg()],
        "rows": int(times.size),
        "gigabytes": round(sum(file.stat().st_size for file in files) / 1e9, 2),
        "buffer": buffer,
        "batch": batch,
        "each_row_once": True,
        "not_trained_on": int((times == 0).sum()),
        "processes": found,
    }


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["write", "read"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--buffer", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    if given.what == "write":
        write(given.out, given.rows)
        return
    found = epoch(given.data, given.buffer, given.batch, given.processes)
    given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
