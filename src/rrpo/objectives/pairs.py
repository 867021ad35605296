"""Preference pairs for DPO: drawn from a policy and ranked by a reward, or given by the user.

A folder of pairs holds two token shards, `chosen.parquet` and `rejected.parquet`, whose rows belong
together by their ids.
"""

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from rrpo.chance import seed_of
from rrpo.codec_identity import TOKEN_RATE
from rrpo.config import Strict
from rrpo.data.lengths import odd_lengths
from rrpo.data.manifest import TEST
from rrpo.data.shards import Utterance, read_shard, write_shard
from rrpo.data.stream import Streamed
from rrpo.errors import TrainingInterrupted, UserError
from rrpo.files import claim, writing
from rrpo.notes import note
from rrpo.objectives.dpo import Pair
from rrpo.objectives.drawing import Drawing, DrawnPair, forget
from rrpo.objectives.on_policy import start_engine
from rrpo.policy import SpeechTokenLM
from rrpo.policy.layout import Prompt, Tokenizer, choose, make_prompt
from rrpo.policy.rollout import RolloutConfig, Rollouts, draw
from rrpo.processes import ending_together, every_row, is_main, process, processes, told_by_main
from rrpo.progress import Progress
from rrpo.reward.differentiable import DifferentiableReward, score, weighted_sum
from rrpo.reward.reward import Form

CHOSEN, REJECTED = "chosen.parquet", "rejected.parquet"
PROMPTS_AT_A_TIME = 8


class PairsConfig(Strict):
    """The utterances of best and worst reward, of `count` of each of `prompts` prompts.

    An utterance that did not end before its length limit is left out: its end was no choice.
    Two that are closer than `margin` (nats) are no pair. `reward_form` is as in `DiffROConfig`.
    """

    count: int = Field(8, ge=2)
    prompts: int = Field(200, ge=1)
    margin: float = Field(0.5, ge=0)
    reward_form: Form = "robust"
    rollout: RolloutConfig = RolloutConfig()


