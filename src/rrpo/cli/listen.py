"""`rrpo listen`: listening tests."""

import textwrap
from pathlib import Path
from typing import Annotated

import typer

from rrpo.cli.options import Data, Out, Seed
from rrpo.cli.speech import ModelFolder, Voice

listen_app = typer.Typer(no_args_is_help=True, help="Let people judge: blind listening tests.")

Test = Annotated[Path, typer.Argument(help="Folder of a listening test.")]


@listen_app.command(epilog="Example: rrpo listen build demo --out heard")
def build(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Demos, policies, `mini`, or folders of wavs with a table.csv (file, text, "
            "emotion); NAME=FOLDER renames one."
        ),
    ],
    out: Out,
    template: Annotated[
        str, typer.Option(help="paper, mos, cmos, preference, identification or artifacts.")
    ] = "paper",
    texts: Annotated[
        int | None,
        typer.Option(min=1, help="Texts for each emotion; default: 10, or as many as there are."),
    ] = None,
    emotions: Annotated[
        str | None, typer.Option(help="Which, such as happy,sad; default: the template's.")
    ] = None,
    systems: Annotated[
        str | None, typer.Option(help="Which of a demo's, such as sft,rrpo; default: all.")
    ] = None,
    listeners: Annotated[int, typer.Option(min=1, help="How many are expected.")] = 20,
    hear: Annotated[
        str, typer.Option(help="one or all: systems that a listener hears of an item.")
    ] = "one",
    reference: Annotated[
        Path | None, typer.Option(help="Folder of wavs: the hidden reference.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=0, help="Pages that are asked again.")] = 4,
    attention: Annotated[int, typer.Option(min=0, max=10, help="Attention checks.")] = 3,
    rules: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude", metavar="KEY=VALUE", help="Change an exclusion rule: attention_failed=1."
        ),
    ] = None,
    loudness: Annotated[float, typer.Option(min=-40, max=-10, help="In LUFS.")] = -23.0,
    pilot: Annotated[
        Path | None, typer.Option(help="A test whose ratings give the variances for the power.")
    ] = None,
    panel: Annotated[
        str | None, typer.Option(help="Parameter a panel fills in, such as PROLIFIC_PID.")
    ] = None,
    completion_url: Annotated[
        str | None, typer.Option(help="Where a panel's listener is sent at the end.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="What listeners read above the test.")] = None,
    seed: Seed = 0,
    data: Data = None,
    voice: Voice = None,
    model: ModelFolder = None,
) -> None:
    """Build a blind listening test of runs or of folders of recordings."""
    from rrpo.config import parse
    from rrpo.listen import power
    from rrpo.listen.build import Plan, build, changed_exclusion
    from rrpo.listen.items import USUAL
    from rrpo.listen.systems import Speaking

    given = {
        "template": template,
        "title": title,
        "texts": texts,
        "emotions": emotions.split(",") if emotions else None,
        "listeners": listeners,
        "hear": hear,
        "seed": seed,
        "repeats": repeats,
        "attention": attention,
        "loudness": loudness,
        "systems": systems.split(",") if systems else None,
        "panel": panel,
        "completion_url": completion_url,
    }
    plan = changed_exclusion(parse(Plan, given, Path("--hear")), rules or [])
    variances = (power.ASSUMED, power.SOURCE)
    if pilot is not None:
        from rrpo.listen.pilot import variances_of

        variances = variances_of(pilot), f"of the pilot test {pilot}"
    speaking = Speaking((texts or USUAL) + 1, seed, data, voice, model)
    _, lines = build(runs, out, plan, reference, speaking, variances)
    for line in lines:
        print(textwrap.fill(line, 80, subsequent_indent="  ", break_on_hyphens=False))
    print(f"the test: {out}; next: rrpo listen serve {out}")


@listen_app.command(epilog="Example: rrpo listen analyze heard")
def analyze(
    test: Test,
    judges: Annotated[
        bool, typer.Option(help="Let the judges listen as well, to compare them with the ratings.")
    ] = True,
    seed: Seed = 0,
) -> None:
    """Analyse what listeners answered: means with intervals, differences, agreement, a page."""
    from rich.console import Console

    from rrpo.listen.analysis import analyze
    from rrpo.listen.terminal import print_analysis

    print_analysis(analyze(test, judges=judges, seed=seed), Console())
    print(f"figures, table and page: {test / 'analysis.html'}")
