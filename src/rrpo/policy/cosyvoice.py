"""CosyVoice2's and CosyVoice3's `llm.pt`, read and written with nothing lost.

The keys are those of upstream's classes (`Qwen2LM`, `CosyVoice3LM`); every key and shape is checked
against a literal map before a model is made. Nothing in a checkpoint is executed.
"""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from rrpo.checkpoint import weightless
from rrpo.codec_identity import SPEECH_CODES
from rrpo.errors import UserError
from rrpo.files import atomic_path, read_json, writing
from rrpo.policy import hugging_face, peft_folder, weight_files
from rrpo.policy.hugging_face import save_hugging_face
from rrpo.policy.lm import LMConfig, SpeechTokenLM
from rrpo.policy.precision import PRECISIONS, Precision, in_precision
from rrpo.policy.qwen import QwenConfig, read_config, require_frequencies
from rrpo.policy.state_dict import shown, unwrap
from rrpo.policy.upstream import (
    LAYERS,
    SPECIALS,
    SPEECH,
    TEXT,
    TIED,
    VERSION_2_ONLY,
    key_map,
)

__all__ = ["SPECIALS", "TIED", "is_cosyvoice", "key_map", "load", "model_folder", "save"]
__all__ += ["save_hugging_face", "weights_of"]

SPEECH_TOKENIZERS = {2: "speech_tokenizer_v2", 3: "speech_tokenizer_v3"}
"""Version of an LLM → name of the codec whose tokens it speaks."""
_LAYER_KEY = re.compile(re.escape(LAYERS) + r"\.([0-9]{1,3})\.")


def is_cosyvoice(path: Path) -> bool:
    """Say whether a path is a CosyVoice model in any form that `load` knows or refuses by name."""
    return weight_files.is_foreign(path)


def model_folder(path: Path) -> Path:
    """Return the folder where a model's tokenizer lies; adapters have that of their base.

    Raises:
        UserError: the base of adapters is not here.
    """
    adapters = peft_folder.adapter_folder(path)
    path = path if adapters is None else peft_folder.base_folder(adapters)
    return path if path.is_dir() else path.parent


def weights_of(path: Path) -> list[Path]:
    """Return the files that hold a model's weights; those of adapters come before their base's.

    Raises:
        UserError: there are none.
    """
    adapters = peft_folder.adapter_folder(path)
    if adapters is None:
        return list(weight_files.locate(path).files)
    names = (*peft_folder.WEIGHTS, peft_folder.CONFIG)
    own = [adapters / name for name in names if (adapters / name).is_file()]
    return [*own, *weight_files.locate(peft_folder.base_folder(adapters)).files]


def load(path: Path | str, config: Mapping[str, Any] | None = None) -> SpeechTokenLM:
    """Read the LM of a CosyVoice2 or CosyVoice3 model.

    Args:
        path: a model folder, a file of its weights in any wrapping, the folder or a file of the
            Hugging Face form of upstream's recipes, or a folder of PEFT's adapters, which are
            added to the weights of their base.
        config: Qwen2's in Hugging Face form; by default the folder's own, or else heads 64 wide
            and Qwen2's constants.

    Returns:
        The LM in float32, in evaluation mode; `config.precision` is that of the file, float32 for
        one that mixes several.

    Raises:
        UserError: it is missing, damaged, would run code, or a weight is missing, unexpected or of
            a wrong shape or kind of number; the message names the first.
    """
    path = Path(path)
    adapters = peft_folder.adapter_folder(path)
    if adapters is None:
        state, source, given = _read(path, config)
        precision = _precision(state, source)
    else:
        if path.is_dir() and any((path / name).is_file() for name in weight_files.EVERY):
            raise UserError(
                f"{path} holds whole weights and {peft_folder.CONFIG}, and so may have its "
                "adapters added in or not: move the one or the other away"
            )
        state, source, given = _read(peft_folder.base_folder(adapters), config)
        precision = _precision(state, source)  # an adapter's own is not that of the weights
        state = peft_folder.add_adapters(state, adapters)
    _require_finite(state, source, ": the training had failed, name an earlier checkpoint")
    state = _rounded(state, source)
    found = _sizes(state, given, source, precision)
    state = require_frequencies(state, found, source)
    model = _build(state, found, source)
    _require_filled(state, source)
    return model


