"""`rrpo data import` and `rrpo tokenize`."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrpo.cli.options import CodecOf, Out, Seed
from rrpo.errors import UserError

if TYPE_CHECKING:
    from rrpo.data.corpora import TableOptions
    from rrpo.data.findings import Findings
    from rrpo.data.manifest import Recording

data_app = typer.Typer(
    no_args_is_help=True,
    help="Import labelled speech.",
    epilog="Example: rrpo data import ravdess RAVDESS --out imported",
)

MOST_LEFT_OUT = 0.5
"""Share of the recordings over which `rrpo tokenize` ends with a mistake."""


Corpus = Annotated[
    str,
    typer.Argument(
        help="Its layout: esd, iemocap, mer2023, ravdess, emodb, nemo, cremad, casia, "
        "emotiontts_ko, csv (a table with path and emotion) or cosyvoice (wav.scp …, or a parquet "
        "list)."
    ),
]
Place = Annotated[Path, typer.Argument(help="The corpus' folder, or a table or list of files.")]
Emotions = Annotated[
    Path | None,
    typer.Option(
        help="For cosyvoice: a file with an utterance and its emotion a line; default: utt2emo."
    ),
]
Labels = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LABEL=EMOTION",
        help="What a label of the corpus means; `=other` leaves its recordings out.",
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OURS=THEIRS", help="Of csv: a column by another name, such as path=file."
    ),
]
Separator = Annotated[
    str,
    typer.Option(
        help="Of csv: between its cells: comma, semicolon, tab, pipe or any sign; default: found "
        "by the header."
    ),
]
Encoding = Annotated[
    str,
    typer.Option(
        help="Of csv: such as cp949; default: detected, with a note where it is uncertain."
    ),
]


@data_app.command("import", epilog="Example: rrpo data import ravdess RAVDESS --out imported")
def data_import(
    corpus: Corpus,
    path: Place,
    out: Out,
    emotions: Emotions = None,
    label: Labels = None,
    column: Columns = None,
    separator: Separator = "",
    encoding: Encoding = "",
    codec_of: CodecOf = None,
) -> None:
    """Write a manifest.csv for `rrpo tokenize`, and token shards where the data has tokens."""
    from rrpo.data.catalogue import known_corpora
    from rrpo.data.corpora import TableOptions

    if corpus not in known_corpora():
        names = ", ".join(known_corpora())
        raise UserError(f"unknown corpus {corpus!r}: the layouts that can be read are {names}")
    table = TableOptions(_pairs("--column", column or ()), separator, encoding)
    labels = _pairs("--label", label or ())
    tokens = 0
    if corpus == "cosyvoice":
        if table != TableOptions():
            raise UserError(
                "--column, --separator and --encoding are for other corpora: leave them out"
            )
        count, bad, tokens = _import_cosyvoice(path, out, emotions, codec_of, labels)
    elif emotions is not None:
        raise UserError("--emotions is for cosyvoice: leave it out (see --label)")
    elif codec_of is not None:
        raise UserError("--codec-of is for tokens that CosyVoice's parquet has: leave it out")
    else:
        count, bad = _import_corpus(corpus, path, out, labels, table)
    lost = f", {bad} of them with sounds that cannot be used" if bad else ""
    print(f"{count} utterances in {out / 'manifest.csv'}{lost}: turn them into tokens with")
    print(f"rrpo tokenize {shlex.quote(str(out))} --codec s3:FOLDER --out TOKENS")
    if tokens:
        print(f"{tokens} of them came with tokens, now in {out / 'tokens'}")


def _import_cosyvoice(
    path: Path, out: Path, emotions: Path | None, codec_of: str | None, labels: dict[str, str]
) -> tuple[int, int, int]:
    """Return how many utterances there are, with bad sounds, and with tokens."""
    from rich.console import Console

    from rrpo.data.cosyvoice import import_cosyvoice
    from rrpo.data.manifest import read_manifest
    from rrpo.loading import codec_identity
    from rrpo.report.terminal import by_emotion

    done = import_cosyvoice(path, out, emotions, codec_identity(codec_of), labels)
    recordings = read_manifest(out)
    Console(soft_wrap=True, highlight=False).print(by_emotion(recordings))
    for line in done.findings.lines():
        print(line)
    bad = _report_sounds(recordings, done.findings, out)
    return done.utterances, bad, done.tokens


def _import_corpus(
    corpus: str, path: Path, out: Path, labels: dict[str, str], table: "TableOptions"
) -> tuple[int, int]:
    """Return how many utterances there are, and how many of them with bad sounds."""
    from rich.console import Console

    from rrpo.data.corpora import TableOptions, import_corpus
    from rrpo.report.terminal import print_imported

    options = None if table == TableOptions() else table
    imported = import_corpus(corpus, path, out, labels, options)
    print_imported(imported, corpus, Console(soft_wrap=True, highlight=False))
    bad = _report_sounds(imported.recordings, imported.findings, out)
    return len(imported.recordings), bad


def _report_sounds(recordings: "Sequence[Recording]", found: "Findings", out: Path) -> int:
    """Say of every file whether it can be used, by its header; return how many cannot."""
    from rrpo.data.survey import report_lines, summary, survey_headers, without, write_report

    verdicts = survey_headers(recordings)
    for line in report_lines(verdicts, "cannot be used, and `rrpo tokenize` will leave them out"):
        print(line)
    bad = sum(bool(one.mistake) for one in verdicts)
    verdicts += without(found.left_out)
    write_report(out, verdicts)
    print(summary(out, verdicts))
    return bad


def _pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """Read options of the form KEY=VALUE."""
    pairs = {}
    for one in given:
        key, _, value = (part.strip() for part in one.partition("="))
        if not key or not value or key in pairs:
            why = "stands twice" if key in pairs else "is not of the form KEY=VALUE"
            raise UserError(f"{option} {one}: {key or one} {why}")
        pairs[key] = value
    return pairs


def tokenize(
    data: Annotated[Path, typer.Argument(help="manifest.csv (path, emotion, …) or its folder.")],
    out: Out,
    codec: Annotated[
        str,
        typer.Option(
            help="`mini`; s3:FOLDER for the speech tokenizer of a CosyVoice folder; speech:FOLDER "
            "for one trained by a study on real speech."
        ),
    ] = "mini",
    mix: Annotated[int, typer.Option(min=0, help="Mixed versions of each utterance.")] = 0,
    insert: Annotated[
        str | None,
        typer.Option(
            help="Every recording once more with a sound in it, for a detector: clicks, pop, "
            "plosive, hum, noise, silence or gain."
        ),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Turn labelled audio into token shards; --mix adds a mix pool, --insert sounds to detect."""
    from rrpo.data import tokenize as tokenizing
    from rrpo.data.findings import Findings
    from rrpo.data.manifest import read_manifest
    from rrpo.data.partitions import check_speakers
    from rrpo.data.survey import summary, without
    from rrpo.loading import load_codec

    found = Findings()
    recordings = read_manifest(data, found)
    found.notes += check_speakers(recordings)
    for line in found.lines():
        print(line)
    chosen, name = load_codec(codec)
    print(f"codec: {name}")
    lacking = without(found.left_out)
    made = tokenizing.tokenize(chosen, recordings, out, mix, seed, name, print, lacking, insert)
    more = f" and {made.mixes} mixes in {out / 'mixes'}" if made.mixes else ""
    if made.inserted:
        more += f" and {made.inserted} with {insert or 'the sound'} in {out / 'inserted'}"
    print(f"{made.tokens} utterances in {out / 'tokens'}{more}")
    if made.skipped:
        print(f"{len(made.skipped)} files could not be used: {out / 'skipped.txt'} says why")
    print(summary(out, made.verdicts))
    if len(made.skipped) > MOST_LEFT_OUT * len(made.verdicts):
        # What goes on by itself must stop here; the tokens stay.
        raise UserError(
            f"{len(made.skipped)} of {len(made.verdicts)} recordings were left out, more than "
            f"half ({made.skipped[0]}): the tokens of the others are in {out / 'tokens'}; repair "
            "the files, or leave them out of the manifest"
        )
