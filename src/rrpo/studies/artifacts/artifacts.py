"""How well artifacts are heard: each detector on artifacts of known place and level.

Clean speech, real recordings of a manifest and the mini world's own, is brought to a peak of 0.7,
and each artifact of `insertions` is put into it at each level, one an utterance. What the detector
scores around it is compared with what it scores elsewhere in clean speech.
"""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rrpo.audio import SAMPLE_RATE, to_peak
from rrpo.checkpoint import write_json, write_text
from rrpo.data.manifest import Recording, read_manifest
from rrpo.data.survey import read_recording
from rrpo.errors import UserError
from rrpo.evaluate.artifacts import KINDS, THRESHOLDS, detect
from rrpo.mini.world import World
from rrpo.progress import Progress
from rrpo.sound.file import SilentError
from rrpo.studies.artifacts import page, quality, tokens
from rrpo.studies.artifacts.insertions import WAYS, Inserted, Way
from rrpo.studies.artifacts.peers import EVERY, Essentia, count
from rrpo.studies.artifacts.trials import (
    ALL_REAL,
    SYNTHETIC,
    Speech,
    Trials,
    drawn_by,
    every,
    figures,
    goal,
    groups_of,
    rate,
    selected,
    trials,
)


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        inserted: utterances of each corpus, and of synthetic speech, that artifacts are put into.
        clean: those that are searched as they are.
        windows: of clean speech that each artifact is compared with.
        resamples: of the bootstrap.
        ids: token ids that are listened to.
        contexts: stretches of tokens in which the codec's decoder is asked about each id.
        rated: utterances whose quality is followed.
    """

    inserted: int = 60
    clean: int = 200
    windows: int = 4
    resamples: int = 2000
    ids: int = 48
    contexts: int = 4
    rated: int = 60


FULL = Size()
SMOKE = Size(inserted=4, clean=4, windows=4, resamples=50, ids=4, contexts=1, rated=1)


def run(
    out: Path,
    manifests: Sequence[Path] = (),
    size: Size = FULL,
    seed: int = 0,
    peer: str = "",
    command: str = "rrpo study artifacts",
) -> Path:
    """Measure the detectors; write `study.json`, `study.md`, `figure.svg` and `report.html`.

    Args:
        out: folder to write.
        manifests: of clean real speech; without one only the mini world's speech is used.
        size: how much.
        seed: draws the utterances, the places and the shapes.
        peer: "essentia" to measure that beside ours, or "".

    Raises:
        UserError: a manifest cannot be read or leaves nothing to put artifacts into, or the peer is
            unknown or not installed.
    """
    if peer not in ("", "essentia"):
        raise UserError(f"no peer {peer!r} is known: essentia")
    other = Essentia() if peer else None
    # First what may be refused: speaking the mini world takes longer.
    corpora = [drawn_recordings(manifest, rows, size, seed) for manifest, rows in _read(manifests)]
    world = World()
    real = [one for corpus in corpora for one in corpus.speech]
    speech = [*_synthetic(world, size, seed), *real]
    chosen = _first_of_each(speech, size.inserted)
    ours, theirs = trials(chosen, size.windows, seed, other)
    study: dict[str, Any] = {
        "command": command,
        "machine": f"{platform.machine()} CPU, torch {torch.__version__}",
        "seed": seed,
        "inserted": size.inserted,
        "drawn_by": {name: drawn_by(part)[1] for name, part in groups_of(chosen).items()},
        "left_out": [corpus.left_out for corpus in corpora if corpus.left_out],
        "thresholds": THRESHOLDS,
        "ways": {name: {"kind": way.kind, "unit": way.unit} for name, way in WAYS.items()},
        "detectors": figures(ours, THRESHOLDS, size.resamples),
        "goal": goal(ours, size.resamples),
        "false_alarms": false_alarms(speech),
        "tokens": tokens.measure(world, size.ids, size.contexts, seed),
        "quality": quality.measure(chosen, size.rated, seed),
    }
    if other is not None:
        study["peer"] = _compared(other, chosen, ours, theirs, size)
    write_json(out / "study.json", study)
    write_text(out / "study.md", page.page(study))
    groups = {ALL_REAL: lambda name: name != SYNTHETIC, SYNTHETIC: lambda name: name == SYNTHETIC}
    curves = {name: selected(ours, belongs) for name, belongs in groups.items()}
    page.draw(curves, out / "figure.svg")
    page.write(out, _examples(chosen, seed), study)
    return out / "study.md"


def _compared(
    peer: Essentia, speech: Sequence[Speech], ours: Trials, theirs: Trials, size: Size
) -> dict[str, Any]:
    """Return the peer's figures, and ours on the utterances that it was given."""
    return {
        "name": f"Essentia {peer.version}",
        "detectors": figures(theirs, peer.thresholds, size.resamples),
        "goal": goal(theirs, size.resamples),
        "ours": goal(every(ours), size.resamples),
        "false_alarms": peer_alarms(speech[::EVERY], peer),
    }


