"""The looks of a run: what was heard, the evidence so far, the alarm and what it does."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rrpo import policy
from rrpo.chance import own_chance
from rrpo.errors import UserError
from rrpo.files import write_json, write_text, writing
from rrpo.monitor.config import MonitorConfig
from rrpo.monitor.evidence import log_factors, log_mean, log_wealth
from rrpo.monitor.harms import HARMS, REWARD, Harm, Row, reward_rose
from rrpo.monitor.listening import BATCH, Ears, listen
from rrpo.objectives.on_policy import OnPolicy
from rrpo.policy.adapter import without_adapters
from rrpo.policy.layout import Prompt
from rrpo.policy.rollout import Rollouts, draw
from rrpo.processes import ending_together
from rrpo.run_folder import begin_folder, commit_folder
from rrpo.schedule import EarlyStopping
from rrpo.sharding import whole

LOOKS, KEPT = "monitor.jsonl", "checkpoint-kept"
"""In a run's folder: a line for each look; the weights of the last look without suspicion."""
SUSPICION = 2.0
"""Evidence of harm from which on the weights of a look are not kept."""
ROSE = 20.0
"""Evidence from which on the reward has risen."""
MOST = 1e12
"""Evidence above is written as this."""
Line = dict[str, Any]


@dataclass
class Monitor:
    """Looks at a policy in training beside the one that it began with.

    `look` is a `validate` and `pace` a `pace` of `rrpo.train.train`. All that a look depends on is
    the weights, the configuration and the lines of earlier looks, so a resumed run makes the same.

    Attributes:
        on_policy: the policy, its start, its reward.
        prompts: what is said at each look.
        ears: what listens.
        config: of the looks.
        steps: of the run.
        seed: of the looks' chance.
        folder: of the run.
        writes: False for all processes but the main one.
    """

    on_policy: OnPolicy
    prompts: Sequence[Prompt]
    ears: Ears
    config: MonitorConfig
    steps: int
    seed: int
    folder: Path
    writes: bool = True
    _lines: list[Line] | None = field(default=None, init=False)

    @property
    def planned(self) -> int:
        """How many looks there will be at most, without that of the start."""
        return math.ceil(self.steps / self.config.every)

    def pace(self, step: int) -> float:
        """Return which share of the learning rate a step takes."""
        if self.config.action != "lower":
            return 1.0
        alarms = sum(line["alarm"] for line in self._before(step))
        return float(self.config.factor**alarms)

    def look(self, step: int) -> dict[str, float]:
        """Listen after a step, act, and return the figures of the look."""
        began, lines = time.perf_counter(), self._before(step)
        with own_chance():
            start = self._said(len(lines), True)
            now = self._said(len(lines), False) if step > 0 else start
        line = {"step": step, "look": len(lines), **self._judged(now, start, lines)}
        line["seconds"] = round(time.perf_counter() - began, 2)
        self._lines = [*lines, line]
        with ending_together():
            if self.writes:
                lines_of = "".join(f"{json.dumps(one)}\n" for one in self._lines)
                write_text(self.folder / LOOKS, lines_of)
        if line["kept"] and self.config.action != "stop":
            self._keep(step)
        if self.writes and line["alarm"]:
            print(f"monitor: {line['said']}; {DOES[self.config.action]}")
        figures = {name: one["now"] for name, one in line["measures"].items()}
        told = {"harm": line["harm"], "alarm": float(line["alarm"])}
        return {f"monitor/{name}": value for name, value in (figures | told).items()}

    def _before(self, step: int) -> list[Line]:
        """Return the lines of the looks before a step."""
        if self._lines is None:
            self._lines = [one for one in read_looks(self.folder) if one["step"] < step]
            due = 0 if step == 0 else 1 + (step - 1) // self.config.every
            if len(self._lines) != due:
                raise UserError(
                    f"{self.folder / LOOKS} has {len(self._lines)} looks before step {step}, not "
                    f"{due}: put the file back from a copy, or start again in another --out"
                )
        return [one for one in self._lines if one["step"] < step]

    def _said(self, look: int, start: bool) -> list[dict[str, float]]:
        """Let the policy, or the start, speak, and measure what it says.

        Each look of each of the two has a seed of its own: evidence grows by independent chance.
        """
        entropy = np.random.SeedSequence([self.seed, look, int(start)]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(entropy[0]))
        model, device = self.on_policy.model, self.on_policy.model.head.weight.device
        rows: list[dict[str, float]] = []
        for first in range(0, len(self.prompts), BATCH):
            part = self.prompts[first : first + BATCH]
            rest = (part, self.config.rollout, generator)
            if not start:
                said = draw(model, *rest)
            elif self.on_policy.reference is not None:
                said = draw(self.on_policy.reference.to(device), *rest)
            else:
                with without_adapters(model):
                    said = draw(model, *rest)
            rows += self._heard(said, start)
        return rows

    def _heard(self, said: Rollouts, start: bool) -> list[dict[str, float]]:
        rows = listen(self.ears, self.on_policy, said)
        divergence = [0.0] * len(rows)
        if not start:
            found = self.on_policy.evaluate(said)
            divergence = (found.kl.sum(1) / found.valid.sum(1)).tolist()
        return [{**row, "kl": value} for row, value in zip(rows, divergence, strict=True)]

    def _judged(
        self, now: Sequence[Row], start: Sequence[Row], lines: Sequence[Line]
    ) -> dict[str, Any]:
        """Return what a line says of a look: figures, evidence, whether it alarms or is kept."""
        harms = [harm for harm in HARMS if harm.of in now[0]]
        factors = {REWARD: log_factors([reward_rose(*pair) for pair in _pairs(now, start)], 0.0)}
        for harm in harms:
            changes = [harm.change(*pair) for pair in _pairs(now, start)]
            margin = self.config.margins.get(harm.key, harm.margin) / harm.width
            factors[harm.key] = log_factors(changes, margin)
        earlier = _since_alarm(lines[1:]) if self.config.action == "lower" else lines[1:]
        tested = [*earlier, {"factors": factors}] if lines else []  # the start is not tested
        left = self.planned - len(lines[1:]) + len(earlier)
        wealth = {key: _wealth(tested, key, left) for key in factors}
        harm_wealth = log_mean([wealth[harm.key] for harm in harms])
        rose = wealth[REWARD] >= math.log(ROSE)
        evidence = harm_wealth if rose else min(harm_wealth, 0.0)
        past = self.config.action != "lower" and any(one["alarm"] for one in lines)
        alarm = evidence >= -math.log(self.config.false_alarm) and not past
        # After an alarm the test begins again, but what was harmed before it still is.
        every = [*lines[1:], {"factors": factors}] if lines else []
        since_start = log_mean([_wealth(every, harm.key, self.planned) for harm in harms])
        measures = _measures(harms, now, start, wealth)
        said = _said(measures, harms, wealth, lines, self.config) if alarm else ""
        return {
            "evidence": _plain(evidence),
            "harm": _plain(harm_wealth),
            "alarm": alarm,
            "kept": not (alarm or past) and since_start < math.log(SUSPICION),
            "said": said,
            "measures": measures,
            "factors": {key: list(map(float, found)) for key, found in factors.items()},
        }

    def _keep(self, step: int) -> None:
        """Keep the weights; of a sharded model every process holds a part."""
        target = self.folder / KEPT
        with whole(self.on_policy.model), ending_together(), writing(target):
            if not self.writes:
                return
            fresh = begin_folder(target)
            policy.save(self.on_policy.model, fresh)
            write_json(fresh / "training.json", {"step": step, "finished": False})
            commit_folder(target)


