"""Checkpoints in every wrapping: what is read, and what is refused with its name."""

import argparse
import json
import os
import pathlib
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from foreign_checkpoints import CONFIG, QUERY, model_folder, save_safetensors, tiny, upstream_state
from rrpo import loading, policy, reward
from rrpo.errors import UserError
from rrpo.policy import cosyvoice
from rrpo.reward import RewardConfig, RewardModel

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> State:
    return upstream_state(tmp_path_factory.mktemp("state"))


def refusal(path: Path) -> str:
    """Return the one line by which every door refuses a path."""
    with pytest.raises(UserError) as error:
        cosyvoice.load(path, CONFIG)
    message = str(error.value)
    assert "\n" not in message and "\x1b" not in message and len(message) < 600
    with pytest.raises(UserError) as again:
        loading.load_policy(str(path))
    assert str(again.value) == message
    return message


def require_equal(path: Path, state: Mapping[str, Tensor], tmp_path: Path) -> None:
    """Require that a path is read as exactly these weights, and comes out as them."""
    cosyvoice.save(cosyvoice.load(path, CONFIG), tmp_path / "again.pt")
    again = torch.load(tmp_path / "again.pt", weights_only=True)
    assert again.keys() == state.keys()
    for key, value in again.items():
        assert value.dtype == state[key].dtype and torch.equal(value, state[key]), key


def compiled(state: State) -> State:
    """Name weights as a compiled LM within FSDP and recomputed layers does."""
    return {
        key.replace("llm.model", "llm._orig_mod.model").replace(
            "layers.0.", "layers.0._fsdp_wrapped_module._checkpoint_wrapped_module."
        ): value
        for key, value in state.items()
    }


WRAPPINGS: dict[str, Any] = {
    "plain": lambda s: s,
    "module": lambda s: {f"module.{k}": v for k, v in s.items()},
    "compiled": lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
    "both": lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()},
    "inner": compiled,
    "llm": lambda s: {f"llm.{k}": v for k, v in s.items()},
    "model": lambda s: {"model": s, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}},
    "state_dict": lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}, "epoch": 3},
    "deepspeed": lambda s: {"module": s, "global_steps": 10, "ds_version": "0.14", "lr": [1e-5]},
    "nested": lambda s: {"checkpoint": {"model": {"module": s}}},
    "bookkeeping": lambda s: {**s, "epoch": 3, "step": torch.tensor(9), "loss_dict": {"loss": 1.0}},
    "parameters": lambda s: {k: torch.nn.Parameter(v) for k, v in s.items()},
    "ordered": OrderedDict,
    "not contiguous": lambda s: {
        k: v.t().contiguous().t() if v.ndim == 2 else v for k, v in s.items()
    },
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_a_wrapping_changes_nothing(tmp_path: Path, state: State, wrapping: str) -> None:
    """As in yl4579/StyleTTS2 PR#253, SWivid/F5-TTS#459 and QwenAudio/CosyVoice#490."""
    folder = model_folder(tmp_path / "CosyVoice2")
    torch.save(WRAPPINGS[wrapping](state), folder / "llm.pt")
    require_equal(folder, state, tmp_path)
    assert loading.is_cosyvoice(str(folder))


@pytest.mark.parametrize(
    "name", ["llm.rl.pt", "llm.pth", "llm.ckpt", "pytorch_model.bin", "x.safetensors", "weights"]
)
def test_a_file_of_any_name_is_known_by_what_is_in_it(
    tmp_path: Path, state: State, name: str
) -> None:
    folder = model_folder(tmp_path / "CosyVoice2")
    torch.save({"speech_embedding.weight": torch.zeros(2, 2)}, folder / "llm.pt")
    if name.endswith(".safetensors"):
        save_safetensors(state, folder / name)
    else:
        torch.save(state, folder / name, _use_new_zipfile_serialization=name != "llm.ckpt")
    require_equal(folder / name, state, tmp_path)
    assert loading.is_cosyvoice(str(folder / name))


