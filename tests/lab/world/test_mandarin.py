"""The Mandarin sentences and, where it is installed, the voice that reads them."""

import numpy as np
import pytest

from rrpo.errors import UserError
from rrpo.mini.world import World
from rrpo_world import mandarin
from rrpo_world.corpus import lines


def test_fifty_different_sentences_with_a_tone_in_every_one() -> None:
    assert len(set(mandarin.sentences())) == 50
    for phones in mandarin.pronunciations().values():
        assert sum(phones.count(tone) for tone in "→↗↓↘") >= 5


def test_each_is_read_with_every_emotion() -> None:
    rows = lines("test_mandarin", 0)
    assert len(rows) == 300
    assert {row.language for row in rows} == {"zh"}
    assert [row.text for row in rows[::6]] == mandarin.sentences()


def test_the_bundled_tokens_are_of_these_sentences() -> None:
    rows = World().tests()["mandarin"]
    assert {row.text for row in rows} == set(mandarin.sentences())
    assert {row.language for row in rows} == {"zh"}


def test_without_its_packages_the_voice_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mandarin, "installed", lambda: False)
    with pytest.raises(UserError, match=r"pip install 'rrpo\[mandarin\]'"):
        mandarin.MandarinVoice()


@pytest.mark.slow
@pytest.mark.skipif(not mandarin.installed(), reason="needs pip install 'rrpo[mandarin]'")
def test_the_voice_reads_a_sentence_and_refuses_others() -> None:
    voice = mandarin.MandarinVoice()
    audio = voice(mandarin.sentences()[0])
    assert 1.0 < audio.size / 24_000 < 8.0
    assert 0.05 < np.abs(audio).max() <= 1.5
    with pytest.raises(UserError, match="only its bundled sentences"):
        voice("你好。")
