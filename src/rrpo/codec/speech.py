"""A tokenizer for real speech: finite scalar quantisation inside a recogniser's encoder.

CosyVoice2's speech tokenizer is the encoder of a recogniser with FSQ in its middle (arXiv
2412.10117), and its weights come with a model folder only. This one has its shape, 25 tokens a
second of 3^8 codes, and begins with the lower layers of Whisper base. There is no way back to
audio: it is made for reward models, not for policies that are to be heard.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rrpo.audio import Audio
from rrpo.checkpoint import load_model, load_state, save_model
from rrpo.codec import whisper
from rrpo.codec.block import DIGITS, Block
from rrpo.codec.states import Scale, hear, pooled
from rrpo.codec.whisper import WhisperEncoder
from rrpo.errors import UserError

KIND = "speech_tokenizer"


@dataclass(frozen=True)
class SpeechTokenizerConfig:
    """Sizes of the networks on either side of the quantiser.

    Attributes:
        states: 2 D, what the encoder says of a token.
        layers: of the encoder that is listened to.
        width: W.
        dilations: of the blocks on either side, in tokens.
        summary: S, numbers that the tokens of an utterance tell together.
    """

    states: int = 1024
    layers: int = 3
    width: int = 256
    dilations: tuple[int, ...] = (1, 2, 4, 8)
    summary: int = 64


class SpeechTokenizer(nn.Module):
    """States of an encoder to tokens; while training also back to what the tokens tell of them."""

    def __init__(self, config: SpeechTokenizerConfig | None = None) -> None:
        super().__init__()
        self.config = config or SpeechTokenizerConfig()
        states, width = self.config.states, self.config.width
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(states))
        self.register_buffer("deviation", torch.ones(states))
        self.listen = nn.Linear(states, width)
        self.encoder = nn.ModuleList(Block(width, dilation) for dilation in self.config.dilations)
        self.squeeze = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, DIGITS))
        self.expand = nn.Linear(DIGITS, width)
        self.decoder = nn.ModuleList(Block(width, dilation) for dilation in self.config.dilations)
        self.tell = nn.Linear(width, states)
        self.sum_up = nn.Sequential(
            nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, self.config.summary)
        )
        self.whisper: WhisperEncoder | None = None

    def set_scale(self, scale: Scale) -> None:
        """Take over the scale of the states that are to be tokenized."""
        self.mean.copy_(scale.mean)
        self.deviation.copy_(scale.deviation)

    def scaled(self, states: Tensor) -> Tensor:
        """Bring states (…, 2 D) to float32 of mean 0 and deviation 1."""
        return Scale(self.mean, self.deviation).apply(states)

    def quantise(self, scaled: Tensor, mask: Tensor) -> Tensor:
        """Encode scaled states (B, T, 2 D) to digits (B, T, 8) in {-1, 0, 1}.

        The gradient passes the rounding as if it were not there (straight through).

        Args:
            scaled: (B, T, 2 D).
            mask: (B, T) bool, false on padding.
        """
        keep = mask[..., None].to(scaled.dtype)
        hidden = self.listen(scaled)
        for block in self.encoder:
            hidden = block(hidden, keep)
        bounded = torch.tanh(self.squeeze(hidden).float()) * 0.999
        return bounded + (bounded.round() - bounded).detach()

    def told(self, quantised: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return what digits (B, T, 8) tell: the scaled states (B, T, 2 D), the summary (B, S)."""
        keep = mask[..., None].to(quantised.dtype)
        hidden = self.expand(quantised)
        for block in self.decoder:
            hidden = block(hidden, keep)
        return self.tell(hidden).float(), self.sum_up(pooled(hidden.float(), mask)).float()

    @torch.inference_mode()
    def tokens(self, states: Tensor) -> Tensor:
        """Turn states (T, 2 D) of any type into ids (T,) int64."""
        mask = torch.ones(1, len(states), dtype=torch.bool)
        quantised = self.quantise(self.scaled(states)[None], mask)[0]
        return ((quantised.round().long() + 1) * 3 ** torch.arange(DIGITS)).sum(-1).clone()

    def encode(self, audio: Audio) -> Tensor:
        """Turn audio (N,) at 16 kHz into ids (T,) int64, T = ceil(N / 640).

        Raises:
            UserError: see `hear`; or Whisper is not installed.
        """
        if self.whisper is None:
            self.whisper = whisper.load(self.config.layers)
        return self.tokens(hear(self.whisper, audio))

    def decode(self, ids: Tensor) -> Audio:
        """Refuse: there is no way back to audio."""
        raise UserError(f"{len(ids)} tokens of the speech tokenizer cannot be turned into audio")


def save(model: SpeechTokenizer, folder: Path) -> None:
    """Write a tokenizer, without the encoder it begins with."""
    own = {name: value for name, value in model.state_dict().items() if name[:8] != "whisper."}
    save_model(folder, own, {"kind": KIND, **asdict(model.config)})


def load(folder: Path) -> SpeechTokenizer:
    """Read a tokenizer.

    Raises:
        UserError: there is none, or it is damaged.
    """
    state, description = load_model(folder, KIND)
    sizes: dict[str, Any] = {key: value for key, value in description.items() if key != "kind"}
    try:
        config = SpeechTokenizerConfig(**{**sizes, "dilations": tuple(sizes["dilations"])})
    except (TypeError, KeyError) as error:
        raise UserError(f"{folder} holds a tokenizer of another version ({error})") from None
    model = SpeechTokenizer(config)
    load_state(model, state, folder)
    return model.eval().requires_grad_(False)
