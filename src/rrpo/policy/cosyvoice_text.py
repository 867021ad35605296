"""CosyVoice's text: its Qwen2 tokenizer with the added tokens, and instructions for emotions."""

import hashlib
import re
import unicodedata
from pathlib import Path
from typing import Any

from rrpo import config as configuration
from rrpo.data.catalogue import emotion_name
from rrpo.errors import UserError
from rrpo.notes import note

END_OF_PROMPT = "<|endofprompt|>"
END_OF_PROMPT_ID = 151646
"""As published; upstream's code has this number in it."""
FIRST_CODE = "<|s_0|>"
ADDED = [
    "<|im_start|>",
    "<|im_end|>",
    "<|endofprompt|>",
    "[breath]",
    "<strong>",
    "</strong>",
    "[noise]",
    "[laughter]",
    "[cough]",
    "[clucking]",
    "[accent]",
    "[quick_breath]",
    "<laughter>",
    "</laughter>",
    "[hissing]",
    "[sigh]",
    "[vocalized-noise]",
    "[lipsmack]",
    "[mn]",
]
"""Tokens upstream adds to Qwen2's, in its order."""
ADDED_3 = Path(__file__).with_name("cosyvoice3_tokens.txt")
"""What version 3 goes on with, in upstream's order: English phones and parts of pinyin."""
INSTRUCTIONS = Path(__file__).with_name("instructions.yaml")
MARK = re.compile(
    r"<\|[^\s|<>]{1,40}\|>|</?[A-Za-z]\w{0,40}>|&(?:[A-Za-z]{2,8}|#[0-9]{1,6}|#[xX][0-9A-Fa-f]{1,5});"
)
"""What stands for something else than words: control tokens, tags and signs of other programs."""
NOTE = re.compile(r"\[[A-Za-z][A-Za-z_ -]{2,40}\]")
"""A word in brackets; transcribers note in capitals what is no speech: [BREATHING], [GARBAGE]."""
FOLDER = "CosyVoice-BlankEN"
QWEN_WORDS = 151643
"""Words of Qwen2's vocabulary before its own specials."""


