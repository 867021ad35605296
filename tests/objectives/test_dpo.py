"""DPO: the mask and the loss against a loop over tokens; pairs in and out."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from rrpo import runs
from rrpo.data.shards import Utterance, read_shard, write_shard
from rrpo.errors import TrainingInterrupted, UserError
from rrpo.objectives import pairs
from rrpo.objectives.dpo import DPOConfig, DPOObjective, Pair, dpo_loss
from rrpo.objectives.pairs import (
    CHOSEN,
    REJECTED,
    PairsConfig,
    claim_pairs,
    draw_pairs,
    read_pairs,
)
from rrpo.policy import SpeechTokenLM
from rrpo.policy.layout import Prompt
from rrpo.policy.rollout import RolloutConfig, as_rollouts
from rrpo.policy_runs import DPORun
from rrpo.reward import Reward, RewardModel
from rrpo.reward.differentiable import score
from rrpo.schedule import TrainConfig
from tiny_policy import CONFIG, REWARD, logits_of, prompts


def speech(*tokens: int) -> Tensor:
    return torch.tensor(tokens)


def objective(**options) -> DPOObjective:
    torch.manual_seed(0)
    model, reference = SpeechTokenLM(CONFIG), SpeechTokenLM(CONFIG)
    for lm in (model, reference):
        for parameter in lm.parameters():
            parameter.data.normal_(0, 0.3)
    first, second, third = prompts(4, 2, 3)
    pairs = [
        Pair(first, speech(1, 2, 3), speech(4, 5)),
        Pair(second, speech(7), speech(8, 9, 10, 11)),
        Pair(third, speech(3, 3), speech(0, 26)),
    ]
    return DPOObjective(model, reference, pairs, DPOConfig(batch_size=3, **options))


def log_ratio(made: DPOObjective, prompt: Prompt, tokens: Tensor) -> Tensor:
    """Token by token, unpadded; the end is any of the three stop symbols."""
    total = torch.zeros(())
    for lm, sign in ((made.model, 1), (made.reference, -1)):
        assert lm is not None
        log_p = logits_of(lm, prompt, tokens).log_softmax(-1)
        for t, token in enumerate(tokens.tolist()):
            total = total + sign * log_p[t, token]
        total = total + sign * log_p[-1, 27:].logsumexp(-1)
    return total


def test_utterances_of_any_length_are_laid_out_alike() -> None:
    """Upstream draws a layout for each pass, so policy and reference may see different inputs."""
    made = objective(beta=0.3)
    prompt = prompts(12)[0]
    generator = torch.Generator().manual_seed(1)
    long = [torch.randint(27, (size,), generator=generator) for size in (70, 50)]
    made.pairs[:] = [Pair(prompt, *long)]
    loss, _ = made.loss(1, torch.Generator().manual_seed(0))
    chosen, rejected = (log_ratio(made, prompt, tokens) for tokens in long)
    expected = float(dpo_loss(chosen, rejected, 0.3).detach())
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("normalized", [False, True])
def test_the_loss_is_that_of_a_loop_over_tokens(normalized: bool) -> None:
    made = objective(length_normalized=normalized, beta=0.3)
    loss, metrics = made.loss(1, torch.Generator().manual_seed(0))
    expected, preferred = [], 0
    for pair in made.pairs:
        ratios = []
        for tokens in (pair.chosen, pair.rejected):
            ratio = log_ratio(made, pair.prompt, tokens)
            ratios.append(ratio / (tokens.numel() + 1) if normalized else ratio)
        margin = 0.3 * (ratios[0] - ratios[1])
        preferred += int(margin > 0)
        expected.append(-torch.log(1 / (1 + torch.exp(-margin))))
    torch.testing.assert_close(loss, torch.stack(expected).mean(), atol=1e-5, rtol=1e-4)
    assert metrics["preferred"] == pytest.approx(preferred / 3)
    gradient = torch.autograd.grad(loss, made.model.head.weight, retain_graph=True)[0]
    wanted = torch.autograd.grad(torch.stack(expected).mean(), made.model.head.weight)[0]
    torch.testing.assert_close(gradient, wanted, atol=1e-6, rtol=1e-3)


def test_what_is_not_of_the_utterance_is_not_counted() -> None:
    """The fault of an inverted mask: the loss must not see text, instruction or padding."""
    made = objective()
    alone = DPOObjective(made.model, made.reference, made.pairs[:1], DPOConfig(batch_size=1))
    padded, _ = made.loss(1, torch.Generator().manual_seed(0))
    single, _ = alone.loss(1, torch.Generator().manual_seed(0))
    assert float(padded.detach()) != float(single.detach())
    total = 0.0
    for pair in made.pairs:
        one = DPOObjective(made.model, made.reference, [pair], DPOConfig(batch_size=1))
        total += float(one.loss(1, torch.Generator())[0].detach())
    assert float(padded.detach()) == pytest.approx(total / 3, abs=1e-5)


def test_the_loss_at_the_start_is_log_2() -> None:
    torch.testing.assert_close(
        dpo_loss(torch.zeros(2), torch.zeros(2), 0.1), torch.full((2,), 0.6931472)
    )
    made = objective(cross_entropy=0.0)
    assert made.reference is not None
    made.reference.load_state_dict(made.model.state_dict())
    loss, _ = made.loss(1, torch.Generator())
    assert float(loss.detach()) == pytest.approx(0.6931472, abs=1e-5)


def test_training_prefers_what_was_chosen() -> None:
    made = objective()
    optimizer = torch.optim.Adam(made.model.parameters(), 0.01)
    generator = torch.Generator().manual_seed(0)
    for step in range(1, 31):
        loss, metrics = made.loss(step, generator)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    assert metrics["preferred"] == 1.0
    assert metrics["preference_loss"] < 0.4


class Letters:
    """A tokenizer of the toy policy."""

    def encode(self, text: str) -> list[int]:
        return [ord(letter) % 8 for letter in text]

    def instruct(self, emotion: str, speaker: str = "") -> list[int]:  # noqa: ARG002
        return [8, 9]


def test_pairs_drawn_from_a_policy_are_ordered_by_the_reward(tmp_path: Path) -> None:
    made = objective()
    paying = RewardModel(REWARD)
    for parameter in paying.parameters():
        parameter.data.mul_(3)
    reward = Reward([paying])
    config = PairsConfig(count=4, margin=0.01, rollout=RolloutConfig(min_ratio=1.0))
    asked = [Prompt("abcd", "happy", torch.tensor([1, 2, 3, 4]), torch.tensor([8, 9]), "maple")]
    draw_pairs(made.model, reward, asked, config, tmp_path, seed=1)
    (pair,) = read_pairs(tmp_path, Letters())
    assert pair.prompt.speaker == "maple" and pair.prompt.text == "abcd"
    better, worse = score(reward, [pair.chosen, pair.rejected], [pair.prompt] * 2)["emotion"]
    assert float(better) > float(worse) + 0.01
    with pytest.raises(UserError, match=r"lower pairs\.margin"):
        config = config.model_copy(update={"margin": 1e3})
        draw_pairs(made.model, reward, asked, config, tmp_path, seed=1)


def test_utterances_that_did_not_end_are_in_no_pair(tmp_path: Path) -> None:
    made = objective()
    reward = Reward([RewardModel(REWARD)])
    for ratio in (1.0, 2.0):  # at the least 4 tokens: of at most 4 none can end, of 8 some do
        rollout = RolloutConfig(min_ratio=1.0, max_ratio=ratio)
        config = PairsConfig(count=8, margin=0.0, rollout=rollout)
        asked = [Prompt("abcd", "happy", torch.tensor([1, 2, 3, 4]), torch.tensor([8, 9]))]
        if ratio == 1.0:
            with pytest.raises(UserError, match="two utterances that ended"):
                draw_pairs(made.model, reward, asked, config, tmp_path)
            continue
        draw_pairs(made.model, reward, asked, config, tmp_path)
        (pair,) = read_pairs(tmp_path, Letters())
        assert 4 <= pair.chosen.numel() < 8
        assert 4 <= pair.rejected.numel() < 8


def test_what_loops_is_never_the_better_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, paying = objective(), RewardModel(REWARD)
    for parameter in paying.parameters():
        parameter.data.mul_(3)
    reward = Reward([paying])
    (asked,) = prompts(4)
    loop, two = torch.full((12,), 3), [speech(1, 2, 4, 7), speech(5, 1, 8, 2, 6)]
    worth = score(reward, [loop, *two], [asked] * 3)["emotion"]
    every = [loop, *two] if worth.argmax() == 0 else [torch.full((12,), 20), *two]
    assert int(score(reward, every, [asked] * 3)["emotion"].argmax()) == 0
    said = as_rollouts(CONFIG, [asked] * 3, every, torch.ones(3, dtype=torch.bool), 1)
    assert said.sound().tolist() == [False, True, True]
    monkeypatch.setattr(pairs, "draw", lambda *_: said)
    draw_pairs(made.model, reward, [asked], PairsConfig(count=3, margin=0.0), tmp_path)
    assert read_shard(tmp_path / CHOSEN)[0].tokens.size < 12


def test_a_drawing_that_was_interrupted_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    made, quiet = objective(), Reward([RewardModel(REWARD)])
    config = PairsConfig(count=4, margin=0.0, rollout=RolloutConfig(min_ratio=1.0))
    asked = prompts(*(4 + number % 3 for number in range(20)))
    draw_pairs(made.model, quiet, asked, config, tmp_path / "whole", seed=1)

    class Pressed(Reward):
        left = 2

        def terms(self, *given, **more):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            return super().terms(*given, **more)

    cut = tmp_path / "cut"
    with pytest.raises(TrainingInterrupted, match=r"after 16 of 20 prompts .* with --resume"):
        draw_pairs(made.model, Pressed(quiet.models), asked, config, cut, seed=1)
    (kept,) = cut.iterdir()
    with kept.open("a") as stream:
        stream.write('{"done": 20, "pa')  # as a kill may leave it
    draw_pairs(made.model, quiet, asked, config, cut, seed=1)
    assert sorted(path.name for path in cut.iterdir()) == [CHOSEN, REJECTED]
    for name in (CHOSEN, REJECTED):
        assert (cut / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_was_drawn_with_other_settings_is_not_gone_on_with(tmp_path: Path) -> None:
    made, reward = objective(), Reward([RewardModel(REWARD)])
    config = PairsConfig(count=4, margin=1e3, rollout=RolloutConfig(min_ratio=1.0))
    for margin in (1e3, 0.0):
        changed = config.model_copy(update={"margin": margin})
        claim_pairs(tmp_path, {"margin": margin})  # no pairs are there yet
        if margin:
            with pytest.raises(UserError, match=r"lower pairs\.margin"):
                draw_pairs(made.model, reward, prompts(4, 5), changed, tmp_path, seed=1)
            continue
        draw_pairs(made.model, reward, prompts(4, 5), changed, tmp_path, seed=1)
    with pytest.raises(UserError, match="holds pairs with another margin"):
        claim_pairs(tmp_path, {"margin": 1.0})


Row = tuple[str, str]


def write(folder: Path, chosen: list[Row], rejected: list[Row], partition: str = "") -> Path:
    for name, rows, tokens in ((CHOSEN, chosen, (1, 2)), (REJECTED, rejected, (1, 3))):
        shard = [
            Utterance(key, text, "happy", speech(*tokens, at).numpy(), partition=partition)
            for at, (key, text) in enumerate(rows)
        ]
        write_shard(folder / name, shard)
    return folder


@pytest.mark.parametrize(
    ("chosen", "rejected", "message"),
    [
        ([("a", "x"), ("b", "y")], [("a", "x")], r"rejected\.parquet lacks 'b'.*remove it"),
        ([("a", "x")], [("a", "x"), ("b", "y")], r"chosen\.parquet lacks 'b'"),
        ([("a", "x")], [("a", "y")], "'a' has two texts.*remove both"),
        ([("a", " ")], [("a", " ")], "'a' has no text"),
        ([("a", "x")], [("a", "x"), ("a", "x")], r"rejected\.parquet: the id 'a' stands twice"),
        ([("a", "x"), ("a", "x")], [("a", "x")], r"chosen\.parquet: the id 'a' stands twice"),
    ],
)
def test_pairs_that_do_not_fit_are_named(
    chosen: list[Row], rejected: list[Row], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        read_pairs(write(tmp_path, chosen, rejected), Letters())


def test_a_pair_of_the_same_is_named(tmp_path: Path) -> None:
    write(tmp_path, [("a", "x")], [("a", "x")])
    (tmp_path / REJECTED).write_bytes((tmp_path / CHOSEN).read_bytes())
    with pytest.raises(UserError, match=r"pair 'a' are the same.*remove both rows"):
        read_pairs(tmp_path, Letters())
    (tmp_path / REJECTED).unlink()
    with pytest.raises(UserError, match=r"lacks rejected\.parquet: pairs are two"):
        read_pairs(tmp_path, Letters())


def test_pairs_that_are_held_out_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, [("a", "x"), ("b", "y")], [("b", "y"), ("a", "x")], "test")
    with pytest.raises(UserError, match="every pair is in the partition 'test'"):
        read_pairs(tmp_path, Letters())
    rows = [
        Utterance(key, key, "happy", speech(1, 2).numpy(), partition=part)
        for key, part in (("a", "train"), ("b", "test"), ("c", "validation"))
    ]
    write_shard(tmp_path / CHOSEN, rows)
    worse = [Utterance(key, key, "happy", speech(4).numpy()) for key in "abc"]
    write_shard(tmp_path / REJECTED, worse)
    assert [pair.prompt.text for pair in read_pairs(tmp_path, Letters())] == ["a", "c"]
    assert "1 of 3 pairs are held out for tests" in capsys.readouterr().out


def test_the_last_batch_can_be_looked_at() -> None:
    made = objective()
    made.loss(1, torch.Generator().manual_seed(0))
    rows = sorted(made.batch(), key=lambda row: row["chosen"])
    assert [(row["chosen"], row["rejected"]) for row in rows] == [
        ([1, 2, 3], [4, 5]),
        ([3, 3], [0, 26]),
        ([7], [8, 9, 10, 11]),
    ]
    assert {"text", "emotion", "speaker"} < rows[0].keys()


def test_no_pairs_and_empty_utterances_are_refused() -> None:
    made = objective()
    with pytest.raises(UserError, match="no pair"):
        DPOObjective(made.model, made.reference, [], DPOConfig())
    with pytest.raises(UserError, match="empty"):
        empty = Pair(made.pairs[0].prompt, speech(1), torch.zeros(0, dtype=torch.long))
        DPOObjective(made.model, made.reference, [empty], DPOConfig())
    with pytest.raises(UserError, match="needs a reference"):
        DPOObjective(made.model, None, made.pairs, DPOConfig())


def test_pairs_are_drawn_on_the_device_of_the_training(tmp_path: Path) -> None:
    class Watched(SpeechTokenLM):
        places: tuple[object, ...] = ()

        def to(self, *given: object, **more: object) -> "Watched":
            self.places += given
            return super().to(*given, **more)  # type: ignore[arg-type]

    model = Watched(CONFIG)

    def pairs() -> list[Pair]:
        assert model.places == (torch.device("cpu"),)
        raise ZeroDivisionError

    run = DPORun(train=TrainConfig(steps=1, learning_rate=0.1, report_to="none"))
    with pytest.raises(ZeroDivisionError):
        runs.train_dpo(model, SpeechTokenLM(CONFIG), pairs, run, tmp_path / "run")
