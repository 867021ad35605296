"""Published corpora in the layouts they come in: one function each, from a folder to recordings.

A function takes the folder that holds the corpus (see `roots.find_roots`), what is known of it, and
what notes the things that are not as they should be, such as a recording that a table names and
that is not there. It returns recordings whose `emotion` is still the corpus' own label. Of the
manifest's other fields it sets those that only the files tell.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from rrpo.data.catalogue import Corpus
from rrpo.data.esd import read_esd
from rrpo.data.files import by_name, files_below, is_file, sounds_below, sounds_in, visible
from rrpo.data.findings import Findings, first, read_lines
from rrpo.data.manifest import Recording
from rrpo.data.text_table import read_table
from rrpo.errors import UserError

FILMS = (".avi", ".mp4", ".mkv", ".mov", ".webm")
"""Suffixes that a table may name and that are no part of the sound's name."""
IEMOCAP_LABEL = re.compile(r"\[[\d.]+\s*-\s*[\d.]+\]\s+(?P<name>Ses\w+)\s+(?P<label>\w+)")
NOTED = re.compile(r"\[[A-Z]{3,}\]")
IEMOCAP_TEXT = re.compile(r"(?P<name>Ses\w+)\s+\[[^\]]*\]:\s*(?P<text>.*\S)")


def read_iemocap(root: Path, _corpus: Corpus, found: Findings) -> list[Recording]:
    """Busso et al., 2008. The speaker of Ses01F_impro01_M003 is the man of the first session."""
    recordings: dict[str, Recording | None] = {}
    for session in sorted(root.glob("Session[1-5]")):
        texts: dict[str, str] = {}
        for file in _texts(session / "dialog" / "transcriptions"):
            read = (IEMOCAP_TEXT.match(line.strip()) for line in read_lines(file, found))
            # Transcribers note what is no speech, as [BREATHING] or [LAUGHTER].
            said = {match["name"]: NOTED.sub(" ", match["text"]) for match in read if match}
            texts.update((name, " ".join(text.split())) for name, text in said.items())
        sounds = by_name(sounds_below(session / "sentences" / "wav"))
        for file in _texts(session / "dialog" / "EmoEvaluation"):
            for match in filter(None, map(IEMOCAP_LABEL.search, read_lines(file, found))):
                name = match["name"]
                if name in recordings:
                    raise UserError(f"{file}: {name} stands twice")
                recordings[name] = None
                if name not in sounds:
                    found.lack(name)
                    continue
                recordings[name] = Recording(
                    sounds[name],
                    emotion=match["label"],
                    text=texts.get(name, ""),
                    speaker=name[:5] + name.rpartition("_")[2][:1],
                    session=session.name,
                )
    return [one for one in recordings.values() if one is not None]


def read_mer2023(root: Path, _corpus: Corpus, found: Findings) -> list[Recording]:
    """Lian et al., 2023: tables of labels and videos; neither speakers nor texts are released.

    Their sound must have been taken out of the videos: train/NAME.avi to NAME.wav, in any folder.
    """
    found.cure = (
        "take their sound out of the videos, as with ffmpeg -i NAME.avi -ac 1 -ar 16000 NAME.wav"
    )
    sounds = by_name(sounds_below(root))
    stands: dict[str, str] = {}
    recordings = []
    for table in sorted(files_below(root)):
        subset = table.name.removesuffix("-label.csv")
        if subset == table.name or not re.fullmatch(r"train|test[1-3]", subset):
            continue
        read = read_table(table, ("name", "discrete"))
        found.notes += read.notes
        for row in read.rows:
            name, where = row.cells["name"], f"{table}, line {row.number}"
            name = Path(name).stem if name.lower().endswith(FILMS) else name
            if other := stands.get(name):
                raise UserError(f"{where}: {name} stands twice, also in {other}: keep one of them")
            stands[name] = where
            if name in sounds:
                recordings.append(Recording(sounds[name], row.cells["discrete"], session=subset))
            else:
                found.lack(name)
    return recordings


def read_ravdess(root: Path, corpus: Corpus, found: Findings) -> list[Recording]:
    """Livingstone & Russo, 2018: seven numbers name modality, channel, emotion, intensity, ….

    The sound of a film (modality 01) is that of the sound file (03) again, and a film of modality
    02 has none.
    """
    read = {}
    folders = sorted(root.glob("Actor_[0-2][0-9]"))
    sounds = [audio for folder in folders for audio in sounds_in(folder)]
    for audio, parts in _named(sounds, "-".join([r"(\d\d)"] * 7), corpus, found):
        read[parts[0], audio] = parts
    heard = {parts[1:] for parts in read.values() if parts[0] == "03"}
    films = [audio for (kind, audio), parts in read.items() if kind == "01" and parts[1:] in heard]
    mute = [audio for kind, audio in read if kind == "02"]
    for left, what, why in (
        (
            films,
            "sounds of films (modality 01), as their sound files (03) are there",
            "it is the sound of a film (modality 01), and the sound file (03) is there",
        ),
        (
            mute,
            "of films without sound (modality 02)",
            "it is of a film without sound (modality 02)",
        ),
    ):
        if left:
            found.notes.append(f"left out: {len(left)} {what}, the first {left[0].name}")
        for audio in left:
            found.leave(audio, why)
    recordings = []
    for (_, audio), parts in read.items():
        if audio in {*films, *mute}:
            continue
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


