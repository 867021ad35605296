"""The lexicon: whole, and made again to the byte."""

from pathlib import Path

import pytest

from rrpo.errors import UserError
from rrpo.mini.text import PhoneTokenizer, bundled_lexicon
from rrpo_world.lexicon import make_lexicon
from rrpo_world.sentences import VOCABULARY, compose

TOKENIZER = PhoneTokenizer()


def test_lexicon_covers_the_vocabulary() -> None:
    assert set(VOCABULARY) <= TOKENIZER.words.keys()


def test_composed_sentences_are_short() -> None:
    lengths = [len(TOKENIZER.encode(text)) for text in compose(1000, 0, "test")]
    assert min(lengths) > 10
    assert max(lengths) < 80


def test_a_phone_outside_the_alphabet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no symbol for"):
        make_lexicon(tmp_path / "lexicon.json", lambda text: "x " * (text.count(" ") + 1))


@pytest.mark.slow
def test_lexicon_can_be_made_again(tmp_path: Path) -> None:
    pytest.importorskip("hibari", reason="needs the packaged voice: pip install 'rrpo[mini]'")
    pytest.importorskip("pyworld", reason="needs WORLD: pip install 'rrpo[mini]'")
    from rrpo_world.renderer import Renderer

    make_lexicon(tmp_path / "lexicon.json", Renderer().phonemize)
    assert (tmp_path / "lexicon.json").read_bytes() == bundled_lexicon().read_bytes()
