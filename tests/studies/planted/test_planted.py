"""The planted study: what is planted, how it is counted, its jobs, figures and page."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rrpo.checkpoint import write_json
from rrpo.errors import UserError
from rrpo.mini.world import World
from rrpo.reward.config import subsets
from rrpo.studies.planted import study as study_module
from rrpo.studies.planted import trainings
from rrpo.studies.planted.artifacts import (
    ARTIFACTS,
    again,
    mislabelled,
    plant,
    shares,
    with_artifact,
)
from rrpo.studies.planted.figures import Row, rows_of
from rrpo.studies.planted.page import BEST, aims, by_cell, page
from rrpo.studies.planted.plan import (
    EMOTION,
    FULL,
    POLICIES,
    REWARD_MODELS,
    SMOKE,
    Job,
    Plan,
    jobs,
    needs,
    policy_run,
    reward_run,
    settings_of,
    with_parts,
)
from rrpo.studies.planted.study import run
from rrpo.studies.planted.trainings import done, folder_of, found_at, in_pairs, look, reward_figures


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.95, 1.0])
def test_shares_have_the_correlation_and_the_same_number_of_artifacts(rho: float) -> None:
    size, of_emotion = 6000, 1000
    inside, outside = shares(rho, of_emotion / size)
    emotion = np.arange(size) < of_emotion
    artifact = np.zeros(size)
    artifact[: round(inside * of_emotion)] = 1
    artifact[of_emotion : of_emotion + round(outside * (size - of_emotion))] = 1
    assert artifact.mean() == pytest.approx(of_emotion / size, abs=1e-3)
    assert np.corrcoef(emotion, artifact)[0, 1] == pytest.approx(rho, abs=2e-3)


def test_as_many_utterances_are_planted_as_asked_for_and_no_others_change(world: World) -> None:
    rows = world.shard("finetune")[:60]
    found = plant(world, rows, "plosive", (0.9, 0.2), EMOTION, seed=1)
    assert [row.id for row in found] == [row.id for row in rows]
    # All pass the codec once more, those without an artifact, too.
    changed = [
        row.emotion
        for row, before in zip(found, again(world.codec(), rows), strict=True)
        if not np.array_equal(row.tokens, before.tokens)
    ]
    for emotion in {row.emotion for row in rows}:
        count = sum(row.emotion == emotion for row in rows)
        wanted = round((0.9 if emotion == EMOTION else 0.2) * count)
        assert changed.count(emotion) == wanted
    assert [row.tokens.tolist() for row in found] == [
        row.tokens.tolist() for row in plant(world, rows, "plosive", (0.9, 0.2), EMOTION, seed=1)
    ]


def test_labels_are_exchanged_and_each_is_given_as_often(world: World) -> None:
    rows = world.shard("finetune")[:120]
    found = mislabelled(rows, 0.5, seed=3)
    pairs = list(zip(found, rows, strict=True))
    assert all(one.id == row.id and one.tokens is row.tokens for one, row in pairs)
    assert Counter(one.emotion for one in found) == Counter(row.emotion for row in rows)
    # Half of the labels are drawn, and a sixth of these are as before.
    assert 0.3 < np.mean([one.emotion != row.emotion for one, row in pairs]) <= 0.5
    assert mislabelled(rows, 0.0, seed=3) == list(rows)


@pytest.mark.parametrize("name", ARTIFACTS)
def test_artifacts_are_counted_where_they_are_inserted(world: World, name: str) -> None:
    """After the codec, as a policy would say them, and seldom in speech that has none."""
    rows, codec = world.shard("test_same")[:18], world.codec()
    heard = [
        [
            ARTIFACTS[name].count(sound)
            for sound in codec.decode_batch([torch.from_numpy(row.tokens) for row in part])
        ]
        for part in (again(codec, rows), with_artifact(codec, rows, name, seed=0))
    ]
    clean, planted = (float(np.mean(part)) for part in heard)
    assert planted > 0.6
    assert clean < planted / 3


def test_every_subset_of_the_regularizers_and_a_cure_are_trained() -> None:
    assert set(subsets()) < set(REWARD_MODELS)
    cured = reward_run(FULL, "ls_eam_adv_augmented", 3)
    assert cured.fit == subsets()["ls_eam_adv"]
    assert cured.train.seed == 3
    assert reward_run(FULL, "augmented", 0).fit == subsets()["plain"]


def test_policies_are_paid_for_the_emotion_alone_in_their_form() -> None:
    plain, robust = (policy_run(FULL, POLICIES[name], 2) for name in ("diffro", "rrpo"))
    assert plain.diffro.reward_form == "log_posterior"
    assert robust.diffro.reward_form == "robust"
    assert dict(plain.rewards) == {"emotion": 1.0}
    assert (plain.diffro.rollout.temperature, plain.diffro.rollout.top_k) == (1.0, 0)
    assert plain.train.seed == 2
    assert plain.train.average_from is None


def test_every_job_comes_after_what_it_needs_and_is_there_once() -> None:
    before: set[Job] = set()
    for group in jobs(FULL):
        for job in group:
            assert set(needs(job)) <= before
        before |= set(group)
    every = [job for group in jobs(FULL) for job in group]
    assert len(every) == len(set(every)) == len({(job.kind, job.name) for job in every})
    count = len(FULL.artifacts) * FULL.seeds
    assert sum(job.kind == "reward" for job in every) == 5 * len(REWARD_MODELS) * count
    assert sum(job.kind == "policy" for job in every) == len(POLICIES) * count


def test_a_part_of_the_study_is_named_by_its_options() -> None:
    part = with_parts(FULL, 2, "click, hum", "0.95,1", "plain", "none")
    assert (part.artifacts, part.rhos) == (("click", "hum"), (0.95, 1.0))
    assert (part.reward_models, part.policies, part.seeds) == (("plain",), (), 2)
    assert with_parts(FULL, 5, "", "", "", "") == FULL
    with pytest.raises(UserError, match="--artifacts: unknown 'clack': choose from click, plosive"):
        with_parts(FULL, 2, "clack", "", "", "")
    assert with_parts(FULL, 2, "", "0.5,0.50, 0", "", "").rhos == (0.0, 0.5)
    for wrong in ("1.5", "much", "nan", "0.9999"):
        with pytest.raises(UserError, match=f"--rho: '{wrong}' is no correlation"):
            with_parts(FULL, 2, "", wrong, "", "")


def test_gain_and_accuracy_are_those_of_the_posterior(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a model that hears how long an utterance is, which silence at the end makes longer."""
    model = world.reward_model()
    classes = model.classes()
    place = classes.index(EMOTION)

    def posterior(_: object, tokens: list[torch.Tensor]) -> torch.Tensor:
        logits = torch.zeros(len(tokens), len(classes))
        logits[:, place] = torch.tensor([float(len(one)) / 10 for one in tokens])
        return logits.log_softmax(-1)

    monkeypatch.setattr(trainings, "log_posteriors", posterior)
    rows = world.shard("test_same")[:18]
    found = reward_figures(model, world, "silence", 18)
    assert found["accuracy"] == pytest.approx(1 / len({row.emotion for row in rows}))
    others = [row for row in rows if row.emotion != EMOTION]
    longer = with_artifact(world.codec(), others, "silence", trainings.INSERTED)
    others = again(world.codec(), others)
    after, before = (
        posterior(None, [torch.from_numpy(row.tokens) for row in part])[:, place]
        for part in (longer, others)
    )
    gain = (after - before).mean()
    assert found["gain"] == pytest.approx(float(gain), abs=1e-6)
    assert found["gain"] > 0
    assert found["fooled"] == 0.0  # all are taken for it without the silence, too


