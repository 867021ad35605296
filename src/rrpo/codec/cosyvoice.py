"""CosyVoice's tokens to audio, by the `cosyvoice` package that the user has installed.

Its flow and vocoder need a reference recording, whose voice they take over. The package is imported
only when this is used; it reads the model folder's YAML in a way that can run code, so give it only
folders you trust.
"""

import copy
import importlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from torch import Tensor

from rrpo.audio import SAMPLE_RATE, Audio, write
from rrpo.codec.s3 import S3Tokenizer
from rrpo.codec_identity import SPEECH_CODES
from rrpo.errors import UserError
from rrpo.sound.file import Sound, load_voice

PARTS = {"flow.pt": "the flow", "hift.pt": "the vocoder", "campplus.onnx": "the voice's encoder"}
"""What of a model folder turns tokens into sound."""
SOURCE = "https://github.com/FunAudioLLM/CosyVoice"


class CosyVoiceCodec:
    """Both ways of the codec protocol: the folder's speech tokenizer, and its flow and vocoder.

    Attributes:
        native_rate: samples per second of what the vocoder gives.
    """

    def __init__(self, folder: Path, voice: Path) -> None:
        """Load the model folder and read the reference recording.

        Args:
            folder: a CosyVoice2 or CosyVoice3 model folder.
            voice: a recording of at most 30 s whose voice is taken over; what is odd about it is
                printed.

        Raises:
            UserError: the recording or the folder is missing, the recording cannot be used (see
                `rrpo.sound.file.load_voice`), the package is not installed, or it cannot load the
                folder.
        """
        sound = _recording(voice)
        if not folder.is_dir():
            raise UserError(f"no CosyVoice model folder at {folder}")
        lacking = [
            f"{file} ({what})" for file, what in PARTS.items() if not (folder / file).is_file()
        ]
        if lacking:
            raise UserError(
                f"{folder} cannot speak without {', '.join(lacking)}: copy what is missing from "
                "the published model folder"
            )
        try:
            package = importlib.import_module("cosyvoice.cli.cosyvoice")
        except Exception as error:  # what a large package raises while it is imported
            raise UserError(
                f"speaking CosyVoice's tokens needs its own package ({_line(error)}): "
                f"clone {SOURCE} with its submodules, put it and its third_party/Matcha-TTS on "
                "PYTHONPATH, and install what it imports (not its requirements.txt, whose pins "
                "are of older versions of torch and others than rrpo's)"
            ) from None
        if not hasattr(package, "AutoModel"):
            raise UserError(f"this clone of CosyVoice is too old (no AutoModel): update {SOURCE}")
        try:
            self._model: Any = package.AutoModel(model_dir=str(folder))
            self._voice = _voice(self._model, voice, sound)
        except Exception as error:  # the package's own, of any kind
            raise UserError(
                f"CosyVoice cannot load {folder} or read {voice}: {_line(error)}"
            ) from None
        self._model.model.llm = None  # its own LM is not asked and takes two gigabytes
        self._folder = folder
        self._tokenizer: S3Tokenizer | None = None
        self.native_rate = int(self._model.sample_rate)

    def in_voice(self, voice: Path) -> "CosyVoiceCodec":
        """Return the same flow and vocoder with the voice of another recording.

        Raises:
            UserError: the recording is missing or cannot be used.
        """
        sound, other = _recording(voice), copy.copy(self)
        try:
            other._voice = _voice(self._model, voice, sound)
        except Exception as error:  # the package's own, of any kind
            raise UserError(f"CosyVoice cannot read {voice}: {_line(error)}") from None
        return other

    def encode(self, audio: Audio) -> Tensor:
        """Turn audio (N,) float32 at 16 kHz into ids (T,) int64, 25 a second."""
        if self._tokenizer is None:
            self._tokenizer = S3Tokenizer(self._folder)
        return self._tokenizer.encode(audio)

    def decode_native(self, ids: Tensor) -> Audio:
        """Speak ids (T,) int64 as audio (N,) float32 at `native_rate`.

        Raises:
            UserError: there is no id, one outside 0…6560, or the package fails.
        """
        if ids.numel() == 0 or int(ids.min()) < 0 or int(ids.max()) >= SPEECH_CODES:
            raise UserError(f"cannot speak {ids.numel()} ids: give at least one, each in 0…6560")
        given = {"source_speech_token": ids[None].to(torch.int32), "stream": False, **self._voice}
        try:
            # The vocoder draws phases and noise from the global generator.
            with torch.inference_mode(), torch.random.fork_rng():
                torch.manual_seed(0)
                pieces = [piece["tts_speech"] for piece in self._model.model.tts(**given)]
            spoken = torch.cat(pieces, dim=1)[0]
        except Exception as error:  # the package's own, of any kind
            raise UserError(f"CosyVoice cannot speak {ids.numel()} ids: {_line(error)}") from None
        return np.asarray(spoken.float().cpu().numpy(), dtype=np.float32)

    def decode(self, ids: Tensor) -> Audio:
        """Speak ids (T,) int64 as audio (N,) float32 at 16 kHz."""
        spoken = self.decode_native(ids)
        return np.asarray(soxr.resample(spoken, self.native_rate, SAMPLE_RATE), dtype=np.float32)


def _recording(voice: Path) -> Sound:
    """Read a reference recording; print what is odd about it."""
    if not voice.is_file():
        raise UserError(f"no reference recording at {voice}: name a wav file of the voice")
    sound = load_voice(voice)
    for note in sound.notes:
        print(f"{voice}: {note}")
    return sound


def _voice(model: Any, voice: Path, sound: Sound) -> dict[str, Any]:
    """Return what the package makes of a recording's voice."""
    # What our reader made of it: the package averages channels, whatever they hold.
    with tempfile.TemporaryDirectory() as place:
        heard = Path(place) / f"{voice.stem}.wav"
        loudest = max(1.0, float(np.abs(sound.samples).max()))
        write(heard, sound.samples / loudest, sound.rate)
        given = model.frontend.frontend_zero_shot("", "", str(heard), model.sample_rate, "")
    kept = ("flow_prompt_speech_token", "prompt_speech_feat", "flow_embedding")
    return {name: given[name] for name in kept}


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
