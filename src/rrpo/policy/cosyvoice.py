"""CosyVoice2's and CosyVoice3's `llm.pt`, read and written with nothing lost.

The keys are those of upstream's classes (`Qwen2LM`, `CosyVoice3LM`); every key and shape is checked
against a literal map before a model is made. Nothing in a checkpoint is executed.
"""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pydantic
import torch
from torch import Tensor

from rrpo.checkpoint import (
    atomic_path,
    load_tensors,
    read_json,
    save_tensors,
    write_json,
    writing,
)
from rrpo.errors import UserError
from rrpo.policy.lm import LMConfig, SpeechTokenLM
from rrpo.tokens import SPEECH_CODES

TABLES = {
    "text_embedding.weight": "llm.model.model.embed_tokens.weight",
    "speech_embedding.weight": "speech_embedding.weight",
    "norm.weight": "llm.model.model.norm.weight",
    "head.weight": "llm_decoder.weight",
}
"""Ours → upstream's; every version has these."""
VERSION_2_ONLY = {
    "special_embedding.weight": "llm_embedding.weight",
    "head.bias": "llm_decoder.bias",
}
LAYER = (
    "self_attn.q_proj.weight",
    "self_attn.q_proj.bias",
    "self_attn.k_proj.weight",
    "self_attn.k_proj.bias",
    "self_attn.v_proj.weight",
    "self_attn.v_proj.bias",
    "self_attn.o_proj.weight",
    "mlp.gate_proj.weight",
    "mlp.up_proj.weight",
    "mlp.down_proj.weight",
    "input_layernorm.weight",
    "post_attention_layernorm.weight",
)
"""Of each layer, the same names on both sides."""
TIED = "llm.model.lm_head.weight"
"""Upstream's copy of the text table; it must be in the file and is used for nothing."""
BOOKKEEPING = ("epoch", "step")
"""What `epoch_*_whole.pt` holds beside the weights."""
SPECIALS = {2: 3, 3: 200}
"""Rows of the speech table after the codes."""
HEAD_WIDTH = 64
"""Of Qwen2-0.5B; the number of heads is not written in a checkpoint."""
TEXT_TABLE = 151936
"""Rows of the text table of CosyVoice2 as published."""

CHAT = (
    "{%- for message in messages %}{%- if message['role'] == 'user' %}"
    "{{- '<|sos|>' + message['content'] + '<|task_id|>' }}"
    "{%- elif message['role'] == 'assistant' %}{{- message['content'] }}{%- endif %}{%- endfor %}"
)
"""The chat template of the GRPO recipe: sos, the text, task, the codes."""
_LAYER_KEY = re.compile(r"llm\.model\.model\.layers\.([0-9]{1,3})\.")


class RopeParameters(pydantic.BaseModel):
    """Where newer configurations keep the base of the positions."""

    rope_theta: float | None = pydantic.Field(None, gt=0)


class QwenConfig(pydantic.BaseModel):
    """What is read of a Qwen2 configuration in Hugging Face form; the rest is left alone."""

    model_config = pydantic.ConfigDict(allow_inf_nan=False)

    num_attention_heads: int | None = pydantic.Field(None, gt=0)
    num_key_value_heads: int | None = pydantic.Field(None, gt=0)
    rope_theta: float | None = pydantic.Field(None, gt=0)
    rope_parameters: RopeParameters = RopeParameters()
    rms_norm_eps: float = pydantic.Field(1e-6, gt=0)


def key_map(version: int, layers: int) -> dict[str, str]:
    """Return our names of all weights → upstream's, the tied copy aside."""
    names = dict(TABLES) if version == 3 else {**TABLES, **VERSION_2_ONLY}
    for layer in range(layers):
        names |= {f"layers.{layer}.{key}": f"llm.model.model.layers.{layer}.{key}" for key in LAYER}
    return names


