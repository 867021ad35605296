"""Strengths and shares of preferences, and what chance would bring."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

pytest.importorskip("pyloudnorm", reason="needs pyloudnorm: pip install 'rrpo[listen]'")
pytest.importorskip("statsmodels", reason="needs statsmodels: pip install 'rrpo[listen]'")
pytest.importorskip("choix", reason="needs choix: pip install 'rrpo[listen]'")
from recorded_systems import built
from rrpo.listen.analysis import analyze
from rrpo.listen.design import Design
from rrpo.listen.power import Variances
from rrpo.listen.ratings import Answer, Ratings
from rrpo.listen.terminal import print_analysis
from rrpo_studies.simulated_listeners import Crowd, Opinion

CALM = Variances(0.05, 0.02, 0.01, 0.01, 0.02, 0.1)
MEANS = {"alpha": 2.5, "beta": 3.5}


def test_agreement_of_all_leaves_a_share_open_to_one_side(tmp_path: Path) -> None:
    design = built(tmp_path, template="preference")
    sounds = {one.id: one.system for one in design.sounds}
    pages = {one.id: one for one in design.pages}

    def better(one: Answer) -> Answer:
        if one.question == "number":
            return one
        heard = [sounds[name] for name in pages[one.page].sounds]
        return replace(one, value="first" if heard[0] == "beta" else "second")

    crowd = Crowd(design, Opinion({"preference": MEANS}, CALM)).ratings(6)
    ratings = replace(crowd, answers=[better(one) for one in crowd.answers])
    figures = analyze(tmp_path / "test", ratings, judges=False)
    share = figures["questions"]["preference"]["shares"]["beta over alpha"]
    assert (share.mean, share.high) == (1.0, 1.0)
    assert share.low == pytest.approx(0.025 ** (1 / 6))  # Clopper and Pearson: six of six
    assert any("hang on the 0.1 wins" in line for line in figures["cautions"])


def test_a_share_of_few_items_has_no_interval(tmp_path: Path) -> None:
    design = built(tmp_path, template="preference", texts=1)
    ratings = preferring(design, Crowd(design, Opinion({"preference": MEANS})).ratings(8), "beta")
    figures = analyze(tmp_path / "test", ratings, judges=False)
    assert any("too few for intervals" in line for line in figures["cautions"])
    share = figures["questions"]["preference"]["shares"]["beta over alpha"]
    assert share.mean == 1.0
    assert not share.known


def preferring(design: Design, ratings: Ratings, winner: str) -> Ratings:
    """Return ratings in which one system always wins, and others against each other by turns."""
    sounds = {one.id: one.system for one in design.sounds}
    pages = {one.id: one for one in design.pages}

    def better(number: int, one: Answer) -> Answer:
        if one.question == "number":
            return one
        heard = [sounds[name] for name in pages[one.page].sounds]
        if winner not in heard:
            return replace(one, value=("first", "second")[number % 2])
        return replace(one, value="first" if heard[0] == winner else "second")

    return replace(ratings, answers=[better(*pair) for pair in enumerate(ratings.answers)])


def test_a_system_that_always_wins_leaves_strengths_without_intervals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    design = built(tmp_path, systems=3, template="preference")
    means = {"alpha": 2.5, "beta": 2.5, "gamma": 2.5}
    crowd = Crowd(design, Opinion({"preference": means}, CALM)).ratings(8)
    figures = analyze(tmp_path / "test", preferring(design, crowd, "gamma"), judges=False)
    found = figures["questions"]["preference"]
    assert not any(one.known for one in found["strengths"].values())
    assert found["strengths"]["gamma"].mean > 0 > found["strengths"]["alpha"].mean
    (caution,) = [line for line in figures["cautions"] if "strengths" in line]
    assert "never wins" in caution and "no intervals" in caution
    print_analysis(figures, Console(width=200))
    assert "no intervals" in capsys.readouterr().out
    mixed = analyze(tmp_path / "test", crowd, judges=False)
    assert all(one.known for one in mixed["questions"]["preference"]["strengths"].values())
    assert not any("strengths" in line for line in mixed["cautions"])


def test_strengths_are_shown_with_everybody_too(tmp_path: Path) -> None:
    design = built(tmp_path, systems=3, template="preference")
    means = {"alpha": 2.5, "beta": 3.0, "gamma": 3.2}
    ratings = Crowd(design, Opinion({"preference": means}, CALM)).ratings(12, careless=2)
    figures = analyze(tmp_path / "test", ratings, judges=False)
    found = figures["questions"]["preference"]
    assert len(figures["excluded"]) == 2
    assert found["strengths_with_everybody"].keys() == found["strengths"].keys()
    assert found["strengths_with_everybody"] != found["strengths"]
    page = (tmp_path / "test" / "analysis.html").read_text(encoding="utf-8")
    assert "Strengths, with those who were left out" in page


@pytest.mark.parametrize(("template", "told"), [("preference", "0.50"), ("identification", "0.50")])
def test_what_chance_would_bring_is_drawn_and_said(
    tmp_path: Path, template: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    design = built(tmp_path, template=template)
    opinion = Opinion(dict.fromkeys(("preference", "identification"), MEANS), CALM)
    figures = analyze(tmp_path / "test", Crowd(design, opinion).ratings(6), judges=False)
    page = (tmp_path / "test" / "analysis.html").read_text(encoding="utf-8")
    (chart,) = re.findall(f"the line is chance, {told}</figcaption>(.*?)</figure>", page, re.DOTALL)
    assert chart.count('class="level"') == 1
    print_analysis(figures, Console(width=80))
    assert ("chance: 0.5" in capsys.readouterr().out) == (template == "preference")
