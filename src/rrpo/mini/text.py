"""Text to ids for the mini world's language model: one id for each phone.

Phones are the packaged voice's own alphabet (misaki's: one character a phone, A I O W Y the
diphthongs of say, my, go, now, boy). A stress mark is merged with the vowel it precedes, so that
a word costs as few ids as it has phones. The bundled lexicon holds one form for each word; words
outside it are inflections of words inside, or are read by small letter-to-sound rules, roughly.
"""

import re
import unicodedata
from importlib import resources
from pathlib import Path

from rrpo.emotions import EMOTIONS, emotion_index
from rrpo.errors import UserError
from rrpo.files import read_json

LONGEST = 300
"""Most ids of one text."""
BOUNDARY, COMMA, STOP, QUESTION = " ", ",", ".", "?"
END_OF_PROMPT = "<|endofprompt|>"
SPEAKERS = ("cedar", "maple", "hazel", "willow")
"""Voices that the base policy can be asked for, besides the packaged one, which goes unnamed."""
STRESSED_VOWELS = "AIOWYiuæɑɔəɛɜɪʊʌ"
"""Vowels that also come with primary and secondary stress."""
WEAK_VOWELS = "ɐᵊᵻ"
CONSONANTS = "bdfhjklmnpstvwzðŋɡɹʃʒʤʧθT"

LETTERS: dict[str, str] = {
    **{"a": "ˈA", "b": "bˈi", "c": "sˈi", "d": "dˈi", "e": "ˈi", "f": "ˈɛf", "g": "ʤˈi"},
    **{"h": "ˈAʧ", "i": "ˈI", "j": "ʤˈA", "k": "kˈA", "l": "ˈɛl", "m": "ˈɛm", "n": "ˈɛn"},
    **{"o": "ˈO", "p": "pˈi", "q": "kjˈu", "r": "ˈɑɹ", "s": "ˈɛs", "t": "tˈi", "u": "jˈu"},
    **{"v": "vˈi", "w": "dˈʌbᵊljˌu", "x": "ˈɛks", "y": "wˈI", "z": "zˈi"},
}
"""Names of the letters, for words without a vowel."""

SPELLINGS: dict[str, str] = {
    **{"ture": "ʧəɹ", "ue": "u"},  # codespell:ignore
    **{"tion": "ʃən", "sion": "ʒən", "ight": "It", "eigh": "A", "augh": "ɔ"},
    **{"ough": "O", "tch": "ʧ", "dge": "ʤ", "igh": "I", "eer": "ɪɹ", "air": "ɛɹ", "our": "Wɹ"},
    **{"oor": "ɔɹ", "ch": "ʧ", "sh": "ʃ", "th": "θ", "ph": "f", "wh": "w", "ck": "k", "ng": "ŋ"},
    **{"qu": "kw", "gh": "ɡ", "kn": "n", "wr": "ɹ", "ai": "A", "ay": "A", "ee": "i", "ea": "i"},
    **{"ie": "i", "ei": "i", "ey": "i", "oa": "O", "oe": "O", "oo": "u", "ou": "W", "ow": "O"},
    **{"oi": "Y", "oy": "Y", "au": "ɔ", "aw": "ɔ", "ew": "u", "ui": "u", "ar": "ɑɹ"},
    **{"or": "ɔɹ", "er": "əɹ", "ir": "ɜɹ", "ur": "ɜɹ", "a": "æ", "b": "b", "c": "k", "d": "d"},
    **{"e": "ɛ", "f": "f", "g": "ɡ", "h": "h", "i": "ɪ", "j": "ʤ", "k": "k", "l": "l", "m": "m"},
    **{"n": "n", "o": "ɑ", "p": "p", "q": "k", "r": "ɹ", "s": "s", "t": "t", "u": "ʌ", "v": "v"},
    **{"w": "w", "x": "ks", "y": "ɪ", "z": "z"},
}
"""Letter-to-sound rules; the longest spelling that fits is taken."""
LONG_VOWELS = dict(zip("aeiouy", "AiIOuI", strict=True))

SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen"),
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")

PHONE = re.compile("[ˈˌ]?.")
PIECE = re.compile(
    r"([a-z]+(?:'[a-z]+)*)|(\d+)|([,;:\u2014\u2013])|([.!\u2026])|(\?)|[\s\"'()\[\]-]"
)
MINUS = re.compile(r"(?<![^\s\"'(\[\u201c])[-\u2212](?=\d)")
"""A minus before a number; after a letter or a digit it is a hyphen."""
JOINED = re.compile(
    r"\d+[.:,/]\d+|\d+[a-z]+|[a-z]+\d+|\d+(?:[-\u2013]| - )\d+|\d+'+\d+|(?:^|[^\w.,])[.,]\d+"
)
"""Numbers that are more than their digits: 3.5, 1/2, 10-12, 5'10, .5."""
WORDS = "write it in words"
SYMBOLS = ("No", "Nl", "So", "Sc", "Sm", "Sk")
"""Kinds of signs that stand for words: numbers that are no digits, symbols of any kind."""


