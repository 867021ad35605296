"""The demo: harden a reward model, post-train a speaking LM in several ways, judge them, show it.

SFT starts from the bundled base; DiffRO (plain reward model) and RRPO (hardened reward model) start
from SFT and are held to it. Every stage is a run folder of its own; one that is finished is not run
again, so an interrupted demo goes on where it stood.
"""

import json
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from rrpo import audio, policy, reward, runs
from rrpo.checkpoint import claim, read_json, sha256, write_json, write_text
from rrpo.data.shards import Utterance
from rrpo.emotions import EMOTIONS
from rrpo.errors import UserError
from rrpo.evaluate import quality
from rrpo.evaluate.panel import Judges, measure, summarise
from rrpo.mini.codec import MiniCodec
from rrpo.mini.mixes import mix_pool
from rrpo.mini.world import HASHES, World
from rrpo.objectives.dpo import Pair
from rrpo.objectives.pairs import REJECTED, draw_pairs, read_pairs
from rrpo.policy import SpeechTokenLM
from rrpo.policy.examples import Prompt, make_examples
from rrpo.report.page import write_page
from rrpo.report.terminal import print_table
from rrpo.reward import RewardModel
from rrpo.speaking.mini import BestOf, spoken, unseen_utterances
from rrpo.studies.demo.plan import (
    BEST_OF,
    FULL,
    PRETRAINED,
    REWARD_OF,
    SMOKE,
    SYSTEMS,
    TABLE_2,
    Plan,
    diffro_config,
    dpo_config,
    grpo_config,
    reward_config,
    sft_config,
)

MIXES = 10
"""Mixed versions of each utterance where audio is mixed."""
CURVE_SCORERS = ("dnsmos_p808", "plcmos")
"""What rates the quality of a policy in training."""


@dataclass
class Demo:
    """What the stages share."""

    out: Path
    seed: int
    plan: Plan
    world: World
    reward_names: Sequence[str]
    codec: MiniCodec
    judges: Judges
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the seconds of a stage, over all the times it was taken up."""
        began = time.monotonic()
        try:
            yield
        finally:
            spent = self.seconds.get(name, 0.0) + time.monotonic() - began
            self.seconds[name] = round(spent, 2)
            write_json(self.out / "seconds.json", self.seconds)


def run(
    out: Path,
    seed: int = 0,
    plan: Plan = FULL,
    ablation: bool = False,
    world: World | None = None,
    command: str = "rrpo demo",
) -> dict[str, Any]:
    """Run or continue the demo in a folder; return what `results.json` holds.

    Args:
        plan: `FULL`, `SMOKE`, or that of a study.
        ablation: also fine-tune the reward models between plain and hardened.
        world: another world than the bundled one.
        command: what the page says the figures were made with.

    Raises:
        UserError: the folder holds a demo of another seed or size, or cannot be written.
    """
    world = world or World()
    world.check()
    _claim(
        out,
        {"seed": seed, "ablation": ablation, "world": sha256(world.folder / HASHES)} | asdict(plan),
    )
    console = Console()
    demo = Demo(
        out,
        seed,
        plan,
        world,
        _reward_names(plan, ablation),
        world.codec(),
        Judges.installed(world.judge()),
        read_json(out / "seconds.json") if (out / "seconds.json").is_file() else {},
    )
    reward_models = {name: _reward_model(demo, name) for name in demo.reward_names}
    systems = _systems(demo, reward_models)
    rows = {name: _samples(demo, name, model, reward_models) for name, model in systems.items()}
    rows["reference"] = _samples(demo, "reference", None, reward_models)
    results = _results(demo, rows, reward_models, command)
    with demo.stage("report"):
        _write(demo, rows, results)
    print_table(results, console)
    console.print(f"\nListen and look: {out / 'report.html'}")
    return results


def _reward_names(plan: Plan, ablation: bool) -> list[str]:
    """Return the reward models that are trained and tested: Table 2's or some, and the systems'."""
    table = TABLE_2 if ablation else (PRETRAINED, "plain", "ls_eam_adv")
    return list(dict.fromkeys([*table, *(SYSTEMS[name].reward_model for name in plan.systems)]))


def _claim(out: Path, plan: Mapping[str, Any]) -> None:
    """Write the demo's plan into its folder, or check that it is the one already there."""
    path = out / "plan.json"
    if not path.is_file() and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty and holds no demo: choose another --out")
    claim(path, plan, "a demo")


def _reward_model(demo: Demo, name: str) -> RewardModel:
    if name == PRETRAINED:
        return demo.world.reward_model()
    with demo.stage(f"reward model {name}"):
        return fine_tune_reward(demo.out, demo.world, name, demo.plan.reward_steps, demo.seed)


