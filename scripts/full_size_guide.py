"""The CosyVoice guide from end to end on a model folder of full size, unattended.

    python scripts/full_size_guide.py --work /big/disk/guide --out docs/studies/full_size

Builds the folder with `full_size_folder.py`, corpora of tones and a stand-in for CosyVoice's own
package, runs every `rrpo` command of `docs/cosyvoice.md` in its order with few steps, each in a
process of its own, and writes OUT.json and OUT.md: seconds and peak memory of each. It stops at the
first command that fails. `--full` trains all weights where the default trains adapters: a run's
checkpoint then holds AdamW's moments, 6 to 8 GB. `--keep-within` removes, after a command, what
later ones do not read.
"""

import argparse
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[1]
GUIDE = ROOT / "docs" / "cosyvoice.md"
FOLDERS = {2: "CosyVoice2-0.5B", 3: "Fun-CosyVoice3-0.5B-2512"}
STEPS = "--set train.steps=2 --set train.warmup_steps=0"
QUICK = {
    "reward train": STEPS,
    "policy sft": f"{STEPS} --set sft.batch_size=2",
    "policy diffro": f"{STEPS} --set diffro.batch_size=2 --set reference_precision=bfloat16 "
    "--set recompute=true",
    "policy forgetting": "--texts short.yaml",
    "speak": "--seed 1",  # of random weights, a seed in thirty says nothing
}
"""Added to the guide's commands, so that each takes minutes."""
SHORT = """en: ["The train leaves."]
zh: ["火车出发。"]
long en: ["The train leaves at noon, and before that we have to buy two tickets."]
"""
"""Texts of the forgetting report: with random weights each is spoken to its greatest length."""
ADAPTERS = "--set lora_rank=16"
PACKAGE = '''
"""Stands for CosyVoice's own package: its calls, its files read as it reads them, tones."""

import onnxruntime
import torch


class Frontend:
    def __init__(self, folder):
        self.speakers = onnxruntime.InferenceSession(f"{folder}/campplus.onnx")

    def frontend_zero_shot(self, text, prompt_text, voice, rate, speaker):
        heard = self.speakers.run(None, {"input": torch.randn(1, 100, 80).numpy()})[0]
        return {
            "flow_prompt_speech_token": torch.zeros(1, 25, dtype=torch.int32),
            "prompt_speech_feat": torch.zeros(1, 50, 80),
            "flow_embedding": torch.from_numpy(heard),
        }


class Model:
    def __init__(self, folder):
        for name in ("flow.pt", "hift.pt"):
            state = torch.load(f"{folder}/{name}", map_location="cpu", weights_only=True)
            print(name, sum(value.numel() for value in state.values()), "numbers")
        self.llm = None

    def tts(self, source_speech_token, stream, **voice):
        tone = 100 + 400 * source_speech_token[0].float()[:, None] / 6561
        sound = 0.1 * torch.sin(6.28 * tone * torch.arange(960) / 24000)
        yield {"tts_speech": sound.reshape(1, -1)}


class AutoModel:
    def __init__(self, model_dir):
        self.frontend, self.model, self.sample_rate = Frontend(model_dir), Model(model_dir), 24000
'''


@dataclass
class Step:
    """One command: how it ended, its seconds, peak memory, and what the work folder holds after."""

    command: str
    code: int
    seconds: float
    peak_gigabytes: float
    disk_gigabytes: float
    last_line: str


def commands(version: int, full: bool) -> list[list[str]]:
    """Return the guide's rrpo commands as words, made quick and told the version."""
    text = GUIDE.read_text(encoding="utf-8").replace("\\\n", " ")
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    found = []
    for line in shell.splitlines():
        if not line.startswith("rrpo "):
            continue
        line = line.replace(FOLDERS[2], FOLDERS[version]).replace(
            "cosyvoice2", f"cosyvoice{version}"
        )
        more = next((words for kind, words in QUICK.items() if line.startswith(f"rrpo {kind}")), "")
        trains = line.startswith(("rrpo policy sft", "rrpo policy diffro"))
        if trains and not full and "lora_rank" not in line:
            more += f" {ADAPTERS}"
        found.append(shlex.split(f"{line} {more}", comments=True))
    return found


def write_corpus(folder: Path, count: int) -> None:
    """Write a corpus as CosyVoice's data recipe leaves it, of tones that tell happy from sad."""
    folder.mkdir(parents=True)
    tables: dict[str, list[str]] = {name: [] for name in ("wav.scp", "text", "utt2spk", "utt2emo")}
    for number in range(count):
        emotion = ("happy", "sad")[number % 2]
        place = np.arange(20_000 + 640 * number)  # no two as long: the same tokens are refused
        tone = 0.3 * np.sin(place * (0.3 if emotion == "happy" else 0.05) + number)
        soundfile.write(folder / f"{number}.wav", tone, 16_000)
        values = (f"{number}.wav", f"text {'ab'[number // 2 % 2]}", "speaker", emotion)
        for name, value in zip(tables, values, strict=True):
            tables[name].append(f"u{number} {value}\n")
    for name, lines in tables.items():
        (folder / name).write_text("".join(lines))


