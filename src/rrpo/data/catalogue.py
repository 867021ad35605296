"""What is known of published corpora: `corpora.yaml`, checked."""

import difflib
import re
import unicodedata
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from rrpo import config
from rrpo.config import Strict
from rrpo.emotions import EMOTIONS
from rrpo.errors import UserError

FILE = Path(__file__).with_name("corpora.yaml")
CLASSES = (*EMOTIONS, "disgust", "contempt")
"""Names of emotions that a label of a corpus is turned into."""
OTHER = "other"
"""What a label is mapped to that is to be left out."""


class Speakers(Strict):
    """Names of the speakers by their gender; of `others` it stands in the corpus' own tables."""

    female: tuple[str, ...] = ()
    male: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.female, *self.male, *self.others)


class Partitions(Strict):
    """Who is held out; whoever is in neither list is in train.

    `by` says what the lists name: speakers, or sessions. `order` needs no lists: speakers take
    turns in the order of their names (see `rrpo.data.partitions.in_order`).
    """

    by: Literal["speaker", "session", "order"] = "speaker"
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()


class Corpus(Strict):
    """One corpus as it was published.

    `signs` are patterns of paths: a folder that holds one of them holds the corpus. The keys of
    `emotions`, `left_out`, `intensities` and `texts` are the codes of the corpus. `utterances` and
    `speakers_published` are counts, None where there is no one answer. `voice_channel` is the
    number, from 0, of the channel with the voice, where another may hold something else.
    """

    title: str
    languages: tuple[str, ...]
    licence: str
    citation: str
    layout: str
    signs: tuple[str, ...] = ()
    utterances: int | None = None
    speakers_published: int | None = None
    voice_channel: int | None = None
    emotions: dict[str, str]
    left_out: dict[str, str] = Field(default_factory=dict)
    intensities: dict[str, float] = Field(default_factory=dict)
    texts: dict[str, str] = Field(default_factory=dict)
    speakers: Speakers = Speakers()
    partitions: Partitions = Partitions()

    @model_validator(mode="after")
    def _consistent(self) -> "Corpus":
        unknown = sorted(set(self.emotions.values()) - set(CLASSES))
        if unknown:
            raise ValueError(f"{self.title}: {unknown[0]} is no emotion of ours")
        held_out = [*self.partitions.validation, *self.partitions.test]
        if len(set(held_out)) < len(held_out):
            raise ValueError(f"{self.title}: somebody is in validation and in test")
        named = set(self.speakers.names)
        if named and self.partitions.by == "speaker" and not named.issuperset(held_out):
            raise ValueError(f"{self.title}: somebody held out is not among the speakers")
        return self

    def gender(self, speaker: str) -> str:
        """Return female, male, or nothing where it is not known."""
        if speaker in self.speakers.female:
            return "female"
        return "male" if speaker in self.speakers.male else ""


class Catalogue(Strict):
    """All corpora by the names of the command line."""

    corpora: dict[str, Corpus]


@cache
def known_corpora() -> dict[str, Corpus]:
    """Return every corpus of `corpora.yaml`."""
    return config.load(Catalogue, FILE).corpora


def folded(name: str) -> str:
    """Return a name without capitals, full-width letters, invisible signs and blanks around it.

    Examples:
        >>> folded(" ＡＮＮＡ "), folded("Straße"), folded("sa\\u200bd")
        ('anna', 'strasse', 'sad')
    """
    plain = unicodedata.normalize("NFKC", name).casefold()
    return "".join(sign for sign in plain if unicodedata.category(sign) != "Cf").strip()


@cache
def emotion_name(label: str) -> str:
    """Return one spelling for a label wherever it comes from: Happy, HAPPY and joy are happy.

    A label that is none of a table's (`csv` of `corpora.yaml`) is only folded.

    Examples:
        >>> emotion_name("ANGER"), emotion_name("Calm"), emotion_name("高兴")
        ('angry', 'calm', '高兴')
    """
    name = folded(label)
    return known_corpora()["csv"].emotions.get(name, name)


