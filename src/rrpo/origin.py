"""What a policy started from, and what it is told for each emotion."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from rrpo import config as configuration
from rrpo.config import Strict
from rrpo.errors import UserError
from rrpo.files import write_text
from rrpo.mini.world import BUNDLED, MINI
from rrpo.run_folder import run_of

Thing = TypeVar("Thing")
Location = str | Path
"""A path, or `mini` for what is bundled."""
KEPT = "instructions.kept.yaml"
"""What a run keeps of the instructions that were named for it: the file named may change, or go."""


class Origin(Strict):
    """What a policy started from: `mini`, a CosyVoice folder or checkpoint, or a run.

    `language` and `instructions` (a YAML file) choose what CosyVoice is told for each emotion.
    """

    start: str = MINI
    language: str | None = None
    instructions: str | None = None


def listed(given: Sequence[Thing] | Thing) -> list[Thing]:
    """Return what is given as a list, where a single one may stand without: a name, a reward.

    Examples:
        >>> listed("mini"), listed(("mini", "rm"))
        (['mini'], ['mini', 'rm'])
    """
    if isinstance(given, Sequence) and not isinstance(given, str):
        return list(given)
    return [given]


def require_location(what: str, given: object) -> None:
    """Refuse what is no name and no path, such as a model in place of its folder.

    Raises:
        UserError: it is something else.
    """
    if not isinstance(given, str | os.PathLike):
        raise UserError(
            f"{what} is a {type(given).__name__}: give the path of its folder, or the name of what "
            f"is bundled, such as {MINI}"
        )
    if not str(given):
        raise UserError(f"{what} is empty: name a folder, or {MINI}")


def is_run(location: Location) -> bool:
    """Say whether a location is the folder of a training run, and no name of what is bundled."""
    return str(location) not in BUNDLED and (Path(location) / "config.yaml").is_file()


def origin_of(location: Location, depth: int = 0) -> Origin:
    """Follow a start that is itself a run to what the first of them started from.

    Returns:
        Its start (`mini` or a path), and the language and instructions nearest to `location`.

    Raises:
        UserError: a run's configuration cannot be read, or the runs lead back to themselves.
    """
    folder = None if str(location) == MINI else run_of(Path(location))
    if folder is None:
        return Origin(start=str(location))
    config = folder / "config.yaml"
    if depth > 100:
        raise UserError(f"{config} leads back to itself by its `start`: correct it")
    values = configuration.read(config)
    known = {key: values[key] for key in Origin.model_fields if key in values}
    run = configuration.parse(Origin, known, config)
    first = origin_of(run.start, depth + 1)
    kept = folder / KEPT
    return Origin(
        start=first.start,
        language=run.language or first.language,
        instructions=str(kept) if kept.is_file() else run.instructions or first.instructions,
    )


def keep_instructions(origin: Origin, folder: Path) -> None:
    """Copy the instructions that a run is trained with into its folder, unless they are there.

    Raises:
        UserError: they cannot be read, or the folder cannot be written.
    """
    kept = folder / KEPT
    if origin.instructions is not None and not kept.is_file():
        write_text(kept, read_instructions(origin.instructions))


def read_instructions(path: str) -> str:
    """Return the content of a file of instructions.

    Raises:
        UserError: it is not there, or no text in UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise UserError(
            f"the instructions {path} cannot be read ({reason}): name a YAML file with --set "
            "instructions=FILE"
        ) from None
