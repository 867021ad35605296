"""Published corpora in the layouts they come in: one function each, from a folder to recordings.

A function takes the folder that holds the corpus (see `find_roots`) and what is known of it, and
returns recordings whose `emotion` is still the corpus' own label. Of the manifest's other fields it
sets those that only the files tell.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path

from rrpo.data.catalogue import Corpus, known_corpora
from rrpo.data.manifest import Recording, read_rows
from rrpo.errors import UserError

DEPTH = 4
"""Levels of folders that are searched for a corpus, the named one included."""
SHOWN = 4
"""Names of files, or of speakers, that a message shows."""
ESD_LINE = re.compile(
    r"(?P<name>\d{4}_\d{6})\s+(?P<text>.+?)\s*"
    r"(?:\s(?:Neutral|Angry|Happy|Sad|Surprise|中立|生气|快乐|伤心|惊喜))?$"
)
IEMOCAP_LABEL = re.compile(r"\[[\d.]+\s*-\s*[\d.]+\]\s+(?P<name>Ses\w+)\s+(?P<label>\w+)")
IEMOCAP_TEXT = re.compile(r"(?P<name>Ses\w+)\s+\[[^\]]*\]:\s*(?P<text>.*\S)")


def find_roots(path: Path, name: str) -> list[Path]:
    """Return the folders that hold a corpus: `path`, or those of the first level below that do.

    Raises:
        UserError: there is none; the message says what was expected, what is there, and which
            other corpus that looks like.
    """
    corpus = known_corpora()[name]
    if not path.exists():
        raise UserError(f"nothing at {path}: name the folder of {corpus.title}")
    if not path.is_dir():
        raise UserError(f"{path} is a file: name the folder of {corpus.title}, or import it as csv")
    level = [path]
    for _ in range(DEPTH):
        if roots := [folder for folder in level if _holds(folder, corpus)]:
            return roots
        level = [inner for folder in level for inner in _visible(folder) if inner.is_dir()]
    there = [entry.name for entry in islice(_visible(path), SHOWN + 1)]
    found = ", ".join(there[:SHOWN]) + (" …" if len(there) > SHOWN else "")
    near = [path, *(inner for inner in _visible(path) if inner.is_dir())]
    others = [
        other
        for other, known in known_corpora().items()
        if other != name and any(_holds(folder, known) for folder in near)
    ]
    hint = f": that looks like {others[0]}" if others else ""
    raise UserError(
        f"{path} is not {corpus.title}: expected {corpus.layout}; found {found or 'nothing'}{hint}"
    )


def read_esd(root: Path, corpus: Corpus) -> list[Recording]:
    """Zhou et al., 2022; an older release keeps three subsets below each emotion.

    The label files come in several encodings, and a few lines lack a tabulator. What they list and
    is not there is told by `listed_esd`.
    """
    recordings = []
    for speaker in sorted(root.glob("00[0-2][0-9]")):
        texts = _esd_texts(speaker)
        for audio in _files(speaker, "**/*.wav"):
            recordings.append(
                Recording(
                    audio,
                    emotion=audio.relative_to(speaker).parts[0],
                    text=texts.get(audio.stem, ""),
                    speaker=speaker.name,
                    language=corpus.languages[0 if _chinese(speaker) else 1],
                )
            )
    return recordings


def listed_esd(root: Path) -> list[str]:
    """Return the names, without suffix, of all recordings that the label files list."""
    return [name for speaker in sorted(root.glob("00[0-2][0-9]")) for name in _esd_texts(speaker)]


def _esd_texts(speaker: Path) -> dict[str, str]:
    """Return recording → text of a speaker's label file; nothing where there is none."""
    labels = speaker / f"{speaker.name}.txt"
    lines = _text(labels, "gb18030" if _chinese(speaker) else "cp1252").splitlines()
    matches = [match for line in lines if (match := ESD_LINE.match(line.strip()))]
    return _table(((match["name"], match["text"]) for match in matches), labels)


def _chinese(speaker: Path) -> bool:
    return speaker.name <= "0010"


