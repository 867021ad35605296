"""What each command does, once its arguments are read."""

import json
import math
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from rrpo import audio, reward, runs, tokenization
from rrpo import config as configuration
from rrpo.audio import Audio
from rrpo.benchmarks import gradient, speed
from rrpo.benchmarks.page import page as benchmarks_page
from rrpo.checkpoint import read_json, sha256, write_json, write_text
from rrpo.codec import speech as speech_codec
from rrpo.codec.s3 import S3Tokenizer
from rrpo.data.catalogue import known_corpora
from rrpo.data.corpora import import_corpus
from rrpo.data.cosyvoice import import_cosyvoice
from rrpo.data.manifest import read_manifest
from rrpo.data.shards import Utterance, read_shard
from rrpo.emotions import EMOTIONS
from rrpo.errors import UserError
from rrpo.evaluate import robustness, ser
from rrpo.evaluate.run import Judges, Sample, measure, summarise
from rrpo.mini.speaking import first_texts, spoken
from rrpo.mini.speaking import speak as draw
from rrpo.mini.text import SPEAKERS
from rrpo.mini.world import World
from rrpo.objectives.dpo import Pair
from rrpo.objectives.on_policy import OnPolicy, RolloutConfig
from rrpo.objectives.pairs import REJECTED, draw_pairs, read_pairs
from rrpo.origin import MINI, is_mini, load_policy, load_tokenizer, settle
from rrpo.policy import SpeechTokenLM, cosyvoice
from rrpo.policy.cosyvoice_text import read_tokenizer
from rrpo.policy.examples import make_examples, make_prompt
from rrpo.progress import Progress
from rrpo.report.measures import reward_model_label
from rrpo.report.page import write_page, write_run_page
from rrpo.report.recognition import print_reports
from rrpo.report.table2 import print_table2
from rrpo.report.terminal import print_imported, print_systems
from rrpo.reward import Reward, RewardConfig, RewardModel
from rrpo.reward.fit import subset_name, subsets
from rrpo.runs import PolicyRun
from rrpo.speaking import CosyVoiceSpeech, asked_of
from rrpo.tokenization import Codec

NEW = "new"
BUNDLED = (MINI, f"{MINI}-tasks")
"""Names of the reward models that come with the mini world."""


def load_reward(start: str) -> RewardModel:
    """Load a reward model: `mini` is the bundled one of emotion, `mini-tasks` of all the rest."""
    if start in BUNDLED:
        return World().reward_model() if start == MINI else World().task_model()
    return reward.load(Path(start))


def load_rewards(starts: Sequence[str], model: SpeechTokenLM) -> list[RewardModel]:
    """Load the reward models that a policy is to be paid by."""
    if set(BUNDLED) & set(starts) and not is_mini(model):
        raise UserError("the bundled reward model reads the mini codec's tokens: train a --reward")
    return [load_reward(start) for start in starts]


def new_reward(rows: Sequence[Utterance], seed: int) -> RewardModel:
    """Make an untrained reward model whose classes are the emotions of the data."""
    found = {row.emotion for row in rows}
    names = [name for name in EMOTIONS if name in found] + sorted(found - set(EMOTIONS))
    if len(names) < 2:
        raise UserError(f"every utterance is {names[0]!r}: a reward model needs two emotions")
    torch.manual_seed(seed)
    return RewardModel(RewardConfig(tasks={"emotion": names}))


def load_data(data: Path | None, model: SpeechTokenLM | None = None) -> list[Utterance]:
    """Read token shards, by default the bundled fine-tuning set, which is the mini codec's.

    Args:
        model: a policy to be trained on them; then every row needs its text.
    """
    if data is None:
        if model is not None and not is_mini(model):
            raise UserError(
                "the bundled tokens are the mini codec's: give CosyVoice's own with --data"
            )
        return World().shard("finetune")
    rows = read_shard(data)
    for row in rows if model is not None else []:
        if not row.text.strip():
            raise UserError(
                f"{data}: utterance {row.id!r} has no text, which a policy needs: "
                "give the manifest a column `text` and tokenize it again"
            )
    return rows


