"""What each command does, once its arguments are read."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from rrpo import audio, policy, reward, runs, tokenization
from rrpo import config as configuration
from rrpo.checkpoint import read_json, write_json, write_text
from rrpo.codec.s3 import S3Tokenizer
from rrpo.data.manifest import read_manifest
from rrpo.data.shards import Utterance, read_shard
from rrpo.emotions import EMOTIONS
from rrpo.errors import UserError
from rrpo.evaluate.run import Judges, measure, summarise
from rrpo.mini.speaking import speak as draw
from rrpo.mini.speaking import spoken, unseen_utterances
from rrpo.mini.world import TEST_SETS, World
from rrpo.policy import SpeechTokenLM, cosyvoice
from rrpo.policy.cosyvoice_text import INSTRUCTIONS, CosyVoiceTokenizer, read_tokenizer
from rrpo.policy.examples import Tokenizer, make_examples, make_prompt
from rrpo.report.page import write_page, write_run_page
from rrpo.report.terminal import print_systems
from rrpo.reward import RewardConfig, RewardModel
from rrpo.tokenization import Codec

MINI = "mini"
NEW = "new"


def load_policy(start: str) -> SpeechTokenLM:
    """Load the bundled base for `mini`, a CosyVoice model, or else the policy of a run folder."""
    if start == MINI:
        return World().policy()
    return cosyvoice.load(start) if _is_cosyvoice(start) else policy.load(Path(start))


def load_reward(start: str) -> RewardModel:
    """Load the bundled pre-trained reward model for `mini`, else that of a run folder."""
    return World().reward_model() if start == MINI else reward.load(Path(start))


def stored_run(start: str) -> runs.PolicyRun:
    """Return how the policy in a run folder began; `mini` or a model folder began as itself."""
    path = Path(start) / "config.yaml"
    if start == MINI or not path.is_file():
        return runs.PolicyRun(start=start)
    values = configuration.read(path)
    known = {key: values[key] for key in runs.PolicyRun.model_fields if key in values}
    return configuration.parse(runs.PolicyRun, known, path)


def load_tokenizer(run: runs.PolicyRun, model: SpeechTokenLM) -> Tokenizer:
    """Return the tokenizer of what a policy began as: the mini world's, or a CosyVoice folder's.

    A start that is itself a run is followed to its beginning.
    """
    start = run.start
    while (Path(start) / "config.yaml").is_file() and stored_run(start).start != start:
        start = stored_run(start).start
    if not _is_cosyvoice(start):
        return World().tokenizer
    folder = Path(start) if Path(start).is_dir() else Path(start).parent
    return CosyVoiceTokenizer(
        folder,
        model.config.version,
        run.language,
        INSTRUCTIONS if run.instructions is None else Path(run.instructions),
    )


def _require_mini(start: str, model: SpeechTokenLM, world: World) -> None:
    """Refuse a policy whose tokens the bundled codec cannot speak."""
    if model.config.text_vocabulary != world.tokenizer.vocabulary_size:
        version = model.config.version
        raise UserError(
            f"{start} speaks CosyVoice's tokens, which the bundled codec cannot: write its llm.pt "
            f"with `rrpo export {start} --to cosyvoice{version} --out FOLDER` and use CosyVoice"
        )


def _is_cosyvoice(start: str) -> bool:
    path = Path(start)
    files = (path / "llm.pt", path / "config.json")
    return path.suffix == ".pt" or any(file.is_file() for file in files)


def _start(start: str | None) -> list[str]:
    """Return `--from` as a setting, its path made absolute so that a run finds it again."""
    if start is None:
        return []
    return [f"start={json.dumps(start if start == MINI else str(Path(start).resolve()))}"]


def new_reward(rows: Sequence[Utterance], seed: int) -> RewardModel:
    """Make an untrained reward model whose classes are the emotions of the data."""
    found = {row.emotion for row in rows}
    names = [name for name in EMOTIONS if name in found] + sorted(found - set(EMOTIONS))
    if len(names) < 2:
        raise UserError(f"every utterance is {names[0]!r}: a reward model needs two emotions")
    torch.manual_seed(seed)
    return RewardModel(RewardConfig(tasks={"emotion": names}))


def load_data(data: Path | None, run: runs.PolicyRun | None = None) -> list[Utterance]:
    """Read token shards, by default the bundled fine-tuning set, which is the mini codec's."""
    if data is not None:
        return read_shard(data)
    if run is not None and _is_cosyvoice(run.start):
        raise UserError("the bundled tokens are the mini codec's: give CosyVoice's own with --data")
    return World().shard("finetune")


