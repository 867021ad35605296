"""`rrpo speak`, `rrpo evaluate` and `rrpo export`: what is done with a policy."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from torch import Tensor

from rrpo import audio
from rrpo.audio import Audio
from rrpo.checkpoint import write_json, write_text
from rrpo.data.manifest import require_empty
from rrpo.errors import NotFinite, UserError
from rrpo.evaluate import artifacts
from rrpo.evaluate.panel import Judges, Sample, measure, summarise
from rrpo.folder import begin_folder, commit_folder
from rrpo.identity import require_one_codec
from rrpo.loading import (
    MINI,
    codec_identity,
    is_mini,
    load_data,
    load_policy,
    load_reward_model,
)
from rrpo.mini.speaking import first_texts, limits, spoken
from rrpo.mini.speaking import speak as draw
from rrpo.mini.text import SPEAKERS
from rrpo.mini.world import World
from rrpo.policy import SpeechTokenLM, cosyvoice
from rrpo.policy.cosyvoice_text import read_tokenizer
from rrpo.policy.examples import make_prompt
from rrpo.report.page import write_run_page
from rrpo.report.terminal import print_systems
from rrpo.speaking import CosyVoiceSpeech, asked_of

REMEDY = "try another --seed, or a policy that was trained for fewer steps"


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
    if out.is_dir():
        raise UserError(f"{out} is a folder: give a name for a wav file")
    spoken = (text, emotion, speaker, voice, model_folder, seed)
    tokens, sound, rate, notes = spoken_text(start, *spoken)
    audio.write(out, sound, rate)
    print(f"{out}: {sound.size / rate:.2f} s, {tokens.numel()} tokens")
    for note in notes:
        print(f"note: {note}")


def spoken_text(
    start: str,
    text: str,
    emotion: str,
    speaker: str,
    voice: Path | None,
    model_folder: Path | None,
    seed: int,
) -> tuple[Tensor, Audio, int, list[str]]:
    """Speak a text; return tokens (T,), audio (N,), samples per second, and what is odd."""
    model = load_policy(start)
    if is_mini(model):
        if voice is not None or model_folder is not None:
            raise UserError("--voice and --model are for CosyVoice's policies: leave them out")
        with _naming(start):
            tokens, sound, rate, ended = _speak_mini(model, text, emotion, speaker, seed)
    elif speaker:
        raise UserError("--speaker names voices of the mini world: give CosyVoice a --voice")
    else:
        speech = CosyVoiceSpeech(start, model, voice, model_folder)
        with _naming(start):
            tokens, ended = speech.draw([(text, emotion)], seed)[0]
        _some(tokens)
        sound, rate = speech.codec.decode_native(tokens), speech.codec.native_rate
    if not np.isfinite(sound).all():
        raise UserError(f"{start}: its speech decodes to samples that are no numbers: not written")
    notes = []
    if not ended:
        notes.append(
            f"{start} did not end the utterance by itself: it was cut at the greatest length "
            f"for this text; {REMEDY}"
        )
    if artifacts.loops(tokens):
        share = artifacts.repetition(tokens)
        notes.append(f"{start} loops: {share:.0%} of the tokens are stuck or repeated; {REMEDY}")
    return tokens, sound, rate, notes


def _speak_mini(
    model: SpeechTokenLM, text: str, emotion: str, speaker: str, seed: int
) -> tuple[Tensor, Audio, int, bool]:
    if speaker and speaker not in SPEAKERS:
        raise UserError(f"unknown speaker {speaker!r}: choose one of {', '.join(SPEAKERS)}")
    world = World()
    prompt = make_prompt(world.tokenizer, text, emotion, speaker)
    tokens = _some(draw(model, [prompt], seed)[0])
    ended = tokens.numel() < limits(model, [prompt])[0]
    return tokens, world.codec().decode(tokens), audio.SAMPLE_RATE, ended


@contextmanager
def _naming(start: str) -> Iterator[None]:
    """Say which policy it is whose scores are no numbers."""
    try:
        yield
    except NotFinite as error:
        raise UserError(f"{start}: {error}") from None


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
    codec_of: str | None = None,
) -> None:
    """Judge policies on unseen sentences and print it."""
    systems = judged(folders, rewards, sentences, seed, data, voice, model_folder, codec_of)
    synthetic = "real tokens" in systems  # which the mini world alone has
    print_systems(systems, Console(), [str(path) for path in rewards], synthetic)


def judged(
    folders: Sequence[Path],
    rewards: Sequence[Path],
    sentences: int,
    seed: int,
    data: Path | None,
    voice: Path | None,
    model_folder: Path | None,
    codec_of: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Judge policies on unseen sentences; figures go into each run's `evaluation.json`.

    Returns:
        name of a policy, and "real tokens" of the mini world → its figures (`summarise`).
    """
    for folder in folders:
        if str(folder) != MINI and not folder.exists():
            raise UserError(f"no policy at {folder}")
    reward_models = {str(path): load_reward_model(path) for path in rewards}
    policies = {str(folder): load_policy(folder) for folder in folders}
    known = {f"the policy {name}": one.config.codec for name, one in policies.items()}
    known |= {f"the reward model {name}": one.config.codec for name, one in reward_models.items()}
    require_one_codec(known, codec_identity(codec_of))
    synthetic = all(is_mini(model) for model in policies.values())
    if synthetic:
        if voice is not None or model_folder is not None:
            raise UserError("--voice and --model are for CosyVoice's policies: leave them out")
        world = World()
        judges = Judges.installed(world.judge())
        codec, base = world.codec(), world.policy()
        given = (
            load_data(data, base, True, codec_of) if data is not None else world.shard("test_same")
        )
        utterances = first_texts(given, sentences)
        emotions = [row.emotion for row in utterances]
        spoken_by = {
            name: partial(spoken, world, codec, model, base, utterances, seed)
            for name, model in {"real tokens": None, **policies}.items()
        }
    else:
        judges = Judges.installed(None)
        given = load_data(data, next(iter(policies.values())), True, codec_of)
        asked = asked_of(given, sentences)
        emotions = [emotion for _, emotion in asked]
        spoken_by = {
            name: partial(CosyVoiceSpeech(name, model, voice, model_folder).samples, asked, seed)
            for name, model in policies.items()
        }
    for name, paying in reward_models.items():
        for emotion in emotions:
            if emotion not in paying.classes():
                raise UserError(f"{name} does not know the emotion {emotion!r}, which is asked for")
    systems, unruly = {}, []
    for name, speech in spoken_by.items():
        with _naming(name):
            samples = speech()
        unruly += _unruly(name, samples) if name in policies else []
        rows = measure(samples, reward_models, judges)
        systems[name] = summarise(rows, "", judges.content_reason)
        if name in policies and (Path(name) / "config.yaml").is_file():
            _keep(Path(name), samples, rows, {"seed": seed, "system": systems[name]})
    for note in unruly:
        print(note)
    return systems


