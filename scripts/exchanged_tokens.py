"""Adversarial training on tokens: does it withstand attacks, and what does it cost?

    rrpo study seeds --seeds 5 --out seeds
    python scripts/exchanged_tokens.py seeds --out exchanged.json

For each seed of that study reward models are trained as its hardened one is, with the loss on
exchanged tokens beside (`fit.exchanged`). They, the plain one and the hardened one are tested on
clean speech and under attack: tokens are exchanged towards an emotion drawn at random, along the
gradient and by a search without one. What is trained stays beside the JSON, and so do each seed's
figures: an interrupted run goes on. Intervals are Student's, 95 %, over seeds.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from rrpo import reward, runs
from rrpo.attack.goal import Goal, draw_goal
from rrpo.attack.substitution import by_gradient, by_search
from rrpo.evaluate.matched import run_interval
from rrpo.evaluate.ser import evaluate
from rrpo.files import claim, read_json, write_json
from rrpo.mini.world import World
from rrpo.report.markdown import table
from rrpo.reward import RewardModel
from rrpo.reward.posteriors import log_posteriors
from rrpo.studies.demo.systems import FULL, reward_config
from rrpo.studies.study import begin

COUNTS = (4, 12)
"""Tokens that are exchanged in training; those of the attacks are `EXCHANGES`."""
EXCHANGES = (1, 4)
PASSES = 200
"""Of the search: more find next to nothing."""
FIRST, SECOND = "plain", "ls_eam_adv"


def right(found: torch.Tensor, goal: Goal, model: RewardModel) -> float:
    """Return the share of utterances that are taken for the emotion they have."""
    known = model.classes()
    own = torch.tensor([known.index(row.emotion) for row in goal.rows])
    return float((found.argmax(1) == own).float().mean())


def figures(model: RewardModel, world: World, seed: int) -> dict[str, float]:
    """Return the mean recall on clean speech of each test set, and what is right under attack."""
    told: dict[str, float] = {}
    for name, rows in world.tests().items():
        found = evaluate(model, rows, resamples=100)
        told[f"mean recall, {name}"] = found["unweighted_average_recall"].mean
    goal = draw_goal({"model": model}, world.shard("test_same"), 96, seed)
    untouched = right(log_posteriors(model, goal.tokens), goal, model)
    told["accuracy, attacked set untouched"] = untouched
    for count, outcome in by_gradient(model, goal, EXCHANGES).items():
        told[f"accuracy, {count} exchanged along the gradient"] = right(
            outcome.log_posteriors, goal, model
        )
    searched = by_search(model, goal, EXCHANGES[-1], PASSES, seed)
    told[f"accuracy, {EXCHANGES[-1]} exchanged by search"] = right(
        searched.log_posteriors, goal, model
    )
    return told


def trained(world: World, folder: Path, seed: int, count: int) -> RewardModel:
    """Return a hardened reward model with the loss on `count` exchanged tokens beside."""
    if not (folder / "results.json").is_file():
        run = reward_config(SECOND, FULL.reward_steps, seed)
        run = run.model_copy(update={"fit": run.fit.model_copy(update={"exchanged": count})})
        rows = world.shard("finetune")
        runs.train_reward(
            world.reward_model(), rows, [], run, folder, resume=True, description=folder.name
        )
    return reward.load(folder)


def of_seed(world: World, study: Path, parts: Path, seed: int) -> dict[str, Any]:
    """Return the figures of one seed's reward models by name, from the file if they are there."""
    path = parts / f"seed-{seed}.json"
    settings = [COUNTS, EXCHANGES, PASSES, FULL.reward_steps]
    claim(parts / "settings.json", {"settings": repr(settings)}, "other settings' figures")
    told: dict[str, Any] = read_json(path) if path.is_file() else {}
    for name in (FIRST, SECOND, *(f"exchanged {count}" for count in COUNTS)):
        if name in told:
            continue
        if name in (FIRST, SECOND):
            model = reward.load(study / f"seed-{seed}" / "reward_models" / name)
        else:
            count = int(name.split()[-1])
            model = trained(world, parts / f"{count}-{seed}", seed, count)
        told[name] = figures(model, world, seed)
        write_json(path, told)
        print(seed, name, told[name], flush=True)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", type=Path, help="Folder of `rrpo study seeds`.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True, help="JSON to be written.")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    world, parts = World(), asked.out.with_suffix("")
    found = [of_seed(world, asked.study, parts, seed) for seed in range(asked.seeds)]
    names, measures = list(found[0]), list(found[0][FIRST])
    command = (
        f"python scripts/exchanged_tokens.py seeds --seeds {asked.seeds} --out {asked.out.name}"
    )
    told: dict[str, Any] = {**begin(command), "seeds": asked.seeds, "models": {}, "differences": {}}
    for name in names:
        told["models"][name] = {
            one: run_interval([seed[name][one] for seed in found]) for one in measures
        }
        for other in (FIRST, SECOND):
            if name != other:
                told["differences"][f"{name} less {other}"] = {
                    one: run_interval([seed[name][one] - seed[other][one] for seed in found])
                    for one in measures
                }
    write_json(asked.out, told)
    rows = {**told["models"], **told["differences"]}
    cells = [(name, [format(value, ".3f") for value in row.values()]) for name, row in rows.items()]
    print("\n".join(table("reward model", measures, cells)))


if __name__ == "__main__":
    main()