def load(path: Path | str, config: Mapping[str, Any] | None = None) -> SpeechTokenLM:
    """Read the LM of a CosyVoice2 or CosyVoice3 model.

    Args:
        path: a model folder (with `llm.pt`), an `llm.pt` or `epoch_*_whole.pt`, or the folder of
            the Hugging Face form that upstream's GRPO recipe makes.
        config: Qwen2's in Hugging Face form; by default the folder's own
            `CosyVoice-BlankEN/config.json`, or else heads 64 wide and Qwen2's constants.

    Returns:
        The LM in float32, in evaluation mode; `config.precision` is that of the file.

    Raises:
        UserError: it is missing, damaged, would run code, or a weight is missing, unexpected or of
            a wrong shape; the message names the first.
    """
    path = Path(path)
    if (
        path.is_dir()
        and (path / "model.safetensors").is_file()
        and (path / "config.json").is_file()
    ):
        config = config or read_json(path / "config.json")
        state = _from_hugging_face(load_tensors(path / "model.safetensors"), path)
    else:
        file = path / "llm.pt" if path.is_dir() else path
        state = _read(file)
        beside = file.parent / "CosyVoice-BlankEN" / "config.json"
        if config is None and beside.is_file():
            config = read_json(beside)
    _require_finite(state, path)
    found = _sizes(state, config, path)
    return _build(state, found, path)