DOES = {
    "warn": f"the run goes on, and {KEPT} holds the weights of the last look without suspicion",
    "stop": "the run ends with the weights of the last look without suspicion",
    "lower": "the learning rate is lowered",
}
"""What an alarm does, in words."""


@dataclass(frozen=True)
class AlarmStop(EarlyStopping):
    """Stop at an alarm; the weights of the last look without suspicion become the result.

    Without an alarm the result is the weights of the last step.
    """

    metric: str = "monitor/harm"
    patience: int = 0

    def __call__(self, history: list[dict[str, Any]]) -> bool:
        """Say whether the last look raised an alarm."""
        return bool(history[-1]["monitor/alarm"])

    def improved(self, history: list[dict[str, Any]]) -> bool:
        """Say whether the weights of the last look are to be kept."""
        look = history[-1]
        return look[self.metric] < SUSPICION and not look["monitor/alarm"]

    def takes_best(self, history: list[dict[str, Any]]) -> bool:
        """Say whether the weights that were kept are the result of a training that has ended."""
        return bool(history[-1]["monitor/alarm"])


def read_looks(folder: Path) -> list[Line]:
    """Return the looks of a run; none where it did not listen to itself.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / LOOKS
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): put it back from a copy") from None


def _pairs(now: Sequence[Row], start: Sequence[Row]) -> list[tuple[Row, Row]]:
    return list(zip(now, start, strict=True))


def _wealth(looks: Sequence[Line], key: str, planned: int) -> float:
    return log_wealth([one["factors"][key] for one in looks], planned)


def _since_alarm(lines: Sequence[Line]) -> list[Line]:
    """Return the lines after the last alarm: after each the test begins again."""
    last = max((place for place, one in enumerate(lines) if one["alarm"]), default=-1)
    return list(lines[last + 1 :])


def _measures(
    harms: Sequence[Harm], now: Sequence[Row], start: Sequence[Row], wealth: Mapping[str, float]
) -> dict[str, Any]:
    """Return of each figure its mean now and at the start, and the greatest evidence of harm."""
    found = {}
    for name in now[0]:
        proofs = [wealth[harm.key] for harm in harms if harm.of == name]
        proofs += [wealth[REWARD]] if name == REWARD else []
        found[name] = {
            "now": float(np.mean([row[name] for row in now])),
            "start": float(np.mean([row[name] for row in start])),
            "evidence": _plain(max(proofs)),
        }
    return found


def _said(
    measures: Mapping[str, Any],
    harms: Sequence[Harm],
    wealth: Mapping[str, float],
    lines: Sequence[Line],
    config: MonitorConfig,
) -> str:
    """Return the line of an alarm: what rose, what fell, since which step, how sure it is."""
    threshold = -math.log(config.false_alarm)
    worst = max(wealth[harm.key] for harm in harms)
    named = [harm for harm in harms if wealth[harm.key] >= min(threshold, worst)]
    named.sort(key=lambda harm: -wealth[harm.key])
    parts = [
        f"{harm.phrase} {'fell' if harm.falls else 'rose'} from {measures[harm.of]['start']:.2f} "
        f"to {measures[harm.of]['now']:.2f}"
        for harm in named
    ]
    reward = measures[REWARD]
    kept = max((one["step"] for one in lines if one["kept"]), default=0)
    return (
        f"the reward rose from {reward['start']:.2f} to {reward['now']:.2f} while "
        f"{', '.join(parts)} (a false alarm at most once in {1 / config.false_alarm:g} runs; "
        f"without suspicion last at step {kept})"
    )


def _plain(log: float) -> float:
    """Return evidence from its logarithm, as JSON can hold it."""
    return float(f"{min(MOST, math.exp(min(log, 700.0))):.6g}")
