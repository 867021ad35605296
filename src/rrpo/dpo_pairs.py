"""The pairs of a DPO run: drawn once, or given."""

from collections.abc import Sequence
from pathlib import Path

from rrpo.codec_identity import require_one_codec
from rrpo.data.shards import shard_codec
from rrpo.loading import codec_identity
from rrpo.objectives.drawing import forget
from rrpo.objectives.pairs import CHOSEN, REJECTED, claim_pairs, draw_pairs, require_pairs
from rrpo.policy import SpeechTokenLM
from rrpo.policy.layout import Prompt
from rrpo.policy_runs import DPORun
from rrpo.processes import ending_together, is_main, of_main
from rrpo.reward import DifferentiableReward, RewardModel


def draw_once(
    run: DPORun,
    model: SpeechTokenLM,
    reward: Sequence[RewardModel] | DifferentiableReward,
    prompts: Sequence[Prompt],
    place: Path,
) -> None:
    """Draw the pairs of a run, unless they are there."""
    drawing = {"seed": run.train.seed, **run.pairs.model_dump(mode="json")} | run.model_dump(
        mode="json", include={"rewards", "bound", "caution", "content_gate", "language"}
    )
    with ending_together():
        if is_main():
            claim_pairs(place, drawing)
            if not isinstance(reward, Sequence):  # which may be another than before
                forget(place)
    if not of_main((place / REJECTED).is_file()):
        scored_by = run.reward(reward, prompts, run.pairs.reward_form)
        scored_by.to(model.head.weight.device)
        draw_pairs(model, scored_by, prompts, run.pairs, place, run.train.seed)


def require_codec_of_pairs(pairs: Path, model: SpeechTokenLM, codec_of: str | None) -> None:
    """Refuse pairs of another codec than a policy's."""
    require_pairs(pairs)
    known = {str(one): shard_codec(one) for one in (pairs / CHOSEN, pairs / REJECTED)}
    require_one_codec({"the policy": model.config.codec} | known, codec_identity(codec_of))