def read_iemocap(root: Path, corpus: Corpus) -> list[Recording]:  # noqa: ARG001
    """Busso et al., 2008. The speaker of Ses01F_impro01_M003 is the man of the first session."""
    recordings: dict[str, Recording] = {}
    for session in sorted(root.glob("Session[1-5]")):
        texts: dict[str, str] = {}
        for file in _files(session / "dialog" / "transcriptions", "*.txt"):
            lines = _text(file, "cp1252").splitlines()
            matches = [match for line in lines if (match := IEMOCAP_TEXT.match(line.strip()))]
            texts.update((match["name"], match["text"]) for match in matches)
        for file in _files(session / "dialog" / "EmoEvaluation", "*.txt"):
            for match in IEMOCAP_LABEL.finditer(_text(file, "cp1252")):
                name, dialog = match["name"], match["name"].rpartition("_")[0]
                if name in recordings:
                    raise UserError(f"{file}: {name} stands twice")
                audio = session / "sentences" / "wav" / dialog / f"{name}.wav"
                recordings[name] = Recording(
                    _there(audio, f"{file} names {name}"),
                    emotion=match["label"],
                    text=texts.get(name, ""),
                    speaker=name[:5] + name.rpartition("_")[2][:1],
                    session=session.name,
                )
    return list(recordings.values())


def read_mer2023(root: Path, corpus: Corpus) -> list[Recording]:  # noqa: ARG001
    """Lian et al., 2023: tables of labels and videos; neither speakers nor texts are released.

    Their sound must have been taken out of the videos: train/NAME.avi to NAME.wav, in any folder.
    """
    sounds: dict[str, Path] = {}
    for audio in _files(root, "**/*.wav"):
        if audio.stem in sounds:
            raise UserError(f"{audio.name} is there twice: {sounds[audio.stem]} and {audio}")
        sounds[audio.stem] = audio
    recordings: dict[str, Recording] = {}
    for table in sorted(root.rglob("*-label.csv")):
        subset = table.name.removesuffix("-label.csv")
        if not re.fullmatch(r"train|test[1-3]", subset):
            continue
        for _, row in read_rows(table, ("name", "discrete"))[1]:
            name = row["name"]
            if name in recordings:
                raise UserError(f"{table}: {name} stands twice, here or in another table")
            if name not in sounds:
                raise UserError(
                    f"{table} names {name}, but no {name}.wav is below {root}: take the sound out "
                    f"of the videos, as with ffmpeg -i {name}.avi -ac 1 -ar 16000 {name}.wav"
                )
            recordings[name] = Recording(sounds[name], row["discrete"], session=subset)
    return list(recordings.values())


def read_ravdess(root: Path, corpus: Corpus) -> list[Recording]:
    """Livingstone & Russo, 2018: seven numbers name modality, channel, emotion, intensity, …."""
    recordings = []
    for audio in _files(root, "Actor_[0-2][0-9]/*.wav"):
        parts = _named(audio, r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)", corpus)
        _, channel, emotion, intensity, statement, _, actor = parts
        recordings.append(
            Recording(
                audio,
                emotion="song" if channel == "02" else emotion,
                text=corpus.texts.get(statement, ""),
                speaker=f"actor{actor}",
                intensity=corpus.intensities.get(intensity),
            )
        )
    return recordings


def read_emodb(root: Path, corpus: Corpus) -> list[Recording]:
    """Burkhardt et al., 2005: speaker, code of the text, emotion, version."""
    recordings = []
    for audio in _files(root / "wav" if (root / "wav").is_dir() else root, "*.wav"):
        speaker, text, emotion = _named(audio, r"(\d\d)([ab]\d\d)([A-Z])\w*", corpus)
        recordings.append(
            Recording(audio, emotion, text=corpus.texts.get(text, ""), speaker=speaker)
        )
    return recordings


def read_nemo(root: Path, corpus: Corpus) -> list[Recording]:  # noqa: ARG001
    """Christop, 2024: data.tsv names every file of samples."""
    table = _there(root / "data.tsv", f"{root / 'samples'} is there")
    _, rows = read_rows(table, ("file_id", "emotion"), delimiter="\t", quotes=False)
    recordings: dict[str, Recording] = {}
    for number, row in rows:
        name = row["file_id"].removesuffix(".wav")
        if name in recordings:
            raise UserError(f"{table}, line {number}: {name} stands twice")
        recordings[name] = Recording(
            _there(root / "samples" / f"{name}.wav", f"{table}, line {number}"),
            emotion=row["emotion"],
            text=row.get("raw_text", ""),
            speaker=row.get("speaker_id") or name.partition("_")[0],
        )
    return list(recordings.values())


