"""Which utterances the mini world is made of, and their rendering into resumable chunks."""

import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from rrpo.audio import Audio
from rrpo.emotions import EMOTIONS
from rrpo.files import atomic_path, read_json, write_json
from rrpo.mini.text import SPEAKERS
from rrpo.progress import Progress
from rrpo_world import mandarin
from rrpo_world.sentences import compose

CHUNK = 60
"""Sentences of one chunk, the unit an interrupted rendering continues from."""
BASE_VOICE = "heart"
WORKERS = 2


@dataclass(frozen=True)
class Line:
    """One utterance to render: what is said, how, and the seed of its variation."""

    id: str
    text: str
    emotion: str
    intensity: float
    voice: str
    noise: float | None
    seed: int
    language: str = "en"


@dataclass(frozen=True)
class Part:
    """A set of the corpus.

    Attributes:
        split: of `rrpo_world.sentences`, or "mandarin".
        sentences: how many at full size.
        emotions: "all" renders each sentence with every emotion, "one" with one drawn at random,
            "weak" once neutral and once with a random emotion, "either" neutral or with a random
            emotion, half of the time each.
        intensity: range it is drawn from; neutral has its own variation at the same intensity.
        altered: share of utterances spoken by an altered voice.
        voices: which altered voices; none named means all.
        noisy: share with white-to-pink noise at 12 to 30 dB under the speech.
    """

    split: str
    sentences: int
    emotions: str
    intensity: tuple[float, float]
    altered: float = 0.0
    noisy: float = 0.0
    voices: tuple[str, ...] = ()

    @property
    def language(self) -> str:
        """What is spoken."""
        return mandarin.LANGUAGE if self.split == "mandarin" else "en"


PARTS: dict[str, Part] = {
    "codec": Part("train", 9600, "one", (0.0, 1.0), altered=0.4, noisy=0.15),
    "base": Part("train", 5200, "weak", (0.1, 0.5)),
    "general": Part("general", 1000, "all", (0.3, 1.0), altered=0.9, noisy=0.3),
    "finetune": Part("finetune", 100, "all", (0.7, 1.0)),
    "judge": Part("judge", 1000, "all", (0.4, 1.0), altered=0.4),
    "test_same": Part("test", 50, "all", (0.7, 1.0)),
    "test_altered": Part("test", 50, "all", (0.3, 0.9), altered=1.0, noisy=0.5),
    # A new part goes to the end: its place decides the chance of its utterances.
    "test_mandarin": Part("mandarin", 50, "all", (0.7, 1.0)),
    "voices": Part("train", 1600, "weak", (0.1, 0.5), altered=1.0, voices=SPEAKERS),
    **{
        f"finetune_{name}": Part("finetune", 100, "all", (0.7, 1.0), altered=1.0, voices=(name,))
        for name in SPEAKERS
    },
    **{
        f"test_{name}": Part("test", 25, "all", (0.7, 1.0), altered=1.0, voices=(name,))
        for name in SPEAKERS
    },
    "reading": Part("train", 8000, "either", (0.1, 0.5), altered=0.25, voices=SPEAKERS),
}
"""The base policy is made of "base", "voices" and "reading", which adds sentences where the two add
ways to say them; the parts named after a voice are in it alone."""


def lines(name: str, seed: int, scale: float = 1.0) -> list[Line]:
    """List the utterances of one part; a pure function of its arguments.

    Args:
        name: a key of `PARTS`.
        scale: share of the full number of sentences, for a quick trial of the recipe.
    """
    from rrpo_world.renderer import VOICES  # needs no packaged voice, only the table

    part = PARTS[name]
    order = list(PARTS).index(name)
    rng = np.random.default_rng([seed, order])
    altered = list(part.voices) or [voice for voice in VOICES if voice != BASE_VOICE]
    count = max(2, round(part.sentences * scale))
    if part.language == "en":
        texts = compose(count, seed * 101 + order, part.split)
    else:
        texts = mandarin.sentences()[:count]
    rows: list[Line] = []
    for number, text in enumerate(texts):
        for emotion in _emotions(part.emotions, rng):
            voice = str(rng.choice(altered)) if rng.random() < part.altered else BASE_VOICE
            noise = float(rng.uniform(12, 30)) if rng.random() < part.noisy else None
            low, high = part.intensity
            rows.append(
                Line(
                    id=f"{name}-{number:05d}-{emotion}",
                    text=text,
                    emotion=emotion,
                    intensity=float(rng.uniform(low, high)),
                    voice=voice,
                    noise=noise,
                    seed=int(rng.integers(2**31)),
                    language=part.language,
                )
            )
    return rows


