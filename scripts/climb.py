"""How long until the judge hears the emotion? DiffRO, our GRPO, and TRL's GRPOTrainer beside them.

    rrpo study seeds --seeds 3 --out seeds
    python scripts/climb.py --demos seeds/seed-0 seeds/seed-1 seeds/seed-2 --out climb

Every trainer starts from the bundled base policy and optimizes the same plain reward model (that
of the demo of its seed). Every `--every` scored utterances the judge listens to held-out sentences;
the clock stands still meanwhile. A trainer has arrived where the judge's probability of the asked
emotion has reached `--target` at two checks in a row. DiffRO, with the demo's settings, makes as
many steps as the demo. The others get `--after` times the seconds it took to arrive, which shows
where each is hacked, and if they have not arrived by then as much as `--cap` times; where they have
not by then either they are reported as censored.

Settings of the others are searched for on the first demo, `--search` times DiffRO's seconds each:
first for our GRPO, then, from the best of these, for TRL; `diffro_tuned` is DiffRO searched so.
`trl` (1.16 was used) is needed for its part alone: leave it out with `--trainers diffro grpo`.
"""

import argparse
import itertools
import json
import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rrpo import reward
from rrpo.cores import machine
from rrpo.evaluate.matched import mean_difference, run_interval
from rrpo.evaluate.panel import Judges, measure
from rrpo.files import read_json, write_json
from rrpo.interval import Interval
from rrpo.mini.world import World
from rrpo.objectives.diffro import DiffROConfig, DiffROObjective
from rrpo.objectives.grpo import GRPOConfig, GRPOObjective
from rrpo.policy import SpeechTokenLM
from rrpo.policy.layout import make_examples
from rrpo.reward import Reward, RewardModel
from rrpo.reward.reward import score
from rrpo.speaking.mini import MiniSpeaker, unseen_utterances
from rrpo.studies.demo.judged import flatten
from rrpo.train import TrainConfig, train

DIFFRO = {"batch": 16, "learning_rate": 1e-4, "beta": 0.1}
"""The demo's."""
STEPS = 100
START: dict[str, Any] = {"prompts": 4, "group": 8, "learning_rate": 3e-4, "beta": 0.02, "reuse": 1}
CANDIDATES: dict[str, list[dict[str, Any]]] = {
    "diffro_tuned": [{"learning_rate": 3e-4}, {"learning_rate": 3e-4, "batch": 8}],
    "grpo": [{}, {"learning_rate": 1e-3}, {"learning_rate": 3e-3}, {"group": 16}],
    "trl": [{}, {"reuse": 2}, {"reuse": 4}],
}
"""What is changed of the settings a search begins with; `reuse` is updates of one rollout."""
TARGETS = (0.5, 0.6, 0.7, 0.8)
"""Of the judge's probability, for the report; runs are timed against `--target`."""
MEASURES = ("quality/distillmos", "quality/plcmos", "content_error", "artifacts_per_second")


class Check:
    """Judges a policy in training, and ends it out of time: sooner where it has arrived."""

    def __init__(
        self, name: str, seed: int, target: float, limits: tuple[float, float], sentences: int
    ) -> None:
        self.world, self.name, self.seed = World(), name, seed
        self.target, self.limits = target, limits
        self.judges = Judges.installed(self.world.judge())
        self.base, self.codec = self.world.policy(), self.world.codec()
        self.utterances = unseen_utterances(self.world, sentences)
        self.points: list[dict[str, Any]] = []
        self.away = 0.0
        self.began = time.perf_counter()

    def __call__(
        self, model: SpeechTokenLM, scored: int, models: Mapping[str, RewardModel]
    ) -> bool:
        """Listen; return whether to stop."""
        came = time.perf_counter()
        training = model.training
        with torch.no_grad():
            speaker = MiniSpeaker(model.eval(), self.world, self.codec, self.base)
            samples = speaker.samples(self.utterances, self.seed)
            rows = measure(samples, models, self.judges, ["plcmos", "distillmos"])
        model.train(training)
        seconds = came - self.began - self.away
        point = {"scored": scored, "seconds": seconds, **flatten(rows)}
        self.points.append(point)
        print(
            f"{self.name} seed {self.seed}: {scored} scored, {seconds:.0f} s, "
            f"judge {point['judge_probability']:.2f}, KL {point['kl']:.2f}",
            flush=True,
        )
        self.away += time.perf_counter() - came
        after, cap = self.limits
        return seconds > (after if arrived(self.points, self.target) else cap)


