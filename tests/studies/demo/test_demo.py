"""The whole chain in its smoke size: every stage, the files and their schema, and its rules."""

import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from disk_faults import faults
from rrpo.errors import UserError
from rrpo.files import read_json, write_json
from rrpo.interval import with_intervals
from rrpo.mini.text import SPEAKERS
from rrpo.studies.demo import demo
from rrpo.studies.demo.systems import FULL, SMOKE, dpo_config, with_systems
from rrpo_studies import voices

pytestmark = pytest.mark.slow

PLAN = replace(
    SMOKE,
    reward_steps=1,
    sft_steps=1,
    diffro_steps=1,
    batch_size=2,
    curve_every=1,
    test_utterances=8,
)
"""Every stage and every emotion, once."""


class Loaded(HTMLParser):
    """Collects what a page loads as it opens."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = ("src", "srcset", "poster", "data") + (("href",) if tag == "link" else ())
        self.sources += [(tag, value or "") for name, value in attrs if name in names]


INTERVALS = ("reward", "judge_accuracy", "judge_probability", "artifacts_per_second", "tokens")


@pytest.fixture(scope="module")
def smoke(quick_judges: None, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001
    folder = tmp_path_factory.mktemp("smoke") / "demo"
    demo.run(folder, seed=3, plan=PLAN)
    return folder


def test_results_follow_the_schema(smoke: Path) -> None:
    results = read_json(smoke / "results.json")
    assert results["schema"] == 1
    assert results["seed"] == 3
    assert set(results["systems"]) == {"base", "sft", "diffro", "rrpo", "rrpo_best_of_8"}
    assert set(results["reward_models"]) == {"pretrained", "plain", "ls_eam_adv"}
    for name, system in {**results["systems"], "reference": results["reference"]}.items():
        for measure in INTERVALS:
            value = system[measure]
            assert value["low"] <= value["mean"] <= value["high"], (name, measure)
        assert isinstance(system["quality"], dict)
        assert set(system["rewards"]) == {"pretrained", "plain", "ls_eam_adv"}
        if system["content_error"] is None:
            assert system["content_error_reason"]
        assert (system["kl"] is None) == (name in ("reference", "rrpo_best_of_8"))
    assert results["systems"]["base"]["kl"]["mean"] == pytest.approx(0, abs=1e-5)
    assert results["systems"]["sft"]["kl"]["mean"] > 0
    assert set(results["reference"]["by_emotion"]) >= {"neutral", "angry", "happy", "sad"}


def test_every_run_leaves_its_files(smoke: Path) -> None:
    runs = [*(smoke / "reward_models").iterdir(), *(smoke / "systems").iterdir()]
    assert len(runs) == 5
    for run in runs:
        for file in ("config.yaml", "metrics.jsonl", "results.json"):
            assert (run / file).stat().st_size > 0
        assert (run / "checkpoint" / "model.safetensors").is_file()
    rows = [json.loads(line) for line in (smoke / "samples.jsonl").read_text().splitlines()]
    assert len(rows) == 6 * 6
    assert all((smoke / row["wav"]).is_file() for row in rows)
    points = [json.loads(line) for line in (smoke / "curves.jsonl").read_text().splitlines()]
    assert {point["system"] for point in points} == {"sft", "diffro", "rrpo"}


def test_the_page_is_one_whole_file(smoke: Path) -> None:
    page = (smoke / "report.html").read_text(encoding="utf-8")
    found = Loaded()
    found.feed(page)
    found.close()
    assert page.rstrip().endswith("</html>")
    assert "synthetic" in page
    # A page plays the systems' and the real recordings' speech and shows pictures of its own.
    assert len([tag for tag, _ in found.sources if tag in ("audio", "source")]) >= 6
    assert [source for _, source in found.sources if not source.startswith(("data:", "#"))] == []
    assert "@import" not in page
    assert "url(http" not in page


def test_its_policies_are_heard_in_other_voices(smoke: Path, tmp_path: Path) -> None:
    page = voices.run([smoke], tmp_path, 1, speakers=SPEAKERS[-1:]).read_text(encoding="utf-8")
    study = read_json(tmp_path / "study.json")
    assert set(study["voices"]) == {"all voices", "willow"}
    assert "Willow:" in page
    for systems in study["voices"].values():
        assert set(systems) == {"reference", "base", "sft", "diffro", "rrpo"}
        assert systems["base"]["KL / token"]["mean"] == pytest.approx(0, abs=1e-5)
    gaps = study["differences"]["willow"]
    assert list(gaps) == ["SFT − base", "DiffRO − base", "RRPO − base", "RRPO − DiffRO"]
    heard = study["voices"]["willow"]
    assert gaps["SFT − base"]["tokens"]["mean"] == pytest.approx(
        heard["sft"]["tokens"]["mean"] - heard["base"]["tokens"]["mean"]
    )
    assert "| SFT − base |" in page
    with pytest.raises(UserError, match="no finished demo"):
        voices.run([tmp_path], tmp_path)


def test_demos_of_another_world_are_refused(smoke: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_json(other / "plan.json", {**read_json(smoke / "plan.json"), "world": "another"})
    write_json(other / "results.json", read_json(smoke / "results.json"))
    with pytest.raises(UserError, match="other was made in another world: give that with --world"):
        voices.run([smoke, other], tmp_path / "out")


def test_a_finished_demo_is_not_run_again(smoke: Path) -> None:
    before = (smoke / "systems" / "rrpo" / "metrics.jsonl").read_text()
    results = demo.run(smoke, seed=3, plan=PLAN)
    assert (smoke / "systems" / "rrpo" / "metrics.jsonl").read_text() == before
    assert results["systems"] == with_intervals(read_json(smoke / "results.json"))["systems"]


def test_a_full_disk_at_every_file_of_its_end(smoke: Path, tmp_path: Path) -> None:
    """One model is judged again, and all that a demo leaves is written."""
    out = tmp_path / "demo"
    given = {path: path.read_bytes() for path in smoke.glob("*.*")}

    def begin() -> None:
        for path, content in given.items():
            (out / path.name).write_bytes(content)
        (out / "reward_tests" / "plain.json").unlink(missing_ok=True)

    shutil.copytree(smoke, out)
    begin()
    with faults(None, kill=False) as made:
        expected = demo.run(out, seed=3, plan=PLAN)["systems"]
    assert made.done == ["mkstemp", "write", "replace"] * 8
    for file in range(8):
        number = 3 * file + file % 3
        kind = made.done[number]
        begin()
        with pytest.raises(UserError) as caught, faults(number, kill=False):
            demo.run(out, seed=3, plan=PLAN)
        said = str(caught.value)
        assert "\n" not in said and "cannot write" in said and str(out) in said, (number, kind)
        for path in out.glob("*.json"):
            read_json(path)
        assert (out / "report.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert demo.run(out, seed=3, plan=PLAN)["systems"] == expected


def test_another_demo_in_the_same_folder_is_refused(smoke: Path) -> None:
    with pytest.raises(UserError, match="another seed"):
        demo.run(smoke, seed=4, plan=PLAN)


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds no demo"):
        demo.run(tmp_path, plan=PLAN)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_system_brings_what_it_starts_from() -> None:
    assert with_systems(SMOKE, ["rrpo_dpo"]).systems == ("rrpo", "rrpo_dpo")
    assert with_systems(SMOKE, ["rrpo_best_of_8"]).systems == ("rrpo", "rrpo_best_of_8")
    assert with_systems(SMOKE, ["rrpo_paper"]).systems == ("sft", "rrpo_paper")
    assert with_systems(SMOKE, ["paper_base"]).systems == ("paper_base",)


def test_dpo_has_its_presets_size_or_the_plans() -> None:
    whole, small = (dpo_config(plan, "rrpo_dpo", 3) for plan in (FULL, SMOKE))
    assert (whole.train.steps, whole.pairs.prompts, whole.dpo.batch_size) == (60, 200, 16)
    assert (small.train.steps, small.pairs.prompts, small.dpo.batch_size) == (2, 8, 6)
    assert whole.train.seed == small.train.seed == 3
    assert whole.rewards == {"emotion": 2.0, "content": 2.0}