def named_emotion(label: str, where: str) -> str:
    """Return `emotion_name` of a label that must be there.

    Raises:
        UserError: it says nothing, is the number of a class, whose name only its maker knows, or is
            nearly the name of one of ours; `where` begins the message.
    """
    name = emotion_name(label)
    if not name:
        raise UserError(f"{where} has no emotion: name it, or leave it out")
    if name.lstrip("-").replace(".", "", 1).isdigit():
        raise UserError(
            f"{where} has the number {label} for its emotion: write the emotion's name instead"
        )
    # Tokenizers of studies hear what is "other".
    if name != OTHER and name in known_corpora()["csv"].left_out:
        raise UserError(f"{where}: the emotion {label!r} is none: leave it out")
    odd = next((sign for sign in name if not _is_of_a_name(sign)), "")
    if odd:
        raise UserError(
            f"{where}: the emotion {label!r} holds {odd!r}, as programs write labels: write one "
            "emotion by its name alone"
        )
    scripts = {unicodedata.name(sign, "").partition(" ")[0] for sign in name if sign.isalpha()}
    if "LATIN" in scripts and scripts & {"CYRILLIC", "GREEK"}:
        raise UserError(
            f"{where}: the emotion {label!r} has letters of two alphabets that look alike "
            f"({name.encode('ascii', 'backslashreplace').decode()}): write it in one"
        )
    require_no_slip(where, name)
    return name


def _is_of_a_name(sign: str) -> bool:
    """Say whether a sign is a letter, a digit, a vowel sign or a mark between words."""
    return sign.isalnum() or sign in " _-'." or unicodedata.category(sign).startswith("M")


def require_no_slip(option: str, emotion: str) -> None:
    """Refuse the name of an emotion that is nearly one of ours: it would be a class of its own.

    Raises:
        UserError: it is; the message says which is meant.
    """
    if meant := _meant(emotion):
        raise UserError(f"{option}: there is no emotion {emotion!r}: did you mean {meant}?")


def labels_asked(labels: Mapping[str, str]) -> dict[str, str]:
    """Return what a user says that labels mean, by the folded label.

    Examples:
        >>> labels_asked({"JOY2": "Happy", "noisy": "other"})
        {'joy2': 'happy', 'noisy': 'other'}

    Raises:
        UserError: an emotion is nearly one of ours.
    """
    asked = {folded(_unescaped(label)): emotion_name(emotion) for label, emotion in labels.items()}
    for label, emotion in asked.items():
        require_no_slip(f"--label {label}={emotion}", emotion)
    return asked


def require_used(asked: Collection[str], there: Collection[str]) -> None:
    """Check that each label that a user explains is one of the data's.

    Raises:
        UserError: one is not; the message names those that are.
    """
    if unused := sorted(set(asked) - {folded(label) for label in there}):
        others = ", ".join(sorted(there))
        raise UserError(f"--label {unused[0]}: no recording has that label; there are {others}")


def _unescaped(label: str) -> str:
    """Return a label as it is, where it was copied from a console that shows numbers for signs."""
    numbers = r"\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8}"
    return re.sub(numbers, lambda found: chr(int(found[0][2:], 16)), label)


@cache
def _meant(emotion: str) -> str:
    """Return the class whose name another one nearly is; of thousands of labels few differ."""
    if emotion in CLASSES:
        return ""
    return next(iter(difflib.get_close_matches(emotion, CLASSES, n=1, cutoff=0.86)), "")


def corpus_key(name: str) -> str:
    """Return the key of a known corpus by another spelling of its name, or the name itself.

    Examples:
        >>> corpus_key("RAVDESS"), corpus_key("CREMA-D"), corpus_key("Own set")
        ('ravdess', 'cremad', 'Own set')
    """
    plain = "".join(filter(str.isalnum, folded(name)))
    known = known_corpora()
    match = next((key for key in known if "".join(filter(str.isalnum, key)) == plain), name)
    return match if match not in ("csv", "cosyvoice") else name
