"""Figures, goal and page of the planted study."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from rrpo_studies.planted.figures import Row, at_kl, rows_of
from rrpo_studies.planted.page import BEST as OF_THE_GOAL
from rrpo_studies.planted.page import aims, by_cell, page
from rrpo_studies.planted.plan import SMOKE, Job
from rrpo_studies.planted.recipes import POLICIES, REWARD_MODELS

BEST = OF_THE_GOAL[0]


def curve(rates: list[float], judges: list[float]) -> dict[str, Any]:
    """Looks of a policy, with a KL that grows by .1."""
    return {
        "looks": [
            {
                "step": 10 * number,
                "kl": 0.1 * number,
                "judge": judge,
                "judge_others": 0.5,
                "planted": rate,
                "others": 0.1,
                "tokens": 50.0,
            }
            for number, (rate, judge) in enumerate(zip(rates, judges, strict=True))
        ]
    }


def study_of_two_seeds(rate: float = 0.05) -> dict[Job, Any]:
    """Plain learns the artifact, and the best recipe has a share of what plain has."""
    found: dict[Job, Any] = {}
    for seed in range(2):
        model = POLICIES[BEST].reward_model
        for name, gain, accuracy in (("plain", 2.0, 0.8), (model, 0.5 + seed, 0.79)):
            found[Job("reward", "click", name, 0.95, seed)] = {
                "accuracy": accuracy + 0.001 * seed,
                "gain": gain,
                "fooled": 0.1,
            }
        unplanted = {"accuracy": 0.82, "gain": 0.1, "fooled": 0.0}
        found[Job("reward", "click", "plain", 0.0, seed)] = unplanted
        judges, rates = [0.4, 0.6, 0.8], [0.2, 1.0, 2.0 + 0.1 * seed]
        found[Job("policy", "click", "diffro", 0.95, seed)] = curve(rates, judges)
        found[Job("policy", "click", "control", 0.95, seed)] = curve([0.2, 0.1, 0.3], judges)
        mine = [rate * one for one in rates]
        found[Job("policy", "click", BEST, 0.95, seed)] = curve(mine, judges)
    return found


PLAN = {"policy_rho": 0.95, "artifacts": ["click"], "seeds": 2, "policies": [BEST]}


def test_figures_are_paired_by_seed_and_matched_where_the_judge_is_equal() -> None:
    rows = rows_of(study_of_two_seeds())
    cells = by_cell(rows)
    model = POLICIES[BEST].reward_model
    less = cells[0.95, "click", model, "", "gain less plain"].value
    assert less.mean == pytest.approx((-1.5 - 0.5) / 2)
    key = (0.95, "click", model, BEST)
    mine = cells[*key, "planted at equal judge probability"].value
    plain = cells[*key, "planted by diffro at equal judge probability"].value
    assert mine.mean == pytest.approx(plain.mean / 20)
    difference = cells[*key, "planted less diffro at equal KL"].value
    assert difference.mean == pytest.approx(mine.mean - plain.mean)
    assert all(row.seeds == 2 for row in rows)


def test_artifacts_are_read_off_where_the_kl_is_first_reached() -> None:
    cells = by_cell(rows_of(study_of_two_seeds()))
    found = cells[0.95, "click", "plain", "diffro", at_kl(0.1)]
    assert (found.value.mean, found.seeds) == (pytest.approx(1.0), 2)
    halfway = cells[0.95, "click", "plain", "diffro", at_kl(0.03)].value.mean
    assert halfway == pytest.approx(0.2 + 0.3 * 0.8)
    # No curve goes beyond .2 nats.
    assert (0.95, "click", "plain", "diffro", at_kl(0.3)) not in cells


@pytest.mark.parametrize(("rate", "verdict"), [(0.05, "met"), (0.5, "missed")])
def test_the_goal_is_a_tenth_of_the_artifacts(rate: float, verdict: str) -> None:
    """Where the judge is equal and late; the accuracy is less by .03 than without correlation."""
    matched, late, beyond, unplanted, accuracy = aims(
        by_cell(rows_of(study_of_two_seeds(rate))), PLAN
    )
    assert (matched.verdict, late.verdict) == (verdict, verdict)
    assert beyond.value is not None
    # Late, plain says 2.05 and the control .3.
    assert beyond.value.mean == pytest.approx(rate * 2.05 - 0.3 - 0.1 * 1.75)
    assert unplanted.verdict == "missed"
    assert unplanted.value is not None
    assert unplanted.value.mean == pytest.approx(-0.0295)
    assert accuracy.verdict == "met"


def test_the_best_of_several_is_that_of_the_most() -> None:
    """Its looks are numbers of utterances, and no times that a mean may be taken over."""
    found = study_of_two_seeds()
    for seed in range(2):
        looks = curve([0.2, 0.3, 0.5, 1.0, 2.0, 4.0 + seed], [0.4] * 6)
        found[Job("policy", "click", "best_of", 0.95, seed)] = looks
    cells = by_cell(rows_of(found))
    key = (0.95, "click", "plain", "best_of")
    assert cells[*key, "planted"].value.mean == pytest.approx(4.5)
    assert cells[*key, "kl"].value.mean == pytest.approx(0.5)
    tenth = cells[*key, "planted less a tenth of diffro late"].value.mean
    assert tenth == pytest.approx(4.5 - 0.1 * 2.05)


def test_late_figures_are_means_over_the_last_half_of_the_looks() -> None:
    found = study_of_two_seeds()
    for seed in range(2):
        found[Job("policy", "click", "rrpo", 0.95, seed)] = curve(
            [0.2, 9.0, 9.0, 9.0, 1.0, 2.0, 3.0 + seed], [0.4] * 7
        )
    cells = by_cell(rows_of(found))
    key = (0.95, "click", "ls_eam_adv", "rrpo")
    assert cells[*key, "planted"].value.mean == pytest.approx((2.0 + 7 / 3) / 2)
    assert cells[*key, "planted less the start's"].value.mean == pytest.approx(13 / 6 - 0.2)
    # DiffRO has three looks, of which the last is the late one.
    tenth = cells[*key, "planted less a tenth of diffro late"].value.mean
    assert tenth == pytest.approx((2.0 + 7 / 3) / 2 - 0.1 * 2.05)


def test_what_a_detector_finds_is_told() -> None:
    found = study_of_two_seeds()
    for seed in range(2):
        figures = {"found": 0.9 + 0.02 * seed, "false_alarms": 0.01}
        found[Job("detector", "click", "", 0.0, seed)] = figures
    rows = rows_of(found)
    row = by_cell(rows)[0.0, "click", "detector", "", "found"]
    assert (row.value.mean, row.seeds) == (pytest.approx(0.91), 2)
    plan = asdict(replace(SMOKE, seeds=2))
    study = {"plan": plan, "command": "", "machine": "", "finished": 1, "planned": 1}
    assert "The detector finds it in 0.91 [" in page(study, rows)


def test_without_hacking_or_with_one_seed_the_goal_is_not_measured() -> None:
    healthy = study_of_two_seeds()
    for seed in range(2):
        job = Job("policy", "click", "diffro", 0.95, seed)
        # No more than the control says: as much more with one seed as less with the other.
        healthy[job] = curve([0.2, 0.3 - 0.2 * seed, 0.3 + 0.1 * (1 - 2 * seed)], [0.4, 0.6, 0.8])
    single = {job: one for job, one in study_of_two_seeds().items() if job.seed == 0}
    for found in (healthy, single, {}):
        found_aims = aims(by_cell(rows_of(found)), PLAN)[:3]
        assert [one.verdict for one in found_aims] == ["not measured"] * 3


def test_a_seed_whose_curves_do_not_overlap_is_told() -> None:
    found = study_of_two_seeds()
    found[Job("policy", "click", BEST, 0.95, 1)] = curve([0.1, 0.1, 0.1], [0.4, 0.3, 0.3])
    row = by_cell(rows_of(found))[
        0.95,
        "click",
        POLICIES[BEST].reward_model,
        BEST,
        "planted less diffro at equal judge probability",
    ]
    assert row.seeds == 1
    study = {"command": "c", "machine": "m", "finished": 8, "planned": 8, "plan": WHOLE_PLAN}
    assert "(1 of 2 seeds)" in page(study, rows_of(found))


def test_one_seed_has_no_interval_in_the_json() -> None:
    found = {job: one for job, one in study_of_two_seeds().items() if job.seed == 0}
    rows = [row.as_json() for row in rows_of(found)]
    assert {(row["low"], row["high"], row["seeds"]) for row in rows} == {(None, None, 1)}
    json.dumps(rows, allow_nan=False)


WHOLE_PLAN = {
    "artifacts": ["click", "hum"],
    "rhos": [0.5, 0.95],
    "reward_models": REWARD_MODELS,
    "policies": tuple(POLICIES),
    "policy_rho": 0.95,
    "steps": 60,
    "sentences": 24,
    "seeds": 2,
    "disagreement": 0.3,
}


def test_the_page_says_what_is_done_and_what_is_not() -> None:
    rows: list[Row] = rows_of(study_of_two_seeds())
    study = {"command": "rrpo study planted", "machine": "x", "finished": 8, "planned": 99}
    text = page(study | {"plan": WHOLE_PLAN}, rows)
    assert "8 of 99 trainings are done" in text
    assert "Policies are DiffRO of 60 steps" in text and "the same 24 test sentences" in text
    assert "*Cautiously*" in text and "*With a detector*" in text
    alone = {"reward_models": ("plain",), "policies": ("diffro",)}
    few = page(study | {"plan": WHOLE_PLAN | alone}, rows)
    assert "*Cautiously*" not in few and "| goal |" not in few
    assert "none is among these policies" in few
    assert "rewarded for the emotion alone" in few
    assert "rewarded for the emotion, with" in text and "*Words rewarded*" in text
    others = {"policies": ("diffro", OF_THE_GOAL[1])}
    asked = page(study | {"plan": WHOLE_PLAN | others}, rows)
    assert f"five clicks: {POLICIES[OF_THE_GOAL[1]].title}, artifacts an utterance less" in asked
    assert f"five clicks: {POLICIES[BEST].title}, artifacts" in text
    assert "## Five clicks" in text
    assert "## Low hum" not in text
    assert "low hum: accuracy of" in text and "not measured" in text
    assert "| plain | – | 2.00 [2.00, 2.00] |" in text
    assert "| LS |" not in text  # not trained
