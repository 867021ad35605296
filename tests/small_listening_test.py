"""A listening test small enough to take in seconds: tones, and every kind of question."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from rrpo.audio import write
from rrpo.files import write_json
from rrpo.listen.design import DESIGN, SOUNDS, Design, Exclusion, Page, Question, Sound
from rrpo.listen.ratings import PageAnswers

SECONDS, RATE = 0.5, 16_000
QUESTIONS = [
    Question(
        name="e_mos",
        kind="scale",
        prompt="How well does it express the emotion?",
        labels={"1": "bad", "2": "poor", "3": "fair", "4": "good", "5": "excellent"},
    ),
    Question(
        name="cmos",
        kind="comparison",
        prompt="How much better is the second than the first?",
        low=-3.0,
        high=3.0,
        step=1.0,
        labels={"-3": "much worse", "0": "the same", "3": "much better"},
    ),
    Question(name="prefer", kind="preference", prompt="Which do you prefer?", tie=True),
    Question(
        name="emotion", kind="choice", prompt="What do you hear?", choices=["happy", "sad", "angry"]
    ),
    Question(name="clicks", kind="marks", prompt="Where do you hear a click or a pop?"),
    Question(name="number", kind="number", prompt="Which number is said?"),
]
VALUES: dict[str, Any] = {
    "e_mos": 4.5,
    "cmos": -2.0,
    "prefer": "same",
    "emotion": "sad",
    "clicks": [0.1, 0.25],
    "number": 7,
}
"""An answer to each."""


def write_test(folder: Path, orders: int = 4, seconds: float = SECONDS, **changed: Any) -> Design:
    """Write a test of two systems and four items, with its sounds; return its design."""
    (folder / SOUNDS).mkdir(parents=True)
    sounds = []
    for number in range(8):
        name = hashlib.sha256(str(number).encode()).hexdigest()[:12]
        time = np.arange(int(seconds * RATE)) / RATE
        tone = 0.2 * np.sin(2 * np.pi * 220 * (1 + number / 4) * time) * np.hanning(time.size)
        path = folder / SOUNDS / f"{name}.wav"
        write(path, tone.astype(np.float32), RATE)
        sounds.append(
            Sound(
                id=name,
                seconds=seconds,
                system="ours" if number % 2 else "theirs",
                item=f"item-{number // 2}",
                emotion="happy",
                source=f"runs/{number}.wav",
                sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                gain_db=0.0,
            )
        )
    ids = [sound.id for sound in sounds]
    text, happy = "The train leaves at noon.", {"text": "The door is open.", "emotion": "happy"}
    pages = [
        page("t1", "training", ids[:1], ["e_mos"], note="Attend to the voice alone.", text=text),
        page("p1", "test", ids[1:2], ["e_mos"], **happy),
        page("p2", "test", ids[2:4], ["cmos", "prefer"], text=text),
        page("p3", "test", ids[4:5], ["emotion", "clicks"]),
        page("a1", "attention", ids[5:6], ["number"], answer=7.0),
        page("p4", "repeat", ids[1:2], ["e_mos"], repeats="p1", **happy),
    ]
    names = [one.id for one in pages]
    values: dict[str, Any] = {
        "title": "How does it sound?",
        "seed": 0,
        "instructions": ["You hear short sentences.", "Rate how they are spoken."],
        "questions": QUESTIONS,
        "sounds": sounds,
        "pages": pages,
        "orders": [[names[0], *np.roll(names[1:], one).tolist()] for one in range(orders)],
        "systems": ["theirs", "ours"],
        "exclusion": Exclusion(),
        **changed,
    }
    design = Design(**values)
    write_json(folder / DESIGN, design.model_dump(mode="json"))
    return design


def page(name: str, role: Any, sounds: list[str], questions: list[str], **more: Any) -> Page:
    """Return a page."""
    return Page(id=name, role=role, sounds=sounds, questions=questions, **more)


def answered(design: Design, name: str, **changed: Any) -> PageAnswers:
    """Return an answer to all questions of a page."""
    (asked,) = (one for one in design.pages if one.id == name)
    values = {question: VALUES[question] for question in asked.questions} | changed
    return PageAnswers(page=name, values=values, seconds=2.5, plays=len(asked.sounds))
