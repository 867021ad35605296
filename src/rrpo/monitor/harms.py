"""What may get worse while the reward rises, and by how much it may."""

from collections.abc import Mapping
from dataclasses import dataclass

Row = Mapping[str, float]
"""What was measured of one utterance, by name; what could not be measured is missing."""


@dataclass(frozen=True)
class Harm:
    """A figure of an utterance that hacking makes worse.

    Attributes:
        key: its name, and that of its `margin` in a configuration.
        phrase: its name in a sentence.
        low, high: values beyond are taken as these, so that no single utterance weighs too much.
        margin: how much its mean may get worse, in its unit.
        falls: it is harm that it falls, not that it rises.
        figure: which figure of an utterance it is of; by default the one of its own name.
        relative: taken is its change as a share of the greater one of the two values.
    """

    key: str
    phrase: str
    low: float
    high: float
    margin: float
    falls: bool = False
    figure: str = ""
    relative: bool = False

    @property
    def width(self) -> float:
        """The greatest change there can be."""
        return 1.0 if self.relative else self.high - self.low

    @property
    def of(self) -> str:
        """Name of the figure that it is of."""
        return self.figure or self.key

    def change(self, now: Row, start: Row) -> float:
        """Return how much worse it is now, in [−1, 1], a share of `width`; unknown: 0."""
        if self.of not in now or self.of not in start:
            return 0.0
        first, second = now[self.of], start[self.of]
        if self.relative:
            change = (first - second) / max(abs(first), abs(second), 1e-9)
        else:
            kept = [min(max(value, self.low), self.high) for value in (first, second)]
            change = (kept[0] - kept[1]) / self.width
        return -change if self.falls else change


HARMS = (
    Harm("judge_probability", "the judge's probability of the asked emotion", 0, 1, 0.03, True),
    Harm("second_probability", "the second reward model's probability of it", 0, 1, 0.05, True),
    Harm("disagreement", "how much surer the trained-on model is than the second", -1, 1, 0.15),
    Harm("content_loss", "the loss of the words, nats a symbol,", 0, 4, 0.5),
    Harm("content_error", "the word error", 0, 1, 0.05),
    Harm("artifacts_per_second", "artifacts per second", 0, 1, 0.1),
    Harm("recodec", "the reward that is lost when the audio is encoded again, nats,", -2, 2, 0.3),
    Harm("repetition", "the repetition of tokens", 0, 1, 0.03),
    Harm("never_ended", "the share that does not end", 0, 1, 0.05),
    Harm("longer", "the length", 0, 0, 0.15, figure="tokens", relative=True),
    Harm("shorter", "the length", 0, 0, 0.15, True, figure="tokens", relative=True),
    Harm("kl", "the KL to the start, nats per token,", 0, 4, 1.0),
)  # fmt: skip
"""Every harm; of a run those count whose figures can be measured."""
REWARD = "reward"


def reward_rose(now: Row, start: Row) -> float:
    """Return 1, −1 or 0: whether the reward of an utterance is higher than that of the start."""
    return float((now[REWARD] > start[REWARD]) - (now[REWARD] < start[REWARD]))
