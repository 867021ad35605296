"""The reward models and the policies that the planted study trains: the paper's, and cures."""

from dataclasses import dataclass, replace
from typing import Literal

from rrpo import config as configuration
from rrpo import policy_runs
from rrpo.objectives.grpo import GRPOConfig
from rrpo.policy.rollout import RolloutConfig
from rrpo.presets import preset
from rrpo.reward.config import RewardRun, subsets
from rrpo.reward.detector import DetectorRun
from rrpo.reward.reward import Form
from rrpo.studies.demo.systems import FULL as DEMO
from rrpo.studies.demo.systems import reward_config, sft_config

WHOLE = RolloutConfig(temperature=1.0, top_k=0)
"""The policies are trained and heard on their whole distribution: cut to its 25 likeliest tokens
and cooled to .8, as the demo speaks, it hardly says what is rare, and the start clicks never."""
AUGMENTED = "augmented"
"""Beside a model's regularizers: every utterance once more, with the artifact, whatever its label.
The correlation falls, from .95 to .36, but is not gone."""
BALANCED = "balanced"
"""Beside a model's regularizers: in every emotion half of the utterances have the artifact, by
inserting it and by repeating the few that lack it: at a correlation of .95, 4 of 100. It takes
knowing which have it, and at a correlation of 1 it cannot be done."""
EXCHANGED = "exchanged"
"""Beside a model's regularizers: the loss on utterances of which tokens are exchanged is added,
`fit.exchanged`. It takes knowing how much of an utterance an artifact may change, and no more."""
COUNT = 12
"""How many are exchanged; of an utterance's 58 tokens five clicks change fifteen."""
AGAIN = "again"
"""With a number, a further training of the same model on the same data."""
HARDENED = "ls_eam_adv"
REWARD_MODELS = (
    *subsets(),
    *(AUGMENTED, BALANCED, EXCHANGED),
    *(f"{HARDENED}_{cure}" for cure in (AUGMENTED, BALANCED, EXCHANGED)),
)
"""Reward models by the names of their regularizers."""
TITLES = {
    "plain": "plain",
    "ls": "LS",
    "eam": "EAM",
    "adv": "Adv",
    AUGMENTED: "artifacts in every class",
    BALANCED: "artifacts in half of every class",
    EXCHANGED: "exchanged tokens",
}


WORDS = 2.5
"""Weight of the words beside that of the emotion, as in the recommended settings."""


@dataclass(frozen=True)
class Policy:
    """A policy to train.

    Attributes:
        title: as the page names it.
        reward_model: what it is trained against.
        form: of the emotion's reward.
        method: how it is trained; "best_of" is the start, of whose utterances the reward chooses.
        event: weight of log p(no artifact) by a detector that was trained on speech with the
            artifact and without, in all emotions alike.
        planted: whether its reward models' data is; else it is the control: what it says of the
            artifact comes of moving away from the start, and not of a reward for it.
        members: of an ensemble, reward models that differ in the seed of their training and share
            their data; its reward is their mean less their standard deviation.
        after: an earlier policy, of whose own speech the detector learns, too; "": of none.
        content: weight of the words, by the bundled content head.
        times: how many times the plan's steps it takes.
        odds: by how much likelier than in its data the detector takes the artifact to be.
    """

    title: str
    reward_model: str
    form: Form = "robust"
    method: Literal["diffro", "grpo", "rloo", "best_of"] = "diffro"
    event: float = 0.0
    planted: bool = True
    members: int = 1
    after: str = ""
    content: float = 0.0
    times: int = 1
    odds: float = 1.0


