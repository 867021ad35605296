"""The command line."""

import errno
import io
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, TextIO

import typer
from rich.console import Console
from typer.core import TyperGroup
from typer.main import get_command

from rrpo import __version__
from rrpo.archive import refuse_archive
from rrpo.cli.bench import bench_app
from rrpo.cli.data import data_app, tokenize
from rrpo.cli.doctor import doctor
from rrpo.cli.listen import listen_app
from rrpo.cli.options import Ablation, Out, Seed, Smoke, Systems, command_line
from rrpo.cli.play import play
from rrpo.cli.policy import policy_app
from rrpo.cli.repeated import refuse_repeated
from rrpo.cli.reward import reward_app
from rrpo.cli.speech import evaluate, export, report, speak
from rrpo.cli.study import study_app
from rrpo.cores import choose_threads, cores
from rrpo.errors import UserError
from rrpo.notes import rank

TRAINING = ("reward", "policy", "tokenize", "speak", "evaluate", "listen", "study")
"""Commands that are busy for long, with torch."""
ORDER = (
    "demo",
    "play",
    "speak",
    "reward",
    "policy",
    "evaluate",
    "listen",
    "report",
    "data",
    "tokenize",
)
"""Commands as the help lists them, what a user meets first before the others."""
INTERRUPTED = 130
"""The exit code after Ctrl-C, as of a shell."""
FULL = (errno.ENOSPC, errno.EDQUOT)
"""What a system says of a disk that is full, or of a user who has had his part of it."""
FULL_GPU = ("out of memory", "status_alloc_failed")
"""What the parts of CUDA, and others, say of a GPU whose memory is full."""


class _Ordered(TyperGroup):
    """The commands in the order of their use."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return their names."""
        names = super().list_commands(ctx)
        return [*ORDER, *(name for name in names if name not in ORDER)]


app = typer.Typer(
    name="rrpo",
    cls=_Ordered,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Robust Reward Policy Optimization for emotional text-to-speech: train a token reward "
    "model, harden it, and post-train a speech-token LM against it.",
    epilog="Example: rrpo demo --smoke --out demo-smoke",
)

app.add_typer(reward_app, name="reward")
app.add_typer(policy_app, name="policy")
app.add_typer(study_app, name="study")
app.add_typer(bench_app, name="bench")
app.add_typer(data_app, name="data")
app.add_typer(listen_app, name="listen")
app.command(epilog="Example: rrpo tokenize imported --codec s3:FOLDER --out tokens")(tokenize)
app.command(epilog="Example: rrpo speak --policy mini --text 'It is late.' --out x.wav")(speak)
app.command(epilog="Example: rrpo evaluate sft rrpo-policy --reward rm")(evaluate)
app.command(epilog="Example: rrpo export rrpo-run --to cosyvoice2 --out exported")(export)
app.command(epilog="Example: rrpo report demo")(report)
app.command(epilog="Example: rrpo doctor --json")(doctor)
app.command(epilog="Example: rrpo play sft rrpo-policy --port 0")(play)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"rrpo {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print it and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Take the option that needs no command."""
    if context.invoked_subcommand in TRAINING and "--help" not in sys.argv:
        choose_threads()


@app.command(epilog="Example: rrpo demo --quick --out demo")
def demo(
    out: Out = Path("demo"),
    seed: Seed = 0,
    smoke: Smoke = False,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="A taste, two minutes: one emotion, a fifth of the steps."),
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Trainings at once, one core each; default: all cores."),
    ] = None,
    ablation: Ablation = False,
    systems: Systems = None,
    from_scratch: Annotated[
        bool,
        typer.Option(help="First make the bundled world again (4 hours; needs rrpo\\[mini])."),
    ] = False,
) -> None:
    """Harden a reward model, post-train a small LM in several ways, judge them, write a page.

    The page is there within seconds and grows. Ctrl-C stops; the same command goes on.
    """
    if smoke and quick:
        raise UserError("--smoke and --quick are two sizes: give one")
    workers = min(jobs or cores(), 3)
    if workers == 1:
        print("one core: the stages run one after the other", file=sys.stderr)
    else:
        print(f"{workers} cores, a stage on each: loading …", file=sys.stderr)
    from rrpo.studies.demo import demo
    from rrpo.studies.demo.systems import DEMO, QUICK, SMOKE, with_systems

    size = SMOKE if smoke else QUICK if quick else DEMO
    chosen = size if systems is None else with_systems(size, systems.split(","))
    world = None
    if from_scratch:
        from rrpo_world.build import build

        world = build(out / "recipe", seed, scale=0.01 if smoke else 1.0)
        out = out / "demo"
    demo.run(out, seed, chosen, ablation, world, command_line(), workers)


