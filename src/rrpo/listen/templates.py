"""What a listening test asks: its questions, and what the listener is told first."""

from collections.abc import Sequence
from dataclasses import dataclass

from rrpo.errors import UserError
from rrpo.listen.design import Question

FIVE = ("angry", "happy", "sad", "surprised", "fearful")
"""The emotions of the paper's test."""
LABELS = {"emotion": "E-MOS", "naturalness": "N-MOS", "comparison": "CMOS"}
"""What questions are called in tables."""
NUMBER = Question(
    name="number", kind="number", prompt="Which number? Please enter it.", low=0, high=99, step=1
)
"""The question of an attention check."""
PREPARE = [
    "Please wear headphones, sit in a quiet room, and set the volume with the first examples.",
    "Play each sound to its end before you answer; you may play it again.",
    "The first pages are examples.",
]
SCALE = "After them use the whole scale."
"""What is told besides where there is one."""
QUALITY = {"1": "bad", "2": "poor", "3": "fair", "4": "good", "5": "excellent"}
"""ITU-T P.800's words."""


@dataclass(frozen=True)
class Template:
    """A kind of test.

    Attributes:
        questions: of every page.
        task: what the listener is told to do.
        pairs: whether a page has two sounds, of two systems.
        tells_emotion: whether the page says which emotion is meant.
        needs_emotion: whether every sound needs one.
    """

    title: str
    questions: list[Question]
    task: list[str]
    pairs: bool = False
    tells_emotion: bool = True
    needs_emotion: bool = True


def template(name: str, emotions: Sequence[str] = FIVE) -> Template:
    """Return a template by its name.

    Args:
        emotions: what an identification chooses from.

    Raises:
        UserError: there is no such template.
    """
    templates = {
        "paper": _paper(),
        "mos": _mos(),
        "cmos": _cmos(),
        "preference": _preference(),
        "identification": _identification(emotions),
        "artifacts": _artifacts(),
    }
    if name not in templates:
        raise UserError(f"unknown template {name!r}: choose one of {', '.join(templates)}")
    return templates[name]


def _paper() -> Template:
    expressed = {
        "1": "not expressed",
        "2": "hardly",
        "3": "somewhat",
        "4": "well",
        "5": "fully expressed",
    }
    natural = {
        "1": "not natural",
        "2": "hardly",
        "3": "somewhat",
        "4": "mostly natural",
        "5": "wholly natural",
    }
    return Template(
        "Emotion and naturalness of speech",
        [
            Question(
                name="emotion",
                kind="scale",
                prompt="How well does the voice express the emotion that is named?",
                labels=expressed,
            ),
            Question(
                name="naturalness",
                kind="scale",
                prompt="How natural does the speech sound?",
                labels=natural,
            ),
        ],
        [
            "You will rate how well each voice expresses an emotion, and how natural it sounds.",
            "The two are asked apart: a strong emotion can sound unnatural, and plain speech can "
            "sound natural.",
        ],
    )


def _mos() -> Template:
    asked = Question(
        name="naturalness",
        kind="scale",
        prompt="How natural does the speech sound?",
        step=1.0,
        labels=QUALITY,
    )
    return Template(
        "Naturalness of speech",
        [asked],
        ["You will rate how natural each voice sounds."],
        tells_emotion=False,
        needs_emotion=False,
    )


def _cmos() -> Template:
    labels = {
        "-3": "much worse",
        "-2": "worse",
        "-1": "slightly worse",
        "0": "about the same",
        "1": "slightly better",
        "2": "better",
        "3": "much better",
    }
    asked = Question(
        name="comparison",
        kind="comparison",
        prompt="Compared with the first sound, the second is …",
        low=-3,
        high=3,
        step=1,
        labels=labels,
    )
    return Template(
        "Comparison of speech",
        [asked],
        [
            "You will hear two voices say the same words, and say how the second compares with the "
            "first: as natural speech, and in the emotion where one is named."
        ],
        pairs=True,
        needs_emotion=False,
    )


def _preference() -> Template:
    asked = Question(
        name="preference",
        kind="preference",
        prompt="Which of the two sounds is better?",
        tie=True,
    )
    return Template(
        "Preference between voices",
        [asked],
        [
            "You will hear two voices say the same words, and choose the better one: as natural "
            "speech, and in the emotion where one is named."
        ],
        pairs=True,
        needs_emotion=False,
    )


def _identification(emotions: Sequence[str]) -> Template:
    asked = Question(
        name="identification",
        kind="choice",
        prompt="Which emotion does the voice express?",
        choices=list(emotions),
    )
    return Template(
        "Emotions in speech",
        [asked],
        ["You will say which emotion each voice expresses, whatever the words say."],
        tells_emotion=False,
    )


def _artifacts() -> Template:
    asked = Question(
        name="artifacts",
        kind="marks",
        prompt="Mark every place where you hear a click, a pop or another sound that a mouth "
        "speaking does not make. Mark nothing if there is none.",
    )
    return Template(
        "Clicks and pops in speech",
        [asked],
        ["You will mark the places where something is heard that does not belong to speech."],
        tells_emotion=False,
        needs_emotion=False,
    )