def tokenize(data: Path, out: Path, codec: str, mixes: int, seed: int) -> None:
    """Turn labelled audio into token shards and mixes, by the bundled codec or CosyVoice's."""
    recordings = read_manifest(data)
    name = codec
    chosen: Codec
    if codec == MINI:
        chosen = World().codec()
        name = f"mini {sha256(World().folder / 'codec' / 'model.safetensors')}"
    elif codec.startswith("s3:"):
        chosen = S3Tokenizer(Path(codec.removeprefix("s3:")))
        name = f"{chosen.path.name} {chosen.checksum}"
        print(f"{chosen.path}: SHA-256 {chosen.checksum}")
    elif codec.startswith("speech:"):
        folder = Path(codec.removeprefix("speech:"))
        chosen = speech_codec.load(folder)
        name = f"speech {sha256(folder / 'model.safetensors')}"
    else:
        raise UserError(f"unknown codec {codec!r}: choose mini, s3:FOLDER or speech:FOLDER")
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
    if settled.fit.nuisance and data is None:
        rows, pool = _with_energy(rows), _with_energy(pool)
    model = new_reward(rows, settled.train.seed) if start == NEW else load_reward(start)
    runs.train_reward(model, rows, pool, settled, out, resume)
    write_run_page(out)
    print(f"reward model in {out}; test it with: rrpo reward eval {out}")


def _with_energy(rows: Sequence[Utterance]) -> list[Utterance]:
    """Measure the energy of the mini codec's tokens, spoken."""
    codec, known = World().codec(), []
    with Progress("measure energy", len(rows)) as progress:
        for row in rows:
            spoken_row = codec.decode(torch.from_numpy(row.tokens))
            known.append(replace(row, energy=audio.energy(spoken_row)))
            progress.update(len(known))
    return known


def data_import(
    corpus: str,
    path: Path,
    out: Path,
    emotions: Path | None,
    labels: Sequence[str],
    columns: Sequence[str],
) -> None:
    """Import a corpus and say what it holds, what was left out, and what to do with it."""
    if corpus not in known_corpora():
        names = ", ".join(known_corpora())
        raise UserError(f"unknown corpus {corpus!r}: the layouts that can be read are {names}")
    if corpus != "cosyvoice":
        if emotions is not None:
            raise UserError("--emotions is for cosyvoice: leave it out (see --label)")
        named, renamed = _pairs("--label", labels), _pairs("--column", columns)
        imported = import_corpus(corpus, path, out, named, renamed)
        print_imported(imported, corpus, Console(soft_wrap=True, highlight=False))
        count, tokens = len(imported.recordings), 0
    elif labels or columns:
        raise UserError("--label and --column are for other corpora: leave them out (see utt2emo)")
    else:
        done = import_cosyvoice(path, out, emotions)
        count, tokens = done.utterances, done.tokens
    print(f"{count} utterances in {out / 'manifest.csv'}: turn them into tokens with")
    print(f"rrpo tokenize {out} --codec s3:FOLDER --out TOKENS")
    if tokens:
        print(f"{tokens} of them came with tokens, now in {out / 'tokens'}")


def _pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """Read options of the form KEY=VALUE."""
    pairs = {}
    for one in given:
        key, _, value = (part.strip() for part in one.partition("="))
        if not key or not value or key in pairs:
            why = "stands twice" if key in pairs else "is not of the form KEY=VALUE"
            raise UserError(f"{option} {one}: {key or one} {why}")
        pairs[key] = value
    return pairs


def reward_eval(folders: Sequence[str], data: Sequence[Path]) -> None:
    """Print reward models' figures as recognisers and, in run folders, add them to the results."""
    tests = _test_sets(data) if data else World().tests()
    models = {folder: load_reward(folder) for folder in folders}
    evaluations = {folder: _evaluation(folder, model, tests) for folder, model in models.items()}
    console = Console()
    labels = _hardening_labels(folders)
    reports = {label: evaluations[folder]["reports"] for folder, label in labels.items()}
    if len(reports) > 1:
        print_table2(reports, console)
    for label, found in reports.items():
        print_reports(label, found, console, details=len(reports) == 1)
    for folder, evaluation in evaluations.items():
        results = Path(folder) / "results.json"
        if results.is_file():
            write_json(results, {**read_json(results), "evaluation": evaluation})
            print(f"page: {write_run_page(Path(folder))}")


