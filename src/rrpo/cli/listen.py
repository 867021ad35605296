"""`rrpo listen`: listening tests."""

import shlex
import textwrap
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from rrpo.cli import listen_options as asked
from rrpo.cli.options import Data, Host, Out, Port, Seed
from rrpo.cli.speech import ModelFolder, Voice
from rrpo.errors import UserError

listen_app = typer.Typer(
    no_args_is_help=True,
    help="Let people judge: blind listening tests.",
    epilog="Example: rrpo listen build demo --out heard",
)

SERVER = ("anyio", "starlette", "uvicorn")
"""What the server needs of the extra `listen`."""
CONNECTIONS = 1000
"""Of listeners; a browser takes up to six."""

Test = Annotated[Path, typer.Argument(help="Folder of a listening test.")]


@listen_app.command(epilog="Example: rrpo listen build demo --out heard")
def build(
    runs: asked.Runs,
    out: Out,
    template: asked.Template = "paper",
    texts: asked.Texts = None,
    emotions: asked.Emotions = None,
    systems: asked.Systems = None,
    listeners: asked.Listeners = 20,
    hear: asked.Hear = "one",
    reference: asked.Reference = None,
    repeats: asked.Repeats = 4,
    attention: asked.Attention = 3,
    rules: asked.Rules = None,
    loudness: asked.Loudness = -23.0,
    pilot: asked.Pilot = None,
    panel: asked.Panel = None,
    completion_url: asked.CompletionUrl = None,
    title: asked.Title = None,
    instructions: asked.Instructions = None,
    seed: Seed = 0,
    data: Data = None,
    voice: Voice = None,
    model: ModelFolder = None,
) -> None:
    """Build a blind listening test of runs or of folders of recordings."""
    from rrpo.config import parse
    from rrpo.listen import power
    from rrpo.listen.build import Plan, build, changed_exclusion
    from rrpo.listen.instructions import read_instructions
    from rrpo.listen.items import USUAL
    from rrpo.listen.systems import Speaking

    given = {
        "template": template,
        "title": title,
        "texts": texts,
        "emotions": _names("--emotions", emotions),
        "listeners": listeners,
        "hear": hear,
        "seed": seed,
        "repeats": repeats,
        "attention": attention,
        "loudness": loudness,
        "systems": _names("--systems", systems),
        "panel": panel,
        "completion_url": completion_url,
        "instructions": None if instructions is None else read_instructions(instructions),
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
    print(f"the test: {out}; next: rrpo listen serve {shlex.quote(str(out))}")


def _names(option: str, given: str | None) -> list[str] | None:
    """Read names between commas; None where the option is not given."""
    if given is None:
        return None
    names = [name.strip() for name in given.split(",")]
    if not all(names):
        raise UserError(f"{option} {given!r} has an empty name: give names with a comma between")
    if len(set(names)) < len(names):
        raise UserError(f"{option} {given} names one twice: leave it out once")
    return names


@listen_app.command(epilog="Example: rrpo listen serve test --port 8026")
def serve(
    test: Test,
    host: Host = "127.0.0.1",
    port: Port = 8026,
    listeners: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="Print so many links, and take nobody without one."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="What listeners open where a proxy stands before it: https://…"),
    ] = None,
    static: Annotated[
        Path | None,
        typer.Option(help="Write a folder for any web host instead, and serve nothing."),
    ] = None,
) -> None:
    """Collect ratings: a page for listeners, one for you; or, with --static, a folder of files."""
    from rrpo.listen.design import read_design
    from rrpo.listen.links import read_secret, tokens, told

    if static is not None:
        if listeners or address:
            raise UserError(
                "--static has no links of a server: leave out --listeners and --address"
            )
        from rrpo.listen.static import write_static

        write_static(test, static)
        print(f"wrote {static}: put it on a web host; results files go into {test / 'results'}")
        return
    try:
        from rrpo import server
        from rrpo.listen import collect
        from rrpo.listen.store import Store
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in SERVER:
            raise
        raise UserError(f"{package} is not installed: pip install 'rrpo[listen]'") from None
    name = _name(address)
    design = read_design(test)
    listening = server.listen(host, port)
    store, secret = Store(test, design), read_secret(test)
    invited = tokens(secret, listeners or 0)
    app = collect.make(test, store, secret, [host, *name], invited)
    server.serve(
        app,
        host,
        listening,
        lambda here: told(address or here, secret, invited, design.panel),
        CONNECTIONS,
    )
    store.close()


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


def _name(address: str | None) -> list[str]:
    """Return the name in an address, under which the proxy may ask.

    Raises:
        UserError: it is no address.
    """
    if address is None:
        return []
    try:
        parts = urlsplit(address)
        name = parts.hostname
    except ValueError:
        name = None
    if not name or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise UserError(f"--address {address!r}: give one such as https://listen.example.org/")
    return [name]
