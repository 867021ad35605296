"""The Hugging Face form: both versions, shards, other files, and PEFT's adapters."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from foreign_checkpoints import (
    CONFIG,
    TEXT,
    joint_folder,
    joint_state,
    joint_tokens,
    model_folder,
    save_safetensors,
    tiny,
    upstream_state,
)
from model_folder import write_tokenizer
from rrpo import loading
from rrpo.errors import UserError
from rrpo.policy import SpeechTokenLM, cosyvoice
from rrpo.policy.cosyvoice_text import CosyVoiceTokenizer, read_tokenizer
from rrpo.policy_runs import PolicyRun


def require_same(path: Path, version: int) -> None:
    """Require that a path is read as exactly the tiny LM of a version."""
    model = cosyvoice.load(path)
    assert model.config == tiny(version).config
    for name, value in model.state_dict().items():
        assert torch.equal(value, tiny(version).state_dict()[name]), name


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as error:
        loading.load_policy(str(path))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def joint(tmp_path: Path) -> Path:
    return joint_folder(tmp_path / "hf", joint_state(upstream_state(tmp_path)), joint_tokens(2))


def shard(folder: Path) -> dict[str, str]:
    """Split a folder's weights over two files, and return what its index says."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {}
    for number, keys in enumerate((sorted(state)[:9], sorted(state)[9:]), 1):
        name = f"model-0000{number}-of-00002.safetensors"
        save_file({key: state[key] for key in keys}, folder / name)
        places |= dict.fromkeys(keys, name)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return places


@pytest.mark.slow
@pytest.mark.parametrize("version", [2, 3])
def test_each_version_is_read_as_itself(tmp_path: Path, version: int) -> None:
    """As in nvidia-china-sae/mair-hub#35: version 3's form was taken for version 2's."""
    state = joint_state(upstream_state(tmp_path, version), more=5)
    folder = joint_folder(tmp_path / "hf", state, joint_tokens(version))
    require_same(folder, version)
    require_same(folder / "model.safetensors", version)
    (folder / "added_tokens.json").rename(folder / "kept.json")
    names = joint_tokens(version)
    added = [{"content": name, "id": number} for name, number in names.items()]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    require_same(folder, version)
    (folder / "tokenizer.json").unlink()
    decoder = {str(number): {"content": name} for name, number in names.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder}))
    require_same(folder, version)


def test_version_3_with_its_specials_repeated_after_the_table(tmp_path: Path) -> None:
    """As in QwenAudio/CosyVoice PR#1890."""
    state = joint_state(upstream_state(tmp_path, 3), aliases=True)
    tokens = {f"<|s_{code}|>": TEXT + code for code in range(6761)}
    tokens |= {"<|sos|>": TEXT + 6761, "<|eos|>": TEXT + 6762, "<|task_id|>": TEXT + 6763}
    require_same(joint_folder(tmp_path / "same", state, tokens), 3)
    for name, key, row in (
        ("<|sos|>", "model.embed_tokens.weight", 6761),
        ("<|eos|>", "lm_head.weight", 6762),
    ):
        trained = {**state, key: state[key].clone()}
        trained[key][TEXT + row] += 1
        message = refusal(joint_folder(tmp_path / name, trained, tokens))
        assert f"{name} differs from row {row - 200} of the speech table" in message


@pytest.mark.parametrize(
    ("tokens", "more", "words"),
    [
        ({"<|s_0|>": TEXT}, 0, "its tokenizer does not name <|sos|>"),
        (joint_tokens(2), 40, "names CosyVoice2's specials and has 7101 rows"),
        ({**joint_tokens(3), "<|sos|>": TEXT + 7}, 0, "<|sos|> is 7 ids after <|s_0|>"),
        ({**joint_tokens(3), "<|s_0|>": -1}, 0, "no 6561 codes in a row"),
        ({**joint_tokens(3), "<|s_0|>": "x"}, 0, "is damaged"),
        ({"a": 1}, 0, "no tokenizer with <|s_0|>"),
        ([1], 0, "no tokenizer with <|s_0|>"),
    ],
)
def test_a_version_that_cannot_be_told_is_refused(
    tmp_path: Path, tokens: Any, more: int, words: str
) -> None:
    state = joint_state(upstream_state(tmp_path, 3), more=more)
    assert words in refusal(joint_folder(tmp_path / "hf", state, tokens))


def test_an_output_bias_and_the_specials_of_version_3_are_refused(tmp_path: Path) -> None:
    state = joint_state(upstream_state(tmp_path, 3))
    state["lm_head.bias"] = torch.zeros(len(state["lm_head.weight"]))
    assert "no output bias" in refusal(joint_folder(tmp_path / "hf", state, joint_tokens(3)))


