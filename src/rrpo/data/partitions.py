"""Who is held out: by a corpus' own lists, by what a table says, or by turns."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from rrpo.data.catalogue import Corpus, folded, known_corpora
from rrpo.data.findings import Findings, first
from rrpo.data.manifest import PARTITIONS, TEST, Recording
from rrpo.data.speakers import Person, person, spreadsheet_notes
from rrpo.errors import UserError


def with_partitions(
    recordings: Sequence[Recording], found: Findings | None = None
) -> list[Recording]:
    """Give every recording its partition; those that are given stay.

    A speaker who has one somewhere has it everywhere. A corpus of `corpora.yaml` goes by its lists.
    Of any other the remaining speakers take turns (`in_order`), language by language. A recording
    whose speaker is unknown gets none.

    Args:
        found: takes what is to be said of it.

    Raises:
        UserError: partitions are given and are not ours, or divide a speaker, a corpus that goes by
            its lists has no such speaker, or see `check_speakers`.
    """
    notes = check_speakers(recordings)
    given = {_person(one): one.partition for one in recordings if one.partition and one.speaker}
    unlisted: dict[tuple[str, str], dict[Person, str]] = defaultdict(dict)
    for one in recordings:
        if one.speaker and not _rule(one.corpus) and _person(one) not in given:
            names = unlisted[one.corpus, one.language]
            names[_person(one)] = min(one.speaker, names.get(_person(one), one.speaker))
    turns: dict[Person, str] = {}
    for _, names in sorted(unlisted.items()):
        order = in_order(set(names.values()))
        # Who speaks several languages keeps the turn of the first.
        turns = {who: order[name] for who, name in names.items()} | turns
    renamed: dict[str, str] = {}
    divided = [
        replace(
            one,
            partition=one.partition
            or given.get(_person(one))
            or _listed_partition(one, renamed)
            or turns.get(_person(one), ""),
        )
        for one in recordings
    ]
    if found is not None:
        found.notes += [*notes, *_notes(divided, renamed)]
    return divided


def in_order(speakers: set[str]) -> dict[str, str]:
    """Give speakers turns by the order of their names: of every five, one validates and one tests.

    Three or four speakers count as one round; with fewer all are in train. Nothing but the names
    decides, so the same speakers are always divided in the same way.
    """
    turns = min(len(speakers), 5)
    if turns < 3:
        return dict.fromkeys(speakers, "train")
    places = {turns - 2: "validation", turns - 1: "test"}
    ordered = sorted(speakers)
    return {speaker: places.get(at % turns, "train") for at, speaker in enumerate(ordered)}


def listed(name: str, names: Iterable[str]) -> str:
    """Return the name of a list that another spelling means, or nothing.

    A table may say 11, 11.0 or Actor_11 where the list has 0011 or actor11: programs take a name of
    digits for a number.

    Examples:
        >>> listed("11.0", ["0011", "0012"]), listed("Actor_01", ["actor01"]), listed("x1", ["1"])
        ('0011', 'actor01', '')
    """
    names = list(names)
    plain = {folded(one): one for one in names}
    if folded(name) in plain:
        return plain[folded(name)]
    letters, number = _taken_apart(re.sub(r"\.0$", "", name))
    alike = [
        one
        for one in names
        if number >= 0
        and _taken_apart(one)[1] == number
        and _taken_apart(one)[0].startswith(letters)
    ]
    return alike[0] if len(alike) == 1 else ""


def _taken_apart(name: str) -> tuple[str, int]:
    """Return the letters of a name and its one number, -1 where there is not just one."""
    numbers = re.findall(r"[0-9]+", name)
    letters = "".join(sign for sign in folded(name) if sign.isalpha())
    return letters, int(numbers[0]) if len(numbers) == 1 else -1


def _person(one: Recording) -> Person:
    return person(one.corpus, one.speaker)


def _listed_partition(one: Recording, renamed: dict[str, str]) -> str:
    """Return the partition by the corpus' lists, nothing where they do not decide.

    Args:
        renamed: takes names that the lists spell otherwise.
    """
    corpus = _rule(one.corpus)
    if corpus is None:
        return ""
    rule = corpus.partitions
    if rule.by == "session":
        begin = re.match(r"[A-Za-z]+\d+", one.speaker)
        who = one.session or (begin[0] if begin else "")
        names: Sequence[str] = (*rule.validation, *rule.test)
    else:
        who, names = one.speaker, corpus.speakers.names
    if not who:
        return ""
    name = listed(who, names)
    if not name and rule.by == "speaker" and names:
        raise UserError(
            f"{one.path.name}: {corpus.title} has no speaker {who!r}: name its speakers as in "
            f"{first(names)}, or leave `corpus` empty, so that speakers take turns"
        )
    if name not in ("", who):
        renamed[who] = name
    return "validation" if name in rule.validation else "test" if name in rule.test else "train"


def _rule(name: str) -> Corpus | None:
    """Return the corpus whose lists decide, None where speakers take turns."""
    corpus = known_corpora().get(name)
    return None if corpus is None or corpus.partitions.by == "order" else corpus


def _notes(divided: Sequence[Recording], renamed: Mapping[str, str]) -> list[str]:
    """Return what is to be said: names taken for others, and that nobody is held out."""
    notes = []
    if renamed:
        pairs = first([f"{one} is {other}" for one, other in sorted(renamed.items())])
        notes.append(f"held out by the names of the corpus: {pairs}")
    spellings = defaultdict(set)
    for one in divided:
        spellings[_person(one)].add(one.speaker)
    if alike := [" and ".join(sorted(names)) for names in spellings.values() if len(names) > 1]:
        notes.append(f"speakers that differ in spelling alone share a partition: {first(alike)}")
    return notes + nobody_held_out(divided)


def nobody_held_out(recordings: Sequence[Recording]) -> list[str]:
    """Return what is to be said where nothing is kept for tests."""
    if any(one.partition == TEST for one in recordings):
        return []
    known = len({_person(one) for one in recordings if one.speaker})
    return [
        f"nobody is held out for tests (speakers that are named: {known}): a column `partition` "
        "may say who"
    ]


def check_speakers(recordings: Sequence[Recording]) -> list[str]:
    """Check that partitions that came with the data divide no speaker, by whatever name.

    Returns:
        what is to be said of their names.

    Raises:
        UserError: a partition is not ours, a speaker is in two, or a speaker's name stands there in
            two forms, one of them a spreadsheet's.
    """
    seen: dict[Person, Recording] = {}
    for one in recordings:
        if one.partition not in ("", *PARTITIONS):
            raise UserError(
                f"{one.place} is in the partition {one.partition!r}: "
                f"name one of {', '.join(PARTITIONS)}, or leave the column out"
            )
        other = seen.setdefault(_person(one), one) if one.partition else one
        if one.speaker and other.partition != one.partition:
            named = "" if one.speaker == other.speaker else f" (as {one.speaker})"
            raise UserError(
                f"speaker {other.speaker} is in {other.partition} and in {one.partition}{named}: "
                f"{other.place}, and {one.place}; a speaker belongs in one partition"
            )
    return spreadsheet_notes({one.speaker for one in recordings})
