"""What a post-trained policy forgot: other languages and long texts, against what it started from.

Both speak the same texts. The KL is taken both ways, each on the tokens of the one that spoke:
that of the policy says how far it went, that of the base what it would no longer say. Whether an
instruction is read aloud shows in two ways: in the length, and in the words that are recognised.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from rrpo import config as configuration
from rrpo.audio import Audio
from rrpo.codec_identity import require_one_codec
from rrpo.data.shards import Utterance
from rrpo.emotions import EMOTIONS
from rrpo.errors import UserError
from rrpo.evaluate import content
from rrpo.evaluate.panel import kl_of
from rrpo.evaluate.statistics import interval
from rrpo.files import require_writable, write_json
from rrpo.interval import Interval
from rrpo.loading import Location, is_mini, load_tokenizer
from rrpo.measures import BY_KEY
from rrpo.mini.world import World
from rrpo.origin import is_run, origin_of
from rrpo.policy import SpeechTokenLM
from rrpo.policy.cosyvoice_text import CosyVoiceTokenizer
from rrpo.policy.layout import Prompt, make_prompts
from rrpo.progress import Progress
from rrpo.provenance import weights_hash
from rrpo.speaking import cosyvoice as cosyvoice_speaking
from rrpo.speaking import mini as mini_speaking
from rrpo.speaking.by_name import load_to_speak, refuse_voice
from rrpo.speaking.cosyvoice import CosyVoiceSpeaker
from rrpo.speaking.speaker import Said, asked

REPORT = "forgetting.json"
"""Name of the report in a run's folder."""
TEXTS = Path(content.__file__).parents[1] / "policy" / "forgetting_texts.yaml"
"""What CosyVoice is asked by default."""
OTHER_LATIN = ("de", "es", "fr", "it", "nl", "pt", "pl", "sv", "tr", "vi", "id")
"""Codes in the name of a group, of languages that letters alone do not tell from English."""
MINI_TEXTS = 4
"""Of the mini world's test sentences."""


@dataclass(frozen=True)
class Pair:
    """A policy and what it started from, with what both are asked and how they are heard.

    Attributes:
        policy, base: the two.
        groups: group → what is asked.
        prompts: likewise, as ids.
        told: emotion → the instruction in words; empty where none is given in words.
        voice: what turns CosyVoice's tokens into sound; None: nothing does.
    """

    policy: SpeechTokenLM
    base: SpeechTokenLM
    groups: Mapping[str, list[Utterance]]
    prompts: Mapping[str, list[Prompt]]
    told: Mapping[str, str]
    voice: CosyVoiceSpeaker | None

    def draw(self, model: SpeechTokenLM, group: str, seed: int) -> list[Said]:
        """Let one of the two speak a group."""
        prompts = self.prompts[group]
        if is_mini(model):
            return mini_speaking.draw(model, prompts, seed)
        return cosyvoice_speaking.draw(model, prompts, seed)

    def sound(self, said: Sequence[Said]) -> list[Audio] | None:
        """Return the sound at 16 kHz of what was said, silence for nothing; None: not possible."""
        if self.voice is not None:
            decode = self.voice.codec.decode
        elif is_mini(self.policy):
            decode = World().codec().decode
        else:
            return None
        silence: Audio = np.zeros(1600, dtype=np.float32)
        return [decode(one.tokens) if one.tokens.numel() else silence for one in said]