def test_safetensors_by_the_name_of_llm_pt_and_without_the_tied_copy(
    tmp_path: Path, state: State
) -> None:
    folder = model_folder(tmp_path / "CosyVoice2")
    save_safetensors(state, folder / "llm.pt")
    require_equal(folder, state, tmp_path)
    (folder / "llm.pt").unlink()
    untied = {key: value for key, value in state.items() if key != cosyvoice.TIED}
    save_safetensors(untied, folder / "llm.safetensors")
    require_equal(folder, state, tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda s: {"ema": s, "model": s}, "several models (ema, model)"),
        (lambda s: {**s, **{f"ema.{k}": v for k, v in s.items()}}, "under , ema."),
        (lambda s: {**s, **{f"module.{k}": v for k, v in s.items()}}, "twice, once within"),
        (lambda s: {**{f"llm.{k}": v for k, v in s.items()}, "flow.w": torch.ones(1)}, "flow.w"),
        (lambda _: {"state": {0: {"step": torch.ones(1)}}, "param_groups": []}, "no weights"),
        (lambda s: list(s.values()), "no state dict but a list"),
        (lambda _: {}, "no weights (but nothing)"),
        (lambda _: {3: torch.ones(2)}, "3 is no name"),
        (lambda s: {**s, f"{QUERY}.weight": s[f"{QUERY}.weight"][:0]}, "is empty"),
        (lambda s: {**s, f"{QUERY}.weight": torch.ones(1).expand(8, 8)}, "repeats its numbers"),
        (lambda s: {**s, "a\nb" * 99: torch.ones(2)}, "unexpected weight 'a\\nb"),
        (lambda s: {**s, f"{QUERY}.lora_A.default.weight": torch.ones(4, 8)}, "merge_and_unload"),
        (lambda s: {**s, cosyvoice.TIED: s[cosyvoice.TIED].to_sparse()}, "sparse"),
    ],
)
def test_what_is_refused_is_named(tmp_path: Path, state: State, content: Any, words: str) -> None:
    folder = model_folder(tmp_path / "CosyVoice2")
    torch.save(content(state), folder / "llm.pt")
    message = refusal(folder)
    assert words in message and str(folder / "llm.pt") in message


class Harmful:
    def __reduce__(self) -> Any:
        return os.system, ("touch harmed",)


@pytest.mark.parametrize(
    ("beside", "culprit"),
    [
        (pathlib.PurePosixPath("/x"), "PurePosixPath"),
        (argparse.Namespace(lr=1), "argparse.Namespace"),
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        (Harmful(), f"{os.system.__module__}.system"),
    ],
)
def test_a_class_beside_the_weights_is_named_and_never_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: State, beside: object, culprit: str
) -> None:
    """As in rhasspy/piper#718, yl4579/StyleTTS2#348 and xiaomi-research/recogdrive#60."""
    monkeypatch.chdir(tmp_path)
    for name, new in (("zip.pt", True), ("old.pt", False)):
        torch.save({**state, "beside": beside}, name, _use_new_zipfile_serialization=new)
        message = refusal(Path(name))
        assert f"{name} holds more than tensors: " in message and culprit in message
        assert "torch.save(model.state_dict()" in message and "weights_only=False" not in message
    for protocol in (2, 4, 5):
        Path("pickle.pt").write_bytes(pickle.dumps({"x": beside}, protocol))
        assert culprit in refusal(Path("pickle.pt"))
    assert not Path("harmed").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html>Access to model is restricted</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 2\n", "git lfs pull"),
        (b'{"error": "not found"}', "JSON"),
        (b"", "truncated"),
    ],
)
def test_what_was_downloaded_in_place_of_the_file(
    tmp_path: Path, content: bytes, words: str
) -> None:
    for name in ("llm.pt", "pytorch_model.bin"):
        (tmp_path / name).write_bytes(content)
        assert words in refusal(tmp_path / name)


