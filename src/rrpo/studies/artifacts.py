"""How well artifacts are heard: each detector on artifacts of known place and level.

Clean speech, real recordings of a manifest and the mini world's own, is brought to a peak of 0.7,
and each artifact of `rrpo.studies.insertions` is put into it at each level, one an utterance. What
the detector scores around it is compared with what it scores elsewhere in clean speech.
"""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rrpo.audio import SAMPLE_RATE, Audio, read
from rrpo.checkpoint import write_json, write_text
from rrpo.data.manifest import Recording, read_manifest
from rrpo.errors import UserError
from rrpo.evaluate.artifacts import KINDS, THRESHOLDS, Scores, detect, scores
from rrpo.evaluate.statistics import area_under_roc, interval
from rrpo.mini.world import World
from rrpo.progress import Progress
from rrpo.studies import artifact_page, artifact_quality, artifact_tokens
from rrpo.studies.insertions import WAYS, Inserted, Way
from rrpo.studies.peers import EVERY, Essentia, Event, count, highest

PEAK = 0.7
"""Of the speech that artifacts are put into."""
NEAR = 0.04
"""Seconds around an artifact that count as its place."""
SYNTHETIC = "mini world"
ALL_REAL = "real speech"
GOAL = 0.2
"""Least peak of the clicks whose separation is the aim."""


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
    resamples: int = 500
    ids: int = 48
    contexts: int = 4
    rated: int = 12


FULL = Size()
SMOKE = Size(inserted=4, clean=4, windows=4, resamples=50, ids=4, contexts=1, rated=1)


@dataclass(frozen=True)
class Speech:
    """One clean utterance (N,) and where it comes from."""

    corpus: str
    emotion: str
    name: str
    audio: Audio


@dataclass(frozen=True)
class Trial:
    """What was scored at one inserted artifact, and in windows of clean speech of that length."""

    corpus: str
    positive: float
    negatives: list[float]


