"""What a demo sounds like: a picture of spectrograms and a small page of players for the README.

    python scripts/front_page.py demo --out docs

The picture is of one sentence, the first unless told otherwise, in every emotion by each system;
the page lets hear that one and the ones after it: nothing is chosen by ear. Below them are the
policies of the demo's second act, which hacked a reward model, and the cured one. Writes
`spectrograms.png` and `listen.html`.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib import pyplot

from rrpo.audio import SAMPLE_RATE
from rrpo.emotions import EMOTIONS
from rrpo.files import atomic_path
from rrpo.report.files import read_lines
from rrpo.report.hacked import hacked
from rrpo.report.listening import FRONT, listening
from rrpo.report.page import write_html
from rrpo.report.sound import HOP, RANGE_DB, mel_spectrogram
from rrpo.sound.file import read

TITLES = {"base": "base", "sft": "SFT", "rrpo": "RRPO"}
"""Systems in the picture, as the README calls them, in its order."""
SENTENCES = 4
"""Sentences on the page: with more of them it is too large for a repository."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path, help="folder of `rrpo demo` or of one seed of a study")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--sentence", type=int, default=0, help="0: the first")
    asked = parser.parse_args()
    rows = read_lines(asked.demo / "samples.jsonl")
    texts = list(dict.fromkeys(row["text"] for row in rows))[asked.sentence :][:SENTENCES]
    sounds = {
        (row["system"], row["emotion"]): read(asked.demo / row["wav"])
        for row in rows
        if row["system"] in TITLES and row["text"] == texts[0]
    }
    draw(sounds, asked.out / "spectrograms.png", texts[0])
    shown = [row for row in rows if row["system"] in FRONT and row["text"] in texts]
    written = write_html(
        asked.out / "listen.html",
        "listen.html",
        title="What it sounds like",
        heard=listening(asked.demo, shown),
        hacked=hacked(asked.demo),
    )
    print(f"{asked.out / 'spectrograms.png'} and {written}: {texts[0]!r}")


def draw(sounds: dict[tuple[str, str], np.ndarray], path: Path, text: str) -> None:
    """Draw a mel spectrogram for each system (rows) and emotion (columns), all in one scale."""
    levels = {key: mel_spectrogram(sound) for key, sound in sounds.items()}
    # Silence after the longest utterance is not drawn.
    loud = [np.flatnonzero(each.max(axis=0) > each.max() - 50.0)[-1] for each in levels.values()]
    seconds = (max(loud) + 15) * HOP / SAMPLE_RATE
    drawing, axes = pyplot.subplots(
        len(TITLES), len(EMOTIONS), figsize=(12, 1.25 * len(TITLES) + 0.5), sharex=True, sharey=True
    )
    for line, (name, title) in zip(axes, TITLES.items(), strict=True):
        for axis, emotion in zip(line, EMOTIONS, strict=True):
            level = levels[name, emotion]
            end = level.shape[1] * HOP / SAMPLE_RATE
            axis.imshow(
                level - level.max(),
                cmap="magma",
                vmin=-RANGE_DB,
                vmax=0,
                origin="lower",
                aspect="auto",
                extent=(0, end, 0, level.shape[0]),
            )
            axis.set(xlim=(0, seconds), xticks=[], yticks=[], facecolor="black")
            if axis in axes[0]:
                axis.set_title(emotion, fontsize=11)
        line[0].set_ylabel(title, fontsize=11)
    drawing.suptitle(f"“{text}”", fontsize=11, y=0.99)
    drawing.tight_layout(pad=0.3)
    with atomic_path(path) as temporary:
        drawing.savefig(temporary, dpi=80, format="png")


if __name__ == "__main__":
    main()
