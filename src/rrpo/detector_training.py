"""Detectors trained by name: `rrpo reward detector` and the Python API's `train_detector`."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import torch

from rrpo import reward, runs
from rrpo.codec_identity import require_one_codec
from rrpo.config import Settings, as_overrides
from rrpo.data.shards import Utterance, shard_codec, shard_insert
from rrpo.errors import UserError
from rrpo.loading import (
    NEW,
    Location,
    codec_identity,
    describe,
    load_data,
    load_reward_model,
    output_folder,
)
from rrpo.mini.inserts import tokenized_again, with_sound
from rrpo.mini.world import World
from rrpo.notes import note
from rrpo.processes import is_main, preparing
from rrpo.report.page import write_run_page
from rrpo.reward import RewardConfig, RewardModel
from rrpo.reward.detector import DetectorRun, new_detector
from rrpo.run_kinds import filled
from rrpo.sound.inserts import EVERYWHERE, INSERTS
from rrpo.train import Callback, TrainResult

ENOUGH = 240
"""Utterances of the bundled data; a sound is put into them in ten seconds."""
WORTH = 0.5
"""How much more of the speech with the sound a detector has to find than of that without it."""


def train_detector(
    out: Location,
    data: Location | None = None,
    having: Location | None = None,
    *,
    insert: str | None = None,
    start: Location = "mini",
    config: Location | None = None,
    settings: Settings = (),
    codec_of: str | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> RewardModel:
    """Train a detector of a sound that a policy shall not make (`rrpo reward detector`).

    Beside a reward model of emotion it adds log p(none) to a policy's reward, with the weight
    `rewards.event`. `rrpo tokenize --insert` makes both kinds of speech.

    Args:
        out: folder of the run.
        data: token shards without the sound; None: the bundled ones.
        having: token shards with it; None: the bundled ones, with `insert` in each.
        insert: a sound of `rrpo.sound.inserts.INSERTS`, by default clicks; for bundled data only.
        start: "mini" or a run, whose encoder the detector starts with, or "new".
        config: a YAML file of settings.
        settings: over it.
        codec_of: which codec the tokens are of, where the shards do not say it.
        resume: continue an interrupted run.
        callbacks: as of `train_reward`.

    Raises:
        UserError: as the command, in one line.

    Examples:
        >>> model = train_detector("detector", settings={"train.steps": 1, "train.warmup_steps": 0})
        ... # doctest: +ELLIPSIS
        detector in detector: it finds ...
        >>> model.classes("event")
        ['none', 'event']
    """
    with preparing():
        folder = output_folder(out)
        run = filled(DetectorRun, config, as_overrides(settings))
        _require_both(data, having, insert)
        given = _started(start, run.train.seed)
        codec = _codec(data, having, start, given, codec_of)
        without, having_it = _speech(data, having, insert or "clicks", run.train.seed)
        model = new_detector(given, run.train.seed)
        model.config = model.config.model_copy(update={"codec": codec})
        inputs = describe(start=start, data=data, having=having)
        sound = (insert or "clicks") if having is None else shard_insert(Path(having))
        inputs |= {"insert": [[sound, ""]]} if having is None else {}
        how: runs.How = {"resume": resume, "callbacks": callbacks, "inputs": inputs}
        result = runs.train_detector(model, without, having_it, run, folder, sound, **how)
        if is_main():
            write_run_page(folder)
            print(told(folder, result))
        return reward.load(folder)


def told(folder: Path, result: TrainResult) -> str:
    """Return what is said of a trained detector: what it finds, and how to use or improve it."""
    last = result.validations[-1]
    found, errs = last["found"], last["false_alarms"]
    said = (
        f"detector in {folder}: it finds the sound in {found:.0%} of held-out speech with it, and "
        f"in {errs:.0%} without it; "
    )
    if found - errs < WORTH:
        return said + "that is of no use: give it more steps (train.steps) or more speech"
    return (
        f"{said}use it with: rrpo policy diffro --preset detector --reward … "
        f"--reward {shlex.quote(str(folder))}"
    )


def _started(start: Location, seed: int) -> RewardModel:
    """Return the reward model that a detector starts from."""
    if str(start) != NEW:
        return load_reward_model(start)
    torch.manual_seed(seed)
    return RewardModel(RewardConfig())


def _codec(
    data: Location | None,
    having: Location | None,
    start: Location,
    given: RewardModel,
    codec_of: str | None,
) -> str:
    """Return the one codec of the speech and of the reward model that is started from."""
    known = {str(one): shard_codec(Path(one)) for one in (data, having) if one is not None}
    known = known or {"the bundled data": World().codec_identity}
    if str(start) != NEW:
        known[f"the reward model {start} (--from)"] = given.config.codec
    return require_one_codec(known, codec_identity(codec_of))


def _require_both(data: Location | None, having: Location | None, insert: str | None) -> None:
    if (data is None) != (having is None):
        raise UserError(
            "a detector needs speech without the sound (--data) and with it (--having): make both "
            "with `rrpo tokenize --insert clicks`, or name neither for the bundled speech"
        )
    if data is not None and (sound := shard_insert(Path(data))):
        raise UserError(
            f"--data {data}: {sound} were put into this speech: name it with --having, and the "
            "speech without them with --data"
        )
    if insert is not None and data is not None:
        raise UserError(
            "--insert is for the bundled speech: put sounds into recordings of your own with "
            "`rrpo tokenize --insert`"
        )
    if insert is not None and insert not in INSERTS:
        raise UserError(f"--insert: unknown sound {insert!r}: choose from {', '.join(INSERTS)}")


def _changed(without: list[Utterance], having: list[Utterance], named: Location) -> list[Utterance]:
    """Leave out utterances in which the sound changed no token: they are in both kinds of speech.

    Raises:
        UserError: that is most of them.
    """
    plain = {row.tokens.tobytes() for row in without}
    found = [row for row in having if row.tokens.tobytes() not in plain]
    if 2 * len(found) < len(having):
        raise UserError(
            f"{len(having) - len(found)} of {len(having)} utterances of {named} are those "
            "without the sound, token by token: name speech in which the sound can be heard"
        )
    if len(found) < len(having):
        note(
            f"{len(having) - len(found)} of {len(having)} utterances of {named} are left out: "
            "the sound changed none of their tokens"
        )
    return found


def _speech(
    data: Location | None, having: Location | None, insert: str, seed: int
) -> tuple[list[Utterance], list[Utterance]]:
    """Return speech without a sound and with it."""
    if data is not None and having is not None:
        without = load_data(data)
        return without, _changed(without, load_data(having), having)
    codec, rows = World().codec(), load_data(None)[:ENOUGH]
    if insert in EVERYWHERE:
        return tokenized_again(codec, rows), with_sound(codec, rows, INSERTS[insert], seed, True)
    return rows, _changed(rows, with_sound(codec, rows, INSERTS[insert], seed), "bundled speech")