def fine_tune_reward(
    out: Path, world: World, name: str, steps: int = FULL.reward_steps, seed: int = 0
) -> RewardModel:
    """Fine-tune the pre-trained reward model on the single voice; go on where it stood.

    Args:
        out: its run is `reward_models/name` in there.
        name: of its regularizers (`rrpo.reward.fit.subsets`).
    """
    folder = out / "reward_models" / name
    config, rows = reward_config(name, steps, seed), world.shard("finetune")
    if (folder / "results.json").is_file():
        return reward.load(folder)
    runs.train_reward(
        world.reward_model(),
        rows,
        mix_pool(world.codec(), rows, MIXES, seed) if config.fit.needs_mix_pool else [],
        config,
        folder,
        resume=True,
        description=f"reward model {name}",
    )
    return reward.load(folder)


def _systems(demo: Demo, reward_models: Mapping[str, RewardModel]) -> dict[str, SpeechTokenLM]:
    """Post-train the policies, or load those that are finished."""
    base = demo.world.policy()
    for name in demo.plan.systems:
        if SYSTEMS[name].method != "best_of":
            with demo.stage(name):
                _train(demo, name, base, reward_models)
    return {"base": base} | {name: policy.load(_folder(demo, name)) for name in demo.plan.systems}


def _folder(demo: Demo, name: str) -> Path:
    """Return the run of a system; the best of several utterances are SFT's."""
    return demo.out / "systems" / ("sft" if SYSTEMS[name].method == "best_of" else name)


def _start(demo: Demo, name: str) -> SpeechTokenLM:
    """Load what a system starts from and is held to."""
    return (
        demo.world.policy() if SYSTEMS[name].start == "base" else policy.load(_folder(demo, "sft"))
    )


def _train(
    demo: Demo, name: str, base: SpeechTokenLM, reward_models: Mapping[str, RewardModel]
) -> None:
    """Post-train one system."""
    system, folder = SYSTEMS[name], _folder(demo, name)
    model, reference = _start(demo, name), _start(demo, name)
    examples = make_examples(demo.world.tokenizer, demo.world.shard("finetune"))

    def validate(_: int) -> Mapping[str, float]:
        return _curve(demo, model, base, reward_models)

    if system.method == "sft":
        settings = sft_config(demo.plan, demo.seed)
        runs.train_sft(model, examples, settings, folder, resume=True, validate=validate)
        return
    rest: dict[str, Any] = {
        "folder": folder,
        "resume": True,
        "validate": validate,
        "validate_every": demo.plan.curve_every,
        "description": system.title,
    }
    paying = [reward.load(demo.out / "reward_models" / system.reward_model)]
    config: runs.DiffRORun | runs.GRPORun | runs.DPORun
    if system.method == "dpo":
        config = dpo_config(demo.plan, demo.seed)
    elif system.method == "grpo":
        config = grpo_config(demo.plan, demo.seed)
    else:
        config = diffro_config(demo.plan, name, demo.seed)
    if set(config.rewards) - {"emotion"}:
        paying.append(demo.world.task_model())
    if isinstance(config, runs.DPORun):
        prompts = [example.prompt for example in examples]
        pairs = partial(_pairs, demo, model, paying, prompts, config)
        runs.train_dpo(model, reference, pairs, config, **rest)
    elif isinstance(config, runs.GRPORun):
        runs.train_grpo(model, reference, paying, examples, config, **rest)
    else:
        runs.train_diffro(model, reference, paying, examples, config, **rest)


def _pairs(
    demo: Demo,
    model: SpeechTokenLM,
    paying: Sequence[RewardModel],
    prompts: Sequence[Prompt],
    config: runs.DPORun,
) -> list[Pair]:
    folder = demo.out / "systems" / "dpo" / "pairs"
    if not (folder / REJECTED).is_file():
        draw_pairs(model, config.reward(paying, prompts), prompts, config.pairs, folder, demo.seed)
    return read_pairs(folder, demo.world.tokenizer)


def _curve(
    demo: Demo,
    model: SpeechTokenLM,
    base: SpeechTokenLM,
    reward_models: Mapping[str, RewardModel],
) -> dict[str, float]:
    """Judge a policy in training on a few sentences: one point of the curves, flat by name."""
    utterances = _unseen(demo, demo.plan.curve_sentences)
    samples = spoken(demo.world, demo.codec, model, base, utterances, demo.seed)
    # DistillMOS takes a second an utterance, more than the training in between.
    scorers = [name for name in CURVE_SCORERS if name in demo.judges.quality]
    rows = measure(samples, reward_models, demo.judges, scorers)
    return flatten(rows)


def _unseen(demo: Demo, sentences: int) -> list[Utterance]:
    """Return what the systems are asked to say: other sentences for every seed."""
    return unseen_utterances(demo.world, sentences, demo.seed * demo.plan.sentences)


