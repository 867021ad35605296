"""Upstream's checkpoints: the names of their weights, as its classes `Qwen2LM` and `CosyVoice3LM`
have them, beside ours."""

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
LAYERS = "llm.model.model.layers"
TEXT = TABLES["text_embedding.weight"]
SPEECH = TABLES["speech_embedding.weight"]
TIED = "llm.model.lm_head.weight"
"""Upstream's copy of the text table; it must be in the file and is used for nothing."""
SPECIALS = {2: 3, 3: 200}
"""Rows of the speech table after the codes."""
TEXT_TABLE = 151936
"""Rows of the text table of CosyVoice2 as published."""


def key_map(version: int, layers: int) -> dict[str, str]:
    """Return our names of all weights → upstream's, the tied copy aside."""
    names = dict(TABLES) if version == 3 else {**TABLES, **VERSION_2_ONLY}
    for layer in range(layers):
        names |= {f"layers.{layer}.{key}": f"{LAYERS}.{layer}.{key}" for key in LAYER}
    return names
