"""Which listeners are left out, by the rules that the design fixed before anybody listened."""

from collections.abc import Sequence

import numpy as np

from rrpo.listen.answers import Judgement, listener_names
from rrpo.listen.design import Design, Exclusion
from rrpo.listen.ratings import Ratings, Value

FEWEST = 5
"""Answers of a kind from which always the same one is odd."""
ALIKE = ("same", 0.0)
"""Answers to a pair that find no difference."""


def described(rules: Exclusion) -> list[str]:
    """Return the rules in words."""
    lines = [
        f"{rules.attention_failed} or more attention checks answered wrongly",
        f"more than {rules.share_missing:.0%} of the pages unanswered",
    ]
    if rules.repeat_difference is not None:
        lines.append(
            f"a rating and its repeat more than {rules.repeat_difference:g} apart on average"
        )
    if rules.reference_below_anchor:
        lines.append("hidden references rated no higher than low anchors on average")
    if rules.one_value:
        lines.append(
            f"the same answer every time, of {FEWEST} or more (marks and no difference do not "
            "count)"
        )
    return lines


def reasons(design: Design, order: int, answers: Sequence[Judgement]) -> list[str]:
    """Return why a listener is left out, a clause for each rule that is broken; [] if none is.

    Args:
        order: which of the design's orders the listener had.
        answers: the listener's.
    """
    rules = design.exclusion
    checks = [_attention(rules, answers), _missing(design, order, answers)]
    checks += [_repeats(rules, answers), _anchors(rules, answers), _one_value(rules, answers)]
    return [reason for reason in checks if reason]


def excluded_listeners(
    design: Design, ratings: Ratings, answers: Sequence[Judgement]
) -> dict[str, list[str]]:
    """Return listener → reasons, of those who are left out by the design's rules."""
    names = listener_names(ratings)
    found = {}
    for one in ratings.listeners:
        own = [answer for answer in answers if answer.listener == names[one.id]]
        if own and (why := reasons(design, one.order, own)):
            found[names[one.id]] = why
    return found


def _attention(rules: Exclusion, answers: Sequence[Judgement]) -> str:
    asked = [one for one in answers if one.role == "attention"]
    wrong = sum(not is_right(one.value, one.page.answer) for one in asked)
    return f"{wrong} of {len(asked)} attention checks wrong" * (wrong >= rules.attention_failed)


def is_right(value: Value, answer: float | str | None) -> bool:
    """Say whether an attention check was answered rightly: 7 and "7" are the same."""
    try:
        return float(value) == float(answer)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return value == answer


def _missing(design: Design, order: int, answers: Sequence[Judgement]) -> str:
    training = {page.id for page in design.pages if page.role == "training"}
    asked = [one for one in design.orders[order % len(design.orders)] if one not in training]
    done = {one.page.id for one in answers}
    share = sum(one not in done for one in asked) / max(len(asked), 1)
    return f"{share:.0%} of the pages unanswered" * (share > design.exclusion.share_missing)


def _repeats(rules: Exclusion, answers: Sequence[Judgement]) -> str:
    if rules.repeat_difference is None:
        return ""
    first = {(one.page.id, one.question.name): one for one in answers}
    apart = [
        abs(one.score - before.score)
        for one in answers
        if one.page.repeats and one.question.kind in ("scale", "comparison")
        if (before := first.get((one.page.repeats, one.question.name))) is not None
    ]
    mean = float(np.mean(apart)) if apart else 0.0
    return f"ratings and their repeats {mean:.2f} apart" * (mean > rules.repeat_difference)


def _anchors(rules: Exclusion, answers: Sequence[Judgement]) -> str:
    means = [
        [one.score for one in answers if one.role == role and one.question.kind == "scale"]
        for role in ("reference", "anchor")
    ]
    if not rules.reference_below_anchor or not all(means):
        return ""
    high, low = (float(np.mean(values)) for values in means)
    return f"references rated {high:.2f}, low anchors {low:.2f}" * (high <= low)


def _one_value(rules: Exclusion, answers: Sequence[Judgement]) -> str:
    # Who always finds two alike may be right: to leave them out would choose by the result.
    by_question: dict[str, list[Value]] = {}
    for one in answers:
        if one.role not in ("training", "attention") and one.question.kind != "marks":
            by_question.setdefault(one.question.name, []).append(one.value)
    pairs = {a.question.name for a in answers if a.question.kind in ("comparison", "preference")}
    same = [
        name
        for name, values in by_question.items()
        if len(values) >= FEWEST
        and len(set(values)) == 1
        and not (name in pairs and values[0] in ALIKE)
    ]
    return f"always the same answer ({', '.join(same)})" * bool(same and rules.one_value)
