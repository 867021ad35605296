"""What an encoder heard, kept in a folder by content."""

import hashlib
from pathlib import Path

import numpy as np
from torch import Tensor

from rrpo.audio import Audio
from rrpo.checkpoint import load_tensors, save_tensors
from rrpo.codec.states import hear
from rrpo.codec.whisper import WhisperEncoder


class StateCache:
    """Keeps states in a folder, by the samples and the encoder's weights."""

    def __init__(self, folder: Path, encoder: WhisperEncoder) -> None:
        self.folder = folder
        self.encoder = encoder
        digest = hashlib.sha256()
        for name, weight in sorted(encoder.state_dict().items()):
            digest.update(name.encode() + weight.numpy().tobytes())
        self._encoder = digest.digest()

    def hear(self, audio: Audio) -> Tensor:
        """Return the states (T, 2 D) float16 of audio (N,); see `hear`."""
        samples = np.ascontiguousarray(audio, dtype=np.float32)
        key = hashlib.sha256(self._encoder + samples.tobytes()).hexdigest()
        path = self.folder / key[:2] / f"{key}.safetensors"
        if not path.is_file():
            save_tensors(path, {"states": hear(self.encoder, samples).half()})
        return load_tensors(path)["states"]