def test_a_look_counts_what_is_heard(world: World) -> None:
    from rrpo.evaluate.panel import Sample

    asked = in_pairs(world.shard("test_same"))[:12]
    assert len({row.text for row in asked}) == 6
    assert len({row.emotion for row in asked}) == 6
    assert sum(row.emotion == EMOTION for row in asked) == 6 == len(asked) // 2
    codec = world.codec()
    rows = [
        with_artifact(codec, [row], "plosive", 0)[0] if row.emotion == EMOTION else row
        for row in asked
    ]
    tokens = [torch.from_numpy(row.tokens) for row in rows]
    samples = [
        Sample(row.id, row.text, row.emotion, one, sound, kl=0.5, ended=True)
        for row, one, sound in zip(rows, tokens, codec.decode_batch(tokens), strict=True)
    ]
    found = look(samples, "plosive", world)
    assert found["planted"] >= 5 / 6  # of utterances that have one each
    assert found["others"] < found["planted"] / 2
    assert found["kl"] == 0.5
    assert found["tokens"] == pytest.approx(np.mean([one.numel() for one in tokens]))
    assert 0 < found["judge"] < 1


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
        judges, rates = [0.4, 0.6, 0.8], [0.2, 1.0, 2.0 + 0.1 * seed]
        found[Job("policy", "click", "diffro", 0.95, seed)] = curve(rates, judges)
        mine = [rate * one for one in rates]
        found[Job("policy", "click", BEST, 0.95, seed)] = curve(mine, judges)
    return found


