"""What the policies of a planted study cost in words and quality, and what they say drawn cooler.

    python scripts/planted_words.py planted --artifacts plosive --policies diffro --out words.json

Each start and each policy whose weights are still in the study's folder says the study's test
sentences in the planted emotion, twice: as it was trained and looked at (temperature 1, uncut), and
as `rrpo speak` draws. Both are heard by the emotion judge, the recogniser, DistillMOS and the count
of the artifact. Figures are means of an utterance for each seed, with Student's 95 % interval over
seeds; differences are paired by seed. What is heard is kept in the folder, so the same command
goes on where it stopped.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from rrpo import policy
from rrpo.cores import machine
from rrpo.evaluate import quality as predictors
from rrpo.evaluate.matched import run_interval
from rrpo.evaluate.panel import Judges, measure
from rrpo.files import read_json, write_json
from rrpo.interval import Interval
from rrpo.mini.world import World
from rrpo.policy.rollout import RolloutConfig
from rrpo.provenance import weights_hash
from rrpo.report.markdown import table
from rrpo.speaking.mini import SPEAKING, MiniSpeaker
from rrpo.studies.study import side_by_side
from rrpo_studies.planted.artifacts import ARTIFACTS
from rrpo_studies.planted.looks import in_pairs
from rrpo_studies.planted.plan import EMOTION
from rrpo_studies.planted.recipes import POLICIES, WHOLE

DRAWS: dict[str, RolloutConfig] = {"as trained": WHOLE, "as spoken": SPEAKING}
MEASURES = {
    "artifacts": "artifacts an utterance",
    "judge": "judge",
    "word_error": "word error",
    "distillmos": "DistillMOS",
    "tokens": "tokens",
}
START, CONTROL, FIRST, WORDS = "start", "control", "diffro", "diffro_words"
"""What is trained before any policy; what differences are to, the start beside it."""
TENTH = 0.1
"""The share of the first policy's artifacts that the study's goal allows."""


class System(NamedTuple):
    """A start or a policy in its folder, of how many sentences it is asked, what is kept of it."""

    artifact: str
    name: str
    seed: int
    place: Path
    sentences: int
    kept: Path


def systems(
    folder: Path, artifacts: Sequence[str], policies: Sequence[str], sentences: int
) -> list[System]:
    """Return what has weights in a study's folder."""
    found = []
    for artifact in artifacts:
        for kind in ("start", "policy"):
            for place in sorted(folder.glob(f"{kind}/{artifact}-*")):
                before, _, seed = place.name.rpartition("-")
                name = START if kind == "start" else before.rpartition("-")[2]
                kept = folder / "words" / f"{artifact}-{name}-{seed}.json"
                found.append(System(artifact, name, int(seed), place, sentences, kept))
    return [
        one
        for one in found
        if one.name in (START, *policies)
        and (one.place / "checkpoint" / "model.safetensors").is_file()
    ]


def heard_of(one: System) -> dict[str, Any] | None:
    """Return the figures of what was heard; None where these weights were not, or said less."""
    found = read_json(one.kept) if one.kept.is_file() else {}
    asked = {"sentences": one.sentences, "weights": weights_hash(one.place)}
    return found["figures"] if asked.items() <= found.items() else None


def hear(one: System) -> None:
    """Let one system speak and be heard; write the means of its figures."""
    torch.set_num_threads(1)
    world = World()
    judges = Judges.installed(world.judge())
    judges.quality = {"distillmos": predictors.available()["distillmos"]}
    rows = [row for row in in_pairs(world.shard("test_same")) if row.emotion == EMOTION]
    found = {}
    for name, drawn in DRAWS.items():
        speaker = MiniSpeaker(policy.load(one.place), world, world.codec(), drawn=drawn)
        samples = speaker.samples(rows[: one.sentences], one.seed)
        heard = measure(samples, {}, judges)
        count = ARTIFACTS[one.artifact].count
        found[name] = {
            "artifacts": float(np.mean([count(sample.audio) for sample in samples])),
            "judge": float(np.mean([row["judge_probability"] for row in heard])),
            "word_error": float(np.mean([row["content_error"] for row in heard])),
            "distillmos": float(np.mean([row["quality"]["distillmos"] for row in heard])),
            "tokens": float(np.mean([row["tokens"] for row in heard])),
        }
    asked = {"sentences": one.sentences, "weights": weights_hash(one.place)}
    write_json(one.kept, asked | {"figures": found})


