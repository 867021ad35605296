"""Policies trained by name: what `rrpo policy …` and the Python API's `train_…` are.

Each function takes paths or `mini`, checks that all of them are of one codec, trains with
`rrpo.runs`, leaves a run folder with its page, and returns the policy that it holds. Data is a
parquet file or a folder of token shards; by default what is bundled.
"""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from rrpo import policy, policy_runs, runs
from rrpo.config import Settings, as_overrides
from rrpo.dpo_pairs import draw_once, require_codec_of_pairs
from rrpo.errors import UserError
from rrpo.loading import (
    Location,
    describe,
    is_mini,
    load_policy,
    load_reward_models,
    load_tokenizer,
    output_folder,
)
from rrpo.mini.world import BUNDLED
from rrpo.objectives.dpo import Pair
from rrpo.objectives.pairs import (
    read_pairs,
)
from rrpo.origin import listed, require_location
from rrpo.policy import SpeechTokenLM
from rrpo.policy.layout import split
from rrpo.presets import preset as preset_file
from rrpo.processes import ending_together, is_main, preparing
from rrpo.report.page import write_run_page
from rrpo.reward import DifferentiableReward, RewardModel
from rrpo.reward.differentiable import digest, require_reward
from rrpo.run_kinds import filled
from rrpo.streaming import load_examples
from rrpo.train import Callback

Rewards = Sequence[Location | DifferentiableReward] | Location | DifferentiableReward
"""Reward models by name, or a reward of one's own alone; a single one may stand without a list."""
Run = TypeVar("Run", bound=policy_runs.PolicyRun)