def main() -> None:
    """Run the command line: exit code 2 and one line for the user's mistakes."""
    for stream in (sys.stdout, sys.stderr):
        # A console that cannot show a sign shows its number, and the command goes on.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.showwarning = _show_warning
    try:
        _require_utf8(*sys.argv[1:], _folder())
        _require_given(sys.argv[1:])
        command = get_command(app)
        refuse_repeated(command, sys.argv[1:])
        code = command(standalone_mode=False)
    except UserError as error:
        if error.told_elsewhere:
            sys.exit(2)
        _mistake(str(error))
    except KeyboardInterrupt:
        _interrupted()
    except OSError as error:
        if (told := _out_of_memory(error)) is not None:
            _mistake(told)
        if error.errno == errno.ENAMETOOLONG:
            _mistake(f"the name {str(error.filename)[:60]}… is too long: choose a shorter one")
        if error.errno not in FULL and "temporary directory" not in str(error):
            raise
        place = error.filename or "the folder of temporary files"
        _mistake(f"there is no room on the disk for {place}: free space, or name another in TMPDIR")
    except Exception as error:
        # Typer raises click's exceptions, or those of a copy that it brings along.
        kind = type(error).__name__
        if kind == "Abort":
            _interrupted()
        if (told := _out_of_memory(error)) is not None:
            _mistake(told)
        if not hasattr(error, "format_message"):
            raise
        if kind == "NoArgsIsHelpError":
            print(error.format_message(), file=sys.stderr)  # the help; some print it before
            sys.exit(2)
        context = getattr(error, "ctx", None)
        path = "rrpo" if context is None else context.command_path
        _mistake(f"{error.format_message().strip().rstrip('.')}: see {path} --help")
    else:
        if code == INTERRUPTED:  # typer's word for Ctrl-C
            _interrupted()
        sys.exit(code)


def _out_of_memory(error: Exception) -> str | None:
    """Return what to say of an error if it is of a lack of memory, a GPU's or the machine's."""
    less = "take a smaller batch in a training, or --set recompute=true in a policy's"
    told = str(error).lower()
    if type(error).__name__ == "OutOfMemoryError" or any(one in told for one in FULL_GPU):
        return f"the GPU has too little memory for this: {less}, or set ACCELERATE_USE_CPU=true"
    if (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or any(one in told for one in ("can't allocate memory", "cannot allocate memory"))
    ):
        return f"there is too little memory for this: {less}"
    return None


def _require_utf8(*words: str) -> None:
    """Refuse a name or a text that is not UTF-8: pages, tables and settings could not hold it.

    Raises:
        UserError: a word of the command, or the folder it is in, is not.
    """
    for word in words:
        try:
            word.encode("utf-8")
        except UnicodeEncodeError:
            shown = os.fsencode(word).decode("utf-8", errors="backslashreplace")
            raise UserError(
                f"{shown} is not UTF-8: write it so (a file is renamed by convmv -f latin1 -t utf8 "
                "--notest)"
            ) from None


def _require_given(words: Sequence[str]) -> None:
    """Refuse an empty word, as of a variable that is not set: as a path it is the current folder.

    Raises:
        UserError: an option or an argument is empty, or names an archive.
    """
    for before, word in zip(("", *words), words, strict=False):
        option, equals, value = word.partition("=")
        empty = word.startswith("--") and equals and not value.strip()
        if empty or (not word.strip() and before != "--text"):  # which has an answer of its own
            named = option if empty else before if before.startswith("--") else "an argument"
            raise UserError(f"{named} is empty: give it a value, or leave it out")
        refuse_archive(Path(value if equals else word.partition(":")[2] or word))


def _folder() -> str:
    """Return the folder that the command is in.

    Raises:
        UserError: it was removed.
    """
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        raise UserError("the folder you are in was removed: change to another") from None


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning of ours as a line, without the place in the code that other warnings name."""
    if Path(filename).is_relative_to(Path(__file__).parents[1]):
        if rank() == 0:
            print(f"note: {' '.join(str(message).split())}", file=sys.stderr)
    else:
        text = warnings.formatwarning(message, category, filename, lineno, line)
        print(text, end="", file=file or sys.stderr)


def _mistake(message: str) -> NoReturn:
    which = f"process {rank()}: " if rank() > 0 else ""
    line = " ".join(f"error: {which}{message}".split())
    Console(stderr=True, soft_wrap=True).print(line, markup=False, highlight=False)
    sys.exit(2)


def _interrupted() -> NoReturn:
    print("interrupted", file=sys.stderr)
    sys.exit(INTERRUPTED)
