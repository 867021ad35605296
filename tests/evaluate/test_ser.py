"""Reward models as recognisers of emotion: figures against scikit-learn, warnings, Table 2."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn import metrics

from rrpo import config, reward, reward_eval
from rrpo.data.shards import Utterance, write_shard
from rrpo.errors import UserError
from rrpo.evaluate.ser import (
    MEASURES,
    Recognition,
    by_measure,
    difference,
    evaluate,
    recognise,
    report,
    scored_rows,
    share_interval,
)
from rrpo.files import read_json, write_json
from rrpo.interval import Interval, exactly
from rrpo.loading import describe
from rrpo.report import write_run_page
from rrpo.report.heatmap import heatmap_svg
from rrpo.report.recognition import (
    emotion_table,
    find_collapses,
    group_table,
    notes,
    set_table,
)
from rrpo.report.table2 import PAPER, table2
from rrpo.reward import RewardConfig, RewardModel
from rrpo.reward.config import FitConfig, RewardRun, subsets

CLASSES = ["calm", "angry", "sad"]
SHAPE = RewardConfig(
    width=16, layers=1, heads=2, feedforward=32, codes=81, tasks={"emotion": CLASSES}
)
HOSTILE = "<script>alert(\"x\")</script> & 'quoted'"


def model_of(classes: list[str], seed: int = 0) -> RewardModel:
    """An untrained reward model whose posteriors spread over its classes."""
    torch.manual_seed(seed)
    model = RewardModel(SHAPE.model_copy(update={"tasks": {"emotion": classes}})).eval()
    with torch.no_grad():
        model.head["emotion"].weight.mul_(4.0)
    return model


def corpus(
    count: int = 60, emotions: list[str] = CLASSES, languages: tuple[str, ...] = ("en", "de")
) -> list[Utterance]:
    """Utterances of six speakers, the first of whom speak the first language."""
    rng = np.random.default_rng(0)
    return [
        Utterance(
            f"{index}",
            "",
            emotions[int(rng.integers(len(emotions)))],
            rng.integers(81, size=int(rng.integers(4, 15))),
            speaker=f"speaker {index % 6}",
            language=languages[index % 6 * len(languages) // 6],
        )
        for index in range(count)
    ]


def recognised(
    labels: list[int],
    guesses: list[int],
    classes: list[str] = CLASSES,
    sure: float = 0.5,
    speakers: list[str] | None = None,
    languages: list[str] | None = None,
) -> Recognition:
    """A recognition whose choices are given, each made with the same confidence."""
    rest = (1 - sure) / (len(classes) - 1)
    posteriors = np.full((len(labels), len(classes)), rest)
    posteriors[np.arange(len(labels)), guesses] = sure
    return Recognition(
        classes,
        np.array(labels),
        np.log(posteriors),
        np.array(speakers or [""] * len(labels)),
        np.array(languages or [""] * len(labels)),
    )


def test_the_figures_are_scikit_learns() -> None:
    found = recognise(model_of(CLASSES), corpus())
    made = report(found)
    truth, guess = found.labels, found.predictions
    assert 0.2 < made["accuracy"].mean < 0.8  # otherwise the comparison says little
    assert made["accuracy"].mean == pytest.approx(metrics.accuracy_score(truth, guess))
    wanted = metrics.balanced_accuracy_score(truth, guess)
    assert made["unweighted_average_recall"].mean == pytest.approx(wanted)
    wanted = metrics.f1_score(truth, guess, average="macro", zero_division=0)
    assert made["macro_f1"].mean == pytest.approx(wanted)
    wanted = metrics.roc_auc_score(truth, np.exp(found.log_posteriors), multi_class="ovr")
    assert made["area_under_roc"].mean == pytest.approx(wanted)
    assert made["confusion"] == metrics.confusion_matrix(truth, guess).tolist()
    loss = metrics.log_loss(truth, np.exp(found.log_posteriors))
    assert made["mean_log_posterior"].mean == pytest.approx(-loss)
    recalls = metrics.recall_score(truth, guess, average=None)
    assert [made["emotions"][name]["recall"].mean for name in CLASSES] == pytest.approx(recalls)
    assert [made["emotions"][name]["predicted"].mean for name in CLASSES] == pytest.approx(
        np.bincount(guess, minlength=3) / 60
    )
    assert made["chance"] == pytest.approx(1 / 3)


def test_the_calibration_error_is_the_sum_over_bins() -> None:
    found = recognise(model_of(CLASSES), corpus())
    error = 0.0
    for low in np.arange(15) / 15:
        inside = [
            (np.exp(posterior.max()), posterior.argmax() == label)
            for posterior, label in zip(found.log_posteriors, found.labels, strict=True)
            if low < np.exp(posterior.max()) <= low + 1 / 15
        ]
        if inside:
            confidence, correct = np.mean(inside, axis=0)
            error += len(inside) / 60 * abs(confidence - correct)
    made = report(found)["calibration_error"]
    assert made.mean == pytest.approx(error)
    assert 0.0 <= made.low < made.mean < made.high <= 1.0


def test_the_interval_of_a_small_calibration_error_holds_it() -> None:
    """Resampling adds noise, and an absolute value grows with it: the interval must not."""
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.5, 1.0, 400)
    labels = np.where(rng.random(400) < sure, 0, 1)
    found = Recognition(
        ["a", "b"],
        labels,
        np.log(np.column_stack([sure, 1 - sure])),
        np.array([""] * 400),
        np.array([""] * 400),
    )
    made = report(found)["calibration_error"]
    assert made.mean < 0.06
    assert made.low < made.mean < made.high < 0.12


def test_groups_are_tested_as_if_they_were_alone() -> None:
    found = recognise(model_of(CLASSES), corpus())
    made = report(found)
    assert set(made["languages"]) == {"en", "de"}
    assert set(made["speakers"]) == {f"speaker {index}" for index in range(6)}
    for kind, names in (("languages", found.languages), ("speakers", found.speakers)):
        for name, figures in made[kind].items():
            mine = names == name
            truth, guess = found.labels[mine], found.predictions[mine]
            wanted = metrics.recall_score(
                truth, guess, labels=np.unique(truth), average="macro", zero_division=0
            )
            assert figures["unweighted_average_recall"].mean == pytest.approx(wanted)
            assert figures["count"] == mine.sum()
    assert (made["interval_over"], made["clusters"]) == ("speakers", 6)
    assert made["languages"]["en"]["interval_over"] == "speakers"
    assert made["languages"]["en"]["clusters"] == 3
    assert made["speakers"]["speaker 0"]["interval_over"] == "utterances"
    assert made["speakers"]["speaker 0"]["clusters"] == 10


def test_alike_utterances_of_a_speaker_widen_the_interval() -> None:
    """Each of eight speakers is always right or always wrong: there are only eight observations."""
    labels = [index % 2 for index in range(160)]
    guesses = [label ^ (index // 20 % 2) for index, label in enumerate(labels)]
    names = [f"{index // 20}" for index in range(160)]
    widths = []
    for speakers in (names, [""] * 160):
        made = report(recognised(labels, guesses, ["a", "b"], 0.6, speakers))["accuracy"]
        assert made.mean == 0.5
        widths.append(made.high - made.low)
    assert widths[0] > 3 * widths[1]


def test_a_difference_is_paired() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(3, size=120)
    speakers = [f"speaker {index % 12}" for index in range(120)]
    guesses = np.where(rng.random(120) < 0.6, labels, 2)
    better = np.where(rng.random(120) < 0.15, labels, guesses)
    worse, good = (recognised(labels, one, speakers=speakers) for one in (guesses, better))
    found = difference(good, worse)
    expected = [metrics.balanced_accuracy_score(labels, one) for one in (better, guesses)]
    assert found.mean == pytest.approx(expected[0] - expected[1])
    assert found.low > 0
    # What both find hard cancels: the interval is narrower than that of either.
    alone = report(worse)["unweighted_average_recall"]
    assert found.high - found.low < alone.high - alone.low
    assert difference(good, good) == exactly(0.0)
    with pytest.raises(UserError, match="the same emotions"):
        difference(good, recognised(labels[::-1], guesses, speakers=speakers))


def test_a_class_that_is_missing_has_no_recall_and_one_never_chosen_has_none_right() -> None:
    made = report(recognised([0, 0, 0, 0, 1, 1], [0, 0, 0, 2, 0, 2]))
    assert made["unweighted_average_recall"].mean == pytest.approx((0.75 + 0.0) / 2)
    assert made["emotions"]["sad"] == {
        "count": 0,
        "recall": None,
        "predicted": made["emotions"]["sad"]["predicted"],
    }
    assert made["emotions"]["angry"]["recall"].mean == 0.0
    assert made["chance"] == pytest.approx(1 / 3)  # it chose among three
    assert find_collapses({"x": made})  # and the missing class is no stumbling block
    assert "–" in [cell.text for row in emotion_table({"x": made}).rows for cell in row.cells]


def test_a_share_of_all_or_none_has_wilsons_interval() -> None:
    for hits in (0, 12):
        wanted = binomtest(hits // 2, 6).proportion_ci(method="wilson")  # of six speakers
        found = share_interval(np.full(12, hits > 0), np.array(list("aabbccddeeff")))
        assert (found.mean, found.low, found.high) == (
            hits / 12,
            wanted.low,
            wanted.high,
        )
    made = report(recognised([0, 1, 2], [0, 1, 2]))
    assert made["unweighted_average_recall"].low < 0.6
    # Of a perfect ranking of 4, 2 and 2: as of two utterances in order.
    made = report(recognised([0, 0, 0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 1, 1, 2, 2]))
    assert made["area_under_roc"].mean == 1.0
    assert made["area_under_roc"].low == binomtest(2, 2).proportion_ci(method="wilson").low


def test_where_resamples_are_all_alike_the_area_has_no_ends() -> None:
    """Of two speakers one says a single emotion, so that only the other can be drawn."""
    guesses = [0, 0, 1, 1, 2, 2, 0, 1, 0, 0]
    labels, speakers = [0, 1, 1, 2, 2, 0, 0, 1, 0, 0], ["a"] * 8 + ["b"] * 2
    found = report(recognised(labels, guesses, speakers=speakers))["area_under_roc"]
    assert 0.0 < found.mean < 1.0 and not found.known


def test_the_choice_is_among_the_classes_both_sides_share() -> None:
    """A model that prefers a class the data lacks, and data with emotions the model lacks."""
    model = model_of([*CLASSES, "bored"], seed=3)
    with torch.no_grad():
        model.head["emotion"].bias[3] = 50.0
    rows = corpus(80, ["calm", "angry", "proud", "shy"])
    found = recognise(model, rows)
    assert found.classes == ["calm", "angry"]
    assert found.untested == ["sad", "bored"]
    assert sum(found.left_out.values()) == sum(row.emotion in ("proud", "shy") for row in rows)
    assert set(found.left_out) == {"proud", "shy"}
    np.testing.assert_allclose(np.exp(found.log_posteriors).sum(axis=1), 1.0)
    assert set(found.predictions.tolist()) == {0, 1}
    scored, _ = scored_rows(model, rows)
    logits = torch.stack(
        [
            model(torch.from_numpy(row.tokens)[None], torch.ones(1, row.tokens.size).bool())[0]
            for row in scored
        ]
    )
    assert found.predictions.tolist() == logits[:, :2].argmax(-1).tolist()
    [note] = notes({"x": report(found)})
    for part in ("proud (", "shy (", "never chosen: sad, bored", "of 2 emotions"):
        assert part in note


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no utterances"),
        (corpus(9, ["proud", "shy"]), "found proud, shy, it knows calm, angry, sad"),
        (corpus(9, ["proud", "sad"]), "is 'sad': a test needs at least two"),
        ([*corpus(9), Utterance("odd", "", "", np.array([1]))], "1 of 10 .* first is 'odd'"),
        ([*corpus(9), Utterance("odd", "", "sad", np.array([81]))], "token outside"),
    ],
)
def test_data_that_cannot_test_a_model_is_refused(rows: list[Utterance], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate(model_of(CLASSES), rows)


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    found = recognised([0, 1], [0, 1])
    with pytest.raises(UserError, match="one of each"):
        report(replace(found, speakers=np.array(["a"])))
    with pytest.raises(UserError, match="NaN"):
        report(replace(found, log_posteriors=np.full((2, 3), np.nan)))
    with pytest.raises(UserError, match="outside"):
        report(replace(found, labels=np.array([0, 3])))


def test_measures_are_the_reports_turned_round() -> None:
    made = report(recognised([0, 1], [0, 1]))
    turned = by_measure({"one": made, "two": made})
    assert set(turned) == set(MEASURES)
    assert turned["accuracy"] == {"one": made["accuracy"], "two": made["accuracy"]}


def subjects(found: Recognition | dict[str, Recognition]) -> dict[str, bool]:
    """What the warnings are about, and whether each is clear."""
    named = found if isinstance(found, dict) else {"x": found}
    cautions = find_collapses({name: report(one) for name, one in named.items()})
    return {caution.subject: caution.significant for caution in cautions}


def mixed(rights: list[int], of: int, takes: int | None = None) -> Recognition:
    """Classes of `of` utterances each, some right, the others taken for the next or for `takes`."""
    labels, guesses = [], []
    for label, right in enumerate(rights):
        labels += [label] * of
        other = (label + 1) % len(rights) if takes is None else takes
        guesses += [label] * right + [other] * (of - right)
    classes = [f"class {index}" for index in range(len(rights))]
    share = sum(label == guess for label, guess in zip(labels, guesses, strict=True)) / len(labels)
    return recognised(labels, guesses, classes, min(max(share, 0.3), 0.99))


def test_a_good_recogniser_gives_no_warning() -> None:
    assert subjects(mixed([40, 35, 38, 30], 50)) == {}


@pytest.mark.parametrize(
    ("right", "warned"),
    [(0, True), (2, True), (6, True), (7, False)],  # chance is 1/4, half of it 6.25 of 50
)
def test_a_class_whose_recall_is_under_half_of_chance_is_lost(right: int, warned: bool) -> None:
    found = subjects(mixed([45, 45, 45, right], 50))
    assert ("Emotions lost on x" in found) == warned
    if warned:
        assert found["Emotions lost on x"] == (right < 3)


def test_a_class_that_swallows_the_others_is_named() -> None:
    """0.25 + 0.75 · 0.6 = 0.7 of the utterances are taken for the first class, 0.25 are of it."""
    assert subjects(mixed([50, 20, 20, 20], 50, takes=0)) == {"Everything is class 0 on x": True}
    few = subjects(mixed([5, 2, 2, 2], 5, takes=0))  # the same of twenty utterances may be chance
    assert few == {"Everything is class 0 on x": False}
    # 0.5 + 0.5 · 0.3: more than 0.6, but half of the utterances are of that class.
    assert subjects(mixed([50, 35], 50, takes=0)) == {}


@pytest.mark.slow
def test_a_language_that_is_far_behind_is_named_with_the_best() -> None:
    good, poor = mixed([45, 45, 45, 45], 50), mixed([30, 24, 20, 26], 50)
    english = replace(good, languages=np.array(["en"] * 200))
    polish = replace(poor, languages=np.array(["pl"] * 200))
    assert subjects({"train": english, "abroad": polish}) == {"Language pl on abroad": True}
    again = replace(poor, languages=np.array(["en"] * 200))  # not a matter of the language
    assert subjects({"train": english, "abroad": again}) == {}
    together = Recognition(
        good.classes,
        np.concatenate([good.labels, poor.labels]),
        np.concatenate([good.log_posteriors, poor.log_posteriors]),
        np.array([""] * 400),
        np.array(["en"] * 200 + ["pl"] * 200),
    )
    assert subjects(together) == {"Language pl on x": True}
    [caution] = find_collapses({"x": report(together)})
    assert "0.50 [" in caution.text and "against 0.90 [" in caution.text
    assert "(chance 0.25) in en (x)" in caution.text


def test_recalls_of_few_and_of_many_classes_are_compared_above_chance() -> None:
    """0.75 of two classes and 0.58 of six are both half of the way from chance to perfect."""
    two = replace(mixed([38, 37], 50), languages=np.array(["en"] * 100))
    six = replace(mixed([30, 29, 29, 29, 29, 29], 50), languages=np.array(["pl"] * 300))
    assert "Language pl on b" not in subjects({"a": two, "b": six})
    plain = replace(mixed([20, 19, 19, 19, 19, 19], 50), languages=np.array(["pl"] * 300))
    assert "Language pl on b" in subjects({"a": two, "b": plain})


def test_chance_is_a_collapse_of_the_language_and_of_a_set_that_names_none() -> None:
    rng = np.random.default_rng(0)
    labels = [0, 1] * 100
    found = recognised(labels, rng.integers(2, size=200).tolist(), ["a", "b"], 0.6)
    assert subjects(replace(found, languages=np.array(["en"] * 200))) == {
        "Language en on x": False  # the interval reaches over a tenth above chance
    }
    many = recognised(labels * 20, rng.integers(2, size=4000).tolist(), ["a", "b"], 0.6)
    assert subjects(many) == {"x": True}


@pytest.mark.parametrize(("sure", "warned"), [(0.9, False), (0.99, False), (0.65, True)])
def test_confidence_that_differs_from_accuracy_is_poor_calibration(
    sure: float, warned: bool
) -> None:
    found = recognised([0, 1, 2] * 40, ([0, 1, 2] * 36) + [1, 2, 0] * 4, sure=sure)
    assert subjects(found) == ({"Calibration on x": True} if warned else {})


def test_tables_hold_every_set_emotion_language_and_speaker() -> None:
    reports = {
        "here": report(recognise(model_of(CLASSES), corpus())),
        "there": report(recognised([0, 1], [0, 0], ["angry", "proud"], languages=["pl", ""])),
    }
    assert [row.label for row in set_table(reports).rows] == ["here", "there"]
    emotions = emotion_table(reports)
    assert [row.label for row in emotions.rows] == [*CLASSES, "proud"]
    cells = {row.label: [cell.text for cell in row.cells] for row in emotions.rows}
    assert cells["calm"][1] == "–" and cells["proud"][0] == "–" and cells["proud"][1] == "0.00"
    languages = group_table(reports, "languages")
    assert languages is not None
    assert [row.label for row in languages.rows] == ["here", "de", "en", "there", "not named", "pl"]
    speakers = group_table(reports, "speakers")
    assert speakers is not None
    assert len(speakers.rows) == 7
    assert group_table({"there": reports["there"]}, "speakers") is None


def test_table_2_keeps_the_papers_figures_apart() -> None:
    figure = Interval(0.5, 0.4, 0.625)
    other = Interval(0.75, 0.7, 0.8)
    cell = {"unweighted_average_recall": figure, "accuracy": other}
    text = table2({"Plain": {"en": cell, "zh": cell}, "LS + EAM": {"en": cell}})
    ours, paper = text.split("The paper's own figures")
    assert ours.count("| Plain | 0.50 [0.40, 0.62] | 0.50 [0.40, 0.62] |") == 1
    assert ours.count("| Plain | 0.75 [0.70, 0.80] | 0.75 [0.70, 0.80] |") == 1
    assert "| LS + EAM | 0.50 [0.40, 0.62] | – |" in ours
    assert "IEMOCAP" not in ours and "Plain" not in paper
    assert "| + LS | 66.8 | 51.4 | 72.8 |" in paper
    assert len(PAPER) == 4


def test_a_confusion_matrix_is_drawn_by_shares_of_its_rows() -> None:
    svg = heatmap_svg("<title>", [HOSTILE, "b", "c"], [[3, 1, 0], [0, 8, 0], [0, 0, 0]])
    assert "<script>" not in svg
    tree = ElementTree.fromstring(svg)
    cells = [node for node in tree.iter() if node.get("class") == "heat"]
    shares = [float(str(node.get("style")).split(":")[1]) for node in cells]
    assert shares == pytest.approx([0.375, 0.125, 0, 0, 0.5, 0, 0, 0, 0])
    texts = [node.text for node in tree.iter() if str(node.get("class")).startswith("share")]
    assert texts == ["0.75", "0.25", "1.00"]
    assert str(cells[1][0].text).endswith("taken for b: 1 of 4")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, list[Path]]:
    """A shard in two folders of the same name, and runs: hardened, plain, and no run of ours."""
    for name in ("one", "two"):
        write_shard(tmp_path / name / "tokens" / "0.parquet", corpus(), "own")
    found = []
    for index, subset in enumerate(("ls_eam_adv", "plain", "")):
        folder = tmp_path / (f"run-{subset}" if subset else "other")
        where = folder / "checkpoint" if subset else folder
        model = model_of(CLASSES, seed=index)
        model.config = model.config.model_copy(update={"codec": "own"})
        reward.save(model, where)
        if subset:
            config.dump(RewardRun(fit=subsets()[subset]), folder / "config.yaml")
            write_json(folder / "results.json", {"schema": 1, "kind": "reward"})
        found.append(folder)
    return tmp_path, found


def test_a_test_on_the_training_data_is_told(
    folders: tuple[Path, list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, found = folders
    write_json(found[0] / "inputs.json", describe(data=root / "one" / "tokens"))
    reward_eval.evaluate([str(found[0])], [root / "one" / "tokens"])
    assert f"{found[0]} was trained on {root / 'one' / 'tokens'}" in capsys.readouterr().out
    write_shard(root / "three" / "0.parquet", corpus()[:-1], "own")
    reward_eval.evaluate([str(found[0])], [root / "three"])
    assert "was trained on" not in capsys.readouterr().out


def test_several_reward_models_make_table_2(
    folders: tuple[Path, list[Path]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    root, found = folders
    data = [root / "one" / "tokens", root / "two" / "tokens"]
    reward_eval.evaluate([str(folder) for folder in found], data)
    printed = capsys.readouterr().out
    places = [printed.index(f"│ {name}") for name in ("Plain", "LS + EAM + Adv", "other")]
    assert places == sorted(places)
    assert "warning: Plain: " in printed
    assert "Unweighted accuracy less that of Plain, paired" in printed
    assert "60 utterances" not in printed  # every emotion was scored: nothing to say
    for folder in found[:2]:
        results = read_json(folder / "results.json")
        assert results["kind"] == "reward"
        evaluation = results["evaluation"]
        assert set(evaluation["reports"]) == {"one/tokens", "two/tokens"}
        assert set(evaluation["robustness"]) == {"FGM 0.5", "FGM 4", "20 % random tokens"}
        page = (folder / "report.html").read_text(encoding="utf-8")
        assert "Emotion recognition by test set" in page
        assert "speaker 5" in page and 'class="heat"' in page
    assert not (found[2] / "report.html").exists()


def test_one_reward_model_is_shown_in_detail(
    folders: tuple[Path, list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, found = folders
    reward_eval.evaluate([str(found[1])], [root / "one" / "tokens" / "0.parquet"])
    printed = capsys.readouterr().out
    assert "0: 60 utterances of 3 emotions in de and en; intervals over its 6 speakers." in printed
    with pytest.raises(UserError, match=r"plain on tokens: no utterance has an emotion"):
        write_shard(root / "odd" / "tokens" / "0.parquet", corpus(9, ["proud", "shy"]), "own")
        reward_eval.evaluate([str(found[1])], [root / "odd" / "tokens"])


def test_equal_settings_are_told_apart_by_their_folders(
    folders: tuple[Path, list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, found = folders
    config.dump(
        RewardRun(fit=FitConfig(label_smoothing=0.2)), found[1] / "config.yaml"
    )  # the same regularizers, another constant
    reward_eval.evaluate([str(folder) for folder in found[:2]], [root / "one" / "tokens"])
    printed = "".join(capsys.readouterr().out.split())
    assert printed.count("warning:LS+EAM+Adv(") >= 2


def test_the_page_of_a_run_escapes_what_data_names(tmp_path: Path) -> None:
    classes = [HOSTILE, "b"]
    made = report(recognised([0, 1, 1], [0, 0, 0], classes, speakers=[HOSTILE, "x", "y"]))
    write_json(tmp_path / "results.json", {"evaluation": {"reports": {HOSTILE: made}}})
    page = write_run_page(tmp_path).read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "Beyond a bound, but the interval reaches across it" in page
    assert page.count("&lt;script&gt;") > 5
