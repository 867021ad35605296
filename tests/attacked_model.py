"""A small reward model of 27 codes, utterances for it, and a codec of levels."""

import numpy as np
import torch

from rrpo.attack.goal import Goal
from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.data.shards import Utterance
from rrpo.reward import RewardConfig, RewardModel

EMOTIONS = ["neutral", "happy", "sad"]

SPEECH = (0.1 * np.sin(np.arange(SAMPLE_RATE) * 0.05)).astype(np.float32)


class Levels:
    """A codec of 27 levels of the mean square, a token for each 1,000 samples."""

    def encode(self, audio: Audio) -> torch.Tensor:
        parts = np.array_split(audio, max(1, audio.size // 1000))
        powers = [float(np.sqrt(np.mean(part**2))) for part in parts]
        return torch.tensor([min(26, int(100 * power)) for power in powers])

    def decode(self, ids: torch.Tensor) -> Audio:
        return np.repeat(ids.numpy() / 100.0, 1000).astype(np.float32)


def model(
    seed: int = 0, emotions: list[str] | None = None, codec: str = "", codes: int = 27
) -> RewardModel:
    torch.manual_seed(seed)
    config = RewardConfig(
        width=8,
        layers=1,
        heads=2,
        feedforward=8,
        codes=codes,
        tasks={"emotion": emotions or EMOTIONS},
        codec=codec,
    )
    return RewardModel(config).eval()


def utterances(count: int = 6, size: int = 5) -> list[Utterance]:
    generator = torch.Generator().manual_seed(3)
    return [
        Utterance(
            id=f"u{index}",
            text=f"text {index}",
            emotion=EMOTIONS[index % 3],
            tokens=torch.randint(27, (size + index % 2,), generator=generator).numpy(),
        )
        for index in range(count)
    ]


def goal(count: int = 6) -> Goal:
    rows = utterances(count)
    return Goal(rows, [EMOTIONS[(EMOTIONS.index(row.emotion) + 1) % 3] for row in rows])
