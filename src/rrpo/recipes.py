"""Trainings by name: what `rrpo reward train`, `rrpo policy …` and the Python API have in common.

Each takes paths or `mini`, checks that all of them are of one codec, trains with `rrpo.runs` and
leaves a run folder with its page.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from rrpo import audio, runs, spelling
from rrpo import config as configuration
from rrpo.checkpoint import claim
from rrpo.data.shards import Utterance, shard_codec
from rrpo.emotions import EMOTIONS
from rrpo.errors import UserError
from rrpo.loading import (
    MINI,
    Location,
    codec_identity,
    describe,
    is_mini,
    load_data,
    load_mixes,
    load_policy,
    load_reward_model,
    load_reward_models,
    load_tokenizer,
    origin_of,
)
from rrpo.mini.world import World
from rrpo.objectives.dpo import Pair
from rrpo.objectives.pairs import CHOSEN, REJECTED, draw_pairs, read_pairs, require_pairs
from rrpo.policy import SpeechTokenLM
from rrpo.policy.layout import make_examples
from rrpo.presets import preset as preset_file
from rrpo.processes import require_launcher
from rrpo.progress import Progress
from rrpo.report.page import write_run_page
from rrpo.reward import DifferentiableReward, RewardConfig, RewardModel
from rrpo.run_config import require_own
from rrpo.tokens import require_one_codec
from rrpo.train import Callback

NEW = "new"
"""Start of a reward model that is not trained yet."""
Run = TypeVar("Run", bound=runs.PolicyRun)


@dataclass(frozen=True)
class Options:
    """What every training takes.

    Attributes:
        config: a YAML file of settings.
        settings: such as "train.steps=40", over that file.
        codec_of: which codec the tokens are of, where shards or models do not say it.
        resume: continue an interrupted run.
        callbacks: called after each step (`rrpo.train.Callback`).
    """

    config: Path | None = None
    settings: Sequence[str] = ()
    codec_of: str | None = None
    resume: bool = False
    callbacks: Sequence[Callback] = ()

    def how(self, inputs: Mapping[str, Any]) -> runs.How:
        """Return what is passed on to a training that is made from these inputs."""
        return {"resume": self.resume, "callbacks": self.callbacks, "inputs": inputs}


DEFAULTS = Options()


def reward(
    out: Path,
    data: Location | None = None,
    start: Location = MINI,
    mixes: Location | None = None,
    preset: str | None = None,
    options: Options = DEFAULTS,
) -> None:
    """Fine-tune a reward model on labelled tokens.

    Args:
        out: folder of the run.
        data: token shards; None: the bundled ones.
        start: `mini`, `new` or a run.
        mixes: a mix pool, for fit.mixup_at=audio.
        preset: its name; the options' settings (`runs.RewardRun`) are over it.
        options: what every training takes.
    """
    require_launcher()
    base = None if preset is None else preset_file("reward", preset)
    require_own(runs.RewardRun, options.config)
    run = configuration.load(runs.RewardRun, options.config, options.settings, base)
    run = spelling.with_text(run, bundled=data is None)
    if run.fit.needs_mix_pool and mixes is None:
        raise UserError(
            "fit.mixup_at=audio needs mixed utterances of --data: make them with `rrpo tokenize "
            "--mix 10` and name them with --mixes, or mix features (fit.mixup_at=features)"
        )
    told = codec_identity(options.codec_of)
    known = {str(one): shard_codec(Path(one)) for one in (data, mixes) if one is not None}
    if data is None:
        known = {"the bundled data": World().codec_identity, **known}
    codec = require_one_codec(known, told)
    pool = [] if mixes is None else load_mixes(mixes)
    rows = load_data(data)
    if run.fit.nuisance and data is None:
        rows, pool = _with_energy(rows), _with_energy(pool)
    if str(start) == NEW:
        model = _new_reward_model(rows, run.train.seed, codec)
    else:
        model = load_reward_model(start)
        parts = {f"the reward model {start}": model.config.codec, "the data": codec}
        codec = require_one_codec(parts, told)
        model.config = model.config.model_copy(update={"codec": codec})
    said = None if run.text_of is None else spelling.transcribe(rows, run.text_of)
    inputs = describe(start=start, data=data, mixes=mixes)
    runs.train_reward(model, rows, pool, run, out, said, **options.how(inputs))
    write_run_page(out)
    print(f"reward model in {out}; test it with: rrpo reward eval {out}")


def _new_reward_model(rows: Sequence[Utterance], seed: int, codec: str) -> RewardModel:
    """Make an untrained reward model whose classes are the emotions of the data."""
    found = {row.emotion for row in rows}
    names = [name for name in EMOTIONS if name in found] + sorted(found - set(EMOTIONS))
    if len(names) < 2:
        raise UserError(f"every utterance is {names[0]!r}: a reward model needs two emotions")
    torch.manual_seed(seed)
    return RewardModel(RewardConfig(tasks={"emotion": names}, codec=codec))


def _with_energy(rows: Sequence[Utterance]) -> list[Utterance]:
    """Measure the energy of the mini codec's tokens, spoken."""
    codec, known = World().codec(), []
    with Progress("measure energy", len(rows)) as progress:
        for row in rows:
            spoken_row = codec.decode(torch.from_numpy(row.tokens))
            known.append(replace(row, energy=audio.energy(spoken_row)))
            progress.update(len(known))
    return known


