"""Sounds put into speech: what each does to the audio, and the best of several tries."""

import numpy as np
import pytest
import torch

from attacked_model import SPEECH, Levels, goal, model
from rrpo.attack.goal import margins
from rrpo.attack.insertion import INSERTS, insert
from rrpo.reward.posteriors import log_posteriors
from rrpo.sound.inserts import noise


@pytest.mark.parametrize("name", INSERTS)
def test_each_changes_the_audio_and_nothing_does_not(name: str) -> None:
    before = SPEECH.copy()
    changed = INSERTS[name](SPEECH, np.random.default_rng(0))
    assert np.array_equal(SPEECH, before)  # the speech that was given is left as it was
    assert changed.dtype == np.float32
    same = changed.size == SPEECH.size and np.array_equal(changed, SPEECH)
    assert same == name.startswith("nothing")
    again = INSERTS[name](SPEECH, np.random.default_rng(0))
    assert np.array_equal(changed, again)


def test_noise_is_as_far_under_the_speech_as_it_says() -> None:
    for seed in range(20):
        added = noise(SPEECH, np.random.default_rng(seed)) - SPEECH
        level = 10 * np.log10(np.mean(SPEECH**2) / np.mean(added**2))
        assert 9.9 < level < 25.1


def test_speech_shorter_than_what_is_put_in() -> None:
    for change in INSERTS.values():
        short = SPEECH[:50]
        assert np.isfinite(change(short, np.random.default_rng(0))).all()


def test_the_best_of_several_tries_is_kept() -> None:
    own, asked = model(), goal()
    audios = [SPEECH] * len(asked.rows)
    reached = []
    for tries in (1, 6):
        found = insert(own, asked, Levels(), audios, INSERTS["gain"], tries)
        assert found.tokens is not None
        torch.testing.assert_close(found.log_posteriors, log_posteriors(own, found.tokens))
        reached.append(margins(found.log_posteriors, asked.classes(own)))
    assert (reached[1] >= reached[0]).all()
    assert (reached[1] > reached[0]).any()
