"""Where the sounds of a listening test come from: demos, folders of recordings, policies."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rrpo.audio import Audio
from rrpo.data.shards import Utterance
from rrpo.data.text_table import read_table
from rrpo.errors import UserError
from rrpo.listen.design import RESERVED
from rrpo.loading import MINI, Location, is_mini, load_data
from rrpo.mini.world import World
from rrpo.policy import SpeechTokenLM
from rrpo.report.files import read_lines
from rrpo.sound.file import load_speech
from rrpo.speaking.by_name import load_to_speak, naming, refuse_voice
from rrpo.speaking.cosyvoice import CosyVoiceSpeaker
from rrpo.speaking.mini import MiniSpeaker, unseen_utterances
from rrpo.speaking.speaker import Speaker, every_emotion

TABLE = "table.csv"
"""In a folder of recordings: the columns file and text, and emotion where there is one."""
SAMPLES = "samples.jsonl"
"""In the folder of a demo, or of what `rrpo evaluate` let a run say."""
REFERENCE = "reference"
"""The hidden reference, as a system; the demo's real tokens have this name."""
Item = tuple[str, str | None]
"""A text in an emotion: what is compared across systems."""


def item_name(item: Item) -> str:
    """Return an item as the design names it."""
    text, emotion = item
    return text if emotion is None else f"{text} [{emotion}]"


@dataclass(frozen=True)
class Rendition:
    """What one system made of an item: a file, or audio (N,) with its samples per second."""

    source: str
    path: Path | None = None
    said: tuple[Audio, int] | None = None

    def sound(self) -> tuple[Audio, int]:
        """Return audio (N,) and its samples per second.

        Raises:
            UserError: the file cannot be read, or nothing is heard.
        """
        if self.said is not None:
            return self.said
        assert self.path is not None
        found = load_speech(self.path, None)
        return found.samples, found.rate


Renditions = Mapping[Item, Rendition]


@dataclass(frozen=True)
class Gathered:
    """Systems by name, each with its renditions, and the hidden reference's, if there is one."""

    systems: dict[str, Renditions]
    reference: Renditions = field(default_factory=dict)
    bundled_voice: bool = False


@dataclass(frozen=True)
class Speaking:
    """How policies speak: how many texts, the seed, and what CosyVoice's need besides."""

    texts: int = 11
    seed: int = 0
    data: Location | None = None
    voice: Location | None = None
    model: Location | None = None


def gather(runs: Sequence[str], reference: Path | None, speaking: Speaking) -> Gathered:
    """Gather the renditions of all systems.

    Args:
        runs: demos, folders of recordings, or policies; NAME=FOLDER gives one another name, and
            the systems of a demo NAME-SYSTEM.
        reference: a folder of recordings; None: that of the demo or of the bundled world, if any.
        speaking: for policies.

    Raises:
        UserError: a folder is none of these, two systems have one name, or policies are mixed with
            recordings.
    """
    named = [_named(run) for run in runs]
    for _, place in named:
        _require_place(place)
    policies = [one for one in named if not _is_recorded(one[1])]
    if policies and len(policies) < len(named):
        raise UserError(
            f"{policies[0][1]} is a policy and others are recordings: let it speak first (rrpo "
            f"evaluate {policies[0][1]}) and name the folder {policies[0][1]}/samples"
        )
    found = _spoken(policies, speaking) if policies else _recorded(named)
    if reference is not None:
        given = _recordings(reference, "a reference")
        return Gathered(found.systems, given, found.bundled_voice)
    return found


def _named(run: str) -> tuple[str, str]:
    """Return the name of a system and where it is: NAME=FOLDER, or a folder by its own name."""
    name, equals, place = run.partition("=")
    if equals and name and not Path(run).exists():
        return name, place
    return (run if run == MINI else Path(run).resolve().name), run


def _require_place(place: str) -> None:
    folder, what = Path(place), f"name a demo, a run, a folder that holds {TABLE}, or mini"
    if place == MINI:
        return
    if not folder.exists():
        raise UserError(f"no run or folder at {place or 'an empty name'}: {what}")
    policy = any((folder / name).exists() for name in ("config.yaml", "model.json", "llm.pt"))
    if folder.is_dir() and not policy and not _is_recorded(place):
        raise UserError(f"{place} holds no {TABLE}, and is no demo or policy: {what}")


def _is_recorded(place: str) -> bool:
    folder = Path(place)
    return (folder / TABLE).is_file() or (folder / SAMPLES).is_file()


