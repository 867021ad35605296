"""A CosyVoice policy speaks: its instructions, its sampler, its own flow and vocoder."""

import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rrpo.audio import Audio
from rrpo.codec.cosyvoice import CosyVoiceCodec
from rrpo.codec.s3 import FILES as TOKENIZERS
from rrpo.codec_identity import codec_name, identity, require_one_codec
from rrpo.data.shards import Utterance
from rrpo.errors import UserError
from rrpo.evaluate.panel import Sample
from rrpo.files import sha256
from rrpo.loading import Location, load_tokenizer
from rrpo.origin import Origin, origin_of
from rrpo.policy import SpeechTokenLM, cosyvoice, generate
from rrpo.policy.cosyvoice_text import CosyVoiceTokenizer
from rrpo.policy.layout import Prompt, make_prompts
from rrpo.progress import Progress
from rrpo.speaking.speaker import Said

BATCH = 16
LONGEST = 20.0
"""Tokens per text id at the most, as upstream."""
SILENT = (1, 2, 28, 29, 55, 248, 494, 2241, 2242, 2322, 2323)
"""CosyVoice3's ids of silence and breath."""
LONGEST_SILENCE = 5
EMPTY, TOKEN_SAMPLES = 5, 640
"""Silent tokens that stand for an utterance without any, and samples of a token at 16 kHz."""


class CosyVoiceSpeaker:
    """Speaks as CosyVoice's instruct2 does: told how in words, in the voice of a recording.

    Attributes:
        codec: the flow and vocoder of the `cosyvoice` package.
    """

    def __init__(
        self,
        start: Location,
        model: SpeechTokenLM,
        voice: Location | None,
        folder: Location | None = None,
        told: Origin | None = None,
    ) -> None:
        """Find the tokenizer and load the package.

        Args:
            start: what the model was loaded from; a run knows the model folder it started from.
            voice: a recording whose voice is taken over.
            folder: the model folder, where it is not the one the policy started from.
            told: what has the language and the instructions in which the model is told emotions,
                such as the run that it is compared with. None: its own.

        Raises:
            UserError: the voice, the folder or the package is missing, or the folder is of another
                codec than the policy.
        """
        if voice is None:
            raise UserError(f"{start} speaks CosyVoice's tokens: name a recording of a --voice")
        origin = origin_of(start)
        if folder is not None:
            origin = origin.model_copy(update={"start": str(folder)})
        if told is not None:
            words = {"language": told.language, "instructions": told.instructions}
            origin = origin.model_copy(update=words)
        tokenizer = load_tokenizer(origin, model)
        assert isinstance(tokenizer, CosyVoiceTokenizer)  # as it is no policy of the mini world
        self._model, self.tokenizer = model, tokenizer
        place = cosyvoice.model_folder(Path(origin.start))
        _require_same_codec(start, model, place)
        self.codec = _codec(place, Path(voice))

    @property
    def rate(self) -> int:
        """Samples per second of CosyVoice's vocoder."""
        return self.codec.native_rate

    @property
    def emotions(self) -> Sequence[str]:
        """Emotions for which there is an instruction."""
        return self.tokenizer.emotions

    def sound(self, tokens: Tensor) -> Audio:
        """Return audio (N,) of tokens (T,) at the vocoder's own rate."""
        return self.codec.decode_native(tokens)

    def prompts(self, utterances: Sequence[Utterance]) -> list[Prompt]:
        """Return each text with the instruction for its emotion."""
        return make_prompts(self.tokenizer, utterances)

    def say(self, utterances: Sequence[Utterance], seed: int) -> list[Said]:
        """Draw the tokens of each text by repetition-aware sampling.

        What is as long as it may become did not end by itself.
        """
        # A mistake is told before any drawing.
        return draw(self._model, self.prompts(utterances), seed)

    def samples(self, utterances: Sequence[Utterance], seed: int) -> list[Sample]:
        """Speak each text for the judges; where the policy says nothing, they get silence."""
        drawn = self.say(utterances, seed)
        samples = []
        with Progress("speak", len(drawn)) as progress:
            for said, row in zip(drawn, utterances, strict=True):
                samples.append(self._sample(said, row))
                progress.update(len(samples))
        return samples

    def _sample(self, said: Said, row: Utterance) -> Sample:
        """Turn what was said to a text into sound for the judges."""
        tokens = said.tokens
        if tokens.numel():
            sound = self.codec.decode(tokens)
        else:
            warnings.warn(
                f"nothing was said to {row.text!r} ({row.emotion}): it is judged as silence",
                stacklevel=3,
            )
            tokens = torch.full((EMPTY,), SILENT[0])
            sound = np.zeros(EMPTY * TOKEN_SAMPLES, dtype=np.float32)
        return Sample(
            row.id,
            row.text,
            row.emotion,
            tokens,
            sound,
            instruction=self.tokenizer.instruction(row.emotion),
            ended=said.ended,
            language=row.language,
        )


def draw(model: SpeechTokenLM, prompts: Sequence[Prompt], seed: int) -> list[Said]:
    """Draw the tokens of each prompt by repetition-aware sampling."""
    generator = torch.Generator().manual_seed(seed)
    speech: list[Said] = []
    for start in range(0, len(prompts), BATCH):
        part = prompts[start : start + BATCH]
        drawn = generate(
            model,
            [prompt.text_ids for prompt in part],
            [prompt.instruct_ids for prompt in part],
            sampler="ras",
            max_ratio=LONGEST,
            generator=generator,
        )
        for tokens, ended in zip(drawn, drawn.ended.tolist(), strict=True):
            tokens = tokens.cpu()
            capped = model.config.version == 3
            speech.append(Said(cap_silence(tokens) if capped else tokens, ended))
    return speech


def _require_same_codec(start: Location, model: SpeechTokenLM, folder: Path) -> None:
    """Refuse a model folder of another codec: its flow would speak other sounds.

    Raises:
        UserError: the speech tokenizer in the folder is not the one whose tokens the policy speaks.
    """
    there = {path.stem: path for name in TOKENIZERS if (path := folder / name).is_file()}
    spoken = codec_name(model.config.codec)
    tokenizer = there.get(spoken) or next(iter(there.values()), None)
    if tokenizer is not None:
        line = identity(tokenizer.stem, sha256(tokenizer))
        require_one_codec({f"the policy {start}": model.config.codec, f"the folder {folder}": line})


@cache
def _codec(folder: Path, voice: Path) -> CosyVoiceCodec:
    """Load a flow and vocoder once for all policies that are compared."""
    return CosyVoiceCodec(folder, voice)


def cap_silence(tokens: Tensor) -> Tensor:
    """Leave out of tokens (T,) what goes beyond five silent or breath ids in a row.

    CosyVoice3's own decoding loop does so; the LM has seen them all the same.
    """
    silent = torch.isin(tokens, torch.tensor(SILENT)).tolist()
    kept, run = [], 0
    for place, quiet in enumerate(silent):
        run = run + 1 if quiet else 0
        if run <= LONGEST_SILENCE:
            kept.append(place)
    return tokens[kept]