def _test_sets(data: Sequence[Path]) -> dict[str, list[Utterance]]:
    """Read token shards, named by as many last parts of their paths as tell them apart."""
    places = list(dict.fromkeys(path.resolve() for path in data))
    parts = [place.with_suffix("").parts if place.is_file() else place.parts for place in places]
    names: list[str] = []
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-depth:]) for one in parts]
        if len(set(names)) == len(names):
            break
    return {name: read_shard(place) for name, place in zip(names, places, strict=True)}


def _evaluation(
    name: str, model: RewardModel, tests: Mapping[str, Sequence[Utterance]]
) -> dict[str, Any]:
    """Return a reward model's figures by measure, its robustness on the first set, its reports."""
    reports = {}
    for test, rows in tests.items():
        try:
            reports[test] = ser.evaluate(model, rows)
        except UserError as error:
            raise UserError(f"{name} on {test}: {error}") from None
    first = next(iter(tests.values()))
    return {
        **ser.by_measure(reports),
        "robustness": robustness.figures(model, first),
        "reports": reports,
    }


def _hardening_labels(folders: Sequence[str]) -> dict[str, str]:
    """Return the rows of Table 2: each folder's regularizers, or its name, in the table's order."""
    order = list(subsets())
    names = {}
    for folder in folders:
        try:
            names[folder] = subset_name(
                configuration.load(runs.RewardRun, Path(folder) / "config.yaml").fit
            )
        except UserError:  # not a run of ours, or one of another kind: its own name has to do
            names[folder] = ""
    known = Counter(name for name in names.values() if name)
    labels = {}
    for folder in sorted(names, key=lambda one: order.index(names[one]) if names[one] else 99):
        own = Path(folder).name or folder
        label = reward_model_label(names[folder]) if names[folder] else own
        labels[folder] = f"{label} ({folder})" if known[names[folder]] > 1 else label
    if len(set(labels.values())) < len(labels):
        return {folder: folder for folder in labels}
    return labels


def policy_sft(
    start: str | None,
    data: Path | None,
    out: Path,
    config: Path | None,
    settings: Sequence[str],
    resume: bool,
) -> None:
    """Fine-tune a policy on labelled speech."""
    settled = settle(runs.SFTRun, start, config, settings)
    model = load_policy(settled.start)
    examples = make_examples(load_tokenizer(settled, model), load_data(data, model))
    runs.train_sft(model, examples, settled, out, resume)
    write_run_page(out)
    print(f"policy in {out}; {_next_line(out, model)}")


def policy_rewarded(
    method: str,
    start: str | None,
    reward_models: Sequence[str],
    data: Path | None,
    out: Path,
    config: Path | None,
    settings: Sequence[str],
    resume: bool,
) -> None:
    """Optimize a policy against frozen reward models, by "diffro" or by "grpo"."""
    settled: runs.DiffRORun | runs.GRPORun
    if method == "diffro":
        settled = settle(runs.DiffRORun, start, config, settings)
    else:
        settled = settle(runs.GRPORun, start, config, settings)
    model = load_policy(settled.start)
    examples = make_examples(load_tokenizer(settled, model), load_data(data, model))
    prompts = [example.prompt for example in examples]
    paying = load_rewards(reward_models, model)
    runs.train_rewarded(model, _reference(settled), paying, prompts, settled, out, resume)
    write_run_page(out)
    print(f"policy in {out}; {_next_line(out, model)}")


def policy_dpo(
    start: str | None,
    reward_models: Sequence[str],
    pairs: Path | None,
    data: Path | None,
    out: Path,
    config: Path | None,
    settings: Sequence[str],
    resume: bool,
) -> None:
    """Train a policy on preference pairs, given or drawn from itself."""
    if (pairs is None) != bool(reward_models):
        raise UserError("give either --reward, to draw pairs by, or --pairs, a folder of them")
    settled = settle(runs.DPORun, start, config, settings)
    model = load_policy(settled.start)
    tokenizer = load_tokenizer(settled, model)

    def drawn() -> list[Pair]:
        if pairs is not None:
            return read_pairs(pairs, tokenizer)
        folder = out / "pairs"
        if not (folder / REJECTED).is_file():
            examples = make_examples(tokenizer, load_data(data, model))
            prompts = [example.prompt for example in examples]
            paying = settled.paid_by(load_rewards(reward_models, model))
            draw_pairs(model, paying, prompts, settled.pairs, folder, settled.train.seed)
        return read_pairs(folder, tokenizer)

    runs.train_dpo(model, _reference(settled), drawn, settled, out, resume)
    write_run_page(out)
    print(f"policy in {out}; {_next_line(out, model)}")


