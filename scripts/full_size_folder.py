"""A CosyVoice2 or CosyVoice3 model folder at its full size, with random weights.

    python scripts/full_size_folder.py --version 2 --out CosyVoice2-0.5B

Names, bytes and hashes of the published files are in `PUBLISHED`; they were read from listings of
the repositories, and no published weight was at hand. Prints a table of what was written.

As published: the names of the files; of `llm.pt` every key, shape and the precision; the text
tokenizer's number of words and the ids of its control tokens; inputs and outputs of the ONNX files,
and the number and width of the layers of the speech tokenizer (whose ids mean nothing). Not as
published: the words of the text tokenizer, most names within `flow.pt` and `hift.pt`, which hold as
many random numbers, and the inside of `campplus.onnx`. The YAML file is text; nothing runs it.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from rrpo.policy import LMConfig, SpeechTokenLM, cosyvoice

PUBLISHED = {
    2: {
        "llm.pt": 2023316821,
        "flow.pt": 450575567,
        "hift.pt": 83390254,
        "speech_tokenizer_v2.onnx": 496082973,
        "campplus.onnx": 28303423,
        "CosyVoice-BlankEN/model.safetensors": 988097824,
        "CosyVoice-BlankEN/vocab.json": 2776833,
        "CosyVoice-BlankEN/merges.txt": 1402109,
        "CosyVoice-BlankEN/tokenizer_config.json": 1287,
        "CosyVoice-BlankEN/config.json": 659,
        "CosyVoice-BlankEN/generation_config.json": 242,
        "cosyvoice2.yaml": 7330,
        "configuration.json": 47,
        "config.json": 2,
        "speech_tokenizer_v2.batch.onnx": 496095794,
        "flow.decoder.estimator.fp32.onnx": 286317026,
    },
    3: {
        "llm.pt": 2024669519,
        "llm.rl.pt": 2024682701,
        "flow.pt": 1329116148,
        "hift.pt": 83202622,
        "speech_tokenizer_v3.onnx": 969451503,
        "campplus.onnx": 28303423,
        "CosyVoice-BlankEN/model.safetensors": 988097824,
        "CosyVoice-BlankEN/vocab.json": 2776833,
        "CosyVoice-BlankEN/merges.txt": 1402109,
        "CosyVoice-BlankEN/tokenizer_config.json": 1287,
        "CosyVoice-BlankEN/config.json": 659,
        "CosyVoice-BlankEN/generation_config.json": 242,
        "cosyvoice3.yaml": 6934,
        "configuration.json": 47,
        "config.json": 2,
        "speech_tokenizer_v3.batch.onnx": 969451579,
        "flow.decoder.estimator.fp32.onnx": 1326216933,
    },
}
"""Bytes of the published files, by version; the last two of each are for training and TensorRT and
are not built. Neither repository has the optional `spk2info.pt`, which is built all the same."""
SIZES = {
    "text_vocabulary": 151936, "hidden": 896, "layers": 24, "heads": 14, "key_value_heads": 2,
    "intermediate": 4864,
}  # fmt: skip
SMALL = {**SIZES, "hidden": 64, "layers": 1, "heads": 2, "key_value_heads": 1, "intermediate": 48}
"""For the test of this script."""
WORDS = 151643
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TABLES = {
    2: {
        "flow.pt": {
            "input_embedding.weight": (6561, 512), "spk_embed_affine_layer.weight": (80, 192),
        },
        "hift.pt": {"m_source.l_linear.weight": (1, 9), "conv_pre.bias": (512,)},
    },
    3: {
        "flow.pt": {
            "input_embedding.weight": (6561, 80), "spk_embed_affine_layer.weight": (80, 192),
        },
        "hift.pt": {"m_source.l_linear.weight": (1, 9), "conv_pre.bias": (512,)},
    },
}  # fmt: skip
"""The keys that upstream's classes begin with; the rest stands in one vector."""
BLOCKS, WIDTH, HEADS = {2: 6, 3: 12}, 1280, 20
"""Layers of the speech tokenizer's encoder: 6 make 496 MB, as published, and 12 make 969 MB."""


