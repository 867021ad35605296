"""What attacks can use beside the reward model: a policy, sounds, and a judge, found by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rrpo.attack.goal import Goal
from rrpo.attack.likely import among_likeliest
from rrpo.attack.policy import Start
from rrpo.audio import Audio
from rrpo.codec_identity import is_same, shown
from rrpo.data.manifest import TEST
from rrpo.data.shards import (
    Utterance,
    read_shard,
    require_plain,
    require_text,
    shard_insert,
)
from rrpo.data.tokenize import Codec
from rrpo.emotions import EMOTIONS
from rrpo.errors import UserError
from rrpo.loading import MINI, Location, load_reward_model, load_tokenizer
from rrpo.mini.world import World
from rrpo.notes import note
from rrpo.origin import origin_of
from rrpo.policy import SpeechTokenLM
from rrpo.policy.layout import make_examples, make_prompts
from rrpo.reward import RewardModel
from rrpo.reward.posteriors import log_posteriors
from rrpo.speaking.by_name import load_to_speak

Key = tuple[str, str, str, str]
"""Corpus, id, text and emotion of an utterance."""
Hears = Callable[[Sequence[Tensor]], NDArray[np.float64]]


@dataclass(frozen=True)
class Judge:
    """An independent judge: takes the tokens of N utterances and returns probabilities (N, E).

    Attributes:
        emotions: E names, the order of the probabilities.
        hears: the function.
    """

    emotions: Sequence[str]
    hears: Hears


@dataclass(frozen=True)
class Tools:
    """What attacks can use beside the reward model; None or empty: what needs it is left out.

    Attributes:
        allowed: for each utterance (T_n, V) bool, the tokens that a policy would say there.
        codec: tokenizes audio.
        audios: of the utterances, (N,) at 16 kHz.
        inserted: by the name of a sound, the tokens (T_n,) of each utterance with it.
        judge: hears what was done to the speech.
        start: a policy that can be trained on the reward model.
    """

    allowed: Sequence[Tensor] | None = None
    codec: Codec | None = None
    audios: list[Audio] | None = None
    inserted: Mapping[str, Sequence[Tensor]] = field(default_factory=dict)
    judge: Judge | None = None
    start: Start | None = None


NOTHING = Tools()


@dataclass(frozen=True)
class Named:
    """What a user names beside the reward models, loaded before an utterance is chosen.

    Attributes:
        policy: the policy and where it was loaded from; None: none is named.
        judge: a reward model that is not attacked, and its name.
        inserted: by the name of a sound, utterances with it by what tells their recording.
        shards: where they were read.
    """

    policy: tuple[Location, SpeechTokenLM] | None = None
    judge: tuple[Location, RewardModel] | None = None
    inserted: Mapping[str, Mapping[Key, Utterance]] = field(default_factory=dict)
    shards: Sequence[Path] = ()


def load_named(
    models: Mapping[str, RewardModel],
    policy: Location | None,
    judge: Location | None,
    inserted: Sequence[Path],
) -> Named:
    """Load what a user names.

    Args:
        models: the attacked reward models by name.
        policy: a policy by its name.
        judge: a reward model by its name.
        inserted: shards of `rrpo tokenize --insert`.

    Raises:
        UserError: it cannot be used, or the judge is one of those that it is to judge.
    """
    sounds: dict[str, Mapping[Key, Utterance]] = {}
    for path in inserted:
        sound = f"{shard_insert(path) or path.stem} in the recordings"
        if sound in sounds:
            raise UserError(f"--inserted {path}: another has the same sound: name one of them")
        rows = read_shard(path)
        require_plain(rows, path)
        sounds[sound] = {_key(row): row for row in rows}
        if len(sounds[sound]) < len(rows):
            raise UserError(
                f"--inserted {path}: an utterance stands there more than once with other tokens: "
                "keep one of each"
            )
    return Named(
        None if policy is None else (policy, load_to_speak(policy)),
        None if judge is None else (judge, _load_judge(judge, models)),
        sounds,
        inserted,
    )


def _load_judge(judge: Location, models: Mapping[str, RewardModel]) -> RewardModel:
    """Load a judge; a model cannot judge itself, by whatever name it is given."""
    loaded = load_reward_model(judge)
    state = loaded.state_dict()
    for name, model in models.items():
        own = model.state_dict()
        if own.keys() == state.keys() and all(torch.equal(own[key], state[key]) for key in own):
            raise UserError(
                f"--judge {judge} has the weights of {name}, which is attacked: name another "
                "reward model, or none"
            )
    return loaded


def _key(row: Utterance) -> Key:
    """Return what tells that two rows are of one recording; ids alone may be another corpus's."""
    return row.corpus, row.id, row.text, row.emotion


