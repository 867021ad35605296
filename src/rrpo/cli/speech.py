"""What is done with a policy: `rrpo speak`, `evaluate`, `export`; and `rrpo report`."""

from pathlib import Path
from typing import Annotated

import typer

from rrpo.cli.options import CodecOf, Data, Out, Seed, short_enough

Voice = Annotated[
    Path | None, typer.Option(help="CosyVoice: a recording whose voice is taken over.")
]
ModelFolder = Annotated[
    Path | None,
    typer.Option("--model", help="CosyVoice: its model folder; default: where the policy started."),
]

Language = Annotated[
    str | None, typer.Option(help="CosyVoice: language of the emotion's instruction, such as zh.")
]
Instructions = Annotated[
    Path | None, typer.Option(help="CosyVoice: a YAML file with an instruction for each emotion.")
]
Choosing = Annotated[
    list[str] | None,
    typer.Option(
        "--reward",
        help="With --best-of: reward model the policy was trained against, or `mini`; repeat "
        "it for several, of which some may have a content head.",
    ),
]


def speak(
    policy: Annotated[str, typer.Option(help="Folder of a policy, or `mini` for the base.")],
    text: Annotated[str, typer.Option(help="What to say.")],
    out: Annotated[Path, typer.Option(help="A wav file.", callback=short_enough)],
    emotion: Annotated[
        str, typer.Option(help="How to say it, such as happy, angry or sad.")
    ] = "neutral",
    speaker: Annotated[
        str, typer.Option(help="cedar, maple, hazel or willow instead of the main voice.")
    ] = "",
    voice: Voice = None,
    model: ModelFolder = None,
    language: Language = None,
    instructions: Instructions = None,
    seed: Seed = 0,
    best_of: Annotated[
        int,
        typer.Option(help="Draw so many utterances and keep the one of the highest --reward."),
    ] = 1,
    reward: Choosing = None,
    codec_of: CodecOf = None,
) -> None:
    """Speak a text with an emotion into a wav file.

    --best-of 8 --reward RM draws eight utterances and keeps the one of the highest reward, to which
    the words contribute where a reward model has a content head.
    """
    from rrpo import audio
    from rrpo.errors import UserError
    from rrpo.speaking.by_name import speech

    if out.suffix.lower() != ".wav":
        raise UserError(f"{out} is not a wav file: give a name that ends in .wav")
    if out.is_dir():
        raise UserError(f"{out} is a folder: give a name for a wav file")
    if voice is not None and out.exists() and Path(voice).exists() and out.samefile(voice):
        raise UserError(f"{out} is the recording of --voice: name another --out")
    said = speech(
        policy,
        text,
        emotion,
        speaker=speaker,
        voice=voice,
        folder=model,
        language=language,
        instructions=instructions,
        seed=seed,
        best_of=best_of,
        rewards=reward or [],
        codec_of=codec_of,
    )
    audio.write(out, said.audio, said.rate)
    print(f"{out}: {said.audio.size / said.rate:.2f} s, {said.tokens.numel()} tokens")
    if said.choice is not None:
        print(said.choice.line())
    for note in said.notes:
        print(f"note: {note}")


def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Folders of policies, or `mini`.")],
    reward: Annotated[
        list[Path] | None, typer.Option(help="Reward models to score with, any number.")
    ] = None,
    sentences: Annotated[
        int, typer.Option(min=1, help="Test sentences, each with every emotion.")
    ] = 8,
    seed: Seed = 0,
    data: Data = None,
    codec_of: CodecOf = None,
    voice: Voice = None,
    model: ModelFolder = None,
    matching: Annotated[
        Path | None,
        typer.Option(
            help="CosyVoice: recordings named by emotion, such as happy.wav; the recodec audit is "
            "made with these voices, too."
        ),
    ] = None,
) -> None:
    """Let policies speak unseen sentences and score them with every judge."""
    from rich.console import Console

    from rrpo import judging
    from rrpo.report.terminal import print_systems

    systems = judging.evaluate(
        runs,
        reward or [],
        sentences=sentences,
        seed=seed,
        data=data,
        voice=voice,
        model=model,
        codec_of=codec_of,
        matching=matching,
    )
    synthetic = "real tokens" in systems  # which the mini world alone has
    print_systems(systems, Console(), [str(path) for path in reward or []], synthetic)


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a policy.")],
    to: Annotated[str, typer.Option(help="cosyvoice2, cosyvoice3 or hf.")],
    out: Out,
    model: Annotated[
        Path | None, typer.Option(help="CosyVoice model folder, whose tokenizer hf needs.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="float32, bfloat16 or float16; default: that of the file it began from."),
    ] = None,
) -> None:
    """Write a policy as CosyVoice's llm.pt, or as upstream's GRPO recipe reads it (hf).

    A model card is written beside it.
    """
    from rrpo.export import export
    from rrpo.loading import is_mini

    made = export(run, to, out, model, precision)
    if to != "hf" and is_mini(made.policy):
        print("note: this policy has the mini world's sizes; stock CosyVoice cannot load it")
    for note in made.notes:
        print(note)
    print(f"{to} in {out}, its card in {made.card}")


def report(runs: Annotated[list[Path], typer.Argument(help="Folders of runs or demos.")]) -> None:
    """Write report.html of a run or a demo again."""
    from rrpo.errors import UserError
    from rrpo.files import read_json
    from rrpo.report.page import write_page, write_run_page

    for folder in runs:
        if folder.is_file():
            raise UserError(f"{folder} is a file: name its folder, {folder.parent}")
        path = folder / "results.json"
        running = any((folder / name).is_file() for name in ("stages.json", "samples.jsonl"))
        if not path.is_file() and not running:
            raise UserError(f"{folder} holds no results.json: name the folder of a finished run")
        results = read_json(path) if path.is_file() else {}
        if not isinstance(results, dict):
            raise UserError(f"{path} is not of a run or a demo: run it again")
        demo = running or "systems" in results
        print(write_page(folder) if demo else write_run_page(folder))
