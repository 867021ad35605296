"""Post-trained on one voice, heard in others: do emotion and naturalness carry over?

The demo's policies are optimized on the packaged voice alone. The base policy also knows four other
voices by name; here every policy is asked for those, on sentences no policy has seen.
"""

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rrpo import policy
from rrpo.checkpoint import read_json, sha256, write_json, write_text
from rrpo.emotions import EMOTIONS
from rrpo.errors import UserError
from rrpo.evaluate.run import Judges, measure
from rrpo.mini.speaking import spoken
from rrpo.mini.text import SPEAKERS
from rrpo.mini.world import HASHES, World
from rrpo.progress import Progress
from rrpo.report import markdown
from rrpo.studies.seeds import MEASURED, cell, pooled, title_of, values_of

Rows = list[dict[str, Any]]


def run(
    demos: Sequence[Path],
    out: Path,
    sentences: int = 2,
    command: str = "rrpo study voices",
    speakers: Sequence[str] = SPEAKERS,
) -> Path:
    """Judge the systems of finished demos in the other voices; write `study.json` and `study.md`.

    Args:
        demos: folders of demos that differ in their seed alone.
        sentences: of each voice, each in every emotion.
        speakers: which voices.

    Raises:
        UserError: a folder holds no finished demo.
    """
    for folder in demos:
        if not (folder / "results.json").is_file():
            raise UserError(f"{folder} holds no finished demo: run `rrpo demo --out {folder}`")
    world = World()
    _claim(out, demos, sentences, world)
    judges = Judges.installed(world.judge())
    systems = [name for name in read_json(demos[0] / "results.json")["systems"] if name != "base"]
    names = ["reference", "base", *systems]
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
                    measured[speaker][-1][name] = read_json(kept)
                    progress.update(sum(len(each) for rows in measured.values() for each in rows))
    study = {
        "command": command,
        "machine": f"{platform.machine()} CPU, torch {torch.__version__}",
        "seeds": len(demos),
        "utterances": len(measured[speakers[0]][0]["reference"]),
        "voices": {
            speaker: {
                name: {label: pooled(values_of(rows, name, label)) for label in MEASURED}
                for name in names
            }
            for speaker, rows in {"all voices": _together(measured), **measured}.items()
        },
    }
    write_json(out / "study.json", study)
    write_text(out / "study.md", page(study))
    return out / "study.md"


def _claim(out: Path, demos: Sequence[Path], sentences: int, world: World) -> None:
    """Write what is studied into the folder, or check that it is what is already there.

    Raises:
        UserError: the folder holds another study, or a demo was made in another world.
    """
    made_in = sha256(world.folder / HASHES)
    for folder in demos:
        if read_json(folder / "plan.json")["world"] != made_in:
            raise UserError(f"{folder} was made in another world: run that demo again")
    results = [[str(folder.absolute()), sha256(folder / "results.json")] for folder in demos]
    plan = {"demos": results, "sentences": sentences, "world": made_in}
    if not (out / "plan.json").is_file():
        write_json(out / "plan.json", plan)
    elif read_json(out / "plan.json") != plan:
        raise UserError(f"{out} holds a study of other demos: choose another --out or remove it")


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
    utterances = world.shard(f"test_{speaker}")[: sentences * len(EMOTIONS)]
    return measure(spoken(world, world.codec(), model, base, utterances, seed), {}, judges)


def page(study: Mapping[str, Any]) -> str:
    """Return the study as a page of markdown tables, one for each voice."""
    lines = [
        f"`{study['command']}`, {study['seeds']} seeds, {study['machine']}: {study['utterances']} "
        "utterances of each voice. Mean with 95 % interval over utterances, each averaged over the "
        "seeds; in brackets the means of the single seeds."
    ]
    for speaker, systems in study["voices"].items():
        lines += ["", f"{speaker.capitalize()}:", ""]
        rows = [(label, [cell(found[label]) for found in systems.values()]) for label in MEASURED]
        lines += markdown.table("", list(map(title_of, systems)), markdown.measured(rows))
    return "\n".join(lines) + "\n"
