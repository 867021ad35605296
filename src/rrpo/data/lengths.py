"""How many tokens an utterance may have: compared with its sound, and with how people speak."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import soundfile

from rrpo.codec_identity import TOKEN_RATE, fits_sound
from rrpo.data.files import near
from rrpo.errors import UserError

if TYPE_CHECKING:
    from rrpo.data.utterance import Utterance

LONGEST, SHORTEST = 60 * TOKEN_RATE, TOKEN_RATE // 5
"""Tokens of a minute, twice what CosyVoice's tokenizer takes at once, and of a fifth of a second.

Time and memory of a training step grow with its longest utterance.
"""
FASTEST = 40
"""Letters of a second that nobody speaks: an auctioneer's are some 30. A sign of Chinese, Japanese
or Korean counts as four."""
FEWEST, FILLED = 4, 3
"""Utterances, and like tokens at their ends, from which these look filled up to one length."""
FEW = 40
"""Letters of a text that tells nothing yet: many a short sound was cut too closely."""
SOUNDS = ("path", "wav", "audio_path")
"""Columns in which other software names the recording that tokens were made of."""


def misfit(count: int, recording: Path) -> str:
    """Say what is wrong where so many tokens are not of a recording, by its header's length.

    A file whose header cannot be read is judged where sounds are.
    """
    try:
        seconds = float(soundfile.info(recording).duration)
    except (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError):
        return ""
    return "" if fits_sound(count, seconds) else f"{count} tokens of {seconds:.2f} s"


def check_sounds(rows: Sequence[dict[str, object]], file: Path) -> None:
    """Refuse tokens that are not of the sounds that the rows name, where these are there."""
    wrong = []
    for row in rows:
        names = (row.get(column) for column in SOUNDS)
        name = next((one for one in names if isinstance(one, str) and one), "")
        sound = near(name, (file.parent, Path())) if name else None
        tokens = row["tokens"]
        if sound is not None and isinstance(tokens, list) and (odd := misfit(len(tokens), sound)):
            wrong.append(f"{row['id']!r} has {odd} in {name}")
    if wrong:
        raise UserError(
            f"{file}: the tokens of {len(wrong)} of {len(rows)} utterances are not of their sounds "
            f"({wrong[0]}): {TOKEN_RATE} a second are right, tokenize the sounds again"
        )


def odd_text(text: str, seconds: float) -> str:
    """Say of a text that nobody can speak it in that time.

    Examples:
        >>> odd_text("The train leaves at noon. " * 4, 1.0)
        'its text has 80 letters for 1 s: it may be of another recording'
        >>> odd_text("The train leaves at noon.", 0.4)
        ''
    """
    letters = sum(4 if sign >= "\u2e80" else 1 for sign in text if sign.isalnum())
    if letters <= max(FEW, FASTEST * seconds):
        return ""
    return f"its text has {letters} letters for {seconds:.2g} s: it may be of another recording"


def odd_lengths(rows: "Sequence[Utterance]", source: Path) -> list[str]:
    """Return what is to be said of utterances that are longer or shorter than people speak."""
    notes = []
    for name, odd, cure in (
        ("over", [row for row in rows if row.tokens.size > LONGEST], "cut them, or leave them out"),
        ("under", [row for row in rows if row.tokens.size < SHORTEST], "leave them out"),
    ):
        if odd:
            bound = (LONGEST if name == "over" else SHORTEST) / TOKEN_RATE
            seconds = odd[0].tokens.size / TOKEN_RATE
            notes.append(
                f"{source}: {len(odd)} of {len(rows)} utterances are {name} {bound:g} s, such as "
                f"{odd[0].id!r} with {seconds:g} s: {cure}"
            )
    said = [(row.id, odd_text(row.text, row.tokens.size / TOKEN_RATE)) for row in rows]
    if crowded := [(name, odd) for name, odd in said if odd]:
        notes.append(
            f"{source}: {len(crowded)} of {len(rows)} utterances have more text than time, such as "
            f"{crowded[0][0]!r}: {crowded[0][1]}"
        )
    return notes + _padded(rows, source)


def _padded(rows: "Sequence[Utterance]", source: Path) -> list[str]:
    """Say that tokens look like the rows of one array, filled up to the longest."""
    sizes = {row.tokens.size for row in rows}
    filled = [row for row in rows if row.tokens.size > FILLED and _run(row) >= FILLED]
    if len(rows) < FEWEST or len(sizes) > 1 or 2 * len(filled) < len(rows):
        return []
    return [
        f"{source}: all {len(rows)} utterances have {sizes.pop()} tokens, and {len(filled)} end in "
        f"{FILLED} or more alike, such as {filled[0].id!r} in {filled[0].tokens[-1]}: they look "
        "filled up, cut that off"
    ]


def _run(row: "Utterance") -> int:
    """Return how many tokens at the end are alike."""
    other = (row.tokens[::-1] != row.tokens[-1]).nonzero()[0]
    return int(other[0]) if other.size else int(row.tokens.size)
