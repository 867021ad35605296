"""Intervals over speakers and trainings: against a loop, and how often they hold the truth."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import root
from scipy.special import log_softmax, softmax
from scipy.stats import norm, t
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from rrpo.errors import UserError
from rrpo.evaluate.confusion import accuracy, class_recall
from rrpo.evaluate.crossed import (
    Trials,
    cluster_draws,
    stratified_interval,
    training_draws,
    trial_figures,
    with_equal_classes,
)
from rrpo.evaluate.scored_trials import (
    ranking_figures,
    stratified_entropy,
    stratified_ranking,
)
from rrpo_world.artifacts.roc import area_under_roc


def heard(
    rng: np.random.Generator,
    speakers: int,
    skills: np.ndarray,
    spread: float = 0.0,
    trainings: tuple[tuple[str, int], ...] = (),
    takes: int = 40,
) -> Trials:
    """Trials whose trainings are right with given probabilities, speakers easier or harder."""
    names = np.repeat(np.arange(speakers), takes)
    labels = np.tile(np.arange(4), names.size // 4)
    ease = rng.normal(0, spread, speakers)[names]
    right = rng.random((skills.size, names.size)) < np.clip(skills[:, None] + ease, 0, 1)
    rows = np.where(right, labels, (labels + 1) % 4)
    return Trials(rows, labels, names.astype(str), trainings)


def score(trials: Trials) -> float:
    return float(np.mean([balanced_accuracy_score(trials.labels, r) for r in trials.predictions]))


def test_the_difference_is_the_mean_over_trainings_and_strata() -> None:
    rng = np.random.default_rng(5)
    one, other, last = (heard(rng, 6, rng.random(4)) for _ in range(3))
    found = stratified_interval([one, other], [last, last])
    assert found.mean == pytest.approx((score(one) + score(other)) / 2 - score(last))
    assert found.low < found.mean < found.high
    shares = stratified_interval([one], [last], figure=accuracy)
    expected = (one.predictions == one.labels).mean() - (last.predictions == last.labels).mean()
    assert shares.mean == pytest.approx(expected)
    same = stratified_interval([one], [one])
    assert (same.mean, same.low, same.high) == (0.0, 0.0, 0.0)


def test_the_order_of_trainings_does_not_matter_where_there_are_as_many_speakers() -> None:
    """Speakers and trainings are drawn from streams of their own."""
    skills = np.linspace(0.2, 0.9, 5)
    widths = []
    for order in (slice(None), slice(None, None, -1)):
        # Speaker g is heard rightly in a share of skills[g] more: both factors have an effect.
        names = np.repeat(np.arange(5), 40)
        labels = np.tile(np.arange(4), 50)
        right = np.arange(200) % 40 < 40 * (skills[order][:, None] + skills[names]) / 2
        rows = np.where(right, labels, (labels + 1) % 4)
        found = stratified_interval([Trials(rows, labels, names.astype(str))], resamples=8000)
        widths.append(found.high - found.low)
    assert widths[0] == pytest.approx(widths[1], rel=0.1)


def test_only_the_same_utterances_are_paired() -> None:
    one = heard(np.random.default_rng(1), 3, np.array([0.5]))
    with pytest.raises(UserError, match="same utterances"):
        stratified_interval([one], [Trials(one.predictions, one.labels[::-1], one.names)])


def test_a_class_that_is_neither_there_nor_heard_has_no_recall() -> None:
    only = Trials(np.array([[0, 1, 0, 1]]), np.array([0, 1, 1, 0]), np.array(list("aabb")))
    assert np.isnan(stratified_interval([only], figure=class_recall(2)).mean)


def test_the_resamples_are_those_of_a_loop() -> None:
    """One speaker and one training fewer than there are, drawn one by one."""
    rng = np.random.default_rng(7)
    trials = heard(rng, 8, np.array([0.3, 0.5, 0.8]), spread=0.1)
    ids = trials.names.astype(int)
    weights, degrees = training_draws([trials], 1, 8000)
    speakers = cluster_draws(8, np.random.default_rng(2), 8000)
    mean, draws = trial_figures(trials, ids, speakers, weights)
    assert (degrees, mean) == (2, pytest.approx(score(trials)))
    loop = []
    for _ in range(1500):
        chosen = np.concatenate([np.flatnonzero(ids == one) for one in rng.integers(8, size=7)])
        labels = trials.labels[chosen]
        right = trials.predictions[:, chosen][rng.integers(3, size=2)] == labels
        loop.append(np.mean([right[:, labels == k].mean() for k in range(4)]))
    assert draws.std() == pytest.approx(np.std(loop), rel=0.06)
    assert draws.mean() == pytest.approx(np.mean(loop), abs=0.01)
    found = stratified_interval([trials], seed=3, resamples=8000)
    # Two degrees of freedom, of three trainings.
    ends = np.quantile(loop, norm.cdf([-t.ppf(0.975, 2), t.ppf(0.975, 2)]))
    assert [found.low, found.high] == pytest.approx(ends.tolist(), abs=0.02)


def test_a_training_is_drawn_alike_wherever_it_is_tested() -> None:
    """Of two strata with the same trainings the spread is theirs; with others it is halved."""
    rng = np.random.default_rng(3)
    skills = rng.uniform(0.3, 0.9, 12)
    shared, own = tuple(("x", n) for n in range(12)), tuple(("y", n) for n in range(12))
    one = heard(rng, 40, skills, trainings=shared)
    together = stratified_interval([one, one])
    apart = stratified_interval([one, Trials(one.predictions, one.labels, one.names, own)])
    widths = [found.high - found.low for found in (together, apart)]
    assert widths[0] > 1.25 * widths[1]


def covered(trial: int, kind: str) -> bool:
    """Simulate one study and say whether its interval holds the true figure."""
    rng = np.random.default_rng(trial)
    if kind == "trainings":  # they differ by more than speakers do
        found = stratified_interval(
            [heard(rng, 10, rng.normal(0.6, 0.1, 6))], seed=trial, resamples=400
        )
        return found.low <= 0.6 <= found.high
    if kind == "paired":  # both find the same speakers hard; the second loses a tenth
        first = heard(rng, 12, np.full(2, 0.6), 0.15)
        damaged = rng.random(first.predictions.shape) < 0.1
        rows = np.where(damaged, (first.labels + 1) % 4, first.predictions)
        second = Trials(rows, first.labels, first.names)
        found = stratified_interval([first], [second], seed=trial, resamples=400)
        return found.low <= 0.06 <= found.high
    # Four languages with two or three speakers, each judged by the folds trained on it.
    folds = {name: rng.normal(0, 0.05, 5) for name in "abcd"}
    strata = []
    for name, speakers in zip("abcd", (2, 2, 2, 3), strict=True):
        judges = [other for other in folds if other != name]
        skills = 0.6 + np.concatenate([folds[other] for other in judges])
        keys = tuple((other, seed) for other in judges for seed in range(5))
        strata.append(heard(rng, speakers, skills, 0.08, keys))
    found = stratified_interval(strata, seed=trial, resamples=400)
    return found.low <= 0.6 <= found.high


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["trainings", "paired", "few speakers of each stratum"])
def test_95_of_100_intervals_hold_the_truth(kind: str) -> None:
    assert 183 <= sum(covered(trial, kind) for trial in range(200)) <= 200


def test_averaged_classifiers_do_not_count_as_more_trainings() -> None:
    """Four that learned from the same draws say no more of the next draw than one."""
    rng = np.random.default_rng(11)
    one = heard(rng, 30, rng.normal(0.6, 0.1, 5))
    keys = [("", seed) for seed in range(5)]
    four = Trials(np.tile(one.predictions, (4, 1)), one.labels, one.names, keys * 4)
    alone, together = stratified_interval([one]), stratified_interval([four])
    assert together == pytest.approx(alone)
    pretended = Trials(four.predictions, one.labels, one.names)
    taken = stratified_interval([pretended])
    assert taken.high - taken.low < 0.7 * (alone.high - alone.low)


def test_a_single_speaker_leaves_utterances_and_a_single_training_its_speakers() -> None:
    rng = np.random.default_rng(2)
    lone, many = heard(rng, 1, np.array([0.6])), heard(rng, 9, np.array([0.6]), 0.2)
    assert stratified_interval([lone]).low < stratified_interval([lone]).high
    assert stratified_interval([many]).low < stratified_interval([many]).high
    only = Trials(np.array([[1]]), np.array([1]), np.array(["a"]))
    assert not stratified_interval([only]).known  # of one utterance


def test_what_does_not_fit_is_the_users_mistake() -> None:
    names, labels = np.array(["a", "b"]), np.array([0, 1])
    for rows in (np.array([[0, 1, 1]]), np.array([0, 1])):
        with pytest.raises(UserError, match="a row of predictions for each training"):
            stratified_interval([Trials(rows, labels, names)])
    good = Trials(np.array([[0, 1]]), labels, names)
    with pytest.raises(UserError, match="2 trainings do not fit"):
        stratified_interval([Trials(good.predictions, labels, names, [("", 0), ("", 1)])])
    with pytest.raises(UserError, match="on the same utterances"):
        stratified_interval([good], [Trials(good.predictions, labels, names[::-1])])


def believed(rng: np.random.Generator, speakers: int, trainings: int, takes: int = 20) -> Trials:
    """Trials with scores, some of them tied, that prefer the true one of three classes."""
    names = np.repeat(np.arange(speakers), takes)
    labels = rng.integers(3, size=names.size)
    scores = rng.normal(size=(trainings, names.size, 3)).round(1)
    scores += (labels[:, None] == np.arange(3)) * rng.uniform(0.2, 1.5, (trainings, 1, 1)).round(1)
    scores = log_softmax(scores, axis=-1)
    return Trials(scores.argmax(-1), labels, names.astype(str), (), scores)


def area(labels: np.ndarray, scores: np.ndarray) -> float:
    """The mean over classes that are there and are not all there is, as scikit-learn has it."""
    return float(np.mean([roc_auc_score(labels == k, scores[:, k]) for k in np.unique(labels)]))


def test_the_ranking_is_the_area_under_the_curve_of_each_class() -> None:
    one, other = (believed(np.random.default_rng(seed), 5, 2) for seed in (0, 1))
    assert one.scores is not None and other.scores is not None
    own = np.mean([area(one.labels, row) for row in one.scores])
    assert stratified_ranking([one]).mean == pytest.approx(own)
    both = (own + np.mean([area(other.labels, row) for row in other.scores])) / 2
    assert stratified_ranking([one, other]).mean == pytest.approx(both)
    same = stratified_ranking([one], [one])
    assert (same.mean, same.low, same.high) == (0.0, 0.0, 0.0)
    # Whatever is added to a class leaves the ranking as it is, but for ties that rounding breaks.
    added = one.scores + np.array([3.0, 0.0, -1.0])
    louder = Trials(one.predictions, one.labels, one.names, (), added)
    assert stratified_ranking([louder], [one]).mean == pytest.approx(0.0, abs=1e-3)


def test_the_resamples_of_a_ranking_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(4)
    trials = believed(rng, 6, 3)
    assert trials.scores is not None
    ids = trials.names.astype(int)
    weights, _ = training_draws([trials], 1, 8000)
    speakers = cluster_draws(6, np.random.default_rng(2), 8000)
    _, draws = ranking_figures(trials, ids, speakers, weights)
    loop = []
    for _ in range(1500):
        chosen = np.concatenate([np.flatnonzero(ids == one) for one in rng.integers(6, size=5)])
        runs = rng.integers(3, size=2)
        labels, scores = trials.labels[chosen], trials.scores[:, chosen]
        figures = [
            area_under_roc(scores[run, labels == k, k], scores[run, labels != k, k])
            for run in runs
            for k in np.unique(labels)
        ]
        loop.append(np.mean(figures))
    assert draws.std() == pytest.approx(np.std(loop), rel=0.06)
    assert draws.mean() == pytest.approx(np.mean(loop), abs=0.01)


def test_a_class_that_a_resample_lacks_is_left_out_of_its_ranking() -> None:
    """Speaker b alone says class 2: of a alone the other two are ranked."""
    labels, names = np.array([0, 1, 0, 1, 2, 0]), np.array(list("aaaabb"))
    scores = log_softmax(np.random.default_rng(0).normal(size=(1, 6, 3)), axis=-1)
    trials = Trials(scores.argmax(-1), labels, names, (), scores)
    alone = np.array([[2.0, 0.0]])
    _, draws = ranking_figures(trials, np.array([0] * 4 + [1] * 2), alone, {("", 0): np.ones(1)})
    assert draws[0] == pytest.approx(area(labels[:4], scores[0, :4]))


def test_the_interval_of_a_ranking_holds_it() -> None:
    """Pairs within a cluster are in order, those between the two are not: resamples lack them."""
    labels, names = np.array([0, 1, 0, 1]), np.array(list("aabb"))
    first = np.array([0.6, 0.5, 0.4, 0.1])
    scores = np.log(np.stack([first, 1 - first], axis=-1))[None]
    trials = Trials(scores.argmax(-1), labels, names, (), scores)
    found = stratified_ranking([trials])
    assert found.low <= found.mean == area(labels, scores[0]) == 0.75 <= found.high


def test_a_class_that_is_impossible_cannot_be_weighed() -> None:
    trials = believed(np.random.default_rng(2), 4, 1)
    assert trials.scores is not None
    scores = trials.scores.copy()
    scores[0, :, 1] = -np.inf
    with pytest.raises(UserError, match="impossible for every utterance"):
        with_equal_classes(Trials(trials.predictions, trials.labels, trials.names, (), scores))
    # One that is next to impossible can.
    scores[0, :, 1] = trials.scores[0, :, 1] - 800.0
    far = with_equal_classes(Trials(trials.predictions, trials.labels, trials.names, (), scores))
    assert np.array_equal(far.predictions, with_equal_classes(trials).predictions)


def test_classes_are_made_equal_whatever_was_preferred() -> None:
    trials = believed(np.random.default_rng(2), 4, 2)
    assert trials.scores is not None
    equal = with_equal_classes(trials)
    added = trials.scores + np.array([2.0, 0.0, -1.0])
    preferring = Trials(trials.predictions, trials.labels, trials.names, (), added)
    assert np.array_equal(with_equal_classes(preferring).predictions, equal.predictions)
    # Against the roots of the equations, found otherwise.
    for scores, choices in zip(trials.scores, equal.predictions, strict=True):

        def excess(bias: np.ndarray, scores: np.ndarray = scores) -> np.ndarray:
            return softmax(scores + np.array([*bias, 0.0]), axis=-1).mean(0)[:2] - 1 / 3

        found = root(excess, np.zeros(2), tol=1e-12)
        assert found.success
        assert np.array_equal((scores + np.array([*found.x, 0.0])).argmax(-1), choices)


def test_choices_alone_cannot_be_ranked() -> None:
    trials = heard(np.random.default_rng(1), 3, np.array([0.5]))
    for figure in (stratified_ranking, lambda strata: with_equal_classes(strata[0])):
        with pytest.raises(UserError, match="no scores"):
            figure([trials])
    scores = np.zeros((2, trials.labels.size, 4))
    with pytest.raises(UserError, match="do not fit"):
        stratified_ranking([Trials(trials.predictions, trials.labels, trials.names, (), scores)])


def spoken(rng: np.random.Generator, ease: float, spread: float) -> Trials:
    """Eight speakers who each say ten sentences four times; sentences differ by `ease`."""
    speakers, sentences = np.repeat(np.arange(8), 40), np.tile(np.repeat(np.arange(10), 4), 8)
    labels = np.tile(np.arange(4), 80)
    chance = 0.6 + rng.normal(0, spread, 8)[speakers] + rng.normal(0, ease, 10)[sentences]
    right = rng.random((8, labels.size)) < np.clip(chance, 0.02, 0.98)
    rows = np.where(right, labels, (labels + 1) % 4)
    names = speakers.astype(str)
    return Trials(rows, labels, names, sentences=sentences.astype(str))


def test_intervals_over_sentences_cover_and_those_over_speakers_alone_do_not() -> None:
    held = np.zeros(2)
    for trial in range(120):
        one = spoken(np.random.default_rng(trial), 0.15, 0.05)
        for place, found in enumerate((one, replace(one, sentences=None))):
            value = stratified_interval([found], seed=trial, resamples=300)
            held[place] += value.low <= 0.6 <= value.high
    assert held[0] / 120 > 0.93
    assert held[1] / 120 < 0.85


def test_few_sentences_are_fixed() -> None:
    rng = np.random.default_rng(0)
    one = heard(rng, 6, np.full(3, 0.5))
    two = replace(one, sentences=np.arange(one.labels.size).astype(str) == "0")
    assert stratified_interval([one]) == stratified_interval([two])


def test_the_cross_entropy_is_the_mean_cost_of_the_truth() -> None:
    rng = np.random.default_rng(4)
    trials = heard(rng, 6, np.full(3, 0.5))
    scores = log_softmax(rng.normal(size=(*trials.predictions.shape, 4)), axis=-1)
    trials = replace(trials, scores=scores)
    value = stratified_entropy([trials])
    assert trials.scores is not None
    own = trials.scores[:, np.arange(trials.labels.size), trials.labels]
    assert value.mean == pytest.approx(-own.mean())
    assert value.low < value.mean < value.high
    same = stratified_entropy([trials], [trials])
    assert (same.low, same.mean, same.high) == (0.0, 0.0, 0.0)
    with pytest.raises(UserError, match="nothing has a probability"):
        stratified_entropy([heard(rng, 3, np.array([0.5]))])
