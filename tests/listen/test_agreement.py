"""Krippendorff's alpha against published figures."""

import pytest

from rrpo.listen.agreement import Level, agreement, krippendorff_alpha
from rrpo.listen.answers import Judgement
from rrpo.listen.design import Kind, Page, Question

OBSERVERS = (
    ["1", "2", "3", "3", "2", "1", "4", "1", "2", ".", ".", "."],
    ["1", "2", "3", "3", "2", "2", "4", "1", "2", "5", ".", "3"],
    [".", "3", "3", "3", "2", "3", "4", "2", "2", "5", "1", "."],
    ["1", "2", "3", "3", "2", "4", "4", "1", "2", "5", "1", "."],
)
"""Four observers of twelve units (Krippendorff 2011)."""


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("interval", 0.849)])
def test_the_published_example(level: Level, alpha: float) -> None:
    units = [[float(one) for one in unit if one != "."] for unit in zip(*OBSERVERS, strict=True)]
    assert krippendorff_alpha(units, level) == pytest.approx(alpha, abs=5e-4)


def test_what_is_not_defined_is_none() -> None:
    assert krippendorff_alpha([["a"], ["b"]], "nominal") is None
    assert krippendorff_alpha([["a", "a"], ["a", "a"]], "nominal") is None
    assert krippendorff_alpha([[1.0, 1.0], [2.0, 2.0]], "interval") == 1.0


def judged(
    values: list[tuple[str, tuple[str, ...], float | str]], kind: Kind = "comparison"
) -> list[Judgement]:
    """Return answers (listener, systems, value) about one text, each order a page of its own."""
    asked = Question(name="asked", kind=kind, prompt="")
    return [
        Judgement(
            listener,
            Page(id="-".join(systems), role="test", sounds=list(systems), questions=["asked"]),
            asked,
            value,
            systems,
            "a text",
            None,
            1.0,
            2,
        )
        for listener, systems, value in values
    ]


def test_a_pair_in_either_order_is_one_unit_with_the_sign_turned() -> None:
    there, back = ("alpha", "beta"), ("beta", "alpha")
    other = ("alpha", "gamma")
    rows = [("L1", there, 2.0), ("L2", back, -2.0), ("L1", other, -1.0), ("L2", other, -1.0)]
    assert agreement(judged(rows)) == (1.0, None)
    words: list[tuple[str, tuple[str, ...], float | str]] = [
        *(("L1", there, "first"), ("L2", back, "second")),
        *(("L1", other, "same"), ("L2", other, "same")),
    ]
    assert agreement(judged(words, "preference")) == (1.0, None)
    # A listener agrees with nobody else by hearing both orders.
    own = [("L1", there, 2.0), ("L1", back, -2.0), ("L2", other, 1.0)]
    assert agreement(judged(own)) == (None, "no two listeners heard the same")


def test_why_there_is_no_agreement_is_said() -> None:
    one, other = ("alpha",), ("beta",)
    for rows, why in (
        ([("L1", one, 2.0), ("L1", other, 3.0)], "only one listener"),
        ([("L1", one, 2.0), ("L2", other, 3.0)], "no two listeners"),
        ([("L1", one, 2.0), ("L2", one, 2.0)], "are the same"),
    ):
        alpha, missing = agreement(judged(list(rows), "scale"))
        assert alpha is None and missing is not None and why in missing
