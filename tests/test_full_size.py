"""The folder of full size, in its small form, is one that every reader here takes."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from places import ROOT
from rrpo.loading import load_policy

pytestmark = pytest.mark.slow


def script(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("version", [2, 3])
def test_the_folder_is_read(version: int, tmp_path: Path) -> None:
    for package in ("transformers", "onnx", "onnxruntime"):
        pytest.importorskip(package)
    from rrpo.codec.s3 import S3Tokenizer
    from rrpo.policy.cosyvoice_text import CosyVoiceTokenizer

    built = script("full_size_folder")
    skipped = "CosyVoice-BlankEN/model.safetensors"
    built.build(tmp_path, version, small=True, skip=[skipped])
    table = "\n".join(built.table(tmp_path, version))
    assert re.search(rf"`{skipped}` \| 988,097,824 \| not built", table)
    assert ("llm.rl.pt" in table) == (version == 3)
    model = load_policy(tmp_path)
    assert model.config.version == version and model.config.text_vocabulary == 151936
    text = CosyVoiceTokenizer(tmp_path, version, rows=model.config.text_vocabulary)
    assert text.end_of_prompt == 151646
    assert len(text.encode("The train leaves.")) < len("The train leaves.")
    sound = 0.1 * np.random.default_rng(0).standard_normal(16_000)
    assert S3Tokenizer(tmp_path).encode(sound.astype(np.float32)).numel() == 25


def test_the_sizes_of_the_lm_are_the_published_ones() -> None:
    """The published llm.pt holds the table once, in float32, and 0.01 % for its index."""
    from rrpo.checkpoint import weightless
    from rrpo.policy import LMConfig, SpeechTokenLM

    built = script("full_size_folder")
    for version, specials in ((2, 3), (3, 200)):
        config = LMConfig(version=version, specials=specials, **built.SIZES)
        model = weightless(lambda config=config: SpeechTokenLM(config))
        count = sum(one.numel() for one in model.parameters())
        assert 0 < built.PUBLISHED[version]["llm.pt"] - 4 * count < 200_000


@pytest.mark.parametrize("version", [2, 3])
def test_every_command_of_the_guide_is_run(version: int) -> None:
    guide = script("full_size_guide")
    text = guide.GUIDE.read_text(encoding="utf-8").replace("\\\n", " ")
    written = [line for line in text.splitlines() if line.startswith("rrpo ")]
    asked = guide.commands(version, full=False)
    assert len(asked) == len(written) > 10
    for words, line in zip(asked, written, strict=True):
        assert words[:2] == line.split()[:2]
    trained = [words for words in asked if words[1] == "policy" and words[2] != "forgetting"]
    assert all(words.count("lora_rank=16") == 1 for words in trained) and len(trained) == 3
    plain = [words for words in guide.commands(version, full=True) if "lora_rank=16" in words]
    assert len(plain) == 1  # the guide's own
    named = " ".join(word for words in asked for word in words)
    assert (guide.FOLDERS[3] in named) == (version == 3)