def with_sounds(rows: list[Utterance], named: Named, data: str) -> list[Utterance]:
    """Return the utterances that there are with every sound, too.

    Raises:
        UserError: there are none.
    """
    kept = rows
    for sound, found in named.inserted.items():
        kept = [row for row in kept if _key(row) in found]
        if not kept:
            raise UserError(
                f"none of the utterances of {data} is there with {sound}: give the folders "
                "`tokens` and `inserted` of one call of `rrpo tokenize --insert`"
            )
        if all(np.array_equal(row.tokens, found[_key(row)].tokens) for row in kept):
            raise UserError(
                f"{sound}: its utterances are those of {data}, token by token: name shards with a "
                "sound put in, such as the folder `inserted`"
            )
    if len(kept) < len(rows):
        note(f"{len(kept)} of {len(rows)} utterances are there with every inserted sound")
    return kept


def make_tools(goal: Goal, codec: str, data: Path | None, named: Named) -> tuple[Tools, list[str]]:
    """Return what there is for the tokens that are attacked, and what is left out and why.

    For the mini world's tokens what is bundled stands for what is not named.

    Args:
        goal: what is attacked.
        codec: identity of the tokens' codec, empty if unknown.
        data: the shards they are of; None: the bundled ones.
        named: what the user names.
    """
    inserted = {
        sound: [torch.from_numpy(found[_key(row)].tokens) for row in goal.rows]
        for sound, found in named.inserted.items()
    }
    judge = None if named.judge is None else _reward_model_judge(*named.judge, goal)
    tools = Tools(inserted=inserted, judge=judge)
    if named.policy is not None:
        tools = replace(tools, **_searching(goal, *named.policy, data))
    if not is_same(codec, World().codec_identity):
        return tools, _left_out(codec, named)
    return _with_bundled(tools, goal)


def _left_out(codec: str, named: Named) -> list[str]:
    """Say what is left out with tokens that are not the mini world's, and how to have it."""
    missing = [
        line
        for line, there in (
            ("--policy: likely tokens and the speech of a policy that it rewards", named.policy),
            ("--judge: whether a reward model that is not attacked hears the emotion", named.judge),
            ("--inserted: sounds, from `rrpo tokenize --insert`", named.inserted),
        )
        if not there
    ]
    if not missing:
        return []
    what = shown(codec) if codec else "a codec that is not named"
    return [f"the tokens are of {what}; left out is what there is with {'; '.join(missing)}"]


def _with_bundled(tools: Tools, goal: Goal) -> tuple[Tools, list[str]]:
    """Add the mini world's codec, and where they are not named its judge and policy."""
    world, notes = World(), list[str]()
    spoken = world.codec()
    known = set(goal.emotions) <= set(EMOTIONS)
    if tools.judge is None and known:
        listener = world.judge()

        def hears(tokens: Sequence[Tensor]) -> NDArray[np.float64]:
            return listener.probabilities_batch(spoken.decode_batch(list(tokens)))

        tools = replace(tools, judge=Judge(EMOTIONS, hears))
    elif tools.judge is None:
        notes.append("the judge is left out: it knows the mini world's emotions alone")
    if tools.allowed is None:
        try:
            tools = replace(tools, **_searching(goal, MINI, world.policy(), None))
        except UserError as error:
            notes.append(f"likely tokens and a policy's speech are left out: {error}")
    return replace(tools, codec=spoken, audios=spoken.decode_batch(goal.tokens)), notes


def _searching(
    goal: Goal, name: Location, policy: SpeechTokenLM, data: Path | None
) -> dict[str, Any]:
    """Return the likely tokens of a policy and its start of a training, as fields of `Tools`.

    It is asked for the texts that are neither attacked nor held out for tests; where there are
    none, for those that are attacked.

    Raises:
        UserError: the policy does not know an emotion, or an utterance has no text.
    """
    tokenizer = load_tokenizer(origin_of(name), policy)
    asked = [
        replace(row, emotion=emotion) for row, emotion in zip(goal.rows, goal.emotions, strict=True)
    ]
    rows = World().shard("finetune") if data is None else read_shard(data)
    attacked = {_key(row) for row in goal.rows} if data is not None else set()
    wanted = set(goal.emotions)
    trained = [
        row
        for row in rows
        if row.partition != TEST and _key(row) not in attacked and row.emotion in wanted
    ]
    if data is not None:
        for row in [*goal.rows, *trained]:
            require_text(row, data)
    prompts = make_prompts(tokenizer, asked)
    examples = make_examples(tokenizer, trained or asked)
    allowed = among_likeliest(policy, prompts, goal.tokens)
    return {"allowed": allowed, "start": Start(policy, examples, prompts)}


def _reward_model_judge(name: Location, model: RewardModel, goal: Goal) -> Judge:
    """Return a reward model as a judge.

    Raises:
        UserError: it does not know an emotion that is wanted.
    """
    unknown = sorted({*goal.emotions} - {*model.classes()})
    if unknown:
        raise UserError(
            f"--judge {name} does not know {', '.join(unknown)}: name one that knows what is "
            "attacked, or none"
        )

    def hears(tokens: Sequence[Tensor]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = log_posteriors(model, tokens).double().exp().numpy()
        return found

    return Judge(model.classes(), hears)
