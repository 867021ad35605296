"""How long until the judge hears the emotion? DiffRO, our GRPO, and TRL's GRPOTrainer beside them.

    rrpo study seeds --seeds 3 --out seeds
    python benchmarks/climb.py --demos seeds/seed-0 seeds/seed-1 seeds/seed-2 --out climb

Every trainer starts from the bundled base policy and is paid by the same plain reward model (that
of the demo of its seed). Every `--every` scored utterances the judge listens to held-out sentences;
the clock stands still meanwhile. A trainer ends where the judge's probability of the asked emotion
has reached `--target` at two checks in a row, or after `--cap` times the seconds DiffRO took, and
is then reported as censored. `trl` (1.16 was used) is needed for its part alone: leave it out with
`--trainers diffro grpo`.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from rrpo import reward
from rrpo.benchmarks.measure import machine
from rrpo.checkpoint import read_json, write_json
from rrpo.evaluate.matched import run_interval
from rrpo.evaluate.run import Judges, measure
from rrpo.mini.speaking import spoken, unseen_utterances
from rrpo.mini.world import World
from rrpo.objectives.diffro import DiffROConfig, DiffROObjective
from rrpo.objectives.grpo import GRPOConfig, GRPOObjective
from rrpo.policy import SpeechTokenLM
from rrpo.policy.examples import make_examples
from rrpo.reward import Reward, RewardModel
from rrpo.studies.demo import flatten
from rrpo.train import TrainConfig, train

SETTINGS: dict[str, dict[str, Any]] = {
    # The demo's.
    "diffro": {"batch": 16, "learning_rate": 1e-4, "beta": 0.1},
    "grpo": {"prompts": 4, "group": 8, "learning_rate": 3e-4, "beta": 0.02, "advantage": "grpo"},
    "trl": {"prompts": 4, "group": 8, "learning_rate": 3e-4, "beta": 0.02},
}


class Check:
    """Judges a policy in training, and decides when it has arrived or run out of time."""

    def __init__(self, name: str, seed: int, target: float, limit: float, sentences: int) -> None:
        self.world, self.name, self.seed = World(), name, seed
        self.target, self.limit = target, limit
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
            samples = spoken(
                self.world, self.codec, model.eval(), self.base, self.utterances, self.seed
            )
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
        return self.arrived() is not None or seconds > self.limit

    def arrived(self) -> dict[str, Any] | None:
        """Return the first of two checks in a row at which the target was reached."""
        for point, after in zip(self.points, self.points[1:], strict=False):
            if min(point["judge_probability"], after["judge_probability"]) >= self.target:
                return point
        return None


def ours(
    name: str, check: Check, paying: RewardModel, every: int, steps: int, folder: Path
) -> None:
    """Train with our own loop."""
    world, setting = World(), SETTINGS[name]
    model, reference = world.policy(), world.policy()
    prompts = [each.prompt for each in make_examples(world.tokenizer, world.shard("finetune"))]
    objective: DiffROObjective | GRPOObjective
    if name == "diffro":
        config = DiffROConfig(batch_size=setting["batch"], beta=setting["beta"])
        objective = DiffROObjective(model, reference, Reward([paying]), prompts, config)
        batch = setting["batch"]
    else:
        grouped = GRPOConfig(**{k: setting[k] for k in ("prompts", "group", "beta", "advantage")})
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
        description=name,
    )


def trl(check: Check, paying: RewardModel, every: int, steps: int, folder: Path) -> None:
    """Train with TRL, on the same weights in the form of `transformers`."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig as TRLConfig
    from trl import GRPOTrainer
    from trl_policy import as_tokenizer, as_transformers, back, prompt_text

    world, setting = World(), SETTINGS["trl"]
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
        scores = payer.score([codes[i] for i in kept], spoken_by)["emotion"]
        for index, score in zip(kept, scores.tolist(), strict=True):
            found[index] = score
        return found

    class Judged(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            check.began = time.perf_counter()
            check(source, 0, {"plain": paying})

        def on_step_end(self, _: Any, state: Any, control: Any, **__: Any) -> None:
            if state.global_step % max(1, every // batch) == 0:
                back(model, source)
                control.should_training_stop = check(
                    source, state.global_step * batch, {"plain": paying}
                )

    settings = TRLConfig(
        output_dir=str(folder),
        max_steps=steps,
        learning_rate=setting["learning_rate"],
        warmup_steps=5,
        lr_scheduler_type="constant_with_warmup",
        per_device_train_batch_size=batch,
        num_generations=setting["group"],
        max_completion_length=longest,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        beta=setting["beta"],
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
    GRPOTrainer(
        model=model,
        reward_funcs=pay,
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=as_tokenizer(shape),
        callbacks=[Judged()],
    ).train()


def report(out: Path, trainers: list[str], target: float) -> None:
    """Print seconds and scored utterances to the target, and their ratios to DiffRO's."""
    found: dict[str, list[dict[str, Any]]] = {
        name: [read_json(path) for path in sorted(out.glob(f"{name}-*.json"))] for name in trainers
    }
    print(machine())
    for name, runs in found.items():
        for run in runs:
            print(name, json.dumps({k: v for k, v in run.items() if k != "points"}))
    for name in trainers:
        pairs = [
            (run, first)
            for run, first in zip(found[name], found.get("diffro", []), strict=False)
            if first["arrived"]
        ]
        for key in ("seconds", "scored"):
            logs = [torch.log(torch.tensor(run[key] / first[key])).item() for run, first in pairs]
            if name == "diffro" or not logs:
                continue
            spread = {end: float(torch.tensor(v).exp()) for end, v in run_interval(logs).items()}
            censored = sum(not run["arrived"] for run, _ in pairs)
            print(
                f"{name}/diffro {key} to judge {target}: {spread['mean']:.1f} "
                f"[{spread['low']:.1f}, {spread['high']:.1f}], {censored} of {len(pairs)} censored"
            )


def main() -> None:
    """Run every trainer for every demo; what is finished is not run again."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--demos", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--trainers", nargs="+", default=["diffro", "grpo", "trl"])
    parser.add_argument("--target", type=float, default=0.6)
    parser.add_argument("--cap", type=float, default=20.0)
    parser.add_argument("--every", type=int, default=160, help="scored utterances between checks")
    parser.add_argument("--sentences", type=int, default=4)
    given = parser.parse_args()
    runners: dict[str, Callable[..., None]] = {"trl": trl}
    for seed, demo in enumerate(given.demos):
        limit = float("inf")
        for name in given.trainers:
            path = given.out / f"{name}-{seed}.json"
            if not path.is_file():
                check = Check(name, seed, given.target, limit, given.sentences)
                paying = reward.load(demo / "reward_models" / "plain")
                folder = given.out / "runs" / f"{name}-{seed}"
                every = given.every if name == "diffro" else 4 * given.every
                if name in runners:
                    runners[name](check, paying, every, 100_000, folder)
                else:
                    ours(name, check, paying, every, 400 if name == "diffro" else 100_000, folder)
                first = check.arrived()
                last = first or check.points[-1]
                figures = {key: last[key] for key in ("seconds", "scored", "kl")}
                write_json(path, {"arrived": first is not None, **figures, "points": check.points})
            if name == "diffro":
                limit = given.cap * read_json(path)["seconds"]
    report(given.out, given.trainers, given.target)


if __name__ == "__main__":
    main()
