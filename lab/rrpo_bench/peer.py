"""Drawing speech tokens with `transformers`, to compare with."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rrpo.errors import UserError
from rrpo.policy import SpeechTokenLM


def generation(model: SpeechTokenLM, inputs: Tensor, count: int) -> Callable[[], object]:
    """Return the draw of `count` tokens after embedded inputs (B, S, D), on the same weights.

    Raises:
        UserError: `transformers` is missing.
    """
    try:
        from transformers import Qwen2Config, Qwen2ForCausalLM
    except ImportError:
        raise UserError(
            "the rollout benchmark needs transformers: pip install transformers"
        ) from None
    shape = model.config
    settings: Any = Qwen2Config(  # type: ignore[no-untyped-call]
        vocab_size=shape.speech_rows,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        intermediate_size=shape.intermediate,
        rope_theta=shape.rope_theta,
        rms_norm_eps=shape.norm_epsilon,
        tie_word_embeddings=False,
        attn_implementation="sdpa",
    )
    peer: Any = Qwen2ForCausalLM(settings)  # type: ignore[no-untyped-call]
    peer = peer.eval().to(inputs.device)
    state = model.state_dict()
    own = {
        f"model.{key}": value
        for key, value in state.items()
        if key.startswith(("layers.", "norm."))
    }
    own["model.embed_tokens.weight"] = state["speech_embedding.weight"]
    own["lm_head.weight"] = state["head.weight"]
    peer.load_state_dict(own)

    def draw() -> object:
        return peer.generate(
            inputs_embeds=inputs,
            attention_mask=torch.ones(inputs.shape[:2], dtype=torch.long, device=inputs.device),
            do_sample=True,
            top_k=0,
            top_p=1.0,
            min_new_tokens=count,
            max_new_tokens=count,
            pad_token_id=shape.eos,
            eos_token_id=shape.eos,
        )

    return draw
