"""Building a listening test: sounds, pages, orders, and the design that holds them together."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rrpo import audio
from rrpo.config import Strict, load
from rrpo.errors import UserError
from rrpo.files import alone, require_empty, sha256, write_json, writing
from rrpo.listen import power
from rrpo.listen.design import DESIGN, SOUNDS, Design, Exclusion, Page, check_design, sound_file
from rrpo.listen.items import USUAL, choose_items, left_out
from rrpo.listen.links import require_address
from rrpo.listen.loudness import level
from rrpo.listen.orders import Hear
from rrpo.listen.planned_pages import Pages, planned_orders
from rrpo.listen.sounds import Prepared, prepare
from rrpo.listen.systems import Gathered, Item, Speaking, gather
from rrpo.listen.templates import FIVE, NUMBER, PREPARE, SCALE, Template, template
from rrpo.report.numbers import counted

NO_EXAMPLE = "no text is left for the examples: they are of a text of the test"
SCALES = ("scale", "comparison")


class Plan(Strict):
    """What a test is to be.

    Attributes:
        template: see `rrpo.listen.templates`.
        texts: for each emotion; None: ten, or as many as there are.
        emotions: None: the paper's five for its template, where all are there, else all.
        listeners: expected: so many orders are made, rounded up to whole groups.
        hear: of the systems of an item each listener hears one, or all.
        repeats, attention: pages of a listener that ask again, and attention checks.
        loudness: of all sounds, in LUFS.
        exclusion: None: that of the template (`default_exclusion`).
        systems: which of those found; None: all.
        instructions: paragraphs that listeners read first; None: those of the template.
    """

    template: str = "paper"
    title: str | None = None
    texts: int | None = None
    emotions: list[str] | None = None
    listeners: int = 20
    hear: Hear = "one"
    seed: int = 0
    repeats: int = 4
    attention: int = 3
    loudness: float = -23.0
    exclusion: Exclusion | None = None
    systems: list[str] | None = None
    panel: str | None = None
    completion_url: str | None = None
    instructions: list[str] | None = None


def build(
    runs: Sequence[str],
    out: Path,
    plan: Plan,
    reference: Path | None = None,
    speaking: Speaking | None = None,
    variances: tuple[power.Variances, str] = (power.ASSUMED, power.SOURCE),
) -> tuple[Design, list[str]]:
    """Build a listening test in a folder; the design is written last.

    Args:
        runs: demos, folders of recordings or policies; see `rrpo.listen.systems.gather`.
        out: a new folder.
        reference: a folder of recordings for the hidden reference.
        speaking: of policies; by default one text more than the test has, for its examples.
        variances: of the power calculation, and where they come from.

    Returns:
        the design and what is to be told of it, a line each.

    Raises:
        UserError: `out` is not empty, or the systems do not have what the plan asks for.
    """
    require_empty(out)  # a test is never overwritten
    template(plan.template)  # before anything is said
    _require_panel(plan)
    gathered = gather(runs, reference, speaking or Speaking((plan.texts or USUAL) + 1, plan.seed))
    gathered = _chosen_systems(gathered, plan.systems)
    emotions = _emotions(gathered, plan)
    asked = template(plan.template, [name for name in emotions or [] if name])
    chosen, left = choose_items(gathered, plan.texts, emotions, plan.seed)
    _require_fit(asked, gathered, chosen)
    prepared = prepare(gathered, chosen, left, asked, plan.seed, plan.attention)
    every = prepared.every()
    levels = level([(one.source, one.audio, one.rate) for one in every], plan.loudness)
    pages = Pages(asked, prepared, plan.seed)
    orders = planned_orders(pages, plan.listeners, plan.hear, plan.repeats)
    planned = power.plan(
        plan.listeners, len(chosen), len(gathered.systems), plan.hear, 0.1, *variances
    )
    rated = any(one.kind == "scale" for one in asked.questions)
    design = Design(
        title=plan.title or asked.title,
        seed=plan.seed,
        instructions=plan.instructions or _instructions(asked),
        questions=[*asked.questions, *([NUMBER] if plan.attention else [])],
        sounds=[one.described(gain) for one, gain in zip(every, levels.gains, strict=True)],
        pages=_used(pages.pages, orders),
        orders=orders,
        systems=list(gathered.systems),
        exclusion=_exclusion(plan, asked, prepared),
        panel=plan.panel,
        completion_url=plan.completion_url,
        bundled_voice=gathered.bundled_voice,
        planned=asdict(planned) if rated and planned.systems > 1 else {},
    )
    check_design(design)
    lines = [*_told(design, plan, levels.loudness), *left_out(gathered, emotions), *levels.notes]
    lines += [] if left else [NO_EXAMPLE]
    return _write(out, design, prepared, levels.gains), [*lines, *_power(planned, rated)]


def _exclusion(plan: Plan, asked: Template, prepared: Prepared) -> Exclusion:
    return plan.exclusion or default_exclusion(asked, bool(prepared.reference), plan.attention)


def _require_panel(plan: Plan) -> None:
    """Refuse an address or a parameter that no panel could use; a test is never overwritten."""
    if plan.panel is not None and not re.fullmatch("[A-Za-z][A-Za-z0-9_-]*", plan.panel):
        raise UserError(
            f"--panel {plan.panel!r} is no parameter of an address: letters, digits, _ and -, such "
            "as PROLIFIC_PID"
        )
    if plan.completion_url is not None:
        require_address(plan.completion_url)


def _require_fit(asked: Template, gathered: Gathered, chosen: Sequence[Item]) -> None:
    """Refuse a comparison of a single system, and questions about emotions that nobody named."""
    if asked.pairs and len(gathered.systems) < 2:
        raise UserError("a comparison needs two systems: name another RUN")
    if asked.needs_emotion and any(emotion is None for _, emotion in chosen):
        raise UserError("this template asks for emotions: add the column emotion to table.csv")


def _instructions(asked: Template) -> list[str]:
    scaled = any(one.kind in SCALES for one in asked.questions)
    return [*asked.task, *PREPARE[:-1], " ".join([PREPARE[-1], *[SCALE] * scaled])]


def default_exclusion(asked: Template, reference: bool, attention: int) -> Exclusion:
    """Return the rules of a template: two wrong attention checks; repeats .3 of the scale apart.

    Where there is one check, one is enough.
    """
    scales = [one for one in asked.questions if one.kind in SCALES]
    apart = round(0.3 * (scales[0].high - scales[0].low), 2) if scales else None
    rated = reference and any(one.kind == "scale" for one in scales)
    failed = min(2, max(attention, 1))
    return Exclusion(attention_failed=failed, repeat_difference=apart, reference_below_anchor=rated)


def changed_exclusion(plan: Plan, rules: Sequence[str]) -> Plan:
    """Return a plan with some of its template's rules changed, such as `attention_failed=1`.

    Raises:
        UserError: there is no such rule, or no such template.
    """
    if not rules:
        return plan
    for rule in rules:
        if "=" not in rule:
            known = ", ".join(Exclusion.model_fields)
            raise UserError(
                f"--exclude {rule}: give a rule with its value, such as attention_failed=1; the "
                f"rules are {known}"
            )
    usual = default_exclusion(template(plan.template), True, plan.attention)
    given = [f"{key}={json.dumps(value)}" for key, value in usual.model_dump().items()]
    changed = load(Exclusion, None, [*given, *rules])
    if plan.attention and changed.attention_failed > plan.attention:
        raise UserError(
            f"--exclude attention_failed={changed.attention_failed}: the test has "
            f"{counted(plan.attention, 'attention check')} (--attention), so nobody could break it"
        )
    return plan.model_copy(update={"exclusion": changed})


def _chosen_systems(gathered: Gathered, names: Sequence[str] | None) -> Gathered:
    """Keep the systems that are named."""
    if len(set(names or ())) < len(names or ()):
        raise UserError(f"--systems {','.join(names or ())} names a system twice")
    for name in names or ():
        if name not in gathered.systems:
            raise UserError(
                f"there is no system {name}: choose among {', '.join(gathered.systems)}"
            )
    kept = {name: gathered.systems[name] for name in names or gathered.systems}
    return Gathered(kept, gathered.reference, gathered.bundled_voice)


def _emotions(gathered: Gathered, plan: Plan) -> list[str] | None:
    if plan.emotions is not None:
        return plan.emotions
    there = list(dict.fromkeys(emotion for one in gathered.systems.values() for _, emotion in one))
    if plan.template == "paper" and set(FIVE) <= set(there):
        return list(FIVE)
    return None if None in there else [name for name in there if name]


def _used(pages: Sequence[Page], orders: Sequence[Sequence[str]]) -> list[Page]:
    """Leave out pages that nobody meets."""
    met = {name for order in orders for name in order}
    return [page for page in pages if page.id in met]


def _write(out: Path, design: Design, prepared: Prepared, gains: Sequence[float]) -> Design:
    """Write the sounds as 16-bit wav files without any metadata, then the design with their hashes.

    Returns:
        the design as it was written.
    """
    with alone(out), writing(out):
        (out / SOUNDS).mkdir()
        for one, gain in zip(prepared.every(), gains, strict=True):
            audio.write(sound_file(out, one.id), one.amplified(gain), one.rate)
        hashed = [
            one.model_copy(update={"sha256": sha256(sound_file(out, one.id))})
            for one in design.sounds
        ]
        design = design.model_copy(update={"sounds": hashed})
        write_json(out / DESIGN, design.model_dump(mode="json"))
    return design


def _told(design: Design, plan: Plan, loudness: float) -> list[str]:
    roles = [page.role for page in design.pages]
    lengths = [len(order) for order in design.orders]
    seconds = {one.id: one.seconds for one in design.sounds}
    repeats = {page.id: page.role == "repeat" for page in design.pages}
    heard = {page.id: sum(seconds[name] for name in page.sounds) for page in design.pages}
    longest = max(sum(heard[name] for name in order) for order in design.orders) / 60.0
    asked = plan.repeats, max(sum(repeats[name] for name in order) for order in design.orders)
    fewer = [f"{asked[1]} of {asked[0]} repeats: no more pages can be repeated"]
    return [
        f"{counted(len(design.systems), 'system')}: {', '.join(design.systems)}; "
        f"{counted(roles.count('test'), 'page')} of the test, "
        f"{counted(len(design.sounds), 'sound')} at {loudness:.1f} LUFS",
        f"{counted(len(design.orders), 'order')} of {counted(max(lengths), 'page')}, "
        f"{longest:.1f} minutes of sound each",
        *(fewer if asked[1] < asked[0] else []),
    ]


def _power(planned: power.Planned, rated: bool) -> list[str]:
    if planned.systems < 2:
        return ["power: calculated for a difference of two systems only"]
    return power.told(planned) if rated else ["power: calculated for ratings of one sound only"]