def tokenize(data: Path, out: Path, codec: str, mixes: int, seed: int) -> None:
    """Turn labelled audio into token shards and mixes, by the bundled codec or CosyVoice's."""
    recordings = read_manifest(data)
    name = codec
    chosen: Codec
    if codec == MINI:
        chosen = World().codec()
    elif codec.startswith("s3:"):
        chosen = S3Tokenizer(Path(codec.removeprefix("s3:")))
        name = f"{chosen.path.name} {chosen.checksum}"
        print(f"{chosen.path}: SHA-256 {chosen.checksum}")
    else:
        raise UserError(f"unknown codec {codec!r}: choose mini or s3:FOLDER")
    made = tokenization.tokenize(chosen, recordings, out, mixes, seed, name)
    more = f" and {made.mixes} mixes in {out / 'mixes'}" if made.mixes else ""
    print(f"{made.tokens} utterances in {out / 'tokens'}{more}")
    if made.skipped:
        print(f"{len(made.skipped)} files could not be used: {out / 'skipped.txt'} says why")


def reward_train(
    start: str,
    data: Path | None,
    mixes: Path | None,
    out: Path,
    config: Path | None,
    settings: Sequence[str],
    resume: bool,
) -> None:
    """Fine-tune a reward model and test it on the bundled sets when the data is bundled."""
    settled = configuration.load(runs.RewardRun, config, settings)
    if mixes is not None:
        pool = read_shard(mixes)
    elif data is None and settled.fit.mixup:
        pool = World().shard("mixes")
    else:
        pool = []
    rows = load_data(data)
    model = new_reward(rows, settled.train.seed) if start == NEW else load_reward(start)
    runs.train_reward(model, rows, pool, settled, out, resume)
    write_run_page(out)
    print(f"reward model in {out}; test it with: rrpo reward eval {out}")


def reward_eval(run: Path, data: Path | None) -> None:
    """Print a reward model's figures and, in a run folder, add them to its results."""
    model = load_reward(str(run))
    world = World()
    if data is None:
        tests = {name: world.shard(shard) for name, shard in TEST_SETS.items()}
    else:
        tests = {data.name: read_shard(data)}
    figures = runs.reward_figures(model, tests)
    table = Table(title=f"{run} (95 % intervals over utterances)")
    for column in ("test set", "utterances", "accuracy", "recall", "macro F1", "calibration error"):
        table.add_column(column, justify="left" if column == "test set" else "right")
    for name, rows in tests.items():
        accuracy = figures["accuracy"][name]
        table.add_row(
            name,
            str(len(rows)),
            f"{accuracy['mean']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}]",
            f"{figures['unweighted_average_recall'][name]:.3f}",
            f"{figures['macro_f1'][name]:.3f}",
            f"{figures['calibration_error'][name]:.3f}",
        )
    Console().print(table)
    results = run / "results.json"
    if results.is_file():
        write_json(results, {**read_json(results), "evaluation": figures})
        write_run_page(run)


def policy_sft(
    start: str | None,
    data: Path | None,
    out: Path,
    config: Path | None,
    settings: Sequence[str],
    resume: bool,
) -> None:
    """Fine-tune a policy on labelled speech."""
    settled = configuration.load(runs.SFTRun, config, [*_start(start), *settings])
    model = load_policy(settled.start)
    examples = make_examples(load_tokenizer(settled, model), load_data(data, settled))
    runs.train_sft(model, examples, settled, out, resume)
    write_run_page(out)
    print(f"policy in {out}; hear it with: {_speak_line(out)}")


