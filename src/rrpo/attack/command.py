"""`rrpo reward attack`: reward models by name, utterances to attack, a page and its JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from rrpo.attack.assess import FULL, QUICK, Size, assess
from rrpo.attack.goal import Goal, draw_goal
from rrpo.attack.page import write_page
from rrpo.attack.tools import Named, Tools, load_named, make_tools, with_sounds
from rrpo.codec_identity import require_one_codec, shown
from rrpo.cores import machine
from rrpo.data.shards import Utterance, for_tests, shard_codec
from rrpo.errors import UserError
from rrpo.files import require_writable, write_json
from rrpo.loading import Location, codec_identity, load_reward_model, output_folder
from rrpo.mini.world import World
from rrpo.origin import listed
from rrpo.reward import RewardModel

TEST = "test_same"
PAGE = "attack.html"


def attack_reward(
    rewards: Location | Sequence[Location],
    out: Location,
    data: Location | None = None,
    *,
    partition: str | None = None,
    codec_of: str | None = None,
    policy: Location | None = None,
    judge: Location | None = None,
    inserted: Location | Sequence[Location] = (),
    quick: bool = False,
    utterances: int | None = None,
    seed: int = 0,
    command: str = "rrpo.attack_reward",
) -> dict[str, Any]:
    """Attack reward models, write `attack.json` and `attack.html`, and return the figures.

    Args:
        rewards: folders of reward models, or `mini`.
        out: a folder, made where it is not there.
        data: labelled token shards; by default the bundled test set.
        partition: of `data` (`rrpo.data.shards.for_tests`).
        codec_of: which codec the tokens are of, where shards or models do not say it.
        policy: that searches, too; by default the bundled base, for its own tokens.
        judge: a reward model that hears what was done; by default the bundled judge likewise.
        inserted: shards of `rrpo tokenize --insert`: the same utterances with a sound.
        quick: few utterances and short searches.
        utterances: how many are attacked at most.
        seed: of what is drawn: utterances, wanted emotions, searches and sounds.
        command: as the page names it.

    Returns:
        the figures: of each of `models` its `attacks`, `worst` cases and `warnings`.

    Raises:
        UserError: a model or the shards cannot be used, or are of several codecs.

    Examples:
        >>> found = attack_reward("mini", "attack", quick=True, utterances=2)
        >>> sorted(found["models"]["mini"]["worst"])
        ['sounds', 'tokens']
    """
    folder = output_folder(out)
    names: list[Location] = listed(rewards)
    every: list[Location] = listed(inserted)
    models = {str(name): load_reward_model(name) for name in names}
    named = load_named(models, policy, judge, [*map(Path, every)])
    given = QUICK if quick else FULL
    size = given if utterances is None else replace(given, utterances=utterances)
    shards = None if data is None else Path(data)
    goal, tools, told = _prepared(models, named, shards, partition, codec_of, size, seed)
    require_writable(folder)  # before the attacks, which take minutes
    told["command"] = command

    def keep(found: Mapping[str, Any]) -> None:
        write_json(folder / "attack.json", {**told, **found})

    keep(figures := told | assess(models, goal, size, tools, seed, keep))
    write_page(figures, folder / PAGE)
    return figures


def _prepared(
    models: Mapping[str, RewardModel],
    named: Named,
    data: Path | None,
    partition: str | None,
    codec_of: str | None,
    size: Size,
    seed: int,
) -> tuple[Goal, Tools, dict[str, Any]]:
    """Choose what is attacked; return it, what attacks can use, and what is said of both."""
    rows, codec = _utterances(models, named, data, partition, codec_of)
    goal = draw_goal(models, rows, size.utterances, seed)
    tools, left_out = make_tools(goal, codec, data, named)
    print(*(f"note: {line}\n" for line in left_out), sep="", end="")
    told = _told(goal, size, seed, data, codec) | {"left_out": left_out}
    bundled = {"policy": tools.start is not None, "judge": tools.judge is not None}
    for what, one in (("policy", named.policy), ("judge", named.judge)):
        told[what] = str(one[0]) if one else f"the bundled {what}" if bundled[what] else "none"
    return goal, tools, told


def _told(goal: Goal, size: Size, seed: int, data: Path | None, codec: str) -> dict[str, Any]:
    """Return what is said of the attacked utterances, how hard they are attacked, and where."""
    return {
        "machine": machine(),
        "seed": seed,
        "size": asdict(size),
        "utterances": len(goal.rows),
        "tokens": float(np.mean([row.tokens.size for row in goal.rows])),
        "data": f"the bundled {TEST}" if data is None else str(data),
        "codec": shown(codec) if codec else "",
    }


def _utterances(
    models: Mapping[str, RewardModel],
    named: Named,
    data: Path | None,
    partition: str | None,
    codec_of: str | None,
) -> tuple[list[Utterance], str]:
    """Return the utterances to choose from, and the identity of their codec, empty if unknown."""
    if partition is not None and data is None:
        raise UserError("--partition chooses among the utterances of --data: give that, too")
    world = World()
    known = {f"the reward model {name}": one.config.codec for name, one in models.items()}
    if named.judge is not None:
        known[f"the judge {named.judge[0]}"] = named.judge[1].config.codec
    if named.policy is not None:
        known[f"the policy {named.policy[0]}"] = named.policy[1].config.codec
    for path in named.shards:
        known[str(path)] = shard_codec(path)
    if data is None:
        known["the bundled test set"] = world.codec_identity
        codec = require_one_codec(known, codec_identity(codec_of))
        return with_sounds(world.shard(TEST), named, "the bundled test set"), codec
    known[str(data)] = shard_codec(data)
    codec = require_one_codec(known, codec_identity(codec_of))
    return with_sounds(for_tests(data, partition), named, str(data)), codec
