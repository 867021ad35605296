"""CTC or an attention decoder as the content head? Both on the bundled world, texts held out.

    python scripts/content_heads.py --steps 3000 --seeds 3 --out content_heads.json

Each head is trained on the encoder of the bundled reward model, from its weights, with the
fine-tuning shards of all five voices; of each seed the held-out texts, the batches and the wrong
texts are the same for both. The attention decoder is one Transformer decoder layer that reads the
frames, with teacher-forced cross-entropy over the symbols and an end.

Reported are log p(text | speech) on held-out texts in nats per symbol (a text's end is part of it
in both), and how often the right text is scored above the same with one word exchanged, dropped or
doubled: by nats per symbol, which is what a policy optimizes, and by the whole text's nats.
Differences are attention minus CTC, paired by seed, with Student's 95 % interval over seeds.
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rrpo.cores import machine
from rrpo.data.shards import Utterance
from rrpo.evaluate.matched import run_interval
from rrpo.files import write_json
from rrpo.mini.text import SPEAKERS, PhoneTokenizer
from rrpo.mini.world import World
from rrpo.progress import Progress
from rrpo.reward import RewardModel
from rrpo.tokens import length_mask, pad
from rrpo.train import TrainConfig, learning_rate
from rrpo_world.tasks import held_texts

HEADS = ("ctc", "attention")
CHANGES = ("exchanged", "dropped", "doubled")
IGNORED = -100
"""Target of a padded place."""


def positions(size: int, width: int) -> Tensor:
    """Return sines and cosines (T, D) of places 0…T-1 (Vaswani et al. 2017)."""
    rates = 10_000.0 ** -(torch.arange(0, width, 2) / width)
    angles = torch.arange(size)[:, None] * rates
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


class AttentionDecoder(nn.Module):
    """log p(text | frames), symbol by symbol: a causal layer with one cross-attention."""

    def __init__(self, width: int, heads: int, symbols: int) -> None:
        super().__init__()
        self.end = symbols  # also what stands before the first symbol
        self.symbol = nn.Embedding(symbols + 1, width)
        self.layer = nn.TransformerDecoderLayer(
            width, heads, 4 * width, dropout=0.1, activation="gelu", batch_first=True,
            norm_first=True,
        )  # fmt: skip
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, symbols + 1)

    def log_likelihood(self, hidden: Tensor, mask: Tensor, texts: Sequence[Tensor]) -> Tensor:
        """Return log p(text, end | speech) in nats over symbols (B,).

        Args:
            hidden: (B, T, D) frame embeddings.
            mask: (B, T) bool.
            texts: B tensors (L_b,) int64.
        """
        end = torch.tensor([self.end])
        given = pad([torch.cat((end, text)) for text in texts])
        wanted = pad([torch.cat((text, end)) for text in texts], IGNORED)
        width = hidden.shape[-1]
        found = self.layer(
            self.symbol(given) + positions(given.shape[1], width),
            hidden + positions(hidden.shape[1], width),
            tgt_mask=nn.Transformer.generate_square_subsequent_mask(given.shape[1]),
            tgt_is_causal=True,
            memory_key_padding_mask=~mask,
        )
        logits = self.output(self.norm(found)).transpose(1, 2)
        loss = functional.cross_entropy(logits, wanted, reduction="none", ignore_index=IGNORED)
        return -loss.sum(1) / torch.tensor([text.numel() for text in texts])


class Reader(nn.Module):
    """An encoder and one of the two heads."""

    def __init__(self, head: str, symbols: int) -> None:
        super().__init__()
        self.model: RewardModel = World().reward_model()
        self.decoder: AttentionDecoder | None = None
        if head == "ctc":
            self.model.add_content_head("ids", symbols, [])
        else:
            config = self.model.config
            self.decoder = AttentionDecoder(config.width, config.heads, symbols)

    def forward(self, speech: Sequence[Tensor], texts: Sequence[Tensor]) -> Tensor:
        """Return log p(text | speech) in nats per symbol (B,) of tokens (T_b,) and texts (L_b,)."""
        mask = length_mask(torch.tensor([tokens.numel() for tokens in speech]))
        hidden = self.model.encode(self.model.embed(pad(speech)), mask)
        reader = self.model.content_head() if self.decoder is None else self.decoder
        return reader.log_likelihood(hidden, mask, texts)


def changed(text: str, change: str, others: Sequence[str], rng: np.random.Generator) -> str:
    """Return a text with one word exchanged for one of `others`, dropped or doubled."""
    words = text.split()
    place = int(rng.integers(len(words)))
    bare = words[place].rstrip(".,?!")
    marks = words[place][len(bare) :]
    if change == "exchanged":
        choice = [word for word in others if word.lower() != bare.lower()]
        words[place] = choice[int(rng.integers(len(choice)))] + marks
    elif change == "doubled":
        words[place] = f"{bare} {words[place]}"
    elif place and marks:  # the sentence keeps its end
        words[place - 1 : place + 1] = [words[place - 1].rstrip(".,?!") + marks]
    else:
        del words[place]
    return " ".join(words)


def fit(
    reader: Reader, rows: Sequence[tuple[Tensor, Tensor]], asked: argparse.Namespace, seed: int
) -> float:
    """Train a reader on speech (T,) with its text (L,); return the seconds of a step."""
    rng = np.random.default_rng([seed, 1])
    optimizer = torch.optim.AdamW(reader.parameters(), asked.learning_rate, weight_decay=0.01)
    rates = TrainConfig(
        steps=asked.steps,
        learning_rate=asked.learning_rate,
        warmup_steps=asked.steps // 10,
        schedule="cosine",
    )
    reader.train()
    began = time.perf_counter()
    with Progress("train", asked.steps) as progress:
        for step in range(asked.steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(rates, step + 1)
            batch = [rows[row] for row in rng.integers(len(rows), size=asked.batch_size)]
            loss = -reader(*zip(*batch, strict=True)).mean()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
            optimizer.step()
            progress.update(step + 1, f"loss {loss.item():.3g}")
    return (time.perf_counter() - began) / asked.steps


@torch.no_grad()
def scores(reader: Reader, speech: Sequence[Tensor], texts: Sequence[Tensor]) -> Tensor:
    """Return log p(text | speech) in nats per symbol (n,) of any number of utterances."""
    reader.eval()
    parts = [slice(start, start + 64) for start in range(0, len(speech), 64)]
    return torch.cat([reader(speech[part], texts[part]) for part in parts])


def test(
    reader: Reader, rows: Sequence[Utterance], tokenizer: PhoneTokenizer, seed: int
) -> dict[str, float]:
    """Return the figures of a reader on held-out utterances."""
    rng = np.random.default_rng([seed, 2])
    words = sorted({word.rstrip(".,?!") for row in rows for word in row.text.split()})
    speech = [torch.from_numpy(row.tokens) for row in rows]
    right = [torch.tensor(tokenizer.encode(row.text)) for row in rows]
    own = scores(reader, speech, right)
    sizes = torch.tensor([text.numel() for text in right])
    found = {"nats_per_symbol": float(own.mean())}
    for change in CHANGES:
        wrong = [
            torch.tensor(tokenizer.encode(changed(row.text, change, words, rng))) for row in rows
        ]
        other = scores(reader, speech, wrong)
        total = other * torch.tensor([text.numel() for text in wrong])
        found[f"{change}/per_symbol"] = float((own > other).float().mean())
        found[f"{change}/whole_text"] = float((own * sizes > total).float().mean())
    return found


def trial(asked: argparse.Namespace, seed: int, rows: Sequence[Utterance]) -> dict[str, Any]:
    """Train and test both heads with one seed."""
    tokenizer = World().tokenizer
    held = held_texts(rows, asked.held_out, seed)
    kept = [
        (torch.from_numpy(row.tokens), torch.tensor(tokenizer.encode(row.text)))
        for row in rows
        if row.text not in held
    ]
    tested = [row for row in rows if row.text in held][: asked.tested]
    found = {}
    for head in HEADS:
        torch.manual_seed(seed)
        reader = Reader(head, tokenizer.vocabulary_size)
        seconds = fit(reader, kept, asked, seed)
        found[head] = {**test(reader, tested, tokenizer, seed), "seconds_per_step": seconds}
        print(f"seed {seed}, {head}: {found[head]}", flush=True)
    return found


def main() -> None:
    """Read the options, run every seed, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--held-out", type=float, default=0.1, help="share of texts")
    parser.add_argument("--tested", type=int, default=None, help="most utterances tested on")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file")
    asked = parser.parse_args()
    shards = ("finetune", *(f"finetune_{name}" for name in SPEAKERS))
    rows = [row for shard in shards for row in World().shard(shard)]
    runs = [trial(asked, seed, rows) for seed in range(asked.seeds)]
    by_head: dict[str, dict[str, list[float]]] = {head: defaultdict(list) for head in HEADS}
    for run in runs:
        for head in HEADS:
            for name, value in run[head].items():
                by_head[head][name].append(value)
    pairs = {
        name: [one - other for one, other in zip(values, by_head["ctc"][name], strict=True)]
        for name, values in by_head["attention"].items()
    }
    intervals = {
        head: {name: run_interval(values) for name, values in figures.items()}
        for head, figures in {**by_head, "attention minus ctc": pairs}.items()
    }
    settings = {name: value for name, value in vars(asked).items() if name != "out"}
    command = " ".join(["python scripts/content_heads.py", *sys.argv[1:]])
    made = {"command": command, "machine": machine(), "settings": settings}
    write_json(asked.out, {**made, "figures": intervals, "seeds": runs})


if __name__ == "__main__":
    main()
