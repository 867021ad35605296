"""What the tables of an analysis hold."""

import csv
from pathlib import Path

import pytest

pytest.importorskip("pyloudnorm", reason="needs pyloudnorm: pip install 'rrpo[listen]'")
pytest.importorskip("statsmodels", reason="needs statsmodels: pip install 'rrpo[listen]'")
pytest.importorskip("choix", reason="needs choix: pip install 'rrpo[listen]'")
from recorded_systems import built
from rrpo.listen.analysis import analyze
from rrpo.listen.power import Variances
from rrpo_studies.simulated_listeners import Crowd, Opinion

CALM = Variances(0.05, 0.02, 0.01, 0.01, 0.02, 0.1)
MEANS = {"alpha": 2.5, "beta": 3.5}


def test_the_ratings_name_each_system_in_a_column_of_its_own(tmp_path: Path) -> None:
    for template, second in (("mos", {""}), ("cmos", {"alpha", "beta"})):
        folder = tmp_path / template
        design = built(folder, template=template)
        opinion = Opinion(dict.fromkeys(("naturalness", "comparison"), MEANS), CALM)
        analyze(folder / "test", Crowd(design, opinion).ratings(4), judges=False)
        with (folder / "test" / "ratings.csv").open(newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.DictReader(stream) if row["role"] == "test"]
        assert {row["system"] for row in rows} == {"alpha", "beta"}
        assert {row["second_system"] for row in rows} == second
        assert not any(row["system"] == row["second_system"] for row in rows)
