"""The analysis of a listening test: figures with intervals, written as JSON, CSV and a page."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from rrpo.errors import UserError
from rrpo.evaluate.two_way import ratio, ratio_difference
from rrpo.files import write_json, write_text
from rrpo.interval import Interval
from rrpo.listen import exclusion, judged, marks
from rrpo.listen.agreement import LEVELS, agreement
from rrpo.listen.answers import (
    FEWEST,
    Judgement,
    interval_over,
    judgements,
    mean_counts,
)
from rrpo.listen.design import Design, Question, read_design
from rrpo.listen.mixed import mixed_model
from rrpo.listen.preference import SEPARATED, comparisons, separated, shares, strengths
from rrpo.listen.ratings import Ratings, read_ratings
from rrpo.listen.report import write_analysis_page
from rrpo.listen.tables import csv_text, figures_csv, ratings_csv
from rrpo.listen.templates import LABELS

HEARD = ("test", "reference", "anchor")
"""Roles of pages whose answers are figures; repeats and checks only exclude."""
RATINGS, LEFT_OUT, PAGE = "ratings.csv", "left_out.csv", "analysis.html"
LABELLED = LABELS | {
    "identification": "Emotion identified",
    "artifacts": "Marks per sound",
    "preference": "Preference",
}
Figures = dict[str, Any]


def analyze(
    test: Path,
    ratings: Ratings | None = None,
    judges: bool = True,
    seed: int = 0,
    out: Path | None = None,
) -> Figures:
    """Analyse a test, and write `analysis.json`, `analysis.csv`, `ratings.csv`, `analysis.html`.

    Args:
        test: its folder.
        ratings: None: those that were collected in the folder.
        judges: also compare ratings with the judges that are installed.
        seed: of the resampling.
        out: where the files are written; None: in the test's folder.

    Raises:
        UserError: it is no test, or nobody answered, or every listener is left out.
    """
    design = read_design(test)
    collected = read_ratings(test) if ratings is None else ratings
    answers = judgements(design, collected)
    if not any(one.role == "test" for one in answers):
        raise UserError(f"{test} has no ratings yet: nobody has answered a page of the test")
    excluded = exclusion.excluded_listeners(design, collected, answers)
    kept = [one for one in answers if one.role in HEARD and one.listener not in excluded]
    if not any(one.role == "test" for one in kept):
        _write_excluded(out or test, answers, excluded)
        raise UserError(
            f"{test}: all listeners are left out by the design's rules ({LEFT_OUT} and {RATINGS} "
            "say whom and why): ask more"
        )
    scores = judged.judge_sounds(test, design) if judges else {}
    figures: Figures = {
        "title": design.title,
        "seed": seed,
        "listeners": _attendance(collected, answers, kept),
        "rules": exclusion.described(design.exclusion),
        "excluded": excluded,
        "planned": design.planned,
        "cautions": cautions(kept, design),
        "questions": {},
    }
    everybody = [one for one in answers if one.role in HEARD] if excluded else []
    for question in design.questions:
        of_it, again = (
            [one for one in some if one.question.name == question.name]
            for some in (kept, everybody)
        )
        if of_it and question.kind != "number":
            found = question_figures(design, of_it, seed)
            if question.kind == "marks":
                found["detectors"] = _detectors(test, design, of_it, seed)
            found["judges"] = _judges(of_it, scores, seed)
            _add_everybody(found, design, again, seed)
            figures["questions"][question.name] = found
    _write(out or test, design, figures, answers, excluded)
    return figures


def _detectors(
    test: Path, design: Design, answers: Sequence[Judgement], seed: int
) -> dict[str, Any]:
    """Compare marks with the detectors, of systems alone: the low anchors click by construction."""
    tested = [one for one in answers if one.role == "test"]
    return marks.compare(tested, marks.detected(test, tested), marks.lengths(design), seed)


def _attendance(
    ratings: Ratings, answers: Sequence[Judgement], kept: Sequence[Judgement]
) -> dict[str, int]:
    return {
        "took_part": len({one.listener for one in answers}),
        "finished": sum(one.finished for one in ratings.listeners),
        "analysed": len({one.listener for one in kept}),
    }


def cautions(answers: Sequence[Judgement], design: Design) -> list[str]:
    """Say where there are too few listeners or items for intervals, and where a prior decides."""
    tested = [one for one in answers if one.role == "test"]
    counts = {
        "listeners": len({one.listener for one in tested}),
        "items": len({one.item for one in tested}),
    }
    few = [f"{count} of {FEWEST} {what}" for what, count in counts.items() if count < FEWEST]
    found = [f"too few for intervals: {' and '.join(few)}"] if few else []
    items = {(one.emotion, one.item) for one in tested if one.emotion is not None}
    of_each = Counter(emotion for emotion, _ in items)
    if not few and (rare := [str(name) for name, count in of_each.items() if count < FEWEST]):
        found.append(f"under {FEWEST} items, so without intervals: {', '.join(sorted(rare))}")
    chosen = [one for one in tested if one.question.kind == "preference"]
    if chosen and separated(chosen, design.systems):
        found.append(SEPARATED)
    return found


def question_figures(design: Design, answers: Sequence[Judgement], seed: int) -> Figures:
    """Return what the answers to one question say of the systems."""
    question = answers[0].question
    tested = [one for one in answers if one.role == "test"]
    alpha, missing = agreement(tested)
    found: Figures = {
        "kind": question.kind,
        "label": LABELLED.get(question.name, question.name),
        "prompt": question.prompt,
        "answers": len(answers),
        "alpha": alpha,
        "alpha_level": LEVELS.get(question.kind),
        "notes": [f"Krippendorff's alpha cannot be computed: {missing}"] if missing else [],
        "chance": chance(question),
    }
    if question.kind == "comparison":
        return found | {"comparisons": comparisons(tested, design.systems, seed)}
    if question.kind == "preference":
        return found | {
            "strengths": strengths(tested, design.systems, seed),
            "shares": shares(tested, design.systems, seed),
        }
    systems = systems_heard(design, answers)
    emotions = list(dict.fromkeys(one.emotion for one in answers if one.emotion is not None))
    found |= {
        "systems": system_means(answers, systems, seed),
        "by_emotion": {
            emotion: system_means([a for a in answers if a.emotion == emotion], systems, seed)
            for emotion in sorted(emotions)
        },
        "differences": system_differences(tested, design.systems, seed),
    }
    if question.kind == "scale":
        fit = mixed_model(tested, design.systems)
        found["mixed_model"] = None if isinstance(fit, str) else fit
        if isinstance(fit, str):
            found["notes"].append(f"the mixed model could not be fitted: {fit}")
    if question.kind == "choice":
        found["confusion"] = _confusion(tested, design.systems, question.choices)
    return found


def chance(question: Question) -> float | None:
    """Return what answers by chance come to: of a preference half, of a choice its part."""
    if question.kind == "preference":
        return 0.5
    return 1.0 / len(question.choices) if question.kind == "choice" else None


def _add_everybody(found: Figures, design: Design, answers: Sequence[Judgement], seed: int) -> None:
    """Add the figures of the systems, or of their pairs, as if nobody were left out.

    Without answers, for nobody is left out, nothing is added.
    """
    if not answers:
        return
    kind = answers[0].question.kind
    tested = [one for one in answers if one.role == "test"]
    if kind == "comparison":
        found["with_everybody"] = comparisons(tested, design.systems, seed)
    elif kind == "preference":
        found["with_everybody"] = shares(tested, design.systems, seed)
        found["strengths_with_everybody"] = strengths(tested, design.systems, seed)
        if separated(tested, design.systems):
            found["notes"].append(f"with those who were left out, {SEPARATED}")
    else:
        found["with_everybody"] = system_means(answers, systems_heard(design, answers), seed)


def systems_heard(design: Design, answers: Sequence[Judgement]) -> list[str]:
    """Return the systems with answers: those that are tested, then reference and low anchor."""
    heard = {one.systems[0] for one in answers}
    return [name for name in [*design.systems, "reference", "anchor"] if name in heard]


def system_means(
    answers: Sequence[Judgement], systems: Sequence[str], seed: int = 0
) -> dict[str, Interval]:
    """Return the mean of each system with its interval over listeners and items."""
    chosen = [one for one in answers if one.systems[0] in systems]
    counts = mean_counts(chosen, systems)
    return {
        name: interval_over(counts[:, :, at], ratio, seed)
        for at, name in enumerate(systems)
        if counts[:, :, at, 1].any()
    }


def system_differences(
    answers: Sequence[Judgement], systems: Sequence[str], seed: int = 0
) -> dict[str, Interval]:
    """Return "A − B" → the difference of two systems' means.

    Listeners and items are drawn for both alike, so what they have in both systems cancels.
    """
    counts = mean_counts([one for one in answers if one.systems[0] in systems], systems)
    heard = [at for at in range(len(systems)) if counts[:, :, at, 1].any()]
    return {
        f"{systems[second]} − {systems[first]}": interval_over(
            counts[:, :, [second, first]], ratio_difference, seed
        )
        for first, second in combinations(heard, 2)
    }


def _confusion(
    answers: Sequence[Judgement], systems: Sequence[str], choices: Sequence[str]
) -> dict[str, dict[str, dict[str, int]]]:
    """Return system → emotion → what it was taken for → how often."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for one in answers:
        if one.systems[0] in systems and one.emotion is not None:
            row = found.setdefault(one.systems[0], {}).setdefault(
                one.emotion, dict.fromkeys(choices, 0)
            )
            row[str(one.value)] = row.get(str(one.value), 0) + 1
    return found


