"""The command line."""

import errno
import io
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from rrpo import __version__
from rrpo.cli.bench import bench_app
from rrpo.cli.options import CodecOf, Data, Out, Systems, short_enough
from rrpo.cli.policy import policy_app
from rrpo.cli.reward import reward_app
from rrpo.cli.study import study_app
from rrpo.errors import UserError

app = typer.Typer(
    name="rrpo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Robust Reward Policy Optimization for emotional text-to-speech: train a token reward "
    "model, harden it, and post-train a speech-token LM against it.",
)

app.add_typer(reward_app, name="reward")
app.add_typer(policy_app, name="policy")
app.add_typer(study_app, name="study")
app.add_typer(bench_app, name="bench")
data_app = typer.Typer(no_args_is_help=True, help="Bring labelled speech into our form.")
app.add_typer(data_app, name="data")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"rrpo {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print it and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Hold the option that needs no command."""


@app.command()
def demo(
    out: Out = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Decides the whole run on one machine.")] = 0,
    smoke: Annotated[bool, typer.Option(help="Every stage, tiny: under a minute.")] = False,
    ablation: Annotated[
        bool, typer.Option(help="Also the reward models between plain and hardened.")
    ] = False,
    systems: Systems = "sft,diffro,rrpo",
    from_scratch: Annotated[
        bool,
        typer.Option(help="First make the bundled world again (4 hours; needs rrpo\\[mini])."),
    ] = False,
) -> None:
    """Harden a reward model, post-train a speaking LM in several ways, judge them, show a page."""
    from rrpo.studies.demo import demo, plan

    chosen = plan.with_systems(plan.SMOKE if smoke else plan.FULL, systems.split(","))
    world = None
    if from_scratch:
        from rrpo.mini.build import build

        world = build(out / "recipe", seed, scale=0.01 if smoke else 1.0)
        out = out / "demo"
    demo.run(out, seed, chosen, ablation, world, " ".join(["rrpo", *sys.argv[1:]]))


@data_app.command("import")
def data_import(
    corpus: Annotated[
        str,
        typer.Argument(
            help="Its layout: esd, iemocap, mer2023, ravdess, emodb, nemo, cremad, casia, "
            "emotiontts_ko, csv (a table with path and emotion) or cosyvoice (wav.scp …, or a "
            "parquet list)."
        ),
    ],
    path: Annotated[Path, typer.Argument(help="The corpus' folder, or a table or list of files.")],
    out: Out,
    emotions: Annotated[
        Path | None,
        typer.Option(help="Of cosyvoice: lines of utterance and emotion; default: utt2emo there."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABEL=EMOTION",
            help="What a label of the corpus means; `=other` leaves its recordings out.",
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OURS=THEIRS", help="Of csv: a column by another name, such as path=file."
        ),
    ] = None,
    separator: Annotated[
        str,
        typer.Option(
            help="Of csv: between its cells: comma, semicolon, tab, pipe or any sign; default: "
            "found by the header."
        ),
    ] = "",
    encoding: Annotated[
        str,
        typer.Option(help="Of csv: such as cp949; default: found, and said where it is not sure."),
    ] = "",
    codec_of: CodecOf = None,
) -> None:
    """Write a manifest.csv for `rrpo tokenize`, and token shards where the data has tokens."""
    from rrpo.commands.data import data_import as run

    run(corpus, path, out, emotions, label or [], column or [], separator, encoding, codec_of)


@app.command()
def tokenize(
    data: Annotated[Path, typer.Argument(help="manifest.csv (path, emotion, …) or its folder.")],
    out: Out,
    codec: Annotated[
        str,
        typer.Option(
            help="`mini`; s3:FOLDER for that of a CosyVoice folder; speech:FOLDER for one that a "
            "study on real speech has made."
        ),
    ] = "mini",
    mix: Annotated[int, typer.Option(min=0, help="Mixed versions of each utterance.")] = 0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Turn labelled audio into token shards, and into a mix pool with --mix."""
    from rrpo.commands.data import tokenize as run

    run(data, out, codec, mix, seed)


@app.command()
def speak(
    policy: Annotated[str, typer.Option(help="Folder of a policy, or `mini` for the base.")],
    text: Annotated[str, typer.Option(help="What to say.")],
    out: Annotated[Path, typer.Option(help="A wav file.", callback=short_enough)],
    emotion: Annotated[str, typer.Option(help="How to say it.")] = "neutral",
    speaker: Annotated[
        str, typer.Option(help="cedar, maple, hazel or willow instead of the main voice.")
    ] = "",
    voice: Annotated[
        Path | None, typer.Option(help="CosyVoice: a recording whose voice is taken over.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="CosyVoice: its model folder; default: where it began.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Speak a text with an emotion into a wav file."""
    from rrpo.commands import speech

    speech.speak(policy, text, emotion, speaker, voice, model, out, seed)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a policy.")],
    to: Annotated[str, typer.Option(help="cosyvoice2, cosyvoice3 or hf.")],
    out: Out,
    model: Annotated[
        Path | None, typer.Option(help="CosyVoice model folder, whose tokenizer hf needs.")
    ] = None,
) -> None:
    """Write a policy as CosyVoice's llm.pt, or as upstream's GRPO recipe reads it (hf)."""
    from rrpo.commands import speech

    speech.export(run, to, out, model)


@app.command()
def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Folders of policies.")],
    reward: Annotated[
        list[Path] | None, typer.Option(help="Reward models to score with, any number.")
    ] = None,
    sentences: Annotated[
        int, typer.Option(min=1, help="Test sentences, each with every emotion.")
    ] = 8,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    data: Data = None,
    codec_of: CodecOf = None,
    voice: Annotated[
        Path | None, typer.Option(help="CosyVoice: a recording whose voice is taken over.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="CosyVoice: its model folder; default: where it began.")
    ] = None,
) -> None:
    """Let policies speak unseen sentences and have every judge listen."""
    from rrpo.commands import speech

    speech.evaluate(runs, reward or [], sentences, seed, data, voice, model, codec_of)


@app.command()
def report(runs: Annotated[list[Path], typer.Argument(help="Folders of runs or demos.")]) -> None:
    """Write report.html of a run or a demo again."""
    from rrpo.commands import report as command

    command.report(runs)


def main() -> None:
    """Run the command line: exit code 2 and one line for the user's mistakes."""
    for stream in (sys.stdout, sys.stderr):
        # A console that cannot show a sign shows its number, and the command goes on.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(standalone_mode=False)
    except UserError as error:
        _mistake(str(error))
    except KeyboardInterrupt:
        _interrupted()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        _mistake(f"the name {str(error.filename)[:60]}… is too long: choose a shorter one")
    except Exception as error:
        # Typer raises click's exceptions, or those of a copy that it brings along.
        kind = type(error).__name__
        if kind == "Abort":
            _interrupted()
        if not hasattr(error, "format_message"):
            raise
        if kind == "NoArgsIsHelpError":
            print(error.format_message(), file=sys.stderr)  # the help; some print it before
            sys.exit(2)
        context = getattr(error, "ctx", None)
        path = "rrpo" if context is None else context.command_path
        _mistake(f"{error.format_message().strip().rstrip('.')}: see {path} --help")
    else:
        sys.exit(code)


def _mistake(message: str) -> NoReturn:
    line = " ".join(f"error: {message}".split())
    Console(stderr=True, soft_wrap=True).print(line, markup=False, highlight=False)
    sys.exit(2)


def _interrupted() -> NoReturn:
    print("interrupted", file=sys.stderr)
    sys.exit(130)
