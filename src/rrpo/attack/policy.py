"""The policy itself as an attack: what DiffRO says when this reward model alone pays for it."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from rrpo.attack.goal import Outcome
from rrpo.errors import TrainingInterrupted
from rrpo.objectives.diffro import DiffROConfig
from rrpo.policy import SpeechTokenLM
from rrpo.policy.layout import Example, Prompt
from rrpo.policy_runs import DiffRORun
from rrpo.reward import RewardModel
from rrpo.reward.posteriors import log_posteriors
from rrpo.runs import train_on_policy
from rrpo.schedule import TrainConfig
from rrpo.speaking.mini import SPEAKING, draw

RECENT = 5
"""Steps over which the KL is averaged before it is compared with its limit."""


@dataclass(frozen=True, eq=False)
class Start:
    """What a policy is trained from.

    Attributes:
        policy: stays as it is.
        examples: what it is asked for in training.
        asked: N, the text of each attacked utterance with the emotion that is wanted of it.
    """

    policy: SpeechTokenLM
    examples: Sequence[Example]
    asked: Sequence[Prompt]


def by_policy(
    model: RewardModel, start: Start, steps: int, kl: float, seed: int
) -> tuple[dict[str, Outcome], float]:
    """Train a policy on the reward model alone and let it say what is wanted; before it, the start.

    The reward is the log-posterior of the emotion, without words, and next to nothing holds the
    policy back, until its KL to the start, the mean of the last five steps, reaches a limit: so
    policies trained on different reward models have gone equally far.

    Args:
        model: the reward model.
        start: of the training.
        steps: at most.
        kl: the limit in nats per token.
        seed: of the training and of what is said.

    Returns:
        "said by the start" and "said by a policy trained on it", and the KL that it has reached.
    """
    policy, distances = deepcopy(start.policy), list[float]()
    known = model.classes()
    examples = [one for one in start.examples if one.prompt.emotion in known]

    def enough(_: int, figures: Mapping[str, float]) -> bool:
        distances.append(figures["kl"])
        return len(distances) >= RECENT and mean(distances[-RECENT:]) >= kl

    with TemporaryDirectory() as folder:
        try:
            train_on_policy(
                policy,
                deepcopy(start.policy),
                [model],
                examples,
                settings(steps, seed),
                Path(folder) / "run",
                callbacks=[enough],
                description="",
            )
        except TrainingInterrupted:  # its folder is gone: there is nothing to go on with
            raise KeyboardInterrupt from None
    trained = _said(model, policy, start.asked, seed, 1 + len(distances))
    found = {
        "said by the start": _said(model, start.policy, start.asked, seed, 1),
        "said by a policy trained on it": trained,
    }
    return found, mean(distances[-RECENT:])


def settings(steps: int, seed: int) -> DiffRORun:
    """Return the configuration of the training: DiffRO on the policy's own draws."""
    return DiffRORun(
        train=TrainConfig(
            steps=steps, learning_rate=2e-4, warmup_steps=5, schedule="constant", seed=seed
        ),
        diffro=DiffROConfig(
            beta=0.01, kl_reduction="mean", reward_form="log_posterior", rollout=SPEAKING
        ),
        rewards={"emotion": 1.0},
    )


@torch.no_grad()
def _said(
    model: RewardModel, policy: SpeechTokenLM, asked: Sequence[Prompt], seed: int, passes: int
) -> Outcome:
    policy.eval()
    tokens: list[Tensor] = [one.tokens for one in draw(policy, asked, seed)]
    return Outcome(log_posteriors(model, tokens), tokens, passes)