def read_cremad(root: Path, corpus: Corpus) -> list[Recording]:
    """Cao et al., 2014: actor, code of the sentence, emotion, level."""
    folder = root / "AudioWAV" if (root / "AudioWAV").is_dir() else root
    genders: dict[str, str] = {}
    for near in (root, root.parent):
        table = near / "VideoDemographics.csv"
        if table.is_file() and not genders:
            rows = read_rows(table, ("ActorID", "Sex"))[1]
            genders = {row["ActorID"]: row["Sex"].lower() for _, row in rows}
    recordings = []
    for audio in _files(folder, "*.wav"):
        speaker, text, emotion, level = _named(
            audio, r"(\d{4})_([A-Z]{3})_([A-Z]{3})_([A-Z]+)", corpus
        )
        recordings.append(
            Recording(
                audio,
                emotion,
                text=corpus.texts.get(text, ""),
                speaker=speaker,
                gender=genders.get(speaker, ""),
                intensity=corpus.intensities.get(level),
            )
        )
    return recordings


def read_casia(root: Path, corpus: Corpus) -> list[Recording]:
    """Four speakers, a folder each, and in it one for each emotion."""
    speakers = {*corpus.speakers.female, *corpus.speakers.male}
    return [
        Recording(audio, emotion.name, speaker=folder.name.lower())
        for folder in _visible(root)
        if folder.name.lower() in speakers
        for emotion in _visible(folder)
        for audio in _files(emotion, "*.wav")
    ]


def read_emotiontts_ko(root: Path, corpus: Corpus) -> list[Recording]:
    """The emotional part; the number of a sentence tells its emotion.

    The script is what was given to be read; where it is missing, the transcript spells it out.
    """
    recordings = []
    for audio in _files(root, "**/wav/*.wav"):
        speaker, number = _named(audio, r"([a-z]{3})(\d{5})", corpus)
        folder = audio.parent.parent
        scripts = [folder / kind / f"{audio.stem}.txt" for kind in ("script", "transcript")]
        text = next((_text(file, "cp949") for file in scripts if file.is_file()), "")
        recordings.append(
            Recording(
                audio,
                emotion=str((int(number) - 1) // 100),
                text=" ".join(text.split()),
                speaker=speaker,
            )
        )
    return recordings


READERS: dict[str, Callable[[Path, Corpus], list[Recording]]] = {
    "esd": read_esd,
    "iemocap": read_iemocap,
    "mer2023": read_mer2023,
    "ravdess": read_ravdess,
    "emodb": read_emodb,
    "nemo": read_nemo,
    "cremad": read_cremad,
    "casia": read_casia,
    "emotiontts_ko": read_emotiontts_ko,
}

LISTED: dict[str, Callable[[Path], list[str]]] = {"esd": listed_esd}
"""Corpora whose tables list recordings that a reader does not ask for."""


def _holds(folder: Path, corpus: Corpus) -> bool:
    return any(next(folder.glob(sign), None) is not None for sign in corpus.signs)


def _visible(folder: Path) -> Iterable[Path]:
    """Yield what a folder holds in the order of names, without what systems leave behind."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:  # no folder, or one that may not be read
        entries = []
    return (entry for entry in entries if not entry.name.startswith((".", "__MACOSX")))


def _files(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a pattern in their order, likewise."""
    found = (file for file in folder.glob(pattern) if not file.name.startswith("."))
    return sorted(file for file in found if "__MACOSX" not in file.parts)


def _there(file: Path, because: str) -> Path:
    if not file.is_file():
        raise UserError(f"{because}, but there is no {file}: the corpus is incomplete")
    return file


def _named(audio: Path, pattern: str, corpus: Corpus) -> Sequence[str]:
    """Take the name of a file apart."""
    match = re.fullmatch(pattern, audio.stem)
    if not match:
        raise UserError(f"{audio} is not named as in {corpus.title}: expected {corpus.layout}")
    return match.groups()


def _table(pairs: Iterable[tuple[str, str]], file: Path) -> dict[str, str]:
    table: dict[str, str] = {}
    for name, value in pairs:
        if table.setdefault(name, value) != value:
            raise UserError(f"{file}: {name} stands twice, with different texts")
    return table


def _text(file: Path, encoding: str) -> str:
    """Read a text in UTF-8 or UTF-16, or else in an encoding of its country."""
    if not file.is_file():
        return ""
    data = file.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:64]:
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode(encoding, errors="replace")
