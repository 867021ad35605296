"""Speech with a sound and without it, to train detectors on in a moment."""

from pathlib import Path

import numpy as np

from rrpo.data.shards import Utterance, write_shard

QUICK = {"train.steps": 2, "train.warmup_steps": 0, "batch_size": 4}


def shards(folder: Path, codec: str) -> dict[str, Path]:
    """Write two shards, the second with token 6560 at every place; return them by option."""
    rng, made = np.random.default_rng(0), {}
    for name, token in (("data", None), ("having", 6560)):
        rows = [
            Utterance(
                f"{name}-{number}",
                f"Text {number}.",
                "happy",
                np.full(20, token) if token else rng.integers(0, 6560, 20),
            )
            for number in range(6)
        ]
        made[name] = folder / f"{name}.parquet"
        write_shard(made[name], rows, codec)
    return made
