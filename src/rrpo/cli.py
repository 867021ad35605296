"""The command line."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from rrpo import __version__
from rrpo.errors import UserError

if TYPE_CHECKING:
    from rrpo.studies.real_speech import Size

app = typer.Typer(
    name="rrpo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Robust Reward Policy Optimization for emotional text-to-speech: train a token reward "
    "model, harden it, and post-train a speech-token LM against it.",
)
reward_app = typer.Typer(no_args_is_help=True, help="Train and test reward models.")
policy_app = typer.Typer(no_args_is_help=True, help="Post-train a speech-token LM.")
app.add_typer(reward_app, name="reward")
study_app = typer.Typer(no_args_is_help=True, help="Longer experiments with their own pages.")
data_app = typer.Typer(no_args_is_help=True, help="Bring labelled speech into our form.")
app.add_typer(data_app, name="data")
app.add_typer(policy_app, name="policy")
app.add_typer(study_app, name="study")
bench_app = typer.Typer(no_args_is_help=True, help="How good and how fast, each as a ratio.")
app.add_typer(bench_app, name="bench")

Out = Annotated[Path, typer.Option("--out", help="Folder to write; nothing else is written.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, such as train.steps=40."),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="YAML file of settings (see config.yaml of a run).")
]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Token shards (parquet file or folder); default: bundled."),
]
Start = Annotated[
    str, typer.Option("--from", help="What to start from: `mini`, or the folder of a run.")
]
Rewards = Annotated[
    list[str],
    typer.Option(
        "--reward", help="Folder of a reward model; a hardened one is RRPO. Several: an ensemble."
    ),
]
Systems = Annotated[
    str, typer.Option(help="What to post-train, of sft, dpo, grpo, diffro, rrpo and multitask.")
]
PolicyStart = Annotated[
    str | None,
    typer.Option("--from", help="`mini` (the default), a CosyVoice folder, or that of a run."),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"rrpo {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print it and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Hold the option that needs no command."""


@app.command()
def demo(
    out: Out = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Decides the whole run on one machine.")] = 0,
    smoke: Annotated[bool, typer.Option(help="Every stage, tiny: under a minute.")] = False,
    ablation: Annotated[
        bool, typer.Option(help="Also the reward models between plain and hardened.")
    ] = False,
    systems: Systems = "sft,diffro,rrpo",
    from_scratch: Annotated[
        bool,
        typer.Option(help="First make the bundled world again (100 minutes; needs rrpo\\[mini])."),
    ] = False,
) -> None:
    """Harden a reward model, post-train a speaking LM four ways, judge them, show a page."""
    from rrpo.studies import demo as study

    world = None
    if from_scratch:
        from rrpo.mini.build import build

        world = build(out / "recipe", seed, scale=0.01 if smoke else 1.0)
        out = out / "demo"
    plan = study.with_systems(study.SMOKE if smoke else study.FULL, systems.split(","))
    study.run(out, seed, plan, ablation, world, " ".join(["rrpo", *sys.argv[1:]]))


@data_app.command("import")
def data_import(
    corpus: Annotated[
        str,
        typer.Argument(
            help="Its layout: esd, iemocap, mer2023, ravdess, emodb, nemo, cremad, casia, "
            "emotiontts_ko, csv (a table with path and emotion) or cosyvoice (wav.scp …, or a "
            "parquet list)."
        ),
    ],
    path: Annotated[Path, typer.Argument(help="The corpus' folder, or a table or list of files.")],
    out: Out,
    emotions: Annotated[
        Path | None,
        typer.Option(help="Of cosyvoice: lines of utterance and emotion; default: utt2emo there."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABEL=EMOTION",
            help="What a label of the corpus means; `=other` leaves its recordings out.",
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OURS=THEIRS", help="Of csv: a column by another name, such as path=file."
        ),
    ] = None,
) -> None:
    """Write a manifest.csv for `rrpo tokenize`, and token shards where the data has tokens."""
    from rrpo import commands

    commands.data_import(corpus, path, out, emotions, label or [], column or [])


