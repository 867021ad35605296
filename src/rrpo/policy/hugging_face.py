"""The Hugging Face form of a CosyVoice LM: one vocabulary of text, codes and specials.

Upstream's GRPO recipe makes it of CosyVoice2, its TensorRT-LLM recipe of CosyVoice3. The text
table goes on with 6561 codes and the specials; the output layer covers all rows.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rrpo.checkpoint import save_tensors
from rrpo.codec_identity import SPEECH_CODES
from rrpo.errors import UserError
from rrpo.files import read_json, write_json, writing
from rrpo.policy.lm import LMConfig, SpeechTokenLM
from rrpo.policy.precision import Precision, in_precision
from rrpo.policy.upstream import SPECIALS, SPEECH, TEXT, TEXT_TABLE, TIED

EMBEDDINGS, HEAD, BIAS = "model.embed_tokens.weight", "lm_head.weight", "lm_head.bias"
SOS = {2: SPEECH_CODES + 3, 3: SPEECH_CODES}
"""Where `<|sos|>` follows the first code in each version."""
ALIASES = {"<|sos|>": SPEECH_CODES, "<|eos|>": SPEECH_CODES + 1, "<|task_id|>": SPEECH_CODES + 2}
"""Rows of CosyVoice3's speech table that some converters repeat after its 200 specials."""
METADATA_3 = "cosyvoice3_metadata.json"
"""What upstream's converter of CosyVoice3 writes beside the weights."""
CHAT = (
    "{%- for message in messages %}{%- if message['role'] == 'user' %}"
    "{{- '<|sos|>' + message['content'] + '<|task_id|>' }}"
    "{%- elif message['role'] == 'assistant' %}{{- message['content'] }}{%- endif %}{%- endfor %}"
)
"""The chat template of the GRPO recipe: sos, the text, task, the codes."""


