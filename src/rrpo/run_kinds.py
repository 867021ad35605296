"""The configurations of the commands that train: filled, and of which command each is."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from rrpo import config as configuration
from rrpo import policy_runs
from rrpo.config import Strict
from rrpo.errors import UserError
from rrpo.reward.config import RewardRun
from rrpo.reward.detector import DetectorRun
from rrpo.schedule import tell_warmup

COMMANDS: dict[str, type[Strict]] = {
    "reward train": RewardRun,
    "reward detector": DetectorRun,
    "policy sft": policy_runs.SFTRun,
    "policy diffro": policy_runs.DiffRORun,
    "policy grpo": policy_runs.GRPORun,
    "policy dpo": policy_runs.DPORun,
}
"""What `config.yaml` of each training is."""


Run = TypeVar("Run", bound=RewardRun | DetectorRun | policy_runs.PolicyRun)


def filled(
    kind: type[Run], file: str | Path | None, overrides: Sequence[str], preset: Path | None = None
) -> Run:
    """Fill a training's configuration from a preset, a YAML file and options (`rrpo.config.load`).

    Raises:
        UserError: as that, or the file is of another training.
    """
    path = None if file is None else Path(file)
    _require_own(kind, path)
    run = configuration.load(kind, path, overrides, preset)
    tell_warmup(run.train)
    return run


def _require_own(kind: type[Strict], file: Path | None) -> None:
    """Refuse a file of settings that is of another training.

    Raises:
        UserError: it has a key that this one has not, and all of its keys are those of another.
    """
    keys = {} if file is None else configuration.read(file)
    strange = [key for key in keys if key not in kind.model_fields]
    others = [name for name, one in COMMANDS.items() if keys.keys() <= one.model_fields.keys()]
    if strange and others:
        raise UserError(
            f"{file} is a configuration of `rrpo {others[0]}`: {strange[0]} is no setting of this "
            "command, name a file of its own"
        )
