"""Named settings: `paper`, the literal reading, `recommended`, what measurements say is best.

`detector` is what is best where a sound is feared and there is a detector of it.

A preset is a YAML file beside this one; `--config` and `--set` change single settings of it.
"""

from pathlib import Path

from rrpo.errors import UserError

NAMES = {
    "reward": ("paper", "recommended", "strong_step"),
    "diffro": ("paper", "recommended", "detector"),
    "dpo": ("recommended",),
}
"""Presets of each command."""


def preset(command: str, name: str) -> Path:
    """Return the file of a preset.

    Args:
        command: "reward", "diffro" or "dpo".
        name: one of its `NAMES`.

    Raises:
        UserError: there is no such preset.

    Examples:
        >>> preset("diffro", "paper").name
        'diffro-paper.yaml'
    """
    if name not in NAMES[command]:
        raise UserError(f"there is no preset {name!r}: choose from {', '.join(NAMES[command])}")
    return Path(__file__).parent / f"{command}-{name}.yaml"