def forgetting(
    policy: Location,
    *,
    base: Location | None = None,
    texts: Location | None = None,
    voice: Location | None = None,
    model: Location | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare a policy with what it started from (`rrpo policy forgetting`).

    The report goes into the run's `forgetting.json`.

    Args:
        policy: a run.
        base: what it is compared with; None: what the first of its runs started from.
        texts: a YAML file of lists of texts by group; None: those bundled, of eleven groups for
            CosyVoice.
        voice: CosyVoice: a recording whose voice is taken over; None: nothing is heard, and the
            word error is not measured.
        model: CosyVoice: its model folder, where it is not the one the policy started from.
        seed: of what is drawn.

    Returns:
        `base`, `seed`, the SHA-256 of the policy's `weights`, and in `groups` group → its figures,
        each an interval of utterances.

    Raises:
        UserError: the texts cannot be read, or the two policies are of two codecs.
    """
    start = origin_of(policy).start if base is None else base
    weights = weights_hash(Path(policy))
    pair = _pair(policy, start, texts, voice, model)
    if is_run(policy):
        require_writable(Path(policy))
    recogniser, reason = content.available()
    groups: dict[str, Any] = {}
    with Progress("texts", len(pair.groups)) as progress:
        for number, name in enumerate(pair.groups, start=1):
            groups[name] = _group(pair, name, recogniser, seed)
            progress.update(number)
    report: dict[str, Any] = {
        "schema": 1,
        "weights": weights,
        "base": str(start),
        "seed": seed,
        "word_error_reason": reason,
        "groups": groups,
    }
    if is_run(policy):
        write_json(Path(policy) / REPORT, report)
    return report


def _pair(
    policy: Location,
    start: Location,
    texts: Location | None,
    voice: Location | None,
    folder: Location | None,
) -> Pair:
    tuned, first = load_to_speak(policy), load_to_speak(start)
    require_one_codec({f"the policy {policy}": tuned.config.codec, str(start): first.config.codec})
    given = None if texts is None else _read(Path(texts))
    if is_mini(tuned):
        refuse_voice(voice, folder)
        world = World()
        groups = _mini_groups(world) if given is None else _asked(given, EMOTIONS)
        prompts = {name: make_prompts(world.tokenizer, rows) for name, rows in groups.items()}
        return Pair(tuned, first, groups, prompts, {}, None)
    origin = origin_of(policy)
    if folder is not None:
        origin = origin.model_copy(update={"start": str(folder)})
    tokenizer = load_tokenizer(origin, tuned)
    assert isinstance(tokenizer, CosyVoiceTokenizer)  # as it is no policy of the mini world
    groups = _asked(_read(TEXTS) if given is None else given, tokenizer.emotions)
    prompts = {name: make_prompts(tokenizer, rows) for name, rows in groups.items()}
    told = {emotion: tokenizer.instruction(emotion) for emotion in tokenizer.emotions}
    place = None if folder is None else Path(folder)
    speaker = None if voice is None else CosyVoiceSpeaker(policy, tuned, voice, place)
    return Pair(tuned, first, groups, prompts, told, speaker)


def _read(path: Path) -> dict[str, list[str]]:
    """Return group → texts of a YAML file.

    Raises:
        UserError: it is not of that form, or a group is empty.
    """
    found = configuration.read(path)
    for name, texts in found.items():
        right = isinstance(texts, list) and texts and all(isinstance(one, str) for one in texts)
        if not right:
            raise UserError(f"{path}: {name!r} is no list of texts: write `{name}:` and a `- text`")
    if not found:
        raise UserError(f"{path} holds no texts: write a group and a list of texts below it")
    return {str(name): texts for name, texts in found.items()}


def _asked(texts: Mapping[str, Sequence[str]], emotions: Sequence[str]) -> dict[str, Any]:
    """Ask each text with an emotion, one after the other."""
    return {
        name: [
            asked(" ".join(text.split()), emotions[number % len(emotions)], name=f"{name} {number}")
            for number, text in enumerate(rows)
        ]
        for name, rows in texts.items()
    }


def _mini_groups(world: World) -> dict[str, list[Utterance]]:
    """Return the mini world's own: test sentences, and several of them in one text."""
    texts = list(dict.fromkeys(row.text for row in world.shard("test_same")))
    usual = texts[:MINI_TEXTS]
    long = [" ".join(texts[at : at + MINI_TEXTS]) for at in range(0, 2 * MINI_TEXTS, MINI_TEXTS)]
    return _asked({"usual": usual, "long": long}, EMOTIONS)


def _group(
    pair: Pair, name: str, recogniser: content.Recogniser | None, seed: int
) -> dict[str, Any]:
    """Return the figures of one group of texts."""
    prompts = pair.prompts[name]
    said = {"policy": pair.draw(pair.policy, name, seed), "base": pair.draw(pair.base, name, seed)}
    tokens = {who: [one.tokens for one in rows] for who, rows in said.items()}
    lengths = [
        ours.numel() / theirs.numel()
        for ours, theirs in zip(tokens["policy"], tokens["base"], strict=True)
        if theirs.numel()
    ]
    figures: dict[str, Any] = {
        "utterances": len(prompts),
        "kl": _divergence(pair.policy, pair.base, prompts, tokens["policy"]),
        "kl_base": _divergence(pair.base, pair.policy, prompts, tokens["base"]),
        "length": _over(lengths),
    }
    spoken = pair.groups[name]
    english = _is_english(name) and all(
        content.is_english(row.text, row.language) for row in spoken
    )
    for who, rows in said.items():
        sounds = pair.sound(rows) if english and recogniser is not None else None
        heard = None if sounds is None or recogniser is None else recogniser.transcribe(sounds)
        figures[who] = {
            "never_ended": interval([not one.ended for one in rows]),
            "read_aloud": _over(read_aloud(tokens[who], tokens["base"], prompts, bool(pair.told))),
            **_heard(pair, pair.groups[name], heard),
        }
    return figures


def _divergence(
    model: SpeechTokenLM, other: SpeechTokenLM, prompts: Sequence[Prompt], tokens: list[Tensor]
) -> Interval:
    """Return KL(model ‖ other) in nats per token; what rounds to less than nothing is nothing."""
    return interval([max(0.0, one) for one in kl_of(model, other, prompts, tokens)])


def _is_english(group: str) -> bool:
    """Say whether a group may be English by its name."""
    return not set(group.split()) & set(OTHER_LATIN)


def _over(values: Sequence[float]) -> Interval | None:
    return interval(values) if values else None


def _heard(
    pair: Pair, rows: Sequence[Utterance], heard: Sequence[str] | None
) -> dict[str, Interval | None]:
    """Return the word error, at most 1, and the share of the instruction that is heard."""
    if heard is None:
        return {"word_error": None, "instruction_heard": None}
    pairs = list(zip(rows, heard, strict=True))
    errors = [min(1.0, content.word_error(row.text, said)) for row, said in pairs]
    leaks = [
        content.instruction_heard(pair.told[row.emotion], row.text, said)
        for row, said in pairs
        if row.emotion in pair.told
    ]
    known = [one for one in leaks if one is not None]
    word_error = BY_KEY["content_error"].within(interval(errors))
    return {"word_error": word_error, "instruction_heard": _over(known)}


def read_aloud(
    spoken: Sequence[Tensor],
    base: Sequence[Tensor],
    prompts: Sequence[Prompt],
    in_words: bool,
    limit: float = cosyvoice_speaking.LONGEST,
) -> list[bool]:
    """Say of each utterance whether it is as long as if its instruction had been read.

    The base's pace, the median of its tokens per id of text, tells how long the text should be. An
    utterance is too long that has room for half of the instruction besides. Left out are texts so
    short that no utterance may become as long (`limit` tokens per id), and all where nothing is
    told in words.
    """
    if not in_words:
        return []
    pace = statistics.median(
        one.numel() / prompt.text_ids.numel() for one, prompt in zip(base, prompts, strict=True)
    )
    found = []
    for one, prompt in zip(spoken, prompts, strict=True):
        text, told = prompt.text_ids.numel(), prompt.instruct_ids.numel() - 1  # its end aside
        bound = pace * (text + told / 2)
        if pace > 0 and told > 0 and bound <= limit * text:
            found.append(one.numel() >= bound)
    return found
