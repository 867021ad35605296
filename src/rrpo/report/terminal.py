"""The results of a demo, and what an import found, as tables on the terminal."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rrpo.data.catalogue import known_corpora
from rrpo.data.corpora import Imported
from rrpo.data.findings import first
from rrpo.data.manifest import PARTITIONS, Recording
from rrpo.interval import MISSING, Interval, cell, read_interval
from rrpo.measures import BY_KEY, figure_of, measures_in, quality_measures, section
from rrpo.report.differences import LESS
from rrpo.report.forgetting import forgetting_table
from rrpo.report.numbers import narrow_ends


def print_table(results: Mapping[str, Any], console: Console) -> None:
    """Print what matters most of a demo's systems, and its reward models, in 80 columns."""
    entries = {"real tokens": results["reference"], **results["systems"]}
    scorers = quality_measures(entries.values())
    scorers.sort(key=lambda measure: measure.key != "quality.distillmos")
    keys = ("judge_probability", "content_error", "artifacts_per_second", "kl")
    measures = [BY_KEY[key] for key in keys if any(figure_of(e, key) for e in entries.values())]
    measures[1:1] = scorers[:1]
    title = "Mean with 95 % interval over sentences; labels are synthetic"
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("system")
    for measure in measures:
        table.add_column(measure.title, justify="right")
    for name, entry in entries.items():
        cells = (_two_lines(figure_of(entry, measure.key)) for measure in measures)
        table.add_row(escape(name.replace("_", " ")), *cells)
    console.print(table)
    table = Table(title="Reward models: accuracy by test set")
    table.add_column("reward model")
    sets = list(next(iter(results["reward_models"].values()))["accuracy"])
    for name in sets:
        table.add_column(name, justify="right")
    for name, figures in results["reward_models"].items():
        table.add_row(name, *(cell(read_interval(figures["accuracy"][test])) for test in sets))
    console.print(table)


def _two_lines(value: Interval | None) -> str:
    """Write the mean, and the ends of its interval below it."""
    if value is None:
        return MISSING
    return f"{value.mean:.2f}\n{narrow_ends(value)}".rstrip()


def print_systems(
    systems: Mapping[str, Mapping[str, Any]],
    console: Console,
    rewards: Sequence[str] = (),
    synthetic: bool = True,
) -> None:
    """Print systems side by side, each figure as its mean with the 95 % interval.

    Args:
        rewards: names of the reward models whose scores are printed, besides a system's own.
        synthetic: whether the labels are those of the mini world.
    """
    said = "; labels are synthetic" if synthetic else ""
    table = Table(title=f"Mean with 95 % interval over sentences{said}")
    table.add_column("measure")
    for name in systems:
        table.add_column(name, justify="right")
    for name in rewards:  # a name may hold a dot
        scores = [section(system, "rewards").get(name) for system in systems.values()]
        table.add_row(
            escape(f"log p of the emotion, {name}"), *(cell(read_interval(one)) for one in scores)
        )
    for title, gaps in _gaps(systems.values(), rewards):
        table.add_row(escape(title), *map(cell, gaps))
    for measure in measures_in(systems.values()):
        found = (figure_of(system, measure.key) for system in systems.values())
        table.add_row(measure.title, *map(cell, found))
    console.print(table)
    _print_differences(systems, rewards, console)


def _print_differences(
    systems: Mapping[str, Mapping[str, Any]], rewards: Sequence[str], console: Console
) -> None:
    """Print the policies less the first one, where there are several."""
    told = {
        name: (key, section(system, key))
        for name, system in systems.items()
        for key in system
        if key.startswith(LESS)
    }
    if not told:
        return
    first = next(iter(told.values()))[0]
    table = Table(title=escape(f"{first[:1].upper()}{first[1:]}, paired by sentence"))
    table.add_column("measure")
    for name in told:
        table.add_column(name, justify="right")
    shown = [(f"rewards.{name}", escape(f"log p of the emotion, {name}")) for name in rewards]
    shown += [(one.key, one.title) for one in measures_in([systems[name] for name in told])]
    for key, title in shown:
        gaps = [read_interval(found.get(key)) for _, found in told.values()]
        if any(gap is not None for gap in gaps):
            table.add_row(title, *(cell(gap, "+.3f") for gap in gaps))
    console.print(table)


