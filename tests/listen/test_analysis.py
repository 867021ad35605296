"""What is made of simulated listeners' answers, whose truth is known."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

pytest.importorskip("pyloudnorm", reason="needs pyloudnorm: pip install 'rrpo[listen]'")
pytest.importorskip("statsmodels", reason="needs statsmodels: pip install 'rrpo[listen]'")
pytest.importorskip("choix", reason="needs choix: pip install 'rrpo[listen]'")
from recorded_systems import built
from rrpo import audio
from rrpo.errors import UserError
from rrpo.files import read_json, sha256, write_json
from rrpo.interval import Interval
from rrpo.listen.analysis import analyze
from rrpo.listen.answers import judgements
from rrpo.listen.design import DESIGN, Design, sound_file
from rrpo.listen.judged import FILE, judge_sounds, rank_correlation
from rrpo.listen.power import Variances
from rrpo.listen.ratings import Answer, Ratings
from rrpo.listen.terminal import print_analysis
from rrpo_studies.simulated_listeners import Crowd, Opinion

CALM = Variances(0.05, 0.02, 0.01, 0.01, 0.02, 0.1)
MEANS = {"alpha": 2.5, "beta": 3.5}
OPINION = Opinion(dict.fromkeys(("emotion", "naturalness"), MEANS), CALM)


def holds(interval: Interval, value: float) -> bool:
    return interval.low <= value <= interval.high


@pytest.fixture(scope="module")
def analysed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Design, Any]:
    """A test of the paper's kind with twelve listeners, the last of them careless."""
    folder = tmp_path_factory.mktemp("analysed")
    design = built(folder, title="<script>alert(1)</script>")
    ratings = Crowd(design, OPINION).ratings(12, careless=1)
    return folder / "test", design, analyze(folder / "test", ratings, judges=False)


def test_the_truth_is_found(analysed: tuple[Path, Design, Any]) -> None:
    _, _, figures = analysed
    for name in ("emotion", "naturalness"):
        found = figures["questions"][name]
        assert found["systems"].keys() == {"alpha", "beta", "reference", "anchor"}
        assert holds(found["systems"]["alpha"], 2.5) and holds(found["systems"]["beta"], 3.5)
        assert holds(found["differences"]["beta − alpha"], 1.0)
        assert found["differences"]["beta − alpha"].significant
        assert found["by_emotion"].keys() == {"happy", "sad"}
        assert 0.3 < found["alpha"] < 1.0
        mixed = found["mixed_model"]["means"]
        for system in ("alpha", "beta"):
            assert mixed[system].mean == pytest.approx(found["systems"][system].mean, abs=0.1)


def test_the_careless_listener_is_left_out_and_the_effect_of_that_is_shown(
    analysed: tuple[Path, Design, Any],
) -> None:
    _, _, figures = analysed
    assert figures["listeners"] == {"took_part": 12, "finished": 12, "analysed": 11}
    assert list(figures["excluded"]) == ["L12"]
    assert "attention checks wrong" in figures["excluded"]["L12"][0]
    found = figures["questions"]["emotion"]
    assert found["with_everybody"]["alpha"].mean != found["systems"]["alpha"].mean


def test_files_hold_the_same_figures(analysed: tuple[Path, Design, Any]) -> None:
    test, design, figures = analysed
    stored = json.loads((test / "analysis.json").read_text())
    mean = figures["questions"]["emotion"]["systems"]["alpha"].mean
    assert stored["questions"]["emotion"]["systems"]["alpha"]["mean"] == mean
    with (test / "analysis.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    (row,) = [r for r in rows if (r["question"], r["figure"], r["emotion"], r["name"])
              == ("emotion", "systems", "", "alpha")]  # fmt: skip
    assert float(row["mean"]) == pytest.approx(mean, abs=1e-4)
    with (test / "ratings.csv").open(newline="") as stream:
        ratings = list(csv.DictReader(stream))
    pages = {page.id: page for page in design.pages}
    asked = sum(len(pages[name].questions) for i in range(12)
                for name in design.orders[i % len(design.orders)])  # fmt: skip
    assert len(ratings) == asked
    assert {row["listener"] for row in ratings if row["left_out"]} == {"L12"}
    assert "simulated" not in (test / "ratings.csv").read_text()