POLICIES = {
    "diffro": Policy("DiffRO on plain", "plain", "log_posterior"),
    "control": Policy(
        "DiffRO on plain without correlation", "plain", "log_posterior", planted=False
    ),
    "hardened": Policy("DiffRO on LS+EAM+Adv", HARDENED, "log_posterior"),
    "rrpo": Policy("RRPO on LS+EAM+Adv", HARDENED),
    "rrpo_augmented": Policy(
        "RRPO on LS+EAM+Adv, artifacts in every class", f"{HARDENED}_{AUGMENTED}"
    ),
    "rrpo_balanced": Policy(
        "RRPO on LS+EAM+Adv, artifacts in half of every class", f"{HARDENED}_{BALANCED}"
    ),
    "rrpo_exchanged": Policy("RRPO on LS+EAM+Adv, exchanged tokens", f"{HARDENED}_{EXCHANGED}"),
    "rrpo_ensemble": Policy("RRPO on three LS+EAM+Adv, cautiously", HARDENED, members=3),
    "rrpo_detector": Policy("RRPO on LS+EAM+Adv, with a detector", HARDENED, event=1.0),
    "rrpo_balanced_detector": Policy(
        "RRPO on LS+EAM+Adv, artifacts in half of every class, with a detector",
        f"{HARDENED}_{BALANCED}",
        event=1.0,
    ),
    "rrpo_balanced_detector_3": Policy(
        "RRPO on LS+EAM+Adv, artifacts in half of every class, with a detector of weight 3",
        f"{HARDENED}_{BALANCED}",
        event=3.0,
    ),
    "rrpo_second_round": Policy(
        "RRPO on LS+EAM+Adv, artifacts in half of every class, with a detector of weight 3 that "
        "heard the policy before",
        f"{HARDENED}_{BALANCED}",
        event=3.0,
        after="rrpo_balanced_detector_3",
    ),
    "diffro_words": Policy(
        "DiffRO on plain, words rewarded", "plain", "log_posterior", content=WORDS
    ),
    **{
        f"rrpo_cured_words{name}": Policy(
            "RRPO on LS+EAM+Adv, artifacts in half of every class, with a detector of weight "
            f"{weight:g}, words rewarded",
            f"{HARDENED}_{BALANCED}",
            event=weight,
            content=WORDS,
        )
        for name, weight in {"": 3.0, "_10": 10.0, "_20": 20.0}.items()
    },
    "rrpo_cured_words_20_long": Policy(
        "RRPO on LS+EAM+Adv, artifacts in half of every class, with a detector of weight 20, words "
        "rewarded, twice the steps",
        f"{HARDENED}_{BALANCED}",
        event=20.0,
        content=WORDS,
        times=2,
    ),
    "rrpo_cured_words_odds": Policy(
        "RRPO on LS+EAM+Adv, artifacts in half of every class, with a detector of weight 3 and "
        "odds 8, words rewarded, twice the steps",
        f"{HARDENED}_{BALANCED}",
        event=3.0,
        content=WORDS,
        times=2,
        odds=8.0,
    ),
    "grpo": Policy("GRPO on plain", "plain", "log_posterior", "grpo"),
    "rloo": Policy("RLOO on plain", "plain", "log_posterior", "rloo"),
    "best_of": Policy("best of 32 of the start, by plain", "plain", "log_posterior", "best_of"),
}
"""Policies by name; the first is what the others are compared with, the second the control."""
GRPO_BETA = 0.004
"""In place of .2: GRPO divides an utterance's reward by its tokens, some 58, and by the deviation
of its group, some one nat, and the others do not."""
COUNTS = (1, 2, 4, 8, 16, 32)
"""Of how many utterances the best is taken, from look to look, where the method is "best_of"."""


def start_run(steps: int, seed: int) -> policy_runs.SFTRun:
    """Return the settings of the start's training."""
    return sft_config(replace(DEMO, sft_steps=steps), seed)


def member(model: str, number: int) -> str:
    """Name a member of an ensemble: the model itself, and others of the same data.

    Examples:
        >>> member("ls_adv", 0), member("ls_adv", 2)
        ('ls_adv', 'ls_adv_again2')
    """
    return f"{model}_{AGAIN}{number}" if number else model


def reward_run(model: str, steps: int, seed: int) -> RewardRun:
    """Return the settings of a reward model's training."""
    parts = model.split("_")
    if parts[-1].startswith(AGAIN):
        seed += 1000 * int(parts[-1].removeprefix(AGAIN))
    regularizers = "_".join(one for one in parts if one in ("ls", "eam", "adv")) or "plain"
    run = reward_config(regularizers, steps, seed)
    if EXCHANGED in parts:
        run = run.model_copy(update={"fit": run.fit.model_copy(update={"exchanged": COUNT})})
    return run


def detector_run(steps: int, seed: int) -> DetectorRun:
    """Return the settings of a detector's training."""
    run = DetectorRun()
    told = {
        "steps": steps,
        "warmup_steps": min(run.train.warmup_steps, steps),
        "seed": seed,
        "report_to": "none",
        "threads": 1,
    }
    return run.model_copy(update={"train": run.train.model_copy(update=told)})


def weights_of(policy: Policy) -> dict[str, float]:
    """Return the weights of a policy's rewards, the emotion first of all."""
    others = {"event": policy.event, "content": policy.content}
    return {"emotion": 1.0} | {name: weight for name, weight in others.items() if weight}


def policy_run(
    policy: Policy, steps: int, batch_size: int, seed: int
) -> policy_runs.DiffRORun | policy_runs.GRPORun | None:
    """Return the settings of a policy's training.

    None where nothing is trained.
    """
    options = [
        f"diffro.reward_form={policy.form}",
        "diffro.beta=0.2",
        f"diffro.batch_size={batch_size}",
        f"diffro.rollout={{temperature: {WHOLE.temperature}, top_k: {WHOLE.top_k}}}",
        f"rewards={weights_of(policy)}",
        f"event_odds={policy.odds}",
        f"train.steps={policy.times * steps}",
        f"train.warmup_steps={min(5, steps)}",
        "train.learning_rate=1e-4",  # with twice that, and beta .05, speech slows down by .7
        "train.average_from=null",
        f"train.seed={seed}",
        "train.report_to=none",
        "train.threads=1",
    ]
    run = configuration.load(policy_runs.DiffRORun, None, options, preset("diffro", "recommended"))
    if policy.method == "diffro":
        return run
    if policy.method == "best_of":
        return None
    # As many utterances a step, half of them of another prompt.
    group = max(2, batch_size // 2)
    return policy_runs.GRPORun(
        train=run.train,
        rewards=run.rewards,
        grpo=GRPOConfig(
            prompts=max(1, batch_size // group),
            group=group,
            advantage=policy.method,
            beta=GRPO_BETA if policy.method == "grpo" else run.diffro.beta,
            reward_form=policy.form,
            rollout=WHOLE,
        ),
    )


def title_of(model: str) -> str:
    """Name a reward model as the page does.

    Examples:
        >>> title_of("ls_eam"), title_of("ls_augmented")
        ('LS+EAM', 'LS+artifacts in every class')
    """
    return "+".join(TITLES[part] for part in model.split("_"))