def policy_diffro(
    start: str | None,
    reward_model: str,
    data: Path | None,
    out: Path,
    config: Path | None,
    settings: Sequence[str],
    resume: bool,
) -> None:
    """Optimize a policy against a frozen reward model."""
    settled = configuration.load(runs.DiffRORun, config, [*_start(start), *settings])
    model = load_policy(settled.start)
    examples = make_examples(load_tokenizer(settled, model), load_data(data, settled))
    prompts = [example.prompt for example in examples]
    runs.train_diffro(
        model,
        load_policy(settled.start),
        load_reward(reward_model),
        prompts,
        settled,
        out,
        resume,
    )
    write_run_page(out)
    print(f"policy in {out}; hear it with: {_speak_line(out)}")


def speak(start: str, text: str, emotion: str, out: Path, seed: int) -> None:
    """Speak a text into a wav file."""
    world = World()
    if out.suffix.lower() != ".wav":
        raise UserError(f"{out} is not a wav file: give a name that ends in .wav")
    model = load_policy(start)
    _require_mini(start, model, world)
    prompt = make_prompt(world.tokenizer, text, emotion)
    tokens = draw(model, [prompt], seed)[0]
    if tokens.numel() == 0:
        raise UserError("the policy said nothing: try another --seed")
    sound = world.codec().decode(tokens)
    audio.write(out, sound)
    print(f"{out}: {sound.size / audio.SAMPLE_RATE:.2f} s, {tokens.numel()} tokens")


def evaluate(folders: Sequence[Path], rewards: Sequence[Path], sentences: int, seed: int) -> None:
    """Judge policies on unseen sentences; figures go into each run's `evaluation.json`."""
    world = World()
    reward_models = {path.name: load_reward(str(path)) for path in rewards}
    policies = {str(folder): load_policy(str(folder)) for folder in folders}
    for name, each in policies.items():
        _require_mini(name, each, world)
    judges = Judges.installed(world.judge())
    codec, base = world.codec(), world.policy()
    utterances = unseen_utterances(world, sentences)
    own = next(iter(reward_models), "")
    systems = {}
    for name, model in {"real tokens": None, **policies}.items():
        samples = spoken(world, codec, model, base, utterances, seed)
        rows = measure(samples, reward_models, judges)
        systems[name] = summarise(rows, own, judges.content_reason)
        if model is not None and name != MINI:
            folder = Path(name)
            for sample, row in zip(samples, rows, strict=True):
                path = folder / "samples" / f"{sample.id}.wav"
                audio.write(path, sample.audio)
                row["wav"] = path.relative_to(folder).as_posix()
            write_json(folder / "evaluation.json", {"seed": seed, "system": systems[name]})
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            write_text(folder / "samples" / "samples.jsonl", lines)
    print_systems(systems, Console())


def export(run: Path, to: str, out: Path, model_folder: Path | None) -> None:
    """Write a policy in the form other software reads."""
    model = load_policy(str(run))
    if to == "hf":
        if model_folder is None:
            raise UserError("--to hf needs CosyVoice's tokenizer: name its folder with --model")
        cosyvoice.save_hugging_face(model, read_tokenizer(model_folder), out)
    elif to not in ("cosyvoice2", "cosyvoice3"):
        raise UserError(f"unknown form {to!r}: choose cosyvoice2, cosyvoice3 or hf")
    elif to != f"cosyvoice{model.config.version}":
        raise UserError(
            f"{run} has the layout of CosyVoice{model.config.version}: "
            f"export it with --to cosyvoice{model.config.version}"
        )
    else:
        cosyvoice.save(model, out / "llm.pt")
    print(f"{to} in {out}")


def report(folders: Sequence[Path]) -> None:
    """Write the page of each run or demo again."""
    for folder in folders:
        if not (folder / "results.json").is_file():
            raise UserError(f"{folder} holds no results.json: name the folder of a finished run")
        is_demo = "systems" in read_json(folder / "results.json")
        print(write_page(folder) if is_demo else write_run_page(folder))


def _speak_line(out: Path) -> str:
    return (
        f'rrpo speak --policy {out} --emotion happy --text "The train leaves at noon." --out x.wav'
    )