def test_the_tokenizer_of_the_joint_form_reads_texts_and_no_codes(tmp_path: Path) -> None:
    """Its codes are words of the tokenizer, but no rows of the text table."""
    pytest.importorskip("transformers", reason="needs transformers")
    write_tokenizer(tmp_path / "CosyVoice2")
    tokenizer = read_tokenizer(tmp_path / "CosyVoice2")
    plain = CosyVoiceTokenizer(tmp_path / "CosyVoice2", rows=TEXT)
    cosyvoice.save_hugging_face(tiny(), tokenizer, tmp_path / "hf")
    model = cosyvoice.load(tmp_path / "hf")
    found = loading.load_tokenizer(PolicyRun(start=str(tmp_path / "hf")), model)
    assert found.encode("It is late.") == plain.encode("It is late.")
    with pytest.raises(UserError, match=r"holds <\|s_7\|>: leave it out"):
        found.encode("It is <|s_7|> late.")
    write_adapters(tmp_path / "peft", adapters(), base_model_name_or_path=str(tmp_path / "hf"))
    again = loading.load_tokenizer(PolicyRun(start=str(tmp_path / "peft")), model)
    assert again.encode("It is late.") == plain.encode("It is late.")


@pytest.mark.slow
def test_shards_and_torchs_files_are_read_like_one_file(tmp_path: Path, joint: Path) -> None:
    """As in meta-pytorch/torchtune#2048 and volcengine/verl#533."""
    whole = load_file(joint / "model.safetensors")
    shard(joint)
    require_same(joint, 2)
    require_same(joint / "model.safetensors.index.json", 2)
    other = joint_folder(tmp_path / "bin", whole, joint_tokens(2))
    (other / "model.safetensors").unlink()
    torch.save(whole, other / "pytorch_model.bin")
    require_same(other, 2)
    require_same(other / "pytorch_model.bin", 2)


def test_a_shard_that_is_not_there_is_named(joint: Path) -> None:
    """As in sgl-project/sglang PR#32279: the model was made of the shards that were there."""
    shard(joint)
    (joint / "model-00002-of-00002.safetensors").unlink()
    assert "lacks model-00002-of-00002.safetensors" in refusal(joint)


def test_shards_and_an_index_of_two_models_are_refused(joint: Path) -> None:
    """As in Blaizzy/mlx-vlm PR#1464: a stray file beside the shards was read with them."""
    whole = load_file(joint / "model.safetensors")
    places = shard(joint)
    index = joint / "model.safetensors.index.json"
    for changed, words in (
        ({**places, "lm_head.extra": "model-00001-of-00002.safetensors"}, "lacks lm_head.extra"),
        ({key: name for key, name in places.items() if key != "lm_head.bias"}, "not place there"),
        ({**places, "lm_head.bias": "../hf/model.safetensors"}, "no file beside it"),
        ({}, "has no weight_map"),
    ):
        index.write_text(json.dumps({"weight_map": changed}))
        assert words in refusal(joint)
    index.write_text(json.dumps({"weight_map": places}))
    save_safetensors(whole, joint / "model.safetensors")
    assert "has both model.safetensors and model.safetensors.index.json" in refusal(joint)


