"""Artifacts that are told from tokens."""

import numpy as np
import pytest
import torch

from rrpo.audio import Audio
from rrpo.errors import UserError
from rrpo.evaluate.artifacts import Artifact
from rrpo_world.artifacts.carriers import carrier_shares, token_artifacts


def test_tokens_are_marked_where_carriers_and_loops_are() -> None:
    tokens = [5, 9, 9, 7, 1, 2, 1, 2, 1, 2, 8]
    assert token_artifacts(tokens, {"click": [9], "pop": [9, 8]}) == [
        Artifact("click", 0.04, 0.12, 2.0),
        Artifact("pop", 0.04, 0.12, 2.0),
        Artifact("repetition", 0.16, 0.40, 6.0),
        Artifact("pop", 0.40, 0.44, 1.0),
    ]
    assert token_artifacts([], {"click": [1]}) == []
    with pytest.raises(UserError, match="whole numbers"):
        token_artifacts([0.5], {})


def test_ids_of_a_foreign_codec_are_listened_to() -> None:
    """A codec of 40 ms a token whose id 3 clicks, and whose id 4 clicks after a 1."""

    def decode(tokens: torch.Tensor) -> Audio:
        audio = np.random.default_rng(0).normal(0, 1e-3, 640 * tokens.numel())
        for place, token in enumerate(tokens.tolist()):
            if token == 3 or (token == 4 and tokens[place - 1] == 1):
                audio[640 * place + 320] += 0.5
        return np.asarray(audio, np.float32)

    contexts = [torch.full((9,), first) for first in (0, 1)]
    shares = carrier_shares(decode, [2, 3, 4], contexts)
    np.testing.assert_allclose(shares, [[0, 0], [1, 0], [0.5, 0]])
    # A context that clicks in its middle by itself says nothing.
    assert carrier_shares(decode, [2], [torch.full((9,), 3)])[0, 0] == 0.0
    with pytest.raises(UserError, match="odd number"):
        carrier_shares(decode, [1], [torch.zeros(4, dtype=torch.int64)])
