"""The mean of several policies' weights, a policy again (`rrpo policy average`).

Policies that were trained from one start lie close enough to each other for the mean of their
weights to speak (Wortsman et al. 2022, arXiv 2203.05482; after RLHF Ramé et al. 2024, WARP, arXiv
2406.16768): what is particular to one run averages out.
"""

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rrpo import config as configuration
from rrpo import policy
from rrpo.errors import UserError
from rrpo.files import alone, require_empty, write_json, writing
from rrpo.loading import describe, load_policy, output_folder
from rrpo.origin import Origin, keep_instructions, origin_of, read_instructions
from rrpo.policy import SpeechTokenLM
from rrpo.provenance import MEAN
from rrpo.run_folder import begin_folder, commit_folder


class AverageRun(Origin):
    """What a mean is of; its start is that of all of them."""

    policies: list[str]


def average_policies(out: str | Path, policies: Sequence[str | Path]) -> SpeechTokenLM:
    """Write the policy whose every weight is the mean of those of several, and return it.

    Args:
        out: a new folder.
        policies: run folders, at least two, that began from one start.

    Raises:
        UserError: there is only one, one is missing or there twice, they differ in shape or codec,
            in where they started or in what they are told for an emotion, or `out` is not empty
            or cannot be written.
    """
    folder = output_folder(out)
    require_empty(folder)
    places = [Path(one) for one in policies]
    if len(places) < 2:
        raise UserError("a mean is of at least two policies: name another run folder")
    if len({place.resolve() for place in places}) < len(places):
        raise UserError("a policy is named twice: name each run folder once")
    mean, run = _mean(places), _origin(places)
    inputs = describe(policies=places)
    with alone(folder):
        require_empty(folder)
        try:
            with writing(folder):
                _write(mean, run, inputs, folder)
        except BaseException:  # what was begun would be in the way of a second call
            for begun in folder.iterdir():
                shutil.rmtree(begun) if begun.is_dir() else begun.unlink()
            raise
    named = shlex.join(map(str, (folder, places[0])))
    print(f"policy in {folder}; compare it: rrpo evaluate {named}")
    return policy.load(folder)


def _write(mean: SpeechTokenLM, run: AverageRun, inputs: dict[str, Any], folder: Path) -> None:
    """Write the mean as a run's folder."""
    policy.save(mean, begin_folder(folder / "checkpoint"))
    commit_folder(folder / "checkpoint")
    configuration.dump(run, folder / "config.yaml")
    keep_instructions(run, folder)
    write_json(folder / "inputs.json", inputs)
    write_json(folder / "results.json", {"schema": 1, "kind": MEAN})


def _origin(places: Sequence[Path]) -> AverageRun:
    """Return where all of them began, and how they are told an emotion."""
    origins = [origin_of(place) for place in places]
    for place, origin in zip(places, origins, strict=True):
        for key, value in origin.model_dump().items():
            first = getattr(origins[0], key)
            if value != first and not (key == "instructions" and _are_same(value, first)):
                raise UserError(
                    f"{places[0]} has the {key} {first}, and {place} {value}: a mean is of "
                    "policies that have it in common"
                )
    return AverageRun(**origins[0].model_dump(), policies=[str(one.absolute()) for one in places])


def _are_same(one: str | None, other: str | None) -> bool:
    """Say whether two files of instructions hold the same: each run keeps its own."""
    return None not in (one, other) and read_instructions(one or "") == read_instructions(
        other or ""
    )


@torch.no_grad()
def _mean(places: Sequence[Path]) -> SpeechTokenLM:
    """Return the mean policy; no more than two are in memory at a time."""
    mean = load_policy(places[0])
    for number, place in enumerate(places[1:], 2):
        other = load_policy(place)
        if other.config != mean.config:
            raise UserError(
                f"{place} has another shape or codec than {places[0]}: a mean is of policies of "
                "one kind"
            )
        weights = dict(other.named_parameters())
        for name, own in mean.named_parameters():
            own.add_((weights[name] - own) / number)
    return mean
