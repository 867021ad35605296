"""One token at a time, fast: the policy's weights laid out for the few rows of a decoding step.

The three projections of attention are one product, so are the two of the gate, and the norms' gains
are part of them. `SpeechTokenLM.hidden` computes the same with a cache; it reads the prompt.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rrpo.policy.adapter import plain_state
from rrpo.policy.lm import KeyValueCache, SpeechTokenLM
from rrpo.sharding import whole

NARROW, SOME_ROWS = 512, 6
"""Weights below this width are stored transposed, which makes products of few rows faster; wider
ones stay as they are, and from some rows on the product itself is transposed."""


class LayerWeights(NamedTuple):
    """One decoder layer: weights (in, out) and a bias (out,); the norms' gains are in them."""

    attention: Tensor
    bias: Tensor
    output: Tensor
    gate: Tensor
    down: Tensor


class Decoder:
    """The weights of a policy as it is now, and the cache of what it has read.

    Attributes:
        cache: filled by `SpeechTokenLM.hidden` with the prompts, then by `step`.
    """

    def __init__(self, model: SpeechTokenLM, cache: KeyValueCache) -> None:
        """Copy the weights in the cache's dtype, low-rank adapters added in unless they are off."""
        config, dtype = model.config, cache.keys.dtype
        with whole(model):
            state = plain_state(model) if model.adapted else dict(model.state_dict())

        def product(*names: str, norm: str = "") -> Tensor:
            joint = torch.cat([state[f"{name}.weight"] for name in names])
            if norm:
                joint = joint * state[f"{norm}.weight"]
            turned = joint.to(dtype).T
            return turned.contiguous() if config.hidden < NARROW else turned

        self.layers = []
        for index in range(config.layers):
            layer = f"layers.{index}"
            projections = [f"{layer}.self_attn.{name}_proj" for name in "qkv"]
            gate = [f"{layer}.mlp.{name}_proj" for name in ("gate", "up")]
            self.layers.append(
                LayerWeights(
                    product(*projections, norm=f"{layer}.input_layernorm"),
                    torch.cat([state[f"{name}.bias"].to(dtype) for name in projections]),
                    product(f"{layer}.self_attn.o_proj"),
                    product(*gate, norm=f"{layer}.post_attention_layernorm"),
                    product(f"{layer}.mlp.down_proj"),
                )
            )
        self.norm, self.epsilon = state["norm.weight"].to(dtype), config.norm_epsilon
        self.head = product("head")
        self.bias = state["head.bias"].to(dtype) if "head.bias" in state else None
        self.table = state["speech_embedding.weight"]
        self.heads, self.groups = config.heads, config.key_value_heads
        self.cache = cache
        capacity = cache.mask.shape[1]
        places = torch.arange(capacity, device=cache.mask.device)[None]
        cosines, sines = (part[0, 0] for part in model.rotation(places, torch.float32))
        # The first half of a rotated head is x₁ cos − x₂ sin: the sign goes with the sine.
        half = sines.shape[-1] // 2
        self.turn = (cosines.to(dtype), torch.cat([-sines[:, :half], sines[:, half:]], 1).to(dtype))
        self.places = cache.mask.sum(1)
        self.seen = torch.full(cache.mask.shape, float("-inf"), dtype=dtype, device=places.device)
        self.seen.masked_fill_(cache.mask, 0.0)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the speech logits (B, V) in fp32 of last hidden states (B, D)."""
        hidden = hidden.to(self.head.dtype)
        logits = _product(hidden, self.head, self.bias).contiguous()
        return logits.float()

    def select(self, rows: Tensor) -> None:
        """Keep only some rows of the batch, (B,) bool."""
        self.cache.select(rows)
        self.places, self.seen = self.places[rows], self.seen[rows]

    def step(self, tokens: Tensor) -> Tensor:
        """Read one speech token of each row, (B,) int64, and return the hidden states (B, D)."""
        cache = self.cache
        place = cache.length
        self.seen[:, place] = 0.0
        cache.mask[:, place] = True
        turn = (self.turn[0][self.places][:, None], self.turn[1][self.places][:, None])
        self.places = self.places + 1
        cache.length = place + 1
        where = torch.tensor([place], device=tokens.device)
        with torch.autocast(tokens.device.type, enabled=False):
            x = self.table[tokens].to(self.head.dtype)
            caches = (cache.keys, cache.values)
            shape = (self.heads, self.groups, self.epsilon, place + 1)
            x = _step(self.layers, x, turn, caches, self.seen, where, shape)
            return _norm(x, self.epsilon) * self.norm


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x W + b, (B, in) and (in, out) → (B, out); of a wide W as (Wᵀ xᵀ)ᵀ on a CPU."""
    if weight.is_contiguous() or x.shape[0] < SOME_ROWS or x.device.type != "cpu":
        # `addmm` first spreads the bias over all rows, which takes longer than adding it.
        return x @ weight if bias is None else (x @ weight).add_(bias)
    if bias is None:
        return (weight.T @ x.T).T
    return torch.addmm(bias[:, None], weight.T, x.T).T


def _norm(x: Tensor, epsilon: float) -> Tensor:
    """Root-mean-square normalisation of (B, D), in fp32 as `rrpo.policy.lm.RMSNorm`, no gain."""
    return F.rms_norm(x.float(), x.shape[-1:], None, epsilon).to(x.dtype)


def _step(
    layers: list[LayerWeights],
    x: Tensor,
    turn: tuple[Tensor, Tensor],
    caches: tuple[Tensor, Tensor],
    seen: Tensor,
    where: Tensor,
    shape: tuple[int, int, float, int],
) -> Tensor:
    """Run all layers over one position of each row, (B, D) → (B, D), before the last norm.

    Args:
        turn: cosine and signed sine, each (B, 1, d).
        caches: keys and values (layers, B, H, capacity, d), written at `where`.
        seen: (B, capacity), 0 or −inf.
        where: (1,) int64, the position.
        shape: heads, groups, the norms' epsilon, how many positions are looked at.
    """
    heads, groups, epsilon, end = shape
    batch = x.shape[0]
    keys, values = caches
    mask = seen[:, None, None, :end]
    for index, layer in enumerate(layers):
        joint = _product(_norm(x, epsilon), layer.attention, layer.bias)
        joint = joint.view(batch, heads + 2 * groups, -1)
        turned = joint[:, : heads + groups]
        turned = turned * turn[0] + turned.roll(turned.shape[-1] // 2, -1) * turn[1]
        keys[index].index_copy_(2, where, turned[:, heads:, None])
        values[index].index_copy_(2, where, joint[:, heads + groups :, None])
        # The heads of a group look at the same keys: they are the queries of one head here.
        query = turned[:, :heads].reshape(batch, groups, heads // groups, -1)
        y = F.scaled_dot_product_attention(
            query, keys[index, :, :, :end], values[index, :, :, :end], attn_mask=mask
        )
        x = x + _product(y.reshape(batch, -1), layer.output)
        gate, up = _product(_norm(x, epsilon), layer.gate).chunk(2, dim=-1)
        x = x + _product(F.silu(gate) * up, layer.down)
    return x
