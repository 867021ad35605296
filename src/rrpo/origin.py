"""Where a policy began: the mini world, a CosyVoice folder, or a run that began from one of them.

Its tokenizer follows from that, and what can speak its tokens.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from rrpo import config as configuration
from rrpo import policy
from rrpo.checkpoint import is_ours, sha256
from rrpo.errors import UserError
from rrpo.identity import codec_name, identity, is_same, shown
from rrpo.mini.world import MINI as MINI
from rrpo.mini.world import World
from rrpo.policy import SpeechTokenLM, cosyvoice
from rrpo.policy.cosyvoice_text import INSTRUCTIONS, CosyVoiceTokenizer
from rrpo.policy.examples import Tokenizer
from rrpo.runs import PolicyRun

Run = TypeVar("Run", bound=PolicyRun)


def load_policy(start: str) -> SpeechTokenLM:
    """Load the bundled base for `mini`, a CosyVoice model, or else the policy of a run folder.

    Raises:
        UserError: it is missing, damaged, of an unknown form, or would run code.
    """
    if start == MINI:
        return World().policy()
    if not is_cosyvoice(start):
        return policy.load(Path(start))
    model = cosyvoice.load(start)
    # It speaks the tokens of the speech tokenizer in its folder, where that is there.
    tokenizer = cosyvoice.model_folder(Path(start)) / f"{model.config.codec}.onnx"
    if tokenizer.is_file():
        line = identity(model.config.codec, sha256(tokenizer))
        model.config = model.config.model_copy(update={"codec": line})
    return model


def is_cosyvoice(start: str) -> bool:
    """Say whether a path is to be read as a CosyVoice model, and not as a policy of ours."""
    path = Path(start)
    return not is_ours(path) and cosyvoice.is_cosyvoice(path)


def is_mini(model: SpeechTokenLM) -> bool:
    """Say whether a policy speaks the mini codec's tokens.

    Raises:
        UserError: it speaks those of another mini world than the bundled one, or does not say.
    """
    line, bundled = model.config.codec, World().codec_identity
    if not line:
        raise UserError("this policy does not say which codec its tokens are of: train it again")
    if codec_name(line) != MINI:
        return False
    if not is_same(line, bundled):
        raise UserError(
            f"this policy was made in another mini world (its codec is {shown(line)}, that of the "
            f"bundled one {shown(bundled)}): train it again"
        )
    return True


def beginning(start: str, depth: int = 0) -> PolicyRun:
    """Follow a start that is itself a run to what the first of them began from.

    Returns:
        Its start (`mini` or a path), and the language and instructions nearest to `start`.

    Raises:
        UserError: a run's configuration cannot be read, or the runs lead back to themselves.
    """
    path = Path(start)
    folder = path.parent if path.name.startswith("checkpoint") else path
    config = folder / "config.yaml"
    if start == MINI or not config.is_file():
        return PolicyRun(start=start)
    if depth > 100:
        raise UserError(f"{config} leads back to itself by its `start`: mend it")
    values = configuration.read(config)
    known = {key: values[key] for key in PolicyRun.model_fields if key in values}
    run = configuration.parse(PolicyRun, known, config)
    first = beginning(run.start, depth + 1)
    return PolicyRun(
        start=first.start,
        language=run.language or first.language,
        instructions=run.instructions or first.instructions,
    )


def settle(
    kind: type[Run],
    start: str | None,
    config: Path | None,
    settings: Sequence[str],
    preset: Path | None = None,
) -> Run:
    """Fill a policy run's configuration: paths absolute, language and instructions inherited."""
    given = [] if start is None else [f"start={json.dumps(start)}"]
    run = configuration.load(kind, config, [*given, *settings], preset)
    first = beginning(run.start)
    told = run.instructions or first.instructions
    return run.model_copy(
        update={
            # Not `resolve`: a link to a cache would lose its name and its neighbours.
            "start": run.start if run.start == MINI else str(Path(run.start).absolute()),
            "language": run.language or first.language,
            "instructions": None if told is None else str(Path(told).absolute()),
        }
    )


def load_tokenizer(run: PolicyRun, model: SpeechTokenLM) -> Tokenizer:
    """Return the tokenizer of what a policy began as: the mini world's, or a CosyVoice folder's.

    Raises:
        UserError: the CosyVoice folder it began from is not there any more, or has no tokenizer.
    """
    if is_mini(model):
        return World().tokenizer
    start = beginning(run.start).start
    if not is_cosyvoice(start):
        raise UserError(
            f"the CosyVoice folder this policy began from is not at {start}: its tokenizer is "
            "needed, put the folder back or mend `start` in the run's config.yaml"
        )
    return CosyVoiceTokenizer(
        cosyvoice.model_folder(Path(start)),
        model.config.version,
        run.language or "en",
        INSTRUCTIONS if run.instructions is None else Path(run.instructions),
        model.config.text_vocabulary,
    )