def test_a_flipped_bit_in_a_weight_is_found(tmp_path: Path, state: State) -> None:
    """Torch does not compare the checksums of its archive; without them nothing is compared."""
    torch.save(state, tmp_path / "llm.pt")
    data = bytearray((tmp_path / "llm.pt").read_bytes())
    data[data.find(state["llm_decoder.bias"].numpy().tobytes()) + 100] ^= 4
    (tmp_path / "llm.pt").write_bytes(data)
    assert "differs from its checksum" in refusal(tmp_path / "llm.pt")
    if not hasattr(torch.serialization, "set_crc32_options"):
        pytest.skip("torch before 2.6 writes no archive without checksums")
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state, tmp_path / "unsummed.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    require_equal(tmp_path / "unsummed.pt", state, tmp_path)


def test_parts_of_a_checkpoint_name_what_joins_them(tmp_path: Path) -> None:
    """As in volcengine/verl#533 and QwenAudio/CosyVoice#490."""
    for name, words in (
        ("model_world_size_2_rank_0.pt", "python -m verl.model_merger merge --backend fsdp"),
        ("zero_pp_rank_0_mp_rank_00_model_states.pt", "zero_to_fp32.py"),
        ("mp_rank_01_model_states.pt", "zero_to_fp32.py"),
        ("model-00001-of-00002.safetensors", "one of 2 shards: name its folder"),
        (".metadata", "dcp_to_torch"),
    ):
        folder = tmp_path / name.strip(".")
        folder.mkdir()
        (folder / name).write_bytes(b"part")
        assert words in refusal(folder if name == ".metadata" else folder / name)
        (folder / "config.json").write_text(json.dumps(CONFIG))
        if name.endswith(".pt"):
            assert words in refusal(folder)
    folder = tmp_path / "epochs"
    folder.mkdir()
    (folder / "epoch_3_whole.pt").write_bytes(b"whole")
    assert "or one of those there: epoch_3_whole.pt" in refusal(folder)


def test_the_whole_weights_of_a_deepspeed_folder_are_read(tmp_path: Path, state: State) -> None:
    """As in QwenAudio/CosyVoice#490: its training with DeepSpeed leaves a folder of this kind."""
    folder = model_folder(tmp_path / "epoch_6_whole")
    beside = {"dp_world_size": 1, "ds_config": {"bf16": {"enabled": True}}, "optimizer": None}
    torch.save({"module": state, **beside}, folder / "mp_rank_00_model_states.pt")
    torch.save(
        {"optimizer_state_dict": {}}, folder / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"
    )
    require_equal(folder, state, tmp_path)


def test_numbers_of_every_kind_are_read_exactly_or_named(tmp_path: Path, state: State) -> None:
    """As in deepseek-ai/DeepSeek-V3#1002: weights in bfloat16 and norms in float32."""
    file = tmp_path / "llm.pt"

    def loaded(changed: State) -> policy.SpeechTokenLM:
        torch.save(changed, file)
        return cosyvoice.load(file, CONFIG)

    mixed = {k: v if "norm" in k else v.bfloat16() for k, v in state.items()}
    model = loaded(mixed)
    assert model.config.precision == "float32"
    assert torch.equal(model.norm.weight, state["llm.model.model.norm.weight"])
    assert torch.equal(model.head.weight, mixed["llm_decoder.weight"].float())
    half = {k: v.half() for k, v in state.items()}
    require_equal(_saved(half, file), half, tmp_path)
    wide = loaded({k: v.double() for k, v in state.items()})
    assert (
        wide.config.precision == "float32"
        and torch.equal(wide.head.bias, model.head.bias.float()) is False
    )
    assert torch.equal(wide.head.bias, state["llm_decoder.bias"])
    with pytest.warns(UserWarning, match=r"1 weights are float64 and are rounded to float32"):
        loaded({**state, "llm_decoder.bias": torch.full((6564,), 1 / 3, dtype=torch.float64)})
    for kind in ("float8_e4m3fn", "int8", "bool", "complex64"):
        torch.save({k: v.to(getattr(torch, kind)) for k, v in state.items()}, file)
        assert f"is {kind}: quantized weights are not read" in refusal(file)
    far = {**state, "llm_decoder.bias": torch.full((6564,), 1e300, dtype=torch.float64)}
    assert "goes beyond" in refusal(_saved(far, file))


