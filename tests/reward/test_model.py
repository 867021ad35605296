"""Tests of the reward model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

import rrpo.reward
from rrpo.checkpoint import save_model
from rrpo.errors import UserError
from rrpo.reward.config import RewardConfig
from rrpo.reward.model import RewardModel, initial_table
from rrpo.tokens import digits, length_mask, pad

SMALL = RewardConfig(
    width=16,
    layers=2,
    heads=2,
    feedforward=24,
    codes=81,
    tasks={"emotion": ["calm", "angry", "sad"], "quality": ["bad", "good"]},
)


def small_model(seed: int = 0) -> RewardModel:
    torch.manual_seed(seed)
    return RewardModel(SMALL).eval()


def batch(lengths: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(81, (length,), generator=generator) for length in lengths]
    return pad(rows), length_mask(torch.tensor(lengths))


def reference_posterior(model: RewardModel, tokens: Tensor, task: str) -> np.ndarray:
    """The same network for one utterance, in numpy, with rotary positions as complex numbers."""
    weights = {name: value.double().numpy() for name, value in model.state_dict().items()}

    def linear(values: np.ndarray, name: str) -> np.ndarray:
        return values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(values: np.ndarray, name: str) -> np.ndarray:
        centred = values - values.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def softmax(values: np.ndarray) -> np.ndarray:
        powers = np.exp(values - values.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)

    def gelu(values: np.ndarray) -> np.ndarray:
        return torch.nn.functional.gelu(torch.from_numpy(values)).numpy()

    config = model.config
    hidden = weights["embedding.weight"][tokens.numpy()]
    size, width = hidden.shape
    pairs = width // config.heads // 2
    turns = np.exp(1j * np.arange(size)[:, None] * 10_000.0 ** (-np.arange(pairs) / pairs))
    for layer in range(config.layers):
        name = f"encoder.{layer}"
        joint = linear(norm(hidden, f"{name}.attention_norm"), f"{name}.query_key_value")
        query, key, value = joint.reshape(size, 3, config.heads, 2 * pairs).transpose(1, 2, 0, 3)
        query, key = (turns * (x[..., :pairs] + 1j * x[..., pairs:]) for x in (query, key))
        scores = (query @ key.conj().transpose(0, 2, 1)).real / np.sqrt(2 * pairs)
        attended = (softmax(scores) @ value).transpose(1, 0, 2).reshape(size, width)
        hidden = hidden + linear(attended, f"{name}.output")
        inner = gelu(linear(norm(hidden, f"{name}.feedforward_norm"), f"{name}.expand"))
        hidden = hidden + linear(inner, f"{name}.contract")
    hidden = norm(hidden, "norm")
    shares = softmax(linear(hidden, f"pooling.{task}.score")[:, 0])
    return np.log(softmax(linear(shares @ hidden, f"head.{task}")))


@pytest.mark.parametrize("task", ["emotion", "quality"])
def test_network_is_the_one_described(task: str) -> None:
    model, (tokens, mask) = small_model(), batch([7, 12, 1])
    found = model.log_posterior(model.embed(tokens), mask, task)
    for row, length in enumerate([7, 12, 1]):
        expected = reference_posterior(model, tokens[row, :length], task)
        np.testing.assert_allclose(found[row].detach().numpy(), expected, atol=1e-5)


def test_forward_gives_the_logits_of_the_log_posterior() -> None:
    model, (tokens, mask) = small_model(), batch([5, 9])
    posterior = model.log_posterior(model.embed(tokens), mask)
    assert posterior.shape == (2, 3)
    torch.testing.assert_close(model(tokens, mask).log_softmax(-1), posterior)
    torch.testing.assert_close(posterior.exp().sum(-1), torch.ones(2))
    assert torch.equal(model.embed(tokens), model.table[tokens])


@settings(deadline=None, max_examples=20)
@given(lengths=st.lists(st.integers(1, 15), min_size=1, max_size=20), extra=st.integers(0, 6))
def test_padding_is_never_seen(lengths: list[int], extra: int) -> None:
    model, (tokens, mask) = small_model(), batch(lengths)
    alone = torch.cat(
        [
            model.log_posterior(
                model.embed(tokens[row : row + 1, :length]), mask[:1, :0].new_ones(1, length)
            )
            for row, length in enumerate(lengths)
        ]
    )
    wide = torch.nn.functional.pad(mask, (0, extra))
    poisoned = torch.full((*wide.shape, 16), torch.nan)
    poisoned[wide] = model.embed(tokens)[mask]
    poisoned = poisoned.detach().requires_grad_()
    together = model.log_posterior(poisoned, wide)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    (gradient,) = torch.autograd.grad(together[:, 0].sum(), poisoned)
    assert torch.equal(gradient[~wide], torch.zeros_like(gradient[~wide]))
    assert bool((gradient[wide].abs().sum(-1) > 0).all())


def test_positions_are_relative_and_used() -> None:
    model, (tokens, mask) = small_model(), batch([8])
    plain = model.log_posterior(model.embed(tokens), mask)
    shifted = torch.nn.functional.pad(tokens, (5, 0)), torch.nn.functional.pad(mask, (5, 0))
    torch.testing.assert_close(
        model.log_posterior(model.embed(shifted[0]), shifted[1]), plain, atol=1e-5, rtol=1e-5
    )
    backwards = model.log_posterior(model.embed(tokens.flip(1)), mask)
    assert not torch.allclose(backwards, plain, atol=1e-3)


def test_gradient_of_log_posterior_is_that_of_finite_differences() -> None:
    model, (tokens, mask) = small_model().double(), batch([3, 5])
    embeddings = model.embed(tokens).detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda values: model.log_posterior(values, mask), embeddings)


def test_parts_compose() -> None:
    model, (tokens, mask) = small_model(), batch([4, 6])
    hidden = model.encode(model.embed(tokens), mask)
    pooled = model.pool(hidden, mask, "quality")
    assert hidden.shape == (2, 6, 16)
    assert pooled.shape == (2, 16)
    assert torch.equal(model.classify(pooled, "quality"), model(tokens, mask, "quality"))


def test_dropout_acts_only_in_training() -> None:
    model, (tokens, mask) = small_model(), batch([6])
    assert torch.equal(model(tokens, mask), model(tokens, mask))
    model.train()
    assert not torch.equal(model(tokens, mask), model(tokens, mask))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_agree(dtype: torch.dtype) -> None:
    model, (tokens, mask) = small_model(), batch([6, 9])
    expected = model(tokens, mask)
    found = model.to(dtype)(tokens, mask)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0.05)


def test_autocast_agrees() -> None:
    model, (tokens, mask) = small_model(), batch([6, 9])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(tokens, mask)
    torch.testing.assert_close(found.float(), model(tokens, mask), atol=0.05, rtol=0.05)


def test_codes_that_share_digits_start_close() -> None:
    torch.manual_seed(0)
    table = initial_table(6561, 64)
    assert float(table.var()) == pytest.approx(1.0, abs=0.1)
    chosen = torch.randint(6561, (4000, 2))
    differing = (digits(chosen[:, 0]) != digits(chosen[:, 1])).sum(-1)
    distance = (table[chosen[:, 0]] - table[chosen[:, 1]]).norm(dim=-1)
    means = [float(distance[differing == count].mean()) for count in range(3, 9)]
    assert means == sorted(means)
    neighbours = (table[0::3] - table[1::3]).norm(dim=-1).mean()  # the lowest digit alone differs
    assert float(neighbours) < 0.6 * means[-1]
    assert float((table[0] - table[1:]).norm(dim=-1).min()) > 0.1


def test_row_without_a_valid_token_is_refused() -> None:
    model, (tokens, mask) = small_model(), batch([3, 5])
    mask[0] = False
    with pytest.raises(ValueError, match="no valid token"):
        model.log_posterior(model.embed(tokens), mask)
    with pytest.raises(ValueError, match="no valid token"):
        model(tokens[:0], mask[:0])


def test_wrong_mask_is_refused() -> None:
    model, (tokens, mask) = small_model(), batch([3, 5])
    with pytest.raises(ValueError, match="expected bool"):
        model(tokens, mask.long())
    with pytest.raises(ValueError, match="expected bool"):
        model(tokens, mask[:, :4])


def test_unknown_task_is_the_users_mistake() -> None:
    model, (tokens, mask) = small_model(), batch([3])
    with pytest.raises(UserError, match="no task 'age': choose one of emotion, quality"):
        model(tokens, mask, "age")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wdith": 64}, "Extra inputs"),
        ({"width": 12, "heads": 4}, "even multiple"),
        ({"tasks": {}}, "empty"),
        ({"tasks": {"emotion": ["happy"]}}, "two or more"),
        ({"tasks": {"emotion": ["happy", "happy"]}}, "each named once"),
        ({"tasks": {"a.b": ["happy", "sad"]}}, "task name"),
        ({"codes": 6564}, "6561"),
        ({"dropout": 1.0}, "less than 1"),
    ],
)
def test_configuration_is_strict(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RewardConfig.model_validate(change)


def test_save_and_load_keep_the_model(tmp_path: Path) -> None:
    model, (tokens, mask) = small_model(), batch([5, 9])
    rrpo.reward.save(model, tmp_path / "full")
    rrpo.reward.save(model, tmp_path / "half", dtype=torch.float16)
    loaded = rrpo.reward.load(str(tmp_path / "full"))
    assert loaded.config == SMALL
    assert not loaded.training
    assert torch.equal(loaded(tokens, mask), model(tokens, mask))
    half = rrpo.reward.load(tmp_path / "half")
    assert half.table.dtype == torch.float32
    torch.testing.assert_close(half(tokens, mask), model(tokens, mask), atol=0.02, rtol=0.02)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.7 * sizes[1]


def test_what_cannot_be_loaded_is_the_users_mistake(tmp_path: Path) -> None:
    model = small_model()
    with pytest.raises(UserError, match="no reward"):
        rrpo.reward.load(tmp_path / "nothing")
    save_model(tmp_path / "policy", model.state_dict(), {"kind": "policy"})
    with pytest.raises(UserError, match="holds a policy, not a reward"):
        rrpo.reward.load(tmp_path / "policy")
    rrpo.reward.save(model, tmp_path / "shape")
    description = json.loads((tmp_path / "shape" / "model.json").read_text())
    description["config"]["width"] = "wide"
    (tmp_path / "shape" / "model.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match="width is 'wide'"):
        rrpo.reward.load(tmp_path / "shape")
    description["config"]["width"] = 32
    (tmp_path / "shape" / "model.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match="has shape"):
        rrpo.reward.load(tmp_path / "shape")