def sft(
    out: Path,
    data: Location | None = None,
    start: Location | None = None,
    options: Options = DEFAULTS,
) -> None:
    """Fine-tune a policy on labelled speech; arguments as of `reward`."""
    require_launcher()
    run = _policy_run(runs.SFTRun, start, options)
    model = load_policy(run.start)
    rows = load_data(data, model, codec_of=options.codec_of)
    examples = make_examples(load_tokenizer(run, model), rows, data)
    inputs = describe(start=run.start, data=data)
    runs.train_sft(model, examples, run, out, **options.how(inputs))
    _finish(out, model)


def diffro(
    out: Path,
    rewards: Sequence[Location | DifferentiableReward],
    data: Location | None = None,
    start: Location | None = None,
    preset: str | None = None,
    options: Options = DEFAULTS,
) -> None:
    """Optimize a policy through its token choices, against frozen reward models.

    Args:
        out: folder of the run.
        rewards: the reward models, or a reward of one's own alone.
        data: token shards whose texts and emotions are asked for.
        start: where the policy starts, which is its reference, too.
        preset, options: as of `reward`.
    """
    if preset is not None and start is None:
        raise UserError(
            f"the preset {preset!r} starts from an SFT run, which is its reference, too: make one "
            "with `rrpo policy sft --out SFT` and give --from SFT, or --from mini for the bundled "
            "base"
        )
    base = None if preset is None else preset_file("diffro", preset)
    run = _policy_run(runs.DiffRORun, start, options, base)
    _on_policy(run, out, rewards, data, options)


def grpo(
    out: Path,
    rewards: Sequence[Location | DifferentiableReward],
    data: Location | None = None,
    start: Location | None = None,
    options: Options = DEFAULTS,
) -> None:
    """Optimize a policy by policy gradient, against frozen reward models; as `diffro`."""
    run = _policy_run(runs.GRPORun, start, options)
    _on_policy(run, out, rewards, data, options)


def _on_policy(
    run: runs.DiffRORun | runs.GRPORun,
    out: Path,
    rewards: Sequence[Location | DifferentiableReward],
    data: Location | None,
    options: Options,
) -> None:
    require_launcher()
    model = load_policy(run.start)
    rows = load_data(data, model, codec_of=options.codec_of)
    examples = make_examples(load_tokenizer(run, model), rows, data)
    inputs = describe(start=run.start, data=data, reward=_named(rewards))
    given = (model, _reference(run), _reward(rewards, model, options), examples)
    if isinstance(run, runs.DiffRORun):
        runs.train_diffro(*given, run, out, **options.how(inputs))
    else:
        runs.train_grpo(*given, run, out, **options.how(inputs))
    _finish(out, model)


