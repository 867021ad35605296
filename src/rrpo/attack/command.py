"""`rrpo reward attack`: reward models by name, utterances to attack, a page and its JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from rrpo.attack.assess import FULL, QUICK, assess
from rrpo.attack.goal import draw_goal
from rrpo.attack.page import print_attacks, write_page
from rrpo.attack.tools import Named, load_named, make_tools, with_sounds
from rrpo.codec_identity import require_one_codec, shown
from rrpo.cores import machine
from rrpo.data.shards import Utterance, for_tests, shard_codec
from rrpo.errors import UserError
from rrpo.files import require_writable, write_json
from rrpo.loading import Location, codec_identity, load_reward_model, output_folder
from rrpo.mini.world import World
from rrpo.reward import RewardModel

TEST = "test_same"


def attack(
    folders: Sequence[str],
    out: Location,
    data: Path | None = None,
    *,
    partition: str | None = None,
    codec_of: str | None = None,
    policy: Location | None = None,
    judge: Location | None = None,
    inserted: Sequence[Path] = (),
    quick: bool = False,
    utterances: int | None = None,
    seed: int = 0,
    command: str = "rrpo reward attack",
) -> Path:
    """Attack reward models and write `attack.json` and `attack.html`; return where the page is.

    After each model the figures so far are written, without a page.

    Args:
        folders: of reward models, or `mini`.
        out: a folder, made where it is not there.
        data: labelled token shards; by default the bundled test set.
        partition: of `data` (`rrpo.data.shards.for_tests`).
        codec_of: which codec the tokens are of, where shards or models do not say it.
        policy: whose likely tokens are tried, and that is trained on the reward model; by default
            the bundled base for its own tokens.
        judge: a reward model that hears what was done; by default the bundled judge likewise.
        inserted: shards of `rrpo tokenize --insert`: the same utterances with a sound.
        quick: few utterances and short searches.
        utterances: how many are attacked at most.
        seed: of what is drawn: utterances, wanted emotions, searches and sounds.
        command: as the page names it.

    Raises:
        UserError: a model or the shards cannot be used, or are of several codecs.
    """
    folder = output_folder(out)
    if partition is not None and data is None:
        raise UserError("--partition chooses among the utterances of --data: give that, too")
    models = {name: load_reward_model(name) for name in dict.fromkeys(folders)}
    named = load_named(folders, policy, judge, inserted)
    rows, codec = _utterances(models, named, data, partition, codec_of)
    given = QUICK if quick else FULL
    size = given if utterances is None else replace(given, utterances=utterances)
    asked = models if named.judge is None else {**models, "the judge": named.judge}
    goal = draw_goal(asked, rows, size.utterances, seed)
    tools, left_out = make_tools(goal, codec, data, named)
    print(*(f"note: {line}\n" for line in left_out), sep="", end="")
    require_writable(folder)  # before the attacks, which take minutes
    told = {
        "command": command,
        "machine": machine(),
        "seed": seed,
        "size": asdict(size),
        "utterances": len(goal.rows),
        "tokens": float(np.mean([row.tokens.size for row in goal.rows])),
        "data": f"the bundled {TEST}" if data is None else str(data),
        "codec": shown(codec) if codec else "",
        "left_out": left_out,
    }

    def keep(found: Mapping[str, Any]) -> None:
        write_json(folder / "attack.json", {**told, **found})

    figures = told | assess(models, goal, size, tools, seed, keep)
    keep(figures)
    print_attacks(figures, Console())
    return write_page(figures, folder / "attack.html")


def _utterances(
    models: Mapping[str, RewardModel],
    named: Named,
    data: Path | None,
    partition: str | None,
    codec_of: str | None,
) -> tuple[list[Utterance], str]:
    """Return the utterances to choose from, and the identity of their codec, empty if unknown."""
    world = World()
    known = {f"the reward model {name}": one.config.codec for name, one in models.items()}
    if named.judge is not None:
        known["the judge"] = named.judge.config.codec
    if named.policy is not None:
        name, policy = named.policy
        known[f"the policy {name}"] = policy.config.codec
    for path in named.shards:
        known[str(path)] = shard_codec(path)
    if data is None:
        known["the bundled test set"] = world.codec_identity
        codec = require_one_codec(known, codec_identity(codec_of))
        return with_sounds(world.shard(TEST), named, "the bundled test set"), codec
    known[str(data)] = shard_codec(data)
    codec = require_one_codec(known, codec_identity(codec_of))
    return with_sounds(for_tests(data, partition), named, str(data)), codec