def prepare(work: Path) -> None:
    """Write corpora, a voice and the package that stands for CosyVoice's."""
    write_corpus(work / "corpus", 12)
    write_corpus(work / "held-out", 4)
    noise = 0.1 * np.random.default_rng(0).standard_normal(32_000)
    soundfile.write(work / "voice.wav", noise, 16_000)
    (work / "short.yaml").write_text(SHORT, encoding="utf-8")
    inner = work / "packages" / "cosyvoice" / "cli"
    inner.mkdir(parents=True)
    for package in (inner.parent, inner):
        (package / "__init__.py").write_text("")
    (inner / "cosyvoice.py").write_text(PACKAGE)


def run(words: list[str], work: Path, log: Path) -> Step:
    """Run a command in the work folder and measure it; what it prints goes into `log`."""
    paths = [str(work / "packages"), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    began = time.perf_counter()
    with log.open("a", encoding="utf-8") as stream:
        stream.write(f"$ {shlex.join(words)}\n")
        stream.flush()
        start = stream.tell()
        program = [sys.executable, "-m", "rrpo", *words[1:]] if words[0] == "rrpo" else words
        process = subprocess.Popen(
            program,
            cwd=work,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    said = log.read_bytes()[start:].decode("utf-8", "replace").split("\n")
    lines = [line.split("\r")[-1].strip() for line in said if line.strip()]
    return Step(
        shlex.join(plain(word) for word in words),
        process.returncode,
        round(time.perf_counter() - began, 1),
        round(usage.ru_maxrss / 1e6, 2),
        round(sum(one.stat().st_size for one in work.rglob("*") if one.is_file()) / 1e9, 2),
        re.sub(re.escape(str(work)) + "/?", "", lines[-1])[:160] if lines else "",
    )


def plain(word: str) -> str:
    """Return a word of a command without folders of this machine."""
    return Path(word).name if word.startswith("/") else word


def trim(work: Path, later: list[list[str]]) -> None:
    """Remove what no later command reads: states to resume from, and policies that are done with.

    A run whose policy is gone keeps what says how it was made.
    """
    words = {word.split("/")[0] for one in later for word in one}
    for checkpoint in work.glob("*/checkpoint"):
        for state in checkpoint.glob("training.safetensors"):
            state.unlink()
        if checkpoint.parent.name not in words:
            shutil.rmtree(checkpoint)


def report(
    steps: list[Step], table: list[str], folder: str, given: argparse.Namespace
) -> tuple[dict, str]:
    """Return what OUT.json and OUT.md hold."""
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    processor = f"{platform.machine()} CPU, {threads} threads of {os.cpu_count()} shared cores"
    method = "all weights" if given.full else "adapters of rank 16"
    values = {
        "machine": processor,
        "model": folder,
        "trained": method,
        "steps": [asdict(one) for one in steps],
    }
    lines = [
        f"## {folder}, {method}",
        "",
        f"`python scripts/full_size_guide.py`, {processor}. {len(steps)} commands in "
        f"{sum(one.seconds for one in steps) / 60:.0f} minutes; at most "
        f"{max(one.peak_gigabytes for one in steps):.1f} GB of memory and "
        f"{max(one.disk_gigabytes for one in steps):.1f} GB of disk after a command.",
        "",
        *table,
        "",
        "| command | seconds | peak memory, GB | disk, GB | its last line |",
        "|---|---|---|---|---|",
    ]
    for one in steps:
        last = one.last_line.replace("|", "/")
        code = "" if one.code == 0 else f"**failed ({one.code})**: "
        lines.append(
            f"| `{one.command}` | {one.seconds} | {one.peak_gigabytes} | {one.disk_gigabytes} | "
            f"{code}{last} |"
        )
    return values, "\n".join(lines) + "\n"


def main() -> None:
    """Build, run, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="a new folder for everything")
    parser.add_argument("--out", type=Path, required=True, help="the log, without a suffix")
    parser.add_argument("--version", type=int, choices=[2, 3], default=2)
    parser.add_argument("--full", action="store_true", help="train all weights, not adapters")
    parser.add_argument("--keep-within", action="store_true", help="remove what is done with")
    parser.add_argument("--small", action="store_true", help="a tiny model, to try the script")
    parser.add_argument("--skip", nargs="*", default=[], help="files of the model to leave out")
    given = parser.parse_args()
    work, log = given.work.resolve(), given.out.with_suffix(".log").resolve()
    work.mkdir(parents=True)
    log.unlink(missing_ok=True)
    prepare(work)
    folder = FOLDERS[given.version]
    builder = [sys.executable, str(ROOT / "scripts" / "full_size_folder.py"), "--out", folder]
    builder += ["--version", str(given.version), *(["--small"] if given.small else [])]
    builder += ["--skip", *given.skip] if given.skip else []
    steps = [run(builder, work, log)]
    table = [line for line in log.read_text().splitlines() if line.startswith("| ")]
    table.insert(1, "|---|---|---|")
    asked = commands(given.version, given.full)
    for number, words in enumerate(asked):
        if steps[-1].code:
            break
        steps.append(run(words, work, log))
        print(
            f"{steps[-1].seconds} s, {steps[-1].peak_gigabytes} GB: {steps[-1].command}", flush=True
        )
        if given.keep_within:
            trim(work, asked[number + 1 :])
    values, text = report(steps, table, folder, given)
    given.out.with_suffix(".json").write_text(json.dumps(values, indent=1) + "\n")
    given.out.with_suffix(".md").write_text(text)
    sys.exit(1 if steps[-1].code else 0)


if __name__ == "__main__":
    main()
