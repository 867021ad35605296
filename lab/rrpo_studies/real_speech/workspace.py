"""Reward models trained on real speech: what the studies `ablation` and `languages` share.

A fold is a set of languages to train on. For each fold a tokenizer is trained without labels, every
recording is turned into tokens, a reward model is pre-trained on them, again without labels, and
then fine-tuned on the emotions with a subset of the regularizers and a seed. Whoever is tested was
unseen: neither by the reward model nor by the tokenizer. Every part is kept, by its content or
by its settings, so an interrupted study goes on, and both studies use each other's parts.
"""

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rrpo import reward
from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.codec import speech, whisper
from rrpo.codec.speech import SpeechTokenizer, SpeechTokenizerConfig
from rrpo.codec.states import hear
from rrpo.codec_identity import identity
from rrpo.data.catalogue import known_corpora
from rrpo.data.shards import Utterance, read_shard, write_shard
from rrpo.data.survey import (
    REPORT,
    read_recording,
    survey,
    without_copies,
    write_report,
)
from rrpo.errors import UserError
from rrpo.files import read_json, sha256, write_json
from rrpo.progress import Progress
from rrpo.reward import RewardConfig, RewardModel
from rrpo.sound.audio_mixup import energy_adaptive_mixup, other_than
from rrpo.train import TrainConfig, train
from rrpo_studies.real_speech.folds import Fold, Size, configurations
from rrpo_studies.real_speech.pretrain import PretrainObjective, Telling
from rrpo_studies.real_speech.recordings import read_recordings, shared_emotions
from rrpo_studies.real_speech.state_cache import StateCache
from rrpo_studies.real_speech.train_speech import (
    Hearing,
    SpeechTokenizerFit,
    SpeechTokenizerObjective,
    new_tokenizer,
)

TOKENIZER = SpeechTokenizerConfig()
LONGEST = 30.0
RATES = {"tokenizer": 2e-3, "pretrain": 1e-3, "finetune": 3e-4, "head": 3e-3, "ceiling": 5e-4}
"""Learning rates; a head that is fitted alone has not converged at that of a whole model."""
WEIGHT_DECAY = 0.05
"""Of fine-tuning."""


