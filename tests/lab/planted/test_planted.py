"""The planted study: its jobs and settings, and that it runs and goes on."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rrpo.config import load as load_config
from rrpo.errors import UserError
from rrpo.files import write_json
from rrpo.policy_runs import DiffRORun, GRPORun
from rrpo.presets import preset
from rrpo.reward.config import subsets
from rrpo.studies import study as skeleton
from rrpo_studies.planted import best_of as best_of_module
from rrpo_studies.planted import plan as plan_module
from rrpo_studies.planted import recipes, trainings
from rrpo_studies.planted import study as study_module
from rrpo_studies.planted.plan import (
    FULL,
    SMOKE,
    Job,
    Plan,
    jobs,
    needs,
    settings_of,
    with_parts,
)
from rrpo_studies.planted.recipes import COUNT, POLICIES, REWARD_MODELS, policy_run, reward_run
from rrpo_studies.planted.study import missing, run
from rrpo_studies.planted.trainings import done, folder_of, found_at


def test_the_preset_with_a_detector_is_what_the_study_measured() -> None:
    cure = POLICIES["rrpo_cured_words_odds"]
    measured = policy_run(cure, FULL.steps, FULL.batch_size, 0)
    told = ["train.report_to=none", "train.threads=1"]
    assert load_config(DiffRORun, None, told, preset("diffro", "detector")) == measured


def test_every_subset_of_the_regularizers_and_the_cures_are_trained() -> None:
    assert set(subsets()) < set(REWARD_MODELS)
    for cured in ("ls_eam_adv_augmented", "ls_eam_adv_balanced"):
        run = reward_run(cured, 240, 3)
        assert run.fit == subsets()["ls_eam_adv"]
        assert (run.train.seed, run.train.steps) == (3, 240)
    assert reward_run("augmented", 240, 0).fit == subsets()["plain"]
    exchanged = subsets()["eam"].model_copy(update={"exchanged": COUNT})
    assert reward_run("eam_exchanged", 240, 0).fit == exchanged


def run_of(name: str, seed: int = 2) -> DiffRORun | GRPORun:
    made = policy_run(POLICIES[name], 60, 8, seed)
    assert made is not None
    return made


def test_policies_are_paid_for_the_emotion_in_their_form() -> None:
    plain, robust = run_of("diffro"), run_of("rrpo")
    assert isinstance(plain, DiffRORun)
    assert isinstance(robust, DiffRORun)
    assert plain.diffro.reward_form == "log_posterior"
    assert robust.diffro.reward_form == "robust"
    assert dict(plain.rewards) == {"emotion": 1.0}
    assert dict(run_of("rrpo_detector").rewards) == {"emotion": 1.0, "event": 1.0}
    assert (plain.diffro.rollout.temperature, plain.diffro.rollout.top_k) == (1.0, 0)
    assert plain.train.seed == 2
    assert plain.train.average_from is None


@pytest.mark.parametrize("name", ["grpo", "rloo"])
def test_policy_gradients_draw_as_many_utterances_of_the_same_distribution(name: str) -> None:
    run, other = run_of(name), run_of("diffro")
    assert isinstance(run, GRPORun)
    assert isinstance(other, DiffRORun)
    assert run.grpo.advantage == name
    assert run.grpo.prompts * run.grpo.group == other.diffro.batch_size
    assert run.grpo.rollout == other.diffro.rollout
    assert run.grpo.beta == (other.diffro.beta if name == "rloo" else recipes.GRPO_BETA)
    assert run.grpo.reward_form == other.diffro.reward_form
    assert (run.train, run.rewards) == (other.train, other.rewards)


def test_the_best_of_several_is_not_trained() -> None:
    assert policy_run(POLICIES["best_of"], 60, 8, 0) is None


def test_an_ensemble_has_three_trainings_on_the_same_data() -> None:
    found = needs(Job("policy", "click", "rrpo_ensemble", 0.95, 3))[1:]
    assert {job.seed for job in found} == {3}  # which draws the data
    runs = [reward_run(job.what, 240, job.seed) for job in found]
    assert len({run.train.seed for run in runs}) == 3
    assert all(run.fit == subsets()["ls_eam_adv"] for run in runs)


def test_every_job_comes_after_what_it_needs_and_is_there_once() -> None:
    before: set[Job] = set()
    for group in jobs(FULL):
        for job in group:
            assert set(needs(job)) <= before
        before |= set(group)
    every = [job for group in jobs(FULL) for job in group]
    assert len(every) == len(set(every)) == len({(job.kind, job.name) for job in every})
    count = len(FULL.artifacts) * FULL.seeds
    # Balanced ones cannot be where all have the artifact; an ensemble has two members more.
    each = 5 * len(REWARD_MODELS) - 2 + 2
    assert sum(job.kind == "reward" for job in every) == each * count
    assert sum(job.kind == "policy" for job in every) == len(POLICIES) * count


def test_a_second_round_hears_the_policy_of_the_first() -> None:
    second = Job("policy", "click", "rrpo_second_round", 0.95, 1)
    (detector,) = (job for job in needs(second) if job.kind == "detector")
    assert needs(detector) == [Job("policy", "click", "rrpo_balanced_detector_3", 0.95, 1)]
    assert detector not in needs(*needs(detector))


def test_what_lacks_its_weights_is_made_again_and_nothing_else(tmp_path: Path) -> None:
    """Of the figures of another machine; the second round needs all of the first."""
    part = with_parts(FULL, 1, "click", "0.95", "plain", "diffro,rrpo_second_round")
    every = [job for group in jobs(part) for job in group]
    last = Job("policy", "click", "rrpo_second_round", 0.95, 0)
    for job in every:
        told = {"settings": settings_of(part, job)}
        if job != last:
            write_json(folder_of(tmp_path, job) / "figures.json", told)
    first = needs(next(job for job in needs(last) if job.kind == "detector"))
    assert missing(tmp_path, part, every) == {last, *needs(last), *first, *needs(*first)}
    write_json(folder_of(tmp_path, last) / "figures.json", {"settings": settings_of(part, last)})
    assert not missing(tmp_path, part, every)


def test_a_part_of_the_study_is_named_by_its_options() -> None:
    part = with_parts(FULL, 2, "click, hum", "0.95,1", "plain", "none")
    assert (part.artifacts, part.rhos) == (("click", "hum"), (0.95, 1.0))
    assert (part.reward_models, part.policies, part.seeds) == (("plain",), (), 2)
    assert with_parts(FULL, 5, "", "", "", "") == FULL
    later = with_parts(FULL, 2, "click", "0.95", "plain", "none", first_seed=7)
    assert {job.seed for group in jobs(later) for job in group} == {7, 8}
    with pytest.raises(UserError, match="--artifacts: unknown 'clack': choose from click, plosive"):
        with_parts(FULL, 2, "clack", "", "", "")
    assert with_parts(FULL, 2, "", "0.5,0.50, 0", "", "").rhos == (0.0, 0.5)
    for wrong in ("1.5", "much", "nan", "0.9999"):
        with pytest.raises(UserError, match=f"--rho: '{wrong}' is no correlation"):
            with_parts(FULL, 2, "", wrong, "", "")


def test_figures_of_other_settings_are_refused(tmp_path: Path) -> None:
    job = Job("reward", "click", "plain", 0.95, 0)
    path = folder_of(tmp_path, job) / "figures.json"
    assert found_at(tmp_path, FULL, job) is None
    write_json(path, {"gain": 1.0, "settings": settings_of(FULL, job)})
    assert done(tmp_path, FULL, job)
    assert done(tmp_path, replace(FULL, rhos=(0.95,), seeds=1), job)
    with pytest.raises(
        UserError, match=r"made with other settings: remove .*click-0\.95-plain-0 to"
    ):
        done(tmp_path, replace(FULL, reward_steps=7), job)


def test_the_page_is_written_where_a_training_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(asked: tuple[Path, Plan, Job]) -> None:
        if asked[2].kind == "policy":
            raise UserError("the reward is not finite")
        write_json(
            folder_of(asked[0], asked[2]) / "figures.json",
            {"accuracy": 0.5, "gain": 1.0, "fooled": 0.0, "settings": settings_of(SMOKE, asked[2])},
        )

    monkeypatch.setattr(study_module, "make", fails)
    with pytest.raises(UserError, match="not finite"):
        run(tmp_path / "out", SMOKE)
    assert "3 of 6 trainings are done" in (tmp_path / "out" / "planted.md").read_text()


def test_the_accuracy_without_the_correlation_is_always_measured() -> None:
    part = with_parts(FULL, 1, "click", "0.95", "ls", "none")
    found = {(job.what, job.rho) for group in jobs(part) for job in group}
    assert found == {("plain", 0.0), ("ls", 0.95)}


def test_what_a_policy_rests_on_is_part_of_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Job("policy", "click", "rrpo_exchanged", 0.95, 0)
    every = [policy, *needs(policy), Job("policy", "click", "diffro", 0.95, 0)]
    before = [settings_of(FULL, job) for job in every]
    monkeypatch.setattr(recipes, "COUNT", 4)
    changed = [settings_of(FULL, job) != old for job, old in zip(every, before, strict=True)]
    assert changed == [True, False, True, False]  # the policy and its reward model
    monkeypatch.setattr(plan_module, "START_SHARE", 0.9)
    changed = [settings_of(FULL, job) != old for job, old in zip(every, before, strict=True)]
    assert changed == [True, True, True, True]  # starts, and all policies


KINDS = ("diffro", "rrpo", "rrpo_ensemble", "rrpo_second_round", "grpo", "best_of")
SMALL = replace(SMOKE, policies=KINDS)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of the smallest size with every kind of policy, in one process."""
    out = tmp_path_factory.mktemp("planted") / "planted"
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(best_of_module, "COUNTS", (1, 2))
        changed.setattr(trainings, "LISTENED", 4)
        changed.setattr(skeleton, "cores", lambda: 1)  # processes would take longer to start
        run(out, SMALL)
    return out