class PhoneTokenizer:
    """Turns English text into phone ids, and an emotion into its instruction.

    Attributes:
        symbols: what each id stands for; the order is stored with the lexicon.
        vocabulary_size: number of ids.
    """

    def __init__(self) -> None:
        content = read_json(bundled_lexicon())
        self.symbols: tuple[str, ...] = tuple(content["symbols"])
        self.words: dict[str, str] = dict(content["words"])
        self._ids = {symbol: index for index, symbol in enumerate(self.symbols)}

    @property
    def vocabulary_size(self) -> int:
        """Number of ids; every id is below it."""
        return len(self.symbols)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text: phones, word boundaries, commas and end marks.

        Case and accents do not matter; exclamation marks count as full stops; a text that ends
        without a mark gets a full stop. Whole numbers up to 999999 are read as words, those that
        begin with zeros digit by digit, and a minus before them, too.

        Raises:
            UserError: the text is empty, has no letter or number, holds a sign that cannot be
                read, or gives more than 300 ids.
        """
        ids = [self._ids[symbol] for symbol in self._symbols(text)]
        if len(ids) > LONGEST:
            raise UserError(
                f"the text gives {len(ids)} phones, at most {LONGEST} can be spoken at once: "
                "split it into sentences"
            )
        return ids

    def instruct(self, emotion: str, speaker: str = "") -> list[int]:
        """Return the instruction that asks for an emotion: its id, then end of prompt.

        The id of the speaker comes first, if it is one of `SPEAKERS`; any other has none.

        Raises:
            UserError: the emotion is unknown.
        """
        asked = [symbol(speaker)] if speaker in SPEAKERS else []
        asked.append(symbol(EMOTIONS[emotion_index(emotion)]))
        return [self._ids[name] for name in (*asked, END_OF_PROMPT)]

    def pronounce(self, word: str) -> str:
        """Return the phones of a word in lower case, from the lexicon or by rule."""
        if word in self.words:
            return self.words[word]
        return _inflect(word, self.words) or read_letters(word.replace("'", ""))

    def _symbols(self, text: str) -> list[str]:
        """Return the symbols of a text."""
        symbols: list[str] = []
        for piece in _pieces(text):
            if piece in (COMMA, STOP, QUESTION):
                # Of marks in a row the strongest counts, and none opens a text.
                if symbols and symbols[-1] in (COMMA, STOP, QUESTION):
                    symbols[-1] = max(symbols[-1], piece, key=(COMMA, STOP, QUESTION).index)
                elif symbols:
                    symbols.append(piece)
                continue
            if symbols and symbols[-1] not in (COMMA, STOP, QUESTION):
                symbols.append(BOUNDARY)
            symbols.extend(PHONE.findall(self.pronounce(piece)))
        if not symbols:
            raise UserError(f"the text {text[:40]!r} has nothing to say: write at least one word")
        if symbols[-1] == COMMA:
            symbols[-1] = STOP
        elif symbols[-1] not in (STOP, QUESTION):
            symbols.append(STOP)
        return symbols


def bundled_lexicon() -> Path:
    """Return the path of the lexicon that comes with the package."""
    return Path(str(resources.files("rrpo.mini") / "assets" / "lexicon.json"))


def symbol(name: str) -> str:
    """Return the symbol of an emotion's or a speaker's id.

    Examples:
        >>> symbol("sad")
        '<|sad|>'
    """
    return f"<|{name}|>"


def all_symbols() -> list[str]:
    """Return every symbol in the order of the ids."""
    stressed = [mark + vowel for vowel in STRESSED_VOWELS for mark in ("", "ˈ", "ˌ")]
    return [
        *(BOUNDARY, COMMA, STOP, QUESTION, END_OF_PROMPT),
        *(symbol(name) for name in (*EMOTIONS, *SPEAKERS)),
        *CONSONANTS,
        *WEAK_VOWELS,
        *stressed,
    ]


def _pieces(text: str) -> list[str]:
    """Split a text into words in lower case and the marks `,`, `.` and `?`."""
    plain = re.sub("[\u2018\u2019\u00b4`]", "'", text)
    plain = MINUS.sub("minus ", plain)
    # Before they are made of letters and digits: 10² is no 102, and № is no "no".
    if note := re.search(r"\[[^\W\d][\w -]{2,40}\]", plain):
        raise UserError(f"cannot read {note[0]!r} aloud: write it in words, without brackets")
    odd = next((sign for sign in plain if unicodedata.category(sign) in SYMBOLS), None)
    if odd is not None:
        raise UserError(f"cannot read {odd!r} aloud: {WORDS}")
    plain = unicodedata.normalize("NFKD", plain)
    plain = "".join(sign for sign in plain if not unicodedata.combining(sign)).lower()
    plain = re.sub("[\u201c\u201d]", '"', plain)
    plain = re.sub(r"(?<=\d),(?=\d{3}\b)", "", plain)
    joined = JOINED.search(plain)
    if joined:
        raise UserError(f"cannot read {joined[0].strip()!r} aloud: {WORDS}")
    pieces: list[str] = []
    position = 0
    while position < len(plain):
        match = PIECE.match(plain, position)
        if match is None:
            hidden = unicodedata.category(plain[position]) == "Cf"  # as U+200B
            cure = "leave it out" if hidden else WORDS
            raise UserError(f"cannot read {plain[position]!r} aloud: {cure}")
        word, number, comma, stop, question = match.groups()
        if word:
            pieces.append(word)
        elif number:
            pieces.extend(number_words(number))
        elif comma or stop or question:
            pieces.append(COMMA if comma else STOP if stop else QUESTION)
        position = match.end()
    return pieces


def number_words(digits: str) -> list[str]:
    """Return the words of a whole number; of one that begins with zeros those of its digits.

    Raises:
        UserError: it is above 999999, or has over six digits.

    Examples:
        >>> number_words("1342")
        ['one', 'thousand', 'three', 'hundred', 'forty', 'two']
    """
    if len(digits) > 1 and digits.startswith("0"):  # 007, or the end of 1 000
        if len(digits) > len("999999"):
            raise UserError(f"cannot read {digits[:20]} aloud: {WORDS}")
        return [SMALL[int(digit)] for digit in digits]
    # The digits are counted first: Python refuses to make a number of some thousand.
    if len(digits.lstrip("0")) > len("999999"):
        shown = digits if len(digits) <= 20 else f"{digits[:20]}…"
        raise UserError(f"cannot read {shown} aloud: write numbers above 999999 in words")
    return _number_words(int(digits))


def _number_words(number: int) -> list[str]:
    if number < 20:
        return [SMALL[number]]
    if number < 100:
        return [TENS[number // 10 - 2], *(_number_words(number % 10) if number % 10 else [])]
    size, name = (1000, "thousand") if number >= 1000 else (100, "hundred")
    rest = _number_words(number % size) if number % size else []
    return [*_number_words(number // size), name, *rest]


def _inflect(word: str, lexicon: dict[str, str]) -> str | None:
    """Return the phones of a regular inflection of a word in the lexicon, or nothing."""
    for ending in ("'s", "s'", "es", "s", "ed", "ing", "ly", "er"):
        if not word.endswith(ending) or len(word) - len(ending) < 2:
            continue
        stem = word.removesuffix(ending)
        forms = [stem, stem + "e"]
        if stem[-1] == stem[-2]:
            forms.append(stem[:-1])
        if stem[-1] == "i":
            forms.append(stem[:-1] + "y")
        known = next((form for form in forms if form in lexicon), None)
        if known is not None:
            return lexicon[known] + _ending_phones(ending, lexicon[known][-1])
    return None


def _ending_phones(ending: str, before: str) -> str:
    """Return the phones of an ending after the phone `before`."""
    if ending in ("'s", "s'", "es", "s"):
        if before in "szʃʒʧʤ":
            return "ᵻz"
        return "s" if before in "ptkfθ" else "z"
    if ending == "ed":
        if before in "td":
            return "ᵻd"
        return "t" if before in "pkfsʃʧθ" else "d"
    return {"ing": "ɪŋ", "ly": "li", "er": "əɹ"}[ending]


def read_letters(word: str) -> str:
    """Return a rough pronunciation of a word by its letters a to z, stressed on its first vowel.

    Examples:
        >>> read_letters("blick"), read_letters("plome"), read_letters("tv")
        ('blˈɪk', 'plˈOm', 'tˈivˈi')
    """
    if not re.search("[aeiouy]", word) or len(word) == 1:
        return "".join(LETTERS[letter] for letter in word)
    phones = ""
    position = 0
    while position < len(word):
        long = re.match(r"([aeiouy])([bcdfgklmnpstvz])e$", word[position:])
        if long:
            phones += LONG_VOWELS[long[1]]
            position += 1
            continue
        ahead = (word[position : position + n] for n in (5, 4, 3, 2, 1))
        size = len(next(spelling for spelling in ahead if spelling in SPELLINGS))
        phones += _spelling(word, position, size)
        # A doubled consonant is one sound.
        doubled = size == 1 and word[position : position + 2] == word[position] * 2
        position += size + (1 if doubled and word[position] not in "aeiou" else 0)
    return re.sub(f"([{STRESSED_VOWELS}])", "ˈ\\1", phones, count=1)


def _spelling(word: str, position: int, size: int) -> str:
    """Return the phones of the spelling of `size` letters at a position of a word."""
    spelling = word[position : position + size]
    after = word[position + 1 : position + 2]
    last = position + size == len(word)
    others = re.search("[aeiouy]", word[:position])
    if spelling == "e" and last and others:
        return ""
    if spelling == "y":
        if position == 0 and after and after in "aeiou":
            return "j"
        return ("i" if others else "I") if last else "ɪ"
    if spelling in ("c", "g") and after and after in "eiy":
        return "s" if spelling == "c" else "ʤ"
    if last and spelling in LONG_VOWELS:
        return {"a": "ə", "o": "O", "i": "i", "u": "u", "e": "i"}[spelling]
    return SPELLINGS[spelling]
