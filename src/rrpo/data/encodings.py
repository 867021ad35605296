"""Bytes of a text file to its characters: the encoding is found, and never guessed in silence."""

import codecs
import html
import re
from dataclasses import dataclass
from pathlib import Path

from rrpo.data.files import is_file, is_pointer
from rrpo.errors import UserError

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks and what they tell; that of UTF-32 begins as that of UTF-16 does."""
NO_TEXT = {
    b"PK\x03\x04": "an Excel workbook or a zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"PAR1": "a parquet file",
    b"RIFF": "a sound",
}
"""First bytes of what is given instead of a text."""
ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|#[0-9]{1,6}|#[xX][0-9A-Fa-f]{1,5});")
"""What web pages write for a sign."""
MACHINE = {
    r"^\s*(\{\s*[\"'].*\}|\[\s*[\"'].*[\"']\s*\])\s*$": "is a list or an object of a program",
    r"^\s*b(['\"]).*\1\s*$": "holds bytes as a program shows them",
    r"\d\s*-->\s*\d": "holds the times of subtitles",
    r"\[\d+[.:]\d+\s*[-\u2013>]+\s*\d+[.:]\d+\]": "holds the times of subtitles",
    r"\\[nrt]": "holds the sign of a line's end and not the end",
    r"%20|%[CE][0-9A-F]%[0-9A-F]{2}": "was written for a web address",
    r"^\s*\S+\.(wav|flac|mp3|ogg|opus)\s*$": "is the name of a sound file",
    r"\w\s*\|\s*\w": "holds several cells with | between them",
    r"^\s*\{\w+\}\s*$": "is a place that was to be filled",
}
"""How texts look that programs wrote, and what is said of them."""
SUSPECT = re.compile(r"[&{\[\\%|>]|b['\"]|\.(?:wav|flac|mp3|ogg|opus)")
"""What every text that `ENTITY` or `MACHINE` finds has in it somewhere."""
COMMON = 0.7
"""Share of characters that must be common ones of an encoding that cannot be told otherwise."""
SURE = 4
"""Korean letters from which on a text that could be Chinese as well is Korean."""


@dataclass(frozen=True)
class Text:
    """A text, the encoding that it is read in, and whether that was told by its looks alone."""

    content: str
    encoding: str
    guessed: bool = False


def read_text(file: Path, encoding: str = "", likely: str = "") -> Text:
    """Read a text file strictly.

    Tried in order: UTF-8, a byte order mark, UTF-16 without one, `likely`, and what the bytes
    look like (`guess`).

    Args:
        encoding: the only one that is tried, where the user names it.
        likely: what such files are written in where they are not Unicode.

    Raises:
        UserError: there is no such file, it is no text, or its encoding cannot be told.
    """
    if not is_file(file):
        raise UserError(f"no such file: {file}")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {file} ({error.strerror}): check who may read it") from None
    if is_pointer(file):
        raise UserError(f"{file} is a git-LFS pointer and not the file: run `git lfs pull`")
    for start, kind in NO_TEXT.items():
        if data.startswith(start):
            raise UserError(
                f"{file} is {kind} and no text: name a table in CSV and UTF-8, or save it so"
            )
    return _asked(data, encoding, file) if encoding else _found(data, likely, file)


def _asked(data: bytes, encoding: str, file: Path) -> Text:
    try:
        name = codecs.lookup(encoding).name
        return Text(data.decode("utf-8-sig" if name == "utf-8" else name), name)
    except (LookupError, ValueError) as error:
        raise UserError(f"{file} is not in the encoding {encoding} ({error})") from None


def _found(data: bytes, likely: str, file: Path) -> Text:
    marked = [name for mark, name in MARKS if data.startswith(mark)]
    if marked:
        tried = marked[:1]
    elif b"\0" in data:
        # The high bytes of Latin letters, digits and line ends are zero: they tell the order.
        even, odd = data[::2].count(0), data[1::2].count(0)
        tried = ["utf-16-le" if odd > even else "utf-16-be"]
    else:
        tried = ["utf-8", *([likely] if likely else [])]
    for name in tried:
        try:
            content = data.decode(name)
        except UnicodeDecodeError:
            continue
        if "\0" not in content:
            return Text(content, name)
    name = "" if marked or b"\0" in data else guess(data)
    if not name:
        raise UserError(
            f"{file} is no text in UTF-8, and its encoding cannot be told: save it as UTF-8, or of "
            "a table name it with --encoding, such as cp949"
        )
    return Text(data.decode(name), name, guessed=True)


def damage(text: str) -> str:
    """Say how a text was damaged before it came here; empty: it was not.

    Examples:
        >>> damage("Itâ€™s cafÃ©"), damage("Ça va, ½ Ä")
        ("was read in a wrong encoding once, it should be 'It’s café'", '')
        >>> damage("caf\\ufffd"), damage("R&amp;B")
        ('has lost a sign (U+FFFD)', "was written for a web page, it should be 'R&B'")
        >>> damage("['It', 'is']"), damage("[breath] I don't know. [laughter]")
        ('is a list or an object of a program', '')
    """
    if "\ufffd" in text:
        return "has lost a sign (U+FFFD)"
    if not text.isascii():
        try:
            repaired = b"".join(map(_western, text)).decode("utf-8")
        except (UnicodeDecodeError, ValueError):
            repaired = text
        if repaired != text:
            return f"was read in a wrong encoding once, it should be {repaired[:40]!r}"
    if not SUSPECT.search(text):  # of millions of texts next to all
        return ""
    if ENTITY.search(text):
        return f"was written for a web page, it should be {html.unescape(text)[:40]!r}"
    return next((said for form, said in MACHINE.items() if re.search(form, text)), "")


def _western(sign: str) -> bytes:
    """Return the byte that was read as a sign of CP1252, or of Latin-1 where that has none."""
    try:
        return sign.encode("cp1252")
    except UnicodeEncodeError:
        return bytes([ord(sign)])  # a ValueError above 255


def guess(data: bytes) -> str:
    """Return gb18030, cp949 or cp1252 where bytes look like one of them, or else nothing.

    Bytes of Chinese stand in pairs and make common signs; those of Western languages stand alone
    between letters. All letters of Korean lie in one part of the Chinese table, which no Chinese
    text keeps to.

    Examples:
        >>> guess("今天天气很好".encode("gb2312")), guess("Straße, café".encode("cp1252"))
        ('gb18030', 'cp1252')
        >>> guess("오늘 날씨가 좋습니다".encode("cp949")), guess("天氣".encode("big5"))
        ('cp949', '')
    """
    runs = [len(run) for run in re.findall(rb"[\x80-\xff]+", data)]
    if runs.count(1) * 2 > len(runs) and _decodes(data, "cp1252"):
        return "cp1252"
    if not _decodes(data, "gb18030"):
        return ""
    signs = [sign for sign in data.decode("gb18030") if not sign.isascii()]
    codes = [sign.encode("gb18030") for sign in signs]
    korean = [code[0] for code in codes if len(code) == 2 and code[0] >= 0xB0]
    if len(korean) >= SURE and max(korean) <= 0xC8 and _decodes(data, "cp949"):
        return "cp949"
    common = sum(map(_is_common, codes))
    return "gb18030" if common >= COMMON * len(codes) else ""


def _is_common(code: bytes) -> bool:
    """Say whether a sign is a mark or a number, one of the 3,755 of GB2312, or a rare one of four.

    Rare signs of four bytes do not come about from the bytes of another encoding.
    """
    if len(code) == 4:
        return True
    in_pairs = len(code) == 2 and code[1] >= 0xA1
    return in_pairs and (0xA1 <= code[0] <= 0xA3 or 0xB0 <= code[0] <= 0xD7)


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
