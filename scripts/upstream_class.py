"""An exported llm.pt in upstream's own class: strict loading, and its logits against ours.

    python scripts/upstream_class.py --source CosyVoice --model exported --config CosyVoice2-0.5B

`--source` is a clone of CosyVoice's repository, `--model` what `rrpo export` wrote, `--config` a
folder with Qwen2's config.json. The class is `Qwen2LM` or `CosyVoice3LM`, by the keys of the file;
of the packages that its modules import and this does not call, empty ones stand in.
"""

import argparse
import importlib
import importlib.machinery
import random
import sys
import time
import types
from pathlib import Path
from typing import Any

import torch

from rrpo.policy import cosyvoice, teacher_forced
from rrpo.tokens import IGNORE

UNUSED = ("torchaudio", "torchaudio.compliance", "torchaudio.compliance.kaldi", "onnxruntime")
"""Packages for sound, which the language model does not touch."""
KEPT = ("num_attention_heads", "num_key_value_heads", "rope_theta", "rms_norm_eps")
"""What the shapes of an llm.pt do not tell."""
TEXTS, SPEECH, TOLD = (17, 9, 5), (41, 60, 12), (6, 4, 7)
"""Lengths of the rows that are compared."""


def upstream(source: Path, config: Path, version: int) -> Any:
    """Return an empty LM of upstream's class."""
    transformers = importlib.import_module("transformers")
    inner_class = transformers.Qwen2ForCausalLM  # loaded before the empty packages are there
    for name in UNUSED:
        empty = types.ModuleType(name)
        empty.__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules.setdefault(name, empty)
    sys.modules["torchaudio.compliance"].kaldi = sys.modules["torchaudio.compliance.kaldi"]
    sys.path.insert(0, str(source))
    module = importlib.import_module("cosyvoice.llm.llm")
    inner = config / "CosyVoice-BlankEN" if (config / "CosyVoice-BlankEN").is_dir() else config
    settings = transformers.Qwen2Config.from_pretrained(inner, local_files_only=True)
    settings.torch_dtype = torch.float32
    encoder = module.Qwen2Encoder.__new__(module.Qwen2Encoder)  # reads weights that are overwritten
    torch.nn.Module.__init__(encoder)
    encoder.model = inner_class(settings)
    kind = module.Qwen2LM if version == 2 else module.CosyVoice3LM
    width = settings.hidden_size
    return kind(width, width, 6561, encoder, sampling=None).eval()


@torch.no_grad()
def theirs(model: Any, version: int, rows: list[list[torch.Tensor]]) -> list[torch.Tensor]:
    """Return upstream's logits of each row (S, V), in its unistream layout."""
    pad = torch.nn.utils.rnn.pad_sequence
    sizes = [torch.tensor([one.numel() for one in each]) for each in rows]
    embed = model.llm.model.model.embed_tokens
    table = model.llm_embedding if version == 2 else model.speech_embedding
    sos, task = (table.weight[one].reshape(1, 1, -1) for one in (model.sos, model.task_id))
    parts = [pad(each, batch_first=True) for each in rows]
    given = [sos, parts[0], embed(parts[0]), sizes[0], task]
    given += [parts[1], model.speech_embedding(parts[1]), sizes[1]]
    given += [parts[2], embed(parts[2]), sizes[2]]
    drawn, random.random = random.random, lambda: 0.9  # unistream, of the two that it draws from
    try:
        _, inputs, lengths = model.prepare_lm_input_target(*given)
    finally:
        random.random = drawn
    hidden, _ = model.llm(inputs, lengths)
    logits = model.llm_decoder(hidden)
    return [row[:size] for row, size in zip(logits, lengths.tolist(), strict=True)]


def main() -> None:
    """Load, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True)
    given = parser.parse_args()
    file = given.model / "llm.pt" if given.model.is_dir() else given.model
    state = torch.load(file, weights_only=True, map_location="cpu", mmap=True)
    version = 2 if "llm_embedding.weight" in state else 3
    began = time.perf_counter()
    model = upstream(given.source.resolve(), given.config, version)
    model.load_state_dict(state, strict=True)
    kinds = sorted({str(one.dtype) for one in state.values()})
    print(f"{type(model).__name__}: {len(state)} weights of {', '.join(kinds)}, loaded strictly")
    settings = model.llm.model.config.to_dict()
    ours = cosyvoice.load(file, {key: settings[key] for key in settings if key in KEPT})
    generator = torch.Generator().manual_seed(0)
    rows = [
        [torch.randint(most, (size,), generator=generator) for size in sizes]
        for most, sizes in (
            (settings["vocab_size"], TEXTS),
            (6561, SPEECH),
            (settings["vocab_size"], TOLD),
        )
    ]
    if version == 2:  # which has no instruction apart from the text
        rows[2] = [one[:0] for one in rows[2]]
    expected = theirs(model, version, rows)
    with torch.no_grad():
        found, targets = teacher_forced(ours, rows[0], rows[1], rows[2] if version == 3 else None)
    worst = 0.0
    for row, want, target in zip(found, expected, targets, strict=True):
        last = int((target != IGNORE).nonzero().max()) + 1
        worst = max(worst, float((row[:last] - want[:last]).abs().max()))
    largest = max(float(one.abs().max()) for one in expected)
    print(f"greatest difference of logits {worst:.2e}, greatest logit {largest:.2f}")
    print(f"{time.perf_counter() - began:.0f} s")
    sys.exit(0 if worst < 1e-3 else 1)


if __name__ == "__main__":
    main()