@app.command()
def tokenize(
    data: Annotated[Path, typer.Argument(help="manifest.csv (path, emotion, …) or its folder.")],
    out: Out,
    codec: Annotated[
        str,
        typer.Option(
            help="`mini`; s3:FOLDER for that of a CosyVoice folder; speech:FOLDER for one that a "
            "study on real speech has made."
        ),
    ] = "mini",
    mix: Annotated[int, typer.Option(min=0, help="Mixed versions of each utterance.")] = 0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Turn labelled audio into token shards, and into a mix pool with --mix."""
    from rrpo import commands

    commands.tokenize(data, out, codec, mix, seed)


@reward_app.command("train")
def reward_train(
    out: Out,
    data: Data = None,
    mixes: Annotated[
        Path | None, typer.Option(help="Mix pool; default: bundled, if --data is.")
    ] = None,
    start: Annotated[
        str, typer.Option("--from", help="`mini`, the folder of a run, or `new`: untrained.")
    ] = "mini",
    plain: Annotated[bool, typer.Option("--plain", help="No regularizer at all.")] = False,
    config: ConfigFile = None,
    settings: Settings = None,
    resume: Resume = False,
) -> None:
    """Fine-tune a reward model, by default with label smoothing, mixup and adversarial training."""
    from rrpo import commands

    off = ["fit.label_smoothing=0.0", "fit.mixup=false", "fit.adversarial=false"]
    options = [*(off if plain else []), *(settings or [])]
    commands.reward_train(start, data, mixes, out, config, options, resume)


@reward_app.command("eval")
def reward_eval(
    runs: Annotated[list[str], typer.Argument(help="Folders of reward models, or `mini`.")],
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Token shards, any number of sets; default: the bundled three."),
    ] = None,
) -> None:
    """Test reward models as recognisers of emotion; several are laid out as the paper's Table 2."""
    from rrpo import commands

    commands.reward_eval(runs, data or [])


@policy_app.command()
def sft(
    out: Out,
    data: Data = None,
    start: PolicyStart = None,
    config: ConfigFile = None,
    settings: Settings = None,
    resume: Resume = False,
) -> None:
    """Fine-tune on labelled speech, stopped by the held-out loss."""
    from rrpo import commands

    commands.policy_sft(start, data, out, config, settings or [], resume)


@policy_app.command()
def diffro(
    reward: Rewards,
    out: Out,
    data: Data = None,
    start: PolicyStart = None,
    config: ConfigFile = None,
    settings: Settings = None,
    resume: Resume = False,
) -> None:
    """Follow the reward model's gradient through the token choices, held by the KL."""
    from rrpo import commands

    options = (out, config, settings or [], resume)
    commands.policy_rewarded("diffro", start, reward, data, *options)


@policy_app.command()
def grpo(
    reward: Rewards,
    out: Out,
    data: Data = None,
    start: PolicyStart = None,
    config: ConfigFile = None,
    settings: Settings = None,
    resume: Resume = False,
) -> None:
    """Policy gradient against the same reward (GRPO; --set grpo.advantage=rloo for RLOO)."""
    from rrpo import commands

    options = (out, config, settings or [], resume)
    commands.policy_rewarded("grpo", start, reward, data, *options)


@policy_app.command()
def dpo(
    out: Out,
    reward: Annotated[
        list[str] | None, typer.Option(help="Reward model to draw pairs from the policy by.")
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="Folder of chosen.parquet and rejected.parquet instead.")
    ] = None,
    data: Data = None,
    start: PolicyStart = None,
    config: ConfigFile = None,
    settings: Settings = None,
    resume: Resume = False,
) -> None:
    """Learn from pairs of utterances, the better and the worse paid of the policy's own."""
    from rrpo import commands

    options = (out, config, settings or [], resume)
    commands.policy_dpo(start, reward or [], pairs, data, *options)