class CosyVoiceTokenizer:
    """Texts and emotions as ids of CosyVoice's text table.

    Attributes:
        language: of the instructions, a key of the YAML file.
        version: 2 or 3.
    """

    def __init__(
        self,
        model: Path,
        version: int = 2,
        language: str = "en",
        instructions: Path = INSTRUCTIONS,
        rows: int | None = None,
    ) -> None:
        """Read the tokenizer of a model folder; nothing in it is executed.

        Args:
            rows: of the text table of the LM that is to read its ids, where that is known.

        Raises:
            UserError: the folder has no tokenizer, transformers is not installed, or the
                instructions cannot be read, lack the language or hold a control token.
        """
        self.version, self.language, self._rows = version, language, rows
        self._tokenizer = read_tokenizer(model, version, rows)
        self._file = instructions
        self._instructions = read_instructions(instructions, language, version)
        self.end_of_prompt = int(self._tokenizer.convert_tokens_to_ids(END_OF_PROMPT))

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text.

        Raises:
            UserError: the text is empty or has no letter and no digit, or holds a mark that is no
                part of a text, such as the one that ends an instruction.
        """
        _require_words(text)
        return self._ids(text)

    def _ids(self, text: str) -> list[int]:
        found = [int(number) for number in self._tokenizer(text)["input_ids"]]
        if self._rows is not None and any(number >= self._rows for number in found):
            raise UserError(
                f"the text {text[:40]!r} holds a speech token of <|s_0|>…: leave it out"
            )
        return found

    @property
    def vocabulary(self) -> str:
        """SHA-256 of its words with their ids, those that CosyVoice adds left out."""
        size = self._tokenizer.vocab_size
        words = sorted((id_, word) for word, id_ in self._tokenizer.get_vocab().items())
        lines = "".join(f"{id_} {word}\n" for id_, word in words if id_ < size)
        return hashlib.sha256(lines.encode()).hexdigest()

    def instruct(self, emotion: str, _: str = "") -> list[int]:
        """Return the ids of the instruction for an emotion; they end in <|endofprompt|>, once.

        CosyVoice has no names for speakers.

        Raises:
            UserError: the file has no instruction for the emotion.
        """
        return self._ids(self.instruction(emotion))

    @property
    def emotions(self) -> list[str]:
        """Emotions for which there is an instruction."""
        return list(self._instructions)

    def instruction(self, emotion: str) -> str:
        """Return what CosyVoice is told for an emotion.

        Raises:
            UserError: the file has no instruction for the emotion.
        """
        name = emotion_name(emotion)
        if name not in self._instructions:
            known = ", ".join(self._instructions)
            raise UserError(
                f"no instruction for {emotion!r}: {self._file} has {known}; copy it, add a line, "
                "and train with --set instructions=FILE, the copy"
            )
        return self._instructions[name]


def read_tokenizer(model: Path, version: int = 2, rows: int | None = None) -> Any:
    """Return `transformers`' tokenizer of a model folder, with the tokens CosyVoice adds.

    Raises:
        UserError: the folder has none, it is another's, or transformers is not installed.
    """
    folder = model / FOLDER if (model / FOLDER).is_dir() else model
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise UserError(
            "CosyVoice's tokenizer needs transformers: pip install 'rrpo[cosyvoice]'"
        ) from None
    if not any((folder / name).is_file() for name in ("vocab.json", "tokenizer.json")):
        raise UserError(
            f"{folder} holds no tokenizer: name a CosyVoice model folder ({FOLDER} in it)"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(  # type: ignore[no-untyped-call]
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # a damaged file raises whatever its content leads to
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"the tokenizer in {folder} cannot be read ({reason})") from None
    more = ADDED_3.read_text(encoding="utf-8").split()
    tokenizer.add_special_tokens(
        {
            "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
            "additional_special_tokens": [*ADDED, *(more if version == 3 else [])],
        }
    )
    found = tokenizer.convert_tokens_to_ids(END_OF_PROMPT)
    published = max(tokenizer.vocab_size, rows or 0) >= QWEN_WORDS
    if published and found != END_OF_PROMPT_ID:
        raise UserError(
            f"{folder}: {END_OF_PROMPT} has id {found} and not {END_OF_PROMPT_ID}: "
            "this is not CosyVoice's tokenizer, copy the folder again"
        )
    words = len(tokenizer)
    if FIRST_CODE in tokenizer.get_vocab():  # the Hugging Face form's, whose codes follow its text
        words = int(tokenizer.convert_tokens_to_ids(FIRST_CODE))
    if rows is not None and words > rows:
        raise UserError(
            f"{folder}: the tokenizer has {words} tokens and the LM {rows} rows of text: "
            "it belongs to another model"
        )
    return tokenizer


def _require_words(text: str) -> None:
    """Refuse a text that CosyVoice cannot take as words."""
    if not text.strip():
        raise UserError("the text is empty: give at least one word")
    shown = f"the text {text[:40]!r}"
    if not any(unicodedata.category(sign)[0] in "LN" for sign in text):
        raise UserError(f"{shown} has nothing to say: write at least one word")
    for mark in MARK.findall(text):
        if mark.startswith("<|") or mark not in ADDED:
            raise UserError(f"{shown} holds {mark}: leave it out")
    for mark in NOTE.findall(text):
        if mark.lower() in ADDED and mark not in ADDED:
            raise UserError(f"{shown} holds {mark}: write {mark.lower()}")
        if mark not in ADDED and mark.isupper():
            raise UserError(f"{shown} holds {mark}, a note and no speech: leave it out")


def _require_no_control(text: str, what: str) -> None:
    for mark in MARK.findall(text):
        if mark.startswith("<|"):
            raise UserError(f"{what} {text[:40]!r} holds {mark}: leave it out")


def read_instructions(path: Path, language: str, version: int) -> dict[str, str]:
    """Return emotion → instruction with the version's prefix and one end of prompt.

    Raises:
        UserError: the file lacks the language, or a line of it is no instruction.
    """
    content = configuration.read(path)
    table = content.get(language)
    if not isinstance(table, dict) or not table:
        raise UserError(
            f"{path} has no instructions for language {language!r}: "
            f"copy it, write `{language}:` with a line `emotion: instruction` each below it, and "
            "name the copy with --set instructions=FILE"
        )
    prefixes = content.get("prefix") or {}
    if isinstance(prefixes, dict):
        prefix = prefixes.get(version, prefixes.get(str(version), ""))
    else:
        prefix = prefixes
    if not isinstance(prefix, str) or END_OF_PROMPT in prefix:
        raise UserError(
            f"{path}: `prefix` needs a line of text for version {version}, without {END_OF_PROMPT}"
        )
    _require_no_control(prefix, f"{path}: the prefix")
    lines: dict[str, str] = {}
    for emotion, line in table.items():
        if not isinstance(line, str) or not line.removesuffix(END_OF_PROMPT).strip():
            raise UserError(f"{path}: {emotion!r} needs one line of text, what the model is told")
        told = line.rstrip().removesuffix(END_OF_PROMPT)
        if END_OF_PROMPT in told:
            raise UserError(f"{path}: {END_OF_PROMPT} must stand once, at the end of {emotion!r}")
        _require_no_control(told, f"{path}, {emotion!r}: the instruction")
        name = emotion_name(str(emotion))
        if name in lines:
            raise UserError(f"{path}: {emotion!r} is {name} again: keep one line for an emotion")
        if (line := prefix + told + END_OF_PROMPT) in lines.values():
            same = next(one for one, other in lines.items() if other == line)
            note(f"{path}: {name} has the instruction of {same}, so a policy cannot know which")
        lines[name] = line
    return lines
