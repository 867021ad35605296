"""Arguments and options of `rrpo listen build`."""

from pathlib import Path
from typing import Annotated

import typer

Runs = Annotated[
    list[str],
    typer.Argument(
        help="Demos, policies, `mini`, or folders of wavs with a table.csv (file, text, "
        "emotion); NAME=FOLDER renames one."
    ),
]

Template = Annotated[
    str, typer.Option(help="paper, mos, cmos, preference, identification or artifacts.")
]

Texts = Annotated[
    int | None,
    typer.Option(min=1, help="Texts for each emotion; default: 10, or as many as there are."),
]

Emotions = Annotated[
    str | None, typer.Option(help="Which, such as happy,sad; default: the template's.")
]

Systems = Annotated[
    str | None, typer.Option(help="Which of a demo's, such as sft,rrpo; default: all.")
]

Listeners = Annotated[int, typer.Option(min=1, max=1000, help="How many are expected.")]

Hear = Annotated[str, typer.Option(help="one or all: systems that a listener hears of an item.")]

Reference = Annotated[Path | None, typer.Option(help="Folder of wavs: the hidden reference.")]

Repeats = Annotated[int, typer.Option(min=0, help="Pages that are asked again.")]

Attention = Annotated[int, typer.Option(min=0, max=10, help="Attention checks.")]

Rules = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude", metavar="KEY=VALUE", help="Change an exclusion rule: attention_failed=1."
    ),
]

Loudness = Annotated[float, typer.Option(min=-40, max=-10, help="In LUFS.")]

Pilot = Annotated[
    Path | None, typer.Option(help="A test whose ratings give the variances for the power.")
]

Panel = Annotated[
    str | None, typer.Option(help="Parameter a panel fills in, such as PROLIFIC_PID.")
]

CompletionUrl = Annotated[
    str | None, typer.Option(help="Where a panel's listener is sent at the end.")
]

Title = Annotated[str | None, typer.Option(help="What listeners read above the test.")]

Instructions = Annotated[
    Path | None, typer.Option(help="Text file of your own instructions to listeners, in UTF-8.")
]