def arrived(points: list[dict[str, Any]], target: float) -> dict[str, Any] | None:
    """Return where the target was reached for two checks in a row, or None.

    The crossing is read off the straight line from the check before: checks are not equally dense.
    """
    for index, (point, after) in enumerate(itertools.pairwise(points)):
        if min(point["judge_probability"], after["judge_probability"]) < target:
            continue
        before = points[index - 1] if index else point
        rise = point["judge_probability"] - before["judge_probability"]
        share = (target - before["judge_probability"]) / rise if rise > 0 else 1.0
        return {
            key: before[key] + min(max(share, 0.0), 1.0) * (point[key] - before[key])
            for key in point
        }
    return None


def ours(
    check: Check, setting: dict[str, Any], paying: RewardModel, every: int, folder: Path
) -> None:
    """Train with our own loop: DiffRO where the settings name no group, else GRPO."""
    world, steps = World(), 100_000
    model, reference = world.policy(), world.policy()
    prompts = [each.prompt for each in make_examples(world.tokenizer, world.shard("finetune"))]
    objective: DiffROObjective | GRPOObjective
    if "group" not in setting:
        steps = STEPS
        config = DiffROConfig(batch_size=setting["batch"], beta=setting["beta"])
        objective = DiffROObjective(model, reference, Reward([paying]), prompts, config)
        batch = setting["batch"]
    else:
        shape = {key: setting[key] for key in ("prompts", "group", "beta")}
        grouped = GRPOConfig(**shape, advantage="grpo")
        objective = GRPOObjective(model, reference, Reward([paying]), prompts, grouped)
        batch = setting["prompts"] * setting["group"]
    done = {"stop": 0.0}

    def validate(step: int) -> Mapping[str, float]:
        if done["stop"] == 0.0 and check(model, step * batch, {"plain": paying}):
            done["stop"] = 1.0
        return dict(done)

    settings = TrainConfig(
        steps=steps,
        learning_rate=setting["learning_rate"],
        warmup_steps=5,
        seed=check.seed,
        weight_decay=0.0,
        save_every=steps,
    )
    check.began = time.perf_counter()
    train(
        objective,
        settings,
        folder,
        validate=validate,
        validate_every=max(1, every // batch),
        stop=lambda history: history[-1]["stop"] > 0,
        description=check.name,
    )


def trl(
    check: Check, setting: dict[str, Any], paying: RewardModel, every: int, folder: Path
) -> None:
    """Train with TRL, on the same weights in the form of `transformers`."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig as TRLConfig
    from trl import GRPOTrainer
    from trl.trainer.utils import add_fused_lm_head
    from trl_policy import as_tokenizer, as_transformers, back, prompt_text

    world = World()
    source = world.policy()
    shape, model = source.config, as_transformers(source)
    examples = make_examples(world.tokenizer, world.shard("finetune"))
    prompts = [example.prompt for example in examples]
    longest = max(int(4 * prompt.text_ids.numel()) for prompt in prompts)
    payer = Reward([paying])
    batch = setting["prompts"] * setting["group"]
    rows = [{"prompt": prompt_text(shape, one), "row": i} for i, one in enumerate(prompts)]

    def pay(completion_ids: list[list[int]], row: list[int], **_: Any) -> list[float]:
        spoken_ids = [
            torch.tensor([i - shape.text_vocabulary for i in ids if i < shape.sos_id])
            for ids in completion_ids
        ]
        codes = [one[one < shape.codes] for one in spoken_ids]
        # An utterance without a token cannot be read: it is paid as the worst.
        kept = [index for index, one in enumerate(codes) if one.numel()]
        found = [-10.0] * len(codes)
        spoken_by = [prompts[row[i]] for i in kept]
        scores = score(payer, [codes[i] for i in kept], spoken_by)["emotion"]
        for index, value in zip(kept, scores.tolist(), strict=True):
            found[index] = value
        return found

    class Judged(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            check.began = time.perf_counter()
            check(source, 0, {"plain": paying})

        def on_step_end(self, _: Any, state: Any, control: Any, **__: Any) -> None:
            rollouts, rest = divmod(state.global_step, setting["reuse"])
            if rest == 0 and rollouts % max(1, every // batch) == 0:
                back(model, source)
                control.should_training_stop = check(source, rollouts * batch, {"plain": paying})

    settings = TRLConfig(
        output_dir=str(folder),
        max_steps=100_000,
        num_iterations=setting["reuse"],
        learning_rate=setting["learning_rate"],
        warmup_steps=5,
        lr_scheduler_type="constant_with_warmup",
        per_device_train_batch_size=batch,
        num_generations=setting["group"],
        max_completion_length=longest,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        beta=0.0,
        scale_rewards="group",
        loss_type="grpo",
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=not torch.cuda.is_available(),
        seed=check.seed,
        report_to="none",
        logging_steps=1000,
        save_strategy="no",
        disable_tqdm=True,
        weight_decay=0.0,
        max_grad_norm=1.0,
        remove_unused_columns=False,
        dataloader_num_workers=0,
    )
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=pay,
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=as_tokenizer(shape),
        callbacks=[Judged()],
    )
    # TRL would read the reference from the folder that the model came from, and ours has none.
    reference = as_transformers(world.policy()).eval()
    add_fused_lm_head(reference)
    trainer.beta, trainer.ref_model = setting["beta"], reference
    trainer.train()


def climb(
    name: str,
    setting: dict[str, Any],
    seed: int,
    demo: Path,
    limits: tuple[float, float],
    path: Path,
    given: Any,
) -> dict[str, Any]:
    """Train once and write what was heard to `path`, or read what is there.

    Args:
        limits: seconds of a run that has arrived, and of one that has not.
    """
    if not path.is_file():
        check = Check(path.stem, seed, given.target, limits, given.sentences)
        paying = reward.load(demo / "reward_models" / "plain")
        every = given.every if "diffro" in name else 4 * given.every
        trainer = trl if name == "trl" else ours
        folder = given.out / "runs" / f"{path.parent.name}-{path.stem}"
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was broken off
        trainer(check, setting, paying, every, folder)
        first = arrived(check.points, given.target)
        last = first or check.points[-1]
        figures = {key: last[key] for key in ("seconds", "scored", "kl", "judge_probability")}
        run = {"setting": setting, "arrived": first is not None, **figures}
        write_json(path, {**run, "points": check.points})
    found: dict[str, Any] = read_json(path)
    return found


def search(name: str, start: dict[str, Any], limit: float, given: Any) -> dict[str, Any]:
    """Return the settings that arrive first on the first demo, or get furthest."""
    runs = []
    for number, change in enumerate(CANDIDATES[name]):
        path = given.out / "search" / f"{name}-{number}.json"
        runs.append(climb(name, {**start, **change}, 0, given.demos[0], (0, limit), path, given))
        print(name, {k: v for k, v in runs[-1].items() if k != "points"}, flush=True)

    def worth(run: dict[str, Any]) -> tuple[bool, float]:
        return run["arrived"], -run["seconds"] if run["arrived"] else run["judge_probability"]

    best: dict[str, Any] = max(runs, key=worth)["setting"]
    return best


def report(found: Mapping[str, list[dict[str, Any]]]) -> None:
    """Print seconds and scored utterances to each target, and what was lost on the way."""
    print(machine())
    for name, runs in found.items():
        print(name, json.dumps(runs[0]["setting"]))
        for target in TARGETS:
            ends = [arrived(run["points"], target) for run in runs]
            told = [
                f"{end['seconds']:.0f} s, {end['scored']:.0f} scored, KL {end['kl']:.2f}"
                if end
                else f"not in {run['points'][-1]['seconds']:.0f} s"
                for end, run in zip(ends, runs, strict=True)
            ]
            print(f"  judge {target}: {'; '.join(told)}")
    for ours_ in ("diffro", "diffro_tuned"):
        for name in found:
            if ours_ in found and name != ours_ and name != "diffro":
                _ratios(f"{name}/{ours_}", found[name], found[ours_])
                _losses(f"{name} less {ours_}", found[name], found[ours_])


def _ratios(name: str, runs: list[dict[str, Any]], ours_: list[dict[str, Any]]) -> None:
    """Print the geometric means of ratios; a run that is censored counts its end."""
    for target in TARGETS:
        pairs = [
            (arrived(run["points"], target), run["points"][-1], end)
            for run, first in zip(runs, ours_, strict=True)
            if (end := arrived(first["points"], target))
        ]
        censored = sum(there is None for there, _, _ in pairs)
        for key in ("seconds", "scored"):
            logs = [math.log((there or last)[key] / end[key]) for there, last, end in pairs]
            if logs:
                found = run_interval(logs)
                spread = Interval(*map(math.exp, (found.mean, found.low, found.high)))
                ending = f"{censored} of {len(pairs)} censored"
                print(f"{name}, {key} to judge {target}: {spread:.1f}, {ending}")


def _losses(name: str, runs: list[dict[str, Any]], ours_: list[dict[str, Any]]) -> None:
    """Print paired differences at equal KL and at equal judge probability."""
    for key in ("kl", "judge_probability"):
        for lost in ("judge_probability", "kl", *MEASURES):
            each = [
                mean_difference(run["points"], first["points"], key, lost)
                for run, first in zip(runs, ours_, strict=True)
                if lost != key
            ]
            told = [value for value in each if value is not None]
            if told:
                found = run_interval(told)
                print(f"{name}, {lost} at equal {key}: {found:+.3f}, {len(told)} seeds")


def draw(found: Mapping[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw every run: the judge over the clock, and quality and word error over KL."""
    panels = [
        ("seconds", "judge_probability", "seconds", "judge's probability"),
        ("kl", "judge_probability", "KL (nats a token)", "judge's probability"),
        ("kl", "quality/distillmos", "KL (nats a token)", "DistillMOS"),
        ("kl", "content_error", "KL (nats a token)", "word error"),
    ]
    figure = Figure(figsize=(10, 6), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, (key, value, below, beside) in zip(figure.subplots(2, 2).flat, panels, strict=True):
        for (name, runs), color in zip(
            found.items(), ("#1f77b4", "#17becf", "#d62728", "#2ca02c"), strict=False
        ):
            for number, run in enumerate(runs):
                xs, ys = ([point[one] for point in run["points"]] for one in (key, value))
                axis.plot(xs, ys, "-", color=color, label=None if number else name, linewidth=1)
        axis.set_xlabel(below)
        axis.set_ylabel(beside)
        if key == "seconds":
            axis.set_xscale("symlog", linthresh=10)  # the first check is at second 0
            axis.set_xlim(left=0)
            axis.legend()
    figure.savefig(path, format="svg", metadata={"Date": None})


def main() -> None:
    """Run every trainer for every demo; what is finished is not run again."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--demos", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--trainers", nargs="+", default=["diffro", "diffro_tuned", "grpo", "trl"])
    parser.add_argument("--target", type=float, default=0.6)
    parser.add_argument("--cap", type=float, default=20.0)
    parser.add_argument("--after", type=float, default=6.0)
    parser.add_argument("--search", type=float, default=6.0)
    parser.add_argument("--every", type=int, default=160, help="scored utterances between checks")
    parser.add_argument("--sentences", type=int, default=4)
    given = parser.parse_args()
    settings: dict[str, dict[str, Any]] = {"diffro": DIFFRO}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in given.trainers}
    for seed, demo in enumerate(given.demos):
        seconds = math.inf
        for name in given.trainers:
            if name not in settings:
                start = DIFFRO if "diffro" in name else settings.get("grpo", START)
                settings[name] = search(name, start, given.search * seconds, given)
            path = given.out / f"{name}-{seed}.json"
            limits = (given.after * seconds, given.cap * seconds)
            found[name].append(climb(name, settings[name], seed, demo, limits, path, given))
            if name == "diffro":
                seconds = found[name][-1]["seconds"]
    report(found)
    draw(found, given.out / "climb.svg")


if __name__ == "__main__":
    main()
