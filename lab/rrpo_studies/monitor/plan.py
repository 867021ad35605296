"""Which runs the study of the monitor makes, and how much of everything."""

from dataclasses import dataclass

from rrpo import config as configuration
from rrpo.objectives.grpo import GRPOConfig
from rrpo.policy_runs import DiffRORun, GRPORun
from rrpo.presets import preset


@dataclass(frozen=True)
class Kind:
    """A kind of run.

    Attributes:
        title: as the page names it.
        reward_model: what is paid for; one of `REWARD_MODELS`.
        hacked: whether it is made to be hacked.
        settings: over the recommended preset of DiffRO.
        length: paid for length, too, by policy gradient: DiffRO's gradient does not reach it.
    """

    title: str
    reward_model: str
    hacked: bool = False
    settings: tuple[str, ...] = ()
    length: bool = False


FREE = ("diffro.beta=0.0", "rewards={emotion: 1.0}", "train.learning_rate=3e-4")
"""Nothing holds the policy: no KL, no content, three times the learning rate."""
HELD = ("diffro.beta=0.3",)
"""Three times the recommended pull to the start."""
KINDS = {
    "rrpo": Kind("RRPO, held to its SFT", "hardened", settings=HELD),
    "diffro": Kind("DiffRO, held to its SFT", "plain", settings=HELD),
    "planted": Kind("clicks planted, no KL", "planted", True, FREE),
    "no_kl": Kind("no KL", "plain", True, FREE),
    "length": Kind("length paid, no KL", "plain", True, FREE, length=True),
}
REWARD_MODELS = {
    "plain": "plain",
    "hardened": "ls_eam_adv",
    "planted": "plain",
    "second": "plain",
}
"""Name of a reward model in the study → its regularizers; the second is of another seed."""
PLANTED_IN = "surprised"


@dataclass(frozen=True)
class Plan:
    """How much of everything.

    Attributes:
        healthy: runs of each healthy kind.
        hacked: runs of each hacked kind.
        reward_steps, sft_steps: of what is made beforehand; 0: the bundled one.
        steps: of a run.
        every, sentences: of its looks.
        heard: sentences of which the quality is judged at each look, none of them trained on.
        words: whether words are recognised for that.
        batch_size: of a step; None: the preset's.
    """

    healthy: int = 10
    hacked: int = 7
    reward_steps: int = 240
    sft_steps: int = 75
    steps: int = 60
    every: int = 10
    sentences: int = 4
    heard: int = 4
    words: bool = True
    batch_size: int | None = None

    @property
    def small(self) -> bool:
        """Whether it takes what is bundled and trains nothing beforehand."""
        return self.sft_steps == 0

    def names(self) -> list[str]:
        """Return every run by its kind and seed, such as rrpo-3; the kinds take turns."""
        counts = {
            name: self.hacked if kind.hacked else self.healthy for name, kind in KINDS.items()
        }
        most = max(counts.values())
        return [f"{name}-{n}" for n in range(most) for name in KINDS if n < counts[name]]


FULL = Plan()
SMOKE = Plan(1, 1, 0, 0, 1, 1, 1, 1, words=False, batch_size=2)


def kind_of(name: str) -> Kind:
    """Return the kind of a run by its name."""
    return KINDS[name.rpartition("-")[0]]


def run_config(plan: Plan, name: str, second: list[str]) -> DiffRORun | GRPORun:
    """Return the configuration of a run; it only warns, so that every threshold can be tried."""
    kind, seed = kind_of(name), int(name.rpartition("-")[2])
    options = [
        *kind.settings,
        f"train.steps={plan.steps}",
        f"train.warmup_steps={min(5, plan.steps)}",
        "train.average_from=null",
        f"train.seed={seed}",
        "train.report_to=none",
        "train.threads=1",
        f"monitor.every={plan.every}",
        f"monitor.sentences={plan.sentences}",
        f"monitor.second=[{', '.join(second)}]",
    ]
    if plan.batch_size is not None:
        options.append(f"diffro.batch_size={plan.batch_size}")
    run = configuration.load(DiffRORun, None, options, preset("diffro", "recommended"))
    if not kind.length:
        return run
    group = min(4, run.diffro.batch_size)
    grpo = GRPOConfig(prompts=run.diffro.batch_size // group, group=group, beta=0.0)
    return GRPORun(train=run.train, monitor=run.monitor, grpo=grpo)