@app.command()
def speak(
    policy: Annotated[str, typer.Option(help="Folder of a policy, or `mini` for the base.")],
    text: Annotated[str, typer.Option(help="What to say.")],
    out: Annotated[Path, typer.Option(help="A wav file.")],
    emotion: Annotated[str, typer.Option(help="How to say it.")] = "neutral",
    speaker: Annotated[
        str, typer.Option(help="cedar, maple, hazel or willow instead of the main voice.")
    ] = "",
    voice: Annotated[
        Path | None, typer.Option(help="CosyVoice: a recording whose voice is taken over.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="CosyVoice: its model folder; default: where it began.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Speak a text with an emotion into a wav file."""
    from rrpo import commands

    commands.speak(policy, text, emotion, speaker, voice, model, out, seed)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a policy.")],
    to: Annotated[str, typer.Option(help="cosyvoice2, cosyvoice3 or hf.")],
    out: Out,
    model: Annotated[
        Path | None, typer.Option(help="CosyVoice model folder, whose tokenizer hf needs.")
    ] = None,
) -> None:
    """Write a policy as CosyVoice's llm.pt, or as upstream's GRPO recipe reads it (hf)."""
    from rrpo import commands

    commands.export(run, to, out, model)


@app.command()
def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Folders of policies.")],
    reward: Annotated[
        list[Path] | None, typer.Option(help="Reward models to score with, any number.")
    ] = None,
    sentences: Annotated[
        int, typer.Option(min=1, help="Test sentences, each with every emotion.")
    ] = 8,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    data: Data = None,
    voice: Annotated[
        Path | None, typer.Option(help="CosyVoice: a recording whose voice is taken over.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="CosyVoice: its model folder; default: where it began.")
    ] = None,
) -> None:
    """Let policies speak unseen sentences and have every judge listen."""
    from rrpo import commands

    commands.evaluate(runs, reward or [], sentences, seed, data, voice, model)


@study_app.command()
def seeds(
    out: Out,
    seeds: Annotated[int, typer.Option(min=1, help="How many: 0 to N-1.")] = 3,
    systems: Systems = "sft,diffro,rrpo",
    smoke: Annotated[bool, typer.Option(help="Tiny: for a test of the command.")] = False,
) -> None:
    """Run the demo for several seeds and pool its tables, with paired differences."""
    from rrpo.studies import demo as study
    from rrpo.studies import seeds as several

    plan = study.with_systems(study.SMOKE if smoke else study.FULL, systems.split(","))
    print(several.run(out, seeds, plan, " ".join(["rrpo", *sys.argv[1:]])))


@study_app.command()
def world(
    out: Out,
    smoke: Annotated[bool, typer.Option(help="Tiny: for a test of the command.")] = False,
) -> None:
    """Measure the mini world: its codec, base policy and judge (needs its renderer)."""
    from rrpo.studies import world as study

    command = " ".join(["rrpo", *sys.argv[1:]])
    print(study.run(out, study.SMOKE if smoke else study.FULL, command=command))


@study_app.command()
def voices(
    demos: Annotated[list[Path], typer.Argument(help="Folders of finished demos.")],
    out: Out,
    sentences: Annotated[int, typer.Option(min=1, help="Of each voice, each × 6 emotions.")] = 2,
) -> None:
    """Ask policies post-trained on one voice for others that the base policy knows."""
    from rrpo.studies import voices as study

    print(study.run(demos, out, sentences, " ".join(["rrpo", *sys.argv[1:]])))


@study_app.command()
def judges(
    out: Out,
    smoke: Annotated[bool, typer.Option(help="Tiny: for a test of the command.")] = False,
) -> None:
    """Spoil real speech more and more: what can each judge hear? (Needs the renderer.)"""
    from rrpo.studies import judges as study

    command = " ".join(["rrpo", *sys.argv[1:]])
    print(study.run(out, study.SMOKE if smoke else study.FULL, command=command))


Manifests = Annotated[
    list[Path],
    typer.Option("--data", help="manifest.csv of `rrpo data import`, or its folder; repeat it."),
]


@study_app.command()
def ablation(
    data: Manifests,
    out: Out,
    seeds: Annotated[int, typer.Option(min=1, help="Fine-tunings of each.")] = 5,
    smoke: Annotated[bool, typer.Option(help="Tiny: for a test of the command.")] = False,
) -> None:
    """Train reward models on real speech with every subset of the regularizers (rrpo\\[speech])."""
    from rrpo.studies import ablation as study

    print(study.run(data, out, _size(seeds, smoke), " ".join(["rrpo", *sys.argv[1:]])))


@study_app.command()
def languages(
    data: Manifests,
    out: Out,
    seeds: Annotated[int, typer.Option(min=1, help="Fine-tunings of each.")] = 5,
    smoke: Annotated[bool, typer.Option(help="Tiny: for a test of the command.")] = False,
) -> None:
    """Train on one language, test on the others; on less and more data (rrpo\\[speech])."""
    from rrpo.studies import languages as study

    print(study.run(data, out, _size(seeds, smoke), " ".join(["rrpo", *sys.argv[1:]])))


def _size(seeds: int, smoke: bool) -> "Size":
    """Say how much a study on real speech does."""
    from dataclasses import replace

    from rrpo.studies.real_speech import FULL, SMOKE

    return SMOKE if smoke else replace(FULL, seeds=seeds)


@study_app.command()
def artifacts(
    out: Out,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="manifest.csv of clean real speech, or its folder. Several: give more."),
    ] = None,
    peer: Annotated[
        str, typer.Option(help="`essentia`, where it is installed: measure that beside ours.")
    ] = "",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    smoke: Annotated[bool, typer.Option(help="Tiny: for a test of the command.")] = False,
) -> None:
    """Put artifacts of known place and level into clean speech: which are found?"""
    from rrpo.studies import artifacts as study

    size = study.SMOKE if smoke else study.FULL
    print(study.run(out, data or [], size, seed, peer, " ".join(["rrpo", *sys.argv[1:]])))


@study_app.command()
def overoptimization(
    out: Out,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    steps: Annotated[int, typer.Option(min=1)] = 160,
) -> None:
    """Optimize without the KL and three times as fast: which reward model is fooled, and when?"""
    from dataclasses import replace

    from rrpo.studies import demo as study

    plan = replace(
        study.FULL,
        systems=("diffro", "rrpo"),
        beta=0.0,
        learning_rate=3 * study.FULL.learning_rate,
        diffro_steps=steps,
    )
    study.run(out, seed, plan, command=" ".join(["rrpo", *sys.argv[1:]]))


Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@bench_app.command("gradient")
def bench_gradient(
    run: Annotated[Path, typer.Argument(help="Folder of a policy, or `mini` for the base.")],
    reward: Rewards,
    blocks: Annotated[int, typer.Option(min=3, help="Of rollouts; more: smaller intervals.")] = 16,
    prompts: Annotated[int, typer.Option(min=1, help="In each block, the same ones.")] = 8,
    group: Annotated[int, typer.Option(min=2, help="Utterances of each prompt.")] = 8,
    reference: Annotated[int, typer.Option(min=1, help="Times as many for RLOO.")] = 4,
    more: Annotated[
        bool, typer.Option("--more", help="Also other temperatures and two context passes.")
    ] = False,
    data: Data = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Compare each estimator's gradient with an unbiased one, for each reward model."""
    from rrpo import commands

    size = (blocks, prompts, group, reference)
    commands.bench_gradient(run, reward, size, more, data, seed, as_json)


@bench_app.command("all")
def bench_all(
    run: Annotated[
        Path, typer.Argument(help="Policy whose gradient is audited; `mini`: the base.")
    ] = Path("mini"),
    reward: Annotated[
        list[str] | None, typer.Option(help="Reward models to audit with; default: `mini`.")
    ] = None,
    full_size: Annotated[
        bool, typer.Option("--full-size", help="Also with CosyVoice2's sizes (8 GB, minutes).")
    ] = False,
    blocks: Annotated[int, typer.Option(min=3, help="Of 64 rollouts for the audit.")] = 16,
    out: Annotated[Path, typer.Option("--out", help="Page to write.")] = Path("docs/benchmarks.md"),
) -> None:
    """Run every benchmark (10 minutes, 25 with --full-size) and write docs/benchmarks.md."""
    from rrpo import commands

    command = " ".join(["rrpo", *sys.argv[1:]])
    commands.bench_all(run, reward or ["mini"], full_size, blocks, out, command)


@bench_app.command("speed")
def bench_speed(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="step, rollout, relaxation, hardening; default: all of them."),
    ] = None,
    full_size: Annotated[
        bool, typer.Option("--full-size", help="Also with CosyVoice2's sizes (8 GB, minutes).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Time the parts against the least that could do them, and against a peer."""
    from rrpo import commands

    commands.bench_speed(names or [], full_size, as_json)


@app.command()
def report(runs: Annotated[list[Path], typer.Argument(help="Folders of runs or demos.")]) -> None:
    """Write report.html of a run or a demo again."""
    from rrpo import commands

    commands.report(runs)


def main() -> None:
    """Run the command line: exit code 2 and one line for the user's mistakes."""
    try:
        app()
    except UserError as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", markup=False, highlight=False)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
