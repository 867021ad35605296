"""The emotion judge of a world: trained on utterances that no reward model sees."""

from pathlib import Path
from typing import Any

import numpy as np

from rrpo.emotions import emotion_index
from rrpo.evaluate.functionals import functionals
from rrpo.evaluate.judge import EmotionJudge
from rrpo.files import read_json
from rrpo.mini.codec import MiniCodec
from rrpo.progress import Progress
from rrpo_world.corpus import read_part


def train_judge(seed: int, folder: Path) -> dict[str, Any]:
    """Train the judge on the rendered part of its name, plain and through the codec.

    Args:
        seed: of its training.
        folder: where it is written, beside the rendered parts and the codec.

    Returns:
        its accuracy on unseen sentences through the codec.
    """
    codec = MiniCodec.load(folder.parent / "codec")
    inputs, labels, texts = _functionals(folder.parent / "render-judge", codec, both=True)
    judge = EmotionJudge.fit(inputs, labels, seed, groups=texts)
    judge.save(folder)
    tests, truth, _ = _functionals(folder.parent / "render-test_same", codec, both=False)
    return {"accuracy": float((judge.classify(tests).argmax(1) == truth).mean())}


def _functionals(
    source: Path, codec: MiniCodec, both: bool
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return functionals (n, F), labels and texts of codec resynthesis; `both` adds originals."""
    inputs, labels, texts = [], [], []
    total = len(read_json(source / "lines.json"))
    with Progress(f"judge {source.name}", total) as progress:
        for number, (line, audio) in enumerate(read_part(source)):
            sounds = [codec.decode(codec.encode(audio))]
            if both:
                sounds.append(audio)
            inputs += [functionals(sound) for sound in sounds]
            labels += [emotion_index(line.emotion)] * len(sounds)
            texts += [line.text] * len(sounds)
            progress.update(number + 1)
    return np.stack(inputs), np.array(labels), texts
