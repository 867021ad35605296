"""The token reward model: embedding table, Transformer encoder, attention pooling, linear heads.

The encoder is self-attention over packed tokens. The parts of the model are separate methods
because each is entered from outside: the relaxation of the policy enters at the embeddings,
adversarial training at the pooled (or the frame) embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from rrpo.checkpoint import fitted, load_model, save_model
from rrpo.config import parse
from rrpo.errors import UserError
from rrpo.reward.config import RewardConfig
from rrpo.reward.content import ContentHead, TextKind
from rrpo.tokens import digits

KIND = "reward"
TABLE_NOISE = 0.1
ROTARY_BASE = 10_000.0
TOGETHER = 8
"""Utterances that attend in one grid, padded to the longest of them."""


def initial_table(codes: int, width: int) -> Tensor:
    """Draw an embedding table (V, D) in which codes that share digits start close together.

    A row is the sum of one random vector per base-3 digit, plus a tenth of noise so that no two
    codes are the same; its entries have unit variance. Neighbouring codes of finite scalar
    quantization sound alike, so a code that training never meets still gets a sensible meaning.
    """
    sizes = torch.empty(codes, width)
    if sizes.is_meta:  # they alone are asked for, and a sum would load torch's compiler
        return sizes
    chosen = digits(torch.arange(codes))
    positions = chosen.shape[-1]
    vectors = torch.randn(positions, 3, width) / positions**0.5
    table: Tensor = vectors[torch.arange(positions), chosen].sum(dim=1)
    return table + TABLE_NOISE * torch.randn(codes, width)


def rotation(size: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return cosines and sines (T, D/2) of rotary positions (Su 2021, arXiv 2104.09864)."""
    frequencies = ROTARY_BASE ** -(torch.arange(0, width, 2, device=device) / width)
    angles = torch.arange(size, device=device)[:, None] * frequencies[None, :]
    return angles.cos(), angles.sin()


def rotate(vectors: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn each pair of features of (..., T, D) by the angle of its position."""
    first, second = vectors.chunk(2, dim=-1)
    return torch.cat((first * cosines - second * sines, first * sines + second * cosines), dim=-1)


class Grid(NamedTuple):
    """Utterances of similar length, side by side for attention.

    Attributes:
        mask: (B, T) bool, B at most `TOGETHER` and T the longest of them.
        places: (N,) int64, the valid places of the flattened mask.
    """

    mask: Tensor
    places: Tensor


def grids(mask: Tensor) -> tuple[list[Grid], Tensor]:
    """Part a batch into grids, the shortest utterances first.

    Args:
        mask: (B, T) bool, a valid token in every row.

    Returns:
        the grids, and the places (N,) int64 of all their valid tokens, grid after grid, in the
        flattened mask.
    """
    size = mask.shape[1]
    positions = torch.arange(size, device=mask.device)
    lengths = (mask * (positions + 1)).amax(dim=1)
    made, taken = [], []
    for rows in torch.split(lengths.argsort(stable=True), TOGETHER):
        longest = int(lengths[rows[-1]])
        part = mask[rows, :longest]
        places = part.flatten().nonzero().squeeze(-1)
        made.append(Grid(part, places))
        taken.append((rows[:, None] * size + positions[:longest]).flatten()[places])
    return made, torch.cat(taken)


class EncoderLayer(nn.Module):
    """Pre-norm self-attention and feed-forward over packed tokens.

    The tokens of a batch are packed to (N, D), N the number of valid ones, and spread over grids
    only for the attention itself: padding costs next to nothing and cannot be seen.
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.feedforward_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, feedforward)
        self.contract = nn.Linear(feedforward, width)

    def forward(self, packed: Tensor, parts: Sequence[Grid], turn: tuple[Tensor, Tensor]) -> Tensor:
        """Map packed (N, D) to (N, D).

        Args:
            packed: the valid tokens, grid after grid.
            parts: the grids.
            turn: cosines and sines (N, 1, 1, D / heads / 2) of the tokens' positions.
        """
        attended = self._attend(self.attention_norm(packed), parts, turn)
        packed = packed + self._drop(self.output(attended))
        inner = functional.gelu(self.expand(self.feedforward_norm(packed)))
        return packed + self._drop(self.contract(inner))

    def _drop(self, values: Tensor) -> Tensor:
        return functional.dropout(values, self.dropout, self.training)

    def _attend(self, packed: Tensor, parts: Sequence[Grid], turn: tuple[Tensor, Tensor]) -> Tensor:
        count, width = packed.shape
        joint = self.query_key_value(packed).view(count, 3, self.heads, -1)
        joint = torch.cat((rotate(joint[:, :2], *turn), joint[:, 2:]), dim=1).view(count, -1)
        attended = []
        owned = torch.split(joint, [len(part.places) for part in parts])
        for part, own in zip(parts, owned, strict=True):
            batch, size = part.mask.shape
            spread = own.new_zeros(batch * size, 3 * width).index_copy(0, part.places, own)
            query, key, value = spread.view(batch, size, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            attended_part = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=part.mask[:, None, None, :]
            )
            flat = attended_part.transpose(1, 2).reshape(batch * size, width)
            attended.append(flat.index_select(0, part.places))
        return torch.cat(attended)


