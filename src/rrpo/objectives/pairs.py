"""Preference pairs for DPO: drawn from a policy and told apart by a reward, or given by the user.

A folder of pairs holds two token shards, `chosen.parquet` and `rejected.parquet`, whose rows belong
together by their ids.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import Field

from rrpo.config import Strict
from rrpo.data.shards import Utterance, read_shard, write_shard
from rrpo.errors import UserError
from rrpo.objectives.dpo import Pair
from rrpo.objectives.on_policy import RolloutConfig, draw
from rrpo.policy import SpeechTokenLM
from rrpo.policy.examples import Prompt, Tokenizer, choose, make_prompt
from rrpo.progress import Progress
from rrpo.reward import Reward
from rrpo.reward.reward import Form

CHOSEN, REJECTED = "chosen.parquet", "rejected.parquet"
PROMPTS_AT_A_TIME = 8


class PairsConfig(Strict):
    """The best and the worst paid of `count` utterances of each of `prompts` prompts.

    An utterance that did not end before its length limit is left out: its end was no choice.
    Two that are closer than `margin` (nats) are no pair. `reward_form` is as in `DiffROConfig`.
    """

    count: int = Field(8, ge=2)
    prompts: int = Field(200, ge=1)
    margin: float = Field(0.5, ge=0)
    reward_form: Form = "robust"
    rollout: RolloutConfig = RolloutConfig()


def draw_pairs(
    model: SpeechTokenLM,
    reward: Reward,
    prompts: Sequence[Prompt],
    config: PairsConfig,
    folder: Path,
    seed: int = 0,
) -> None:
    """Draw pairs from a policy and write them into a folder.

    Raises:
        UserError: no two utterances of any prompt differ enough in what they are paid.
    """
    generator = torch.Generator().manual_seed(seed)
    count = min(config.prompts, len(prompts))
    asked = [prompts[index] for index in choose(count, len(prompts), generator)]
    chosen: list[Utterance] = []
    rejected: list[Utterance] = []
    with Progress("draw pairs", count) as progress:
        for start in range(0, count, PROMPTS_AT_A_TIME):
            batch = asked[start : start + PROMPTS_AT_A_TIME]
            rollouts = draw(model, batch, config.rollout, generator, config.count)
            paid = reward.total(reward.score(rollouts.speech, rollouts.prompts))
            paid = paid.view(-1, config.count)
            ended = rollouts.stopped.to(paid.device).view(-1, config.count)
            for row, prompt in enumerate(batch):
                # With fewer than two that ended both are the same one.
                best = int(paid[row].masked_fill(~ended[row], -math.inf).argmax())
                worst = int(paid[row].masked_fill(~ended[row], math.inf).argmin())
                if best == worst or float(paid[row, best] - paid[row, worst]) < config.margin:
                    continue
                for kept, index in ((chosen, best), (rejected, worst)):
                    tokens = rollouts.speech[row * config.count + index].numpy()
                    name = f"{start + row:05d}"
                    kept.append(
                        Utterance(name, prompt.text, prompt.emotion, tokens, prompt.speaker)
                    )
            progress.update(start + len(batch))
    if not chosen:
        raise UserError(
            f"of {count} prompts none gave two utterances that ended and are {config.margin:g} "
            "nats apart: lower pairs.margin, raise pairs.count or pairs.rollout.max_ratio"
        )
    write_shard(folder / CHOSEN, chosen, model.config.codec)
    write_shard(folder / REJECTED, rejected, model.config.codec)


def read_pairs(folder: Path, tokenizer: Tokenizer) -> list[Pair]:
    """Read a folder of pairs.

    Raises:
        UserError: a shard is missing or damaged, a text is empty, or the two do not fit.
    """
    chosen, rejected = (
        {row.id: row for row in read_shard(folder / name)} for name in (CHOSEN, REJECTED)
    )
    if chosen.keys() != rejected.keys():
        lone = sorted(chosen.keys() ^ rejected.keys())[0]
        raise UserError(f"{folder}: {lone!r} is in one of {CHOSEN} and {REJECTED} only")
    pairs = []
    for name, row in chosen.items():
        other = rejected[name]
        if (row.text, row.emotion) != (other.text, other.emotion):
            raise UserError(f"{folder}: the pair {name!r} has two texts or two emotions")
        if not row.text.strip():
            raise UserError(f"{folder}: the pair {name!r} has no text")
        prompt = make_prompt(tokenizer, row.text, row.emotion, row.speaker)
        pairs.append(Pair(prompt, torch.from_numpy(row.tokens), torch.from_numpy(other.tokens)))
    return pairs
