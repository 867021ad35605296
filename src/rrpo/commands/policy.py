"""`rrpo policy`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from rrpo import config as configuration
from rrpo import runs
from rrpo.checkpoint import claim
from rrpo.data.shards import shard_codec
from rrpo.errors import UserError
from rrpo.identity import require_one_codec
from rrpo.loading import (
    MINI,
    codec_identity,
    describe,
    is_mini,
    load_data,
    load_policy,
    load_reward_models,
    load_tokenizer,
    origin_of,
)
from rrpo.objectives.dpo import Pair
from rrpo.objectives.pairs import CHOSEN, REJECTED, draw_pairs, read_pairs
from rrpo.policy import SpeechTokenLM
from rrpo.policy.examples import make_examples
from rrpo.presets import preset as preset_file
from rrpo.processes import require_launcher
from rrpo.report.page import write_run_page

Run = TypeVar("Run", bound=runs.PolicyRun)


def sft(
    start: str | None,
    data: Path | None,
    out: Path,
    config: Path | None,
    settings: Sequence[str],
    resume: bool,
    codec_of: str | None = None,
) -> None:
    """Fine-tune a policy on labelled speech."""
    require_launcher()
    settled = _resolved(runs.SFTRun, start, config, settings)
    model = load_policy(settled.start)
    rows = load_data(data, model, codec_of=codec_of)
    examples = make_examples(load_tokenizer(settled, model), rows)
    inputs = describe(start=settled.start, data=data)
    runs.train_sft(model, examples, settled, out, resume, inputs=inputs)
    write_run_page(out)
    print(f"policy in {out}; {_next_line(out, model)}")


def rewarded(
    method: str,
    start: str | None,
    reward_models: Sequence[str],
    data: Path | None,
    out: Path,
    config: Path | None,
    settings: Sequence[str],
    resume: bool,
    preset: str | None = None,
    codec_of: str | None = None,
) -> None:
    """Optimize a policy against frozen reward models, by "diffro" or by "grpo"."""
    require_launcher()
    settled: runs.DiffRORun | runs.GRPORun
    if preset is not None and start is None:
        raise UserError(
            f"the preset {preset!r} starts from an SFT run and is held to it: make one with `rrpo "
            "policy sft --out SFT` and give --from SFT, or --from mini for the bundled base"
        )
    if method == "diffro":
        base = None if preset is None else preset_file("diffro", preset)
        settled = _resolved(runs.DiffRORun, start, config, settings, base)
    else:
        settled = _resolved(runs.GRPORun, start, config, settings)
    model = load_policy(settled.start)
    rows = load_data(data, model, codec_of=codec_of)
    examples = make_examples(load_tokenizer(settled, model), rows)
    paying = load_reward_models(reward_models, model, codec_of)
    inputs = describe(start=settled.start, data=data, reward=reward_models)
    runs.train_rewarded(
        model, _reference(settled), paying, examples, settled, out, resume, inputs=inputs
    )
    write_run_page(out)
    print(f"policy in {out}; {_next_line(out, model)}")


def dpo(
    start: str | None,
    reward_models: Sequence[str],
    pairs: Path | None,
    data: Path | None,
    out: Path,
    config: Path | None,
    settings: Sequence[str],
    resume: bool,
    codec_of: str | None = None,
) -> None:
    """Train a policy on preference pairs, given or drawn from itself."""
    require_launcher()
    if (pairs is None) != bool(reward_models):
        raise UserError("give either --reward, to draw pairs by, or --pairs, a folder of them")
    settled = _resolved(runs.DPORun, start, config, settings)
    model = load_policy(settled.start)
    tokenizer = load_tokenizer(settled, model)
    # What is of another codec is refused before a run is begun.
    if pairs is None:
        examples = make_examples(tokenizer, load_data(data, model, codec_of=codec_of))
        models = load_reward_models(reward_models, model, codec_of)
    else:
        known = {"the policy": model.config.codec}
        known |= {str(pairs / one): shard_codec(pairs / one) for one in (CHOSEN, REJECTED)}
        require_one_codec(known, codec_identity(codec_of))
    # Before anything is written: what is wrong with pairs can be mended and tried again.
    given = None if pairs is None else read_pairs(pairs, tokenizer)

    def drawn() -> list[Pair]:
        if given is not None:
            return given
        folder = out / "pairs"
        drawing = {"seed": settled.train.seed, **settled.pairs.model_dump(mode="json")}
        claim(folder / "plan.json", drawing, "pairs")
        if not (folder / REJECTED).is_file():
            prompts = [example.prompt for example in examples]
            paying = settled.reward(models)
            draw_pairs(model, paying, prompts, settled.pairs, folder, settled.train.seed)
        return read_pairs(folder, tokenizer)

    inputs = describe(start=settled.start, data=data, reward=reward_models, pairs=pairs)
    runs.train_dpo(model, _reference(settled), drawn, settled, out, resume, inputs=inputs)
    write_run_page(out)
    print(f"policy in {out}; {_next_line(out, model)}")


def _resolved(
    kind: type[Run],
    start: str | None,
    config: Path | None,
    settings: Sequence[str],
    preset: Path | None = None,
) -> Run:
    """Fill a policy run's configuration: paths absolute, language and instructions inherited."""
    given = [] if start is None else [f"start={json.dumps(start)}"]
    run = configuration.load(kind, config, [*given, *settings], preset)
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
    """Load what a policy is held by; with adapters it is the policy without them."""
    return None if run.lora_rank else load_policy(run.start)


def _next_line(out: Path, model: SpeechTokenLM) -> str:
    if not is_mini(model):
        version = model.config.version
        return f"write its llm.pt with: rrpo export {out} --to cosyvoice{version} --out FOLDER"
    return (
        f"hear it with: rrpo speak --policy {out} --emotion happy "
        '--text "The train leaves at noon." --out x.wav'
    )
