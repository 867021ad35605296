"""Tiny CosyVoice LMs and their state dicts, for tests of the forms a checkpoint comes in."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from rrpo.policy import LMConfig, SpeechTokenLM, cosyvoice

TEXT = 300
"""Rows of the text table."""
CONFIG = {"num_attention_heads": 2, "num_key_value_heads": 1}
QUERY = "llm.model.model.layers.0.self_attn.q_proj"


def tiny(version: int = 2, precision: str = "float32") -> SpeechTokenLM:
    torch.manual_seed(version)
    model = SpeechTokenLM(
        LMConfig(
            version=version,  # type: ignore[arg-type]
            text_vocabulary=TEXT,
            hidden=8,
            layers=2,
            heads=2,
            key_value_heads=1,
            intermediate=12,
            specials=cosyvoice.SPECIALS[version],
            precision=precision,  # type: ignore[arg-type]
            text="byte_pairs",
            codec=f"speech_tokenizer_v{version}",
        )
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model.eval()


def upstream_state(folder: Path, version: int = 2, precision: str = "float32") -> dict[str, Tensor]:
    """Return the state dict of a tiny LM as upstream saves it."""
    cosyvoice.save(tiny(version, precision), folder / "source.pt")
    state: dict[str, Tensor] = torch.load(folder / "source.pt", weights_only=True)
    return state


def model_folder(folder: Path) -> Path:
    """Make a folder with Qwen2's configuration where a model folder has it."""
    (folder / "CosyVoice-BlankEN").mkdir(parents=True)
    (folder / "CosyVoice-BlankEN" / "config.json").write_text(json.dumps(CONFIG))
    return folder


def save_safetensors(state: Mapping[str, Tensor], file: Path) -> None:
    save_file({key: value.clone().contiguous() for key, value in state.items()}, file)


def joint_state(state: Mapping[str, Tensor], more: int = 0, aliases: bool = False) -> Any:
    """Return the Hugging Face form of upstream's state dict: text, codes and specials in a table.

    Args:
        more: rows after them.
        aliases: whether sos, eos and task of version 3 are repeated after its specials.
    """
    text, speech = state["llm.model.model.embed_tokens.weight"], state["speech_embedding.weight"]
    rows = [text, speech, state.get("llm_embedding.weight", speech[:0])]
    heads = [torch.zeros_like(text), state["llm_decoder.weight"]]
    if aliases:
        rows.append(speech[6561:6564])
        heads.append(state["llm_decoder.weight"][6561:6564])
    rows.append(torch.zeros(more, text.shape[1]))
    table = torch.cat(rows)
    heads.append(torch.zeros(len(table) - sum(map(len, heads)), text.shape[1]))
    joint = {"model.embed_tokens.weight": table, "lm_head.weight": torch.cat(heads)}
    if "llm_decoder.bias" in state:
        bias = torch.full((len(table),), -torch.inf)
        bias[TEXT : TEXT + 6564] = state["llm_decoder.bias"]
        joint["lm_head.bias"] = bias
    for key, value in state.items():
        if key.startswith("llm.model.model.") and "embed_tokens" not in key:
            joint[key.removeprefix("llm.model.")] = value
    return joint


def joint_tokens(version: int) -> dict[str, int]:
    """Return the added tokens of upstream's recipe for a version, and their ids."""
    names = [f"<|s_{code}|>" for code in range(6561)]
    if version == 2:
        names += ["<|eos1|>", "<|eos2|>", "<|eos3|>", "<|sos|>", "<|task_id|>"]
    else:
        names += ["<|sos|>", "<|eos1|>", "<|task_id|>", "<|fill|>"]
        names += [f"<|s_{code}|>" for code in range(6565, 6761)]
    return {name: TEXT + number for number, name in enumerate(names)}


def joint_folder(folder: Path, state: Mapping[str, Tensor], tokens: Mapping[str, int]) -> Path:
    folder.mkdir(parents=True)
    save_safetensors(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2", **CONFIG}))
    (folder / "added_tokens.json").write_text(json.dumps(tokens))
    return folder
