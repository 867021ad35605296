"""What is known of published corpora: `corpora.yaml`, checked."""

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from rrpo import config
from rrpo.config import Strict
from rrpo.emotions import EMOTIONS

FILE = Path(__file__).with_name("corpora.yaml")
CLASSES = (*EMOTIONS, "disgust", "contempt")
"""Names of emotions that a label of a corpus is turned into."""


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
    turns in the order of their names (see `corpora.in_order`).
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
