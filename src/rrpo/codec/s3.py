"""CosyVoice's speech tokenizer: 16 kHz audio to 25 tokens a second, by the model folder's ONNX.

The features are Whisper's (128 mel bands, 100 frames a second). Audio over 30 s is read in windows
that overlap by 4 s; each window gives way to the next in the middle of the overlap. Tokens back to
audio need CosyVoice's own flow and vocoder.
"""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rrpo.audio import SAMPLE_RATE, Audio, checked
from rrpo.codec.mel import WINDOW, log_mel
from rrpo.codec_identity import SPEECH_CODES
from rrpo.errors import UserError
from rrpo.files import sha256

FILES = ("speech_tokenizer_v2.onnx", "speech_tokenizer_v3.onnx")
BANDS = 128
LONGEST, OVERLAP = 30, 4
"""Seconds the tokenizer takes at once, and seconds two windows share."""
TOKENS_PER_SECOND = 25


class S3Tokenizer:
    """`encode` of the codec protocol, by onnxruntime.

    Attributes:
        path: of the ONNX file.
        checksum: its SHA-256.
    """

    def __init__(self, folder: Path, threads: int = 0) -> None:
        """Open the tokenizer of a CosyVoice model folder, or an ONNX file.

        Args:
            threads: cores to use; 0 takes all.

        Raises:
            UserError: there is none, it is damaged, or a package is missing.
        """
        files = [folder / name for name in FILES] if folder.is_dir() else [folder]
        found = [file for file in files if file.is_file()]
        if not found:
            raise UserError(f"no {FILES[0]} in {folder}: name a CosyVoice2 or CosyVoice3 folder")
        self.path, self.checksum = found[0], sha256(found[0])
        try:
            runtime = importlib.import_module("onnxruntime")
        except ImportError as error:
            raise UserError(
                f"CosyVoice's tokenizer needs {error.name}: pip install 'rrpo[cosyvoice]'"
            ) from None
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        cuda = "CUDAExecutionProvider"
        there = [cuda] if cuda in runtime.get_available_providers() else []
        try:
            self._session: Any = runtime.InferenceSession(
                str(self.path), options, providers=[*there, "CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own errors share no base class
            reason = str(error).splitlines()[0]
            raise UserError(f"{self.path} cannot be opened ({reason}): copy it again") from None
        names = [value.name for value in self._session.get_inputs()]
        if len(names) != 2:
            raise UserError(f"{self.path} takes {len(names)} inputs, not features and their length")
        self._names = names

    def encode(self, audio: Audio) -> Tensor:
        """Turn audio (N,) float32 at 16 kHz into ids (T,) int64, 25 a second.

        Raises:
            UserError: the audio is shorter than one window (25 ms), the tokenizer gives ids outside
                0…6560, or see `rrpo.audio.checked`.
        """
        samples = checked(audio)
        if samples.size < WINDOW:
            raise UserError(f"audio of {samples.size} samples is shorter than 25 ms: leave it out")
        pieces = []
        step = LONGEST - OVERLAP
        seconds = samples.size / SAMPLE_RATE
        count = 1 if seconds <= LONGEST else int(np.ceil((seconds - OVERLAP) / step))
        for index in range(count):
            start = index * step
            part = samples[start * SAMPLE_RATE : (start + LONGEST) * SAMPLE_RATE]
            ids = self._run(part)
            # Half of the overlap belongs to either window.
            first = 0 if index == 0 else OVERLAP // 2 * TOKENS_PER_SECOND
            last = None if index == count - 1 else (LONGEST - OVERLAP // 2) * TOKENS_PER_SECOND
            pieces.append(ids[first:last])
        return torch.cat(pieces)

    def decode(self, ids: Tensor) -> Audio:
        """Refuse: the tokenizer has no way back.

        Raises:
            UserError: always.
        """
        raise UserError(
            f"{ids.numel()} CosyVoice tokens cannot be spoken here: export the policy and use "
            "CosyVoice's flow and vocoder"
        )

    def _run(self, samples: Audio) -> Tensor:
        mel = log_mel(samples, BANDS)
        size = np.array([mel.shape[1]], dtype=np.int32)
        try:
            found = self._session.run(None, {self._names[0]: mel[None], self._names[1]: size})[0]
        except Exception as error:  # onnxruntime's own errors share no base class
            reason = str(error).splitlines()[0]
            raise UserError(f"{self.path} cannot read the features ({reason})") from None
        ids = torch.from_numpy(np.asarray(found, dtype=np.int64).reshape(-1))
        if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= SPEECH_CODES):
            raise UserError(f"{self.path} gives ids outside 0…{SPEECH_CODES - 1}: not CosyVoice's")
        return ids
