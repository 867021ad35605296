"""How fast the parts are, each as a ratio to the least that could do it, or to a peer."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from rrpo.codec_identity import SPEECH_CODES
from rrpo.errors import UserError
from rrpo.objective import Objective
from rrpo.objectives.diffro import DiffROConfig, DiffROObjective
from rrpo.policy import LMConfig, SpeechTokenLM
from rrpo.policy.layout import Prompt, unistream
from rrpo.policy.rollout import RolloutConfig, generate
from rrpo.reward import Reward, RewardConfig, RewardModel
from rrpo.reward.config import FitConfig
from rrpo.reward.differentiable import weighted_sum
from rrpo.reward.fit import RewardObjective
from rrpo_bench import bare, peer, products, relaxation
from rrpo_bench.measure import Measurement, compare

MINI = LMConfig(text_vocabulary=91)
FULL = LMConfig(
    text_vocabulary=151_936,
    hidden=896,
    layers=24,
    heads=14,
    key_value_heads=2,
    intermediate=4864,
)
"""CosyVoice2's sizes (Qwen2-0.5B)."""

INSTRUCTION = 3
"""Ids of the instruction before each text."""


@dataclass(frozen=True)
class Setting:
    """A policy's shape and a batch of one length.

    Attributes:
        name: "mini" or "full".
        config: of the policy, with random weights.
        batch: B utterances.
        text: ids of each text.
        speech: tokens of each utterance.
    """

    name: str
    config: LMConfig
    batch: int
    text: int
    speech: int
    repeats: int = 7

    def model(self) -> SpeechTokenLM:
        """Make the policy."""
        torch.manual_seed(0)
        return SpeechTokenLM(self.config)

    def prompts(self) -> list[Prompt]:
        """Make B different texts of one length."""
        generator = torch.Generator().manual_seed(1)
        return [
            Prompt(
                str(index),
                "happy",
                torch.randint(80, (self.text,), generator=generator),
                torch.randint(80, (INSTRUCTION,), generator=generator),
            )
            for index in range(self.batch)
        ]

    @property
    def prompt(self) -> int:
        """Positions before the speech."""
        return 1 + INSTRUCTION + self.text + 1

    def ratio(self) -> float:
        """Return how many tokens each text id gives."""
        return (self.speech + 0.5) / self.text


SETTINGS = {
    "mini": Setting("mini", MINI, batch=16, text=30, speech=60),
    "full": Setting("full", FULL, batch=8, text=30, speech=100, repeats=3),
}


@dataclass(frozen=True)
class Parts:
    """What a DiffRO step is made of."""

    model: SpeechTokenLM
    reference: SpeechTokenLM
    reward_model: RewardModel
    optimizer: torch.optim.Optimizer

    @classmethod
    def of(cls, setting: Setting, device: torch.device) -> "Parts":
        """Make them, the policy and its reference alike."""
        model, reference = setting.model().to(device), setting.model().to(device)
        reward_model = RewardModel(RewardConfig()).to(device).eval()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
        return cls(model, reference, reward_model, optimizer)


def step(setting: Setting, device: torch.device) -> Iterator[Measurement]:
    """Measure a DiffRO step against its matrix products, and against its bare parts.

    The products: `rrpo_bench.products`; its pass with gradient is also measured alone. The bare
    parts: drawing the tokens, the policy forward and backward, the reference forward, the reward
    model forward and backward, AdamW.
    """
    parts = Parts.of(setting, device)
    objective = _objective(setting, "rollout", parts)
    ours = _training_step(objective, parts.optimizer)
    sizes = (setting.batch, setting.prompt, setting.speech)
    forced = products.teacher_forced(parts.model, parts.reward_model, *sizes)
    drawn = products.drawing(parts.model, *sizes)
    yield _over_products(f"step/{setting.name}", ours, [*drawn, *forced], setting, device)
    alone = _teacher_forced(objective)
    yield _over_products(f"teacher_forced/{setting.name}", alone, forced, setting, device)
    least = _bare_step(setting, parts, device)
    unit = f"× the bare parts, batch {setting.batch} × {setting.speech} tokens"
    yield compare(f"step/{setting.name}/bare", ours, least, unit, device, setting.repeats)[0]


def _over_products(
    name: str,
    ours: Callable[[], object],
    least: Sequence[products.Product],
    setting: Setting,
    device: torch.device,
) -> Measurement:
    """Measure something over its products, and say how fast those are in the same run."""
    floor, size = products.runner(least), f"batch {setting.batch} × {setting.speech} tokens"
    found, _, seconds = compare(f"{name}/products", ours, floor, "", device, setting.repeats)
    count = products.gigaflops(least)
    speed = f"{count:.3g} GFLOP at {count / seconds:.3g} GFLOP/s"
    return replace(found, unit=f"× the time of its products, {speed}, {size}")


def _teacher_forced(objective: DiffROObjective) -> Callable[[], None]:
    """Return the pass over a step's rollouts with the reward and the gradient, without the draw."""
    generator = torch.Generator().manual_seed(0)
    on_policy = objective.on_policy
    rollouts = on_policy.draw(on_policy.prompts, generator)

    def one() -> None:
        made = on_policy.evaluate(rollouts, objective.estimator(1), generator)
        reward = weighted_sum(on_policy.reward, on_policy.terms(made, rollouts))
        torch.autograd.backward(objective.config.beta * made.kl_per_token() - reward.mean())
        objective.model.zero_grad(set_to_none=True)

    return one


