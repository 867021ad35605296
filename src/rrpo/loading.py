"""Loading by name: policies, their tokenizers, reward models, codecs and token shards.

A name is `mini` for what is bundled, or a path as text or `Path`. Everything that reads a model or
shards for a user does it here, so that each form is known everywhere and no two codecs are mixed.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from rrpo import policy, reward
from rrpo.checkpoint import is_ours
from rrpo.codec import s3, speech, whisper
from rrpo.codec_identity import codec_name, identity, is_same, require_one_codec, shown
from rrpo.data.lengths import odd_lengths
from rrpo.data.shards import (
    Utterance,
    for_tests,
    for_training,
    require_plain,
    require_text,
    shard_codec,
)
from rrpo.data.tokenize import Codec
from rrpo.errors import UserError
from rrpo.files import read_json, sha256, writing
from rrpo.mini.world import BUNDLED, World
from rrpo.mini.world import MINI as MINI
from rrpo.notes import note
from rrpo.origin import Location as Location
from rrpo.origin import Origin, origin_of, require_location
from rrpo.policy import SpeechTokenLM, cosyvoice
from rrpo.policy.cosyvoice_text import INSTRUCTIONS, CosyVoiceTokenizer
from rrpo.policy.layout import Tokenizer
from rrpo.policy.weight_files import EVERY
from rrpo.reward import RewardModel

DATA = ("manifest.csv", "tokenize.json", "wav.scp", "*.parquet")
"""Files of a folder that holds data."""
NEW = "new"
"""Start of a reward model that is not trained yet."""


def output_folder(out: Location) -> Path:
    """Return a folder to write.

    Raises:
        UserError: its name is empty, which would be the folder one is in, or one of what is
            bundled, which would be found in its place; or a model or data lies there.
    """
    if not str(out):
        raise UserError("out is empty: name a folder")
    if str(Path(out)) in (*BUNDLED, NEW):
        raise UserError(f"a folder {Path(out)} could not be named: it is what rrpo calls its own")
    folder = Path(out)
    with writing(folder):
        if all((folder / name).is_file() for name in ("config.yaml", "inputs.json")):
            return folder  # a run, which may be resumed
        for what, names in (("a model", EVERY), ("data", DATA)):
            for name in names:
                if any(folder.glob(name)):
                    raise UserError(f"{folder} holds {what} ({name}): name another --out")
    return folder


def load_policy(location: Location = MINI) -> SpeechTokenLM:
    """Load the bundled base for `mini`, a CosyVoice model, or else the policy of a run folder.

    That of a run which is not finished is told.

    Raises:
        UserError: it is missing, damaged, of an unknown form, or would run code.

    Examples:
        >>> load_policy("mini").config.codes
        6561
    """
    require_location("a policy", location)
    if str(location) == MINI:
        return World().policy()
    path = Path(location)
    if not is_cosyvoice(path):
        found = policy.load(path)
        _tell_unfinished(path)
        return found
    model = cosyvoice.load(path)
    # It speaks the tokens of the speech tokenizer in its folder, where that is there.
    tokenizer = cosyvoice.model_folder(path) / f"{model.config.codec}.onnx"
    if tokenizer.is_file():
        line = identity(model.config.codec, sha256(tokenizer))
        model.config = model.config.model_copy(update={"codec": line})
    return model


def is_cosyvoice(location: Location) -> bool:
    """Say whether a path is to be read as a CosyVoice model, and not as a policy of ours."""
    return not is_ours(Path(location)) and cosyvoice.is_cosyvoice(Path(location))


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


def load_tokenizer(origin: Origin, model: SpeechTokenLM) -> Tokenizer:
    """Return the tokenizer of what a policy started from: the mini world's, or a CosyVoice one's.

    Raises:
        UserError: the CosyVoice folder it started from is not there any more, or has no tokenizer.
    """
    if is_mini(model):
        return World().tokenizer
    start = origin_of(origin.start).start
    if not is_cosyvoice(start):
        raise UserError(
            f"the CosyVoice folder this policy started from is not at {start}: its tokenizer is "
            "needed, put the folder back, name it (`rrpo speak --model`), or correct `start` in "
            "the config.yaml of the run that began with it"
        )
    return CosyVoiceTokenizer(
        cosyvoice.model_folder(Path(start)),
        model.config.version,
        origin.language or "en",
        INSTRUCTIONS if origin.instructions is None else Path(origin.instructions),
        model.config.text_vocabulary,
    )


def load_reward_model(location: Location = MINI) -> RewardModel:
    """Load a reward model: `mini` is the bundled one of emotion, `mini-tasks` of all the rest.

    That of a run which is not finished is told.

    Raises:
        UserError: it is missing, damaged or no reward model.

    Examples:
        >>> load_reward_model("mini").classes()[:3]
        ['neutral', 'angry', 'happy']
    """
    require_location("a reward model", location)
    if str(location) in BUNDLED:
        world = World()
        return world.reward_model() if str(location) == MINI else world.task_model()
    model = reward.load(Path(location))
    _tell_unfinished(Path(location))
    return model


def _tell_unfinished(run: Path) -> None:
    """Say of a run that is not finished that its weights are not its last."""
    state = run / "checkpoint" / "training.json"
    found = read_json(state) if state.is_file() else {}
    if isinstance(found, dict) and not found.get("finished", True):
        note(
            f"{run} is not finished, it was stopped after step {found.get('step')}: go on with "
            "--resume, or use it as it is"
        )


def load_reward_models(
    locations: Sequence[Location],
    model: SpeechTokenLM,
    codec_of: str | None = None,
    origin: Origin | None = None,
) -> list[RewardModel]:
    """Load the reward models that a policy is trained against; all read the tokens it speaks.

    Args:
        locations: their names or paths.
        model: the policy.
        codec_of: what the user says of those that do not know their codec (`codec_identity`).
        origin: what the policy began from, whose text ids content heads have to read; None: no text
            is read.
    """
    models = {str(one): load_reward_model(one) for one in locations}
    known = {"the policy": model.config.codec}
    known |= {f"the reward model {name}": one.config.codec for name, one in models.items()}
    require_one_codec(known, codec_identity(codec_of))
    if origin is not None and any(one.config.vocabulary for one in models.values()):
        require_one_vocabulary(models, load_tokenizer(origin, model))
    return list(models.values())


def require_one_vocabulary(models: Mapping[str, RewardModel], tokenizer: Tokenizer) -> None:
    """Check that reward models read the ids of a policy's text as the policy does.

    Args:
        models: by the names they were given by.
        tokenizer: of the policy.

    Raises:
        UserError: a content head was trained on the ids of another vocabulary.
    """
    for name, model in models.items():
        read = model.config.vocabulary
        if read and isinstance(tokenizer, CosyVoiceTokenizer) and tokenizer.vocabulary != read:
            raise UserError(
                f"the content head of {name} reads text ids of another tokenizer than the policy: "
                "train it with --text-of the model folder that the policy started from"
            )


def codec_identity(codec_of: str | None) -> str:
    """Return the identity of a codec that a user names: `mini`, s3:FOLDER, speech:FOLDER or a name.

    Raises:
        UserError: a folder does not hold such a codec.
    """
    kind, _, folder = (codec_of or "").partition(":")
    if kind == MINI:
        return World().codec_identity
    if not folder:
        return kind
    if kind == "speech":
        files = {"speech": Path(folder) / "model.safetensors"}
    elif kind == "s3":
        files = {Path(name).stem: Path(folder) / name for name in s3.FILES}
    else:
        raise UserError(f"unknown codec {codec_of!r}: name mini, s3:FOLDER or speech:FOLDER")
    for name, path in files.items():
        if path.is_file():
            return identity(name, sha256(path))
    raise UserError(f"--codec-of {codec_of}: {folder} holds no {' and no '.join(files)}")


def load_codec(name: str) -> tuple[Codec, str]:
    """Load a codec and return its identity, too.

    Args:
        name: `mini`, s3:FOLDER (the speech tokenizer of a CosyVoice folder) or speech:FOLDER (one
            trained by a study on real speech).

    Raises:
        UserError: there is no such codec, or a package is missing.
    """
    kind, _, folder = name.partition(":")
    if name == MINI:
        return World().codec(), World().codec_identity
    if kind == "s3" and folder:
        tokenizer = s3.S3Tokenizer(Path(folder))
        return tokenizer, identity(tokenizer.path.stem, tokenizer.checksum)
    if kind == "speech" and folder:
        codec = speech.load(Path(folder))
        # Without its encoder every recording would be skipped, one by one.
        codec.whisper = whisper.load(codec.config.layers)
        return codec, codec_identity(name)
    raise UserError(f"unknown codec {name!r}: choose mini, s3:FOLDER or speech:FOLDER")


def load_data(
    data: Location | None,
    model: SpeechTokenLM | None = None,
    tested: bool = False,
    codec_of: str | None = None,
) -> list[Utterance]:
    """Read token shards, by default the bundled fine-tuning set, which is the mini codec's.

    Args:
        data: a parquet file or a folder of them.
        model: a policy to be trained or tested on them; then every row needs its text, and the
            tokens are of the codec whose tokens it speaks.
        codec_of: what the user says of shards that do not know their codec (`codec_identity`).
        tested: whether it is tested (`for_tests`); else what is held out for that is left out.
    """
    if data is None:
        if model is not None and not is_mini(model):
            raise UserError(
                "the bundled tokens are the mini codec's: give CosyVoice's own with --data"
            )
        return World().shard("finetune")
    path = Path(data)
    if model is not None:
        known = {"the policy": model.config.codec, str(data): shard_codec(path)}
        require_one_codec(known, codec_identity(codec_of))
    rows = for_tests(path) if tested else for_training(path)
    require_plain(rows, path)
    for line in odd_lengths(rows, path):
        note(line)
    for row in rows if model is not None else []:
        require_text(row, path)
    return rows


def load_mixes(mixes: Location) -> list[Utterance]:
    """Read a mix pool without what is held out for tests.

    Raises:
        UserError: it holds utterances that are mixed with no other.
    """
    rows = for_training(Path(mixes))
    for row in rows:
        if row.partner_emotion is None:
            raise UserError(
                f"{mixes}: utterance {row.id!r} is mixed with no other: name the folder `mixes` "
                "that `rrpo tokenize --mix 10` writes beside `tokens`"
            )
    return rows


def describe(**given: Location | Sequence[Location] | None) -> dict[str, list[list[str]]]:
    """Describe what a run is made from, for its `inputs.json`.

    Args:
        given: name of an option → the paths or names that were given with it; None: the default.

    Returns:
        name → of each path or bundled name itself, and the SHA-256 of what it holds.
    """
    return {
        name: [_described(one) for one in ([value] if isinstance(value, Location) else value)]
        for name, value in given.items()
        if value is not None
    }


def _described(given: Location) -> list[str]:
    """Return a path or a bundled name, and the SHA-256 of what it holds; "" where there is none."""
    path = Path(given)
    if str(given) in BUNDLED:
        return [str(given), ""]
    files = [path] if path.is_file() else sorted(path.glob("*.parquet"))
    weights = [path / "model.safetensors", path / "checkpoint" / "model.safetensors"]
    files += [file for file in weights if file.is_file()]
    if is_cosyvoice(path) and (path.is_file() or not files):
        files = cosyvoice.weights_of(path)  # an index or adapters stand for other files
    digest = hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()
    return [str(given), digest if files else ""]
