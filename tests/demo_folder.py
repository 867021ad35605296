"""The folder of a small demo with figures that are known, for tests of its page."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

from rrpo import audio
from rrpo.emotions import EMOTIONS

HOSTILE = "<script>alert(\"x\")</script> & 'quoted'"


def spread_of(mean: float, half: float = 0.02) -> dict[str, float]:
    """An estimate as results.json holds it."""
    return {"mean": mean, "low": mean - half, "high": mean + half}


def system(reward: float, judge: float, quality: float, kl: float) -> dict[str, Any]:
    """The figures of one system."""
    return {
        "reward": spread_of(reward),
        "rewards": {"plain": spread_of(reward), "ls_eam_adv": spread_of(reward - 0.1)},
        "judge_accuracy": spread_of(judge),
        "judge_probability": spread_of(judge),
        "quality": {"dnsmos_overall": spread_of(quality), "plcmos": spread_of(quality + 0.5)},
        "artifacts_per_second": spread_of(0.1, 0.01),
        "content_error": None,
        "content_error_reason": "no recogniser is installed",
        "kl": spread_of(kl, 0.001),
        "tokens": spread_of(70.0, 2.0),
        "repetition": spread_of(0.1),
    }


def demo_results() -> dict[str, Any]:
    """Results in which DiffRO hacks its reward and RRPO does not."""
    reference = system(-0.2, 0.95, 3.2, 0.0)
    reference["by_emotion"] = {name: {"judge_probability": spread_of(0.9)} for name in EMOTIONS}
    models = {
        name: {
            "accuracy": {"same": spread_of(same), "altered": spread_of(same - 0.2)},
            "calibration_error": spread_of(0.1, 0.01),
            "robustness": {"attack": {"small": spread_of(0.4), "large": 0.2}},
        }
        for name, same in (("plain", 0.7), ("ls_eam_adv", 0.8))
    }
    return {
        "schema": 1,
        "seed": 0,
        "seconds": {"reward_models": 81.2, "sft": 40.0, "diffro": 90.1, "rrpo": 88.0},
        "smoke": False,
        "machine": "2 cores",
        "command": "rrpo demo --out runs/demo --seed 0",
        "reference": reference,
        "systems": {
            "base": system(-1.2, 0.55, 3.0, 0.0),
            "sft": system(-0.8, 0.75, 3.0, 0.1),
            "diffro": system(-0.1, 0.86, 2.7, 0.5),
            "rrpo": system(-0.3, 0.90, 3.02, 0.4) | {"reward_model": "ls_eam_adv"},
        },
        "reward_models": models,
        "training": {"sft": {"stopped_at": 120, "rule": "held-out loss rose twice"}},
        "missing_judges": {"distillmos": "the package distillmos is not installed"},
    }


def demo_curves() -> list[dict[str, Any]]:
    """Curves that go from the base to the systems of `demo_results`."""
    rows = []
    results = demo_results()["systems"]
    ends = {"sft": 0.1, "diffro": 0.5, "rrpo": 0.4}
    for name, index in itertools.product(ends, range(7)):
        share = index / 6
        mix = {
            key: (1 - share) * results["base"][key]["mean"] + share * results[name][key]["mean"]
            for key in ("judge_probability", "judge_accuracy", "tokens", "repetition")
        }
        quality = {
            key: spread_of(
                (1 - share) * value["mean"] + share * results[name]["quality"][key]["mean"]
            )
            for key, value in results["base"]["quality"].items()
        }
        own = -1.2 + share**0.5 * (results[name]["reward"]["mean"] + 1.2)
        rows.append(
            {"system": name, "step": 10 * index, "kl": ends[name] * share, "own_reward": own}
            | {"reward": {"plain": own}, "quality": quality}
            | mix
            | {"judge_probability": spread_of(mix["judge_probability"])}
        )
    return rows


def voice(seconds: float, pitch: float, clicks: list[float], seed: int) -> audio.Audio:
    """Something like speech: harmonics with a moving pitch, in syllables, with clicks."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * audio.SAMPLE_RATE)) / audio.SAMPLE_RATE
    f0 = pitch * (1 + 0.15 * np.sin(2 * np.pi * 0.7 * time + seed))
    phase = 2 * np.pi * np.cumsum(f0) / audio.SAMPLE_RATE
    tone = sum(np.sin(k * phase) / k for k in range(1, 25))
    syllables = np.clip(np.sin(2 * np.pi * 2.1 * time + seed), 0, 1) ** 0.5
    sound = 0.25 * tone * syllables + 0.004 * rng.standard_normal(len(time))
    for click in clicks:
        sound[int(click * audio.SAMPLE_RATE) :][:24] += 0.8 * np.hanning(24)
    return np.asarray(np.clip(sound, -1, 1), dtype=np.float32)


def make_demo(folder: Path, texts: int = 1, seconds: float = 0.4) -> Path:
    """Write a small demo folder with `texts` sentences for each emotion."""
    (folder / "audio").mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(demo_results()))
    rows = []
    names = ("reference", "base", "sft", "diffro", "rrpo")
    for (s, name), (e, emotion), t in itertools.product(
        enumerate(names), enumerate(EMOTIONS), range(texts)
    ):
        clicks = [0.25 * seconds, 0.6 * seconds] if name == "diffro" else []
        length = seconds * (1 + 0.1 * s)
        wav = f"audio/{name}_{emotion}_{t}.wav"
        audio.write(folder / wav, voice(length, 110 + 20 * e, clicks, seed=s + 10 * t))
        rows.append(
            {
                "id": f"{name}_{emotion}_{t}",
                "system": name,
                "emotion": emotion,
                "text": HOSTILE if e == t == 0 else f"The {t + 2} boats came to the harbour.",
                "wav": wav,
                "reward": {"plain": -0.1 * e - 0.05 * t, "ls_eam_adv": -0.2 * e - 0.04 * t},
                "judge_probability": 0.5 + 0.08 * s + 0.02 * t,
                "judge_emotion": "sad" if s == 1 else emotion,
                "quality": {"dnsmos_overall": 3.0, "plcmos": 3.4},
                "artifacts": [
                    {"kind": "click", "start": c, "end": c + 0.004, "strength": 7.3} for c in clicks
                ],
                "tokens": round(25 * length),
                "kl": 0.1 * s,
                "content_error": None,
            }
        )
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "curves.jsonl").write_text("".join(json.dumps(row) + "\n" for row in demo_curves()))
    return folder