def _recorded(named: Iterable[tuple[str, str]]) -> Gathered:
    systems: dict[str, Renditions] = {}
    reference: Renditions = {}
    bundled = True
    for name, place in named:
        folder = Path(place)
        if (folder / TABLE).is_file():
            _add(systems, name, _recordings(folder, "a folder of recordings"))
            bundled = False
            continue
        several = _samples(folder)
        for system, renditions in several.items():
            if system == REFERENCE:
                reference = reference or renditions
            else:
                # `rrpo evaluate` names no system: the user or the folder does.
                usual = system or folder.resolve().parent.name
                whole = f"{name}-{system}" if system else name
                _add(systems, whole if name != folder.resolve().name else usual, renditions)
        bundled &= REFERENCE in several
    return Gathered(systems, reference, bundled)


def _add(systems: dict[str, Renditions], name: str, renditions: Renditions) -> None:
    if name in RESERVED:
        raise UserError(
            f"a system cannot be called {name}, as a part of the test is: give it another name, as "
            "NAME=FOLDER"
        )
    if name in systems:
        raise UserError(f"two systems are called {name}: give one another name, as NAME=FOLDER")
    systems[name] = renditions


def _recordings(folder: Path, what: str) -> Renditions:
    """Read a folder of recordings with a table."""
    file = folder / TABLE
    if not file.is_file():
        raise UserError(
            f"{folder} is not {what}: it holds no {TABLE} with the columns file, text and emotion"
        )
    found: dict[Item, Rendition] = {}
    for row in read_table(file, ("file", "text"), ("emotion",)).rows:
        item = (row.cells["text"], row.cells.get("emotion") or None)
        path = folder / row.cells["file"]
        if item in found:
            raise UserError(f"{file}, line {row.number}: the text stands twice: keep one of them")
        if not item[0].strip():
            raise UserError(f"{file}, line {row.number}: the text is empty: write what is said")
        if not path.is_file():
            raise UserError(f"{file}, line {row.number}: there is no file {path}: correct the name")
        found[item] = Rendition(str(path), path)
    return found


def _samples(folder: Path) -> dict[str, dict[Item, Rendition]]:
    """Read what a demo's systems said, or, under the name "", what a run said when evaluated."""
    found: dict[str, dict[Item, Rendition]] = {}
    for row in read_lines(folder / SAMPLES):
        wav, text, emotion = (row.get(key) for key in ("wav", "text", "emotion"))
        if not isinstance(wav, str) or not isinstance(text, str):
            raise UserError(f"{folder / SAMPLES}: a row has no wav or no text: make it again")
        path = folder / wav if "system" in row else folder / Path(wav).name
        item = (text, emotion if isinstance(emotion, str) else None)
        found.setdefault(str(row.get("system", "")), {})[item] = Rendition(str(path), path)
    if not found:
        raise UserError(f"{folder / SAMPLES} is empty: nothing was said yet")
    return found


def _spoken(named: Sequence[tuple[str, str]], speaking: Speaking) -> Gathered:
    """Let policies speak unseen texts, as `rrpo evaluate` does."""
    loaded = [(name, place, load_to_speak(place)) for name, place in named]
    if all(is_mini(model) for _, _, model in loaded):
        return _spoken_mini(loaded, speaking)
    rows = every_emotion(load_data(speaking.data, loaded[0][2], True), speaking.texts)
    systems: dict[str, Renditions] = {}
    for name, place, model in loaded:
        speaker = CosyVoiceSpeaker(place, model, speaking.voice, speaking.model)
        _add(systems, name, _renditions(place, speaker, rows, speaking.seed))
    return Gathered(systems)


def _spoken_mini(loaded: Sequence[tuple[str, str, SpeechTokenLM]], speaking: Speaking) -> Gathered:
    refuse_voice(speaking.voice, speaking.model)
    world = World()
    codec, base = world.codec(), world.policy()
    rows = unseen_utterances(world, speaking.texts)
    systems: dict[str, Renditions] = {}
    for name, place, model in loaded:
        speaker = MiniSpeaker(model, world, codec, base)
        _add(systems, name, _renditions(place, speaker, rows, speaking.seed))
    real = MiniSpeaker(None, world, codec)
    return Gathered(systems, _renditions("real tokens", real, rows, speaking.seed), True)


def _renditions(place: str, speaker: Speaker, rows: Sequence[Utterance], seed: int) -> Renditions:
    with naming(place):
        said = speaker.say(rows, seed)
    return {
        (row.text, row.emotion): Rendition(
            f"{place}, seed {seed}", said=(speaker.sound(one.tokens), speaker.rate)
        )
        for row, one in zip(rows, said, strict=True)
    }
