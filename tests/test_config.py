"""Configurations: what is accepted, and the one line for each mistake."""

import math
import os
from pathlib import Path
from typing import Literal

import numpy as np
import pydantic
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rrpo import train_reward, train_sft
from rrpo.config import Strict, as_overrides, dump, load, require_same
from rrpo.errors import UserError
from rrpo.policy_runs import DiffRORun, SFTRun
from rrpo.reward.config import RewardRun


class Inner(Strict):
    """A section."""

    rate: float = pydantic.Field(0.1, gt=0)
    precision: Literal["auto", "no"] = "auto"
    span: tuple[float, float] = (0.0, 1.0)


class Outer(Strict):
    """A configuration with a section, and sections by name."""

    steps: int
    name: str = "run"
    flag: bool = False
    source: Path | None = None
    inner: Inner = Inner()
    named: dict[str, Inner] = pydantic.Field(default_factory=dict)


def write(folder: Path, text: str) -> Path:
    """Write a configuration file."""
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_file_and_options(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "steps: 3\nsource: a/b\ninner:\n  rate: 1e-5\n  precision: no\n  span: [1, 2.5]\n",
    )
    config = load(Outer, path, ["steps=7", "inner.rate=2", "named.x.rate=3e2", "name=off"])
    assert config == Outer(
        steps=7,
        name="off",
        source=Path("a/b"),
        inner=Inner(rate=2.0, precision="no", span=(1.0, 2.5)),
        named={"x": Inner(rate=300.0)},
    )
    assert isinstance(config.inner.rate, float)


def test_defaults_without_a_file() -> None:
    assert load(Outer, None, ["steps=1"]) == Outer(steps=1)


def test_frozen() -> None:
    with pytest.raises(pydantic.ValidationError):
        Outer(steps=1).steps = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("stps: 3\n", [], ["run.yaml", "unknown key stps", "did you mean steps?"]),
        ("steps: 3\ninner.rate: 2\n", [], ["unknown key inner.rate: write `inner:`, and below it"]),
        ("steps: 3\ninner: {rat: 1}\n", [], ["inner.rat", "did you mean rate?"]),
        ("steps: 3\nnamed: {a: {rat: 1}}\n", [], ["named.a.rat", "did you mean rate?"]),
        ("steps: 3\ninner: {zzz: 1}\n", [], ["inner.zzz", "accepted are rate, precision, span"]),
        ("steps: 3.5\n", [], ["run.yaml", "steps is 3.5", "integer"]),
        ("steps: true\n", [], ["steps is True", "integer"]),
        ("steps: '3'\n", [], ["steps is '3'", "integer"]),
        ("steps: 1:30\n", [], ["steps is '1:30'", "integer"]),
        ("steps: 3\nflag: yes\n", [], ["flag is 'yes'", "boolean"]),
        ("steps: 3\ninner: {rate: .nan}\n", [], ["inner.rate", "finite"]),
        ("steps: 3\ninner: {rate: .inf}\n", [], ["inner.rate", "finite"]),
        ("steps: 3\ninner: {rate: 0}\n", [], ["inner.rate is 0", "greater than 0"]),
        ("steps: 3\ninner: {precision: bf8}\n", [], ["inner.precision", "'auto' or 'no'"]),
        ("steps: 3\ninner: 4\n", [], ["inner is 4"]),
        ("name: x\n", [], ["steps is missing"]),
        (
            "steps: 3\nsteps: 4\n",
            [],
            ["run.yaml, line 2: the key steps is given twice, in line 1 too: keep one"],
        ),
        ("- 1\n", [], ["run.yaml", "list"]),
        ("steps: [\n", [], ["run.yaml is not YAML", "line 2"]),
        ("steps: !!python/name:os.system\n", [], ["run.yaml is not YAML", "python/name"]),
        ("steps: 3\n", ["inner.rate=fast"], ["option inner.rate=fast", "inner.rate is 'fast'"]),
        ("steps: 3\n", ["iner.rate=1"], ["option iner.rate=1", "did you mean inner?"]),
        ("steps: 3\n", ["steps"], ["option steps", "key=value"]),
        ("steps: 3\n", [".a=1"], ["option .a=1", "key=value"]),
        ("steps: 3\n", ["steps.a=1"], ["option steps.a=1", "steps has no keys inside"]),
        ("steps: 3\n", ["name=["], ["option name=[", "not YAML"]),
        ("steps: x\nname: 4\n", [], ["steps is 'x'", "(and 1 more)"]),
    ],
)
def test_mistakes(tmp_path: Path, text: str, options: list[str], expected: list[str]) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load(Outer, path, options)
    message = str(caught.value)
    assert "\n" not in message
    for part in expected:
        assert part in message


