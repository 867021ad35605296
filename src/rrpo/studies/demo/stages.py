"""The stages of a demo, what each needs, and how it is done."""

from pathlib import Path

from rrpo.evaluate import robustness
from rrpo.files import write_json
from rrpo.studies.demo.judged import judge, speak
from rrpo.studies.demo.schedule import Stage
from rrpo.studies.demo.setting import Demo
from rrpo.studies.demo.systems import PRETRAINED, SYSTEMS
from rrpo.studies.demo.trainings import fine_tune_reward, post_train

_demo: list[Demo] = []
"""The demo of this process."""


def prepare(demo: Demo) -> None:
    """Make a demo that of this process."""
    _demo[:] = [demo]


def do(name: str) -> None:
    """Do a stage of this process's demo."""
    demo = _demo[0]
    kind, what = name.split()
    if kind == "reward":
        fine_tune_reward(demo.out, demo.world, what, demo.plan.reward_steps, demo.seed)
    else:
        {"train": post_train, "speak": speak, "judge": judge, "test": _test}[kind](demo, what)


def _test(demo: Demo, name: str) -> None:
    """Test a reward model on the world's test sets."""
    tests = {key: rows[: demo.plan.test_utterances] for key, rows in demo.world.tests().items()}
    figures = robustness.with_tests(demo.reward_model(name), tests, demo.seed)
    write_json(_result(demo, f"test {name}"), figures)


def stages(demo: Demo) -> list[Stage]:
    """Return the stages in the order of their urgency; those whose result is there are done."""
    trained = [name for name in demo.reward_names if name != PRETRAINED]
    rewards = tuple(f"reward {name}" for name in trained)
    found = [Stage(f"speak {name}", f"{_title(name)} speaks") for name in ("reference", "base")]
    found += [Stage(f"reward {name}", f"reward model {name}") for name in trained]
    judged = [
        Stage(
            f"test {name}",
            f"tests of reward model {name}",
            () if name == PRETRAINED else (f"reward {name}",),
        )
        for name in demo.reward_names
    ]
    for name in ("reference", "base", *demo.plan.systems):
        if name in SYSTEMS and name != "base":
            system, needs = SYSTEMS[name], []
            if system.start != "base":
                needs.append(f"train {system.start}")
            if system.method == "best_of":
                needs.append(f"reward {system.reward_model}")
            elif system.method != "sft":
                needs += rewards  # its curves show what each of them gives
            if system.method != "best_of":
                found.append(Stage(f"train {name}", system.title, tuple(needs)))
                needs = [f"train {name}"]
            found.append(Stage(f"speak {name}", f"{system.title} speaks", tuple(needs)))
        needs = [f"speak {name}", *rewards]
        judged.append(Stage(f"judge {name}", f"judges on {_title(name)}", tuple(needs)))
    found.sort(key=lambda stage: stage.name != "train sft")  # what most others wait for
    found.sort(key=lambda stage: stage.needs != () or stage.name[:5] != "speak")
    for stage in [*found, *judged]:
        stage.state = "done" if _result(demo, stage.name).is_file() else "waiting"
    return [*found, *judged]


def _title(name: str) -> str:
    return {"reference": "the codec", "base": "the base"}.get(name) or SYSTEMS[name].title


def _result(demo: Demo, name: str) -> Path:
    """Return the file that a finished stage leaves."""
    kind, what = name.split()
    if kind == "reward":
        return demo.out / "reward_models" / what / "results.json"
    if kind == "test":
        return demo.out / "reward_tests" / f"{what}.json"
    if kind == "train":
        return demo.folder_of(what) / "results.json"
    return demo.out / "samples" / what / {"speak": "spoken.json", "judge": "rows.json"}[kind]