def history(setting: Setting, device: torch.device) -> Iterator[Measurement]:
    """Measure a DiffRO step on recorded tokens against one that draws its own."""
    parts = Parts.of(setting, device)
    recorded, drawn = (
        _training_step(_objective(setting, history, parts), parts.optimizer)
        for history in ("recorded", "rollout")
    )
    unit = f"× a step with a rollout, batch {setting.batch} × {setting.speech} tokens"
    yield compare(f"history/{setting.name}", recorded, drawn, unit, device, setting.repeats)[0]


def _objective(
    setting: Setting, history: Literal["recorded", "rollout"], parts: Parts
) -> DiffROObjective:
    """Return DiffRO on a batch; drawn or recorded, every utterance has the same length."""
    rollout = RolloutConfig(min_ratio=setting.ratio(), max_ratio=setting.ratio())
    config = DiffROConfig(
        batch_size=setting.batch, rollout=rollout, history=history, skip_broken=False
    )
    prompts = setting.prompts()
    speech = torch.randint(
        SPEECH_CODES, (len(prompts), setting.speech), generator=torch.Generator().manual_seed(2)
    )
    reward = Reward([parts.reward_model])
    return DiffROObjective(
        parts.model, parts.reference, reward, prompts, config, recordings=list(speech)
    )


def _bare_step(
    setting: Setting,
    parts: Parts,
    device: torch.device,
) -> Callable[[], None]:
    """Return the sum of a step's parts, in minimal torch."""
    speech = torch.randint(SPEECH_CODES, (setting.batch, setting.speech))
    texts = [prompt.text_ids for prompt in setting.prompts()]
    told = [prompt.instruct_ids for prompt in setting.prompts()]
    ids = unistream(setting.config, texts, list(speech), told)[0].to(device)
    speech = speech.to(device)
    before = ids.shape[1] - setting.speech
    model, reference, reward_model = parts.model, parts.reference, parts.reward_model
    table = reward_model.table

    def bare_parts() -> None:
        with torch.no_grad():
            bare.decode(model, model.embed(ids[:, :before]), setting.speech)
            bare.policy_logits(reference, reference.embed(ids), setting.speech + 1)
        logits = bare.policy_logits(model, model.embed(ids), setting.speech + 1)
        torch.autograd.backward(logits, torch.ones_like(logits))
        embeddings = table[speech].requires_grad_()
        torch.autograd.backward(bare.reward(reward_model, embeddings)[:, 0].mean())
        parts.optimizer.step()
        parts.optimizer.zero_grad(set_to_none=True)

    return bare_parts


def rollout(setting: Setting, device: torch.device) -> Iterator[Measurement]:
    """Measure drawing 16 utterances against its products, `transformers` and the bare loop."""
    setting = replace(setting, batch=16)
    model = setting.model().to(device).eval()
    prompts = setting.prompts()
    texts, told = [p.text_ids for p in prompts], [p.instruct_ids for p in prompts]
    generator = torch.Generator().manual_seed(0)

    def ours() -> None:
        ratio = setting.ratio()
        drawn = generate(model, texts, told, "multinomial", ratio, ratio, generator)
        assert min(one.numel() for one in drawn) == setting.speech

    silent = [torch.zeros(0, dtype=torch.long)] * setting.batch
    ids = unistream(setting.config, texts, silent, told)[0].to(device)
    inputs = model.embed(ids).detach()

    @torch.no_grad()
    def least() -> None:
        bare.decode(model, inputs, setting.speech)

    floor = products.drawing(model, setting.batch, setting.prompt, setting.speech)
    yield _over_products(f"rollout/{setting.name}", ours, floor, setting, device)
    theirs = peer.generation(model, inputs, setting.speech)
    size = f"batch 16 × {setting.speech} tokens"
    for name, other in (("transformers", theirs), ("bare", least)):
        unit = f"× the tokens a second of {name}, {size}"
        key = f"rollout/{setting.name}/{name}"
        yield compare(key, other, ours, unit, device, setting.repeats)[0]


def hardening(device: torch.device) -> Iterator[Measurement]:
    """Measure a step of fine-tuning a hardened reward model against a plain one."""
    from rrpo.mini.world import World

    world = World()
    rows = world.shard("finetune")
    plain = FitConfig(label_smoothing=0.0, mixup=False, adversarial=False)
    actions = []
    for config in (FitConfig(), plain):
        model = world.reward_model().to(device)
        objective = RewardObjective(model, rows, config)
        optimizer = torch.optim.AdamW(model.train().parameters(), lr=0.0)
        actions.append(_training_step(objective, optimizer))
    yield compare("hardening", actions[0], actions[1], "× a plain step", device, repeats=15)[0]


def _training_step(
    objective: Objective[Any], optimizer: torch.optim.Optimizer
) -> Callable[[], None]:
    """Return a step of a training: loss, gradient, update of the weights."""
    generator = torch.Generator().manual_seed(0)

    def one() -> None:
        loss, _ = objective.loss(1, generator)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return one


def measure(names: Sequence[str], full_size: bool = False) -> Iterator[Measurement]:
    """Run benchmarks by name, all of them by default, on a GPU where there is one.

    Raises:
        UserError: an unknown name, or a package that a benchmark compares with is missing.
    """
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        raise UserError(f"unknown benchmark {unknown[0]!r}: choose from {', '.join(NAMES)}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = [SETTINGS["mini"], *([SETTINGS["full"]] if full_size else [])]
    for name in names or NAMES:
        if name in SIZED:
            for setting in settings:
                yield from SIZED[name](setting, device)
        else:
            yield from (relaxation.measure if name == "relaxation" else hardening)(device)


SIZED = {"step": step, "history": history, "rollout": rollout}
"""Benchmarks that are run for each setting."""
NAMES = (*SIZED, "relaxation", "hardening")