def test_the_page_is_whole_and_asks_nothing_of_a_network(
    analysed: tuple[Path, Design, Any],
) -> None:
    page = (analysed[0] / "analysis.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
    assert "default-src 'none'" in page and "http://" not in page and "https://" not in page
    for part in ("Hidden reference", "Low anchor", "L12:", "Krippendorff", "Mixed model", "<svg"):
        assert part in page


def test_the_table_fits_a_terminal(
    analysed: tuple[Path, Design, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    print_analysis(analysed[2], Console(width=80))
    shown = capsys.readouterr().out
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert "E-MOS" in shown and "beta − alpha" in shown and "left out: L12" in shown


def test_what_was_planned_is_told_in_numbers(analysed: tuple[Path, Design, Any]) -> None:
    folder, design, _ = analysed
    page = (folder / "analysis.html").read_text(encoding="utf-8")
    planned = design.planned
    assert f"<p>{planned['listeners']} listeners and {planned['items']} items find" in page
    assert "built-in" not in page


def test_too_few_listeners_or_items_are_a_warning(
    analysed: tuple[Path, Design, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert analysed[2]["cautions"] == ["under 5 items, so without intervals: happy, sad"]
    design = built(tmp_path)
    figures = analyze(tmp_path / "test", Crowd(design, OPINION).ratings(3), judges=False)
    (warning,) = figures["cautions"]
    assert warning == "too few for intervals: 3 of 5 listeners"
    print_analysis(figures, Console(width=80))
    assert f"warning: {warning}" in capsys.readouterr().out
    page = (tmp_path / "test" / "analysis.html").read_text(encoding="utf-8")
    assert f'<p class="notice">{warning}</p>' in page


def test_a_half_finished_test_is_analysed(tmp_path: Path) -> None:
    design = built(tmp_path)
    whole = Crowd(design, OPINION).ratings(3)
    met = {one.id: design.orders[one.order] for one in whole.listeners}
    some = [one for one in whole.answers if met[one.listener].index(one.page) < 12]
    people = [replace(one, finished=False) for one in whole.listeners]
    figures = analyze(tmp_path / "test", Ratings(people, some), judges=False)
    assert figures["listeners"] == {"took_part": 3, "finished": 0, "analysed": 3}
    one = [answer for answer in some if answer.listener == people[0].id]
    alone = analyze(tmp_path / "test", Ratings(people[:1], one), judges=False)
    assert alone["listeners"]["analysed"] == 1


def test_without_ratings_or_with_nobody_left_there_is_one_line(tmp_path: Path) -> None:
    design = built(tmp_path)
    with pytest.raises(UserError, match="has no ratings yet"):
        analyze(tmp_path / "test", Ratings([], []), judges=False)
    careless = Crowd(design, OPINION).ratings(2, careless=2)
    with pytest.raises(UserError, match="all listeners are left out") as told:
        analyze(tmp_path / "test", careless, judges=False)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "test" / "analysis.json").exists()


@pytest.mark.parametrize("template", ["cmos", "preference"])
def test_pairs_are_counted_whichever_was_first(tmp_path: Path, template: str) -> None:
    design = built(tmp_path, systems=3, template=template)
    means = {"alpha": 2.5, "beta": 3.5, "gamma": 3.5}
    opinion = Opinion({"comparison": means, "preference": means}, CALM)
    ratings = Crowd(design, opinion).ratings(8)
    (found,) = analyze(tmp_path / "test", ratings, judges=False)["questions"].values()
    if template == "cmos":
        values = found["comparisons"]
        assert holds(values["beta − alpha"], 1.0) and not values["gamma − beta"].significant
    else:
        strength = found["strengths"]
        assert strength["alpha"].mean < min(strength["beta"].mean, strength["gamma"].mean)
        assert sum(one.mean for one in strength.values()) == pytest.approx(0.0, abs=1e-6)
        assert found["shares"]["beta over alpha"].low > 0.5
        assert found["shares"]["beta over alpha"].high <= 1


@pytest.mark.parametrize(("template", "alike"), [("cmos", 0.0), ("preference", "same")])
def test_who_hears_no_difference_stays(tmp_path: Path, template: str, alike: float | str) -> None:
    """To leave out who finds two systems alike would make them differ."""
    design = built(tmp_path, template=template)
    sounds = {one.id: one.system for one in design.sounds}
    pages = {one.id: one for one in design.pages}
    opinion = Opinion(dict.fromkeys(("comparison", "preference"), MEANS), CALM)
    ratings = Crowd(design, opinion).ratings(12)
    honest, always = {one.id for one in ratings.listeners[:8]}, ratings.listeners[11].id

    def answer(one: Answer) -> Answer:
        if one.question == "number":
            return one
        if one.listener in honest:
            return replace(one, value=alike)
        later = [sounds[name] for name in pages[one.page].sounds] == ["alpha", "beta"]
        better = {"cmos": 1.0 if later else -1.0, "preference": "second" if later else "first"}
        first = {"cmos": -1.0, "preference": "first"}
        return replace(one, value=(first if one.listener == always else better)[template])

    changed = replace(ratings, answers=[answer(one) for one in ratings.answers])
    figures = analyze(tmp_path / "test", changed, judges=False)
    assert list(figures["excluded"]) == ["L12"]  # the one who always takes the first
    (found,) = figures["questions"].values()
    name, key = {
        "cmos": ("beta − alpha", "comparisons"),
        "preference": ("beta over alpha", "shares"),
    }[template]
    kept, everybody = found[key][name], found["with_everybody"][name]
    expected = {"cmos": 3 / 11, "preference": (3 + 8 / 2) / 11}[template]
    assert kept.mean == pytest.approx(expected, abs=0.01)
    assert everybody.mean < kept.mean


def test_too_few_listeners_have_no_interval(tmp_path: Path) -> None:
    design = built(tmp_path)
    ratings = Crowd(design, OPINION).ratings(4)
    figures = analyze(tmp_path / "test", ratings, judges=False)
    for found in figures["questions"].values():
        for kind in ("systems", "differences"):
            assert not any(one.known for one in found[kind].values())
        mixed = found["mixed_model"]
        assert mixed is None or not any(one.known for one in mixed["means"].values())
    assert "4 of 5 listeners" in figures["cautions"][0]
    page = (tmp_path / "test" / "analysis.html").read_text(encoding="utf-8")
    assert not re.search(r"\b(inf|nan)\b", page)


def test_ratings_stay_where_everybody_is_left_out(tmp_path: Path) -> None:
    design = built(tmp_path)
    analyze(tmp_path / "test", Crowd(design, OPINION).ratings(6), judges=False)
    assert (tmp_path / "test" / "analysis.html").is_file()
    with pytest.raises(UserError, match=r"all listeners are left out.*left_out\.csv"):
        analyze(tmp_path / "test", Crowd(design, OPINION).ratings(6, careless=6), judges=False)
    assert not (tmp_path / "test" / "analysis.html").exists()  # of other ratings
    for name in ("ratings.csv", "left_out.csv"):
        with (tmp_path / "test" / name).open(encoding="utf-8") as stream:
            listeners = {row["listener"] for row in csv.DictReader(stream)}
        assert listeners == {f"L{number}" for number in range(1, 7)}


def test_emotions_are_counted_as_identified(tmp_path: Path) -> None:
    design = built(tmp_path, template="identification")
    opinion = Opinion({"identification": {"alpha": -9.0, "beta": 9.0}}, CALM)
    ratings = Crowd(design, opinion).ratings(8)
    found = analyze(tmp_path / "test", ratings, judges=False)["questions"]["identification"]
    assert found["systems"]["beta"].mean == 1.0
    assert holds(found["systems"]["alpha"], 0.5)
    assert found["confusion"]["beta"]["happy"] == {"happy": 16, "sad": 0}


def test_marks_are_compared_with_the_detectors(tmp_path: Path) -> None:
    design = built(tmp_path, template="artifacts")
    sounds = {one.id: one for one in design.sounds}
    clicked = [one for one in design.sounds if one.system == "alpha"]
    for sound in clicked:  # a click in the middle of silence, of which there is no doubt
        wave = audio.to_peak(_tone(sound.seconds))
        middle = wave.size // 2
        wave[middle : middle + 8] = [0.9, -0.9] * 4
        audio.write(sound_file(tmp_path / "test", sound.id), wave)
    for sound in design.sounds:
        if sound.system == "beta":
            wave = audio.to_peak(_tone(sound.seconds))
            audio.write(sound_file(tmp_path / "test", sound.id), wave)
    hashes = [sha256(sound_file(tmp_path / "test", one.id)) for one in design.sounds]
    changed = [
        one.model_copy(update={"sha256": hashed})
        for one, hashed in zip(design.sounds, hashes, strict=True)
    ]
    design = design.model_copy(update={"sounds": changed})
    write_json(tmp_path / "test" / DESIGN, design.model_dump(mode="json"))
    pages = {page.id: page for page in design.pages}

    def heard(one: Answer) -> Answer:
        if one.question != "artifacts":
            return one
        first = sounds[pages[one.page].sounds[0]]
        if first.system != "alpha":
            return one
        return replace(one, value=(first.seconds / 2 + 0.03,))

    ratings = Crowd(design, Opinion({})).ratings(4)
    anchors = {page.id for page in design.pages if page.role == "anchor"}
    ratings = replace(ratings, answers=[heard(one) for one in ratings.answers])
    found = analyze(tmp_path / "test", ratings, judges=False)["questions"]["artifacts"]
    assert found["systems"]["alpha"].mean == 1.0 and found["systems"]["beta"].mean == 0.0
    detectors = found["detectors"]
    assert detectors["recall"].mean == 1.0 and 0 < detectors["precision"].mean <= 1.0
    assert 0.0 < detectors["chance"] < 1.0
    assert not detectors["recall"].known and not detectors["precision"].known  # of four listeners
    # Whether the clicks of the low anchors are marked makes no difference to the detectors.
    assert anchors
    lost = [one for one in ratings.answers if one.page not in anchors]
    without = analyze(tmp_path / "test", replace(ratings, answers=lost), judges=False)
    assert without["questions"]["artifacts"]["detectors"] == detectors


def _tone(seconds: float) -> audio.Audio:
    time = np.arange(round(seconds * audio.SAMPLE_RATE)) / audio.SAMPLE_RATE
    return (0.2 * np.sin(2 * np.pi * 150 * time)).astype(np.float32)


def test_the_judge_that_hears_what_listeners_hear_is_found(tmp_path: Path) -> None:
    design = built(tmp_path)
    opinion = Opinion(dict.fromkeys(("emotion", "naturalness"), MEANS), CALM)
    system = {one.id: one.system for one in design.sounds}
    knows = {"alpha": 1.0, "beta": 2.0}
    calls: list[int] = []
    names = iter([one.id for one in design.sounds if one.system in (*design.systems, "reference")])

    def good(_: audio.Audio) -> float:
        calls.append(1)
        return knows.get(system[next(names)], 3.0)

    scores = judge_sounds(tmp_path / "test", design, {"good": good})
    assert scores["good"].keys() <= system.keys() and len(calls) == len(scores["good"])
    assert judge_sounds(tmp_path / "test", design, {"good": good}) == scores  # kept
    assert len(calls) == len(scores["good"])
    answers = [
        one
        for one in judgements(design, Crowd(design, opinion).ratings(8))
        if one.role == "test" and one.question.name == "emotion"
    ]
    found = rank_correlation(answers, scores["good"])
    assert found is not None and 0.5 < found.low <= found.mean < found.high <= 1.0
    few = [one for one in answers if one.listener in {answers[0].listener, answers[-1].listener}]
    found = rank_correlation(few, scores["good"])
    assert found is not None and not found.known and -1.0 <= found.mean <= 1.0


def test_a_sound_whose_file_is_another_is_judged_anew(tmp_path: Path) -> None:
    design = built(tmp_path)
    heard: list[float] = []

    def length(sound: audio.Audio) -> float:
        heard.append(sound.size)
        return float(sound.size)

    def judge(test: Design) -> dict[str, float]:
        return judge_sounds(tmp_path / "test", test, {"length": length})["length"]

    before = judge(design)
    one = design.sounds[0]
    audio.write(sound_file(tmp_path / "test", one.id), _tone(0.25))
    with pytest.raises(UserError, match=f"{one.id}.wav is not the sound"):
        analyze(tmp_path / "test", Crowd(design, OPINION).ratings(4), judges=False)
    changed = one.model_copy(update={"sha256": sha256(sound_file(tmp_path / "test", one.id))})
    after = judge(design.model_copy(update={"sounds": [changed, *design.sounds[1:]]}))
    assert before[one.id] != after[one.id] == 0.25 * audio.SAMPLE_RATE
    assert {name for name in before if before[name] != after[name]} == {one.id}
    # What was kept before hashes were is not believed.
    known, count = read_json(tmp_path / "test" / FILE)["scores"], len(heard)
    write_json(tmp_path / "test" / FILE, known)
    judge(design)
    assert len(heard) == count + len(before)