def _unruly(name: str, samples: Sequence[Sample]) -> list[str]:
    """Return a line for each way in which a policy's speech got out of hand."""
    endless = sum(sample.ended is False for sample in samples)
    looping = sum(artifacts.loops(sample.tokens) for sample in samples)
    told = ((endless, "did not end by themselves"), (looping, "loop"))
    return [
        f"note: {name}: {count} of {len(samples)} utterances {what}; {REMEDY}"
        for count, what in told
        if count
    ]


def _keep(
    folder: Path,
    samples: Sequence[Sample],
    rows: Sequence[dict[str, Any]],
    figures: Mapping[str, Any],
) -> None:
    """Write an evaluation into a run, in place of one before: its figures, rows and sounds."""
    target = folder / "samples"
    fresh = begin_folder(target)
    for sample, row in zip(samples, rows, strict=True):
        audio.write(fresh / f"{sample.id}.wav", sample.audio)
        row["wav"] = f"samples/{sample.id}.wav"
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    write_text(fresh / "samples.jsonl", lines)
    commit_folder(target)
    write_json(folder / "evaluation.json", figures)
    if (folder / "results.json").is_file():
        print(f"page: {write_run_page(folder)}")


def export(run: Path, to: str, out: Path, model_folder: Path | None) -> None:
    """Write a policy in the form other software reads."""
    model = load_policy(run)
    if to == "hf":
        if model_folder is None:
            raise UserError("--to hf needs CosyVoice's tokenizer: name its folder with --model")
        require_empty(out)  # such a folder is read before an llm.pt beside it
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
