"""What several test files begin with."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from rrpo import policy, reward
from rrpo.audio import Audio
from rrpo.data.shards import Utterance, write_shard
from rrpo.evaluate.judge import EmotionJudge
from rrpo.evaluate.panel import Judges
from rrpo.mini.world import World
from rrpo.policy import LMConfig, SpeechTokenLM
from rrpo.reward import RewardConfig, RewardModel


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy, a reward model and shards small enough to train in a second."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    size, codec = World().tokenizer.vocabulary_size, World().codec_identity
    lm = LMConfig(
        text_vocabulary=size,
        hidden=16,
        layers=1,
        heads=2,
        key_value_heads=1,
        intermediate=16,
        codec=codec,
    )
    policy.save(SpeechTokenLM(lm), folder / "policy")
    small = RewardConfig(width=16, layers=1, heads=2, feedforward=16, codec=codec)
    reward.save(RewardModel(small), folder / "reward")
    rng = np.random.default_rng(0)
    rows = [
        Utterance(
            id=f"{number}",
            text=text,
            emotion=emotion,
            tokens=rng.integers(6561, size=12),
        )
        for number, (text, emotion) in enumerate(
            (text, emotion)
            for text in ("The train is late.", "The door is open.", "A bird sat here.")
            for emotion in ("happy", "sad")
        )
    ]
    write_shard(folder / "data" / "0.parquet", rows, codec)
    return folder


class OneWord:
    """A recogniser to which all speech is one word."""

    def transcribe(self, sounds: Sequence[Audio]) -> list[str]:
        return ["the"] * len(sounds)


@pytest.fixture(scope="module")
def quick_judges() -> Iterator[None]:
    """Let a level meter and a bad recogniser stand in for the scorers and the recogniser.

    These take most of the time of a study; test_quality and test_content ask the real ones.
    """

    def quick(emotion: EmotionJudge | None) -> Judges:
        names = ("distillmos", "dnsmos_p808")
        meters = {name: lambda audio: 1.0 + float(np.abs(audio).mean()) for name in names}
        return Judges(emotion, meters, OneWord())  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Judges, "installed", quick)
        yield
