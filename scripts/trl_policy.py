"""The mini policy as a `transformers` model that TRL can train, and back.

Text, speech and specials share one table of joint ids, as in `SpeechTokenLM.embed`; the bias of the
output layer leaves the joint ids that are not speech no probability.
"""

from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from rrpo.policy import LMConfig, SpeechTokenLM
from rrpo.policy.layout import Prompt, prompt

NEVER = -1e4
"""Logit of joint ids that are not speech."""


def as_transformers(model: SpeechTokenLM) -> Any:
    """Return a Qwen2ForCausalLM over joint ids that computes what the policy does."""
    shape = model.config
    joint = shape.text_vocabulary + shape.speech_rows + (2 if shape.version == 2 else 0)
    settings = Qwen2Config(
        vocab_size=joint,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        intermediate_size=shape.intermediate,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        rms_norm_eps=shape.norm_epsilon,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=shape.text_vocabulary + shape.eos,
        pad_token_id=shape.text_vocabulary + shape.eos + 1,
    )
    peer = Qwen2ForCausalLM(settings)
    # TRL multiplies by the weight itself, so ids that are not speech need rows, too.
    peer.lm_head = nn.Linear(shape.hidden, joint)
    nn.init.zeros_(peer.lm_head.weight)
    nn.init.constant_(peer.lm_head.bias, NEVER)
    copy(model, peer)
    return peer


@torch.no_grad()
def copy(model: SpeechTokenLM, peer: Any) -> None:
    """Copy the weights of the policy into its other form."""
    for ours, theirs in pairs(model, peer):
        theirs.copy_(ours)


@torch.no_grad()
def back(peer: Any, model: SpeechTokenLM) -> None:
    """Copy the weights back into the policy."""
    for ours, theirs in pairs(model, peer):
        ours.copy_(theirs)


def pairs(model: SpeechTokenLM, peer: Any) -> list[tuple[Tensor, Tensor]]:
    """Return the tensors that belong together."""
    shape, table = model.config, peer.model.embed_tokens.weight
    first, second = shape.text_vocabulary, shape.text_vocabulary + shape.speech_rows
    found = [
        (model.text_embedding.weight, table[:first]),
        (model.speech_embedding.weight, table[first:second]),
        (model.head.weight, peer.lm_head.weight[first:second]),
        (model.head.bias, peer.lm_head.bias[first:second]),
    ]
    if model.special_embedding is not None:
        found.append((model.special_embedding.weight, table[second:]))
    theirs = dict(peer.model.named_parameters())
    own = [name for name, _ in model.named_parameters() if name.startswith(("layers.", "norm."))]
    mine = dict(model.named_parameters())
    return found + [(mine[name], theirs[name]) for name in own]


def as_tokenizer(shape: LMConfig) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose words are the joint ids themselves."""
    joint = shape.text_vocabulary + shape.speech_rows + (2 if shape.version == 2 else 0)
    words = {str(index): index for index in range(joint)}
    inner = Tokenizer(models.WordLevel(words, unk_token="0"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token=str(shape.text_vocabulary + shape.eos),
        pad_token=str(shape.text_vocabulary + shape.eos + 1),
        padding_side="left",
    )


def prompt_text(shape: LMConfig, asked: Prompt) -> str:
    """Return the joint ids of a prompt as words."""
    ids = prompt(shape, asked.text_ids, asked.instruct_ids)
    return " ".join(str(index) for index in ids.tolist())
