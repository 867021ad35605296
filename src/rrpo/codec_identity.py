"""Which codec speech tokens are of, how many ids there are, and their rate.

Tokens of two codecs are numbers of the same range with other meanings, so nothing but a codec's
identity tells a mixture: its name and the SHA-256 of its weights, as one line of text. Shards,
policies, reward models and pairs carry it; an empty line is not known.
"""

from collections.abc import Mapping

from rrpo.errors import UserError

SPEECH_CODES = 6561
"""Codes of one frame: eight base-3 digits, 3^8."""
TOKEN_RATE = 25
"""Tokens of a second of speech."""


def fits_sound(count: int, seconds: float) -> bool:
    """Say whether a sound of that length can have so many tokens, 25 a second.

    Codecs round at the ends, and some leave out silence there: a tenth and four tokens are allowed.
    Those of CosyVoice's first generation are 50 a second.

    Examples:
        >>> fits_sound(50, 2.0), fits_sound(100, 2.0)
        (True, False)
    """
    return abs(count - TOKEN_RATE * seconds) <= 4 + 0.1 * TOKEN_RATE * seconds


def identity(name: str, digest: str = "") -> str:
    """Write a codec's identity.

    Examples:
        >>> identity("mini", "d14c")
        'mini d14c'
    """
    return f"{name} {digest}".strip()


def codec_name(line: str) -> str:
    """Return the name in an identity.

    Examples:
        >>> codec_name("mini d14c")
        'mini'
    """
    return line.partition(" ")[0]


def is_same(one: str, other: str) -> bool:
    """Say whether two identities may be of one codec: a hash that is not known fits any.

    Examples:
        >>> is_same("mini d14c", "mini"), is_same("mini d14c", "mini 77aa")
        (True, False)
    """
    names, digests = zip(*(line.partition(" ")[::2] for line in (one, other)), strict=True)
    return names[0] == names[1] and ("" in digests or digests[0] == digests[1])


def require_one_codec(parts: Mapping[str, str], told: str = "") -> str:
    """Check that all parts of a command are of one codec, and return its identity.

    Args:
        parts: what a part is called, such as "the policy runs/sft" → its identity.
        told: what the user says of those that do not know theirs (`--codec-of`).

    Raises:
        UserError: two are of different codecs, or one does not know its own.
    """
    first = ""
    lines: list[str] = []
    for name, line in parts.items():
        found = line or told
        if not found:
            raise UserError(
                f"{name} does not say which codec its tokens are of: name it with --codec-of "
                "(mini, s3:FOLDER, speech:FOLDER or a name such as speech_tokenizer_v2)"
            )
        first = first or name
        for other in lines:
            if not is_same(found, other):
                raise UserError(
                    f"{name} is of the codec {shown(found)}, {first} of {shown(other)}: their "
                    "tokens mean other sounds; tokenize again, name what belongs together, or "
                    "train a reward model of the other codec with --from new"
                )
        lines.append(found)
    return max(lines, key=len, default="")  # one with its hash, if any


def shown(line: str) -> str:
    """Return an identity as a person reads it: the name and the beginning of the hash.

    Examples:
        >>> shown("mini d14cb7fa289bf212"), shown("")
        ('mini (d14cb7fa)', 'unknown')
    """
    name, _, digest = line.partition(" ")
    return f"{name} ({digest[:8]})" if digest else name or "unknown"