def _reference(run: runs.ReferencedRun) -> SpeechTokenLM | None:
    """Load what a policy is held by; with adapters it is the policy without them."""
    return None if run.lora_rank else load_policy(run.start)


def speak(
    start: str,
    text: str,
    emotion: str,
    speaker: str,
    voice: Path | None,
    model_folder: Path | None,
    out: Path,
    seed: int,
) -> None:
    """Speak a text into a wav file."""
    if out.suffix.lower() != ".wav":
        raise UserError(f"{out} is not a wav file: give a name that ends in .wav")
    model = load_policy(start)
    if is_mini(model):
        tokens, sound, rate = _speak_mini(model, text, emotion, speaker, seed)
    elif speaker:
        raise UserError("--speaker names voices of the mini world: give CosyVoice a --voice")
    else:
        speech = CosyVoiceSpeech(start, model, voice, model_folder)
        tokens = _some(speech.draw([(text, emotion)], seed)[0])
        sound, rate = speech.codec.decode_native(tokens), speech.codec.native_rate
    audio.write(out, sound, rate)
    print(f"{out}: {sound.size / rate:.2f} s, {tokens.numel()} tokens")


def _speak_mini(
    model: SpeechTokenLM, text: str, emotion: str, speaker: str, seed: int
) -> tuple[Tensor, Audio, int]:
    if speaker and speaker not in SPEAKERS:
        raise UserError(f"unknown speaker {speaker!r}: choose one of {', '.join(SPEAKERS)}")
    world = World()
    prompt = make_prompt(world.tokenizer, text, emotion, speaker)
    tokens = _some(draw(model, [prompt], seed)[0])
    return tokens, world.codec().decode(tokens), audio.SAMPLE_RATE


def _some(tokens: Tensor) -> Tensor:
    if tokens.numel() == 0:
        raise UserError("the policy said nothing: try another --seed")
    return tokens


def evaluate(
    folders: Sequence[Path],
    rewards: Sequence[Path],
    sentences: int,
    seed: int,
    data: Path | None,
    voice: Path | None,
    model_folder: Path | None,
) -> None:
    """Judge policies on unseen sentences; figures go into each run's `evaluation.json`."""
    for folder in folders:
        if str(folder) != MINI and not folder.exists():
            raise UserError(f"no policy at {folder}")
    reward_models = {str(path): load_reward(str(path)) for path in rewards}
    policies = {str(folder): load_policy(str(folder)) for folder in folders}
    own = next(iter(reward_models), "")
    if all(is_mini(model) for model in policies.values()):
        if voice is not None or model_folder is not None:
            raise UserError("--voice and --model are for CosyVoice's policies: leave them out")
        world = World()
        judges = Judges.installed(world.judge())
        codec, base = world.codec(), world.policy()
        given = load_data(data, base) if data is not None else world.shard("test_same")
        utterances = first_texts(given, sentences)
        spoken_by = {
            name: partial(spoken, world, codec, model, base, utterances, seed)
            for name, model in {"real tokens": None, **policies}.items()
        }
    else:
        for name, model in policies.items():
            if is_mini(model):
                raise UserError(f"{name} speaks the mini codec's tokens: evaluate it by itself")
        judges = Judges.installed(None)
        asked = asked_of(load_data(data, next(iter(policies.values()))), sentences)
        spoken_by = {
            name: partial(CosyVoiceSpeech(name, model, voice, model_folder).samples, asked, seed)
            for name, model in policies.items()
        }
    systems = {}
    for name, speech in spoken_by.items():
        samples = speech()
        rows = measure(samples, reward_models, judges)
        systems[name] = summarise(rows, own, judges.content_reason)
        if name in policies and (Path(name) / "config.yaml").is_file():
            _keep(Path(name), samples, rows, {"seed": seed, "system": systems[name]})
    print_systems(systems, Console())


def _keep(
    folder: Path,
    samples: Sequence[Sample],
    rows: Sequence[dict[str, Any]],
    figures: Mapping[str, Any],
) -> None:
    """Write an evaluation into a run: its figures, its rows and its sounds."""
    shutil.rmtree(folder / "samples", ignore_errors=True)  # of an evaluation before
    for sample, row in zip(samples, rows, strict=True):
        path = folder / "samples" / f"{sample.id}.wav"
        audio.write(path, sample.audio)
        row["wav"] = path.relative_to(folder).as_posix()
    write_json(folder / "evaluation.json", figures)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    write_text(folder / "samples" / "samples.jsonl", lines)


