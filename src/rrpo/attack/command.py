"""`rrpo reward attack`: reward models by name, utterances to attack, a page and its JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from rrpo.attack.assess import FULL, QUICK, Tools, assess
from rrpo.attack.goal import Goal, draw_goal
from rrpo.attack.likely import among_likeliest
from rrpo.attack.page import print_attacks, write_page
from rrpo.attack.policy import Start
from rrpo.codec_identity import is_same, require_one_codec, shown
from rrpo.cores import machine
from rrpo.data.shards import Utterance, for_tests, shard_codec
from rrpo.emotions import EMOTIONS
from rrpo.errors import UserError
from rrpo.files import require_writable, write_json
from rrpo.loading import Location, codec_identity, load_reward_model, output_folder
from rrpo.mini.world import World
from rrpo.policy.layout import make_examples, make_prompts
from rrpo.reward import RewardModel

TEST = "test_same"


def attack(
    folders: Sequence[str],
    out: Location,
    data: Path | None = None,
    *,
    partition: str | None = None,
    codec_of: str | None = None,
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
    rows, codec = _utterances(models, data, partition, codec_of)
    given = QUICK if quick else FULL
    size = given if utterances is None else replace(given, utterances=utterances)
    goal = draw_goal(models, rows, size.utterances, seed)
    tools, left_out = _tools(goal, codec)
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
    data: Path | None,
    partition: str | None,
    codec_of: str | None,
) -> tuple[list[Utterance], str]:
    """Return the utterances to choose from, and the identity of their codec, empty if unknown."""
    world = World()
    known = {f"the reward model {name}": one.config.codec for name, one in models.items()}
    if data is None:
        known["the bundled test set"] = world.codec_identity
        return world.shard(TEST), require_one_codec(known, codec_identity(codec_of))
    known[str(data)] = shard_codec(data)
    codec = require_one_codec(known, codec_identity(codec_of))
    return for_tests(data, partition), codec


def _tools(goal: Goal, codec: str) -> tuple[Tools, list[str]]:
    """Return what the mini world can do for its own tokens, and what is left out and why."""
    world = World()
    if not is_same(codec, world.codec_identity):
        what = shown(codec) if codec else "a codec that is not named"
        return Tools(), [
            f"the tokens are of {what}: inserted sounds, the judge and the policy's own likely "
            "tokens are of the mini world alone"
        ]
    spoken, listener = world.codec(), world.judge()

    def judge(tokens: Sequence[Tensor]) -> NDArray[np.float64]:
        return listener.probabilities_batch(spoken.decode_batch(list(tokens)))

    asked = [
        replace(row, emotion=emotion) for row, emotion in zip(goal.rows, goal.emotions, strict=True)
    ]
    notes: list[str] = []
    allowed = start = None
    try:
        prompts, policy = make_prompts(world.tokenizer, asked), world.policy()
        allowed = among_likeliest(policy, prompts, goal.tokens)
        if set(goal.emotions) <= set(EMOTIONS):
            examples = make_examples(world.tokenizer, world.shard("finetune"))
            start = Start(policy, examples, prompts)
    except UserError as error:
        notes.append(f"likely tokens and a policy's speech are left out: {error}")
    heard = judge if set(goal.emotions) <= set(EMOTIONS) else None
    if heard is None:
        notes.append("the judge is left out: it knows the mini world's emotions alone")
    return Tools(allowed, spoken, spoken.decode_batch(goal.tokens), heard, start), notes
