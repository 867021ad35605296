"""A study over seeds grows: other systems and the ablation join what is there."""

from dataclasses import replace
from pathlib import Path

import pytest

from rrpo.errors import UserError
from rrpo.files import read_json, write_json
from rrpo.studies.demo import seeds
from rrpo.studies.demo.systems import SMOKE

pytestmark = pytest.mark.thorough

TINY = replace(
    SMOKE,
    systems=("sft",),
    reward_steps=1,
    sft_steps=1,
    diffro_steps=1,
    batch_size=2,
    emotions=("happy", "sad"),
    test_utterances=8,
)


def times(out: Path) -> dict[str, int]:
    """When each run was written last."""
    return {
        path.parent.relative_to(out).as_posix(): path.stat().st_mtime_ns
        for path in sorted(out.glob("seed-0/*/*/metrics.jsonl"))
    }


@pytest.mark.usefixtures("quick_judges")
def test_systems_join_a_study_and_none_is_trained_again(tmp_path: Path) -> None:
    seeds.run(tmp_path, 1, TINY)
    before = times(tmp_path)
    assert "seed-0/systems/sft" in before
    assert list(read_json(tmp_path / "results.json")["systems"]) == ["reference", "base", "sft"]

    # A plan of an earlier version names its systems, too.
    plan = tmp_path / "seed-0" / "plan.json"
    write_json(plan, read_json(plan) | {"systems": ["sft"], "ablation": False})
    more = replace(TINY, systems=("sft", "diffro"))
    seeds.run(tmp_path, 1, more, ablation=True)
    after = times(tmp_path)
    assert {name: after[name] for name in before} == before
    joined = set(after) - set(before)
    models = {"seed-0/reward_models/ls", "seed-0/reward_models/ls_eam"}
    assert joined == {"seed-0/systems/diffro", *models}
    found = read_json(tmp_path / "results.json")
    assert list(found["systems"]) == ["reference", "base", "sft", "diffro"]
    assert "DiffRO − SFT" in found["differences"]

    # Fewer are tabled again, from what is there.
    seeds.run(tmp_path, 1, TINY)
    assert times(tmp_path) == after
    assert list(read_json(tmp_path / "results.json")["systems"]) == ["reference", "base", "sft"]

    with pytest.raises(UserError, match="another sentences"):
        seeds.run(tmp_path, 1, replace(more, sentences=2))