@pytest.mark.slow
def test_the_smallest_study_runs(small: Path) -> None:
    told = json.loads((small / "planted.json").read_text())
    assert told["finished"] == told["planned"] == len([j for g in jobs(SMALL) for j in g])
    assert {"rho", "artifact", "reward_model", "measure", "mean", "low", "high", "seeds"} <= set(
        told["rows"][0]
    )
    assert (small / "planted.svg").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_policy_is_trained(name: str, small: Path) -> None:
    (job,) = (job for group in jobs(SMALL) for job in group if job.what == name)
    found = found_at(small, SMALL, job)
    assert found is not None
    assert len(found["looks"]) >= 2
    assert found["looks"][0]["kl"] == 0.0
    assert all(np.isfinite(look["planted"]) for look in found["looks"])
    assert set(found["said"]) == {"start", "end"}


@pytest.mark.slow
def test_it_goes_on_from_its_figures(small: Path, tmp_path: Path) -> None:
    """Another machine has the figures alone, and one policy to train."""
    part = replace(SMALL, policies=("diffro", "rrpo"))
    lost, kept = [job for group in jobs(part) for job in group if job.kind == "policy"]
    wanted = (folder_of(small, lost) / "figures.json").read_text()
    copy = tmp_path / "copy"
    for group in jobs(part):
        for job in group:
            if job != lost:
                folder_of(copy, job).mkdir(parents=True)
                (folder_of(copy, job) / "figures.json").write_text(
                    (folder_of(small, job) / "figures.json").read_text()
                )
    run(copy, part)
    assert done(copy, part, lost)
    assert (folder_of(copy, lost) / "figures.json").read_text() == wanted
    assert not (folder_of(copy, kept) / "results.json").exists()


KEPT = Path(__file__).parents[3] / "research"


@pytest.mark.slow
@pytest.mark.parametrize("study", ["planted", "planted_again", "planted_7_16"])
def test_the_figures_that_are_kept_are_of_these_settings(study: str) -> None:
    """So that a study goes on from them, which would else begin anew, or mix two settings."""
    figures = list((KEPT / study).glob("*/*/figures.json"))
    assert len(figures) > 50
    for path in figures:
        artifact, rho, *what, seed = path.parent.name.split("-")
        job = Job(path.parent.parent.name, artifact, "-".join(what), float(rho), int(seed))
        assert json.loads(path.read_text())["settings"] == settings_of(FULL, job), path