def flatten(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the means of `measure`'s rows under flat names such as `quality/plcmos`."""
    count = len(rows)
    point = {
        "kl": sum(row["kl"] for row in rows) / count,
        "judge_probability": sum(row["judge_probability"] for row in rows) / count,
        "judge_accuracy": sum(row["judge_emotion"] == row["emotion"] for row in rows) / count,
        "tokens": sum(row["tokens"] for row in rows) / count,
        "repetition": sum(row["repetition"] for row in rows) / count,
        "artifacts_per_second": sum(len(row["artifacts"]) / row["seconds"] for row in rows) / count,
    }
    if rows[0]["word_error"] is not None:
        point["content_error"] = sum(row["word_error"] for row in rows) / count
    for group in ("reward", "quality"):
        for name in rows[0][group]:
            point[f"{group}/{name}"] = sum(row[group][name] for row in rows) / count
    return point


def _samples(
    demo: Demo,
    name: str,
    model: SpeechTokenLM | None,
    reward_models: Mapping[str, RewardModel],
) -> list[dict[str, Any]]:
    """Let a system speak the test sentences and judge it; wav files lie beside the rows."""
    folder = demo.out / "samples" / name
    if (folder / "rows.json").is_file():
        rows: list[dict[str, Any]] = read_json(folder / "rows.json")
        return rows
    with demo.stage("evaluate"):
        utterances = _unseen(demo, demo.plan.sentences)
        best = None
        if name in SYSTEMS and SYSTEMS[name].method == "best_of":
            best = BestOf(BEST_OF, reward_models[SYSTEMS[name].reward_model])
        samples = spoken(
            demo.world, demo.codec, model, demo.world.policy(), utterances, demo.seed, best
        )
        rows = measure(samples, reward_models, demo.judges)
        for sample, row in zip(samples, rows, strict=True):
            path = folder / f"{sample.id}.wav"
            audio.write(path, sample.audio)
            row |= {"system": name, "wav": path.relative_to(demo.out).as_posix()}
        write_json(folder / "rows.json", rows)
    return rows


def _results(
    demo: Demo,
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    reward_models: Mapping[str, RewardModel],
    command: str,
) -> dict[str, Any]:
    reason = demo.judges.content_reason
    reference = summarise(rows["reference"], "plain", reason)
    reference["by_emotion"] = {
        emotion: summarise(
            [row for row in rows["reference"] if row["emotion"] == emotion], "plain", reason
        )
        for emotion in EMOTIONS
    }
    tests = {name: rows[: demo.plan.test_utterances] for name, rows in demo.world.tests().items()}
    with demo.stage("evaluate"):
        figures = {
            name: runs.reward_figures(model, tests, demo.seed)
            for name, model in reward_models.items()
        }
    return {
        "schema": 1,
        "seed": demo.seed,
        "smoke": demo.plan == SMOKE,
        "command": command,
        "machine": f"{platform.machine()} CPU, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}",
        "seconds": demo.seconds,
        "reference": reference,
        "systems": {
            name: summarise(rows[name], REWARD_OF[name], reason)
            for name in ("base", *demo.plan.systems)
        },
        "reward_models": figures,
        "training": {name: _training(demo, name) for name in demo.plan.systems},
        "missing_judges": quality.missing() | ({"content": reason} if reason else {}),
    }


def _training(demo: Demo, name: str) -> dict[str, Any]:
    """Return how a system's training ended: the last step, the step kept, the rule if any."""
    results = read_json(_folder(demo, name) / "results.json")
    return {key: results[key] for key in ("stopped_at", "best_step", "rule") if key in results}


def _write(
    demo: Demo,
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    results: dict[str, Any],
) -> None:
    """Write samples.jsonl, curves.jsonl, results.json and the page."""
    order = ["reference", "base", *demo.plan.systems]
    lines = [json.dumps(row) for name in order for row in rows[name]]
    write_text(demo.out / "samples.jsonl", "\n".join(lines) + "\n")
    points = []
    for name in demo.plan.systems:
        if SYSTEMS[name].method == "best_of":
            continue
        validations = read_json(demo.out / "systems" / name / "results.json")["validations"]
        points += [_point(name, record) for record in validations]
    write_text(demo.out / "curves.jsonl", "".join(json.dumps(point) + "\n" for point in points))
    write_json(demo.out / "results.json", results)
    write_page(demo.out)


def _point(name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a validation record with flat names into a row of curves.jsonl."""
    point: dict[str, Any] = {"system": name, "reward": {}, "quality": {}}
    for key, value in record.items():
        group, slash, inner = key.partition("/")
        if slash:
            point[group][inner] = value
        else:
            point[key] = value
    point["own_reward"] = point["reward"].get(REWARD_OF[name])
    return point
