"""The emotions the bundled world knows, and the way from a name to an index."""

from collections.abc import Sequence

from rrpo.errors import UserError

EMOTIONS: tuple[str, ...] = ("neutral", "angry", "happy", "sad", "surprised", "fearful")


def emotion_index(name: str, emotions: Sequence[str] = EMOTIONS) -> int:
    """Return the position of an emotion in `emotions`, whatever its capitals.

    Raises:
        UserError: the name is not among them; the message lists those that are.

    Examples:
        >>> emotion_index("happy")
        2
    """
    folded = [emotion.casefold() for emotion in emotions]
    if name in emotions:
        return list(emotions).index(name)
    if folded.count(name.casefold()) == 1:
        return folded.index(name.casefold())
    raise UserError(f"unknown emotion {name!r}: choose one of {', '.join(emotions)}")
