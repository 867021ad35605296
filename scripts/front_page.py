"""What a demo sounds like: a picture of spectrograms and a small page of players for the README.

    python scripts/front_page.py demo --out docs

Of one sentence, the first unless told otherwise, every emotion as each system says it: nothing is
chosen by ear. Writes `spectrograms.png` and `listen.html`.
"""

import argparse
import html
from pathlib import Path

import numpy as np
from matplotlib import pyplot

from rrpo.audio import SAMPLE_RATE
from rrpo.checkpoint import atomic_path, read_json, write_text
from rrpo.emotions import EMOTIONS
from rrpo.report.sound import HOP, RANGE_DB, flac_uri, mel_spectrogram
from rrpo.sound.file import read

TITLES = {"base": "base", "sft": "SFT", "rrpo": "RRPO"}
"""Systems that are shown, as the README calls them, in its order."""
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse } th, td { padding: .3rem .6rem; text-align: left }
audio { width: 11rem } tr + tr { border-top: 1px solid #ccc }
@media (prefers-color-scheme: dark) { body { background: #111; color: #ddd } }
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path, help="folder of `rrpo demo` or of one seed of a study")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--sentence", type=int, default=0, help="0: the first")
    asked = parser.parse_args()
    rows = {name: read_json(asked.demo / "samples" / name / "rows.json") for name in TITLES}
    texts = list(dict.fromkeys(row["text"] for row in rows["base"]))
    text = texts[asked.sentence]
    sounds = {
        (name, row["emotion"]): read(asked.demo / row["wav"])
        for name, found in rows.items()
        for row in found
        if row["text"] == text
    }
    draw(sounds, asked.out / "spectrograms.png", text)
    write_text(asked.out / "listen.html", page(sounds, text))
    print(f"{asked.out / 'spectrograms.png'} and {asked.out / 'listen.html'}: {text!r}")


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


def page(sounds: dict[tuple[str, str], np.ndarray], text: str) -> str:
    """Return a page of one table: a row for each emotion, a player for each system."""
    heads = "".join(f"<th scope=col>{title}</th>" for title in TITLES.values())
    lines = [
        f"<tr><th scope=row>{emotion}</th>"
        + "".join(
            f'<td><audio controls preload=none aria-label="{title}, {emotion}" '
            f'src="{flac_uri(sounds[name, emotion])}"></audio></td>'
            for name, title in TITLES.items()
        )
        + "</tr>"
        for emotion in EMOTIONS
    ]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width">'
        f"<title>rrpo: what it sounds like</title><style>{STYLE}</style>"
        f"<h1>What it sounds like</h1><p>“{html.escape(text)}”, the first test sentence, as each "
        "system of the demo says it. The miniature world's voices and emotions are synthetic.</p>"
        f"<table><tr><td></td>{heads}</tr>{''.join(lines)}</table></html>\n"
    )


if __name__ == "__main__":
    main()