def save(model: SpeechTokenLM, path: Path | str) -> None:
    """Write an `llm.pt` that stock CosyVoice loads: upstream's keys exactly, the file's precision.

    Args:
        model: with the text table, speech table and layers of a CosyVoice LM.
        path: of the file, or a folder, in which it is called `llm.pt`.
    """
    path = Path(path)
    path = path / "llm.pt" if path.is_dir() else path
    dtype = getattr(torch, model.config.precision)
    own = model.state_dict()
    names = key_map(model.config.version, model.config.layers)
    state = {theirs: own[ours].to(dtype).cpu().contiguous() for ours, theirs in names.items()}
    state[TIED] = state["llm.model.model.embed_tokens.weight"]
    _require_finite(state, path)  # float16 may not hold what float32 did
    with writing(path.parent), atomic_path(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # what torch makes of a full disk
            raise OSError(str(error).splitlines()[0]) from None


def save_hugging_face(model: SpeechTokenLM, tokenizer: Any, folder: Path) -> None:
    """Write the form upstream's GRPO recipe trains: one vocabulary of text, codes, sos and task.

    The codes follow the tokenizer's last token, so a text table that is longer than the tokenizer
    loses its unused rows, as with upstream's own script. The output bias is kept, −inf elsewhere.

    Args:
        model: a CosyVoice2 LM.
        tokenizer: `transformers`' of the model folder, CosyVoice's tokens among its own.
        folder: gets `model.safetensors`, `config.json` and the tokenizer's files.

    Raises:
        UserError: it is a CosyVoice3 LM, which the recipe does not know, the tokenizer is
            another model's, or the folder cannot be written.
    """
    config = model.config
    if config.version != 2:
        raise UserError("the Hugging Face form exists for CosyVoice2 only: export to cosyvoice3")
    first, codes = len(tokenizer), config.speech_rows
    if first > config.text_vocabulary:
        raise UserError(
            f"the tokenizer has {first} tokens and the policy {config.text_vocabulary} rows of "
            "text: it belongs to another model"
        )
    names = [f"<|s_{code}|>" for code in range(config.codes)]
    tokenizer.add_tokens([*names, "<|eos1|>", "<|eos2|>", "<|eos3|>", "<|sos|>", "<|task_id|>"])
    rows = -(-(first + codes + 2) // 128) * 128
    own = {
        name: value.to(getattr(torch, config.precision))
        for name, value in model.state_dict().items()
    }
    table = own["text_embedding.weight"].new_zeros(rows, config.hidden)
    kept = min(rows, own["text_embedding.weight"].shape[0])
    table[:kept] = own["text_embedding.weight"][:kept]
    table[first : first + codes] = own["speech_embedding.weight"]
    table[first + codes : first + codes + 2] = own["special_embedding.weight"]
    head, bias = torch.zeros_like(table), table.new_full((rows,), -torch.inf)
    head[first : first + codes], bias[first : first + codes] = own["head.weight"], own["head.bias"]
    state = {f"model.{k}": v for k, v in own.items() if k.startswith(("layers.", "norm."))}
    state |= {"model.embed_tokens.weight": table, "lm_head.weight": head, "lm_head.bias": bias}
    tokenizer.chat_template = CHAT
    generation = {
        "eos_token_id": [first + config.codes + index for index in range(config.specials)],
        "temperature": 1.0,
        "top_p": 0.8,
        "top_k": 25,
    }
    with writing(folder):
        tokenizer.save_pretrained(folder)
        write_json(folder / "generation_config.json", generation)
        save_tensors(folder / "model.safetensors", state)
        # Last, because a folder without it is not taken for a model.
        write_json(folder / "config.json", _hugging_face_config(config, rows, first + config.eos))


def _hugging_face_config(config: LMConfig, rows: int, eos: int) -> dict[str, Any]:
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": rows,
        "hidden_size": config.hidden,
        "intermediate_size": config.intermediate,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.key_value_heads,
        "max_position_embeddings": 32768,
        "rope_theta": config.rope_theta,
        "rms_norm_eps": config.norm_epsilon,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "use_bias": True,
        "eos_token_id": eos,
        "torch_dtype": config.precision,
    }


def _read(file: Path) -> dict[str, Tensor]:
    """Read a flat state dict without executing anything in it."""
    if not file.is_file():
        raise UserError(f"no such file: {file}: name a CosyVoice model folder or its llm.pt")
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle raises whatever its bytes lead to
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        # Torch goes on with how to execute it all the same.
        reason = reason.partition(" Re-running")[0].partition(" In PyTorch 2.6")[0]
        raise UserError(
            f"{file} is truncated or holds more than tensors ({reason}): "
            "copy it again from a source you trust"
        ) from None
    if not isinstance(loaded, dict):
        raise UserError(f"{file} is no state dict: name the llm.pt of a CosyVoice model")
    state = {key: value for key, value in loaded.items() if key not in BOOKKEEPING}
    for key, value in state.items():
        plain = isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta
        if not isinstance(key, str) or not plain:
            raise UserError(f"{file}: {key} is no tensor: name the llm.pt of a CosyVoice model")
    return state


def _require_finite(state: Mapping[str, Tensor], source: Path) -> None:
    for key, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise UserError(f"{source}: {key} holds NaN or infinity: the training had failed")


def _sizes(state: Mapping[str, Tensor], config: Mapping[str, Any] | None, source: Path) -> LMConfig:
    """Read the sizes out of the shapes; heads and constants come from Qwen2's configuration."""
    for name in ("speech_embedding.weight", "llm_decoder.weight", "llm.model.model.norm.weight"):
        if name not in state:
            raise UserError(
                f"{source} lacks {name}: it is no CosyVoice2 or CosyVoice3 LLM "
                "(a CosyVoice1 checkpoint, a flow.pt or a hift.pt is not read)"
            )
    version: Literal[2, 3] = 2 if set(VERSION_2_ONLY.values()) & set(state) else 3
    layer = "llm.model.model.layers.0."
    names = (
        "speech_embedding.weight",
        "llm.model.model.embed_tokens.weight",
        layer + "self_attn.q_proj.weight",
        layer + "self_attn.k_proj.weight",
        layer + "mlp.gate_proj.weight",
    )
    for name in names:
        if name not in state:
            raise UserError(f"{source} lacks the weight {name}: it is no whole CosyVoice LLM")
        if state[name].ndim != 2 or 0 in state[name].shape:
            raise UserError(f"{source}: {name} has shape {tuple(state[name].shape)}, no matrix")
    (rows, hidden), text, query, key, gate = (
        state[names[0]].shape,
        *(state[name].shape[0] for name in names[1:]),
    )
    if rows != SPEECH_CODES + SPECIALS[version]:
        raise UserError(
            f"{source}: {rows} rows of speech, expected {SPEECH_CODES + SPECIALS[version]}: "
            f"it is no LLM of CosyVoice{version}"
        )
    given = _qwen(config, source)
    heads = given.num_attention_heads or max(1, query // HEAD_WIDTH)
    theta = given.rope_theta or given.rope_parameters.rope_theta or 1e6
    numbers = {int(found[1]) for name in state if (found := _LAYER_KEY.match(name))}
    if numbers != set(range(len(numbers))):
        missing = min(set(range(max(numbers))) - numbers)
        raise UserError(f"{source} lacks layer {missing}: it is no whole CosyVoice LLM")
    precisions = {str(value.dtype).removeprefix("torch.") for value in state.values()}
    if len(precisions) > 1 or not precisions <= {"float32", "bfloat16", "float16"}:
        raise UserError(f"{source} mixes {', '.join(sorted(precisions))}: expected one float type")
    return LMConfig(
        version=version,
        text_vocabulary=text,
        hidden=hidden,
        layers=len(numbers),
        heads=heads,
        key_value_heads=given.num_key_value_heads or max(1, key * heads // query),
        intermediate=gate,
        rope_theta=float(theta),
        norm_epsilon=given.rms_norm_eps,
        codes=rows - SPECIALS[version],
        specials=SPECIALS[version],
        precision=precisions.pop(),  # type: ignore[arg-type]
    )


def _qwen(config: Mapping[str, Any] | None, source: Path) -> QwenConfig:
    try:
        return QwenConfig.model_validate(config or {})
    except pydantic.ValidationError as error:
        detail = error.errors()[0]
        key = ".".join(map(str, detail["loc"])) or "it"
        raise UserError(f"Qwen2's configuration for {source}: {key}: {detail['msg']}") from None


def _build(state: Mapping[str, Tensor], config: LMConfig, source: Path) -> SpeechTokenLM:
    """Check every key and shape and make the model of them."""
    if config.hidden % config.heads or config.heads % config.key_value_heads:
        raise UserError(
            f"{source}: {config.heads} heads and {config.key_value_heads} key-value heads do not "
            f"divide a width of {config.hidden}: give Qwen2's config"
        )
    names = key_map(config.version, config.layers)
    with torch.device("meta"):
        model = SpeechTokenLM(config)
    expected = {names[ours]: value.shape for ours, value in model.state_dict().items()}
    expected[TIED] = expected["llm.model.model.embed_tokens.weight"]
    for key, shape in expected.items():
        if key not in state:
            raise UserError(f"{source} lacks the weight {key}: it is no whole CosyVoice LLM")
        if state[key].shape != shape:
            raise UserError(
                f"{source}: {key} has shape {tuple(state[key].shape)}, expected {tuple(shape)}"
            )
    for key in state:
        if key not in expected:
            raise UserError(f"{source} has an unexpected weight {key}: made for another model")
    if not torch.equal(state[TIED], state["llm.model.model.embed_tokens.weight"]):
        warnings.warn(
            f"{source}: {TIED} is no copy of the text table; it is left out", stacklevel=3
        )
    weights = {ours: state[theirs].to(torch.float32) for ours, theirs in names.items()}
    model.load_state_dict(weights, assign=True)
    return model.eval()


def _from_hugging_face(state: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """Take apart the joint vocabulary of upstream's GRPO recipe (CosyVoice2 only).

    There the text table goes on with 6561 codes, three ends, sos and task; the output layer covers
    all rows. Its bias is kept, where upstream's own way back writes zeros.
    """
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name not in state:
            raise UserError(f"{folder} lacks {name}: it is no CosyVoice2 LLM in Hugging Face form")
    first = _first_code(folder)
    end = first + SPEECH_CODES + SPECIALS[2]
    table, head = state["model.embed_tokens.weight"], state["lm_head.weight"]
    if table.ndim != 2 or head.ndim != 2:
        raise UserError(f"{folder}: its tables are no matrices: it is no CosyVoice2 LLM")
    if table.shape[0] < end + 2 or head.shape[0] < end:
        raise UserError(
            f"{folder} has {table.shape[0]} rows, fewer than the codes need ({end + 2})"
        )
    # Published tables are longer than the tokenizer, and upstream cuts them to that length again.
    text = table[: TEXT_TABLE if table.shape[0] > TEXT_TABLE else first]
    parts = {
        f"llm.model.{key}": value
        for key, value in state.items()
        if not key.startswith(("model.embed_tokens", "lm_head"))
    }
    bias = state.get("lm_head.bias")
    return parts | {
        "llm.model.model.embed_tokens.weight": text,
        TIED: text,
        "speech_embedding.weight": table[first:end],
        "llm_embedding.weight": table[end : end + 2],
        "llm_decoder.weight": head[first:end],
        "llm_decoder.bias": head.new_zeros(end - first) if bias is None else bias[first:end],
    }


def _first_code(folder: Path) -> int:
    """Return the joint id of code 0: the tokenizer's `<|s_0|>`."""
    for name in ("added_tokens.json", "tokenizer.json"):
        if not (folder / name).is_file():
            continue
        content = read_json(folder / name)
        try:
            if name == "tokenizer.json":
                content = {row["content"]: row["id"] for row in content.get("added_tokens", [])}
            if "<|s_0|>" in content:
                return int(content["<|s_0|>"])
        except (AttributeError, KeyError, TypeError, ValueError):
            raise UserError(f"{folder / name} is damaged: copy the folder again") from None
    raise UserError(
        f"{folder} has no tokenizer with <|s_0|>: it is no CosyVoice2 LLM of the recipe"
    )
