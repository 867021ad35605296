import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrpo.emotions import EMOTIONS
from rrpo.errors import UserError
from rrpo.mini.text import (
    LONGEST,
    SPEAKERS,
    PhoneTokenizer,
    all_symbols,
    number_words,
    read_letters,
)

TOKENIZER = PhoneTokenizer()


def spoken(text: str) -> str:
    """The symbols of a text, joined."""
    return "".join(TOKENIZER.symbols[index] for index in TOKENIZER.encode(text))


def test_order_of_the_ids_is_stored_and_fixed() -> None:
    assert TOKENIZER.symbols == tuple(all_symbols())
    assert len(set(TOKENIZER.symbols)) == TOKENIZER.vocabulary_size == 91
    assert TOKENIZER.symbols[:6] == (" ", ",", ".", "?", "<|endofprompt|>", "<|neutral|>")


def test_sentence() -> None:
    assert spoken("The train to Boston leaves at noon.") == "ðə tɹˈAn tə bˈɔstən lˈivz æt nˈun."


def test_stress_is_part_of_the_vowel() -> None:
    symbols = [TOKENIZER.symbols[index] for index in TOKENIZER.encode("window")]
    assert symbols == ["w", "ˈɪ", "n", "d", "O", "."]


def test_instruction() -> None:
    found = [TOKENIZER.instruct(emotion) for emotion in EMOTIONS]
    assert len({emotion for emotion, _ in found}) == len(EMOTIONS)
    assert {TOKENIZER.symbols[end] for _, end in found} == {"<|endofprompt|>"}
    with pytest.raises(UserError, match="unknown emotion 'bored'"):
        TOKENIZER.instruct("bored")


def test_a_known_speaker_is_asked_for_and_another_is_not() -> None:
    plain = TOKENIZER.instruct("sad")
    named = [TOKENIZER.instruct("sad", speaker) for speaker in SPEAKERS]
    assert all(found[1:] == plain for found in named)
    assert [TOKENIZER.symbols[found[0]] for found in named] == [f"<|{name}|>" for name in SPEAKERS]
    assert TOKENIZER.instruct("sad", "somebody") == plain


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Anna came at noon", "anna came at noon."),
        ("ANNA CAME AT NOON!", "anna came at noon."),
        ("Anna came, at noon...", "anna came , at noon."),
        ("Anna came — at noon,", "anna came, at noon."),
        ("“Anna” came (at noon)", "anna came at noon"),
        ("Ännà came at noon", "anna came at noon"),
        ("anna came at noon?!", "anna came at noon?"),
        ("... anna came at noon", "anna came at noon"),
        ("1,250 maps", "one thousand two hundred fifty maps"),
        ("It’s 7", "it's seven"),
        ("It´s 7", "it's seven"),
        ("-5 degrees", "minus five degrees"),
        ("It is −5 (or -6).", "it is minus five or minus six"),
        ("“-5” and F-16, twenty-two", "minus five and f sixteen, twenty two"),
        ("Agent 007", "agent zero zero seven"),
        ("1 000 maps", "one zero zero zero maps"),
        ("In 1990 — 5 years later", "in one thousand nine hundred ninety, five years later"),
    ],
)
def test_ways_to_write_the_same(text: str, same: str) -> None:
    assert TOKENIZER.encode(text) == TOKENIZER.encode(same)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, "zero"),
        (17, "seventeen"),
        (40, "forty"),
        (99, "ninety nine"),
        (300, "three hundred"),
        (805_012, "eight hundred five thousand twelve"),
    ],
)
def test_numbers(number: int, expected: str) -> None:
    assert " ".join(number_words(str(number))) == expected


@given(st.integers(0, 999_999))
def test_numbers_are_told_apart(number: int) -> None:
    def value(said: list[str]) -> int:
        total = 0
        for word in said:
            if word == "thousand":
                total *= 1000
            elif word == "hundred":
                total += total % 1000 * 99
            else:
                units = [
                    n for n in (*range(20), *range(20, 100, 10)) if number_words(str(n)) == [word]
                ]
                total += units[0]
        return total

    assert value(number_words(str(number))) == number