class AttentionPooling(nn.Module):
    """Weighted mean over the valid frames; the weights are a softmax of one learned score."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Map (B, T, D) and mask (B, T) bool to (B, D)."""
        scores = self.score(hidden).squeeze(-1).masked_fill(~mask, -torch.inf)
        return torch.einsum("bt,btd->bd", scores.softmax(dim=-1), hidden)


class RewardModel(nn.Module):
    """Posterior of the classes of each task, given speech tokens or (relaxed) embeddings of them.

    Attributes:
        config: the shape.
    """

    def __init__(self, config: RewardConfig | None = None) -> None:
        super().__init__()
        self.config = config or RewardConfig()
        width = self.config.width
        self.embedding = nn.Embedding(
            self.config.codes, width, _weight=initial_table(self.config.codes, width)
        )
        shape = (width, self.config.heads, self.config.feedforward, self.config.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(*shape) for _ in range(self.config.layers))
        self.norm = nn.LayerNorm(width)
        self.pooling = nn.ModuleDict({task: AttentionPooling(width) for task in self.config.tasks})
        self.head = nn.ModuleDict(
            {task: nn.Linear(width, len(names)) for task, names in self.config.tasks.items()}
        )
        phones, symbols = self.config.phones, self.config.symbols
        self.content = ContentHead(width, phones, symbols) if phones or symbols else None

    @property
    def table(self) -> Tensor:
        """The token embedding table (V, D)."""
        return self.embedding.weight

    @property
    def is_detector(self) -> bool:
        """Whether it says nothing but whether a sound is there (`rrpo.reward.detector`)."""
        return list(self.config.tasks) == ["event"] and self.content is None

    def classes(self, task: str = "emotion") -> list[str]:
        """Return the names of a task's K classes.

        Raises:
            UserError: the model has no such task.
        """
        if task not in self.config.tasks:
            known = ", ".join(self.config.tasks)
            if self.is_detector:
                raise UserError(
                    f"a detector stands where {task} is asked for: name a reward model of {task} "
                    "(a detector goes beside it, and only where a policy is trained or speaks)"
                )
            raise UserError(f"this reward model has no task {task!r}: choose one of {known}")
        return self.config.tasks[task]

    def embed(self, tokens: Tensor) -> Tensor:
        """Map token ids (B, T) int64 to embeddings (B, T, D)."""
        embeddings: Tensor = self.embedding(tokens)
        return embeddings

    def encode(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """Map embeddings (B, T, D) and their mask (B, T) bool to frame embeddings (B, T, D).

        What stands at masked positions is never read; there the result is zero.

        Raises:
            ValueError: the shapes disagree, the mask is not bool, or a row has no valid token.
        """
        if mask.dtype != torch.bool or embeddings.shape[:2] != mask.shape:
            raise ValueError(
                f"mask is {mask.dtype} of shape {tuple(mask.shape)}: expected bool of "
                f"{tuple(embeddings.shape[:2])}, true at valid tokens"
            )
        if mask.shape[0] == 0 or not bool(mask.any(dim=1).all()):
            raise ValueError("a row of the mask has no valid token: leave empty utterances out")
        flat = embeddings.reshape(-1, embeddings.shape[-1])
        parts, valid = grids(mask)
        head_width = self.config.width // self.config.heads
        cosines, sines = (
            table.to(flat.dtype).index_select(0, valid % mask.shape[1])[:, None, None, :]
            for table in rotation(mask.shape[1], head_width, mask.device)
        )
        packed = flat.index_select(0, valid)
        for layer in self.encoder:
            packed = layer(packed, parts, (cosines, sines))
        packed = self.norm(packed)
        spread: Tensor = torch.zeros_like(flat, dtype=packed.dtype).index_copy(0, valid, packed)
        return spread.view(*mask.shape, -1)

    def pool(self, hidden: Tensor, mask: Tensor, task: str = "emotion") -> Tensor:
        """Map frame embeddings (B, T, D) and mask (B, T) bool to utterance embeddings (B, D)."""
        self.classes(task)
        pooled: Tensor = self.pooling[task](hidden, mask)
        return pooled

    def classify(self, pooled: Tensor, task: str = "emotion") -> Tensor:
        """Map utterance embeddings (B, D) to logits (B, K)."""
        self.classes(task)
        logits: Tensor = self.head[task](pooled)
        return logits

    def content_log_likelihood(
        self, hidden: Tensor, mask: Tensor, texts: Sequence[Tensor]
    ) -> Tensor:
        """Return log p(text | speech) in nats per symbol (B,), by CTC (Graves et al. 2006).

        See `ContentHead.log_likelihood`.

        Raises:
            UserError: the model has no content head, or it cannot read a text.
        """
        return self.content_head().log_likelihood(hidden, mask, texts)

    def content_head(self) -> ContentHead:
        """Return the content head.

        Raises:
            UserError: the model has none.
        """
        if self.content is None:
            raise UserError("this reward model has no content head")
        return self.content

    def add_content_head(
        self, text: TextKind, phones: int, symbols: Sequence[int], vocabulary: str = ""
    ) -> None:
        """Give the model an untrained content head; arguments as of `RewardConfig`.

        The weights are drawn from torch's global generator.
        """
        told = {"text": text, "phones": phones, "symbols": list(symbols), "vocabulary": vocabulary}
        self.config = RewardConfig.model_validate({**self.config.model_dump(), **told})
        self.content = ContentHead(self.config.width, phones, symbols).to(self.table.device)

    def forward(self, tokens: Tensor, mask: Tensor, task: str = "emotion") -> Tensor:
        """Map token ids (B, T) int64 and mask (B, T) bool to logits (B, K)."""
        hidden = self.encode(self.embed(tokens), mask)
        return self.classify(self.pool(hidden, mask, task), task)

    def log_posterior(self, embeddings: Tensor, mask: Tensor, task: str = "emotion") -> Tensor:
        """Return the log-posterior (B, K) of the classes: the reward of DiffRO is one of them.

        Differentiable in `embeddings` (B, T, D), which may be `embed(tokens)` or the output of a
        relaxation; `mask` is (B, T) bool, true at valid tokens (arXiv 2507.05911).

        Raises:
            UserError: the model has no such task.
            ValueError: the shapes disagree, or a row has no valid token.
        """
        logits = self.classify(self.pool(self.encode(embeddings, mask), mask, task), task)
        return logits.log_softmax(dim=-1)


def save(model: RewardModel, path: Path | str, dtype: torch.dtype = torch.float32) -> None:
    """Write a reward model into a folder; `dtype` is that of the weights on disk."""
    state = {name: weight.to(dtype) for name, weight in model.state_dict().items()}
    save_model(Path(path), state, {"kind": KIND, **model.config.model_dump()})


def load(path: Path | str) -> RewardModel:
    """Read a reward model from a folder, in float32 on the CPU and in evaluation mode.

    Raises:
        UserError: it is missing, damaged, or not a reward model.
    """
    state, description = load_model(Path(path), KIND)
    if "loss" not in description:
        raise UserError(
            f"{path}: its model.json lacks the key `loss`, which says how it was fine-tuned: it is "
            "of an earlier version, whose mixup and adversarial step were others; train it again"
        )
    shape = {name: value for name, value in description.items() if name != "kind"}
    config = parse(RewardConfig, shape, Path(path))
    return fitted(lambda: RewardModel(config), config.layers, state, Path(path)).eval()
