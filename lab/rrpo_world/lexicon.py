"""The lexicon of the mini world: one form of each word, as the packaged voice says it."""

from collections import Counter, defaultdict
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from rrpo.errors import UserError
from rrpo.files import write_json
from rrpo.mini.text import PHONE, all_symbols
from rrpo_world.sentences import VOCABULARY, compose, words


def make_lexicon(path: Path, phonemize: Callable[[str], str]) -> None:
    """Write the lexicon: the composed sentences' words, and some hundred common ones.

    A word of the sentences gets the form it has most often in 3,000 of them, for the voice reads
    function words by context.

    Args:
        path: where to write.
        phonemize: text to phones, words apart by spaces, such as `Renderer.phonemize`.
    """
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    for sentence in compose(3000, 0, "train"):
        spoken = phonemize(sentence).split()
        for word, phones in zip(words(sentence), spoken, strict=True):
            forms[word][phones.strip(",.?")] += 1
    found = {word: forms[word].most_common(1)[0][0] for word in sorted(forms)}
    common = (resources.files("rrpo_world") / "assets" / "common_words.txt").read_text("utf-8")
    for word in sorted({*VOCABULARY, *common.split()}):
        found.setdefault(word, phonemize(word).strip(" .").replace(" ", ""))
    symbols = all_symbols()
    for word, phones in found.items():
        unknown = set(PHONE.findall(phones)) - set(symbols)
        if unknown or not phones:
            raise UserError(f"no symbol for {sorted(unknown)} in {word!r}: add it to the alphabet")
    write_json(path, {"symbols": symbols, "words": dict(sorted(found.items()))})
