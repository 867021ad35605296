"""The mean of several policies: its weights, where it comes from, what is refused."""

from pathlib import Path

import pytest
import torch
import yaml

from command_line import mistake, rrpo
from disk_faults import NEEDS_ROOM, faults
from rrpo import average_policies, load_policy, policy
from rrpo.errors import UserError
from rrpo.origin import KEPT, origin_of
from rrpo.policy import LMConfig, SpeechTokenLM
from rrpo.provenance import Stage, how_far


def write(folder: Path, seed: int, start: str = "mini", **shape: int) -> Path:
    """A policy's run with random weights."""
    torch.manual_seed(seed)
    base = load_policy("mini").config.model_dump()
    small = {"hidden": 32, "layers": 1, "heads": 2, "kv_heads": 2, "intermediate": 32}
    known = {key: value for key, value in (small | shape).items() if key in base}
    policy.save(SpeechTokenLM(LMConfig(**base | known)), folder / "checkpoint")
    (folder / "config.yaml").write_text(yaml.safe_dump({"start": start}))
    return folder


def test_every_weight_is_the_mean(tmp_path: Path) -> None:
    places = [write(tmp_path / f"run-{seed}", seed) for seed in range(3)]
    found = average_policies(tmp_path / "mean", places).state_dict()
    states = [policy.load(place).state_dict() for place in places]
    assert found.keys() == states[0].keys()
    for name, value in found.items():
        expected = torch.stack([state[name].double() for state in states]).mean(0)
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)


def test_a_mean_is_a_policy_that_says_where_it_began(tmp_path: Path) -> None:
    places = [write(tmp_path / name, 0) for name in ("one", "other")]
    rrpo("policy", "average", *places, "--out", tmp_path / "mean")
    assert origin_of(tmp_path / "mean").start == "mini"
    stage = Stage(tmp_path / "mean", tmp_path / "mean")
    assert how_far(stage).startswith("The mean of these policies' weights")
    told = yaml.safe_load((tmp_path / "mean" / "config.yaml").read_text())
    assert told["policies"] == [str(place) for place in places]
    torch.testing.assert_close(
        policy.load(tmp_path / "mean").state_dict(), policy.load(places[0]).state_dict()
    )


def test_what_has_no_mean_is_refused(tmp_path: Path) -> None:
    one, other = write(tmp_path / "one", 0), write(tmp_path / "other", 1)
    out = tmp_path / "out"
    assert "at least two" in mistake("policy", "average", one, "--out", out)
    assert "named twice" in mistake("policy", "average", one, tmp_path / "." / "one", "--out", out)
    assert "no policy" in mistake("policy", "average", one, tmp_path / "none", "--out", out)
    assert "is not empty" in mistake("policy", "average", one, other, "--out", one)
    wide = write(tmp_path / "wide", 2, hidden=64)
    assert "another shape" in mistake("policy", "average", one, wide, "--out", out)
    elsewhere = write(tmp_path / "elsewhere", 3, start=str(tmp_path / "CosyVoice2"))
    with pytest.raises(UserError, match=r"has the start mini, and .*elsewhere"):
        average_policies(out, [one, elsewhere])
    assert not out.exists()


def test_a_disk_that_is_full_at_any_write_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    places, out = [write(tmp_path / name, 0) for name in ("one", "other")], tmp_path / "mean"
    with faults(None, kill=False) as made:
        average_policies(tmp_path / "whole", places)
    assert set(made.done) <= set(NEEDS_ROOM) and len(made.done) >= 3
    for number, kind in enumerate(made.done):
        with (
            pytest.raises(UserError, match=r"cannot write .*mean") as caught,
            faults(number, kill=False),
        ):
            average_policies(out, places)
        assert "\n" not in str(caught.value), (number, kind)
        assert not out.exists() or not list(out.iterdir()), (number, kind)
        if out.exists() and number + 1 < len(made.done):
            out.rmdir()  # to be made again, as one of the writes
    average_policies(out, places)
    assert policy.load(out).config == policy.load(places[0]).config


def test_each_run_has_the_same_instructions_of_its_own(tmp_path: Path) -> None:
    """Which the mean keeps, too: a run that it is of may go."""
    places = [write(tmp_path / name, 0) for name in ("one", "other")]
    for place in places:
        (place / KEPT).write_text("en:\n  happy: Be happy.\n")
    average_policies(tmp_path / "mean", places)
    assert (tmp_path / "mean" / KEPT).read_text() == "en:\n  happy: Be happy.\n"
    assert origin_of(tmp_path / "mean").instructions == str(tmp_path / "mean" / KEPT)
    (places[1] / KEPT).write_text("en:\n  happy: Be glad.\n")
    with pytest.raises(UserError, match="a mean is of policies that have it in common"):
        average_policies(tmp_path / "again", places)
