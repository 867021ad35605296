"""The recordings of a study on real speech: who speaks which language, and who is tested."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rrpo.data.corpora import with_partitions
from rrpo.data.manifest import Recording, read_manifest
from rrpo.errors import UserError


def read_recordings(manifests: Sequence[Path], most: int | None = None) -> list[Recording]:
    """Read recordings with partitions, of one or several manifests.

    Raises:
        UserError: a recording lacks its speaker or language, there are fewer than two languages, or
            a language has nobody to train on or to test on.
    """
    if not manifests:
        raise UserError("name at least one manifest of `rrpo data import` with --data")
    rows = with_partitions([row for path in manifests for row in read_manifest(path)])
    for row in rows:
        if not row.speaker or not row.language:
            lacking = "speaker" if not row.speaker else "language"
            raise UserError(f"{row.path} has no {lacking}: this study needs it in the manifest")
    # Speakers of different corpora may bear the same name.
    rows = [replace(row, speaker=f"{row.corpus or row.language} {row.speaker}") for row in rows]
    taken: dict[tuple[str, str], int] = {}
    kept = []
    for row in rows:
        key = (row.speaker, row.emotion)
        taken[key] = taken.get(key, 0) + 1
        if most is None or taken[key] <= most:
            kept.append(row)
    languages = sorted({row.language for row in kept})
    if len(languages) < 2:
        raise UserError(f"only the language {languages[0]}: give manifests of two or more")
    for language in languages:
        tested = {row.partition == "test" for row in kept if row.language == language}
        if len(tested) < 2:
            raise UserError(
                f"the speakers of {language} are all tested or all trained on: "
                "it needs at least three speakers"
            )
    return kept


def shared_emotions(recordings: Sequence[Recording]) -> list[str]:
    """Return the emotions that every language has, in the order of the alphabet.

    Raises:
        UserError: there are fewer than two.
    """
    of: dict[str, set[str]] = {}
    for row in recordings:
        of.setdefault(row.language, set()).add(row.emotion)
    shared = set.intersection(*of.values())
    if len(shared) < 2:
        named = "; ".join(f"{language}: {', '.join(sorted(of[language]))}" for language in of)
        raise UserError(f"the languages share fewer than two emotions ({named})")
    return sorted(shared)