def build(folder: Path, version: int, small: bool = False, skip: Iterable[str] = ()) -> None:
    """Write a model folder.

    Args:
        folder: made; it must not hold an `llm.pt`.
        version: 2 or 3.
        small: narrow and shallow, in seconds.
        skip: names of files to leave out, as for want of space.
    """
    skip = set(skip)
    blank = folder / "CosyVoice-BlankEN"
    blank.mkdir(parents=True, exist_ok=True)
    sizes = SMALL if small else SIZES
    for seed, name in enumerate(("llm.pt", "llm.rl.pt")):
        if name in PUBLISHED[version] and name not in skip:
            cosyvoice.save(language_model(version, sizes, seed), folder / name)
    write_blank(blank, sizes, "CosyVoice-BlankEN/model.safetensors" not in skip)
    for name, tables in TABLES[version].items():
        count = PUBLISHED[version][name] // (4000 if small else 4)
        write_state(folder / name, tables, 0 if small else count)
    if not skip & {f"speech_tokenizer_v{version}.onnx"}:
        blocks, width, heads = (1, 64, 2) if small else (BLOCKS[version], WIDTH, HEADS)
        write_speech_tokenizer(folder / f"speech_tokenizer_v{version}.onnx", blocks, width, heads)
    write_speaker_encoder(folder / "campplus.onnx", 26 if small else 26000)
    torch.save({"speaker": {"embedding": torch.randn(1, 192)}}, folder / "spk2info.pt")
    (folder / f"cosyvoice{version}.yaml").write_text(
        "# Stands for upstream's file, which is HyperPyYAML; nothing here reads it.\n"
        "sample_rate: 24000\ntoken_frame_rate: 25\ntoken_mel_ratio: 2\n"
    )
    (folder / "config.json").write_text("{}")
    described = {"framework": "Pytorch", "task": "text-to-speech"}
    (folder / "configuration.json").write_text(json.dumps(described, separators=(",", ":")))


def language_model(version: int, sizes: dict[str, int], seed: int) -> SpeechTokenLM:
    """Return an LM with random weights, biases among them."""
    torch.manual_seed(seed)
    config = LMConfig(version=version, specials=cosyvoice.SPECIALS[version], **sizes)
    model = SpeechTokenLM(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.02)
    return model