def false_alarms(speech: Sequence[Speech]) -> dict[str, Any]:
    """Return, by corpus and by emotion of real speech, how many a minute are found of each kind.

    Nothing was inserted, so what is found is false, or an artifact that was recorded.
    """
    groups: dict[str, list[tuple[Speech, list[str]]]] = {}
    with Progress("search clean speech", len(speech)) as progress:
        for number, one in enumerate(speech, start=1):
            row = (one, [artifact.kind for artifact in detect(one.audio)])
            names = [f"corpus/{one.corpus}"]
            if one.corpus != SYNTHETIC:
                names += [f"corpus/{ALL_REAL}", f"emotion/{one.emotion}"]
            for name in names:
                groups.setdefault(name, []).append(row)
            progress.update(number)
    table: dict[str, Any] = {"corpus": {}, "emotion": {}}
    for name, rows in groups.items():
        part, label = name.split("/", 1)
        heard = [one for one, _ in rows]
        table[part][label] = {
            "minutes": sum(_minutes(heard)),
            "utterances": len(rows),
            "drawn_by": drawn_by(heard)[1],
        } | {
            kind: rate(heard, [found.count(kind) for _, found in rows], _minutes(heard))
            for kind in KINDS
        }
    return table


def peer_alarms(speech: Sequence[Speech], peer: Essentia) -> dict[str, Any]:
    """Return corpus → kind → how many a minute the peer finds in clean speech."""
    return {
        name: {
            kind: rate(
                part,
                [count(peer.events(one.audio, kind), least) for one in part],
                _minutes(part),
            )
            for kind, least in peer.thresholds.items()
        }
        for name, part in groups_of(speech).items()
    }


def _minutes(speech: Sequence[Speech]) -> list[float]:
    return [one.audio.size / SAMPLE_RATE / 60 for one in speech]


def _synthetic(world: World, size: Size, seed: int) -> list[Speech]:
    """Return the first utterances of real tokens, spoken by the bundled codec."""
    rows = [row for row in world.shard("test_same") if row.tokens.size > 30]
    chosen = np.random.default_rng(seed).permutation(len(rows))[: size.clean]
    codec = world.codec()
    with Progress("speak the mini world", len(chosen)) as progress:
        spoken = []
        for number, index in enumerate(chosen, start=1):
            row = rows[index]
            audio = codec.decode(torch.from_numpy(row.tokens))
            speaker = f"{SYNTHETIC} {row.speaker}"
            spoken.append(Speech(SYNTHETIC, row.emotion, row.id, to_peak(audio), speaker))
            progress.update(number)
    return spoken


@dataclass(frozen=True)
class Real:
    """Recordings of a manifest, and what was left out of those drawn: "" or a sentence."""

    speech: list[Speech]
    left_out: str


def _read(manifests: Sequence[Path]) -> list[tuple[Path, list[Recording]]]:
    """Read every manifest before the first recording is."""
    return [(manifest, read_manifest(manifest)) for manifest in manifests]


def drawn_recordings(manifest: Path, rows: Sequence[Recording], size: Size, seed: int) -> Real:
    """Return recordings of a manifest, drawn by the seed.

    Raises:
        UserError: none of them is over a second long, and neither silent nor unreadable.
    """
    folder = (manifest if manifest.is_dir() else manifest.parent).resolve().name
    drawn = np.random.default_rng(seed).permutation(len(rows))[: size.clean]
    found: list[Speech] = []
    silent, unreadable = [], []
    for row in [rows[index] for index in drawn]:
        name = f"{folder} ({row.language})" if row.language else folder
        try:
            audio = read_recording(row).samples
        except SilentError:
            silent.append(row.path.name)
            continue
        except UserError:
            unreadable.append(row.path.name)
            continue
        speaker = f"{name} {row.speaker}" if row.speaker else ""
        found.append(Speech(name, row.emotion, str(row.path), to_peak(audio), speaker))
    lost = {"silent": silent, "unreadable": unreadable}
    reasons = [f"{len(part)} {why} (as {part[0]})" for why, part in lost.items() if part]
    if not any(map(_lasts, found)):
        why = f": {', '.join(reasons)}" if reasons else ""
        raise UserError(
            f"{manifest}: none of {len(drawn)} recordings drawn is speech of over a second{why}"
        )
    left_out = f"{folder}: {', '.join(reasons)} of {len(drawn)} recordings drawn" if reasons else ""
    return Real(found, left_out)


def _first_of_each(speech: Sequence[Speech], count: int) -> list[Speech]:
    seen: dict[str, int] = {}
    chosen = []
    for one in speech:
        seen[one.corpus] = seen.get(one.corpus, 0) + 1
        if seen[one.corpus] <= count and _lasts(one):
            chosen.append(one)
    return chosen


def _lasts(one: Speech) -> bool:
    # A second of speech is the least that has a place for every artifact.
    return one.audio.size > SAMPLE_RATE


def _examples(speech: Sequence[Speech], seed: int) -> list[page.Example]:
    """Return one example of each way in real speech, where there is any, and in synthetic."""
    corpora = list(dict.fromkeys(one.corpus for one in speech))
    shown = []
    for index, (name, way) in enumerate(WAYS.items()):
        level = way.levels[len(way.levels) // 2]
        for corpus in dict.fromkeys([corpora[-1 - index % max(len(corpora) - 1, 1)], SYNTHETIC]):
            pool = [one for one in speech if one.corpus == corpus]
            one = pool[index % len(pool)]
            inserted = _example(one, way, level, seed)
            title = f"{name}, {level:g} {way.unit}"
            shown.append(page.Example(title, corpus, way.kind, inserted, detect(inserted.audio)))
    return shown


def _example(one: Speech, way: Way, level: float, seed: int) -> Inserted:
    return way.insert(one.audio, level, np.random.default_rng(seed))