def take_apart(state: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """Return upstream's state dict of a joint vocabulary.

    The output bias of CosyVoice2 is kept, where upstream's own way back writes zeros.

    Args:
        state: `model.embed_tokens.weight` and `lm_head.weight` of (rows, D), and the layers.
        folder: with the tokenizer's files, which tell the rows of the codes and the version.

    Raises:
        UserError: the tokenizer is missing or another's, or it is no form of a known version.
    """
    for name in (EMBEDDINGS, HEAD):
        if name not in state:
            raise UserError(f"{folder} lacks {name}: it is no CosyVoice LLM in Hugging Face form")
    table, head, bias = state[EMBEDDINGS], state[HEAD], state.get(BIAS)
    if table.ndim != 2 or head.ndim != 2 or (bias is not None and bias.ndim != 1):
        raise UserError(f"{folder}: its tables are no matrices: it is no CosyVoice LLM")
    tokens = _added_tokens(folder)
    first, rows = tokens["<|s_0|>"], min(len(one) for one in (table, head, bias) if one is not None)
    if first < 1 or tokens.get(f"<|s_{SPEECH_CODES - 1}|>", first + SPEECH_CODES - 1) != (
        first + SPEECH_CODES - 1
    ):
        raise UserError(f"{folder}: its tokenizer has no {SPEECH_CODES} codes in a row of ids")
    version = _version(tokens, rows, bias is not None, folder)
    end = first + SPEECH_CODES + SPECIALS[version]
    if rows < end + (2 if version == 2 else 0):
        raise UserError(f"{folder} has {rows} rows, fewer than the codes need ({end + 2})")
    # Published tables are longer than the tokenizer, and upstream cuts them to that length again.
    text = table[: TEXT_TABLE if table.shape[0] > TEXT_TABLE else first]
    parts = {
        f"llm.model.{key}": value
        for key, value in state.items()
        if not key.startswith(("model.embed_tokens", "lm_head"))
    }
    parts |= {TEXT: text, TIED: text, SPEECH: table[first:end]}
    parts["llm_decoder.weight"] = head[first:end]
    if version == 3:
        _require_same_aliases(tokens, table, head, folder)
        return parts
    none = head.new_zeros(end - first)
    return parts | {
        "llm_embedding.weight": table[end : end + 2],
        "llm_decoder.bias": none if bias is None else bias[first:end],
    }


def _version(tokens: Mapping[str, int], rows: int, biased: bool, folder: Path) -> int:
    """Tell CosyVoice2's form from CosyVoice3's: by where sos is, the bias and the rows."""
    first, sos = tokens["<|s_0|>"], tokens.get("<|sos|>")
    enough = rows >= first + SPEECH_CODES + SPECIALS[3]
    if sos is not None:
        place = sos - first
        third = place == SOS[3] or place >= SPEECH_CODES + SPECIALS[3]
        if not third and place != SOS[2]:
            raise UserError(
                f"{folder}: <|sos|> is {place} ids after <|s_0|>, expected {SOS[2]} (CosyVoice2) "
                f"or {SOS[3]} (CosyVoice3): it is another model's"
            )
    elif f"<|s_{SPEECH_CODES + SPECIALS[3] - 1}|>" in tokens or (folder / METADATA_3).is_file():
        third = True
    elif enough and not biased:
        raise UserError(
            f"{folder}: its tokenizer does not name <|sos|>, which tells CosyVoice2 from "
            "CosyVoice3: copy the tokenizer's files from where it was made"
        )
    else:
        third = False
    if third and biased:
        raise UserError(
            f"{folder} has {BIAS} and CosyVoice3's <|sos|>: CosyVoice3 has no output bias, and "
            "CosyVoice2 has its sos elsewhere: convert it again"
        )
    if not third and enough and not biased:
        raise UserError(
            f"{folder} names CosyVoice2's specials and has {rows} rows, as many as CosyVoice3 "
            f"needs, and no {BIAS}: it was converted by a script for the other version"
        )
    return 3 if third else 2


def _require_same_aliases(
    tokens: Mapping[str, int], table: Tensor, head: Tensor, folder: Path
) -> None:
    """Refuse rows that repeat sos, eos and task after the specials and were trained apart."""
    first = tokens["<|s_0|>"]
    for name, place in ALIASES.items():
        row = tokens.get(name, first + place)
        if row == first + place:
            continue
        weights = head if name == "<|eos|>" else table
        if not 0 <= row < len(weights) or not torch.equal(weights[row], weights[first + place]):
            raise UserError(
                f"{folder}: {name} differs from row {place} of the speech table, which is the same "
                "in CosyVoice3: convert it back with the script that made it, and name its llm.pt"
            )


def _added_tokens(folder: Path) -> dict[str, int]:
    """Return the ids of the tokens that were added to Qwen2's, `<|s_0|>` among them."""
    for name in ("added_tokens.json", "tokenizer.json", "tokenizer_config.json"):
        if not (folder / name).is_file():
            continue
        content = read_json(folder / name)
        try:
            if name == "tokenizer.json":
                content = {row["content"]: row["id"] for row in content.get("added_tokens", [])}
            elif name == "tokenizer_config.json":
                rows = content.get("added_tokens_decoder", {})
                content = {row["content"]: number for number, row in rows.items()}
            if "<|s_0|>" in content:
                return {str(token): int(number) for token, number in content.items()}
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
            raise UserError(f"{folder / name} is damaged: copy the folder again") from None
    raise UserError(
        f"{folder} has no tokenizer with <|s_0|>: it is no CosyVoice LLM of upstream's recipes, "
        "or its tokenizer's files were not copied"
    )


CUT = {"top_p": 0.8, "top_k": 25}
"""What upstream draws from."""


def save_hugging_face(
    model: SpeechTokenLM, tokenizer: Any, folder: Path, precision: Precision | None = None
) -> None:
    """Write the form upstream's GRPO recipe trains: one vocabulary of text, codes, sos and task.

    The codes follow the tokenizer's last token, so a text table that is longer than the tokenizer
    loses its unused rows, as with upstream's own script. The output bias is kept, −inf elsewhere.

    Args:
        model: a CosyVoice2 LM.
        tokenizer: `transformers`' of the model folder, CosyVoice's tokens among its own.
        folder: gets `model.safetensors`, `config.json` and the tokenizer's files.
        precision: of the weights; None: that of the file the model began from.

    Raises:
        UserError: it is a CosyVoice3 LM, which the recipe does not know, the tokenizer is
            another model's, a weight is no number in this precision, or the folder cannot be
            written.
    """
    config = model.config.model_copy(update={"precision": precision or model.config.precision})
    if config.version != 2:
        raise UserError(
            "the Hugging Face form is written for CosyVoice2 alone: export it with --to cosyvoice3"
        )
    first, codes = len(tokenizer), config.speech_rows
    if first > config.text_vocabulary:
        raise UserError(
            f"the tokenizer has {first} tokens and the policy {config.text_vocabulary} rows of "
            "text: it belongs to another model"
        )
    names = [f"<|s_{code}|>" for code in range(config.codes)]
    tokenizer.add_tokens([*names, "<|eos1|>", "<|eos2|>", "<|eos3|>", "<|sos|>", "<|task_id|>"])
    rows = -(-(first + codes + 2) // 128) * 128
    own = in_precision(model.state_dict(), config.precision, folder / "model.safetensors", {})
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
    ends = [first + config.codes + index for index in range(config.specials)]
    # Without `do_sample` transformers refuses to save the folder again.
    generation = {"eos_token_id": ends, "do_sample": True, "temperature": 1.0} | CUT
    there = folder.exists()
    try:
        with writing(folder):
            tokenizer.save_pretrained(folder)
            write_json(folder / "generation_config.json", generation)
            save_tensors(folder / "model.safetensors", state)
            # Last, because a folder without it is not taken for a model.
            joint = _hugging_face_config(config, rows, first + config.eos)
            write_json(folder / "config.json", joint)
    except UserError:
        if not there:  # so that a second call finds the folder as empty as the first did
            shutil.rmtree(folder, ignore_errors=True)
        raise


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