def export(run: Path, to: str, out: Path, model_folder: Path | None) -> None:
    """Write a policy in the form other software reads."""
    model = load_policy(str(run))
    if to == "hf":
        if model_folder is None:
            raise UserError("--to hf needs CosyVoice's tokenizer: name its folder with --model")
        cosyvoice.save_hugging_face(model, read_tokenizer(model_folder, model.config.version), out)
    elif to not in ("cosyvoice2", "cosyvoice3"):
        raise UserError(f"unknown form {to!r}: choose cosyvoice2, cosyvoice3 or hf")
    elif to != f"cosyvoice{model.config.version}":
        raise UserError(
            f"{run} has the layout of CosyVoice{model.config.version}: "
            f"export it with --to cosyvoice{model.config.version}"
        )
    elif (out / "llm.pt").exists():
        raise UserError(f"{out / 'llm.pt'} is there already: name another --out or move it away")
    else:
        cosyvoice.save(model, out / "llm.pt")
        if is_mini(model):
            print("note: this policy has the mini world's sizes; stock CosyVoice cannot load it")
    print(f"{to} in {out}")


def bench_gradient(
    run: Path,
    reward_models: Sequence[str],
    size: tuple[int, int, int, int],
    more: bool,
    data: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Audit each estimator's gradient on rollouts of a policy."""
    found = _audit(run, reward_models, gradient.Size(*size), more, data, seed)
    if as_json:
        for measured in gradient.measurements(found):
            print(measured.line())
        return
    for name, comparison in found.items():
        Console().print(gradient.table(name, comparison, math.prod(size[:3])))


def _audit(
    run: Path,
    reward_models: Sequence[str],
    size: gradient.Size,
    more: bool,
    data: Path | None,
    seed: int,
) -> dict[str, dict[str, dict[str, Any]]]:
    model = load_policy(str(run))
    tokenizer = load_tokenizer(PolicyRun(start=str(run)), model)
    examples = make_examples(tokenizer, load_data(data, model))
    asked = [example.prompt for example in examples]
    paying = zip(reward_models, load_rewards(reward_models, model), strict=True)
    audited = {
        name: OnPolicy(model, load_policy(str(run)), Reward([one]), asked, RolloutConfig())
        for name, one in paying
    }
    estimators = (*gradient.EVERY, *(gradient.VARIANTS if more else ()))
    return gradient.audit(audited, size, seed, estimators)


def bench_all(
    run: Path, reward_models: Sequence[str], full_size: bool, blocks: int, out: Path, command: str
) -> None:
    """Measure everything and write a page."""
    if out.suffix != ".md":
        raise UserError(f"{out} is not a page of markdown: give a name that ends in .md")
    size = gradient.Size(blocks, 8, 8, 1)
    measured = []
    for one in speed.measure([], full_size):
        print(one.text(), flush=True)
        measured.append(one)
    found = _audit(run, reward_models, size, more=False, data=None, seed=0)
    for name, comparison in found.items():
        Console().print(gradient.table(name, comparison, blocks * 64))
    write_text(out, benchmarks_page(measured, found, str(run), blocks * 64, command))
    print(out)


def bench_speed(names: Sequence[str], full_size: bool, as_json: bool) -> None:
    """Print the ratios of the speed benchmarks, one by one as they are measured."""
    for measured in speed.measure(names, full_size):
        print(measured.line() if as_json else measured.text(), flush=True)


def report(folders: Sequence[Path]) -> None:
    """Write the page of each run or demo again."""
    for folder in folders:
        if not (folder / "results.json").is_file():
            raise UserError(f"{folder} holds no results.json: name the folder of a finished run")
        is_demo = "systems" in read_json(folder / "results.json")
        print(write_page(folder) if is_demo else write_run_page(folder))


def _next_line(out: Path, model: SpeechTokenLM) -> str:
    if not is_mini(model):
        version = model.config.version
        return f"write its llm.pt with: rrpo export {out} --to cosyvoice{version} --out FOLDER"
    return (
        f"hear it with: rrpo speak --policy {out} --emotion happy "
        '--text "The train leaves at noon." --out x.wav'
    )
