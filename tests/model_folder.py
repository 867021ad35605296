"""A CosyVoice2 model folder in upstream's layout, tiny: random weights, a tokenizer of bytes.

Its speech tokenizer is a few ONNX operations with upstream's inputs, its flow and vocoder are a
stand-in for the package that a user installs.
"""

import json
from pathlib import Path

import numpy as np
import torch

from rrpo.codec.cosyvoice import PARTS
from rrpo.policy import LMConfig, SpeechTokenLM, cosyvoice

SIZES = {"hidden": 32, "layers": 1, "heads": 2, "key_value_heads": 1, "intermediate": 48}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1}

PACKAGE = '''
"""A stand-in for CosyVoice's own package: its calls, and a tone for every token."""

import torch


class Frontend:
    def frontend_zero_shot(self, text, prompt_text, voice, rate, speaker):
        assert (text, prompt_text, rate, speaker) == ("", "", 24000, "")
        if "broken" in voice:
            raise RuntimeError("cannot decode\\nmore")
        return {
            "flow_prompt_speech_token": torch.zeros(1, 2, dtype=torch.int32),
            "prompt_speech_feat": torch.zeros(1, 4, 80),
            "flow_embedding": torch.zeros(1, 192),
            "llm_prompt_speech_token": torch.zeros(1, 2, dtype=torch.int32),
        }


class Model:
    def tts(self, source_speech_token, stream, **voice):
        assert set(voice) == {"flow_prompt_speech_token", "prompt_speech_feat", "flow_embedding"}
        assert source_speech_token.dtype == torch.int32 and not stream
        level = source_speech_token[0].float() / 6561
        yield {"tts_speech": level.repeat_interleave(960)[None]}


class AutoModel:
    def __init__(self, model_dir):
        self.frontend, self.model, self.sample_rate = Frontend(), Model(), 24000
'''


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer of single bytes, as files like those of CosyVoice-BlankEN."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    inner = folder / "CosyVoice-BlankEN"
    inner.mkdir(parents=True)
    words = {letter: number for number, letter in enumerate(bytes_to_unicode().values())}
    (inner / "vocab.json").write_text(json.dumps(words))
    (inner / "merges.txt").write_text("#version: 0.2\n")
    (inner / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|endoftext|>"})
    )
    (inner / "config.json").write_text(json.dumps({"model_type": "qwen2"}))


def write_llm(folder: Path) -> None:
    """Write a tiny llm.pt, the sizes that its keys do not tell, and empty files for the rest."""
    for name in PARTS:
        (folder / name).touch()
    torch.manual_seed(0)
    cosyvoice.save(SpeechTokenLM(LMConfig(text_vocabulary=300, **SIZES)), folder / "llm.pt")
    description = {"model_type": "qwen2", **HEADS}
    (folder / "CosyVoice-BlankEN" / "config.json").write_text(json.dumps(description))


def write_speech_tokenizer(folder: Path) -> None:
    """Write a tokenizer whose id is 1000 times the mean of four frames' features."""
    import onnx

    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["feats", "bands"], ["level"], keepdims=1),
            helper.make_node(
                "AveragePool", ["level"], ["pooled"], kernel_shape=[4], strides=[4], ceil_mode=1
            ),
            helper.make_node("Mul", ["pooled", "scale"], ["scaled"]),
            helper.make_node("Clip", ["scaled", "low", "high"], ["clipped"]),
            helper.make_node("Cast", ["clipped"], ["ids"], to=onnx.TensorProto.INT32),
            helper.make_node("Identity", ["feats_length"], ["length"]),
        ],
        "tokenizer",
        [
            helper.make_tensor_value_info("feats", float32, [1, 128, "time"]),
            helper.make_tensor_value_info("feats_length", onnx.TensorProto.INT32, [1]),
        ],
        [
            helper.make_tensor_value_info("ids", onnx.TensorProto.INT32, [1, 1, "tokens"]),
            helper.make_tensor_value_info("length", onnx.TensorProto.INT32, [1]),
        ],
        [
            onnx.numpy_helper.from_array(np.array([1], dtype=np.int64), "bands"),
            onnx.numpy_helper.from_array(np.float32(1000), "scale"),
            onnx.numpy_helper.from_array(np.float32(0), "low"),
            onnx.numpy_helper.from_array(np.float32(6560), "high"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / "speech_tokenizer_v2.onnx")


def write_package(root: Path) -> None:
    """Write the stand-in for the `cosyvoice` package into a folder for sys.path."""
    inner = root / "cosyvoice" / "cli"
    inner.mkdir(parents=True)
    for package in (inner.parent, inner):
        (package / "__init__.py").write_text("")
    (inner / "cosyvoice.py").write_text(PACKAGE)
