"""A mixed model is fitted, or it is said in words why not."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

pytest.importorskip("pyloudnorm", reason="needs pyloudnorm: pip install 'rrpo[listen]'")
pytest.importorskip("statsmodels", reason="needs statsmodels: pip install 'rrpo[listen]'")
pytest.importorskip("choix", reason="needs choix: pip install 'rrpo[listen]'")
from recorded_systems import built
from rrpo.files import write_json
from rrpo.listen.analysis import analyze
from rrpo.listen.design import DESIGN, Exclusion
from rrpo.listen.power import Variances
from rrpo.listen.terminal import print_analysis
from rrpo_studies.simulated_listeners import Crowd, Opinion

CALM = Variances(0.05, 0.02, 0.01, 0.01, 0.02, 0.1)
MEANS = {"alpha": 2.5, "beta": 3.5}


def test_constant_ratings_are_told_in_words_and_warn_of_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    design = built(tmp_path, template="mos")
    crowd = Crowd(design, Opinion({"naturalness": MEANS}, CALM)).ratings(6)
    calm = Exclusion(one_value=False, reference_below_anchor=False)
    design = design.model_copy(update={"exclusion": calm})
    write_json(tmp_path / "test" / DESIGN, design.model_dump(mode="json"))
    same = [one if one.question == "number" else replace(one, value=3.0) for one in crowd.answers]
    figures = analyze(tmp_path / "test", replace(crowd, answers=same), judges=False)
    notes = " ".join(figures["questions"]["naturalness"]["notes"])
    assert "alpha cannot be computed: all answers" in notes
    assert "mixed model could not be fitted: all ratings are the same" in notes
    page = (tmp_path / "test" / "analysis.html").read_text(encoding="utf-8")
    assert "could not be fitted" in page and "cannot be computed" in page
    assert not recwarn.list
    print_analysis(figures, Console(width=300))
    shown = capfd.readouterr()
    assert "could not be fitted" in shown.out and "Warning" not in shown.out + shown.err


def test_ratings_that_hang_on_the_system_alone_warn_of_nothing(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    design = built(tmp_path, template="mos")
    sounds = {one.id: one.system for one in design.sounds}
    pages = {one.id: one for one in design.pages}
    rated = {"alpha": 2.0, "beta": 3.0, "reference": 5.0, "anchor": 1.0}
    crowd = Crowd(design, Opinion({"naturalness": MEANS}, CALM)).ratings(6)
    by_system = [
        one
        if one.question == "number"
        else replace(one, value=rated[sounds[pages[one.page].sounds[0]]])
        for one in crowd.answers
    ]
    figures = analyze(tmp_path / "test", replace(crowd, answers=by_system), judges=False)
    found = figures["questions"]["naturalness"]
    assert not recwarn.list
    assert found["mixed_model"] is not None or "could not be fitted" in " ".join(found["notes"])
