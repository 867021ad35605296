"""Post-trained on one voice, tested in others: do emotion and naturalness carry over?

The demo's policies are optimized on the packaged voice alone. The base policy also knows four other
voices by name; here every policy is asked for those, on sentences no policy has seen, and the
policies of each seed on others.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rrpo import policy
from rrpo.errors import UserError
from rrpo.evaluate.clusters import clusters
from rrpo.evaluate.matched import run_interval
from rrpo.evaluate.panel import Judges, measure
from rrpo.files import claim, read_json, sha256, write_json
from rrpo.mini.text import SPEAKERS
from rrpo.mini.world import HASHES, World
from rrpo.progress import Progress
from rrpo.speaking.mini import MiniSpeaker, unseen_utterances
from rrpo.studies.demo.judged import Rows, read_rows
from rrpo.studies.demo.pooled import MEASURED, Pooled, pooled, title_of, values_of
from rrpo.studies.demo.seeds_page import in_two
from rrpo.studies.demo.systems import SYSTEMS
from rrpo.studies.study import begin, finish


def run(
    demos: Sequence[Path],
    out: Path,
    sentences: int = 4,
    command: str = "rrpo study voices",
    speakers: Sequence[str] = SPEAKERS,
    world: World | None = None,
) -> Path:
    """Judge the systems of finished demos in the other voices; write `study.json` and `study.md`.

    Args:
        demos: folders of demos that differ in their seed alone.
        sentences: of each voice and seed, each in every emotion.
        speakers: which voices.
        world: the one the demos were made in, if not the bundled one.

    Raises:
        UserError: a folder holds no finished demo, or one made in another world.
    """
    for folder in demos:
        if not (folder / "results.json").is_file():
            raise UserError(f"{folder} holds no finished demo: run `rrpo demo --out {folder}`")
    world = world or World()
    world.check()
    _claim(out, demos, sentences, world)
    made = read_json(demos[0] / "results.json")["systems"]
    systems = [name for name in made if SYSTEMS[name].method not in ("base", "best_of")]
    measured = _measured(out, demos, ["reference", "base", *systems], speakers, sentences, world)
    parts = {"all voices": _together(measured), **measured}
    study = {
        **begin(command),
        "seeds": len(demos),
        "utterances": len(measured[speakers[0]][0]["reference"]),
        "sentences": sentences,
        "voices": {speaker: _figures(seeds) for speaker, seeds in parts.items()},
        "differences": {speaker: differences(seeds, systems) for speaker, seeds in parts.items()},
    }
    return finish(out, study, page(study))


def _measured(
    out: Path,
    demos: Sequence[Path],
    names: Sequence[str],
    speakers: Sequence[str],
    sentences: int,
    world: World,
) -> dict[str, list[dict[str, Rows]]]:
    """Return voice → for each demo the judges' rows of each system; what is judged is kept."""
    judges = Judges.installed(world.judge())
    total = len(speakers) * len(demos) * len(names)
    measured: dict[str, list[dict[str, Rows]]] = {}
    with Progress("judge other voices", total) as progress:
        for speaker in speakers:
            measured[speaker] = []
            for seed, folder in enumerate(demos):
                measured[speaker].append({})
                for name in names:
                    kept = out / "rows" / f"{speaker}-{seed}-{name}.json"
                    if not kept.is_file():
                        rows = _judged(world, judges, folder, name, speaker, sentences, seed)
                        write_json(kept, rows)
                    measured[speaker][-1][name] = read_rows(kept)
                    progress.update(sum(len(each) for rows in measured.values() for each in rows))
    return measured


def _figures(seeds: Sequence[Mapping[str, Rows]]) -> dict[str, dict[str, Pooled | None]]:
    """Return system → measure → its figure with its interval."""
    return {
        name: {label: _pooled(values_of(seeds, name, label), seeds) for label in MEASURED}
        for name in seeds[0]
    }


