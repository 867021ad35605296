"""How large the adversarial step is beside what it is added to, and by how much it raises the loss.

    python scripts/adversarial_step.py seeds/seed-*/reward_models/{plain,ls_eam_adv} > step.json

For each folder of a reward model, on held-out rows of the mini world, h' is moved by
delta = epsilon g / ||g|| along the gradient g of the cross-entropy, as adversarial training does,
in the encoder's frames or (`--at pooled`) in the pooled vector. Printed as JSON are the means of
||delta|| / ||h'|| and of the cross-entropy at h' + delta less that at h', in nats. Folders of one
name are trainings of one kind with several seeds: intervals (Student, 95 %) are over these.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch

from rrpo import reward
from rrpo.data.shards import Utterance
from rrpo.evaluate.matched import run_interval
from rrpo.evaluate.ser import scored_rows
from rrpo.interval import Interval
from rrpo.mini.world import World
from rrpo.reward import RewardModel
from rrpo.reward.config import LossConfig
from rrpo.reward.regularize import emotion_loss
from rrpo.tokens import length_mask, pad

EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0)


@torch.no_grad()
def steps(
    model: RewardModel,
    utterances: Sequence[Utterance],
    at: Literal["frames", "pooled"],
    batch_size: int = 64,
) -> dict[float, tuple[float, float]]:
    """Return epsilon → mean of ||delta|| / ||h'|| and mean rise of the cross-entropy in nats."""
    rows, _ = scored_rows(model, utterances)
    known = model.eval().classes()
    sums = {epsilon: torch.zeros(2) for epsilon in EPSILONS}
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        labels = torch.tensor([known.index(row.emotion) for row in part])
        targets = torch.nn.functional.one_hot(labels, len(known)).float()
        mask = length_mask(torch.tensor([row.tokens.size for row in part]))
        tokens = pad([torch.from_numpy(row.tokens) for row in part])
        hidden = model.encode(model.embed(tokens), mask)
        for epsilon in EPSILONS:
            constants = LossConfig(
                adversarial_at=at, adversarial_epsilon=epsilon, adversarial_weight=1.0
            )
            found = emotion_loss(model, hidden, mask, targets, constants)
            assert found.adversarial is not None
            assert found.delta_ratio is not None
            rise = found.adversarial - found.emotion
            sums[epsilon] += torch.stack([found.delta_ratio.sum(), rise.sum()])
    return {epsilon: (*(total / len(rows)).tolist(),) for epsilon, total in sums.items()}


def pooled_over_seeds(
    found: Sequence[dict[float, tuple[float, float]]],
) -> dict[str, dict[str, Interval]]:
    """Return epsilon → both figures with their intervals over the trainings of one kind."""
    return {
        f"{epsilon:g}": {
            "size": run_interval([one[epsilon][0] for one in found]),
            "rise": run_interval([one[epsilon][1] for one in found]),
        }
        for epsilon in EPSILONS
    }


def main() -> None:
    """Measure the reward models in some folders."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folders", type=Path, nargs="+", help="runs of reward models")
    parser.add_argument("--rows", default="test_same", help="shard of the bundled world")
    parser.add_argument("--at", choices=("frames", "pooled"), default="frames")
    given = parser.parse_args()
    rows = World().shard(given.rows)
    kinds: dict[str, list[Path]] = {}
    for folder in given.folders:
        kinds.setdefault(folder.resolve().name, []).append(folder)
    found = {
        kind: {
            "trainings": len(folders),
            "utterances": len(rows),
            "epsilon": pooled_over_seeds(
                [steps(reward.load(one), rows, given.at) for one in folders]
            ),
        }
        for kind, folders in kinds.items()
    }
    print(json.dumps(found, indent=1, default=asdict))


if __name__ == "__main__":
    main()
