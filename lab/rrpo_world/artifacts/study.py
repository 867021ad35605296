"""How well artifacts are detected: each detector on artifacts of known place and level.

Clean speech, real recordings of a manifest and the mini world's own, is brought to a peak of 0.7,
and each artifact of `insertions` is put into it at each level, one an utterance. What the detector
scores around it is compared with what it scores elsewhere in clean speech.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rrpo.data.manifest import read_manifest
from rrpo.evaluate.artifacts import KINDS, THRESHOLDS, detect
from rrpo.mini.world import World
from rrpo.progress import Progress
from rrpo.studies.study import begin, finish
from rrpo_world.artifacts import page, quality, tokens
from rrpo_world.artifacts.insertions import WAYS, Inserted, Way
from rrpo_world.artifacts.speech import (
    ALL_REAL,
    SYNTHETIC,
    Speech,
    first_of_each,
    real_speech,
    synthetic_speech,
)
from rrpo_world.artifacts.trials import (
    drawn_by,
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
    command: str = "rrpo study artifacts",
) -> Path:
    """Measure the detectors; write `study.json`, `study.md`, `figure.svg` and `report.html`.

    Args:
        out: folder to write.
        manifests: of clean real speech; without one only the mini world's speech is used.
        size: how much.
        seed: draws the utterances, the places and the shapes.

    Raises:
        UserError: a manifest cannot be read or leaves nothing to put artifacts into.
    """
    # First what may be refused, every manifest before the first recording: speaking takes longer.
    rows = [(manifest, read_manifest(manifest)) for manifest in manifests]
    corpora = [real_speech(manifest, own, size.clean, seed) for manifest, own in rows]
    world = World()
    real = [one for corpus in corpora for one in corpus.speech]
    speech = [*synthetic_speech(world, size.clean, seed), *real]
    chosen = first_of_each(speech, size.inserted)
    found = trials(chosen, size.windows, seed)
    study: dict[str, Any] = {
        **begin(command),
        "seed": seed,
        "inserted": size.inserted,
        "drawn_by": {name: drawn_by(part)[1] for name, part in groups_of(chosen).items()},
        "left_out": [corpus.left_out for corpus in corpora if corpus.left_out],
        "thresholds": THRESHOLDS,
        "ways": {name: {"kind": way.kind, "unit": way.unit} for name, way in WAYS.items()},
        "detectors": figures(found, THRESHOLDS, size.resamples),
        "goal": goal(found, size.resamples),
        "false_alarms": false_alarms(speech),
        "tokens": tokens.measure(world, size.ids, size.contexts, seed),
        "quality": quality.measure(chosen, size.rated, seed),
    }
    groups = {ALL_REAL: lambda name: name != SYNTHETIC, SYNTHETIC: lambda name: name == SYNTHETIC}
    curves = {name: selected(found, belongs) for name, belongs in groups.items()}
    page.draw(curves, out / "figure.svg")
    page.write(out, _examples(chosen, seed), study)
    return finish(out, study, page.page(study))


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
        spoken = [one for one, _ in rows]
        table[part][label] = {
            "minutes": sum(one.minutes for one in spoken),
            "utterances": len(rows),
            "drawn_by": drawn_by(spoken)[1],
        } | {
            kind: rate(
                spoken, [found.count(kind) for _, found in rows], [one.minutes for one in spoken]
            )
            for kind in KINDS
        }
    return table


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
