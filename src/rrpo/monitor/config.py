"""How a run listens to itself."""

from typing import Literal

import pydantic
from pydantic import Field

from rrpo.config import Strict
from rrpo.monitor.harms import HARMS
from rrpo.policy.rollout import RolloutConfig


class MonitorConfig(Strict):
    """When a run listens to itself, to what, and what an alarm does.

    At a look the policy and the policy that the run began with say `sentences` texts of the data
    with every emotion, drawn as `rollout` says and with chance of its own.

    Attributes:
        every: steps from one look to the next; 0: none.
        sentences: different texts, the first of the data.
        action: of an alarm: "warn" says it, "stop" ends the run with the weights that were kept,
            "lower" takes `factor` of the learning rate from then on, and once more at each further
            alarm.
        false_alarm: the greatest probability that a run raises an alarm though no harm is greater
            than its margin.
        second: reward models that the policy is not trained on: their emotion and content heads
            are asked, too.
        words: whether a recogniser listens; it takes most of the time of a look.
        voice: CosyVoice: a recording whose voice speaks at looks; without one there is no audio.
        margins: how much each harm may grow, in its own unit, where that is not the default.
    """

    every: int = Field(0, ge=0)
    sentences: int = Field(4, ge=1)
    action: Literal["warn", "stop", "lower"] = "warn"
    false_alarm: float = Field(0.01, gt=0, lt=1)
    second: list[str] = Field(default_factory=list)
    words: bool = False
    voice: str | None = None
    factor: float = Field(0.5, gt=0, lt=1)
    margins: dict[str, float] = Field(default_factory=dict)
    rollout: RolloutConfig = RolloutConfig(temperature=0.8, top_k=25)

    @pydantic.model_validator(mode="after")
    def _known(self) -> "MonitorConfig":
        known = {harm.key: harm for harm in HARMS}
        for name, margin in self.margins.items():
            if name not in known:
                raise ValueError(f"margins: there is no {name!r}: one of {', '.join(known)}")
            if not 0 <= margin < known[name].width:
                raise ValueError(
                    f"margins.{name}: {margin:g} is not from 0 to under {known[name].width:g}"
                )
        if self.rollout.engine != "own":
            raise ValueError("rollout.engine: at looks the policy draws by itself: leave it out")
        return self