def _saved(state: Mapping[str, Tensor], file: Path) -> Path:
    torch.save(dict(state), file)
    return file


def test_what_float16_cannot_hold_is_not_written(tmp_path: Path) -> None:
    model = tiny(2, "float16")
    model.norm.weight.data[0] = 1e6
    refused = (
        r"llm.model.model.norm.weight reaches 1e\+06 and float16 ends at 65504: export it with"
    )
    with pytest.raises(UserError, match=refused):
        cosyvoice.save(model, tmp_path / "llm.pt")
    assert not list(tmp_path.iterdir())
    cosyvoice.save(model, tmp_path / "llm.pt", "float32")
    assert torch.equal(cosyvoice.load(tmp_path / "llm.pt", CONFIG).norm.weight, model.norm.weight)


def test_stored_rotary_frequencies_must_be_those_of_the_configuration(
    tmp_path: Path, state: State
) -> None:
    right = 1e6 ** -(torch.arange(0, 4, 2) / 4)
    key = "llm.model.model.layers.0.self_attn.rotary_emb.inv_freq"
    folder = model_folder(tmp_path / "CosyVoice2")
    torch.save({**state, key: right}, folder / "llm.pt")
    require_equal(folder, state, tmp_path)
    torch.save({**state, key: 2 * right}, folder / "llm.pt")
    assert f"{key} is not of rope_theta 1e+06" in refusal(folder)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"num_hidden_layers": 3}, "num_hidden_layers is 2 by its shapes and 3"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "rope_scaling.rope_type"),
        ({"hidden_act": "gelu"}, "hidden_act"),
    ],
)
def test_a_configuration_of_another_model_is_refused(
    tmp_path: Path, state: State, more: dict[str, Any], words: str
) -> None:
    """A checkpoint that lost its last layer is whole by its keys alone."""
    folder = model_folder(tmp_path / "CosyVoice2")
    (folder / "CosyVoice-BlankEN" / "config.json").write_text(json.dumps({**CONFIG, **more}))
    torch.save(state, folder / "llm.pt")
    with pytest.raises(UserError) as error:
        cosyvoice.load(folder)
    assert words in str(error.value)


def test_our_own_models_are_read_by_folder_run_and_file(tmp_path: Path) -> None:
    policy.save(tiny(), tmp_path / "run" / "checkpoint")
    small = RewardConfig(width=4, layers=1, heads=1, feedforward=4)
    reward.save(RewardModel(small), tmp_path / "reward")
    for end in ("", "checkpoint", "checkpoint/model.safetensors", "checkpoint/model.json"):
        found = loading.load_policy(str(tmp_path / "run" / end))
        assert torch.equal(found.head.weight, tiny().head.weight)
        assert not loading.is_cosyvoice(str(tmp_path / "run" / end))
    assert reward.load(tmp_path / "reward" / "model.safetensors").config == small
    for path in (tmp_path / "reward", tmp_path / "reward" / "model.safetensors"):
        with pytest.raises(UserError, match="holds a reward, not a policy"):
            loading.load_policy(str(path))
    torch.save({}, tmp_path / "llm.pt")
    for path in (tmp_path / "llm.pt", tmp_path):
        with pytest.raises(UserError, match=r"no reward in .*: expected model.json"):
            reward.load(path)


@pytest.mark.parametrize("key", ["llm_decoder.weight", "speech_embedding.weight"])
def test_a_matrix_of_zeros_is_a_copy_that_did_not_end(
    tmp_path: Path, state: State, key: str
) -> None:
    """A download makes its file as long as it will be, and fills it from the front."""
    folder = model_folder(tmp_path / "CosyVoice2")
    torch.save({**state, key: torch.zeros_like(state[key])}, folder / "llm.pt")
    with pytest.raises(UserError, match=f"{key} holds zeros alone.*: copy it again"):
        loading.load_policy(str(folder))
    torch.save({**state, "llm_decoder.bias": torch.zeros_like(state["llm_decoder.bias"])},
               folder / "llm.pt")  # fmt: skip
    loading.load_policy(str(folder))
