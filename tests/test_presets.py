"""Presets fill what they say, and every line of them gives its reason or figure."""

import pytest
import yaml

from command_line import mistake
from rrpo import config, policy_runs
from rrpo.errors import UserError
from rrpo.presets import NAMES, preset
from rrpo.reward.config import RewardRun
from rrpo.reward.fit import FitConfig

KINDS = {"reward": RewardRun, "diffro": policy_runs.DiffRORun, "dpo": policy_runs.DPORun}
EVERY = [(command, name) for command, names in NAMES.items() for name in names]


@pytest.mark.parametrize(("command", "name"), EVERY)
def test_every_value_of_a_preset_is_taken_over(command: str, name: str) -> None:
    path = preset(command, name)
    settled = config.load(KINDS[command], None, preset=path).model_dump()

    def walk(values: dict, found: dict) -> None:
        for key, value in values.items():
            if isinstance(value, dict):
                walk(value, found[key])
            else:
                assert found[key] == value, key

    walk(yaml.safe_load(path.read_text()), settled)


def test_the_papers_hardening_is_the_default() -> None:
    assert config.load(RewardRun, None, preset=preset("reward", "paper")).fit == FitConfig()


def test_the_papers_policy_optimization_is_the_literal_reading() -> None:
    found = config.load(policy_runs.DiffRORun, None, preset=preset("diffro", "paper"))
    assert (found.diffro.reward_form, found.diffro.history) == ("robust", "recorded")
    assert (found.diffro.kl_reduction, found.diffro.beta) == ("sum", 0.1)
    assert found.rewards == {"emotion": 1.0}


def test_files_and_options_change_a_preset(tmp_path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("diffro:\n  beta: 0.7\n  batch_size: 3\n")
    found = config.load(
        policy_runs.DiffRORun, path, ["diffro.batch_size=5"], preset("diffro", "recommended")
    )
    assert (found.diffro.beta, found.diffro.batch_size) == (0.7, 5)
    assert found.rewards["content"] == 5.0


def test_what_a_preset_needs_is_asked_for(tmp_path) -> None:
    with pytest.raises(UserError, match="no preset 'papre': choose from paper, recommended"):
        preset("diffro", "papre")
    line = mistake(
        "policy", "diffro", "--preset", "paper", "--reward", "mini", "--out", tmp_path / "o"
    )
    assert "starts from an SFT run" in line and "--from" in line
