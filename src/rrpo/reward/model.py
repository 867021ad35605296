"""The token reward model: embedding table, Transformer encoder, attention pooling, linear heads.

The parts are separate methods because each is entered from outside: the relaxation of the policy
enters at the embeddings, adversarial training at the pooled (or the frame) embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from rrpo.checkpoint import load_model, load_state, require_fit, save_model
from rrpo.config import Strict, parse
from rrpo.emotions import EMOTIONS
from rrpo.errors import UserError
from rrpo.reward.content import ContentHead, TextKind
from rrpo.reward.encoder import AttentionPooling, EncoderLayer, grids, rotation
from rrpo.tokens import SPEECH_CODES, digits

KIND = "reward"
TABLE_NOISE = 0.1


class LossConfig(Strict):
    """Constants of L_ser that a reward model was fine-tuned with; the robust reward takes them.

    Attributes:
        label_smoothing: epsilon of the targets; 0: none.
        adversarial_weight: alpha of L_ser = L_emo + alpha L_adv; 0: no adversarial loss.
        adversarial_epsilon: length of delta.
        adversarial_at: h': "frames" is the encoder's output (B, L, D), "pooled" the utterance
            embedding (B, D).
    """

    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    adversarial_weight: float = Field(default=0.0, ge=0.0)
    adversarial_epsilon: float = Field(default=0.5, gt=0.0)
    adversarial_at: Literal["frames", "pooled"] = "frames"


class RewardConfig(Strict):
    """Shape of a reward model, and the loss it was fine-tuned with.

    Attributes:
        width: D, of the embeddings and of the encoder.
        layers: encoder layers.
        heads: attention heads of a layer; D must be an even multiple of it.
        feedforward: inner width of a layer's feed-forward part.
        dropout: rate inside the encoder layers, while training.
        codes: V, rows of the embedding table.
        tasks: the classes of each task, in the order of its posterior.
        phones: n, where the content head knows the symbols 0…n-1; 0: it has a list, or there is
            none.
        symbols: those that the content head knows, ascending, where it has a list.
        text: what its symbols are: "ids" of the policy's text, or "characters" of the text itself
            (`rrpo.reward.content.characters`).
        loss: of its fine-tuning; by default the plain cross-entropy.
        codec: identity of the codec whose tokens it reads (`rrpo.tokens`); empty: not known.
    """

    width: int = Field(default=128, ge=2)
    layers: int = Field(default=3, ge=1)
    heads: int = Field(default=4, ge=1)
    feedforward: int = Field(default=512, ge=1)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    codes: int = Field(default=SPEECH_CODES, ge=2, le=SPEECH_CODES)
    tasks: dict[str, list[str]] = Field(default_factory=lambda: {"emotion": list(EMOTIONS)})
    phones: int = Field(default=0, ge=0)
    symbols: list[int] = Field(default_factory=list)
    text: TextKind = "ids"
    loss: LossConfig = LossConfig()
    codec: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> RewardConfig:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is not an even multiple of {self.heads} heads")
        if not self.tasks:
            raise ValueError("tasks is empty: name at least one task with its classes")
        for task, classes in self.tasks.items():
            if not task.isidentifier():
                raise ValueError(f"task name {task!r} is not letters, digits and underscores")
            if len(classes) < 2 or len(set(classes)) < len(classes):
                raise ValueError(f"task {task!r} needs two or more classes, each named once")
        if self.phones and (self.symbols or self.text != "ids"):
            raise ValueError("phones are ids that need no list: give either phones or symbols")
        if self.symbols != sorted(set(self.symbols)) or min(self.symbols, default=0) < 0:
            raise ValueError("symbols are to be numbers from 0, ascending, each named once")
        return self


def initial_table(codes: int, width: int) -> Tensor:
    """Draw an embedding table (V, D) in which codes that share digits start close together.

    A row is the sum of one random vector per base-3 digit, plus a tenth of noise so that no two
    codes are the same; its entries have unit variance. Neighbouring codes of finite scalar
    quantization sound alike, so a code that training never meets still gets a sensible meaning.
    """
    chosen = digits(torch.arange(codes))
    positions = chosen.shape[-1]
    vectors = torch.randn(positions, 3, width) / positions**0.5
    table: Tensor = vectors[torch.arange(positions), chosen].sum(dim=1)
    return table + TABLE_NOISE * torch.randn(codes, width)


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

    def classes(self, task: str = "emotion") -> list[str]:
        """Return the names of a task's K classes.

        Raises:
            UserError: the model has no such task.
        """
        if task not in self.config.tasks:
            known = ", ".join(self.config.tasks)
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

    def add_content_head(self, text: TextKind, phones: int, symbols: Sequence[int]) -> None:
        """Give the model an untrained content head; arguments as of `RewardConfig`.

        The weights are drawn from torch's global generator.
        """
        told = {"text": text, "phones": phones, "symbols": list(symbols)}
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
    require_fit(lambda: RewardModel(config), config.layers, state, Path(path))
    model = RewardModel(config)
    load_state(model, state, Path(path))
    return model.eval()