Trials = dict[str, dict[float, list[Trial]]]


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
        UserError: a manifest cannot be read, or the peer is unknown or not installed.
    """
    if peer not in ("", "essentia"):
        raise UserError(f"no peer {peer!r} is known: essentia")
    other = Essentia() if peer else None
    world = World()
    speech = [*_synthetic(world, size, seed), *_real(manifests, size, seed)]
    chosen = _first_of_each(speech, size.inserted)
    ours, theirs = trials(chosen, size.windows, seed, other)
    study: dict[str, Any] = {
        "command": command,
        "machine": f"{platform.machine()} CPU, torch {torch.__version__}",
        "seed": seed,
        "inserted": size.inserted,
        "thresholds": THRESHOLDS,
        "ways": {name: {"kind": way.kind, "unit": way.unit} for name, way in WAYS.items()},
        "detectors": figures(ours, THRESHOLDS, size.resamples),
        "goal": goal(ours, size.resamples),
        "false_alarms": false_alarms(speech),
        "tokens": artifact_tokens.measure(world, size.ids, size.contexts, seed),
        "quality": artifact_quality.measure([one.audio for one in chosen], size.rated, seed),
    }
    if other is not None:
        study["peer"] = {
            "name": f"Essentia {other.version}",
            "detectors": figures(theirs, other.thresholds, size.resamples),
            "goal": goal(theirs, size.resamples),
            "ours": goal(_every(ours), size.resamples),
            "false_alarms": peer_alarms(chosen[::EVERY], other),
        }
    write_json(out / "study.json", study)
    write_text(out / "study.md", artifact_page.markdown(study))
    groups = {ALL_REAL: lambda name: name != SYNTHETIC, SYNTHETIC: lambda name: name == SYNTHETIC}
    curves = {name: _selected(ours, belongs) for name, belongs in groups.items()}
    artifact_page.draw(curves, out / "figure.svg")
    artifact_page.write(out, _examples(chosen, seed), study)
    return out / "study.md"


def trials(
    speech: Sequence[Speech], windows: int, seed: int, peer: Essentia | None = None
) -> tuple[Trials, Trials]:
    """Put every artifact into every utterance; return way → level → trials, ours and the peer's.

    The score of a place is the highest within 40 ms of it. The artifact's is compared with those
    of `windows` random stretches as long, in the same utterance without the artifact.
    """
    ours: Trials = {name: {level: [] for level in way.levels} for name, way in WAYS.items()}
    theirs: Trials = {name: {level: [] for level in way.levels} for name, way in WAYS.items()}
    with Progress("insert and search", len(speech)) as progress:
        for number, one in enumerate(speech):
            clean = scores(one.audio)
            other = peer if number % EVERY == 0 else None
            found = {kind: other.events(one.audio, kind) for kind in KINDS} if other else {}
            for index, (name, way) in enumerate(WAYS.items()):
                for step, level in enumerate(way.levels):
                    rng = np.random.default_rng([seed, number, index, step])
                    inserted = way.insert(one.audio, level, rng)
                    places = _elsewhere(one.audio, inserted, windows, rng)
                    heard = scores(inserted.audio, kinds=(way.kind,))[way.kind]
                    ours[name][level].append(_trial(one, inserted, heard, clean[way.kind], places))
                    if other:
                        events = other.events(inserted.audio, way.kind)
                        theirs[name][level].append(
                            _peer_trial(one, inserted, events, found[way.kind], places)
                        )
            progress.update(number + 1)
    return ours, theirs


def _elsewhere(
    audio: Audio, inserted: Inserted, count: int, rng: np.random.Generator
) -> list[tuple[float, float]]:
    """Draw windows of clean speech as long as the place of the artifact, cut at the ends."""
    length = inserted.end - inserted.start + 2 * NEAR
    last = max(audio.size / SAMPLE_RATE - length, 0.0)
    return [(start, start + length) for start in rng.uniform(0.0, last, count)]


def _trial(
    one: Speech,
    inserted: Inserted,
    heard: Scores,
    clean: Scores,
    places: Sequence[tuple[float, float]],
) -> Trial:
    positive = heard.highest(inserted.start - NEAR, inserted.end + NEAR)
    return Trial(one.corpus, positive, [clean.highest(*place) for place in places])


def _peer_trial(
    one: Speech,
    inserted: Inserted,
    heard: list[Event],
    clean: list[Event],
    places: Sequence[tuple[float, float]],
) -> Trial:
    positive = highest(heard, inserted.start - NEAR, inserted.end + NEAR)
    return Trial(one.corpus, positive, [highest(clean, *place) for place in places])


def figures(found: Trials, thresholds: Mapping[str, float], resamples: int) -> dict[str, Any]:
    """Return way → level → corpus → "auc" and "hit", each with its 95 % interval.

    Corpora are those of the trials, and all real ones together. Kinds that have no threshold are
    left out.
    """
    table: dict[str, Any] = {}
    for name, levels in found.items():
        if WAYS[name].kind not in thresholds:
            continue
        least = thresholds[WAYS[name].kind]
        table[name] = {
            f"{level:g}": {
                corpus: {
                    "auc": separated(part, resamples),
                    "hit": interval([float(_reaches(one.positive, least)) for one in part]),
                }
                for corpus, part in _groups(rows).items()
            }
            for level, rows in levels.items()
        }
    return table


def _reaches(score: float, least: float) -> bool:
    # A peer whose every event counts has a threshold of 0, and 0 is the score of no event.
    return score > 0 and score >= least


def goal(found: Trials, resamples: int) -> dict[str, Any]:
    """Return corpus → how well clicks of every shape and a peak of 0.2 or more are separated."""
    rows = [
        trial
        for name, levels in found.items()
        if WAYS[name].kind == "click"
        for level, part in levels.items()
        if level >= GOAL
        for trial in part
    ]
    return {corpus: separated(part, resamples) for corpus, part in _groups(rows).items()}


def _every(found: Trials) -> Trials:
    """Return the trials of the utterances that the peer is given."""
    return {
        name: {level: rows[::EVERY] for level, rows in levels.items()}
        for name, levels in found.items()
    }


def separated(rows: Sequence[Trial], resamples: int, seed: int = 0) -> dict[str, float]:
    """Return the area under the ROC curve with its 95 % interval, trials drawn anew."""
    positive = np.array([one.positive for one in rows])
    negative = np.array([one.negatives for one in rows])
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        pick = rng.integers(0, len(rows), len(rows))
        drawn.append(area_under_roc(positive[pick], negative[pick].ravel()))
    low, high = np.quantile(drawn, [0.025, 0.975])
    mean = area_under_roc(positive, negative.ravel())
    return {"mean": mean, "low": float(low), "high": float(high)}


def _groups(rows: Sequence[Trial]) -> dict[str, list[Trial]]:
    """Return the trials of all real speech, and of each corpus."""
    groups: dict[str, list[Trial]] = {}
    for one in rows:
        if one.corpus != SYNTHETIC:
            groups.setdefault(ALL_REAL, []).append(one)
    for one in rows:
        groups.setdefault(one.corpus, []).append(one)
    return groups


def _selected(found: Trials, belongs: Any) -> dict[str, dict[float, tuple[list[float], ...]]]:
    """Return way → level → positives and negatives of the corpora that belong to a group."""
    return {
        name: {
            level: (
                [one.positive for one in rows if belongs(one.corpus)],
                [value for one in rows if belongs(one.corpus) for value in one.negatives],
            )
            for level, rows in levels.items()
        }
        for name, levels in found.items()
    }


def false_alarms(speech: Sequence[Speech]) -> dict[str, Any]:
    """Return, by corpus and by emotion of real speech, how many a minute are found of each kind.

    Nothing was inserted, so what is found is false, or an artifact that was recorded.
    """
    groups: dict[str, list[tuple[float, list[str]]]] = {}
    with Progress("search clean speech", len(speech)) as progress:
        for number, one in enumerate(speech, start=1):
            row = (one.audio.size / SAMPLE_RATE / 60, [a.kind for a in detect(one.audio)])
            names = [f"corpus/{one.corpus}"]
            if one.corpus != SYNTHETIC:
                names += [f"corpus/{ALL_REAL}", f"emotion/{one.emotion}"]
            for name in names:
                groups.setdefault(name, []).append(row)
            progress.update(number)
    table: dict[str, Any] = {"corpus": {}, "emotion": {}}
    for name, rows in groups.items():
        part, label = name.split("/", 1)
        minutes = sum(row[0] for row in rows)
        # Each utterance is weighed by its length: the mean of these is the count over the minutes.
        share = minutes / len(rows)
        table[part][label] = {"minutes": minutes, "utterances": len(rows)} | {
            kind: interval([row[1].count(kind) / share for row in rows]) for kind in KINDS
        }
    return table


def peer_alarms(speech: Sequence[Speech], peer: Essentia) -> dict[str, Any]:
    """Return corpus → kind → how many a minute the peer finds in clean speech."""
    groups: dict[str, list[Speech]] = {}
    for one in speech:
        for name in {one.corpus, one.corpus if one.corpus == SYNTHETIC else ALL_REAL}:
            groups.setdefault(name, []).append(one)
    table: dict[str, Any] = {}
    for name, part in groups.items():
        minutes = sum(one.audio.size for one in part) / SAMPLE_RATE / 60 / len(part)
        table[name] = {
            kind: interval([count(peer.events(one.audio, kind), least) / minutes for one in part])
            for kind, least in peer.thresholds.items()
        }
    return table


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
            spoken.append(Speech(SYNTHETIC, row.emotion, row.id, _level(audio)))
            progress.update(number)
    return spoken


def _real(manifests: Sequence[Path], size: Size, seed: int) -> list[Speech]:
    """Return recordings of each manifest, drawn by the seed."""
    found = []
    for manifest in manifests:
        folder = manifest if manifest.is_dir() else manifest.parent
        rows: list[Recording] = read_manifest(manifest)
        drawn = np.random.default_rng(seed).permutation(len(rows))[: size.clean]
        for row in [rows[index] for index in drawn]:
            name = f"{folder.resolve().name} ({row.language})" if row.language else folder.name
            audio = read(row.path)
            if audio.any():
                found.append(Speech(name, row.emotion, row.path.name, _level(audio)))
    return found


def _level(audio: Audio) -> Audio:
    return np.asarray(PEAK * audio / np.abs(audio).max(), np.float32)


def _first_of_each(speech: Sequence[Speech], count: int) -> list[Speech]:
    seen: dict[str, int] = {}
    chosen = []
    for one in speech:
        seen[one.corpus] = seen.get(one.corpus, 0) + 1
        # A second of speech is the least that has a place for every artifact.
        if seen[one.corpus] <= count and one.audio.size > SAMPLE_RATE:
            chosen.append(one)
    return chosen


def _examples(speech: Sequence[Speech], seed: int) -> list[artifact_page.Example]:
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
            shown.append(
                artifact_page.Example(title, corpus, way.kind, inserted, detect(inserted.audio))
            )
    return shown


def _example(one: Speech, way: Way, level: float, seed: int) -> Inserted:
    return way.insert(one.audio, level, np.random.default_rng(seed))