def own_prompts(
    prompts: Sequence[Prompt], count: int, generator: torch.Generator
) -> tuple[range, list[Prompt]]:
    """Choose prompts; return the places of this process's among all processes', and these."""
    first, others = process(), processes()
    places = range(first, count, others)
    if isinstance(prompts, Streamed):  # which gives each process rows of its own
        rows = choose(-(-count // others), prompts, generator)[: len(places)]
    else:
        rows = choose(count, prompts, generator)[first::others]
    return places, [prompts[row] for row in rows]


def claim_pairs(folder: Path, drawing: Mapping[str, Any]) -> None:
    """Claim a folder for the pairs of a drawing; one that holds none yet may be for another.

    Raises:
        UserError: it holds pairs of another drawing.
    """
    plan = folder / "plan.json"
    try:
        claim(plan, drawing, "pairs")
    except UserError:
        if (folder / REJECTED).is_file() or not plan.is_file():
            raise
        forget(folder)
        with writing(folder):
            plan.unlink()
        claim(plan, drawing, "pairs")


def draw_pairs(
    model: SpeechTokenLM,
    reward: DifferentiableReward,
    prompts: Sequence[Prompt],
    config: PairsConfig,
    folder: Path,
    seed: int = 0,
) -> None:
    """Draw pairs from a policy and write them into a folder.

    Several processes draw for every so manyth prompt each, from random streams of their own. What
    is drawn is kept every few prompts, and the same call goes on from there.

    Raises:
        UserError: no two utterances of any prompt differ enough in their reward.
        TrainingInterrupted: Ctrl-C.
    """
    generator = torch.Generator().manual_seed(seed)
    engine = start_engine(model, config.rollout)
    count = min(config.prompts, len(prompts))
    places, asked = own_prompts(prompts, count, generator)
    if process() > 0:
        generator.manual_seed(seed_of(seed, process()))
    drawing = Drawing(folder, _plan(asked, config, seed), generator)
    try:
        with Progress("draw pairs", len(asked), drawing.done, visible=is_main()) as progress:
            for start in range(drawing.done, len(asked), PROMPTS_AT_A_TIME):
                batch = asked[start : start + PROMPTS_AT_A_TIME]
                rollouts = draw(model, batch, config.rollout, generator, config.count, engine)
                found = _best_and_worst(rollouts, reward, config)
                shifted = [one._replace(place=start + one.place) for one in found]
                drawing.add(start + len(batch), shifted)
                progress.update(drawing.done)
    except KeyboardInterrupt:
        raise told_by_main(
            TrainingInterrupted(
                f"interrupted after {drawing.done} of {len(asked)} prompts to draw pairs for, kept "
                f"in {folder}: continue with --resume"
            )
        ) from None
    rows = [(asked[one.place], places[one.place], one) for one in drawing.pairs]
    chosen = every_row([_row(prompt, place, one.chosen) for prompt, place, one in rows])
    rejected = every_row([_row(prompt, place, one.rejected) for prompt, place, one in rows])
    if not chosen:
        raise told_by_main(
            UserError(
                f"of {count} prompts none gave two utterances that ended, do not loop and are "
                f"{config.margin:g} nats apart: lower pairs.margin, raise pairs.count or "
                "pairs.rollout.max_ratio, or draw with pairs.rollout.top_k=0"
            )
        )
    with ending_together():
        if is_main():
            write_shard(folder / CHOSEN, chosen, model.config.codec)
            write_shard(folder / REJECTED, rejected, model.config.codec)
            forget(folder)


def _plan(asked: Sequence[Prompt], config: PairsConfig, seed: int) -> dict[str, Any]:
    """Return what decides the draws of this process, beside the policy and the reward."""
    said = json.dumps([(one.text, one.emotion, one.speaker) for one in asked])
    digest = hashlib.sha256(said.encode()).hexdigest()
    settings = config.model_dump(mode="json")
    return {"prompts": digest, "settings": settings, "seed": seed, "processes": processes()}


def _best_and_worst(
    rollouts: Rollouts, reward: DifferentiableReward, config: PairsConfig
) -> list[DrawnPair]:
    """Return the utterances of best and worst reward of each prompt that gave two of a pair."""
    rewards = weighted_sum(reward, score(reward, rollouts.tokens, rollouts.prompts))
    rewards = rewards.view(-1, config.count)
    ended, sound = (
        one.to(rewards.device).view(-1, config.count) for one in (rollouts.ended, rollouts.sound())
    )
    found = []
    for row in range(len(rewards)):
        if not sound[row].any():  # a loop is never the better one
            continue
        # With fewer than two that ended both are the same one.
        best = int(rewards[row].masked_fill(~sound[row], -math.inf).argmax())
        worst = int(rewards[row].masked_fill(~ended[row], math.inf).argmin())
        if best == worst or float(rewards[row, best] - rewards[row, worst]) < config.margin:
            continue
        good, bad = (rollouts[row * config.count + index].cpu() for index in (best, worst))
        if not torch.equal(good, bad):  # without a margin the same may be drawn twice
            found.append(DrawnPair(row, good, bad))
    return found


def _row(prompt: Prompt, place: int, tokens: Tensor) -> Utterance:
    return Utterance(f"{place:05d}", prompt.text, prompt.emotion, tokens.numpy(), prompt.speaker)


def read_pairs(folder: Path, tokenizer: Tokenizer) -> list[Pair]:
    """Read a folder of pairs; those that are held out for tests are left out, and counted.

    Raises:
        UserError: a shard is missing or damaged, an id stands twice, the two do not fit, a text is
            empty, both utterances of a pair are the same, two pairs contradict each other, or all
            are held out.
    """
    require_pairs(folder)
    chosen, rejected = (_by_id(folder / name) for name in (CHOSEN, REJECTED))
    if chosen.keys() != rejected.keys():
        lone = sorted(chosen.keys() ^ rejected.keys())[0]
        lacking = folder / (REJECTED if lone in chosen else CHOSEN)
        raise UserError(
            f"{lacking} lacks {lone!r}, which the other has: add it there, or remove it"
        )
    held_out = {
        name for name in chosen if TEST in (chosen[name].partition, rejected[name].partition)
    }
    if len(held_out) == len(chosen):
        raise UserError(
            f"{folder}: every pair is in the partition {TEST!r}, of which nothing is trained on: "
            "name pairs of the partition train"
        )
    if held_out:
        note(f"{folder}: {len(held_out)} of {len(chosen)} pairs are held out for tests")
    twice = _twice(folder, chosen, rejected, held_out)
    if twice:
        note(
            f"{folder}: {len(twice)} of {len(chosen)} pairs stand there twice, such as "
            f"{twice[0]!r}: each counts once"
        )
    left_out = held_out.union(twice)
    return [
        _pair(folder, row, rejected[name], tokenizer)
        for name, row in chosen.items()
        if name not in left_out
    ]


def _twice(
    folder: Path,
    chosen: Mapping[str, Utterance],
    rejected: Mapping[str, Utterance],
    held_out: Collection[str],
) -> list[str]:
    """Return the ids of pairs that another id has as well.

    Raises:
        UserError: two prefer one utterance to the other and the other to the one, or one alone is
            held out for tests.
    """
    first: dict[tuple[str, str, bytes, bytes], str] = {}
    twice = []
    for name, row in chosen.items():
        good, bad = row.tokens.tobytes(), rejected[name].tokens.tobytes()
        other = first.setdefault((row.text, row.emotion, good, bad), name)
        turned = first.get((row.text, row.emotion, bad, good))
        if turned is not None and good != bad:
            raise UserError(
                f"{folder}: the pairs {turned!r} and {name!r} contradict each other, as each has "
                "chosen what the other has rejected: remove the wrong one, or both"
            )
        if other == name:
            continue
        if (name in held_out) != (other in held_out):
            raise UserError(
                f"{folder}: the pairs {other!r} and {name!r} are the same, one held out for tests "
                "and one not: remove one"
            )
        twice.append(name)
    return twice


def require_pairs(folder: Path) -> None:
    """Check that a folder has both shards of pairs.

    Raises:
        UserError: it is not there, or lacks one.
    """
    for name in (CHOSEN, REJECTED):
        if not (folder / name).is_file():
            raise UserError(
                f"{folder} lacks {name}: pairs are two token shards, {CHOSEN} and {REJECTED}"
            )


def _by_id(file: Path) -> dict[str, Utterance]:
    """Read a shard whose ids are unique, by id."""
    rows: dict[str, Utterance] = {}
    texts: dict[bytes, tuple[str, str]] = {}
    found = read_shard(file)
    for line in odd_lengths(found, file):
        note(line)
    for row in found:
        if row.partner_emotion is not None:
            raise UserError(f"{file}: the utterance {row.id!r} is mixed with another: remove it")
        if row.id in rows:
            raise UserError(
                f"{file}: the id {row.id!r} stands twice, so it is not clear which utterances are "
                "a pair: give every pair an id of its own"
            )
        rows[row.id] = row
        other, text = texts.setdefault(row.tokens.tobytes(), (row.id, row.text))
        if text != row.text and row.tokens.size >= TOKEN_RATE:
            raise UserError(
                f"{file}: {other!r} and {row.id!r} have the same tokens and two texts: one of them "
                "is not what was said, remove their pairs"
            )
    return rows


def _pair(folder: Path, chosen: Utterance, rejected: Utterance, tokenizer: Tokenizer) -> Pair:
    """Make a pair of two rows."""
    name = chosen.id
    for what in ("text", "emotion", "speaker", "language"):
        good, bad = getattr(chosen, what), getattr(rejected, what)
        said = (good and bad) or what in ("text", "emotion")  # what a policy says has no speaker
        if said and good != bad:
            raise UserError(
                f"{folder}: the pair {name!r} has two {what}s: both of a pair answer one prompt, "
                "so correct a row or remove both"
            )
    if not chosen.text.strip():
        raise UserError(f"{folder}: the pair {name!r} has no text: fill it in or remove both rows")
    if np.array_equal(chosen.tokens, rejected.tokens):
        raise UserError(
            f"{folder}: the chosen and the rejected utterance of the pair {name!r} are the same, "
            "which teaches nothing: remove both rows"
        )
    try:
        prompt = make_prompt(tokenizer, chosen.text, chosen.emotion, chosen.speaker)
    except UserError as error:
        raise UserError(f"{folder}: the pair {name!r}: {error}") from None
    return Pair(prompt, torch.from_numpy(chosen.tokens), torch.from_numpy(rejected.tokens))
