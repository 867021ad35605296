"""What commands are given by name: reward models and token shards."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch

from rrpo import reward
from rrpo.checkpoint import sha256
from rrpo.codec import s3
from rrpo.data.manifest import PARTITIONS, TEST
from rrpo.data.shards import Utterance, odd_lengths, read_shard, shard_codec
from rrpo.emotions import EMOTIONS
from rrpo.errors import UserError
from rrpo.identity import identity, require_one_codec
from rrpo.mini.world import World
from rrpo.origin import MINI, is_cosyvoice, is_mini
from rrpo.policy import SpeechTokenLM, cosyvoice
from rrpo.reward import RewardConfig, RewardModel

NEW = "new"
ALL = "all"
"""Every utterance, whatever its partition."""

BUNDLED = (MINI, f"{MINI}-tasks")
"""Names of the reward models that come with the mini world."""


def load_reward(start: str) -> RewardModel:
    """Load a reward model: `mini` is the bundled one of emotion, `mini-tasks` of all the rest."""
    if start in BUNDLED:
        return World().reward_model() if start == MINI else World().task_model()
    return reward.load(Path(start))


def load_rewards(
    starts: Sequence[str], model: SpeechTokenLM, codec_of: str | None = None
) -> list[RewardModel]:
    """Load the reward models that a policy is to be paid by; all read the tokens it speaks.

    Args:
        codec_of: what the user says of those that do not know their codec (`named_codec`).
    """
    models = {start: load_reward(start) for start in starts}
    known = {"the policy": model.config.codec}
    known |= {f"the reward model {start}": one.config.codec for start, one in models.items()}
    require_one_codec(known, named_codec(codec_of))
    return list(models.values())


def named_codec(codec_of: str | None) -> str:
    """Return the identity of a codec that a user names: `mini`, s3:FOLDER, speech:FOLDER or a name.

    Raises:
        UserError: a folder does not hold such a codec.
    """
    kind, _, folder = (codec_of or "").partition(":")
    if kind == MINI:
        return World().codec_identity
    if not folder:
        return kind
    if kind == "speech":
        weights = Path(folder) / "model.safetensors"
        names = {"speech": weights}
    elif kind == "s3":
        names = {Path(name).stem: Path(folder) / name for name in s3.FILES}
    else:
        raise UserError(f"unknown codec {codec_of!r}: name mini, s3:FOLDER or speech:FOLDER")
    for name, path in names.items():
        if path.is_file():
            return identity(name, sha256(path))
    raise UserError(f"--codec-of {codec_of}: {folder} holds no {' and no '.join(names)}")


def new_reward(rows: Sequence[Utterance], seed: int, codec: str) -> RewardModel:
    """Make an untrained reward model whose classes are the emotions of the data."""
    found = {row.emotion for row in rows}
    names = [name for name in EMOTIONS if name in found] + sorted(found - set(EMOTIONS))
    if len(names) < 2:
        raise UserError(f"every utterance is {names[0]!r}: a reward model needs two emotions")
    torch.manual_seed(seed)
    return RewardModel(RewardConfig(tasks={"emotion": names}, codec=codec))


def load_data(
    data: Path | None,
    model: SpeechTokenLM | None = None,
    tested: bool = False,
    codec_of: str | None = None,
) -> list[Utterance]:
    """Read token shards, by default the bundled fine-tuning set, which is the mini codec's.

    Args:
        model: a policy to be trained or tested on them; then every row needs its text, and the
            tokens are of the codec whose tokens it speaks.
        codec_of: what the user says of shards that do not know their codec (`named_codec`).
        tested: whether it is tested (`for_tests`); else what is held out for that is left out.
    """
    if data is None:
        if model is not None and not is_mini(model):
            raise UserError(
                "the bundled tokens are the mini codec's: give CosyVoice's own with --data"
            )
        return World().shard("finetune")
    if model is not None:
        known = {"the policy": model.config.codec, str(data): shard_codec(data)}
        require_one_codec(known, named_codec(codec_of))
    rows = for_tests(data) if tested else for_training(data)
    _require_plain(rows, data)
    for note in odd_lengths(rows, data):
        print(note)
    for row in rows if model is not None else []:
        if not row.text.strip():
            raise UserError(
                f"{data}: utterance {row.id!r} has no text, which a policy needs: "
                "give the manifest a column `text` and tokenize it again"
            )
    return rows


def describe(
    **given: str | Path | Sequence[str | Path] | None,
) -> dict[str, list[list[str]]]:
    """Describe what a run is made from, for its `inputs.json`.

    Args:
        given: name of an option → the paths or names that were given with it; None: the default.

    Returns:
        name → of each path or bundled name itself, and the SHA-256 of what it holds.
    """
    return {
        name: [_described(one) for one in ([value] if isinstance(value, str | Path) else value)]
        for name, value in given.items()
        if value is not None
    }


def _described(given: str | Path) -> list[str]:
    """Return a path or a bundled name, and the SHA-256 of what it holds."""
    path = Path(given)
    if str(given) in (*BUNDLED, NEW):
        return [str(given), ""]
    files = [path] if path.is_file() else sorted([*path.glob("*.parquet")])
    weights = [path / "model.safetensors", path / "checkpoint" / "model.safetensors"]
    files += [file for file in weights if file.is_file()]
    if is_cosyvoice(str(path)) and (path.is_file() or not files):
        files = cosyvoice.weights_of(path)  # an index or adapters stand for other files
    digest = hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()
    return [str(given), digest if files else ""]


def load_mixes(mixes: Path) -> list[Utterance]:
    """Read a mix pool without what is held out for tests.

    Raises:
        UserError: it holds utterances that are mixed with no other.
    """
    rows = for_training(mixes)
    for row in rows:
        if row.partner_emotion is None:
            raise UserError(
                f"{mixes}: utterance {row.id!r} is mixed with no other: name the folder `mixes` "
                "that `rrpo tokenize --mix 10` writes beside `tokens`"
            )
    return rows


def _require_plain(rows: Sequence[Utterance], data: Path) -> None:
    """Refuse mixes of two utterances: they are neither an emotion nor a text."""
    for row in rows:
        if row.partner_emotion is not None:
            raise UserError(
                f"{data}: utterance {row.id!r} is mixed with another: name the folder `tokens` "
                "beside `mixes`"
            )


def for_training(data: Path) -> list[Utterance]:
    """Read token shards, or a mix pool, without what is held out for tests."""
    rows = read_shard(data)
    kept = [row for row in rows if row.partition != TEST]
    if not kept:
        raise UserError(f"{data}: every utterance is in the partition {TEST!r}: none to train on")
    if len(kept) < len(rows):
        print(f"{data}: {len(rows) - len(kept)} of {len(rows)} utterances are held out for tests")
    return kept


def for_tests(data: Path, partition: str | None = None) -> list[Utterance]:
    """Read token shards to test on.

    Args:
        data: the shards.
        partition: one of `PARTITIONS`, or "all"; None: what is held out for tests, or all where
            nothing is.
    """
    rows = read_shard(data)
    _require_plain(rows, data)
    known = {row.partition for row in rows}
    if partition not in (None, ALL, *PARTITIONS):
        names = ", ".join((*PARTITIONS, ALL))
        raise UserError(f"there is no partition {partition!r}: choose one of {names}")
    if partition == ALL or (partition is None and TEST not in known):
        return rows
    wanted = partition or TEST
    kept = [row for row in rows if row.partition == wanted]
    if not kept:
        raise UserError(
            f"{data}: no utterance is in the partition {wanted!r}: there are "
            f"{', '.join(map(repr, sorted(known)))}, or take --partition {ALL}"
        )
    if len(kept) < len(rows):
        print(f"{data}: {len(kept)} of {len(rows)} utterances, the partition {wanted!r}")
    return kept
