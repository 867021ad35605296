"""The speech-token language model: Qwen2's decoder between CosyVoice's tables, in plain torch.

It knows nothing of text, audio or rewards. Its inputs are joint ids (`SpeechTokenLM.embed`), its
outputs logits over the speech vocabulary: codes first, then the specials.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rrpo.codec_identity import SPEECH_CODES
from rrpo.config import Strict


class LMConfig(Strict):
    """Sizes of a speech-token LM; where its specials stand follows CosyVoice2 or CosyVoice3.

    Version 2 keeps sos and task in a table of their own and has an output bias; version 3 keeps
    them among the specials of the speech table and has none.
    """

    version: Literal[2, 3] = 2
    text_vocabulary: int = Field(gt=0)
    hidden: int = Field(256, gt=0)
    layers: int = Field(4, gt=0)
    heads: int = Field(4, gt=0)
    key_value_heads: int = Field(2, gt=0)
    intermediate: int = Field(640, gt=0)
    rope_theta: float = Field(1e6, gt=0)
    norm_epsilon: float = Field(1e-6, gt=0)
    codes: int = Field(SPEECH_CODES, gt=0)
    specials: int = Field(3, gt=0)
    # Of the weights in the CosyVoice checkpoint this came from, and will be exported to.
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    # What a text id is: a phone of the mini world, or a byte pair of CosyVoice's text.
    text: Literal["phones", "byte_pairs"] = "phones"
    # Identity of the codec whose tokens it speaks (`rrpo.codec_identity`); empty: not known.
    codec: str = ""

    @property
    def speech_rows(self) -> int:
        """Rows of the speech table and of the output: codes and specials (V)."""
        return self.codes + self.specials

    @property
    def eos(self) -> int:
        """Speech id that ends an utterance; every id from `codes` on stops decoding."""
        return self.codes if self.version == 2 else self.codes + 1

    @property
    def fill(self) -> int:
        """Speech id that asks for the next block of text (bistream)."""
        return self.codes + (2 if self.version == 2 else 3)

    @property
    def sos_id(self) -> int:
        """Joint id of the first position."""
        return self.text_vocabulary + (self.speech_rows if self.version == 2 else self.codes)

    @property
    def task_id(self) -> int:
        """Joint id of the position between text and speech."""
        return self.sos_id + (1 if self.version == 2 else 2)


@dataclass
class KeyValueCache:
    """Keys and values of the positions seen so far.

    Attributes:
        keys, values: (layers, B, H, S, d), filled up to `length`.
        mask: (B, S) bool, false where a position is padding.
        length: how many positions are filled.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor
    length: int = 0

    def select(self, rows: Tensor) -> None:
        """Keep only some rows of the batch (finished sequences are dropped)."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]
        self.mask = self.mask[rows]

    def repeat(self, times: int) -> None:
        """Follow each row of the batch by copies of itself, so that it stands `times` times."""
        self.keys = self.keys.repeat_interleave(times, dim=1)
        self.values = self.values.repeat_interleave(times, dim=1)
        self.mask = self.mask.repeat_interleave(times, dim=0)


class RMSNorm(nn.Module):
    """Root-mean-square normalisation over the last axis, computed in fp32 (as Qwen2 does)."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, D) to (…, D), same dtype."""
        y = x.float()
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + self.epsilon)
        return self.weight * y.to(x.dtype)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021), halves paired as in Qwen2.

    Args:
        x: (B, H, S, d) queries or keys.
        cosine, sine: (B, 1, S, d).
    """
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat([-second, first], dim=-1) * sine


class Attention(nn.Module):
    """Causal self-attention with grouped keys and values and rotary positions."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.heads, self.groups = config.heads, config.key_value_heads
        width = config.hidden // config.heads
        self.q_proj = nn.Linear(config.hidden, config.heads * width)
        self.k_proj = nn.Linear(config.hidden, config.key_value_heads * width)
        self.v_proj = nn.Linear(config.hidden, config.key_value_heads * width)
        self.o_proj = nn.Linear(config.heads * width, config.hidden, bias=False)

    def forward(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: tuple[Tensor, Tensor] | None,
        start: int,
    ) -> Tensor:
        """Map (B, S, D) to (B, S, D).

        Args:
            rotation: cosine and sine, each (B, 1, S, d).
            mask: (B, 1, S, past + S) bool, true where a query may look; None means plain causal.
            cache: this layer's keys and values (B, H, capacity, d), written in place at `start`.
        """
        batch, size, _ = x.shape
        q = self.q_proj(x).view(batch, size, self.heads, -1).transpose(1, 2)
        k = self.k_proj(x).view(batch, size, self.groups, -1).transpose(1, 2)
        v = self.v_proj(x).view(batch, size, self.groups, -1).transpose(1, 2)
        q, k = rotate(q, *rotation), rotate(k, *rotation)
        if cache is not None:
            cache[0][:, :, start : start + size] = k
            cache[1][:, :, start : start + size] = v
            k, v = cache[0][:, :, : start + size], cache[1][:, :, : start + size]
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=self.heads != self.groups
        )
        out: Tensor = self.o_proj(y.transpose(1, 2).reshape(batch, size, -1))
        return out


