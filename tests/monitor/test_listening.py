"""What is heard at a look of the mini world, against the judges themselves."""

from pathlib import Path

import pytest
import torch

from rrpo import reward
from rrpo.emotions import EMOTIONS
from rrpo.errors import UserError
from rrpo.evaluate import recodec
from rrpo.mini.world import World
from rrpo.monitor.listening import listen
from rrpo.monitor.setup import asked, ears
from rrpo.objectives.on_policy import OnPolicy
from rrpo.policy.layout import make_prompts
from rrpo.policy.rollout import RolloutConfig, draw
from rrpo.policy_runs import DiffRORun
from rrpo.reward import Reward
from rrpo.reward.detector import new_detector

CONFIG = {"every": 1, "second": ["mini", "mini-tasks"]}


@pytest.mark.slow
def test_every_judge_is_asked() -> None:
    world = World()
    model, climbed = world.policy(), Reward([world.reward_model()])
    prompts = asked(make_prompts(world.tokenizer, world.shard("finetune")), 1)
    assert {prompt.emotion for prompt in prompts} == set(EMOTIONS)
    on_policy = OnPolicy(model, model, climbed, prompts, RolloutConfig())
    run = DiffRORun.model_validate({"monitor": CONFIG})
    said = draw(model, prompts[:2], RolloutConfig(max_ratio=1.0), torch.Generator().manual_seed(0))
    listening = ears(on_policy, run)
    rows = listen(listening, on_policy, said)
    tokens = [one.cpu() for one in said.tokens]
    codec = world.codec()
    sounds = [codec.decode(one) for one in tokens]
    emotions = [prompt.emotion for prompt in prompts[:2]]
    again = [codec.encode(sound) for sound in sounds]
    gaps = recodec.gaps(world.reward_model(), emotions, tokens, again)
    assert [row["recodec"] for row in rows] == pytest.approx(gaps.tolist(), abs=1e-5)
    heard = world.judge().probabilities_batch(sounds)
    columns = [EMOTIONS.index(one) for one in emotions]
    assert [row["judge_probability"] for row in rows] == pytest.approx(
        heard[range(2), columns].tolist()
    )
    # The second model is the one trained on, so they agree.
    assert [row["disagreement"] for row in rows] == pytest.approx([0.0, 0.0], abs=1e-6)
    assert all(0 < row["second_probability"] < 1 for row in rows)
    assert all(row["content_loss"] > 0 for row in rows)
    assert all(row["never_ended"] in (0.0, 1.0) for row in rows)
    assert [row["tokens"] for row in rows] == [one.numel() for one in tokens]


def test_texts_are_asked_with_every_emotion() -> None:
    world = World()
    rows = world.shard("finetune")
    one = make_prompts(world.tokenizer, rows)
    # Of each text one emotion is left, as in a corpus that is not parallel.
    alone = [prompt for number, prompt in enumerate(one) if number % 7 == 0][:12]
    found = asked(alone, 2)
    emotions = list(dict.fromkeys(prompt.emotion for prompt in alone))
    assert len(emotions) > 1
    assert [prompt.emotion for prompt in found] == emotions * 2
    for prompt in found:
        same = make_prompts(world.tokenizer, [
            next(row for row in rows if (row.text, row.emotion) == (prompt.text, prompt.emotion))
        ])[0]  # fmt: skip
        assert torch.equal(prompt.text_ids, same.text_ids)
        assert torch.equal(prompt.instruct_ids, same.instruct_ids)


def test_a_second_model_that_nothing_is_asked_of_is_refused(tmp_path: Path) -> None:
    world = World()
    reward.save(new_detector(world.reward_model(), 0), tmp_path / "detector")
    model, prompts = world.policy(), make_prompts(world.tokenizer, world.shard("finetune")[:2])
    on_policy = OnPolicy(model, model, Reward([world.reward_model()]), prompts, RolloutConfig())
    told = {"every": 1, "second": [str(tmp_path / "detector")]}
    with pytest.raises(UserError, match="detector has no head for emotion or content"):
        ears(on_policy, DiffRORun.model_validate({"monitor": told}))


def test_a_second_model_that_is_trained_on_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    model, prompts = world.policy(), make_prompts(world.tokenizer, world.shard("finetune")[:2])
    on_policy = OnPolicy(model, model, Reward([world.reward_model()]), prompts, RolloutConfig())
    for second, told in (("mini", True), ("mini-tasks", False)):
        ears(on_policy, DiffRORun.model_validate({"monitor": {"every": 1, "second": [second]}}))
        said = "".join(capsys.readouterr())
        assert ("the policy is trained on mini, too" in said) == told