def _gaps(
    systems: Iterable[Mapping[str, Any]], rewards: Sequence[str]
) -> Iterator[tuple[str, list[Interval | None]]]:
    """Yield the rows of the recodec audit: of all utterances and by emotion, each reward model."""
    systems = list(systems)
    for key, where in (("recodec", ""), ("recodec_matching", ", matching voice")):
        for name in rewards:
            each = [section(section(system, key), name) for system in systems]
            for group in dict.fromkeys(group for gaps in each for group in gaps):
                title = f"recodec gap{where}, {name}, {group}"
                yield title, [read_interval(gaps.get(group)) for gaps in each]


def print_forgetting(report: Mapping[str, Any], console: Console) -> None:
    """Print what a policy forgot, a row for each group of texts."""
    columns, rows = forgetting_table(report)
    title = "Against the base; in brackets what the base does"
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("texts")
    for column in columns:
        table.add_column(column, justify="right")
    for name, cells in rows:
        table.add_row(escape(name), *(escape(one.replace(" [", "\n[")) for one in cells))
    console.print(table)


def print_rows(
    title: str,
    columns: Sequence[str],
    rows: Iterable[tuple[str, Sequence[str]]],
    console: Console,
) -> None:
    """Print a table with a row for each name and its cells."""
    table = Table("", *columns, title=title)
    for name, cells in rows:
        table.add_row(escape(name), *map(escape, cells))
    console.print(table)


def print_imported(imported: Imported, name: str, console: Console) -> None:
    """Print a corpus' licence, its recordings by emotion, by speaker and partition, and the rest.

    Args:
        name: of the corpus; of a csv the corpora that its own column names are printed.
    """
    recordings, known = imported.recordings, known_corpora()
    named = sorted({one.corpus for one in recordings if one.corpus in known}) or [name]
    for corpus in (known[one] for one in named):
        console.print(escape(f"{corpus.title}. Licence: {corpus.licence}."))
        console.print(escape(f"Cite: {corpus.citation}."))
    console.print(by_emotion(recordings))
    for partition in [*PARTITIONS, ""]:
        chosen = [one for one in recordings if one.partition == partition]
        counts = Counter(one.speaker or "speaker unknown" for one in chosen)
        if counts:
            each = ", ".join(f"{speaker} {count}" for speaker, count in sorted(counts.items()))
            console.print(escape(f"{partition or 'no partition'}: {each}"))
    for reason, count in imported.left_out.most_common():
        console.print(escape(f"left out: {count} labelled {reason}"))
    corpus = known[name]
    for line in imported.findings.lines():
        console.print(escape(line))
    read = len(recordings) + sum(imported.left_out.values())
    if corpus.utterances is not None and read != corpus.utterances:
        console.print(f"the published corpus has {corpus.utterances} utterances, here are {read}")
    if corpus.speakers_published is not None:
        lacking = [one for one in corpus.speakers.names if one not in imported.speakers_read]
        missing = f"; missing: {first(sorted(lacking))}" if lacking else ""
        if lacking or len(imported.speakers_read) != corpus.speakers_published:
            console.print(
                f"it has {corpus.speakers_published} speakers, here are "
                f"{len(imported.speakers_read)}{missing}"
            )
    silent = sum(not one.text for one in recordings)
    if silent:
        console.print(f"{silent} have no text: enough for a reward model, not for a policy")


def by_emotion(recordings: Sequence[Recording]) -> Table:
    """Return a table of how many recordings have which emotion, in each partition."""
    counts = Counter((one.emotion, one.partition) for one in recordings)
    held = [name for name in [*PARTITIONS, ""] if any(one.partition == name for one in recordings)]
    table = Table("emotion")
    for name in held:
        table.add_column(name or "no partition", justify="right")
    table.add_column("all", justify="right")
    for emotion in sorted({one.emotion for one in recordings}):
        row = [counts[emotion, name] for name in held]
        table.add_row(escape(emotion), *map(str, row), str(sum(row)))
    return table
