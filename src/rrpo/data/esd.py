"""ESD, whose label files come in several encodings and forms."""

import re
from collections.abc import Iterable
from pathlib import Path

from rrpo.data.catalogue import Corpus
from rrpo.data.files import by_name, sounds_below
from rrpo.data.findings import Findings, read_lines
from rrpo.data.manifest import Recording
from rrpo.errors import UserError

CHINESE = {"Neutral": "中立", "Angry": "生气", "Happy": "快乐", "Sad": "伤心", "Surprise": "惊喜"}
"""Folder of an emotion → its label in the files of Chinese speakers."""
LINE = re.compile(
    r"(?P<name>\d{4}_\d{6})\s+(?P<text>.+?)\s*"
    rf"(?P<label>\s(?:{'|'.join((*CHINESE, *CHINESE.values()))}))?$"
)


def read_esd(root: Path, corpus: Corpus, found: Findings) -> list[Recording]:
    """Zhou et al., 2022; an older release keeps three subsets below each emotion.

    The label files come in several encodings, and a few lines lack a tabulator.
    """
    recordings = []
    for speaker in sorted(root.glob("00[0-2][0-9]")):
        chinese = speaker.name <= "0010"
        texts = _texts(speaker, chinese, found)
        sounds = by_name(sounds_below(speaker))
        for audio in sounds.values():
            emotion = audio.relative_to(speaker).parts[0]
            text, label = texts.get(audio.stem, ("", emotion))
            if label and label not in (emotion, CHINESE.get(emotion)):
                raise UserError(
                    f"{audio} lies in {emotion} and is labelled {label} in {speaker.name}.txt: "
                    "correct one of them"
                )
            # In some lines nothing stands between the text and its label.
            glued = "" if label else CHINESE.get(emotion, "")
            recordings.append(
                Recording(
                    audio,
                    emotion=emotion,
                    text=text.removesuffix(glued),
                    speaker=speaker.name,
                    language=corpus.languages[0 if chinese else 1],
                )
            )
        for name in texts:
            if name not in sounds:
                found.lack(name)
    return recordings


def _texts(speaker: Path, chinese: bool, found: Findings) -> dict[str, tuple[str, str]]:
    """Return recording → text of a label file, and the label that stood apart from it."""
    labels = speaker / f"{speaker.name}.txt"
    filled = [
        line for line in read_lines(labels, found, "gb18030" if chinese else "") if line.strip()
    ]
    matches = [match for line in filled if (match := LINE.match(line.strip()))]
    if lost := len(filled) - len(matches):
        found.notes.append(f"{labels}: {lost} lines are not of the form NAME TEXT LABEL, so unread")
    pairs = ((one["name"], (one["text"], (one["label"] or "").strip())) for one in matches)
    return _table(pairs, labels)


def _table(pairs: Iterable[tuple[str, tuple[str, str]]], file: Path) -> dict[str, tuple[str, str]]:
    table: dict[str, tuple[str, str]] = {}
    for name, value in pairs:
        if table.setdefault(name, value) != value:
            raise UserError(f"{file}: {name} stands twice, with different texts")
    return table