def dpo(
    out: Path,
    rewards: Sequence[Location | DifferentiableReward] = (),
    pairs: Location | None = None,
    data: Location | None = None,
    start: Location | None = None,
    options: Options = DEFAULTS,
) -> None:
    """Train a policy on preference pairs, given as a folder or drawn from itself; as `diffro`."""
    require_launcher()
    if (pairs is None) != bool(rewards):
        raise UserError("give either --reward, to draw pairs by, or --pairs, a folder of them")
    run = _policy_run(runs.DPORun, start, options)
    model = load_policy(run.start)
    tokenizer = load_tokenizer(run, model)
    # What is of another codec is refused before a run is begun.
    if pairs is None:
        examples = make_examples(tokenizer, load_data(data, model, codec_of=options.codec_of), data)
        reward = _reward(rewards, model, options)
    else:
        require_pairs(Path(pairs))
        known = {"the policy": model.config.codec}
        known |= {
            str(one): shard_codec(one) for one in (Path(pairs) / CHOSEN, Path(pairs) / REJECTED)
        }
        require_one_codec(known, codec_identity(options.codec_of))
    # Before anything is written: what is wrong with pairs can be corrected and tried again.
    given = None if pairs is None else read_pairs(Path(pairs), tokenizer)

    def drawn() -> list[Pair]:
        if given is not None:
            return given
        folder = out / "pairs"
        drawing = {"seed": run.train.seed, **run.pairs.model_dump(mode="json")}
        claim(folder / "plan.json", drawing, "pairs")
        if not (folder / REJECTED).is_file():
            prompts = [example.prompt for example in examples]
            scored_by = run.reward(reward, prompts, run.pairs.reward_form)
            draw_pairs(model, scored_by, prompts, run.pairs, folder, run.train.seed)
        return read_pairs(folder, tokenizer)

    inputs = describe(start=run.start, data=data, reward=_named(rewards), pairs=pairs)
    runs.train_dpo(model, _reference(run), drawn, run, out, **options.how(inputs))
    _finish(out, model)


def _policy_run(
    kind: type[Run],
    start: Location | None,
    options: Options,
    preset: Path | None = None,
) -> Run:
    """Fill a policy run's configuration: paths absolute, language and instructions inherited."""
    require_own(kind, options.config)
    given = [] if start is None else [f"start={json.dumps(str(start))}"]
    run = configuration.load(kind, options.config, [*given, *options.settings], preset)
    first = origin_of(run.start)
    told = run.instructions or first.instructions
    return run.model_copy(
        update={
            # Not `resolve`: a link to a cache would lose its name and its neighbours.
            "start": run.start if run.start == MINI else str(Path(run.start).absolute()),
            "language": run.language or first.language,
            "instructions": None if told is None else str(Path(told).absolute()),
        }
    )


def _reference(run: runs.ReferencedRun) -> SpeechTokenLM | None:
    """Load the reference of a policy; with adapters it is the policy without them."""
    return None if run.lora_rank else load_policy(run.start)


def _reward(
    rewards: Sequence[Location | DifferentiableReward], model: SpeechTokenLM, options: Options
) -> Sequence[RewardModel] | DifferentiableReward:
    """Load reward models by name, or return the one reward that is given as an object.

    Raises:
        UserError: it is given beside others, or a name cannot be loaded.
    """
    names = [one for one in rewards if isinstance(one, str | Path)]
    own = [one for one in rewards if not isinstance(one, str | Path)]
    if not own:
        return load_reward_models(names, model, options.codec_of)
    if len(rewards) > 1:
        raise UserError("give a reward of your own alone: it can add what others say to its terms")
    return own[0]


def _named(rewards: Sequence[Location | DifferentiableReward]) -> list[str]:
    """Return what a run's inputs say of its rewards: names, and the class of one's own."""
    return [
        str(one)
        if isinstance(one, str | Path)
        else f"{type(one).__module__}.{type(one).__qualname__}"
        for one in rewards
    ]


def _finish(out: Path, model: SpeechTokenLM) -> None:
    """Write a policy run's page and say what to do next."""
    write_run_page(out)
    if is_mini(model):
        following = (
            f"listen to it with: rrpo speak --policy {out} --emotion happy "
            '--text "The train leaves at noon." --out x.wav'
        )
    else:
        version = model.config.version
        following = f"write its llm.pt with: rrpo export {out} --to cosyvoice{version} --out FOLDER"
    print(f"policy in {out}; {following}")