def read_emodb(root: Path, corpus: Corpus, found: Findings) -> list[Recording]:
    """Burkhardt et al., 2005: speaker, code of the text, emotion, version."""
    recordings = []
    sounds = sounds_in(root / "wav" if (root / "wav").is_dir() else root)
    names = _named(sounds, r"(\d\d)([ab]\d\d)([A-Z])\w*", corpus, found)
    for audio, (speaker, text, emotion) in names:
        recordings.append(
            Recording(audio, emotion, text=corpus.texts.get(text, ""), speaker=speaker)
        )
    return recordings


def read_nemo(root: Path, _corpus: Corpus, found: Findings) -> list[Recording]:
    """Christop, 2024: data.tsv names every file of samples."""
    file = root / "data.tsv"
    if not is_file(file):
        raise UserError(f"{root / 'samples'} is there, but there is no {file}: copy it again")
    table = read_table(
        file, ("file_id", "emotion"), ("raw_text", "speaker_id"), separator="\t", quotes=False
    )
    found.notes += table.notes
    sounds = by_name(sounds_in(root / "samples"))
    stands: dict[str, int] = {}
    recordings = []
    for row in table.rows:
        name = row.cells["file_id"].removesuffix(".wav")
        if (other := stands.setdefault(name, row.number)) != row.number:
            raise UserError(f"{file}, line {row.number}: {name} stands twice, in line {other} too")
        if name not in sounds:
            found.lack(name)
            continue
        recordings.append(
            Recording(
                sounds[name],
                emotion=row.cells["emotion"],
                text=row.cells.get("raw_text", ""),
                speaker=row.cells.get("speaker_id") or name.partition("_")[0],
            )
        )
    return recordings


def read_cremad(root: Path, corpus: Corpus, found: Findings) -> list[Recording]:
    """Cao et al., 2014: actor, code of the sentence, emotion, level."""
    folder = root / "AudioWAV" if (root / "AudioWAV").is_dir() else root
    genders: dict[str, str] = {}
    for near in (root, root.parent):
        table = near / "VideoDemographics.csv"
        if is_file(table) and not genders:
            read = read_table(table, ("ActorID", "Sex"))
            found.notes += read.notes
            genders = {row.cells["ActorID"]: row.cells["Sex"].lower() for row in read.rows}
    recordings = []
    names = _named(sounds_in(folder), r"(\d{4})_([A-Z]{3})_([A-Z]{3})_([A-Z]+)", corpus, found)
    for audio, (speaker, text, emotion, level) in names:
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


def read_casia(root: Path, corpus: Corpus, _found: Findings) -> list[Recording]:
    """Four speakers, a folder each, and in it one for each emotion."""
    speakers = {*corpus.speakers.female, *corpus.speakers.male}
    return [
        Recording(audio, emotion.name, speaker=folder.name.lower())
        for folder in visible(root)
        if folder.name.lower() in speakers
        for emotion in visible(folder)
        for audio in sounds_in(emotion)
    ]


def read_emotiontts_ko(root: Path, corpus: Corpus, found: Findings) -> list[Recording]:
    """The emotional part; the number of a sentence tells its emotion.

    The script is what was given to be read; where it is missing, the transcript spells it out.
    """
    recordings = []
    sounds = [audio for audio in sounds_below(root) if audio.parent.name == "wav"]
    for audio, (speaker, number) in _named(sounds, r"([a-z]{3})(\d{5})", corpus, found):
        folder = audio.parent.parent
        scripts = [folder / kind / f"{audio.stem}.txt" for kind in ("script", "transcript")]
        text = next((read_lines(file, found, "cp949") for file in scripts if is_file(file)), [])
        recordings.append(
            Recording(
                audio,
                emotion=str((int(number) - 1) // 100),
                text=" ".join(" ".join(text).split()),
                speaker=speaker,
            )
        )
    return recordings


READERS: dict[str, Callable[[Path, Corpus, Findings], list[Recording]]] = {
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


def _texts(folder: Path) -> list[Path]:
    return [file for file in visible(folder) if file.suffix == ".txt"]


def _named(
    sounds: Iterable[Path], pattern: str, corpus: Corpus, found: Findings
) -> Iterator[tuple[Path, Sequence[str]]]:
    """Take the names of files apart; those of another form are left out, and said."""
    strange = []
    for audio in sounds:
        if match := re.fullmatch(pattern, audio.stem):
            yield audio, match.groups()
        else:
            strange.append(audio)
            found.leave(audio, f"it is not named as in {corpus.title} ({corpus.layout})")
    if strange:
        found.notes.append(
            f"left out: {len(strange)} not named as in {corpus.title} "
            f"({first([audio.name for audio in strange])}): rename them if they belong to it"
        )
