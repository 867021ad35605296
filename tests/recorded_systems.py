"""Small folders of recordings, a table in each, and listening tests that are built of them."""

import csv
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from rrpo import audio
from rrpo.listen.build import Plan, build
from rrpo.listen.design import Design

EMOTIONS = ("happy", "sad")
KEEP = TemporaryDirectory()
KEPT = Path(KEEP.name)
BUILT: dict[str, tuple[Path, Design]] = {}
"""What was asked for → where it was built, and its design."""


def noise(seconds: float = 0.5, level: float = 0.1, seed: int = 0) -> audio.Audio:
    """Noise that swells and fades, which has a loudness."""
    count = round(seconds * audio.SAMPLE_RATE)
    swell = np.sin(np.linspace(0, np.pi, count))
    return (level * swell * np.random.default_rng(seed).normal(size=count)).astype(np.float32)


def recordings(
    folder: Path, texts: int = 5, seed: int = 0, emotions: tuple[str, ...] = EMOTIONS
) -> Path:
    """Write a folder of recordings, each text in each emotion."""
    folder.mkdir(parents=True)
    rows = []
    for text in range(texts):
        for number, emotion in enumerate(emotions):
            name = f"{text}-{emotion}.wav"
            level = 0.02 + 0.1 * ((text + number + seed) % 3)
            audio.write(folder / name, noise(0.5 + 0.1 * text, level, 100 * seed + text))
            rows.append([name, f"Sentence {text}.", emotion])
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["file", "text", "emotion"], *rows])
    return folder


def built(
    tmp_path: Path, systems: int = 2, reference: bool = True, anew: bool = False, **plan: Any
) -> Design:
    """Build a test of recordings in `tmp_path / "test"`; four texts, one is left for examples.

    Another one that is asked for alike is a copy, ids and all, unless it is built anew.
    """
    asked = repr((systems, reference, sorted(plan.items())))
    if anew or asked not in BUILT:
        made = KEPT / f"{len(list(KEPT.iterdir()))}"
        folders = [
            str(recordings(made / name, seed=number))
            for number, name in enumerate(["alpha", "beta", "gamma", "delta"][:systems])
        ]
        given = recordings(made / "best", seed=9) if reference else None
        chosen = {"texts": 4, "listeners": 8, "repeats": 2, **plan}
        design, _ = build(folders, made / "test", Plan(**chosen), given)
        BUILT[asked] = (made, design)
    made, design = BUILT[asked]
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return design.model_copy(deep=True)