def _read(
    path: Path, config: Mapping[str, Any] | None
) -> tuple[dict[str, Tensor], Path, QwenConfig]:
    """Return upstream's state dict, what a message names, and Qwen2's configuration."""
    files = weight_files.locate(path)
    peft_folder.refuse_beside(files.folder)
    state = unwrap(weight_files.read(files), files.source)
    beside = files.folder / "CosyVoice-BlankEN" / "config.json"
    if hugging_face.EMBEDDINGS in state and SPEECH not in state:
        state = hugging_face.take_apart(state, files.folder)
        beside = files.folder / "config.json"
    elif TIED not in state and TEXT in state:
        state[TIED] = state[TEXT]  # a copy that is used for nothing, and that many leave out
    if config is None and beside.is_file():
        return state, files.source, read_config(read_json(beside), beside)
    return state, files.source, read_config(config or {}, files.source)


def save(model: SpeechTokenLM, path: Path | str, precision: Precision | None = None) -> None:
    """Write an `llm.pt` that stock CosyVoice loads: upstream's keys exactly.

    Args:
        model: with the text table, speech table and layers of a CosyVoice LM.
        path: of the file, or a folder, in which it is called `llm.pt`.
        precision: of the weights; None: that of the file the model began from.

    Raises:
        UserError: a weight is no number in this precision, or the file cannot be written.
    """
    path = Path(path)
    path = path / "llm.pt" if path.is_dir() else path
    names = key_map(model.config.version, model.config.layers)
    own = in_precision(model.state_dict(), precision or model.config.precision, path, names)
    state = {theirs: own[ours] for ours, theirs in names.items()}
    state[TIED] = state[TEXT]
    with writing(path.parent), atomic_path(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # what torch makes of a full disk
            raise OSError(str(error).splitlines()[0]) from None


def _require_finite(state: Mapping[str, Tensor], source: Path, reason: str) -> None:
    for key, value in state.items():
        if not bool(torch.isfinite(value).all()):
            raise UserError(f"{source}: {key} holds NaN or infinity{reason}")


def _require_filled(state: Mapping[str, Tensor], source: Path) -> None:
    """Refuse a matrix of zeros, which no training leaves: a download fills its file with them."""
    for key, value in state.items():
        if value.ndim > 1 and value.numel() and not bool(value.any()):
            raise UserError(
                f"{source}: {key} holds zeros alone, as of a copy that did not come to its end: "
                "copy it again"
            )


def _precision(state: Mapping[str, Tensor], source: Path) -> Precision:
    """Return the one float type of all weights, or float32, which holds any mix of them."""
    for key, value in state.items():
        kind = str(value.dtype).removeprefix("torch.")
        if kind not in (*PRECISIONS, "float64"):
            raise UserError(
                f"{source}: {shown(key)} is {kind}: quantized weights are not read, name the "
                "checkpoint in float32, bfloat16 or float16 that they were made from"
            )
    kinds = {value.dtype for value in state.values()}
    if kinds == {torch.bfloat16}:
        return "bfloat16"
    return "float16" if kinds == {torch.float16} else "float32"


def _rounded(state: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    """Return the weights with float64 as float32; a rounding is told, an overflow refused."""
    wide = {key: value for key, value in state.items() if value.dtype == torch.float64}
    single = {key: value.to(torch.float32) for key, value in wide.items()}
    _require_finite(single, source, " in float32: its float64 goes beyond that")
    changed = [key for key, value in wide.items() if not torch.equal(value, single[key].double())]
    if changed:
        warnings.warn(
            f"{source}: {len(changed)} weights are float64 and are rounded to float32, "
            f"{changed[0]} the first",
            stacklevel=3,
        )
    return {**state, **single}


def _sizes(
    state: Mapping[str, Tensor],
    given: QwenConfig,
    source: Path,
    precision: Precision,
) -> LMConfig:
    """Read the sizes out of the shapes; heads and constants come from Qwen2's configuration."""
    for name in (SPEECH, "llm_decoder.weight", "llm.model.model.norm.weight"):
        if name not in state:
            raise UserError(
                f"{source} lacks {name}: it is no CosyVoice2 or CosyVoice3 LLM "
                "(a CosyVoice1 checkpoint, a flow.pt or a hift.pt is not read)"
            )
    version: Literal[2, 3] = 2 if set(VERSION_2_ONLY.values()) & set(state) else 3
    matrices = ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "mlp.gate_proj.weight")
    names = (SPEECH, TEXT, *(f"{LAYERS}.0.{name}" for name in matrices))
    for name in names:
        if name not in state:
            raise UserError(f"{source} lacks the weight {name}: it is no whole CosyVoice LLM")
        if state[name].ndim != 2:
            raise UserError(f"{source}: {name} has shape {tuple(state[name].shape)}, no matrix")
    (rows, hidden), text, query, key, gate = (
        state[names[0]].shape,
        *(state[name].shape[0] for name in names[1:]),
    )
    if rows != SPEECH_CODES + SPECIALS[version]:
        raise UserError(
            f"{source}: {rows} rows of speech, expected {SPEECH_CODES + SPECIALS[version]}: "
            f"it is no LLM of CosyVoice{version}, name the llm.pt of CosyVoice2 or CosyVoice3"
        )
    numbers = {int(found[1]) for name in state if (found := _LAYER_KEY.match(name))}
    if numbers != set(range(len(numbers))):
        missing = min(set(range(max(numbers))) - numbers)
        raise UserError(f"{source} lacks layer {missing}: it is no whole CosyVoice LLM")
    given.require_sizes(source, layers=len(numbers), hidden=hidden, intermediate=gate)
    heads = given.heads(query)
    return LMConfig(
        version=version,
        text_vocabulary=text,
        hidden=hidden,
        layers=len(numbers),
        heads=heads,
        key_value_heads=given.num_key_value_heads or max(1, key * heads // query),
        intermediate=gate,
        rope_theta=given.theta,
        norm_epsilon=given.rms_norm_eps,
        codes=rows - SPECIALS[version],
        specials=SPECIALS[version],
        precision=precision,
        text="byte_pairs",
        codec=SPEECH_TOKENIZERS[version],
    )


def _build(state: Mapping[str, Tensor], config: LMConfig, source: Path) -> SpeechTokenLM:
    """Check every key and shape and make the model of them."""
    odd = config.hidden % (2 * config.heads)  # positions turn pairs of features
    if odd or config.heads % config.key_value_heads:
        raise UserError(
            f"{source}: {config.heads} heads and {config.key_value_heads} key-value heads do not "
            f"divide a width of {config.hidden}: give Qwen2's config"
        )
    names = key_map(config.version, config.layers)
    model = weightless(lambda: SpeechTokenLM(config))
    expected = {names[ours]: value.shape for ours, value in model.state_dict().items()}
    expected[TIED] = expected[TEXT]
    for key, shape in expected.items():
        if key not in state:
            raise UserError(f"{source} lacks the weight {key}: it is no whole CosyVoice LLM")
        if state[key].shape != shape:
            raise UserError(
                f"{source}: {key} has shape {tuple(state[key].shape)}, expected {tuple(shape)}"
            )
    for key in state:
        if key not in expected:
            raise UserError(
                f"{source} has an unexpected weight {shown(key)}: made for another model"
            )
    if not torch.equal(state[TIED], state[TEXT]):
        warnings.warn(
            f"{source}: {TIED} is no copy of the text table; it is left out", stacklevel=3
        )
    weights = {ours: state[theirs].to(torch.float32) for ours, theirs in names.items()}
    model.load_state_dict(weights, assign=True)
    return model.eval()
