"""`rrpo data import` and `rrpo tokenize`."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from rrpo.checkpoint import sha256
from rrpo.codec import speech as speech_codec
from rrpo.codec import whisper
from rrpo.codec.s3 import S3Tokenizer
from rrpo.data import tokenize as tokenizing
from rrpo.data.catalogue import known_corpora
from rrpo.data.corpora import TableOptions, import_corpus
from rrpo.data.cosyvoice import import_cosyvoice
from rrpo.data.findings import Findings
from rrpo.data.manifest import Recording, read_manifest
from rrpo.data.survey import REPORT, report_lines, survey_headers, write_report
from rrpo.data.tokenize import Codec, Tokenized
from rrpo.errors import UserError
from rrpo.identity import identity
from rrpo.loading import MINI, codec_identity
from rrpo.mini.world import World
from rrpo.report.terminal import print_imported

MOST_LEFT_OUT = 0.5
"""Share of the recordings over which `rrpo tokenize` ends with a mistake."""


def data_import(
    corpus: str,
    path: Path,
    out: Path,
    emotions: Path | None,
    labels: Sequence[str],
    columns: Sequence[str] = (),
    separator: str = "",
    encoding: str = "",
    codec_of: str | None = None,
) -> None:
    """Import a corpus and say what it holds, what was left out, and what to do with it."""
    if corpus not in known_corpora():
        names = ", ".join(known_corpora())
        raise UserError(f"unknown corpus {corpus!r}: the layouts that can be read are {names}")
    if corpus != "cosyvoice":
        if emotions is not None:
            raise UserError("--emotions is for cosyvoice: leave it out (see --label)")
        if codec_of is not None:
            raise UserError("--codec-of is for tokens that CosyVoice's parquet has: leave it out")
        named, renamed = _pairs("--label", labels), _pairs("--column", columns)
        given = bool(columns or separator or encoding)
        options = TableOptions(renamed, separator, encoding) if given else None
        imported = import_corpus(corpus, path, out, named, options)
        print_imported(imported, corpus, Console(soft_wrap=True, highlight=False))
        _say_headers(imported.recordings, out)
        count, tokens = len(imported.recordings), 0
    elif labels or columns or separator or encoding:
        raise UserError(
            "--label, --column, --separator and --encoding are for other corpora: leave them out "
            "(see utt2emo)"
        )
    else:
        done = import_cosyvoice(path, out, emotions, codec_identity(codec_of))
        for line in done.findings.lines():
            print(line)
        count, tokens = done.utterances, done.tokens
    print(f"{count} utterances in {out / 'manifest.csv'}: turn them into tokens with")
    print(f"rrpo tokenize {out} --codec s3:FOLDER --out TOKENS")
    if tokens:
        print(f"{tokens} of them came with tokens, now in {out / 'tokens'}")


def _say_headers(recordings: Sequence[Recording], out: Path) -> None:
    """Say by their headers which recordings cannot be read, and which have a narrower band."""
    verdicts = survey_headers(recordings)
    for line in report_lines(verdicts):
        print(line)
    if any(one.mistake for one in verdicts):
        write_report(out, verdicts)
        print(f"{out / REPORT} says it of every file; `rrpo tokenize` will leave these out")


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


def tokenize(data: Path, out: Path, codec: str, mixes: int, seed: int) -> None:
    """Turn labelled audio into token shards and mixes, by the bundled codec or CosyVoice's."""
    found = Findings()
    recordings = read_manifest(data, found)
    for line in found.lines():
        print(line)
    name = codec
    chosen: Codec
    if codec == MINI:
        chosen = World().codec()
        name = World().codec_identity
    elif codec.startswith("s3:"):
        chosen = S3Tokenizer(Path(codec.removeprefix("s3:")))
        name = identity(chosen.path.stem, chosen.checksum)
        print(f"{chosen.path}: SHA-256 {chosen.checksum}")
    elif codec.startswith("speech:"):
        folder = Path(codec.removeprefix("speech:"))
        chosen = speech_codec.load(folder)
        # Without its encoder every recording would be skipped, one by one.
        chosen.whisper = whisper.load(chosen.config.layers)
        name = identity("speech", sha256(folder / "model.safetensors"))
    else:
        raise UserError(f"unknown codec {codec!r}: choose mini, s3:FOLDER or speech:FOLDER")
    made = tokenizing.tokenize(chosen, recordings, out, mixes, seed, name, say=print)
    _say_made(made, out)


def _say_made(made: Tokenized, out: Path) -> None:
    """Say what was made and left out.

    Raises:
        UserError: most was left out, so that what goes on by itself stops; the tokens stay.
    """
    more = f" and {made.mixes} mixes in {out / 'mixes'}" if made.mixes else ""
    print(f"{made.tokens} utterances in {out / 'tokens'}{more}")
    odd = sum(one.word == "suspicious" for one in made.verdicts)
    if made.skipped:
        print(f"{len(made.skipped)} files could not be used: {out / 'skipped.txt'} says why")
    print(
        f"sounds: {made.tokens} taken, {odd} of them suspicious, {len(made.skipped)} left out; "
        f"{out / REPORT} says it of every file"
    )
    if len(made.skipped) > MOST_LEFT_OUT * len(made.verdicts):
        raise UserError(
            f"{len(made.skipped)} of {len(made.verdicts)} recordings were left out, more than "
            f"half ({made.skipped[0]}): the tokens of the others are in {out / 'tokens'}; mend "
            "the files, or leave them out of the manifest"
        )
