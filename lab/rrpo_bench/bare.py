"""What a step needs at the least, as plain torch calls on weights: the floor for the benchmarks.

No batching logic, no masks but the causal one, no sampling options, no checks; every sequence has
the same length. The weights are those of a policy and of a reward model.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rrpo.policy import SpeechTokenLM
from rrpo.policy.lm import Layer, rotate
from rrpo.reward import RewardModel


def rotation(size: int, width: int, base: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return cosines and sines (S, d) of rotary positions."""
    frequencies = base ** -(torch.arange(0, width, 2, device=device) / width)
    angles = torch.arange(size, device=device)[:, None] * frequencies
    angles = torch.cat([angles, angles], dim=1)
    return angles.cos(), angles.sin()


def attend(
    layer: Layer,
    x: Tensor,
    turn: tuple[Tensor, Tensor],
    cache: tuple[Tensor, Tensor] | None = None,
    start: int = 0,
) -> Tensor:
    """Run one decoder layer over (B, S, D); with a cache (B, H, capacity, d) each it continues."""
    attention, mlp = layer.self_attn, layer.mlp
    batch, size, width = x.shape
    y = F.rms_norm(x, (width,), layer.input_layernorm.weight, layer.input_layernorm.epsilon)

    def heads(projection: torch.nn.Linear, count: int) -> Tensor:
        z: Tensor = projection(y)
        return z.view(batch, size, count, -1).transpose(1, 2)

    q = rotate(heads(attention.q_proj, attention.heads), *turn)
    k = rotate(heads(attention.k_proj, attention.groups), *turn)
    v = heads(attention.v_proj, attention.groups)
    if cache is not None:
        cache[0][:, :, start : start + size] = k
        cache[1][:, :, start : start + size] = v
        k, v = cache[0][:, :, : start + size], cache[1][:, :, : start + size]
    out = F.scaled_dot_product_attention(q, k, v, is_causal=size > 1, enable_gqa=True)
    x = x + attention.o_proj(out.transpose(1, 2).reshape(batch, size, width))
    norm = layer.post_attention_layernorm
    y = F.rms_norm(x, (width,), norm.weight, norm.epsilon)
    z: Tensor = mlp.down_proj(F.silu(mlp.gate_proj(y)) * mlp.up_proj(y))
    return x + z


def policy_logits(model: SpeechTokenLM, inputs: Tensor, last: int) -> Tensor:
    """Return the logits (B, last, V) of the last positions of embedded inputs (B, S, D)."""
    config = model.config
    turn = rotation(
        inputs.shape[1], config.hidden // config.heads, config.rope_theta, inputs.device
    )
    x = inputs
    for layer in model.layers:
        x = attend(layer, x, turn)  # type: ignore[arg-type]
    x = F.rms_norm(x[:, -last:], (config.hidden,), model.norm.weight, model.norm.epsilon)
    logits: Tensor = model.head(x)
    return logits


def decode(model: SpeechTokenLM, inputs: Tensor, count: int) -> Tensor:
    """Draw `count` tokens (B, count) after embedded inputs (B, S, D), one at a time."""
    config = model.config
    batch, size, _ = inputs.shape
    width = config.hidden // config.heads
    turn = rotation(size + count, width, config.rope_theta, inputs.device)
    shape = (batch, config.key_value_heads, size + count, width)
    caches = [(inputs.new_empty(shape), inputs.new_empty(shape)) for _ in model.layers]
    drawn, x, start = [], inputs, 0
    for _ in range(count):
        place = slice(start, start + x.shape[1])
        for layer, cache in zip(model.layers, caches, strict=True):
            x = attend(layer, x, (turn[0][place], turn[1][place]), cache, start)  # type: ignore[arg-type]
        start = place.stop
        x = F.rms_norm(x[:, -1], (config.hidden,), model.norm.weight, model.norm.epsilon)
        token = torch.multinomial(model.head(x)[:, : config.codes].softmax(-1), 1)
        drawn.append(token)
        x = model.speech_embedding(token)
    return torch.cat(drawn, dim=1)


def reward(model: RewardModel, embeddings: Tensor) -> Tensor:
    """Return the log-posterior (B, K) of embedded tokens (B, T, D) of one length."""
    batch, size, width = embeddings.shape
    heads = model.config.heads
    cosines, sines = (
        part[:, : width // heads // 2]
        for part in rotation(size, width // heads, 1e4, embeddings.device)
    )

    def turned(x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        return torch.cat(
            [first * cosines - second * sines, first * sines + second * cosines], dim=-1
        )

    x = embeddings
    layer: Any
    for layer in model.encoder:
        y = layer.query_key_value(layer.attention_norm(x)).view(batch, size, 3, heads, -1)
        q, k, v = y.permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(turned(q), turned(k), v)
        x = x + layer.output(out.transpose(1, 2).reshape(batch, size, width))
        x = x + layer.contract(F.gelu(layer.expand(layer.feedforward_norm(x))))
    x = model.norm(x)
    pooling: Any = model.pooling["emotion"]
    weights = pooling.score(x).softmax(1)
    logits: Tensor = model.head["emotion"]((weights * x).sum(1))
    return logits.log_softmax(-1)