def write_blank(folder: Path, sizes: dict[str, int], weights: bool) -> None:
    """Write what upstream calls BlankEN: a Qwen2 of the same sizes and its text tokenizer."""
    config = {
        "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
        "eos_token_id": 151645, "hidden_act": "silu", "hidden_size": sizes["hidden"],
        "initializer_range": 0.02, "intermediate_size": sizes["intermediate"],
        "max_position_embeddings": 32768, "max_window_layers": 24, "model_type": "qwen2",
        "num_attention_heads": sizes["heads"], "num_hidden_layers": sizes["layers"],
        "num_key_value_heads": sizes["key_value_heads"], "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": True,
        "torch_dtype": "bfloat16", "use_cache": True, "use_sliding_window": False,
        "vocab_size": sizes["text_vocabulary"],
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    generation = {"bos_token_id": 151643, "eos_token_id": [151645, 151643], "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    if weights:
        from safetensors.torch import save_file

        own = language_model(2, sizes, 2).state_dict()
        kept = {k: v for k, v in own.items() if k.startswith(("layers.", "norm."))}
        kept["embed_tokens.weight"] = own["text_embedding.weight"]
        half = {f"model.{name}": value.bfloat16() for name, value in kept.items()}
        save_file(half, folder / "model.safetensors", {"format": "pt"})
    words, merges = vocabulary()
    (folder / "vocab.json").write_text(json.dumps(words, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    added = {
        str(WORDS + number): {"content": token, "special": True, "normalized": False}
        for number, token in enumerate(CONTROL)
    }
    described = {
        "tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>", "errors": "replace", "model_max_length": 32768,
        "added_tokens_decoder": added, "additional_special_tokens": list(CONTROL[1:]),
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(described))


def vocabulary() -> tuple[dict[str, int], list[str]]:
    """Return 151643 words and the merges that make them: bytes, pairs of letters, pairs of those.

    They are as many as Qwen2's and none of its own; a text has about as many ids.
    """
    from transformers.models.gpt2.tokenization_gpt2 import bytes_to_unicode

    words = list(bytes_to_unicode().values())
    small = [chr(ord("a") + number) for number in range(26)] + ["Ġ"]
    letters = [*small, *(one.upper() for one in small[:26])]
    pairs = [(one, two) for one in letters for two in letters if two != "Ġ"]
    twos = [one + two for one in small for two in small if two != "Ġ"]
    pairs += [(one, two) for one in twos for two in twos if not two.startswith("Ġ")]
    pairs = pairs[: WORDS - len(words)]
    words += [one + two for one, two in pairs]
    assert len(set(words)) == WORDS
    return {word: number for number, word in enumerate(words)}, [f"{a} {b}" for a, b in pairs]


def write_state(path: Path, tables: dict[str, tuple[int, ...]], numbers: int) -> None:
    """Write a state dict of a count of random float32 numbers, those of `tables` by their names."""
    state = {name: torch.randn(shape) for name, shape in tables.items()}
    rest = numbers - sum(value.numel() for value in state.values())
    state["random.weight"] = torch.randn(max(1, rest))
    torch.save(state, path)


class Graph:
    """An ONNX graph that is being written: its operations and random weights."""

    def __init__(self) -> None:
        self.nodes: list = []
        self.weights: list = []
        self._generator = np.random.default_rng(0)

    def weight(self, name: str, *shape: int, scale: float | None = None) -> str:
        """Add a random matrix, by default of one over the root of its rows."""
        scale = shape[0] ** -0.5 if scale is None else scale
        drawn = self._generator.standard_normal(shape, dtype=np.float32)
        return self.constant(name, scale * drawn)

    def constant(self, name: str, value: object, kind: type = np.float32) -> str:
        """Add a constant."""
        import onnx

        self.weights.append(onnx.numpy_helper.from_array(np.array(value, dtype=kind), name))
        return name

    def op(self, kind: str, *inputs: str, name: str = "", **options: object) -> str:
        """Add an operation and return the name of what it gives."""
        import onnx

        name = name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, list(inputs), [name], **options))
        return name


def write_speech_tokenizer(path: Path, blocks: int, width: int, heads: int) -> None:
    """Write an encoder and a quantizer of eight base-3 digits: (1, 128, T) to (1, T / 4) ids."""
    import onnx

    graph = Graph()
    x, channels, op = "feats", 128, graph.op
    for number in range(2):
        kernel = graph.weight(f"conv{number}", width, channels, 3, scale=(3 * channels) ** -0.5)
        x = op("Relu", op("Conv", x, kernel, strides=[2], pads=[1, 1]))
        channels = width
    x = op("Transpose", x, perm=[0, 2, 1])
    graph.constant("ones", [1.0] * width)
    graph.constant("split", [0, 0, heads, width // heads], np.int64)
    graph.constant("joined", [0, 0, width], np.int64)
    graph.constant("root", (width // heads) ** -0.5)
    for block in range(blocks):
        x = add_block(graph, x, block, width)
    x = op("LayerNormalization", x, "ones")
    x = op("MatMul", x, graph.weight("down", width, 8, scale=1.5 * width**-0.5))
    x = op("Round", op("Mul", op("Tanh", x), graph.constant("edge", 0.999)))
    digits = op("Add", x, graph.constant("one", 1.0))
    powers = graph.constant("powers", [[3.0**place] for place in range(8)])
    flat = op("Squeeze", op("MatMul", digits, powers), graph.constant("last", [2], np.int64))
    op("Cast", flat, name="indices", to=onnx.TensorProto.INT32)
    op("Identity", "feats_length", name="length")
    value, kinds = onnx.helper.make_tensor_value_info, onnx.TensorProto
    inputs = [
        value("feats", kinds.FLOAT, [1, 128, "time"]),
        value("feats_length", kinds.INT32, [1]),
    ]
    outputs = [value("indices", kinds.INT32, [1, "tokens"]), value("length", kinds.INT32, [1])]
    save_graph(path, graph.nodes, inputs, outputs, graph.weights)


def add_block(graph: Graph, x: str, block: int, width: int) -> str:
    """Add attention and a feed-forward layer, each with its norm before it."""
    op, weight = graph.op, graph.weight
    y = op("LayerNormalization", x, "ones")
    parts = [
        op("Reshape", op("MatMul", y, weight(f"{one}{block}", width, width)), "split")
        for one in "qkv"
    ]
    q, v = (op("Transpose", parts[one], perm=[0, 2, 1, 3]) for one in (0, 2))
    k = op("Transpose", parts[1], perm=[0, 2, 3, 1])
    seen = op("Softmax", op("Mul", op("MatMul", q, k), "root"), axis=-1)
    y = op("Reshape", op("Transpose", op("MatMul", seen, v), perm=[0, 2, 1, 3]), "joined")
    x = op("Add", x, op("MatMul", y, weight(f"o{block}", width, width)))
    y = op("LayerNormalization", x, "ones")
    y = op("Relu", op("MatMul", y, weight(f"up{block}", width, 4 * width)))
    return op("Add", x, op("MatMul", y, weight(f"down{block}", 4 * width, width)))


def write_speaker_encoder(path: Path, width: int) -> None:
    """Write a graph from filter banks (1, T, 80) to a voice (1, 192); it recognises nobody."""
    import onnx

    generator = np.random.default_rng(1)
    weights = [
        onnx.numpy_helper.from_array(generator.standard_normal(shape, dtype=np.float32), name)
        for name, shape in (("first", (80, width)), ("second", (width, 192)))
    ]
    weights.append(onnx.numpy_helper.from_array(np.array([1], dtype=np.int64), "axis"))
    make = onnx.helper.make_node
    nodes = [
        make("ReduceMean", ["input", "axis"], ["mean"], keepdims=0),
        make("MatMul", ["mean", "first"], ["wide"]), make("Relu", ["wide"], ["hidden"]),
        make("MatMul", ["hidden", "second"], ["output"]),
    ]  # fmt: skip
    value, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    inputs, outputs = [value("input", kind, [1, "time", 80])], [value("output", kind, [1, 192])]
    save_graph(path, nodes, inputs, outputs, weights)


def save_graph(path: Path, nodes: list, inputs: list, outputs: list, weights: list) -> None:
    """Write an ONNX file."""
    import onnx

    graph = onnx.helper.make_graph(nodes, path.stem, inputs, outputs, weights)
    opset = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), path)


def table(folder: Path, version: int) -> list[str]:
    """Return lines of markdown: each published file, its bytes, and those that were written."""
    lines = ["| file | published, bytes | written, bytes |", "|---|---|---|"]
    for name, published in PUBLISHED[version].items():
        written = folder / name
        size = f"{written.stat().st_size:,}" if written.is_file() else "not built"
        lines.append(f"| `{name}` | {published:,} | {size} |")
    return lines


def main() -> None:
    """Build what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--version", type=int, choices=[2, 3], default=2)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--small", action="store_true", help="tiny, to try the script")
    parser.add_argument("--skip", nargs="*", default=[], help="names of files to leave out")
    given = parser.parse_args()
    if (given.out / "llm.pt").exists():
        parser.error(f"{given.out} holds an llm.pt: name another --out")
    build(given.out, given.version, given.small, given.skip)
    print("\n".join(table(given.out, given.version)))


if __name__ == "__main__":
    main()
