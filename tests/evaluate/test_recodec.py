"""The recodec audit with codecs of which the round trip is known."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from rrpo.audio import Audio
from rrpo.evaluate import recodec
from rrpo.reward import RewardConfig, RewardModel

EMOTIONS = ["neutral", "happy"]
CONFIG = RewardConfig(
    width=16, layers=1, heads=2, feedforward=16, codes=27, tasks={"emotion": EMOTIONS}
)


def sounded(tokens: Tensor) -> Audio:
    """Audio of which each sample is a token."""
    return tokens.numpy().astype(np.float32) / 27


def heard(audio: Audio) -> Tensor:
    """The way back, without loss."""
    return torch.from_numpy(np.rint(audio * 27).astype(np.int64))


def turned(audio: Audio) -> Tensor:
    """A codec that hears the code c as 26 − c, and loses the last one."""
    return 26 - heard(audio)[:-1]


def made() -> tuple[RewardModel, list[Tensor], list[recodec.Row]]:
    torch.manual_seed(0)
    speech = [torch.randint(27, (size,)) for size in (5, 9, 3, 7)]
    rows = [{"emotion": EMOTIONS[index % 2], "text": f"{index}"} for index in range(4)]
    model = RewardModel(CONFIG).eval()
    with torch.no_grad():  # a model that has something to say
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model, speech, rows


def log_p(model: RewardModel, tokens: Tensor, emotion: str) -> float:
    """One utterance alone, without padding."""
    with torch.no_grad():
        logits = model(tokens[None], torch.ones(1, tokens.numel(), dtype=torch.bool))[0]
    return float(logits.log_softmax(-1)[EMOTIONS.index(emotion)])


def test_a_codec_without_loss_leaves_no_gap() -> None:
    model, speech, rows = made()
    recodec.audit(rows, speech, [sounded(one) for one in speech], heard, {"rm": model})
    assert [row["tokens_back"] for row in rows] == [1.0] * 4
    assert [row["recodec"]["rm"] for row in rows] == pytest.approx([0.0] * 4)
    found = recodec.figures(rows)
    assert found["recodec"]["rm"]["all"].mean == pytest.approx(0.0)
    assert found["tokens_back"].mean == 1.0


def test_the_gap_is_what_the_drawn_tokens_are_paid_beyond_the_audio() -> None:
    model, speech, rows = made()
    recodec.audit(rows, speech, [sounded(one) for one in speech], turned, {"rm": model})
    expected = [
        log_p(model, one, row["emotion"]) - log_p(model, (26 - one)[:-1], row["emotion"])
        for one, row in zip(speech, rows, strict=True)
    ]
    assert max(map(abs, expected)) > 0.05, "the model tells the two apart"
    assert [row["recodec"]["rm"] for row in rows] == pytest.approx(expected, abs=1e-5)
    found = recodec.figures(rows)["recodec"]["rm"]
    assert found["all"].mean == pytest.approx(sum(expected) / 4, abs=1e-5)
    assert found["neutral"].mean == pytest.approx((expected[0] + expected[2]) / 2, abs=1e-5)
    assert found["happy"].mean == pytest.approx((expected[1] + expected[3]) / 2, abs=1e-5)
    assert found["all"].low <= found["all"].mean <= found["all"].high
    back = [float((one[:-1] == 13).sum()) / one.numel() for one in speech]  # 26 − 13 = 13
    assert [row["tokens_back"] for row in rows] == pytest.approx(back)


def test_where_nothing_comes_back_the_model_knows_nothing() -> None:
    model, speech, rows = made()
    none = torch.zeros(0, dtype=torch.int64)
    found = recodec.gaps(model, ["happy"], speech[:1], [none])
    assert found[0] == pytest.approx(log_p(model, speech[0], "happy") + math.log(2), abs=1e-5)
    assert recodec.figures([]) == {}
    assert recodec.figures(rows) == {}


def test_two_audits_of_the_same_rows_stand_side_by_side() -> None:
    model, speech, rows = made()
    sounds = [sounded(one) for one in speech]
    recodec.audit(rows, speech, sounds, heard, {"rm": model})
    recodec.audit(rows, speech, sounds, turned, {"rm": model}, "_matching")
    found = recodec.figures(rows) | recodec.figures(rows, "_matching")
    assert found["recodec"]["rm"]["all"].mean == pytest.approx(0.0)
    assert found["recodec_matching"]["rm"]["all"].mean != pytest.approx(0.0)
    assert found["tokens_back_matching"].mean < found["tokens_back"].mean