def test_what_a_section_says_as_a_whole_blames_no_option(tmp_path: Path) -> None:
    options = ["train.average_from=5", "train.steps=2", "train.warmup_steps=0"]
    said = "train: average_from 5 is after the last step, 2: give an earlier one"
    for file in (None, write(tmp_path, "held_out: 0.2\n")):
        with pytest.raises(UserError) as caught:
            load(SFTRun, file, options)
        assert str(caught.value) == said
    with pytest.raises(UserError) as caught:
        load(SFTRun, write(tmp_path, "train: {average_from: 5, steps: 2}\n"))
    assert str(caught.value) == f"{tmp_path / 'run.yaml'}: {said}"
    with pytest.raises(UserError, match=r"^fit: nuisance .* set fit\.mixup=false, or"):
        load(RewardRun, None, ["fit.nuisance=true"])
    assert load(RewardRun, None, ["fit.nuisance=true", "fit.mixup=false"]).fit.nuisance


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_is_refused_and_not_read_as_nothing(tmp_path: Path) -> None:
    """As of `--config <(…)`: what is read of it is gone, and a configuration is read again."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="is no file: write the configuration into one"):
        load(RewardRun, tmp_path / "pipe")


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*absent\.yaml"):
        load(Outer, tmp_path / "absent.yaml", [])
    with pytest.raises(UserError, match="cannot read"):
        load(Outer, tmp_path, [])
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        load(Outer, tmp_path / "binary.yaml", [])


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.one_of(
        st.text(st.characters(codec="utf-8", exclude_categories=("Cs",))),
        st.sampled_from(["1e-5", "no", "null", "~", "0x1f", "012", ".5", "1_0", "yes", "1:30"]),
    ),
    rate=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    steps=st.integers(),
)
@example(name="\x85", rate=1.0, steps=0)
@example(name="a\u2028b \x85c", rate=1.0, steps=0)
def test_dump_is_read_back(tmp_path: Path, name: str, rate: float, steps: int) -> None:
    config = Outer(steps=steps, name=name, inner=Inner(rate=rate), named={"a": Inner()})
    dump(config, tmp_path / "config.yaml")
    assert load(Outer, tmp_path / "config.yaml", []) == config


@given(st.floats(width=64))
def test_option_numbers_are_exact(value: float) -> None:
    if value > 0 and math.isfinite(value):
        assert load(Inner, None, [f"rate={value!r}"]).rate == value
    else:
        with pytest.raises(UserError, match="rate"):
            load(Inner, None, [f"rate={value!r}"])


def test_require_same_names_the_key(tmp_path: Path) -> None:
    stored = Outer(steps=3).model_dump(mode="json")
    require_same(Outer(steps=3), stored, tmp_path)
    with pytest.raises(UserError, match=r"inner\.rate=0\.1, not 0\.2"):
        require_same(Outer(steps=3, inner=Inner(rate=0.2)), stored, tmp_path)
    with pytest.raises(UserError, match="older=1, not absent"):
        require_same(Outer(steps=3), {**stored, "older": 1}, tmp_path)


class Part(Strict):
    """Has no defaults of its own."""

    steps: int
    rate: float


class WithDefault(Strict):
    part: Part = Part(steps=3, rate=0.5)


def test_a_part_of_a_nested_default_can_be_changed(tmp_path: Path) -> None:
    assert load(WithDefault, None, ["part.steps=7"]).part == Part(steps=7, rate=0.5)
    (tmp_path / "c.yaml").write_text("part:\n  rate: 0.25\n")
    assert load(WithDefault, tmp_path / "c.yaml").part == Part(steps=3, rate=0.25)


def test_a_section_as_a_dict_is_laid_over_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "preset.yaml").write_text("fit:\n  adversarial_epsilon: 4.0\n")
    given = as_overrides({"fit": {"label_smoothing": 0.2}, "train": {"steps": 7}})
    run = load(RewardRun, None, given, tmp_path / "preset.yaml")
    assert (run.fit.label_smoothing, run.fit.adversarial_epsilon) == (0.2, 4.0)
    assert (run.train.steps, run.train.learning_rate) == (7, 3e-4)
    rewards = load(DiffRORun, None, ["rewards={content: 2.0}"]).rewards
    assert rewards == {"content": 2.0}, "a dictionary that is a value is replaced"


def test_a_key_without_its_group_is_found_there() -> None:
    with pytest.raises(UserError, match=r"unknown key steps: did you mean train\.steps\?"):
        load(SFTRun, None, ["steps=40"])


def test_a_configuration_of_another_training_is_named(tmp_path: Path) -> None:
    """The config.yaml of a reward run, given to another command, and the other way round."""
    folder = tmp_path / "rm"
    dump(RewardRun(), folder / "config.yaml")
    dump(SFTRun(), tmp_path / "sft.yaml")
    expected = r"config\.yaml is a configuration of `rrpo reward train`: fit is no setting of this"
    with pytest.raises(UserError, match=expected):
        train_sft(tmp_path / "out", config=folder / "config.yaml")
    with pytest.raises(UserError, match=r"sft\.yaml is a configuration of `rrpo policy sft`"):
        train_reward(tmp_path / "out", config=tmp_path / "sft.yaml")
    write(tmp_path, "stepz: {steps: 3}\n")  # of none: the slip is shown
    with pytest.raises(UserError, match="unknown key stepz: accepted are"):
        train_sft(tmp_path / "out", config=tmp_path / "run.yaml")
    assert not (tmp_path / "out").exists()


def test_settings_in_python_take_paths_and_numbers_of_numpy() -> None:
    asked = {"start": Path("a b"), "steps": np.int64(3), "rates": np.array([0.5, 1.0])}
    assert as_overrides(asked) == ['start="a b"', "steps=3", "rates=[0.5, 1.0]"]
    with pytest.raises(UserError, match=r"settings: .* is of the kind set"):
        as_overrides({"steps": {1}})
