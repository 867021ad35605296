"""The doors of checkpoints under hundreds of malformed files: one line each, and nothing run."""

import json
import os
import pickle
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from foreign_checkpoints import (
    joint_folder,
    joint_state,
    joint_tokens,
    model_folder,
    save_safetensors,
    tiny,
    upstream_state,
)
from malformed import MUTATIONS, taken
from rrpo import loading, policy, reward
from rrpo.policy import SpeechTokenLM
from rrpo.policy.cosyvoice import TIED
from rrpo.reward import RewardConfig, RewardModel

pytestmark = pytest.mark.slow


class Harmful:
    """A pickle that would leave a folder `harmed` where it is loaded."""

    def __init__(self, call: int) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        calls = ((os.mkdir, ("harmed",)), (eval, ("__import__('os').mkdir('harmed')",)))
        return (*calls, (os.system, ("mkdir harmed",)), (exec, ("import os;os.mkdir('harmed')",)))[
            self.call
        ]


@pytest.fixture
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder, and require that nothing is run in it or left in it."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield tmp_path
    assert list((tmp_path / "here").iterdir()) == []


def same(model: SpeechTokenLM) -> bool:
    own = tiny(model.config.version).state_dict()
    return all(torch.equal(value, own[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_damaged_archive_is_refused_or_read_as_it_was(quiet: Path, mutation: str) -> None:
    folder = model_folder(quiet / "CosyVoice2")
    state = upstream_state(quiet)
    rng = random.Random(mutation)
    refused = 0
    for modern in (True, False):
        torch.save(state, folder / "llm.pt", _use_new_zipfile_serialization=modern)
        data = (folder / "llm.pt").read_bytes()
        for _ in range(25):
            (folder / "llm.pt").write_bytes(MUTATIONS[mutation](rng, data))
            model = taken(lambda: loading.load_policy(str(folder)))
            refused += model is None
            # The old format has no checksums: there a weight can be another.
            assert model is None or not modern or same(model)
    assert refused > 25


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_damaged_files_of_a_hugging_face_folder_are_refused(quiet: Path, mutation: str) -> None:
    state = joint_state(upstream_state(quiet))
    folder = joint_folder(quiet / "hf", state, {"<|s_0|>": joint_tokens(2)["<|s_0|>"]})
    places = dict.fromkeys(state, "model.safetensors")
    (folder / "model.safetensors").rename(folder / "m.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(places, "m.safetensors")}))
    assert same(loading.load_policy(str(folder)))
    rng = random.Random(mutation)
    refused = 0
    for name in ("m.safetensors", index.name, "config.json", "added_tokens.json"):
        data = (folder / name).read_bytes()
        for _ in range(12):
            (folder / name).write_bytes(MUTATIONS[mutation](rng, data))
            refused += taken(lambda: loading.load_policy(str(folder))) is None
        (folder / name).write_bytes(data)
    assert refused > 20
    assert same(loading.load_policy(str(folder)))


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_damaged_models_of_our_own_are_refused(quiet: Path, mutation: str) -> None:
    small = RewardConfig(width=4, layers=1, heads=1, feedforward=4, codes=9)
    policy.save(tiny(), quiet / "policy")
    reward.save(RewardModel(small), quiet / "reward")
    rng = random.Random(mutation)
    for kind, load in (("policy", policy.load), ("reward", reward.load)):
        for name in ("model.json", "model.safetensors"):
            data = (quiet / kind / name).read_bytes()
            for _ in range(65):
                damaged = MUTATIONS[mutation](rng, data)
                (quiet / kind / name).write_bytes(damaged)
                found = taken(lambda load=load, kind=kind: load(quiet / kind))
                assert found is None or name == "model.json" or damaged == data
            (quiet / kind / name).write_bytes(data)
        assert taken(lambda load=load, kind=kind: load(quiet / kind)) is not None


def test_a_pickle_that_would_run_code_is_never_run(quiet: Path) -> None:
    state, file = upstream_state(quiet), quiet / "llm.pt"
    for call in range(4):
        harm = Harmful(call)
        things = ({**state, "x": harm}, {"model": state, "x": [harm]}, harm, [harm], {harm: 1})
        for thing in things:
            for modern in (True, False):
                try:
                    torch.save(thing, file, _use_new_zipfile_serialization=modern)
                except TypeError:  # not to be hashed
                    continue
                for name in ("llm.pt", "pytorch_model.bin", "x.safetensors"):
                    shutil.copy(file, quiet / name) if name != file.name else None
                    found = taken(lambda name=name: loading.load_policy(quiet / name))
                    assert found is None
        for protocol in range(6):
            file.write_bytes(pickle.dumps(harm, protocol))
            assert taken(lambda: loading.load_policy(str(file))) is None
    folder = quiet / "peft"
    folder.mkdir()
    torch.save(state, model_folder(quiet / "base") / "llm.pt")
    for call in range(4):
        (folder / "adapter_config.json").write_text(
            json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(quiet / "base")})
        )
        torch.save({"x": Harmful(call)}, folder / "adapter_model.bin")
        assert taken(lambda: loading.load_policy(str(folder))) is None


def test_weights_of_wrong_shapes_and_kinds_are_refused(quiet: Path) -> None:
    """Each weight in turn becomes another: longer, flat, empty, a number, or is not there."""
    folder, state = model_folder(quiet / "CosyVoice2"), upstream_state(quiet)
    changes: tuple[Callable[[torch.Tensor], Any], ...] = (
        lambda value: torch.cat([value, value[:1]]),
        lambda value: value[None],
        lambda value: value.flatten()[:1].squeeze(),
        lambda value: value[:0],
        lambda value: value.to(torch.int64),
        lambda value: value * torch.inf,
        lambda value: {"weight": value},
        lambda _: None,
    )
    for key, value in state.items():
        for number, change in enumerate(changes):
            if key == TIED and number >= len(changes) - 2:
                continue  # a copy of the text table, which may be left out
            torch.save({**state, key: change(value)}, folder / "llm.pt")
            assert taken(lambda: loading.load_policy(str(folder))) is None, (key, number)
            if number < 5:
                save_safetensors({**state, key: change(value)}, folder / "x.safetensors")
                path = folder / "x.safetensors"
                assert taken(lambda path=path: loading.load_policy(str(path))) is None


def test_json_of_any_kind_is_refused_or_changes_nothing(quiet: Path) -> None:
    state = upstream_state(quiet)
    odd = (
        "null", "1", '"x"', "[]", "[[]]", "{}", '{"a": {}}', "[" * 99999, "1" * 9999, "NaN",
        '{"config": 3}', '{"weight_map": [1]}', '{"weight_map": {"a": null}}',
        '{"weight_map": 1}', '{"weight_map": {"a": "\\u0000"}}', '{"weight_map": {"a": ""}}',
        '{"weight_map": {"a": "."}}', '{"added_tokens": 3}', '{"added_tokens": [3]}',
        '{"<|s_0|>": 1e999}', '{"<|s_0|>": null}', '{"num_attention_heads": 1e99}',
        '{"num_attention_heads": 99999999999}', '{"rope_theta": 0}', '{"peft_type": "LORA"}',
        '{"peft_type": "LORA", "base_model_name_or_path": "\\u0000"}',
        '{"peft_type": "LORA", "base_model_name_or_path": "."}',
        '{"peft_type": "LORA", "alpha_pattern": {"(a+)+$": 1}}',
    )  # fmt: skip
    for name in ("config.json", "added_tokens.json", "model.safetensors.index.json",
                 "adapter_config.json", "model.json"):  # fmt: skip
        folder = joint_folder(quiet / name, joint_state(state), joint_tokens(2))
        if name == "model.safetensors.index.json":
            (folder / "model.safetensors").unlink()
        whole = None if name != "config.json" else loading.load_policy(str(folder)).state_dict()
        for content in odd:
            (folder / name).write_text(content)
            found = taken(lambda folder=folder: loading.load_policy(str(folder)))
            if found is not None:
                assert whole is not None and content.startswith(("{", "[", "n"))
                state_dict = found.state_dict()
                assert state_dict.keys() == whole.keys()
                assert all(torch.equal(state_dict[key], whole[key]) for key in whole)
