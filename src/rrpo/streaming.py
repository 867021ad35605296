"""What a training reads its rows from: shards that are all in memory, or that stream."""

from collections.abc import Sequence
from pathlib import Path

from rrpo.codec_identity import require_one_codec
from rrpo.data.scan import Choice, file_of, scan
from rrpo.data.shards import Utterance, shard_codec
from rrpo.data.stream import Shards, Streamed
from rrpo.data.token_folder import tell_unfinished
from rrpo.errors import UserError
from rrpo.loading import Location, codec_identity, load_data, load_tokenizer
from rrpo.notes import note
from rrpo.policy import SpeechTokenLM
from rrpo.policy.layout import Example, Tokenizer, make_examples
from rrpo.policy_runs import PolicyRun, SFTRun


def stream_shards(data: Location | None, rows: int, choice: Choice) -> Shards:
    """Scan token shards that are to be streamed, and say what was found.

    Args:
        data: a parquet file or a folder of them.
        rows: that are shuffled together.
        choice: which rows are trained on.

    Raises:
        UserError: there are no shards of one's own, or what `scan` refuses.
    """
    if data is None:
        raise UserError("stream is for shards of your own: name them with --data, or leave it out")
    tell_unfinished(Path(data))
    found = scan(Path(data), choice)
    kept = sum(found.kept)
    most = 2 * min(kept, rows + found.largest)  # two buffers of whole row groups
    left = f"{found.tests:,} are held out for tests"
    if choice.held_out:
        left += f", {found.total - found.tests - kept:,} with their texts to validate on"
    note(
        f"{data}: streams {kept:,} of {found.total:,} utterances in {len(found.groups):,} row "
        f"groups, at most {most:,} of them in memory; {left}. Rows that stand twice are not looked "
        "for"
    )
    return Shards(found, rows, choice.seed)


def load_examples(
    run: PolicyRun, model: SpeechTokenLM, data: Location | None, codec_of: str | None
) -> Sequence[Example]:
    """Return what a policy is trained on, in memory or streamed as its run says.

    Raises:
        UserError: as `load_data` and `make_examples`. Of rows that stream, texts are read when
            their turn comes; of each emotion the first is read now.
    """
    tokenizer = load_tokenizer(run, model)
    if not run.stream:
        rows = load_data(data, model, codec_of=codec_of)
        return [_example(tokenizer, row, data) for row in rows]
    if data is not None:
        known = {"the policy": model.config.codec, str(data): shard_codec(Path(data))}
        require_one_codec(known, codec_identity(codec_of))
    share = run.held_out if isinstance(run, SFTRun) else 0.0
    choice = Choice(text=True, held_out=share, seed=run.train.seed)
    examples = stream_examples(stream_shards(data, run.stream, choice), tokenizer)
    examples.first()
    return examples


def stream_examples(shards: Shards, tokenizer: Tokenizer) -> Streamed[Example]:
    """Return the rows of shards as examples, each tokenized when its turn comes."""
    return Streamed(shards, lambda row: _example(tokenizer, row, shards.scan.path))


def _example(tokenizer: Tokenizer, row: Utterance, data: Location | None) -> Example:
    """Return a row as an example; a mistake names its file, which is looked for only then."""
    try:
        (made,) = make_examples(tokenizer, [row])
    except UserError as error:
        where = "" if data is None else f"{file_of(Path(data), row)}: "
        raise UserError(f"{where}{error}") from None
    return made
