"""Reward models trained by name: `rrpo reward train` and the Python API's `train_reward`."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from rrpo import audio, reward, runs, spelling
from rrpo.codec_identity import is_same, require_one_codec
from rrpo.config import Settings, as_overrides
from rrpo.data.scan import Choice, file_of
from rrpo.data.shards import Utterance, shard_codec
from rrpo.data.stream import Streamed
from rrpo.emotions import EMOTIONS
from rrpo.errors import UserError
from rrpo.loading import (
    NEW,
    Location,
    codec_identity,
    describe,
    load_data,
    load_mixes,
    load_reward_model,
    output_folder,
)
from rrpo.mini.world import World
from rrpo.notes import note
from rrpo.presets import preset as preset_file
from rrpo.processes import is_main, preparing
from rrpo.progress import Progress
from rrpo.report.page import write_run_page
from rrpo.reward import RewardConfig, RewardModel
from rrpo.reward.config import RewardRun
from rrpo.reward.labels import class_indices
from rrpo.run_kinds import filled
from rrpo.streaming import stream_shards
from rrpo.train import Callback


def train_reward(
    out: Location,
    data: Location | None = None,
    *,
    start: Location = "mini",
    preset: str | None = None,
    config: Location | None = None,
    settings: Settings = (),
    mixes: Location | None = None,
    codec_of: str | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> RewardModel:
    """Fine-tune a reward model (`rrpo reward train`); by default hardened as RRPO describes.

    Args:
        out: folder of the run.
        data: token shards with emotions.
        start: "mini", "new" or a run.
        preset: "paper", "recommended" or "strong_step".
        config: a YAML file of settings, over the preset.
        settings: over both, such as {"train.steps": 40} or ["train.steps=40"].
        mixes: a mix pool, for `fit.mixup_at=audio`.
        codec_of: which codec the tokens are of, where the shards do not say it.
        resume: continue an interrupted run.
        callbacks: each is called after each step with its number and its figures; where one returns
            True, that step is the last.

    Raises:
        UserError: as the command, in one line.

    Examples:
        >>> model = train_reward("rm", settings={"train.steps": 1, "train.warmup_steps": 0})
        reward model in rm; test it with: rrpo reward eval rm
        >>> model.config.loss.label_smoothing
        0.1
    """
    with preparing():
        folder = output_folder(out)
        run = _configured(preset, config, settings, bundled=data is None, mixed=mixes is not None)
        told = codec_identity(codec_of)
        known = {str(one): shard_codec(Path(one)) for one in (data, mixes) if one is not None}
        if data is None:
            known = {"the bundled data": World().codec_identity, **known}
        codec = require_one_codec(known, told)
        pool = [] if mixes is None else load_mixes(mixes)
        rows = _rows(data, run)
        if run.fit.nuisance and data is None:
            rows, pool = _with_energy(rows), _with_energy(pool)
        known_rows = rows.first() if isinstance(rows, Streamed) else rows
        model = _started(start, known_rows, run.train.seed, codec, told)
        _require_known(known_rows, model, data)
        said = None if run.text_of is None else spelling.transcribe(rows, run.text_of)
        inputs = describe(start=start, data=data, mixes=mixes)
        how: runs.How = {"resume": resume, "callbacks": callbacks, "inputs": inputs}
        runs.train_reward(model, rows, pool, run, folder, said, **how)
        if is_main():
            _tell(folder)
        return reward.load(folder)


def _tell(folder: Path) -> None:
    """Write the run's page, and say what to do next."""
    write_run_page(folder)
    named = shlex.quote(str(folder))
    bundled = is_same(reward.load(folder).config.codec, World().codec_identity)
    speech = "" if bundled else " --data SHARDS, of speech that was held out"
    print(f"reward model in {folder}; test it with: rrpo reward eval {named}{speech}")


def _configured(
    preset: str | None, config: Location | None, settings: Settings, bundled: bool, mixed: bool
) -> RewardRun:
    """Fill the configuration of a run on bundled data or one's own, with a mix pool or without."""
    base = None if preset is None else preset_file("reward", preset)
    run = filled(RewardRun, config, as_overrides(settings), base)
    run = spelling.with_text(run, bundled)
    if run.fit.needs_mix_pool and not mixed:
        raise UserError(
            "fit.mixup_at=audio needs mixed utterances of --data: make them with `rrpo tokenize "
            "--mix 10` and name them with --mixes, or mix features (fit.mixup_at=features)"
        )
    if mixed and not run.fit.needs_mix_pool:
        note("--mixes is not used: it is for fit.mixup_at=audio")
    return run


def _rows(data: Location | None, run: RewardRun) -> Sequence[Utterance]:
    """Return what a reward model is trained on, in memory or streamed as its run says."""
    if run.stream:
        shards = stream_shards(data, run.stream, Choice(text=False, seed=run.train.seed))
        rows: Sequence[Utterance] = Streamed(shards, lambda row: row)
    else:
        rows = load_data(data)
    if data is not None:
        runs.tell_passes(run.train, run.fit.batch_size, len(rows))
    return rows


def _started(
    start: Location, rows: Sequence[Utterance], seed: int, codec: str, told: str
) -> RewardModel:
    """Make or load the reward model that is trained on rows of a codec; it records the codec."""
    if str(start) == NEW:
        return _new_reward_model(rows, seed, codec)
    model = load_reward_model(start)
    parts = {f"the reward model {start}": model.config.codec, "the data": codec}
    line = require_one_codec(parts, told)
    model.config = model.config.model_copy(update={"codec": line})
    return model


def _require_known(rows: Sequence[Utterance], model: RewardModel, data: Location | None) -> None:
    """Check that a reward model knows every emotion of the data, whose file and row is named."""
    known = model.classes()
    for row in {row.emotion: row for row in reversed(rows)}.values():
        try:
            class_indices([row], known)
        except UserError as error:
            place = "the bundled data" if data is None else file_of(Path(data), row)
            raise UserError(f"{place}: {error}") from None


def _new_reward_model(rows: Sequence[Utterance], seed: int, codec: str) -> RewardModel:
    """Make an untrained reward model whose classes are the emotions of the data."""
    found = {row.emotion for row in rows}
    names = [name for name in EMOTIONS if name in found] + sorted(found - set(EMOTIONS))
    if len(names) < 2:
        raise UserError(f"every utterance is {names[0]!r}: a reward model needs two emotions")
    torch.manual_seed(seed)
    return RewardModel(RewardConfig(tasks={"emotion": names}, codec=codec))


def _with_energy(rows: Sequence[Utterance]) -> list[Utterance]:
    """Measure the energy of the mini codec's tokens, spoken."""
    codec, known = World().codec(), []
    with Progress("measure energy", len(rows)) as progress:
        for row in rows:
            spoken_row = codec.decode(torch.from_numpy(row.tokens))
            known.append(replace(row, energy=audio.energy(spoken_row)))
            progress.update(len(known))
    return known
