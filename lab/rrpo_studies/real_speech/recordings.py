"""The recordings of a study on real speech: who speaks which language, and who is tested."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rrpo.data.catalogue import CLASSES
from rrpo.data.manifest import Recording, read_manifest
from rrpo.data.partitions import with_partitions
from rrpo.errors import UserError

NO_CLASS = "other"
"""Label of what belongs to no class: tokenizers hear it, nobody is trained or tested on it."""
LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]+)*")
"""A code of ISO 639, as in "de" or "zh-tw": one language under two names would pass for two."""


def read_recordings(
    manifests: Sequence[Path], most: int | None = None, first: int | None = None
) -> list[Recording]:
    """Read recordings with partitions, of one or several manifests.

    Args:
        manifests: files or their folders.
        most: how many of each speaker and emotion are taken; None: all.
        first: how many languages are taken, in the order of the alphabet; None: all.

    Raises:
        UserError: a manifest is named twice, a recording lacks its speaker or language or has an
            unknown emotion, a language is no code, a speaker speaks two languages or is in two
            partitions, there are fewer than two languages, or a language has nobody to train on or
            to test on.
    """
    if not manifests:
        raise UserError("name at least one manifest of `rrpo data import` with --data")
    if len({path.resolve() for path in manifests}) < len(manifests):
        raise UserError("a manifest is named twice: name each once with --data")
    # Of each manifest by itself: one without partitions does not undo those of the others.
    rows = [row for path in manifests for row in with_partitions(read_manifest(path))]
    for row in rows:
        _check(row)
    # Speakers of different corpora may bear the same name.
    rows = [
        replace(
            row,
            language=row.language.lower(),
            speaker=f"{row.corpus or row.language.lower()} {row.speaker}",
        )
        for row in rows
    ]
    with_partitions(rows)  # two manifests of one corpus must not divide a speaker
    _check_speakers(rows)
    kept = _few(rows, most, first)
    _check_languages(kept)
    return kept


def _check(row: Recording) -> None:
    """Refuse a recording that a study across languages has no use for."""
    if not row.speaker or not row.language:
        lacking = "speaker" if not row.speaker else "language"
        raise UserError(f"{row.path} has no {lacking}: this study needs it in the manifest")
    if not LANGUAGE.fullmatch(row.language.lower()):
        raise UserError(
            f"{row.path} has the language {row.language!r}: name it by its code, such as de"
        )
    if row.emotion not in (*CLASSES, NO_CLASS):
        raise UserError(
            f"{row.path} has the label {row.emotion!r}: name it one of {', '.join(CLASSES)}, "
            f"or {NO_CLASS} (`rrpo data import csv --label` renames)"
        )


def _check_speakers(rows: Sequence[Recording]) -> None:
    speaks: dict[str, str] = {}
    for row in rows:
        if speaks.setdefault(row.speaker, row.language) != row.language:
            raise UserError(
                f"speaker {row.speaker} speaks {speaks[row.speaker]} and {row.language}: this "
                "study tests languages on unseen people, leave one of them out"
            )


def _few(rows: Sequence[Recording], most: int | None, first: int | None) -> list[Recording]:
    """Return `most` recordings of each speaker and emotion in the `first` languages."""
    languages = sorted({row.language for row in rows})[:first]
    taken: Counter[tuple[str, str]] = Counter()
    kept = []
    for row in rows:
        key = (row.speaker, row.emotion)
        taken[key] += 1
        if row.language in languages and (most is None or taken[key] <= most):
            kept.append(row)
    return kept


def _check_languages(rows: Sequence[Recording]) -> None:
    languages = sorted({row.language for row in rows})
    if len(languages) < 2:
        raise UserError(f"only the language {languages[0]}: give manifests of two or more")
    for language in languages:
        tested = {row.partition == "test" for row in rows if row.language == language}
        if len(tested) < 2:
            raise UserError(
                f"the speakers of {language} are all tested or all trained on: "
                "it needs at least three speakers"
            )


def shared_emotions(recordings: Sequence[Recording]) -> list[str]:
    """Return the emotions that every language has, to train on and to test on, in alphabetic order.

    Raises:
        UserError: there are fewer than two.
    """
    of: dict[tuple[str, bool], set[str]] = {}
    for row in recordings:
        of.setdefault((row.language, row.partition == "test"), set()).add(row.emotion)
    shared = set.intersection(*of.values()) - {NO_CLASS}
    if len(shared) < 2:
        named = "; ".join(
            f"{language}{' for tests' if tested else ''}: {', '.join(sorted(found))}"
            for (language, tested), found in of.items()
        )
        raise UserError(f"the languages share fewer than two emotions ({named})")
    return sorted(shared)
