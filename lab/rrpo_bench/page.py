"""Every benchmark on one page of markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from rrpo.interval import MISSING, cell
from rrpo.report import markdown
from rrpo_bench.measure import Measurement

TITLES = {
    "step": "DiffRO step",
    "teacher_forced": "its pass with gradient, reference and reward",
    "history": "DiffRO step on recorded tokens over one that draws its own",
    "rollout": "rollout",
    "relaxation": "KL, log-probabilities and relaxation in chunks",
    "hardening": "step of the hardened reward model",
}
INTRODUCTION = """\
# Benchmarks

`{command}` wrote this page on {machine}.
Every ratio is of two things done in turns in one run, with its 95 % interval over the pairs
(Student's, on logarithms); weights are random unless a run is named. What the figures mean, what
was aimed at and what was missed: [performance.md](performance.md).
"""
GRADIENT = """\
## The gradient of each estimator

{utterances} utterances of the policy `{policy}`; the reference is RLOO, which is unbiased, on these
and more. *Cosine* and *error* (‖E estimate − E RLOO‖ / ‖E RLOO‖) are of expectations, with
95 % intervals by jackknife over blocks; *noise* is the standard deviation of one utterance's
gradient over the length of its expectation. "–": nothing but noise.
"""


def page(
    speed: Sequence[Measurement],
    gradients: Mapping[str, Mapping[str, Mapping[str, Any]]],
    policy: str,
    utterances: int,
    command: str,
) -> str:
    """Return the page.

    Args:
        speed: from `speed.measure`.
        gradients: from `gradient.audit`, by the name of the reward.
        policy: whose rollouts were audited.
        utterances: how many.
        command: that made it.
    """
    lines = [INTRODUCTION.format(command=command, machine=speed[0].machine), "## Speed", ""]
    ratios = [(_title(one.name), [f"{one.interval:.3g}", one.unit]) for one in speed]
    lines += markdown.table("", ["ratio", ""], ratios)
    lines += ["", GRADIENT.format(policy=policy, utterances=utterances)]
    for reward, kinds in gradients.items():
        rows = [(f"`{kind}`", _compared(found)) for kind, found in kinds.items()]
        lines += markdown.table(f"reward `{reward}`", ["cosine", "error", "noise"], rows)
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _title(name: str) -> str:
    kind, _, detail = name.partition("/")
    return f"{TITLES[kind]} ({detail})" if detail else TITLES[kind]


def _compared(found: Mapping[str, Any]) -> list[str]:
    noise = MISSING if found["noise"] is None else f"{found['noise']:.1f}"
    return [cell(found.get("cosine"), ".3g"), cell(found.get("error"), ".3g"), noise]
