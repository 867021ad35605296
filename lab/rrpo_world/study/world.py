"""How good the mini world is: its codec, base policy, judge and reward model, with intervals.

The renderer speaks the test sentences again, so this needs `rrpo[mini]`; scores appear for the
judges that are installed. What the judges can hear is `rrpo study judges`. Utterances of one
sentence are not independent, so sentences are resampled.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from rrpo.evaluate.panel import Judges
from rrpo.files import claim, read_json, sha256, write_json
from rrpo.interval import exactly
from rrpo.mini.world import HASHES, World
from rrpo.report.terminal import print_rows
from rrpo.reward import RewardModel
from rrpo.studies import aims
from rrpo.studies.demo import systems
from rrpo.studies.demo.trainings import fine_tune_reward
from rrpo.studies.study import begin, finish
from rrpo_world.corpus import Line, lines
from rrpo_world.renderer import VOICES, Renderer, Rendering
from rrpo_world.study.again import read_other, together
from rrpo_world.study.asked import of_world
from rrpo_world.study.codec import by_sentence, codec_figures, resynthesis, transient_tokens
from rrpo_world.study.models import judge_figures, ranked, reward_figures
from rrpo_world.study.page import page
from rrpo_world.study.policy import lengths, policy_figures
from rrpo_world.study.speech import judged_speech, speech, voices


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        sentences: spoken in every emotion, as renderings, through the codec and by the base.
        seeds: sampling seeds of the base.
        ranked: sentences whose intensities the judge puts in order.
        judged: utterances of each test set the judge hears.
        drawn: utterances of the base whose length is looked at, over all seeds.
        voiced: utterances in each other voice.
        contexts: sentences each token id is put into.
        reward_steps: of the plain reward model's fine-tuning.
    """

    sentences: int = 24
    seeds: int = 3
    ranked: int = 20
    judged: int = 300
    drawn: int = 600
    voiced: int = 48
    contexts: int = 8
    reward_steps: int = systems.FULL.reward_steps


FULL = Size()
SMOKE = Size(
    sentences=1, seeds=2, ranked=1, judged=6, drawn=6, voiced=1, contexts=1, reward_steps=4
)


def run(
    out: Path,
    size: Size = FULL,
    world: World | None = None,
    command: str = "rrpo study world",
    against: Path | None = None,
) -> Path:
    """Measure a world and print whether the aims are met.

    It writes `study.md`, `study.json` and `rows.json`, every judged utterance of the first table.

    Args:
        against: folder of the study of a world that the recipe made with another seed; this one
            then says the sentences of that study, which neither has seen, and is paired with it.

    Raises:
        UserError: the renderer's packages are not installed, or a folder holds the study of
            another world, or none, or one that this cannot be compared with.
    """
    world = world or World()
    world.check()
    other = None if against is None else read_other(against, world.seed, size.sentences, size.seeds)
    claim(out / "plan.json", {"world": sha256(world.folder / HASHES)}, "a study")
    renderer, codec, base = Renderer(), world.codec(), world.policy()
    judges = Judges.installed(world.judge())
    # The sentences of the part as the recipe made them.
    of_seed = world.seed if other is None else other.study["sentences_seed"]
    part = lines("test_same", of_seed)
    texts = list(dict.fromkeys(line.text for line in part))
    asked = [line for line in part if line.text in texts[: size.sentences]]
    acted = [(line, act(renderer, line)) for line in asked]
    reward_model = fine_tune_reward(out, world, "plain", size.reward_steps)
    judged = judged_speech(world, codec, base, judges, acted, size.seeds)
    found = resynthesis(codec, [rendering for _, rendering in acted])
    measured = {
        **judged,
        "resynthesis": [
            {"text": line.text, "emotion": line.emotion, **row}
            for line, row in zip(asked, found, strict=True)
        ],
        "ranked": ranked(renderer, codec, world.judge(), texts[-size.ranked :]),
    }
    write_json(out / "rows.json", measured)
    study = begin(command) | {
        "recipe_seed": world.seed,
        "sentences_seed": of_seed,
        "sentences": size.sentences,
        "seeds": size.seeds,
        **codec_figures(measured["resynthesis"]),
        **speech(judged, acted),
        **_of_models(world, size, judges, reward_model),
        **cost(world),
    }
    study["judge"]["ranked_pairs"] = by_sentence(measured["ranked"], "right")
    verdicts = aims.rows(of_world(study))
    study["aims"] = {what: dict(zip(aims.COLUMNS, one, strict=True)) for what, one in verdicts}
    again = None if other is None else together(study, measured, other)
    print_rows("Aims", aims.COLUMNS, verdicts, Console())
    return finish(out, study, page(study, again))


def _of_models(
    world: World, size: Size, judges: Judges, reward_model: RewardModel
) -> dict[str, Any]:
    """Return the figures of a world's models on its own test sets."""
    codec, base = world.codec(), world.policy()
    return {
        "reward_model": {"steps": size.reward_steps, **reward_figures(world, reward_model)},
        "contexts": size.contexts,
        "transient_tokens": transient_tokens(world, codec, size.contexts),
        "policy": policy_figures(world, base) | lengths(world, base, size.drawn, size.seeds),
        "voices": voices(world, codec, base, judges, size.voiced),
        "judge": judge_figures(world, codec, world.judge(), size.judged),
    }


def act(renderer: Renderer, line: Line) -> Rendering:
    """Render a line as the recipe does, without its noise."""
    rng = np.random.default_rng(line.seed)
    analysis = renderer.analyse(line.text)
    return renderer.render(analysis, line.emotion, line.intensity, VOICES[line.voice], rng)


def cost(world: World) -> dict[str, Any]:
    """Return the size of a world's assets, "assets" in MB, and its "recipe": what stages took."""
    size = sum(path.stat().st_size for path in world.folder.rglob("*") if path.is_file())
    recipe = world.folder / "recipe.json"
    stages = read_json(recipe) if recipe.is_file() else {}
    return {
        "assets": exactly(size / 1e6),
        "recipe": {
            name: {key: done[key] for key in ("seconds", "legs") if key in done}
            for name, done in stages.items()
            if isinstance(done, dict)
        },
    }
