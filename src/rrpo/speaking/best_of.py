"""The best of several utterances of one text, chosen by the terms of a policy's reward."""

from collections.abc import Sequence
from dataclasses import dataclass

from rrpo.errors import UserError
from rrpo.policy.layout import Prompt
from rrpo.repetition import loops
from rrpo.reward import DifferentiableReward, Reward, RewardModel
from rrpo.reward.differentiable import score, weighted_sum
from rrpo.speaking.speaker import Said

MOST = 100
"""Utterances of which one may be chosen; each takes the time of one."""
WEIGHTS = {"emotion": 2.0, "content": 1.0}
"""Of the reward's terms. In training the content weighs more, since its gradient does less for the
words than a choice among utterances does."""
DETECTED = 1.0
"""Weight of log p(none) by a detector, where one is given."""


@dataclass(frozen=True)
class Choice:
    """Which of several utterances was chosen, and by how much it is better.

    Attributes:
        index: its number, from 0.
        count: how many were drawn.
        reward: its reward, in weighted nats.
        mean: the mean reward of those that have a token.
        passed_over: how many could not be chosen because they have no token, did not end by
            themselves or loop; 0 where that is true of all, and the best of them was taken.
    """

    index: int
    count: int
    reward: float
    mean: float
    passed_over: int

    def line(self) -> str:
        """Return it as the command prints it, counted from 1.

        Examples:
            >>> Choice(2, 8, -1.25, -2.5, 1).line()
            'chosen: 3 of 8, reward -1.25, mean of all -2.50; 1 did not end by itself or loops'
        """
        others = "did not end by itself or loops"
        if self.passed_over > 1:
            others = "did not end by themselves or loop"
        return (
            f"chosen: {self.index + 1} of {self.count}, reward {self.reward:.2f}, "
            f"mean of all {self.mean:.2f}"
            + (f"; {self.passed_over} {others}" if self.passed_over else "")
        )


@dataclass(frozen=True)
class BestOf:
    """Several utterances of each prompt, of which a reward chooses the best."""

    count: int
    reward: DifferentiableReward

    def of(self, prompt: Prompt, drawn: Sequence[Said]) -> Said:
        """Return the best of what was drawn, as `choose` chooses; the first if all are empty."""
        choice = choose(self.reward, prompt, drawn)
        return drawn[0 if choice is None else choice.index]


def require_count(count: int, rewards: Sequence[object]) -> None:
    """Refuse a number of utterances and rewards that do not belong together.

    Raises:
        UserError: the number is out of range, several have no reward, or one has one.
    """
    if not 1 <= count <= MOST:
        raise UserError(f"--best-of {count} is out of range: draw 1 to {MOST} utterances")
    if count > 1 and not rewards:
        raise UserError(
            f"--best-of {count} needs a --reward to choose by: name the reward model that the "
            "policy was trained against"
        )
    if count == 1 and rewards:
        raise UserError("--reward chooses among several utterances: give --best-of, such as 8, too")


def choosing_reward(models: Sequence[RewardModel]) -> Reward:
    """Return the reward that chooses, −L_ser and the content's term as `WEIGHTS` weighs them.

    The content is left out where no model has a head for it, and what a detector detects where
    none is given.

    Raises:
        UserError: no model has a head for the emotion, or they know different emotions.
    """
    weights = dict(WEIGHTS)
    if all(model.content is None for model in models):
        del weights["content"]
    if any(model.is_detector for model in models):
        weights["event"] = DETECTED
    return Reward(models, weights, form="robust")


def require_known(reward: Reward, prompt: Prompt) -> None:
    """Refuse what the reward models cannot score, before anything is drawn.

    Raises:
        UserError: a model does not know the emotion, or its content head cannot read the text.
    """
    try:
        reward.check([prompt])
    except UserError as error:
        raise UserError(f"--reward cannot score this: {error}") from None


def choose(reward: DifferentiableReward, prompt: Prompt, drawn: Sequence[Said]) -> Choice | None:
    """Choose the utterance of the highest reward.

    One that did not end by itself or loops is chosen only if all did, one without a token never.

    Returns:
        The choice; None where no utterance has a token.

    Raises:
        NotFinite: a reward is NaN or infinite.
    """
    spoken = [index for index, one in enumerate(drawn) if one.tokens.numel()]
    if not spoken:
        return None
    terms = score(reward, [drawn[index].tokens for index in spoken], [prompt] * len(spoken))
    rewards = dict(zip(spoken, weighted_sum(reward, terms).tolist(), strict=True))
    sound = [index for index in spoken if drawn[index].ended and not loops(drawn[index].tokens)]
    best = max(sound or spoken, key=rewards.__getitem__)
    mean = sum(rewards.values()) / len(rewards)
    passed_over = len(drawn) - len(sound) if sound else 0
    return Choice(best, len(drawn), rewards[best], mean, passed_over)
