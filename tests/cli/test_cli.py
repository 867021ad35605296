"""The command line in a process of its own: help, versions, one line for each mistake."""

import errno
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from command_line import mistake, rrpo
from rrpo import (
    __version__,
    policy,
    reward,
    train_diffro,
    train_dpo,
    train_grpo,
    train_reward,
    train_sft,
)
from rrpo.audio import write
from rrpo.cli import main
from rrpo.data.shards import Utterance, read_shard, write_shard
from rrpo.errors import UserError
from rrpo.files import alone, read_json, write_json
from rrpo.mini.world import World
from rrpo.reward import RewardConfig, RewardModel
from rrpo.sound import file as sound_file

pytestmark = pytest.mark.slow


def test_it_is_installed(tmp_path: Path) -> None:
    """As a user calls it: all other tests spare themselves the loading of torch."""
    command = Path(sys.executable).parent / "rrpo"
    for words, code, printed in (
        (["--version"], 0, f"rrpo {__version__}\n"),
        (["policy", "sft", "--data", str(tmp_path), "--out", str(tmp_path)], 2, ""),
    ):
        done = subprocess.run([command, *words], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (code, printed)
        assert done.stderr.startswith("error: ") == bool(code)
        assert done.stderr.count("\n") == bool(code)


def test_what_takes_long_to_load_is_loaded_where_it_is_used() -> None:
    """A command begins with torch alone; its modules load in a process that has loaded no other.

    Nor is torch's compiler loaded by reading models.
    """
    code = """
import sys, rrpo.cli, rrpo.judging, rrpo.post_training, rrpo.reward_eval, rrpo.studies.demo.demo
import rrpo.data.tokenize, rrpo.report.terminal, rrpo.speaking.by_name
rrpo.load_policy("mini"), rrpo.load_reward_model("mini")
late = {"scipy.stats", "scipy.signal", "scipy.optimize", "matplotlib", "torch._dynamo"}
print(late & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("set()\n", 0), done.stderr


def test_a_training_does_not_load_torchs_compiler(tmp_path: Path) -> None:
    """It takes two seconds, and nothing is compiled."""
    code = """
import sys, rrpo
steps = {"train.steps": 1, "train.warmup_steps": 0, "diffro.batch_size": 1}
rrpo.train_diffro("run", ["mini"], start="mini", settings=steps)
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.endswith("\nFalse\n"), done.stderr


def test_what_computes_nothing_does_not_wait_for_torch() -> None:
    """It takes seconds to load: importing corpora, pages of runs and listening tests go without."""
    code = """
import sys, rrpo.cli, rrpo.config, rrpo.data.corpora, rrpo.data.manifest, rrpo.data.survey
import rrpo.data.shards, rrpo.doctor, rrpo.listen.analysis, rrpo.listen.collect, rrpo.listen.export
import rrpo.listen.report, rrpo.listen.static, rrpo.report.page, rrpo.studies.study
print({"torch", "accelerate", "transformers"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("set()\n", 0), done.stderr


def test_version_and_help() -> None:
    assert rrpo("--version").strip() == f"rrpo {__version__}"
    text = rrpo("--help")
    for command in (
        "demo",
        "tokenize",
        "reward",
        "policy",
        "speak",
        "evaluate",
        "export",
        "report",
    ):
        assert command in text
    for group in (("reward", "train"), ("policy", "diffro"), ("policy", "sft"), ("demo",)):
        assert "--out" in rrpo(*group, "--help")


def test_a_run_from_shards_to_a_wav(tiny: Path, tmp_path: Path) -> None:
    """Reward model, SFT, DiffRO, speech and evaluation, each by its command."""
    data, short = tiny / "data", "--set train.steps=2 --set train.warmup_steps=1"
    rrpo(
        *f"reward train --from {tiny}/reward --data {data} --out {tmp_path}/rm".split(),
        *f"{short} --set fit.batch_size=3 --preset paper".split(),
    )
    assert "accuracy" in rrpo("reward", "eval", tmp_path / "rm", "--data", data)
    table = rrpo("reward", "eval", tmp_path / "rm", "mini", "--data", data, "--data", data)
    assert "LS + EAM + Adv: data: 6 utterances of 2 emotions" in table
    assert "Pre-trained only: data: 6 utterances of 2 emotions" in table
    rrpo(
        *f"policy sft --from {tiny}/policy --data {data} --out {tmp_path}/sft".split(),
        *f"{short} --set sft.batch_size=2 --set validate_every=1".split(),
    )
    rrpo(
        *f"policy diffro --from {tmp_path}/sft --reward {tmp_path}/rm --data {data}".split(),
        *f"--out {tmp_path}/diffro {short} --set diffro.batch_size=2".split(),
        "--set",
        "diffro.rollout.max_ratio=1.0",
    )
    for name in ("rm", "sft", "diffro"):
        run = tmp_path / name
        for file in ("config.yaml", "metrics.jsonl", "results.json", "report.html"):
            assert (run / file).stat().st_size > 0
        assert (run / "checkpoint" / "model.safetensors").is_file()
    wav = tmp_path / "x.wav"
    said = ("--emotion", "happy", "--text", "The train is late.")
    rrpo("speak", "--policy", tmp_path / "diffro", *said, "--out", wav)
    sound = sound_file.read(wav)
    assert sound.size % 640 == 0
    assert sound.size > 0
    assert rrpo("report", tmp_path / "diffro").strip() == str(tmp_path / "diffro" / "report.html")


def test_a_run_is_resumed_with_what_it_was_made_from(tiny: Path, tmp_path: Path) -> None:
    """Another reward or other data would be another run."""
    other = tmp_path / "other"
    torch.manual_seed(1)
    codec = World().codec_identity
    small = RewardConfig(width=16, layers=1, heads=2, feedforward=16, codec=codec)
    reward.save(RewardModel(small), other)
    run = ["policy", "diffro", "--from", tiny / "policy", "--data", tiny / "data"]
    run += ["--out", tmp_path / "run", "--resume"]
    for setting in ("train.steps=1", "train.warmup_steps=1", "diffro.batch_size=2"):
        run += ["--set", setting]
    rrpo(*run, "--reward", tiny / "reward")
    rrpo(*run, "--reward", tiny / "reward")
    assert "a run with another reward" in mistake(*run, "--reward", other)
    made = read_json(tmp_path / "run" / "inputs.json")
    assert [name for name, _ in made["reward"]] == [str(tiny / "reward")]
    assert all(len(digest) == 64 for _, digest in [*made["reward"], *made["data"]])


def test_a_run_that_has_just_begun_keeps_its_configuration(tiny: Path, tmp_path: Path) -> None:
    """It has no checkpoint yet, so nothing but its lock tells that it is there."""
    pytest.importorskip("fcntl", reason="locks are of POSIX systems")
    (tmp_path / "config.yaml").write_text("of the run that has begun")
    run = ["policy", "diffro", "--from", tiny / "policy", "--data", tiny / "data"]
    with alone(tmp_path):
        line = mistake(*run, "--reward", tiny / "reward", "--out", tmp_path)
    assert "another process is writing" in line
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
    assert (tmp_path / "config.yaml").read_text() == "of the run that has begun"


def test_what_stands_in_the_way_of_pairs_is_found_before_they_are_drawn(
    tiny: Path, tmp_path: Path
) -> None:
    taken = tmp_path / "taken"
    policy.save(policy.load(tiny / "policy"), taken / "checkpoint")
    write_json(taken / "checkpoint" / "training.json", {})
    drawn = ["--reward", tiny / "reward", "--data", tiny / "data", "--from", tiny / "policy"]
    assert "already holds a training run" in mistake("policy", "dpo", *drawn, "--out", taken)
    assert not (taken / "pairs").exists()
    # Pairs that were drawn with other settings are not taken for these.
    kept = tmp_path / "kept"
    write_json(kept / "pairs" / "plan.json", {"seed": 7})
    (kept / "pairs" / "rejected.parquet").touch()
    assert "holds pairs with another" in mistake("policy", "dpo", *drawn, "--out", kept)


def test_plain_beside_a_preset_is_refused(tmp_path: Path) -> None:
    both = ("--plain", "--preset", "paper", "--out", tmp_path / "out")
    assert "which the preset paper turns on: leave one out" in mistake("reward", "train", *both)


def test_tokens_of_another_codec_are_refused(tiny: Path, tmp_path: Path) -> None:
    shard = tmp_path / "tokens"
    write_shard(shard / "0.parquet", read_shard(tiny / "data"), "speech_tokenizer_v2 1234")
    for command in (("policy", "sft"), ("reward", "train", "--plain")):
        line = mistake(*command, "--data", shard, "--out", tmp_path / "out")
        assert "of the codec speech_tokenizer_v2 (1234)" in line
        assert "of mini (" in line
    assert "fit.mixup_at=audio needs mixed utterances" in mistake(
        *("reward", "train", "--data", tiny / "data", "--set", "fit.mixup_at=audio"),
        *("--out", tmp_path / "out"),
    )
    assert not (tmp_path / "out").exists()


def test_mistakes_of_usage_are_one_line(tmp_path: Path) -> None:
    for words, said in (
        (("speak",), "Missing option '--policy': see rrpo speak --help"),
        (("nosuch",), "No such command 'nosuch'"),
        (("demo", "--seed", "x"), "--seed"),
        (("demo", "--out", tmp_path / "demo", "--systems", "typo", "--from-scratch"), "'typo'"),
        (("bench", "all", tmp_path / "none"), "no policy in"),
        (
            ("study", "ablation", "--data", "x", "--out", tmp_path / "a", "--models", "ls,typo"),
            "'typo': choose from pretrained, plain, ls,",
        ),
    ):
        *before, line = rrpo(*words, code=2).strip().splitlines()
        assert said in line and line.startswith("error: ")
        # A demo says at once that it is loading, which takes seconds.
        assert all("loading" in one or "one core" in one for one in before)
        assert not before or words[0] == "demo"
    assert not (tmp_path / "demo").exists()
    assert "Usage: rrpo reward" in rrpo("reward", code=2)


def test_too_little_memory_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def of_the_gpu(**_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    def of_a_library(**_: object) -> None:
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate")

    def of_the_machine(**_: object) -> None:
        torch.empty(2**55)

    def of_a_new_process(**_: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    for command, said in (
        (of_the_gpu, "the GPU has too little memory for this"),
        (of_a_library, "the GPU has too little memory for this"),
        (of_the_machine, "there is too little memory for this"),
        (of_a_new_process, "there is too little memory for this"),
    ):
        monkeypatch.setattr("rrpo.cli.get_command", lambda _, command=command: command)
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        line = capsys.readouterr().err
        assert line.startswith(f"error: {said}") and line.count("\n") == 1
        assert "--set recompute=true" in line


def test_files_that_cannot_be_what_they_should_are_named(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "x.wav").mkdir()
    said = ("speak", "--policy", tiny / "policy", "--text", "Hello.", "--out")
    assert "is a folder" in mistake(*said, tmp_path / "x.wav")
    assert "leave them out" in mistake(*said, tmp_path / "y.wav", "--voice", tmp_path / "no.wav")
    run = tmp_path / "run"
    write_json(run / "results.json", 3)
    assert "not of a run" in mistake("report", run)
    long, rest = "n" * 300, 'path,emotion,text\na.raw,happy,"two\nlines"\n\n'
    (tmp_path / "a.raw").write_bytes(b"\0" * 100)
    table = tmp_path / "manifest.csv"
    table.write_text(f"{rest}{long}.wav,sad,\n")
    printed = rrpo("tokenize", table, "--out", tmp_path / "out", code=2)
    assert f"left out: 1 not there (line 5: {long}.wav)" in printed
    table.write_text(f"path,emotion\n\n{long}.wav,sad\n")
    assert "line 3: no such audio file" in mistake("tokenize", table, "--out", tmp_path / "o")
    table.write_text(rest)
    assert "a.raw is no sound" in mistake("tokenize", table, "--out", tmp_path / "out")
    table.write_text("path,emotion,partition\na.raw,happy,spare\n")
    assert "line 2: the partition is 'spare'" in mistake("tokenize", table, "--out", tmp_path / "o")


def test_tokenize_and_mix(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        tone = 0.3 * np.sin(np.arange(16000) * 0.05) + 0.01 * rng.standard_normal(16000)
        write(tmp_path / "corpus" / f"{name}.wav", tone.astype(np.float32))
    (tmp_path / "corpus" / "manifest.csv").write_text("path,emotion\na.wav,happy\nb.wav,sad\n")
    rrpo("tokenize", tmp_path / "corpus", "--out", tmp_path / "out", "--mix", 2)
    rows = read_shard(tmp_path / "out" / "tokens")
    assert [row.emotion for row in rows] == ["happy", "sad"]
    assert [row.tokens.size for row in rows] == [25, 25]
    mixes = read_shard(tmp_path / "out" / "mixes")
    assert len(mixes) == 4
    assert all(0 <= row.partner_weight < 1 for row in mixes)


def test_bad_input_is_one_line(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "unknown emotion 'furious'" in mistake(
        "speak",
        "--policy",
        "mini",
        "--emotion",
        "furious",
        "--text",
        "Hello.",
        "--out",
        tmp_path / "x.wav",
    )
    assert "nothing to say" in mistake(
        "speak", "--policy", "mini", "--text", " ", "--out", tmp_path / "x.wav"
    )
    assert "no policy" in mistake(
        "speak", "--policy", tmp_path, "--text", "Hello.", "--out", tmp_path / "x.wav"
    )
    assert "holds a reward" in mistake(
        "speak", "--policy", tiny / "reward", "--text", "Hello.", "--out", tmp_path / "x.wav"
    )
    unknown = tmp_path / "unknown" / "0.parquet"
    write_shard(unknown, [Utterance("a", "", "proud", np.array([1]))], "mini")
    line = mistake("reward", "eval", tiny / "reward", "--data", unknown.parent)
    assert "on unknown: no utterance has an emotion that this reward model knows" in line
    assert "no manifest" in mistake("tokenize", tmp_path, "--out", out)
    assert "no token shard" in mistake("policy", "sft", "--data", tmp_path, "--out", out)
    assert "did you mean steps" in mistake("policy", "sft", "--out", out, "--set", "train.step=3")
    assert not out.exists()
    (tmp_path / "results.json").write_text("{}")
    said = mistake("report", tmp_path / "results.json")
    assert f"results.json is a file: name its folder, {tmp_path}" in said


EMPTY = [
    ("demo", "--out", ""),
    ("demo", "--out="),
    ("tokenize", "{data}", "--out", ""),
    ("tokenize", "", "--out", "out"),
    ("data", "import", "csv", "{data}", "--out", ""),
    ("data", "import", "csv", "", "--out", "out"),
    ("data", "import", "cosyvoice", "{data}", "--emotions", "", "--out", "out"),
    ("reward", "train", "--out", ""),
    ("reward", "train", "--mixes", "", "--out", "out"),
    ("reward", "eval", ""),
    ("policy", "sft", "--out", " "),
    ("policy", "sft", "--data", "", "--out", "out"),
    ("policy", "sft", "--from", "", "--out", "out"),
    ("policy", "sft", "--config", "", "--out", "out"),
    ("policy", "diffro", "--reward", "", "--out", "out"),
    ("policy", "grpo", "--reward", "mini", "--out", ""),
    ("policy", "dpo", "--pairs", "", "--out", "out"),
    ("evaluate", ""),
    ("evaluate", "mini", "--voice", ""),
    ("speak", "--policy", "mini", "--text", "Hi.", "--out", ""),
    ("speak", "--policy", "", "--text", "Hi.", "--out", "x.wav"),
    ("export", "mini", "--to", "hf", "--model", "", "--out", "out"),
    ("report", ""),
    ("play", ""),
    ("study", "world", "--out", ""),
]


@pytest.mark.parametrize("words", EMPTY)
def test_an_empty_path_is_not_the_current_folder(tmp_path: Path, words: tuple[str, ...]) -> None:
    """What a shell makes of "$OUT" where nothing has set it."""
    said = mistake(*(word.format(data=tmp_path) for word in words), cwd=tmp_path)
    assert "is empty: give it a value, or leave it out" in said
    assert not list(tmp_path.iterdir())


def test_an_empty_path_of_a_function_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for begin in (
        lambda: train_reward(""),
        lambda: train_sft(""),
        lambda: train_diffro("", ["mini"], start="mini"),
        lambda: train_grpo("", ["mini"], start="mini"),
        lambda: train_dpo("", ["mini"], start="mini"),
    ):
        with pytest.raises(UserError, match="out is empty: name a folder"):
            begin()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert "cannot write" in mistake("demo", "--smoke", "--out", blocked / "demo")
    assert "file" in mistake("demo", "--smoke", "--out", blocked)
    assert blocked.read_text() == "not a folder"


def test_damaged_files_are_named(tiny: Path, tmp_path: Path) -> None:
    policy.save(policy.load(tiny / "policy"), tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    speak = ("speak", "--text", "Hello.", "--out", tmp_path / "x.wav", "--policy")
    assert "SHA-256" in mistake(*speak, tmp_path / "cut")
    policy.save(policy.load(tiny / "policy"), tmp_path / "other")
    description = read_json(tmp_path / "other" / "model.json")
    description["config"]["hidden"] = 24
    write_json(tmp_path / "other" / "model.json", description)
    assert "shape" in mistake(*speak, tmp_path / "other")
    shard = tmp_path / "wrong"
    write_shard(shard / "0.parquet", [Utterance("a", "Hi.", "happy", np.array([6561]))], "mini")
    assert "outside" in mistake("policy", "sft", "--data", shard, "--out", tmp_path / "out")
    (shard / "0.parquet").write_bytes(b"PAR1 not really")
    assert "not a readable parquet" in mistake(
        "policy", "sft", "--data", shard, "--out", tmp_path / "out"
    )


def test_export_writes_what_cosyvoice_reads(tiny: Path, tmp_path: Path) -> None:
    model = policy.load(tiny / "policy")
    model.config = model.config.model_copy(update={"codec": "speech_tokenizer_v2"})
    policy.save(model, tmp_path / "policy")
    rrpo("export", tmp_path / "policy", "--to", "cosyvoice2", "--out", tmp_path / "out")
    again = policy.cosyvoice.load(
        tmp_path / "out", {"num_attention_heads": 2, "num_key_value_heads": 1}
    )
    for name, value in policy.load(tiny / "policy").state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert "cosyvoice2" in mistake(
        "export", tmp_path / "policy", "--to", "cosyvoice3", "--out", tmp_path
    )
    assert "unknown form" in mistake("export", tmp_path / "policy", "--to", "x", "--out", tmp_path)
    assert "--model" in mistake("export", tmp_path / "policy", "--to", "hf", "--out", tmp_path)


def test_a_warning_is_a_line_without_a_place_in_the_code(tiny: Path, tmp_path: Path) -> None:
    run = ["reward", "train", "--from", tiny / "reward", "--data", tiny / "data", "--plain"]
    quick = ["--set", "train.steps=1", "--set", "train.warmup_steps=0"]
    said = rrpo(*run, "--out", tmp_path / "run", *quick)
    assert "note: no example of neutral, angry, surprised, fearful: do not use" in said
    assert "UserWarning" not in said and ".py" not in said


def test_control_c_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pressed() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rrpo.doctor.examine", pressed)
    monkeypatch.setattr("warnings.showwarning", warnings.showwarning)
    monkeypatch.setattr("sys.argv", ["rrpo", "doctor"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"