class MLP(nn.Module):
    """Qwen2's gated feed-forward layer."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden, config.intermediate, bias=False)
        self.up_proj = nn.Linear(config.hidden, config.intermediate, bias=False)
        self.down_proj = nn.Linear(config.intermediate, config.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, D) to (…, D)."""
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    """One pre-norm decoder layer."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden, config.norm_epsilon)
        self.post_attention_layernorm = RMSNorm(config.hidden, config.norm_epsilon)

    def forward(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: tuple[Tensor, Tensor] | None,
        start: int,
    ) -> Tensor:
        """Map (B, S, D) to (B, S, D); the arguments are those of `Attention.forward`."""
        x = x + self.self_attn(self.input_layernorm(x), rotation, mask, cache, start)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class SpeechTokenLM(nn.Module):
    """A decoder that reads text, specials and speech tokens and predicts speech tokens.

    Attributes:
        recompute: whether training keeps only each layer's input and computes the rest again on
            the way back (Chen 2016, "Training deep nets with sublinear memory cost").
        adapted: whether low-rank adapters were put into it (`rrpo.policy.adapter`).
    """

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute = self.adapted = False
        self.text_embedding = nn.Embedding(config.text_vocabulary, config.hidden)
        self.speech_embedding = nn.Embedding(config.speech_rows, config.hidden)
        self.special_embedding = nn.Embedding(2, config.hidden) if config.version == 2 else None
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.hidden, config.norm_epsilon)
        self.head = nn.Linear(config.hidden, config.speech_rows, bias=config.version == 2)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def embed(self, ids: Tensor) -> Tensor:
        """Embed joint ids (B, S) as (B, S, D).

        A joint id below the text vocabulary is text; the next V ids are speech; version 2 has two
        more, sos and task.
        """
        config = self.config
        text = self.text_embedding(ids.clamp(max=config.text_vocabulary - 1))
        speech_ids = (ids - config.text_vocabulary).clamp(0, config.speech_rows - 1)
        is_speech = (ids >= config.text_vocabulary)[..., None]
        x = torch.where(is_speech, self.speech_embedding(speech_ids), text)
        if self.special_embedding is None:
            return x
        special = self.special_embedding((ids - config.sos_id).clamp(0, 1))
        return torch.where((ids >= config.sos_id)[..., None], special, x)

    def forward(self, ids: Tensor, keep: Tensor | None = None) -> Tensor:
        """One causal pass over right-padded joint ids (B, S).

        Args:
            keep: (B, S) bool; when given only these positions go through the output layer.

        Returns:
            Logits (B, S, V), or (n, V) for the n kept positions in row order.
        """
        hidden = self.hidden(ids)
        logits: Tensor = self.head(hidden if keep is None else hidden[keep])
        return logits

    def hidden(
        self, ids: Tensor, cache: KeyValueCache | None = None, inputs: Tensor | None = None
    ) -> Tensor:
        """Return the normed last hidden state (B, S, D).

        Without a cache the ids are right-padded: no valid position sees the padding. With a cache
        the ids continue what it holds; `cache.mask` says which of the past positions, and which of
        these, are real (left padding), and positions are counted over the real ones. `inputs`
        (B, S, D) stands for `embed(ids)` where it was made already.
        """
        batch, size = ids.shape
        start = 0 if cache is None else cache.length
        mask: Tensor | None = None
        if cache is None:
            positions = torch.arange(size, device=ids.device).expand(batch, size)
        elif size == 1:
            # One query looks at all that is real; nothing lies behind it.
            seen = cache.mask[:, : start + 1]
            positions = seen.sum(1, keepdim=True) - 1
            mask = seen[:, None, None]
        else:
            seen = cache.mask[:, : start + size]
            positions = (seen.long().cumsum(1) - 1).clamp(min=0)[:, start:]
            query = torch.arange(start, start + size, device=ids.device)
            causal = query[:, None] >= torch.arange(start + size, device=ids.device)
            # A padded query looks at itself, so that its softmax is not empty.
            itself = query[:, None] == torch.arange(start + size, device=ids.device)
            mask = ((causal & seen[:, None, :]) | itself)[:, None]
        x = self.embed(ids) if inputs is None else inputs
        rotation = self.rotation(positions, x.dtype)
        for index, layer in enumerate(self.layers):
            part = None if cache is None else (cache.keys[index], cache.values[index])
            if self.recompute and torch.is_grad_enabled() and cache is None:
                x = checkpoint(layer, x, rotation, mask, part, start, use_reentrant=False)
            else:
                x = layer(x, rotation, mask, part, start)
        if cache is not None:
            cache.length = start + size
        out: Tensor = self.norm(x)
        return out

    def new_cache(
        self, batch: int, capacity: int, dtype: torch.dtype | None = None
    ) -> KeyValueCache:
        """Return an empty cache for B rows and `capacity` positions, by default in our dtype."""
        config = self.config
        weight = self.head.weight
        shape = (
            config.layers,
            batch,
            config.key_value_heads,
            capacity,
            config.hidden // config.heads,
        )
        return KeyValueCache(
            keys=torch.zeros(shape, dtype=dtype or weight.dtype, device=weight.device),
            values=torch.zeros(shape, dtype=dtype or weight.dtype, device=weight.device),
            mask=torch.zeros(batch, capacity, dtype=torch.bool, device=weight.device),
        )

    def rotation(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return cosine and sine (B, 1, S, d) of rotary positions (B, S)."""
        width = self.config.hidden // self.config.heads
        exponents = torch.arange(0, width, 2, device=positions.device).float() / width
        angles = positions[..., None].float() * self.config.rope_theta**-exponents
        angles = torch.cat([angles, angles], dim=-1)[:, None]
        return angles.cos().to(dtype), angles.sin().to(dtype)