def write_adapters(folder: Path, tensors: dict[str, Tensor], **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    described = {"peft_type": "LORA", "r": 4, "lora_alpha": 16, **config}
    (folder / "adapter_config.json").write_text(json.dumps(described))
    return folder


def adapters(start: str = "base_model.model.model") -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, out in (("self_attn.q_proj", 8), ("mlp.gate_proj", 12)):
        for layer in (0, 1):
            key = f"{start}.layers.{layer}.{name}"
            found[f"{key}.lora_A.weight"] = torch.randn(4, 8, generator=generator)
            found[f"{key}.lora_B.weight"] = torch.randn(out, 4, generator=generator)
    return found


def projection(model: SpeechTokenLM) -> Tensor:
    return model.layers[1].self_attn.q_proj.weight  # type: ignore[union-attr, return-value]


def test_adapters_are_added_to_the_base_that_they_name(tmp_path: Path, joint: Path) -> None:
    """As in openvla/openvla#54; rsLoRA's scale as in NVIDIA/TensorRT-LLM#1668."""
    own = adapters()
    delta = (
        own["base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight"]
        @ (own["base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"])
    )
    base = {"base_model_name_or_path": str(joint)}
    for name, more, scale in (
        ("plain", {}, 4.0),
        ("rs", {"use_rslora": True}, 8.0),
        ("pattern", {"alpha_pattern": {"layers.1.self_attn.q_proj": 2}}, 0.5),
        ("full", {"alpha_pattern": {"model.layers.1.self_attn.q_proj": 2}}, 0.5),
        ("another", {"alpha_pattern": {"v_proj": 2}}, 4.0),
    ):
        model = loading.load_policy(str(write_adapters(tmp_path / name, own, **base, **more)))
        torch.testing.assert_close(projection(model), projection(tiny()) + scale * delta)
        assert torch.equal(model.head.weight, tiny().head.weight)
    assert loading.is_cosyvoice(str(tmp_path / "plain"))
    assert cosyvoice.model_folder(tmp_path / "plain") == joint
    beside = write_adapters(tmp_path / "hf" / "inside", own, base_model_name_or_path="..")
    found = projection(cosyvoice.load(beside / "adapter_model.safetensors"))
    torch.testing.assert_close(found, projection(tiny()) + 4 * delta)
    upstream = model_folder(tmp_path / "CosyVoice2")
    cosyvoice.save(tiny(), upstream / "llm.pt")
    other = adapters("base_model.model.llm.model.model")
    found_other = cosyvoice.load(
        write_adapters(tmp_path / "upstream", other, base_model_name_or_path=str(upstream))
    )
    torch.testing.assert_close(projection(found_other), found)


@pytest.mark.slow
def test_adapters_give_what_peft_merges(tmp_path: Path, joint: Path) -> None:
    peft = pytest.importorskip("peft", reason="the oracle is not installed")
    transformers = pytest.importorskip("transformers", reason="the oracle is not installed")
    state = load_file(joint / "model.safetensors")
    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2}
    rows = {"vocab_size": len(state["lm_head.weight"]), "tie_word_embeddings": False}
    model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**CONFIG, **sizes, **rows))
    model.load_state_dict({k: v for k, v in state.items() if k != "lm_head.bias"})
    config = peft.LoraConfig(
        r=2, lora_alpha=3, target_modules="all-linear", rank_pattern={"up_proj": 3}
    )
    adapted = peft.get_peft_model(model, config)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    adapted.peft_config["default"].base_model_name_or_path = str(joint)
    described = {"model_type": "qwen2", **CONFIG, **sizes, **rows}
    (joint / "config.json").write_text(json.dumps(described))
    adapted.save_pretrained(tmp_path / "peft")
    found = cosyvoice.load(tmp_path / "peft").state_dict()
    merged = adapted.merge_and_unload().state_dict()
    for name, value in found.items():
        if name.startswith("layers."):
            torch.testing.assert_close(value, merged[f"model.{name}"], msg=name)
    assert not math.isclose(float(found["layers.1.mlp.up_proj.weight"].sum()), 0)


def test_adapters_that_cannot_be_added_say_why(tmp_path: Path, joint: Path) -> None:
    own, base = adapters(), {"base_model_name_or_path": str(joint)}

    def said(tensors: dict[str, Tensor], **config: Any) -> str:
        return refusal(write_adapters(tmp_path / "peft", tensors, **{**base, **config}))

    assert "its base 'CosyVoice2-0.5B' is not here: write the path of the base" in said(
        own, base_model_name_or_path="CosyVoice2-0.5B"
    )
    assert "is not here" in said(own, base_model_name_or_path=None)
    for key, value in (
        ("peft_type", "IA3"),
        ("use_dora", True),
        ("init_lora_weights", "pissa"),
        ("init_lora_weights", "olora"),
        ("bias", "all"),
        ("modules_to_save", ["lm_head"]),
        ("lora_alpha", "x"),
    ):
        assert f"adapter_config.json: {key}" in said(own, **{key: value})
    assert "alpha_pattern .* is no plain name" in said(own, alpha_pattern={".*": 2})
    assert "no adapter of a decoder layer" in said({**own, "lm_head.weight": torch.ones(2)})
    first = "base_model.model.model.layers.0.mlp.gate_proj.lora_A.weight"
    assert "no lora_A and lora_B layers.0" in said({k: v for k, v in own.items() if k != first})
    assert "(12, 4) and (4, 9)" in said({**own, first: torch.ones(4, 9)})
    assert "other ranks" in said({**own, first: torch.ones(3, 8)})
    assert "holds NaN" in said({**own, first: torch.full((4, 8), torch.nan)})
    far = {key.replace("layers.1", "layers.7"): value for key, value in own.items()}
    assert "its base has no layers.7" in said(far)
    write_adapters(tmp_path / "peft", own, base_model_name_or_path=str(tmp_path / "again"))
    write_adapters(tmp_path / "again", own, **base)
    assert "is an adapter" in refusal(tmp_path / "peft")


def test_weights_with_adapters_beside_them_are_not_taken_for_merged(joint: Path) -> None:
    """As in verl-project/verl#7285: what was called merged were the weights of the base."""
    write_adapters(joint / "lora_adapter", adapters())
    message = refusal(joint)
    assert f"name {joint / 'lora_adapter'}, with base_model_name_or_path {joint}" in message
    (joint / "lora_adapter" / "adapter_config.json").unlink()
    require_same(joint, 2)
    write_adapters(joint, adapters())
    assert "holds whole weights and adapter_config.json" in refusal(joint)
