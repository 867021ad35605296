"""What commands are given by name: reward models and token shards."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch

from rrpo import reward
from rrpo.checkpoint import read_json, sha256
from rrpo.data.manifest import PARTITIONS, TEST
from rrpo.data.shards import Utterance, read_shard
from rrpo.emotions import EMOTIONS
from rrpo.errors import UserError
from rrpo.mini.world import World
from rrpo.origin import MINI, is_mini
from rrpo.policy import SpeechTokenLM
from rrpo.reward import RewardConfig, RewardModel

NEW = "new"
MADE = "tokenize.json"
"""What `rrpo tokenize` writes beside its shards."""
ALL = "all"
"""Every utterance, whatever its partition."""

BUNDLED = (MINI, f"{MINI}-tasks")
"""Names of the reward models that come with the mini world."""


def load_reward(start: str) -> RewardModel:
    """Load a reward model: `mini` is the bundled one of emotion, `mini-tasks` of all the rest."""
    if start in BUNDLED:
        return World().reward_model() if start == MINI else World().task_model()
    return reward.load(Path(start))


def refuse_bundled(start: str) -> None:
    """Refuse a reward model that reads another codec's tokens than CosyVoice's."""
    if start in BUNDLED:
        raise UserError(
            f"the bundled reward model {start!r} reads the mini codec's tokens: train a --reward"
        )


def load_rewards(starts: Sequence[str], model: SpeechTokenLM) -> list[RewardModel]:
    """Load the reward models that a policy is to be paid by."""
    for start in starts if not is_mini(model) else []:
        refuse_bundled(start)
    return [load_reward(start) for start in starts]


def new_reward(rows: Sequence[Utterance], seed: int) -> RewardModel:
    """Make an untrained reward model whose classes are the emotions of the data."""
    found = {row.emotion for row in rows}
    names = [name for name in EMOTIONS if name in found] + sorted(found - set(EMOTIONS))
    if len(names) < 2:
        raise UserError(f"every utterance is {names[0]!r}: a reward model needs two emotions")
    torch.manual_seed(seed)
    return RewardModel(RewardConfig(tasks={"emotion": names}))


def load_data(
    data: Path | None, model: SpeechTokenLM | None = None, tested: bool = False
) -> list[Utterance]:
    """Read token shards, by default the bundled fine-tuning set, which is the mini codec's.

    Args:
        model: a policy to be trained or tested on them; then every row needs its text.
        tested: whether it is tested (`for_tests`); else what is held out for that is left out.
    """
    if data is None:
        if model is not None and not is_mini(model):
            raise UserError(
                "the bundled tokens are the mini codec's: give CosyVoice's own with --data"
            )
        return World().shard("finetune")
    if model is not None:
        require_codec(data, is_mini(model), "the policy")
    rows = for_tests(data) if tested else for_training(data)
    for row in rows if model is not None else []:
        if not row.text.strip():
            raise UserError(
                f"{data}: utterance {row.id!r} has no text, which a policy needs: "
                "give the manifest a column `text` and tokenize it again"
            )
    return rows


def require_codec(data: Path, mini: bool, reader: str) -> None:
    """Refuse tokens of another codec than what is to read them; shards alone do not tell theirs.

    Args:
        mini: whether the reader takes the mini codec's tokens, or else another's.
        reader: such as "the policy".
    """
    places = (data.parent, data.parent.parent) if data.is_file() else (data.parent,)
    made = next((one / MADE for one in places if (one / MADE).is_file()), None)
    codec = "" if made is None else str(read_json(made).get("codec", ""))
    name = codec.partition(" ")[0]  # its checksum comes after
    if name and (name == MINI) != mini:
        wanted = "those of the mini codec" if mini else "CosyVoice's own"
        raise UserError(
            f"{data} holds tokens of the codec {name!r}, and {reader} reads {wanted}: "
            "tokenize with --codec, or begin with another --from"
        )


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
    files = [path] if path.is_file() else sorted([*path.glob("*.parquet")])
    weights = [path / "model.safetensors", path / "checkpoint" / "model.safetensors"]
    files += [file for file in weights if file.is_file()]
    digest = hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()
    return [str(given), digest if files else ""]


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