def _emotions(kind: str, rng: np.random.Generator) -> Sequence[str]:
    if kind == "all":
        return EMOTIONS
    if kind == "one":
        return [str(rng.choice(EMOTIONS))]
    acted = str(rng.choice(EMOTIONS[1:]))
    if kind == "either":
        return ["neutral" if rng.random() < 0.5 else acted]
    return ["neutral", acted]


def add_noise(audio: Audio, level: float, rng: np.random.Generator) -> Audio:
    """Add stationary noise between white and pink to audio (N,), `level` dB under the speech."""
    spectrum = np.fft.rfft(rng.standard_normal(audio.size))
    slope = rng.uniform(0.0, 0.5)
    spectrum[1:] /= np.arange(1, spectrum.size) ** slope
    noise = np.fft.irfft(spectrum, audio.size)
    power = np.mean(audio**2) * 10 ** (-level / 10)
    noise *= np.sqrt(power / max(float(np.mean(noise**2)), 1e-12))
    return np.asarray(np.clip(audio + noise, -1, 1), dtype=np.float32)


def render_part(name: str, folder: Path, seed: int, scale: float, with_targets: bool) -> None:
    """Render one part into `folder`, skipping the chunks that are there; two processes.

    Args:
        with_targets: also keep the arrays a codec is trained on.
    """
    rows = lines(name, seed, scale)
    texts = list(dict.fromkeys(row.text for row in rows))
    groups = [set(texts[start : start + CHUNK]) for start in range(0, len(texts), CHUNK)]
    jobs = []
    for number, group in enumerate(groups):
        path = folder / f"{number:04d}.npz"
        if not path.is_file():
            jobs.append((path, [row for row in rows if row.text in group], with_targets))
    # `spawn` keeps the workers free of the parent's threads, which a fork would copy half alive.
    with (
        Progress(f"render {name}", len(groups), len(groups) - len(jobs)) as progress,
        multiprocessing.get_context("spawn").Pool(WORKERS) as pool,
    ):
        done = len(groups) - len(jobs)
        for count, _ in enumerate(pool.imap_unordered(_render_chunk, jobs), start=done + 1):
            progress.update(count)
    write_json(folder / "lines.json", [asdict(row) for row in rows])


def _render_chunk(job: tuple[Path, list[Line], bool]) -> None:
    """Render the lines of one chunk and write them as one npz file."""
    import torch

    from rrpo_world.codec_corpus import training_arrays
    from rrpo_world.renderer import VOICES, Renderer

    torch.set_num_threads(1)
    path, rows, with_targets = job
    renderer = Renderer(rows[0].language)
    arrays: dict[str, np.ndarray] = {}
    analysis = None
    for row in rows:
        if analysis is None or analysis.text != row.text:
            analysis = renderer.analyse(row.text)
        rng = np.random.default_rng(row.seed)
        rendering = renderer.render(analysis, row.emotion, row.intensity, VOICES[row.voice], rng)
        audio = rendering.audio if row.noise is None else add_noise(rendering.audio, row.noise, rng)
        arrays[row.id] = np.round(audio * 32767).astype(np.int16)
        if with_targets:
            for key, array in training_arrays(rendering, audio, rng).items():
                arrays[f"{row.id}/{key}"] = array
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def read_part(folder: Path) -> Iterator[tuple[Line, Audio]]:
    """Yield each line of a rendered part with its audio (N,) at 16 kHz."""
    rows = {row["id"]: Line(**row) for row in read_json(folder / "lines.json")}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            for key in arrays.files:
                if "/" not in key:
                    yield rows[key], arrays[key].astype(np.float32) / 32767
