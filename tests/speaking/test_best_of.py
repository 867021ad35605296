"""The best of several utterances: which one is chosen, what is printed, what is refused."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import rrpo as api
from command_line import mistake, rrpo
from rrpo import reward
from rrpo.errors import NotFinite, UserError
from rrpo.loading import load_policy, load_reward_model
from rrpo.mini.world import World
from rrpo.policy.layout import Prompt
from rrpo.reward import Reward, RewardConfig, RewardModel
from rrpo.reward.differentiable import score, weighted_sum
from rrpo.speaking.best_of import MOST, Choice, choose, choosing_reward
from rrpo.speaking.by_name import Speech, load_speaker, speech
from rrpo.speaking.mini import MiniSpeaker
from rrpo.speaking.speaker import Said, asked

TEXT = "It is late."
BOTH = ["mini", "mini-tasks"]
SMALL = {"width": 16, "layers": 1, "heads": 2, "feedforward": 16}
PROMPT = Prompt(TEXT, "happy", torch.tensor([1, 2]), torch.tensor([0]))


def small(**changes: object) -> RewardModel:
    torch.manual_seed(0)
    return RewardModel(RewardConfig.model_validate({**SMALL, **changes})).eval()


def drawn(count: int = 6) -> list[Said]:
    """Return utterances without a loop that ended by themselves."""
    rng = np.random.default_rng(0)
    return [Said(torch.from_numpy(rng.permutation(6561)[:20]), True) for _ in range(count)]


def rewards_of(payer: Reward, said: Sequence[Said]) -> list[float]:
    return [
        float(weighted_sum(payer, score(payer, [one.tokens], [PROMPT]))[0])
        for one in said
        if one.tokens.numel()
    ]


def say(
    policy: str | Path = "mini",
    emotion: str = "happy",
    *,
    seed: int = 0,
    best_of: int = 1,
    rewards: Sequence[str | Path] = (),
) -> Speech:
    given = {"speaker": "", "voice": None, "folder": None, "seed": seed}
    return speech(policy, TEXT, emotion, best_of=best_of, rewards=rewards, **given)


def test_the_utterance_of_the_highest_reward_is_chosen() -> None:
    payer, said = Reward([small()]), drawn()
    rewards = rewards_of(payer, said)
    choice = choose(payer, PROMPT, said)
    assert choice is not None
    assert choice.index == int(np.argmax(rewards)) and choice.count == 6
    assert choice.reward == pytest.approx(max(rewards), abs=1e-5)
    assert choice.mean == pytest.approx(np.mean(rewards), abs=1e-5)
    assert choice.reward > choice.mean and choice.passed_over == 0


@pytest.mark.parametrize("broken", ["endless", "loop", "empty"])
def test_what_is_broken_is_chosen_only_if_all_are(broken: str) -> None:
    payer, said = Reward([small()]), drawn()
    first, second = np.argsort(rewards_of(payer, said))[::-1][:2]
    worse = {
        "endless": said[first]._replace(ended=False),
        "loop": Said(torch.full((20,), 7), True),
        "empty": Said(torch.empty(0, dtype=torch.int64), True),
    }[broken]
    mixed = [worse if place == first else one for place, one in enumerate(said)]
    choice = choose(payer, PROMPT, mixed)
    assert choice is not None and (choice.index, choice.passed_over) == (second, 1)
    everyone = choose(payer, PROMPT, [worse] * 3)
    if broken == "empty":
        assert everyone is None
    else:
        assert everyone is not None and everyone.passed_over == 0
        assert everyone.reward == pytest.approx(everyone.mean)


def test_the_words_count_where_a_model_can_read_them() -> None:
    models = [load_reward_model(name) for name in BOTH]
    whole = choosing_reward(models)
    assert (whole.weights, whole.form) == ({"emotion": 2.0, "content": 1.0}, "robust")
    alone = choosing_reward(models[:1])
    assert alone.weights == {"emotion": 2.0}
    with pytest.raises(UserError, match="no reward model has a head for 'emotion'"):
        choosing_reward(models[1:])


@pytest.mark.slow
def test_the_best_of_several_is_one_of_them() -> None:
    found = say(best_of=3, rewards=BOTH, seed=4)
    world = World()
    speaker = MiniSpeaker(load_policy("mini"), world, world.codec())
    said = speaker.say([asked(TEXT, "happy")] * 3, 4)
    payer = choosing_reward([load_reward_model(name) for name in BOTH])
    rewards = weighted_sum(
        payer,
        score(payer, [one.tokens for one in said], speaker.prompts([asked(TEXT, "happy")]) * 3),
    )
    best = int(rewards.argmax())
    assert found.choice is not None and found.choice.index == best
    assert torch.equal(found.tokens, said[best].tokens)
    again = say(best_of=3, rewards=BOTH, seed=4)
    assert again.choice == found.choice and torch.equal(again.tokens, found.tokens)


def test_one_is_as_without(tiny: Path) -> None:
    found = say(tiny / "policy", best_of=1)
    alone = load_speaker(tiny / "policy").say(TEXT, "happy", 0)
    assert torch.equal(found.tokens, alone.tokens) and found.choice is alone.choice is None


@pytest.mark.slow
def test_the_command_and_the_function_say_the_same(tmp_path: Path) -> None:
    wav = tmp_path / "x.wav"
    words = ("--text", TEXT, "--emotion", "happy", "--best-of", 2, "--reward", "mini")
    lines = rrpo("speak", "--policy", "mini", *words, "--out", wav).splitlines()
    found = say(best_of=2, rewards=["mini"])
    assert found.choice is not None and lines[1] == found.choice.line()
    assert lines[1].startswith("chosen: ") and " of 2, reward -" in lines[1]
    audio, rate = api.speak("mini", TEXT, "happy", best_of=2, reward="mini")
    assert rate == found.rate and np.array_equal(audio, found.audio)


def test_the_line_counts_from_one() -> None:
    said = Choice(0, 4, -1.0, -2.0, 2).line()
    assert said == (
        "chosen: 1 of 4, reward -1.00, mean of all -2.00; 2 did not end by themselves or loop"
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--best-of", 8), "--best-of 8 needs a --reward"),
        (("--reward", "mini"), "give --best-of, such as 8, too"),
        (("--best-of", 1, "--reward", "mini"), "give --best-of, such as 8, too"),
        (("--best-of", 0), "--best-of 0 is out of range"),
        (("--best-of", -3, "--reward", "mini"), "--best-of -3 is out of range"),
        (("--best-of", MOST + 1, "--reward", "mini"), f"draw 1 to {MOST}"),
        (("--best-of", 2, "--reward", "mini-tasks"), "no reward model has a head for 'emotion'"),
        (("--best-of", 2, "--reward", "nowhere"), "nowhere"),
    ],
)
def test_options_that_do_not_fit_are_one_line(
    given: tuple[object, ...], said: str, tiny: Path, tmp_path: Path
) -> None:
    words = ("--text", TEXT, "--out", tmp_path / "x.wav", *given)
    assert said in mistake("speak", "--policy", tiny / "policy", *words)
    assert not (tmp_path / "x.wav").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"codec": "speech_tokenizer_v2"}, "their tokens mean other sounds"),
        ({"codec": ""}, "does not say which codec .* --codec-of"),
        ({"tasks": {"emotion": ["bored", "proud"]}}, "--reward cannot score this: .*'happy'"),
        ({"symbols": [1071, 1078], "text": "characters"}, "cannot score this: .* knows no symbol"),
        ({"phones": 1}, "cannot score this: .* belongs to another policy's text"),
    ],
)
def test_rewards_that_do_not_fit_are_told_before_anything_is_drawn(
    changes: dict[str, object],
    said: str,
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reward.save(small(**{"codec": World().codec_identity, **changes}), tmp_path / "rm")
    monkeypatch.setattr(MiniSpeaker, "say", None)  # whoever draws fails
    with pytest.raises(UserError, match=said):
        say(tiny / "policy", best_of=2, rewards=[tmp_path / "rm"])


def test_codec_of_speaks_for_a_reward_model_that_does_not_say_its_own(
    tiny: Path, tmp_path: Path
) -> None:
    reward.save(small(), tmp_path / "rm")
    words = ("--text", TEXT, "--out", tmp_path / "x.wav", "--best-of", 2)
    words += ("--reward", tmp_path / "rm", "--codec-of", "mini")
    assert "chosen: " in rrpo("speak", "--policy", tiny / "policy", *words)


def test_a_reward_that_is_no_number_is_told(tiny: Path, tmp_path: Path) -> None:
    model = small(codec=World().codec_identity)
    with torch.no_grad():
        model.table.fill_(math.nan)
    reward.save(model, tmp_path / "rm")
    with pytest.raises(NotFinite, match="the reward 'emotion' is not finite"):
        say(tiny / "policy", best_of=2, rewards=[tmp_path / "rm"])
