"""The LM at CosyVoice2's full size, on random weights: parity with `transformers`, memory and time.

    python scripts/full_size.py parity
    python scripts/full_size.py step --batches 1 2 4 8 16

`parity` compares logits with Qwen2Model of the same weights: in one pass with right padding, alone,
and through the key-value cache with left padding. `step` takes one step of DiffRO for each batch
size in a process of its own and prints its peak memory and seconds as a markdown table.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time

import torch

from rrpo.objectives.diffro import DiffROConfig, DiffROObjective
from rrpo.policy import LMConfig, SpeechTokenLM
from rrpo.policy.layout import Prompt
from rrpo.policy.rollout import RolloutConfig
from rrpo.policy_runs import DiffRORun
from rrpo.reward import Reward, RewardConfig, RewardModel
from rrpo.runs import prepare
from rrpo.train import TrainConfig

FULL = LMConfig(
    text_vocabulary=151936,
    hidden=896,
    layers=24,
    heads=14,
    key_value_heads=2,
    intermediate=4864,
)
TEXT, SPEECH = 40, 300
"""Ids of a text and tokens of an utterance."""


def model_of(seed: int = 0) -> SpeechTokenLM:
    """Return the full-size LM with random weights, biases among them."""
    torch.manual_seed(seed)
    model = SpeechTokenLM(FULL).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.02)
    # Logits about as large as a trained model's, so that a difference would show.
    torch.nn.init.normal_(model.head.weight, std=0.3)
    return model


@torch.no_grad()
def parity() -> float:
    """Return the greatest difference of logits, and print those of each way."""
    from transformers import Qwen2Config, Qwen2Model

    model = model_of()
    settings = Qwen2Config(
        vocab_size=8,
        hidden_size=FULL.hidden,
        num_hidden_layers=FULL.layers,
        num_attention_heads=FULL.heads,
        num_key_value_heads=FULL.key_value_heads,
        intermediate_size=FULL.intermediate,
        rope_theta=FULL.rope_theta,
        rms_norm_eps=FULL.norm_epsilon,
        attn_implementation="eager",
    )
    oracle = Qwen2Model(settings).eval()
    state = {
        name: value
        for name, value in model.state_dict().items()
        if name.startswith(("layers.", "norm."))
    }
    missing, unexpected = oracle.load_state_dict(state, strict=False)
    assert missing == ["embed_tokens.weight"] and not unexpected, (missing, unexpected)
    generator = torch.Generator().manual_seed(1)
    sizes = (90, 61, 33)
    ids = [torch.randint(FULL.text_vocabulary + 6561, (n,), generator=generator) for n in sizes]
    expected = [
        model.head(oracle(inputs_embeds=model.embed(row[None])).last_hidden_state)[0] for row in ids
    ]
    differences = {}
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    found = model(padded)
    pairs = [(found[i, :n], expected[i]) for i, n in enumerate(sizes)]
    differences["batched, right padding"] = max(float((a - b).abs().max()) for a, b in pairs)
    pairs = [(model(row[None])[0], want) for row, want in zip(ids, expected, strict=True)]
    differences["single"] = max(float((a - b).abs().max()) for a, b in pairs)
    # The last ten ids go through the cache one by one, after a left-padded prefill.
    start, size = 10, max(sizes)
    cache = model.new_cache(len(ids), size)
    left = torch.stack([torch.nn.functional.pad(row, (size - row.numel(), 0)) for row in ids])
    for i, row in enumerate(ids):
        cache.mask[i, size - row.numel() :] = True
    model.hidden(left[:, :-start], cache)
    worst = 0.0
    for position in range(size - start, size):
        now = model.head(model.hidden(left[:, position : position + 1], cache)[:, -1])
        for i, want in enumerate(expected):
            worst = max(worst, float((now[i] - want[position - size]).abs().max()))
    differences["key-value cache, left padding"] = worst
    for name, value in differences.items():
        print(f"{name}: {value:.2e}")
    print(f"greatest logit: {max(float(row.abs().max()) for row in expected):.2f}")
    return max(differences.values())


def step(batch: int, lora_rank: int, recompute: bool) -> dict[str, float]:
    """Take one step of DiffRO and return its seconds and the peak of memory in GB."""
    torch.manual_seed(0)
    model, reward_model = SpeechTokenLM(FULL), RewardModel(RewardConfig())
    config = DiffRORun(
        train=TrainConfig(steps=1, learning_rate=1e-5),
        diffro=DiffROConfig(
            batch_size=batch,
            rollout=RolloutConfig(min_ratio=SPEECH / TEXT, max_ratio=SPEECH / TEXT, top_k=25),
        ),
        recompute=recompute,
        lora_rank=lora_rank,
        reference_precision="bfloat16",
    )
    prepare(model, config)
    reference = None if lora_rank else SpeechTokenLM(FULL).to(torch.bfloat16)
    text = torch.randint(1000, (TEXT,))
    prompts = [Prompt(str(n), "happy", text, text[:5]) for n in range(batch)]
    objective = DiffROObjective(model, reference, Reward([reward_model]), prompts, config.diffro)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)
    generator = torch.Generator().manual_seed(0)
    began = time.perf_counter()
    speech = objective.on_policy.draw(prompts, generator).tokens
    drawn = time.perf_counter() - began
    began = time.perf_counter()
    loss, _ = objective.loss(1, generator)
    torch.autograd.backward(loss)
    optimizer.step()
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"rollout": drawn, "step": seconds, "gigabytes": peak, "tokens": len(speech[0])}


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["parity", "step", "one"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--lora-rank", type=int, default=0)
    parser.add_argument("--recompute", action="store_true")
    given = parser.parse_args()
    if given.what == "parity":
        sys.exit(0 if parity() < 1e-3 else 1)
    if given.what == "one":
        print(json.dumps(step(given.batches[0], given.lora_rank, given.recompute)))
        return
    print(f"{platform.machine()} CPU, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("| batch | rollout, s | whole step, s | peak memory, GB |\n|---|---|---|---|")
    more = ["--lora-rank", str(given.lora_rank), *(["--recompute"] if given.recompute else [])]
    for batch in given.batches:
        command = [sys.executable, __file__, "one", "--batches", str(batch), *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines()
            reason = said[-1] if said else f"killed by signal {-done.returncode}"
            print(f"| {batch} | – | – | failed: {reason} |")
            continue
        found = json.loads(done.stdout)
        cells = [f"{found[key]:.1f}" for key in ("rollout", "step", "gigabytes")]
        print(f"| {batch} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