class Workspace:
    """The recordings of a study, and every part made of them, in a folder.

    Attributes:
        folder: where parts are kept.
        recordings: all of them.
        emotions: the K classes, those that every language has.
        labelled: indices into `recordings` of those of the K classes, in order.
        size: how much is done.
    """

    def __init__(self, folder: Path, manifests: Sequence[Path], size: Size) -> None:
        self.folder, self.size, self.manifests = folder, size, list(manifests)
        self.recordings = read_recordings(manifests, size.most, size.languages)
        self.emotions = shared_emotions(self.recordings)
        self.labelled = [
            index for index, row in enumerate(self.recordings) if row.emotion in self.emotions
        ]

    @property
    def corpora(self) -> dict[str, str]:
        """Titles of the corpora that the recordings are from, with their licences."""
        known = known_corpora()
        names = sorted({row.corpus for row in self.recordings})
        return {
            known[name].title if name in known else name or "unnamed": (
                known[name].licence if name in known else "unknown licence"
            )
            for name in names
        }

    @property
    def left_out(self) -> dict[str, int]:
        """How many recordings have another emotion, the most frequent first."""
        others = Counter(row.emotion for row in self.recordings)
        return {name: count for name, count in others.most_common() if name not in self.emotions}

    @cached_property
    def digest(self) -> str:
        """What tells this study from another: what the recordings hold, labels, every setting."""
        rows = [
            [
                hashlib.sha256(row.path.read_bytes()).hexdigest() if key == "path" else str(value)
                for key, value in vars(row).items()
                if key != "row"
            ]
            for row in self.recordings
        ]
        sizes = {key: value for key, value in vars(self.size).items() if key != "seeds"}
        shapes = [TOKENIZER, SpeechTokenizerFit(), self.shape(), configurations()]
        loop = loop_config(1, 1.0, 0, WEIGHT_DECAY)
        settings = [LONGEST, RATES, whisper.WEIGHTS, *map(repr, [*shapes, loop])]
        return hashlib.sha256(json.dumps([rows, sizes, settings]).encode()).hexdigest()

    def claim(self) -> None:
        """Listen to everything and write what is studied, or check that it is what is there.

        Raises:
            UserError: the folder holds another study, or a recording cannot be used.
        """
        path = self.folder / "parts.json"
        if not path.is_file():
            # Only what can be listened to: silence is refused while it can still be left out.
            self.hear_all()
            write_json(path, {"digest": self.digest})
        elif read_json(path)["digest"] != self.digest:
            raise UserError(
                f"{self.folder} holds a study of other recordings, sizes or settings: name "
                "another --out"
            )

    @property
    def languages(self) -> list[str]:
        """All languages in the order of the alphabet."""
        return sorted({row.language for row in self.recordings})

    def training(self, fold: Fold) -> list[int]:
        """Return the recordings of a fold that are not held out for tests, labelled or not."""
        return [
            index
            for index, row in enumerate(self.recordings)
            if row.language in fold.languages and row.partition != "test"
        ]

    def finetuning(self, fold: Fold, seed: int = 0) -> list[int]:
        """Return the labelled ones among them; a share below 1 is drawn by the seed.

        It is drawn of every language and emotion, so that none is lost.
        """
        labelled = set(self.labelled)
        rows = [index for index in self.training(fold) if index in labelled]
        if fold.share == 1.0:
            return rows
        groups: dict[tuple[str, str], list[int]] = {}
        for index in rows:
            row = self.recordings[index]
            groups.setdefault((row.language, row.emotion), []).append(index)
        rng = np.random.default_rng(seed)
        drawn = (
            rng.permutation(own)[: math.ceil(fold.share * len(own))] for own in groups.values()
        )
        return sorted(int(index) for one in drawn for index in one)

    @cached_property
    def cache(self) -> StateCache:
        """What the encoder hears, kept by content."""
        return StateCache(self.folder / "heard", whisper.load(TOKENIZER.layers))

    def sound(self, index: int) -> Audio:
        """Read a recording, of a long one the beginning."""
        return read_recording(self.recordings[index]).samples[: int(LONGEST * SAMPLE_RATE)]

    def states(self, index: int) -> Tensor:
        """Return what the encoder hears in a recording: (T, 2 D) float16."""
        return self.cache.hear(self.sound(index))

    def mixes(self, index: int, fold: Fold) -> list[tuple[Audio, int, float]]:
        """Mix a recording with others that the fold is fine-tuned on, as often as the size says.

        Returns:
            of each mix its audio, the partner's index and its weight.
        """
        partners = self.finetuning(Fold(fold.languages))
        rng = np.random.default_rng([index, self.size.mixes])
        made = []
        for _ in range(self.size.mixes):
            partner = partners[other_than(partners.index(index), len(partners), rng)]
            mixed, weight = energy_adaptive_mixup(self.sound(index), self.sound(partner), rng)
            made.append((mixed, partner, weight))
        return made

    def hear_all(self) -> None:
        """Fill the cache with every recording.

        Raises:
            UserError: a recording cannot be used; all are read before any is listened to.
        """
        verdicts = without_copies(self.recordings, survey(self.recordings))
        write_report(self.folder, verdicts)
        bad = [one.mistake for one in verdicts if one.mistake]
        if bad:
            raise UserError(
                f"{len(bad)} of {len(verdicts)} recordings cannot be used, see "
                f"{self.folder / REPORT}; the first: {bad[0]}"
            )
        with Progress("listen", len(self.recordings)) as progress, self._timed("listen"):
            for index in range(len(self.recordings)):
                self.cache.hear(self.sound(index))
                progress.update(index + 1)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        """Add the seconds of a core that something takes, over all the times it is taken up."""
        # A file for each: several processes write at once.
        path = self.folder / "seconds" / f"{name}.json"
        began = time.process_time()
        try:
            yield
        finally:
            before = read_json(path)["seconds"] if path.is_file() else 0.0
            write_json(path, {"seconds": round(before + time.process_time() - began, 2)})

    def tokenizer(self, fold: Fold) -> SpeechTokenizer:
        """Train the tokenizer of a fold, or read it."""
        folder = self.folder / "tokenizers" / "+".join(fold.languages)
        if not (folder / "model.json").is_file():
            model = new_tokenizer(0, TOKENIZER)
            hearing = self._hearing(fold, model)
            objective = SpeechTokenizerObjective(model, hearing, SpeechTokenizerFit())
            config = loop_config(self.size.tokenizer_steps, RATES["tokenizer"], 0)
            run = folder.with_name(f"{folder.name}.run")
            train(objective, config, run, resume=True, description=f"tokenizer {fold.name}")
            speech.save(model, folder)
        return speech.load(folder)

    def _codec(self, fold: Fold) -> str:
        """Return the identity of the tokenizer of a fold."""
        self.tokenizer(fold)
        weights = self.folder / "tokenizers" / "+".join(fold.languages) / "model.safetensors"
        return identity("speech", sha256(weights))

    def _hearing(self, fold: Fold, model: SpeechTokenizer) -> Hearing:
        rows = self.training(fold)
        speakers = [self.recordings[index].speaker for index in rows]
        return Hearing([self.states(index) for index in rows], speakers, model)

    def tokens(self, fold: Fold) -> list[Utterance]:
        """Turn every recording into tokens, or read them: a row for each of `recordings`."""
        path = self.folder / "tokens" / "+".join(fold.languages) / "tokens.parquet"
        if not path.is_file():
            model = self.tokenizer(fold)
            rows = [
                self._row(index, str(index), model.tokens(self.states(index)))
                for index in range(len(self.recordings))
            ]
            write_shard(path, rows, self._codec(fold))
        return read_shard(path)

    def pool(self, fold: Fold) -> list[Utterance]:
        """Turn the mixes of a fold into tokens, or read them; see `parents`."""
        path = self.folder / "tokens" / "+".join(fold.languages) / "mixes.parquet"
        if not path.is_file():
            write_shard(path, self._mixed(fold, self.tokenizer(fold)), self._codec(fold))
        return read_shard(path)

    def _mixed(self, fold: Fold, model: SpeechTokenizer) -> list[Utterance]:
        pool = []
        chosen = self.finetuning(Fold(fold.languages))
        name = f"mix {'+'.join(fold.languages)}"
        with Progress(name, len(chosen)) as progress, self._timed(name):
            for done, index in enumerate(chosen, start=1):
                for number, (mixed, partner, weight) in enumerate(self.mixes(index, fold)):
                    heard = hear(self.cache.encoder, mixed).half()
                    row = self._row(index, f"{index}+{partner}-{number}", model.tokens(heard))
                    emotion = self.recordings[partner].emotion
                    pool.append(replace(row, partner_emotion=emotion, partner_weight=weight))
                progress.update(done)
        return pool

    def _row(self, index: int, name: str, tokens: Tensor) -> Utterance:
        row = self.recordings[index]
        return Utterance(
            name,
            row.text,
            row.emotion,
            tokens.numpy(),
            row.speaker,
            row.language,
            corpus=row.corpus,
        )

    def pretrained(self, fold: Fold) -> RewardModel:
        """Pre-train the reward model of a fold, or read it; all seeds start from the same."""
        folder = self.folder / "pretrained" / "+".join(fold.languages)
        if not (folder / "model.json").is_file():
            rows = self.tokens(fold)
            tokenizer = self.tokenizer(fold)
            hearing = self._hearing(fold, tokenizer)
            torch.manual_seed(0)
            shape = self.shape().model_copy(update={"codec": self._codec(fold)})
            model = RewardModel(shape)
            telling = Telling(model, TOKENIZER.states, TOKENIZER.summary)
            tokens = [torch.from_numpy(rows[index].tokens) for index in self.training(fold)]
            objective = PretrainObjective(telling, tokens, hearing)
            config = loop_config(self.size.pretrain_steps, RATES["pretrain"], 0)
            run = folder.with_name(f"{folder.name}.run")
            train(objective, config, run, resume=True, description=f"pre-train {fold.name}")
            reward.save(model, folder)
        return reward.load(folder)

    def shape(self) -> RewardConfig:
        """Return the shape of every reward model."""
        return RewardConfig(layers=2, tasks={"emotion": self.emotions})

    def prepare(self, fold: Fold, mixed: bool) -> None:
        """Make all that fine-tunings of a fold begin with, on one core; mixes only for those."""
        torch.set_num_threads(1)
        self.pretrained(fold)
        if mixed:
            self.pool(fold)


def loop_config(steps: int, rate: float, seed: int, weight_decay: float = 0.01) -> TrainConfig:
    """Return how any part of a study is trained."""
    return TrainConfig(
        steps=steps,
        learning_rate=rate,
        warmup_steps=max(1, steps // 10),
        schedule="cosine",
        weight_decay=weight_decay,
        seed=seed,
        save_every=500,
    )
