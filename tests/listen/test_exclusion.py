"""Listeners are left out by the rules of the design, with the reason, and by nothing else."""

from dataclasses import replace

import pytest

pytest.importorskip("pyloudnorm", reason="needs pyloudnorm: pip install 'rrpo[listen]'")
from recorded_systems import built
from rrpo.listen.answers import judgements
from rrpo.listen.design import Design
from rrpo.listen.exclusion import described, excluded_listeners, is_right
from rrpo.listen.power import Variances
from rrpo.listen.ratings import Answer, Ratings
from rrpo_studies.simulated_listeners import Crowd, Opinion

MEANS = {"alpha": 3.0, "beta": 3.5}
CALM = Variances(0.05, 0.05, 0.0, 0.0, 0.0, 0.1)


@pytest.fixture(scope="module")
def design(tmp_path_factory: pytest.TempPathFactory) -> Design:
    return built(tmp_path_factory.mktemp("rules"))


def honest(design: Design) -> Ratings:
    return Crowd(design, Opinion({"emotion": MEANS, "naturalness": MEANS}, CALM)).ratings(2)


def told(design: Design, ratings: Ratings) -> dict[str, list[str]]:
    return excluded_listeners(design, ratings, judgements(design, ratings))


def with_first(ratings: Ratings, change: object) -> Ratings:
    """Change the answers of the first listener; None leaves one out."""
    first = ratings.listeners[0].id
    answers = [change(one) if one.listener == first else one for one in ratings.answers]  # type: ignore[operator]
    return replace(ratings, answers=[one for one in answers if one is not None])


def test_honest_listeners_stay(design: Design) -> None:
    assert told(design, honest(design)) == {}


def test_each_rule_is_told_with_its_reason(design: Design) -> None:
    roles = {page.id: page.role for page in design.pages}
    order = design.orders[0]
    swapped = {"reference": 1.0, "anchor": 5.0}

    def wrong(one: Answer) -> Answer:
        return replace(one, value=99.0) if one.question == "number" else one

    def apart(one: Answer) -> Answer:
        if roles[one.page] != "repeat":
            return one
        return replace(one, value=1.0 if float(one.value) > 3 else 5.0)  # type: ignore[arg-type]

    def below(one: Answer) -> Answer:
        return replace(one, value=swapped.get(roles[one.page], one.value))

    def early(one: Answer) -> Answer | None:
        return one if one.page in order[: len(order) // 3] else None

    def bored(one: Answer) -> Answer:
        return one if one.question == "number" else replace(one, value=3.0)

    for change, said in (
        (wrong, "3 of 3 attention checks wrong"),
        (apart, "repeats"),
        (below, "references rated 1.00, low anchors 5.00"),
        (early, "of the pages unanswered"),
        (bored, "always the same answer (emotion, naturalness)"),
    ):
        found = told(design, with_first(honest(design), change))
        assert list(found) == ["L1"], said
        assert any(said in reason for reason in found["L1"]), (said, found)


def test_one_wrong_number_is_forgiven(design: Design) -> None:
    missed = []

    def once(one: Answer) -> Answer:
        if one.question == "number" and not missed:
            missed.append(one)
            return replace(one, value=99.0)
        return one

    assert told(design, with_first(honest(design), once)) == {}
    assert missed


def test_rules_are_shown_as_they_are(design: Design) -> None:
    assert len(described(design.exclusion)) == 5
    assert "2 or more attention checks" in described(design.exclusion)[0]


def test_a_number_is_right_however_it_is_written() -> None:
    assert is_right("7", 7.0) and is_right(7, 7.0) and not is_right("seven", 7.0)
