"""Labelled audio to token shards, and to mix pools for energy-adaptive mixup."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from rrpo import audio
from rrpo.audio import Audio
from rrpo.data.manifest import Recording
from rrpo.data.shards import Utterance, write_shard
from rrpo.progress import Progress
from rrpo.reward.regularize import energy_adaptive_mixup


class Codec(Protocol):
    """Audio to speech tokens and back."""

    def encode(self, audio: Audio) -> Tensor:
        """Return the tokens (T,) of audio (N,) at 16 kHz."""

    def decode(self, ids: Tensor) -> Audio:
        """Return audio (N,) of tokens (T,)."""


def tokenize(
    codec: Codec, recordings: Sequence[Recording], out: Path, mixes: int = 0, seed: int = 0
) -> tuple[int, int]:
    """Write `out/tokens/*.parquet` and, with mixes, `out/mixes/*.parquet`.

    Energy-adaptive mixup acts on audio and tokenizing inside a training loop is slow, so each
    recording is mixed with `mixes` random partners beforehand.

    Returns:
        How many rows the tokens and the mixes have.

    Raises:
        UserError: a recording cannot be read, or `out` cannot be written.
    """
    rng = np.random.default_rng(seed)
    rows, mixed = [], []
    with Progress("tokenize", len(recordings)) as progress:
        for number, recording in enumerate(recordings):
            sound = audio.read(recording.path)
            rows.append(_row(recording, f"{number:06d}", codec.encode(sound)))
            for version in range(mixes):
                partner = recordings[int(rng.integers(len(recordings)))]
                blend, weight = energy_adaptive_mixup(sound, audio.read(partner.path), rng)
                row = _row(recording, f"{number:06d}-mix{version}", codec.encode(blend))
                partnered = {"partner_emotion": partner.emotion, "partner_weight": float(weight)}
                mixed.append(Utterance(**{**vars(row), **partnered}))
            progress.update(number + 1)
    write_shard(out / "tokens" / "00000.parquet", rows)
    if mixed:
        write_shard(out / "mixes" / "00000.parquet", mixed)
    return len(rows), len(mixed)


def _row(recording: Recording, name: str, tokens: Tensor) -> Utterance:
    return Utterance(
        id=name,
        text=recording.text,
        emotion=recording.emotion,
        tokens=tokens.numpy(),
        speaker=recording.speaker,
        language=recording.language,
    )