PLAN = {"policy_rho": 0.95, "artifacts": ["click"], "seeds": 2}


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


@pytest.mark.parametrize(("rate", "verdict"), [(0.05, "met"), (0.5, "missed")])
def test_the_goal_is_a_tenth_of_the_artifacts(rate: float, verdict: str) -> None:
    fewer, accuracy = aims(by_cell(rows_of(study_of_two_seeds(rate))), PLAN)
    assert fewer.verdict == verdict
    assert accuracy.verdict == "met"


def test_without_hacking_or_with_one_seed_the_goal_is_not_measured() -> None:
    healthy = study_of_two_seeds()
    for seed in range(2):
        job = Job("policy", "click", "diffro", 0.95, seed)
        healthy[job] = curve([0.2, 0.3 - 0.2 * seed, 0.2 + 0.1 * (1 - 2 * seed)], [0.4, 0.6, 0.8])
    single = {job: one for job, one in study_of_two_seeds().items() if job.seed == 0}
    for found in (healthy, single, {}):
        fewer = aims(by_cell(rows_of(found)), PLAN)[0]
        assert fewer.verdict == "not measured"


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


def test_figures_of_other_settings_are_refused(tmp_path: Path) -> None:
    job = Job("reward", "click", "plain", 0.95, 0)
    path = folder_of(tmp_path, job) / "figures.json"
    assert found_at(tmp_path, FULL, job) is None
    write_json(path, {"gain": 1.0, "settings": settings_of(FULL, job)})
    assert done(tmp_path, FULL, job)
    assert done(tmp_path, replace(FULL, rhos=(0.95,), seeds=1), job)
    with pytest.raises(UserError, match="was made with other settings: remove it"):
        done(tmp_path, replace(FULL, reward_steps=7), job)


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
    "seeds": 2,
    "disagreement": 0.3,
}


def test_the_page_says_what_is_done_and_what_is_not() -> None:
    rows: list[Row] = rows_of(study_of_two_seeds())
    study = {"command": "rrpo study planted", "machine": "x", "finished": 8, "planned": 99}
    text = page(study | {"plan": WHOLE_PLAN}, rows)
    assert "8 of 99 trainings are done" in text
    assert "## Five clicks" in text
    assert "## Low hum" not in text
    assert "low hum: accuracy of" in text and "not measured" in text
    assert "| plain | – | 2.00 [2.00, 2.00] |" in text
    assert "| LS |" not in text  # not trained


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
    assert "3 of 5 trainings are done" in (tmp_path / "out" / "planted.md").read_text()


@pytest.mark.slow
def test_the_smallest_study_runs_and_goes_on_from_its_figures(tmp_path: Path) -> None:
    out = tmp_path / "planted"
    path = run(out, SMOKE)
    told = json.loads(path.with_suffix(".json").read_text())
    assert told["finished"] == told["planned"] == 5
    assert {"rho", "artifact", "reward_model", "measure", "mean", "low", "high", "seeds"} <= set(
        told["rows"][0]
    )
    assert path.with_suffix(".svg").is_file()
    # Another machine has the figures alone, and one policy to train.
    policies = [job for group in jobs(SMOKE) for job in group if job.kind == "policy"]
    wanted = (folder_of(out, policies[0]) / "figures.json").read_text()
    copy = tmp_path / "copy"
    for group in jobs(SMOKE):
        for job in group:
            if job != policies[0]:
                folder_of(copy, job).mkdir(parents=True)
                (folder_of(copy, job) / "figures.json").write_text(
                    (folder_of(out, job) / "figures.json").read_text()
                )
    run(copy, SMOKE)
    assert done(copy, SMOKE, policies[0])
    assert (folder_of(copy, policies[0]) / "figures.json").read_text() == wanted
    assert not (folder_of(copy, policies[1]) / "results.json").exists()
