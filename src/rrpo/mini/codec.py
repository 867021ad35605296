"""The mini world's codec: 25 tokens per second of 3^8 codes, and back to audio.

Finite scalar quantisation as in CosyVoice2 (Mentzer et al. 2024): eight values squashed by tanh and
rounded to {-1, 0, 1}; the token is the sum of (digit + 1) * 3^i. The decoder says parameters of
speech, not samples; the vocoder speaks them.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rrpo.audio import Audio, checked
from rrpo.checkpoint import load_model, load_state, save_model
from rrpo.codec.block import DIGITS, Block
from rrpo.codec_identity import SPEECH_CODES
from rrpo.errors import UserError
from rrpo.mini.features import FEATURES, HOP, features
from rrpo.mini.vocoder import (
    APERIODICITY_HERTZ,
    ENVELOPE_BANDS,
    TOKEN_FRAMES,
    Parameters,
    sharpen,
    synthesize,
)
from rrpo.tokens import digits, length_mask, pad

TOKEN_SAMPLES = HOP * TOKEN_FRAMES
POINTS = len(APERIODICITY_HERTZ)
_FRAME_VALUES = 2 + ENVELOPE_BANDS + POINTS
_TOKEN_VALUES = 4


@dataclass(frozen=True)
class CodecConfig:
    """Sizes of the networks."""

    width: int = 256
    encoder_dilations: tuple[int, ...] = (1, 1, 2)
    decoder_dilations: tuple[int, ...] = (1, 3, 9, 1, 3, 1)


@dataclass
class Prediction:
    """The decoder's answer, before any decision; M = 4 T frames.

    Attributes:
        pitch: (B, M) natural log of Hz.
        voicing: (B, M) logit.
        envelope: (B, M, ENVELOPE_BANDS) natural log power.
        aperiodicity: (B, M, 5) dB.
        presence: (B, T, 2) logits of a click and of a pop in the token.
        peak: (B, T, 2) natural log of their peaks.
    """

    pitch: Tensor
    voicing: Tensor
    envelope: Tensor
    aperiodicity: Tensor
    presence: Tensor
    peak: Tensor


class MiniCodec(nn.Module):
    """Encoder, quantiser and decoder.

    Attributes:
        gain: (ENVELOPE_BANDS,) of the cepstral coefficients of what the decoder predicts.
    """

    def __init__(self, config: CodecConfig | None = None) -> None:
        super().__init__()
        self.config = config or CodecConfig()
        width = self.config.width
        self.listen = nn.Linear(FEATURES * TOKEN_FRAMES, width)
        self.encoder = nn.ModuleList(
            Block(width, dilation) for dilation in self.config.encoder_dilations
        )
        self.squeeze = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, DIGITS))
        self.expand = nn.Linear(DIGITS, width)
        self.decoder = nn.ModuleList(
            Block(width, dilation) for dilation in self.config.decoder_dilations
        )
        self.norm = nn.LayerNorm(width)
        self.speak = nn.Linear(width, TOKEN_FRAMES * _FRAME_VALUES + _TOKEN_VALUES)
        self.gain: Tensor
        self.register_buffer("gain", torch.ones(ENVELOPE_BANDS))

    def quantise(self, heard: Tensor) -> Tensor:
        """Encode features (B, M, FEATURES), M = 4 T, to digits (B, T, 8) in {-1, 0, 1}.

        The gradient passes the rounding as if it were not there (straight through).
        """
        batch, frames, _ = heard.shape
        hidden = self.listen(heard.reshape(batch, frames // TOKEN_FRAMES, -1))
        mask = torch.ones(batch, hidden.shape[1], 1, device=heard.device)
        for block in self.encoder:
            hidden = block(hidden, mask)
        bounded = torch.tanh(self.squeeze(hidden).float()) * 0.999
        return bounded + (bounded.round() - bounded).detach()

    def predict(self, quantised: Tensor, mask: Tensor | None = None) -> Prediction:
        """Decode digits (B, T, 8) in {-1, 0, 1}; mask (B, T) bool is false on padding."""
        batch, tokens, _ = quantised.shape
        if mask is None:
            mask = torch.ones(batch, tokens, dtype=torch.bool, device=quantised.device)
        keep = mask[..., None].to(quantised.dtype)
        hidden = self.expand(quantised)
        for block in self.decoder:
            hidden = block(hidden, keep)
        values = self.speak(self.norm(hidden)).float()
        frames = values[..., :-_TOKEN_VALUES].reshape(batch, tokens * TOKEN_FRAMES, _FRAME_VALUES)
        return Prediction(
            # Offsets and scales bring every value near its usual range at the start of training.
            pitch=5.2 + 0.4 * frames[..., 0],
            voicing=frames[..., 1],
            envelope=-11.0 + 3.0 * frames[..., 2 : 2 + ENVELOPE_BANDS],
            aperiodicity=-15.0 + 10.0 * frames[..., 2 + ENVELOPE_BANDS :],
            presence=values[..., -4:-2],
            peak=-1.2 + 0.5 * values[..., -2:],
        )

    @torch.no_grad()
    def encode(self, audio: Audio) -> Tensor:
        """Turn audio (N,) float32 at 16 kHz into ids (T,) int64, T = ceil(N / 640).

        Raises:
            UserError: see `rrpo.audio.checked`.
        """
        samples = checked(audio)
        device = self.expand.weight.device
        wave = torch.from_numpy(samples)[None].to(device)
        wave = nn.functional.pad(wave, (0, -samples.size % TOKEN_SAMPLES))
        quantised = self.quantise(features(wave))[0]
        powers = 3 ** torch.arange(DIGITS, device=device)
        return ((quantised.round().long() + 1) * powers).sum(dim=-1).cpu()

    @torch.no_grad()
    def parameters_of(self, ids: list[Tensor]) -> list[Parameters]:
        """Decode ids, each (T,) int64, to what the vocoder speaks, each a batch of one.

        Raises:
            UserError: an id lies outside 0…6560, or a sequence is empty.
        """
        for row in ids:
            if row.ndim != 1 or row.numel() == 0:
                raise UserError("an empty token sequence cannot be decoded: give at least one id")
            if int(row.min()) < 0 or int(row.max()) >= SPEECH_CODES:
                raise UserError(f"token ids must lie in 0…{SPEECH_CODES - 1}: leave out all others")
        device = self.expand.weight.device
        mask = length_mask(torch.tensor([row.numel() for row in ids])).to(device)
        padded = pad([row.cpu() for row in ids]).to(device)
        spoken = decide(self.predict(digits(padded).to(torch.float32) - 1.0, mask))
        spoken.envelope = sharpen(spoken.envelope, self.gain)
        return [_row(spoken, index, sequence.numel()) for index, sequence in enumerate(ids)]

    def decode(self, ids: Tensor, seed: int = 0) -> Audio:
        """Speak ids (T,) int64 as float32 (640 T,) at 16 kHz within [-1, 1]."""
        return self.decode_batch([ids], seed)[0]

    @torch.no_grad()
    def decode_batch(self, ids: list[Tensor], seed: int = 0) -> list[Audio]:
        """Speak several sequences, each as `decode` would alone."""
        if not ids:
            return []
        # One row at a time: the vocoder gains nothing from a batch, and a row's end stays its own.
        audio = [synthesize(spoken, seed)[0] for spoken in self.parameters_of(ids)]
        return [wave.clamp(-1.0, 1.0).cpu().numpy() for wave in audio]

    def save(self, folder: Path) -> None:
        """Write the weights as fp16 safetensors with their configuration."""
        state = {name: tensor.to(torch.float16) for name, tensor in self.state_dict().items()}
        save_model(folder, state, {"kind": "codec", **asdict(self.config)})

    @classmethod
    def load(cls, folder: Path) -> "MiniCodec":
        """Read what `save` wrote, ready to use.

        Raises:
            UserError: the folder does not hold a whole codec of this form.
        """
        state, config = load_model(folder, "codec")
        model = cls(_config(config, folder))
        load_state(model, state, folder)
        return model.eval()


def decide(prediction: Prediction) -> Parameters:
    """Turn logits into decisions: voiced or not, a click or none."""
    voiced = prediction.voicing > 0
    pitch = torch.where(voiced, torch.exp(prediction.pitch.clamp(3.9, 6.6)), 0.0)
    peaks = torch.where(prediction.presence > 0, torch.exp(prediction.peak.clamp(max=0.0)), 0.0)
    return Parameters(
        pitch=pitch,
        envelope=prediction.envelope,
        aperiodicity=prediction.aperiodicity.clamp(max=0.0),
        click=peaks[..., 0],
        pop=peaks[..., 1],
    )


def _row(spoken: Parameters, index: int, tokens: int) -> Parameters:
    """Cut the first `tokens` tokens of one row out of a batch."""
    frames = tokens * TOKEN_FRAMES
    return Parameters(
        pitch=spoken.pitch[index : index + 1, :frames],
        envelope=spoken.envelope[index : index + 1, :frames],
        aperiodicity=spoken.aperiodicity[index : index + 1, :frames],
        click=spoken.click[index : index + 1, :tokens],
        pop=spoken.pop[index : index + 1, :tokens],
    )


def _config(values: dict[str, Any], folder: Path) -> CodecConfig:
    """Read the sizes out of a stored configuration.

    Raises:
        UserError: a size is missing, unexpected or not of its type.
    """
    try:
        return CodecConfig(
            width=int(values["width"]),
            encoder_dilations=tuple(int(value) for value in values["encoder_dilations"]),
            decoder_dilations=tuple(int(value) for value in values["decoder_dilations"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder} describes another codec ({error!r}): make it again") from None