def _judges(
    answers: Sequence[Judgement], scores: Mapping[str, Mapping[str, float]], seed: int
) -> dict[str, Interval]:
    """Return judge → rank correlation with the ratings of the systems' sounds."""
    chosen = [one for one in answers if one.role == "test" and len(one.page.sounds) == 1]
    found = {name: judged.rank_correlation(chosen, of, seed) for name, of in scores.items()}
    return {name: value for name, value in found.items() if value is not None}


def _write_excluded(
    folder: Path, answers: Sequence[Judgement], excluded: Mapping[str, Sequence[str]]
) -> None:
    """Write what was answered and who is left out; figures of before are gone with their page."""
    write_text(folder / RATINGS, ratings_csv(answers, excluded))
    rows = [[name, reason] for name, reasons in excluded.items() for reason in reasons]
    write_text(folder / LEFT_OUT, csv_text(["listener", "reason"], rows))
    for name in ("analysis.json", "analysis.csv", PAGE):
        (folder / name).unlink(missing_ok=True)


def _write(
    test: Path,
    design: Design,
    figures: Figures,
    answers: Sequence[Judgement],
    excluded: Mapping[str, Sequence[str]],
) -> None:
    write_json(test / "analysis.json", _plain(figures))
    write_text(test / "analysis.csv", figures_csv(figures))
    write_text(test / RATINGS, ratings_csv(answers, excluded))
    write_analysis_page(test / PAGE, design, figures)


def _plain(value: Any) -> Any:
    """Return figures as JSON can hold them: an interval without ends is its mean alone."""
    if isinstance(value, Interval):
        if not math.isfinite(value.mean):
            return None
        return vars(value) if value.known else value.mean
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