Seeds = Mapping[int, Mapping[str, Any]]


def compared(
    own: Seeds, others: Seeds | None, drawn: str, share: float = 1.0
) -> dict[str, Interval]:
    """Return each measure over seeds; with others less a share of theirs, of seeds both have."""
    seeds = sorted(own if others is None else own.keys() & others.keys())
    values = {
        key: [
            own[seed][drawn][key] - (0.0 if others is None else share * others[seed][drawn][key])
            for seed in seeds
        ]
        for key in MEASURES
    }
    return {key: run_interval(one) for key, one in values.items()}


def figures(heard: Mapping[tuple[str, str], Seeds]) -> dict[str, Any]:
    """Return artifact → how it is drawn → system → its figures, and less start and control."""
    found: dict[str, Any] = {}
    for (artifact, name), own in heard.items():
        for drawn in DRAWS:
            cell: dict[str, Any] = {"seeds": len(own), **compared(own, None, drawn)}
            for other in (START, CONTROL, FIRST, WORDS):
                if other != name and own.keys() & heard.get((artifact, other), {}).keys():
                    cell[f"less {other}"] = compared(own, heard[artifact, other], drawn)
            if name != FIRST and own.keys() & (first := heard.get((artifact, FIRST), {})).keys():
                less = compared(own, first, drawn, TENTH)
                cell[f"less a tenth of {FIRST}"] = {"artifacts": less["artifacts"]}
            found.setdefault(artifact, {}).setdefault(drawn, {})[name] = cell
    return found


def page(found: Mapping[str, Any]) -> str:
    """Return the tables as markdown."""
    lines = []
    for artifact, draws in found.items():
        for drawn, cells in draws.items():
            lines += ["", f"{ARTIFACTS[artifact].title.capitalize()}, {drawn}:", ""]
            columns = [*MEASURES.values(), "word error less the start’s"]
            rows = []
            for name, cell in cells.items():
                title = "start" if name == START else POLICIES[name].title
                less = cell.get(f"less {START}")
                told = "–" if less is None else f"{less['word_error']:.2f}"
                rows.append((title, [*(f"{cell[key]:.2f}" for key in MEASURES), told]))
            lines += table("policy", columns, rows)
    return "\n".join(lines)


def main() -> None:
    """Hear what is left, then print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--artifacts", default=",".join(ARTIFACTS))
    parser.add_argument("--policies", default=",".join(POLICIES))
    parser.add_argument("--sentences", type=int, default=24)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    artifacts, policies = given.artifacts.split(","), given.policies.split(",")
    every = systems(given.folder, artifacts, policies, given.sentences)
    if not every:
        parser.error(
            f"{given.folder} holds no weights of these: name the folder of a planted study"
        )
    (given.folder / "words").mkdir(exist_ok=True)
    side_by_side(hear, [one for one in every if heard_of(one) is None], "systems")
    heard: dict[tuple[str, str], dict[int, Any]] = {}
    for one in every:
        heard.setdefault((one.artifact, one.name), {})[one.seed] = heard_of(one)
    result = figures(heard)
    if given.out:
        command = f"python scripts/planted_words.py {' '.join(sys.argv[1:])}"
        told = {"command": command, "machine": machine(), "sentences": given.sentences}
        write_json(given.out, {**told, "emotion": EMOTION, "figures": result})
    print(page(result))


if __name__ == "__main__":
    main()