def train_sft(
    out: Location,
    data: Location | None = None,
    *,
    start: Location | None = None,
    config: Location | None = None,
    settings: Settings = (),
    codec_of: str | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> SpeechTokenLM:
    """Fine-tune a policy on labelled speech (`rrpo policy sft`), as `rrpo.train_reward` does one.

    Examples:
        >>> small = {"train.steps": 1, "train.warmup_steps": 0, "sft.batch_size": 2}
        >>> model = train_sft("sft", settings=small)  # doctest: +ELLIPSIS
        policy in sft; ...
        >>> model.config.codec[:4]
        'mini'
    """
    with preparing():
        folder = output_folder(out)
        run = _configured(policy_runs.SFTRun, start, config, settings)
        model = load_policy(run.start)
        examples = load_examples(run, model, data, codec_of)
        inputs = _inputs(run, data=data)
        how: runs.How = {"resume": resume, "callbacks": callbacks, "inputs": inputs}
        if data is not None:
            runs.tell_passes(run.train, run.sft.batch_size, len(examples))
        runs.train_sft(model, examples, run, folder, **how)
        return _finished(folder, model)


def train_diffro(
    out: Location,
    rewards: Rewards,
    data: Location | None = None,
    *,
    start: Location | None = None,
    preset: str | None = None,
    config: Location | None = None,
    settings: Settings = (),
    codec_of: str | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> SpeechTokenLM:
    """Follow the reward's gradient through the token choices (`rrpo policy diffro`).

    With the robust reward of a hardened reward model this is RRPO.

    Args:
        out: folder of the run.
        rewards: reward models, of which several with the same head are an ensemble; or one reward
            of your own (`rrpo.reward.DifferentiableReward`).
        data: token shards whose texts and emotions are asked for.
        start: where the policy starts, and its reference; as published, an SFT run; None: as the
            configuration says, by default mini.
        preset: "paper", "recommended" or, with a detector among the rewards, "detector".
        config: as of `rrpo.train_reward`.
        settings: likewise.
        codec_of: likewise.
        resume: likewise.
        callbacks: likewise.

    Raises:
        UserError: as the command, in one line.

    Examples:
        >>> small = {"train.steps": 1, "train.warmup_steps": 0, "diffro.batch_size": 2}
        >>> run = train_diffro("rrpo", ["mini"], start="mini", settings=small)  # doctest: +ELLIPSIS
        policy in rrpo; ...
    """
    with preparing():
        if preset == "paper" and start is None:
            raise UserError(
                f"the preset {preset!r} starts from an SFT run, which is its reference, too: make "
                "one with `rrpo policy sft --out SFT` and give --from SFT, or --from mini for the "
                "bundled base"
            )
        base = None if preset is None else preset_file("diffro", preset)
        run = _configured(policy_runs.DiffRORun, start, config, settings, base)
        return _on_policy(run, out, rewards, data, codec_of, resume, callbacks)


def train_grpo(
    out: Location,
    rewards: Rewards,
    data: Location | None = None,
    *,
    start: Location | None = None,
    config: Location | None = None,
    settings: Settings = (),
    codec_of: str | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> SpeechTokenLM:
    """Policy gradient on the same rollouts and rewards (`rrpo policy grpo`); as `train_diffro`.

    Examples:
        >>> small = {"train.steps": 1, "train.warmup_steps": 0, "grpo.prompts": 1, "grpo.group": 2}
        >>> model = train_grpo("grpo", ["mini"], start="mini", settings=small)  # doctest: +ELLIPSIS
        policy in grpo; ...
    """
    with preparing():
        run = _configured(policy_runs.GRPORun, start, config, settings)
        return _on_policy(run, out, rewards, data, codec_of, resume, callbacks)


def _on_policy(
    run: policy_runs.DiffRORun | policy_runs.GRPORun,
    out: Location,
    rewards: Rewards,
    data: Location | None,
    codec_of: str | None,
    resume: bool,
    callbacks: Sequence[Callback],
) -> SpeechTokenLM:
    folder = output_folder(out)
    model = load_policy(run.start)
    examples = load_examples(run, model, data, codec_of)
    heard = {"second": run.monitor.second or None, "voice": run.monitor.voice}
    reward = _reward(rewards, run, model, codec_of)
    inputs = _inputs(run, rewards, data=data, **heard)
    given = (model, _reference(run), reward, examples)
    how: runs.How = {"resume": resume, "callbacks": callbacks, "inputs": inputs}
    runs.train_on_policy(*given, run, folder, codec_of, **how)
    return _finished(folder, model)


def train_dpo(
    out: Location,
    rewards: Rewards = (),
    data: Location | None = None,
    *,
    pairs: Location | None = None,
    start: Location | None = None,
    preset: str | None = None,
    config: Location | None = None,
    settings: Settings = (),
    codec_of: str | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> SpeechTokenLM:
    """Learn from preference pairs (`rrpo policy dpo`), drawn by rewards or given as a folder.

    The preset "recommended" is for a policy that DiffRO or RRPO has trained.

    Examples:
        >>> small = {"train.steps": 1, "train.warmup_steps": 0, "dpo.batch_size": 1}
        >>> drawn = {"pairs.prompts": 2, "pairs.count": 2, "pairs.margin": 0.0}
        >>> model = train_dpo(
        ...     "dpo", ["mini"], start="mini", settings=small | drawn
        ... )  # doctest: +ELLIPSIS
        policy in dpo; ...
    """
    with preparing():
        folder = output_folder(out)
        if (pairs is None) != bool(listed(rewards)):
            raise UserError("give either --reward, to draw pairs by, or --pairs, a folder of them")
        base = None if preset is None else preset_file("dpo", preset)
        run = _configured(policy_runs.DPORun, start, config, settings, base)
        if pairs is not None:
            _refuse_drawing(data, settings)
        model = load_policy(run.start)
        tokenizer = load_tokenizer(run, model)
        given: list[Pair] | None = None
        # Before anything is written: what is wrong with pairs can be corrected and tried again.
        if pairs is None:
            examples = load_examples(run, model, data, codec_of)
            reward = _reward(rewards, run, model, codec_of)
            if not isinstance(reward, Sequence):
                run.reward(reward, [], run.pairs.reward_form)
        else:
            require_codec_of_pairs(Path(pairs), model, codec_of)
            given = read_pairs(Path(pairs), tokenizer)

        def drawn() -> list[Pair]:
            if given is not None:
                return given
            prompts, _ = split(examples)
            draw_once(run, model, reward, prompts, folder / "pairs")
            with ending_together():
                return read_pairs(folder / "pairs", tokenizer)

        inputs = _inputs(run, rewards, data=data, pairs=pairs)
        how: runs.How = {"resume": resume, "callbacks": callbacks, "inputs": inputs}
        runs.train_dpo(model, _reference(run), drawn, run, folder, **how)
        return _finished(folder, model)


DRAWING = ("pairs", "rewards", "bound", "caution", "content_gate")
"""Settings of a DPO run that are for drawing and ranking pairs."""


def _refuse_drawing(data: Location | None, settings: Settings) -> None:
    """Refuse, beside pairs that are given, what is for drawing them."""
    if data is not None:
        raise UserError("--pairs holds what is learned from: leave out --data, or --pairs")
    for one in as_overrides(settings):
        if one.partition("=")[0].strip().split(".")[0] in DRAWING:
            raise UserError(f"--pairs are drawn already: leave out --pairs, or --set {one}")


def _configured(
    kind: type[Run],
    start: Location | None,
    config: Location | None,
    settings: Settings,
    preset: Path | None = None,
) -> Run:
    """Fill a policy run's configuration: paths absolute, language and instructions inherited."""
    if start is not None:
        require_location("start", start)
    given = [] if start is None else [f"start={json.dumps(str(start))}"]
    given += as_overrides(settings)
    return policy_runs.with_places(filled(kind, config, given, preset))


def _reference(run: policy_runs.ReferencedRun) -> SpeechTokenLM | None:
    """Load the reference of a policy; with adapters it is the policy without them."""
    return None if run.lora_rank else load_policy(run.start)


def _reward(
    rewards: Rewards, run: policy_runs.PolicyRun, model: SpeechTokenLM, codec_of: str | None
) -> Sequence[RewardModel] | DifferentiableReward:
    """Load reward models by name, or return the one reward that is given as an object.

    Raises:
        UserError: it is given beside others, or a name stands twice, cannot be loaded, or reads
            other text ids.
    """
    names, own = _named(rewards), _own(rewards)
    places = [one if one in BUNDLED else Path(one).resolve() for one in names]
    if len(set(places)) < len(places):
        told = ", ".join(names)
        raise UserError(f"of the reward models {told} one is named twice: name each once")
    if not own:
        return load_reward_models(names, model, codec_of, run)
    if names or len(own) > 1:
        raise UserError("give a reward of your own alone: it can add what others say to its terms")
    if isinstance(own[0], RewardModel):
        raise UserError(
            "a RewardModel is given in place of a reward: name the folder that it was loaded from, "
            "or make one of it, rrpo.reward.Reward([model])"
        )
    require_reward(own[0], model.config.codes)
    return own[0]


def _inputs(
    run: policy_runs.PolicyRun,
    rewards: Rewards = (),
    **given: Location | Sequence[Location] | None,
) -> dict[str, list[list[str]]]:
    """Return what a run of a policy is made from, with its start and instructions (`describe`).

    Of a reward of one's own that is its class and what `rrpo.reward.differentiable.digest` says.
    """
    if not isinstance(run, policy_runs.SFTRun):  # which has no rewards
        given["reward"] = _named(rewards)
    found = describe(start=run.start, **given, instructions=run.instructions)
    for one in _own(rewards):
        found["reward"].append([f"{type(one).__module__}.{type(one).__qualname__}", digest(one)])
    return found


def _named(rewards: Rewards) -> list[str]:
    """Return the reward models that are given by name."""
    return [str(one) for one in listed(rewards) if isinstance(one, str | Path)]


def _own(rewards: Rewards) -> list[DifferentiableReward]:
    """Return the rewards that are given as objects."""
    every: list[Location | DifferentiableReward] = listed(rewards)
    return [one for one in every if not isinstance(one, str | Path)]


def _finished(folder: Path, model: SpeechTokenLM) -> SpeechTokenLM:
    """Write a policy run's page, say what to do next, and return the policy it holds."""
    if not is_main():
        return policy.load(folder)
    write_run_page(folder)
    named = shlex.quote(str(folder))
    if is_mini(model):
        following = (
            f"listen to it with: rrpo speak --policy {named} --emotion happy "
            '--text "The train leaves at noon." --out x.wav'
        )
    else:
        version = model.config.version
        following = (
            f"write its llm.pt with: rrpo export {named} --to cosyvoice{version} --out FOLDER"
        )
    print(f"policy in {folder}; {following}")
    return policy.load(folder)
