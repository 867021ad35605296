"""Malformed settings, several hundred for each door: presets, --config, --set, instructions."""

import random
from pathlib import Path

import pytest

from malformed import MUTATIONS, taken
from model_folder import write_tokenizer
from rrpo import config, policy_runs
from rrpo.config import Strict
from rrpo.errors import UserError
from rrpo.origin import origin_of
from rrpo.policy import cosyvoice_text
from rrpo.policy.cosyvoice_text import END_OF_PROMPT, CosyVoiceTokenizer
from rrpo.reward.config import RewardRun

KINDS: tuple[type[Strict], ...] = (
    RewardRun,
    policy_runs.SFTRun,
    policy_runs.DiffRORun,
    policy_runs.GRPORun,
    policy_runs.DPORun,
)
VALUES = (
    "", "~", "null", "no", "true", "-1", "0", "1e999", ".nan", ".inf", "-.inf", "1e-5", "1.5",
    "0x1F", "0o17", "1_000", "9" * 400, "9" * 5000, "[]", "[1, 2", "{}", "{a: b", "{1: 2}",
    "{[1]: 2}", "{a: 1, a: 2}", "'", '"', '"\\u0000"', '"\\ud800"', "\x85", "\u2028", "\t", "- a",
    "? a", "%YAML 9", "&a [*a]", "*a", "&a b", "!!int x", "!!float x", "!!bool x", "!!null x",
    "!!timestamp x", "!!binary é", "!!set {a}", "!!pairs [a: 1]", "!!omap [a: 1]", "!!str 5",
    "!x 5", "2020-13-45", "!!python/object/apply:os.mkdir [harmed]", "!!python/name:os.system",
    "!!python/tuple [1]", "[" * 1000, "{a: " * 600, "|\n a", ">\n", "a: b: c", "---", "...",
    "--- a\n--- b", "#", "@", "`",
)  # fmt: skip
"""What may be written for a value by mistake, or to do harm."""


def leaves(values: dict[str, object], prefix: str = "") -> list[str]:
    """Return the dotted keys of every setting, and of every group of them."""
    found = []
    for key, value in values.items():
        found.append(f"{prefix}{key}")
        if isinstance(value, dict):
            found += leaves(value, f"{prefix}{key}.")
    return found


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, where code that is run would leave another."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_options_of_any_value(kind: type[Strict], here: Path) -> None:
    """A value is refused, or stands in the configuration, which is then read as it was written."""
    keys = leaves(kind().model_dump(mode="json"))
    keys += ["", ".", "train.", ".steps", "train.stepps", "train.steps.x", "a.b.c.d"]
    rng = random.Random(kind.__name__)
    refused = 0
    options = [f"{key}={value}" for value in VALUES for key in rng.sample(keys, 1)]
    for option in [*options, *keys]:
        found = taken(lambda option=option: config.load(kind, None, [option]))
        refused += found is None
        if found is not None:
            config.dump(found, here.parent / "config.yaml")
            assert config.load(kind, here.parent / "config.yaml") == found, option
    assert refused > 60
    assert not list(here.iterdir())


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_damaged_files_of_settings(mutation: str, here: Path) -> None:
    rng = random.Random(mutation)
    path = here.parent / "config.yaml"
    counts = [0, 0]
    for kind in KINDS:
        config.dump(kind(), path)
        data = path.read_bytes()
        for _ in range(30):
            path.write_bytes(MUTATIONS[mutation](rng, data))
            found = taken(lambda kind=kind: config.load(kind, path))
            counts[found is None] += 1
            # The same file as that of a run that a policy began from.
            taken(lambda: origin_of(str(here.parent)))
    assert counts[True] > 20
    assert not list(here.iterdir())


@pytest.mark.slow
def test_settings_of_any_value_in_a_file(here: Path) -> None:
    """As `--config`, and as a preset, which is read before it."""
    path = here.parent / "config.yaml"
    refused = 0
    for value in VALUES:
        for text in (value, f"train: {value}", f"{value}: 1", f"train:\n  steps: {value}"):
            path.write_bytes(text.encode("utf-8", "surrogatepass"))
            found = taken(lambda: config.load(policy_runs.SFTRun, path))
            refused += found is None
            assert found == taken(lambda: config.load(policy_runs.SFTRun, None, (), path))
    assert refused > 150
    assert not list(here.iterdir())


@pytest.mark.parametrize("encoding", ["utf-16", "gb18030", "cp949", "latin-1"])
def test_settings_in_another_encoding_say_what_to_do(encoding: str, here: Path) -> None:
    for read in (lambda p: config.read(p), lambda p: origin_of(str(p.parent))):
        path = here.parent / "config.yaml"
        text = {"cp949": "기쁘게", "latin-1": "fröhlich"}.get(encoding, "高兴地说")
        path.write_bytes(f"en:\n  happy: {text}\n".encode(encoding))
        with pytest.raises(UserError, match=r"save it as UTF-8 .*iconv -f"):
            read(path)


@pytest.mark.slow
def test_instructions(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    write_tokenizer(here.parent / "CosyVoice2")
    words = cosyvoice_text.read_tokenizer(here.parent / "CosyVoice2")  # once, as it takes longest
    monkeypatch.setattr(cosyvoice_text, "read_tokenizer", lambda *_: words)
    path = here.parent / "instructions.yaml"
    data = (
        "prefix: {3: Be so. }\nen:\n  happy: Be happy.\n  sad: Be sad.\nzh:\n  sad: 伤心\n".encode()
    )
    rng = random.Random(0)
    odd = [f"en: {value}" for value in VALUES] + [f"en:\n  happy: {value}" for value in VALUES]
    odd += [f"prefix: {value}\nen:\n  happy: Be happy." for value in VALUES] + list(VALUES)
    odd += [f"en:\n  happy: a{END_OF_PROMPT}b", f"en:\n  happy: {END_OF_PROMPT * 2}"]
    odd += ["en:\n  happy: a\n  Happy: b", "en:\n  happy: a\n  joy: b", "zh:\n  happy: a"]
    contents = [one.encode("utf-8", "surrogatepass") for one in odd]
    contents += [change(rng, data) for change in MUTATIONS.values() for _ in range(70)]
    assert len(contents) >= 500
    refused = 0
    for content in contents:
        path.write_bytes(content)
        found = taken(lambda: CosyVoiceTokenizer(here.parent / "CosyVoice2", instructions=path))
        refused += found is None
        if found is not None:
            assert taken(lambda found=found: found.instruction("happy")) != ""
    assert refused > 250
    assert not list(here.iterdir())
