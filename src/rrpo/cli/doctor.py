"""`rrpo doctor`."""

from typing import Annotated

import typer


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="As one JSON object, for a report of a fault.")
    ] = False,
) -> None:
    """Show versions, threads, device and optional parts, and check the bundled assets."""
    import json

    from rrpo import doctor
    from rrpo.errors import UserError

    found = doctor.examine()
    print(json.dumps(found, indent=2) if as_json else "\n".join(doctor.lines(found)))
    if found["broken"]:
        raise UserError("; ".join(found["broken"]))
