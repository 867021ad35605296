"""Speech tokens: ids, padding and masks, loops among them, and which codec they are of.

Tokens of two codecs are numbers of the same range with other meanings, so nothing but a codec's
identity tells a mixture: its name and the SHA-256 of its weights, as one line of text. Shards,
policies, reward models and pairs carry it; an empty line is not known.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rrpo.errors import UserError

SPEECH_CODES = 6561
"""Codes of one frame: eight base-3 digits, 3^8."""
TOKEN_RATE = 25
"""Tokens of a second of speech."""
IGNORE = -1
"""Target value of a position that carries no loss."""
STUCK, LONGEST_LOOP, LOOPS = 5, 16, 3
"""Equal tokens in a row, longest period, and rounds of a period that count as repetition."""
LOOPING, LOOPING_LEAST = 1 / 3, 10
"""Share of stuck or looping tokens, and their count, from which on an utterance is a loop. The
share is at most 0.12 in the 900 utterances of the mini world's first test and fine-tuning sets."""


def fits_sound(count: int, seconds: float) -> bool:
    """Say whether a sound of that length can have so many tokens, 25 a second.

    Codecs round at the ends, and some leave out silence there: a tenth and four tokens are allowed.
    Those of CosyVoice's first generation are 50 a second.

    Examples:
        >>> fits_sound(50, 2.0), fits_sound(100, 2.0)
        (True, False)
    """
    return abs(count - TOKEN_RATE * seconds) <= 4 + 0.1 * TOKEN_RATE * seconds


def pad(sequences: Sequence[Tensor], value: int = 0) -> Tensor:
    """Right-pad tensors (T_b, …) to one tensor (B, T, …), T the greatest length.

    Examples:
        >>> pad([torch.tensor([1, 2]), torch.tensor([3])], value=-1)
        tensor([[ 1,  2],
                [ 3, -1]])
    """
    return torch.nn.utils.rnn.pad_sequence(list(sequences), batch_first=True, padding_value=value)


def length_mask(lengths: Tensor, size: int | None = None) -> Tensor:
    """Return (B, T) bool, true where position t < lengths[b]; `size` is T, by default the maximum.

    Examples:
        >>> length_mask(torch.tensor([2, 1]))
        tensor([[ True,  True],
                [ True, False]])
    """
    if size is None:
        size = int(lengths.max()) if lengths.numel() else 0
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]


def batch(sequences: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Right-pad tensors (T_b, …) to one (B, T, …), with its mask (B, T) bool, on a device."""
    lengths = torch.tensor([len(one) for one in sequences])
    return pad(sequences).to(device), length_mask(lengths).to(device)


def digits(ids: Tensor) -> Tensor:
    """Split FSQ ids (…) into their eight base-3 digits (…, 8), lowest first.

    CosyVoice2's id is the sum of h_i * 3^i over digits h_i in {0, 1, 2}.

    Examples:
        >>> digits(torch.tensor([5]))
        tensor([[2, 1, 0, 0, 0, 0, 0, 0]])
    """
    powers = 3 ** torch.arange(8, device=ids.device)
    return (ids[..., None] // powers) % 3


def as_ids(tokens: ArrayLike) -> NDArray[np.int64]:
    """Return token ids (T,) as int64.

    Raises:
        UserError: they are not whole numbers, or not of one dimension.
    """
    ids = np.asarray(tokens)
    if ids.ndim != 1 or (ids.size and not np.issubdtype(ids.dtype, np.integer)):
        raise UserError(
            f"tokens have shape {ids.shape} and type {ids.dtype}: give whole numbers (T,)"
        )
    return ids.astype(np.int64)


def runs_of(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the first and the last + 1 of each run of true flags (M,).

    Examples:
        >>> runs_of(np.array([True, True, False, True]))
        [(0, 2), (3, 4)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def repeated(tokens: ArrayLike) -> NDArray[np.bool_]:
    """Return which tokens (T,) are stuck or loop.

    Stuck: the same id at least five times in a row, as in long silence too. A loop: a pattern of
    2 to 16 tokens at least three times in a row.
    """
    ids = as_ids(tokens)
    marked = np.zeros(ids.size, dtype=bool)
    for period in range(1, min(LONGEST_LOOP, ids.size - 1) + 1):
        rounds = STUCK if period == 1 else LOOPS
        for start, stop in runs_of(ids[period:] == ids[:-period]):
            if stop - start >= period * (rounds - 1):
                marked[start : stop + period] = True
    return marked


def repetition(tokens: ArrayLike) -> float:
    """Return the share of tokens (T,) that are stuck or loop; 0 where there are no tokens.

    Examples:
        >>> repetition([1, 2, 3, 7, 7, 7, 7, 7, 4, 5])
        0.5
    """
    marked = repeated(tokens)
    return float(marked.mean()) if marked.size else 0.0


def loops(tokens: ArrayLike) -> bool:
    """Return whether speech of tokens (T,) is a loop, and not just has a repetition in it.

    Examples:
        >>> loops([1, 2, 3] + 12 * [7]), loops(range(20))
        (True, False)
    """
    marked = repeated(tokens)
    return int(marked.sum()) >= LOOPING_LEAST and float(marked.mean()) >= LOOPING


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
                    "tokens mean other sounds; tokenize again, or name what belongs together"
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