def differences(
    seeds: Sequence[Mapping[str, Rows]], systems: Sequence[str]
) -> dict[str, dict[str, Pooled | None]]:
    """Return "first − second" → measure → mean paired difference with its interval.

    Every system is compared with the base, and the hardened reward model's with the plain one's.
    """
    pairs = [(name, "base") for name in systems]
    if {"rrpo", "diffro"} <= set(systems):
        pairs.append(("rrpo", "diffro"))
    table: dict[str, dict[str, Pooled | None]] = {}
    for first, second in pairs:
        found = table[f"{title_of(first)} − {title_of(second)}"] = {}
        for title in MEASURED:
            one, other = values_of(seeds, first, title), values_of(seeds, second, title)
            if one is not None and other is not None:
                found[title] = _pooled(np.subtract(one, other).tolist(), seeds)
    return table


def _pooled(values: list[list[float]] | None, seeds: Sequence[Mapping[str, Rows]]) -> Pooled | None:
    """Return a mean with its interval over seeds; of a single seed over its sentences.

    Args:
        values: of each seed (S), of each utterance (n).
        seeds: whose rows they are of.
    """
    if values is None or len(values) > 1:
        return pooled(values)
    ids, _ = clusters([row["text"] for row in seeds[0]["base"]])
    means = np.bincount(ids, weights=values[0]) / np.bincount(ids)
    found = run_interval(means.tolist())
    return Pooled(found.mean, found.low, found.high, (float(np.mean(values)),))


def _claim(out: Path, demos: Sequence[Path], sentences: int, world: World) -> None:
    """Write what is studied into the folder, or check that it is what is already there.

    Raises:
        UserError: the folder holds another study, or a demo was made in another world.
    """
    made_in = sha256(world.folder / HASHES)
    for folder in demos:
        if read_json(folder / "plan.json")["world"] != made_in:
            raise UserError(
                f"{folder} was made in another world: give that with --world, or run it again"
            )
    results = [[str(folder.absolute()), sha256(folder / "results.json")] for folder in demos]
    plan = {"demos": results, "sentences": sentences, "world": made_in}
    claim(out / "plan.json", plan, "a study")


def _together(measured: Mapping[str, Sequence[Mapping[str, Rows]]]) -> list[dict[str, Rows]]:
    """Return for each seed the rows of each system in all voices."""
    return [
        {name: [row for rows in seeds for row in rows[name]] for name in seeds[0]}
        for seeds in zip(*measured.values(), strict=True)
    ]


def _judged(
    world: World,
    judges: Judges,
    folder: Path,
    name: str,
    speaker: str,
    sentences: int,
    seed: int,
) -> Rows:
    """Return the judges' rows of one system in one voice; "reference" is real tokens."""
    base = world.policy()
    if name in ("reference", "base"):
        model = None if name == "reference" else base
    else:
        model = policy.load(folder / "systems" / name)
    utterances = unseen_utterances(world, sentences, seed * sentences, f"test_{speaker}")
    speaking = MiniSpeaker(model, world, world.codec(), base)
    return measure(speaking.samples(utterances, seed), {}, judges)


def page(study: Mapping[str, Any]) -> str:
    """Return the study as a page of markdown tables, two for each voice."""
    lines = [
        f"`{study['command']}`, {study['seeds']} seeds, {study['machine']}: {study['utterances']} "
        f"utterances (sentences: {study['sentences']}) of each voice and seed, others for every "
        "seed. Mean with Student's 95 % interval over the seeds (of a single one over its "
        "sentences). Differences are paired within a seed."
    ]
    for speaker, systems in study["voices"].items():
        lines += ["", f"{speaker.capitalize()}:", ""]
        lines += in_two({title_of(name): found for name, found in systems.items()})
        lines += ["", f"{speaker.capitalize()}, paired differences:", ""]
        lines += in_two(study["differences"][speaker])
    return "\n".join(lines) + "\n"