@pytest.mark.parametrize(
    ("word", "phones"),
    [
        ("lamps", "lˈæmps"),
        ("sofas", "sˈOfəz"),
        ("churches", "ʧˈɜɹʧᵻz"),
        ("sister's", "sˈɪstəɹz"),
        ("printing", "pɹˈɪntɪŋ"),
        ("dancing", "dˈænsɪŋ"),
        ("stopping", "stˈɑpɪŋ"),
        ("plainly", "plˈAnli"),
    ],
)
def test_inflections_of_known_words(word: str, phones: str) -> None:
    assert word not in TOKENIZER.words
    assert TOKENIZER.pronounce(word) == phones


@pytest.mark.parametrize(
    ("word", "phones"),
    [
        ("blick", "blˈɪk"),
        ("plome", "plˈOm"),
        ("gippy", "ʤˈɪpi"),
        ("cenny", "sˈɛni"),
        ("yoth", "jˈɑθ"),
        ("tv", "tˈivˈi"),
        ("fation", "fˈæʃən"),
    ],
)
def test_letter_to_sound(word: str, phones: str) -> None:
    assert read_letters(word) == phones


@given(st.text("abcdefghijklmnopqrstuvwxyz' ,.?!-", min_size=1, max_size=80))
def test_any_letters_can_be_read(text: str) -> None:
    if not any(sign.isalpha() for sign in text):
        with pytest.raises(UserError, match="nothing to say"):
            TOKENIZER.encode(text)
        return
    ids = TOKENIZER.encode(text)
    assert all(0 <= index < TOKENIZER.vocabulary_size for index in ids)
    assert TOKENIZER.symbols[ids[-1]] in ".?"
    assert TOKENIZER.symbols[ids[0]] not in " ,.?"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing to say"),
        (" ...?! ", "nothing to say"),
        ("call @ noon", "cannot read '@'"),
        ("你好", "cannot read '你'"),
        ("at 10:30", "cannot read '10:30'"),
        ("3.5 miles", "cannot read '3.5'"),
        ("the 3rd door", "cannot read '3rd'"),
        ("it is .5 m away", "cannot read '.5'"),
        ("from -.5 to zero", "cannot read '-.5'"),
        ("1/2 of it", "cannot read '1/2'"),
        ("½ of it", "cannot read '½'"),
        ("50% of it", "cannot read '%'"),
        ("$5 or 5 €", r"cannot read '\$'"),
        ("20 °C", "cannot read '°'"),
        ("20℃", "cannot read '℃'"),
        ("10² is not 102", "cannot read '²'"),
        ("H₂O", "cannot read '₂'"),
        ("№ 5", "cannot read '№'"),
        ("chapter Ⅳ", "cannot read 'Ⅳ'"),
        ("rows 10-12", "cannot read '10-12'"),
        ("rows 10–12", "cannot read '10–12'"),
        ("7 - 3 is four", "cannot read '7 - 3'"),
        ("he is 5'10", 'cannot read "5\'10"'),
        ("1,50 a piece", "cannot read '1,50'"),
        ("oh [laughter] no", r"cannot read '\[laughter\]' aloud: write it in words, without"),
        ("a+b", r"cannot read '\+'"),
        ("A & B", "cannot read '&'"),
        ("a zero\u200bwidth", r"cannot read '\\u200b'"),
        ("call 0123456789", "cannot read 0123456789 aloud"),
        ("1000000 steps", "above 999999"),
        ("1" * 5000, "cannot read 11111111111111111111… aloud.*above 999999"),
        ("the cat sat " * 60, f"at most {LONGEST}"),
    ],
)
def test_texts_that_cannot_be_spoken(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        TOKENIZER.encode(text)
    assert "\n" not in str(caught.value)
