"""Which trainings led to a policy, as far as the weights at their places are those that were used.

A run's `inputs.json` holds the hash of what it started from. A folder that was made again since is
another run, and nothing is said of it.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrpo import config as configuration
from rrpo.checkpoint import model_place
from rrpo.errors import UserError
from rrpo.files import read_json
from rrpo.loading import MINI, describe
from rrpo.run_folder import run_of
from rrpo.run_kinds import COMMANDS

PUBLISHED = {
    "b144ef55b51ce8cfb79a73c90dbba0bdaba4e451c0ebcfab20f769264f84a608": (
        "FunAudioLLM/CosyVoice2-0.5B"
    ),
    "69f43bd545131c30e98947fb360ea8b4dc9916d8e83dded7757c7ea4f5a24970": (
        "FunAudioLLM/Fun-CosyVoice3-0.5B-2512"
    ),
    "74d34b01a80c7154670ae75ac372d1b1712c78bceae9f467eb9f1f6f61ec764f": (
        "FunAudioLLM/Fun-CosyVoice3-0.5B-2512"
    ),
}
"""SHA-256 of a published llm.pt or llm.rl.pt → its model; the licence named there is Apache-2.0."""
NOT_FOUND = "not found at export: whether it was trained, and how, is not known"
REPLACED = "the run at this place is no longer the one that was used: its settings are not known"
OTHER = "what is at this place is no longer what was used: how that was made is not known"
MIXED = (
    "these weights are the end of another training than that of the run whose folder they lie in: "
    "its settings are not known"
)
MEAN = "average"
"""Kind of a run that trains nothing and takes the mean of policies."""
UNSURE = "Its weights were not recorded by the run after it: it may have been made again since."


@dataclass(frozen=True)
class Stage:
    """What a policy or a run after it was made of: a training, or something that is not known.

    Attributes:
        place: of its weights: a run, a checkpoint of it or a file.
        run: the run's folder.
        lost: why nothing more is known of it; empty for a training that is known.
        unsure: whether nothing says that the run is still the one that was used.
    """

    place: Path
    run: Path
    lost: str = ""
    unsure: bool = False


@dataclass(frozen=True)
class Provenance:
    """How a policy was made.

    Attributes:
        stages: the trainings, the first of them first; before one that is lost none is known.
        base: what the first training began with, or the policy itself; empty: not known.
        published: the model whose published weights these are, by their hash.
    """

    stages: list[Stage]
    base: str
    published: str | None

    @property
    def trainings(self) -> list[Stage]:
        """Those of the stages whose settings are known."""
        return [one for one in self.stages if not one.lost]


def trace(policy: Path) -> Provenance:
    """Follow a policy to what the first of its trainings started from.

    Raises:
        UserError: a file of a run is damaged.
    """
    stages: list[Stage] = []
    place, digest, unsure = str(policy), _hash(str(policy)), False
    while True:
        published = _published(digest)
        run = None if published or place == MINI else run_of(Path(place))
        if run is None or run in [one.run for one in stages]:
            return Provenance(stages, place, published)
        stages.insert(0, Stage(Path(place), run, unsure=unsure))
        if not is_last(stages[0]) and _state(stages[0]).get("finished"):
            stages[0] = Stage(Path(place), Path(place), MIXED)
            return Provenance(stages, "", None)
        place = str(configuration.read(run / "config.yaml").get("start", ""))
        digest = _recorded(run)
        lost = "" if place == MINI or _published(digest) else _lost(Path(place), digest)
        unsure = not digest
        if lost:
            stages.insert(0, Stage(Path(place), Path(place), lost))
            return Provenance(stages, "", None)


def is_last(stage: Stage) -> bool:
    """Say whether a stage's weights are the last of its run."""
    place, last = model_place(stage.place), model_place(stage.run)
    return place == last or weights_hash(place) == weights_hash(last) != ""


def unfinished(stage: Stage) -> str:
    """Return how far a training has come whose last weights these are; empty: to its end."""
    if stage.lost or not is_last(stage) or (state := _state(stage)).get("finished", True):
        return ""
    return f"not finished: {_step(stage, state)}"


def how_far(stage: Stage) -> str:
    """Return a sentence of the steps that made a training's weights."""
    state = _state(stage)
    results = read_object(stage.run / "results.json")
    if not is_last(stage):
        return f"Weights of {_step(stage, state)}; they are not the run's last."
    if results.get("kind") == MEAN:
        return "The mean of these policies' weights; how each was trained, its own run says."
    if unfinished(stage):
        return f"{unfinished(stage).capitalize()}."
    steps = state.get("step", results.get("stopped_at"))
    if steps is None:
        return "How many steps were taken is not recorded."
    best = state.get("best_step", results.get("best_step"))
    kept = "" if best is None else f", weights of step {best} kept"
    seconds = results.get("seconds")
    took = "" if seconds is None else f", {seconds} s"
    return f"{steps} steps{kept}{took}."


def kind_of(run: Path) -> str:
    """Return the name of a run's training, such as sft."""
    found = read_object(run / "results.json").get("kind")
    keys = set(configuration.read(run / "config.yaml"))
    names = [name.split()[-1] for name, one in COMMANDS.items() if keys == set(one.model_fields)]
    return str(found or next(iter(names), "a training"))


def read_object(path: Path) -> dict[str, Any]:
    """Return a JSON object of a run; an empty one where there is none.

    Raises:
        UserError: it is something else.
    """
    found = read_json(path) if path.is_file() else {}
    if not isinstance(found, dict):
        raise UserError(f"{path} is not a JSON object: make it again")
    return found


def weights_hash(place: Path) -> str:
    """Return the SHA-256 of a policy's weights that its own description names; empty: none does."""
    return str(read_object(model_place(place) / "model.json").get("sha256", ""))


def _state(stage: Stage) -> dict[str, Any]:
    """Return what the checkpoint of a stage says of itself."""
    return read_object(model_place(stage.place) / "training.json")


def _step(stage: Stage, state: dict[str, Any]) -> str:
    training = configuration.read(stage.run / "config.yaml").get("train")
    steps = training.get("steps", "?") if isinstance(training, dict) else "?"
    step = state.get("step")
    return "a step that is not recorded" if step is None else f"step {step} of {steps}"


def _hash(place: str) -> str:
    """Return the hash of what a place holds now, as `inputs.json` has it."""
    return describe(place=place)["place"][0][1]


def _recorded(run: Path) -> str:
    """Return the hash of what a run started from; empty: not recorded."""
    file = run / "inputs.json"
    try:
        (_, digest), *_ = read_object(file).get("start") or [["", ""]]
    except (TypeError, ValueError):
        raise UserError(f"{file} is damaged: put it back from a copy") from None
    return str(digest)


def _published(digest: str) -> str | None:
    known = {hashlib.sha256(one.encode()).hexdigest(): name for one, name in PUBLISHED.items()}
    return known.get(digest)


def _lost(place: Path, digest: str) -> str:
    """Return why what is at a place is not what was used; empty: it is, as far as one can tell."""
    if not place.exists():
        return NOT_FOUND
    try:
        if not digest or _hash(str(place)) == digest:
            return ""
    except UserError:  # no weights are there any more
        return OTHER
    return OTHER if run_of(place) is None else REPLACED
