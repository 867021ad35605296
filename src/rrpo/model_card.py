"""The model card of an exported policy: a README.md in Hugging Face's form, of what its runs left.

It says what was done and what was measured, from the runs' own files, and names what was not.
Folders of the machine are given by their last name alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from rrpo import __version__
from rrpo import config as configuration
from rrpo.checkpoint import is_ours
from rrpo.files import sha256, write_text
from rrpo.interval import cell, read_interval
from rrpo.measures import MEASURES, figure_of, measures_in, section
from rrpo.mini.world import BUNDLED
from rrpo.origin import KEPT
from rrpo.policy import SpeechTokenLM
from rrpo.policy.cosyvoice_text import INSTRUCTIONS, read_instructions
from rrpo.policy.precision import Precision
from rrpo.provenance import (
    UNSURE,
    Provenance,
    Stage,
    how_far,
    is_last,
    kind_of,
    read_object,
    weights_hash,
)
from rrpo.report.forgetting import forgetting_table
from rrpo.report.markdown import Row, table

CARD, BESIDE = "README.md", "README.rrpo.md"
"""Names of the card; the second where a folder has a README.md of its own."""
FORGETTING = "forgetting.json"
"""What `rrpo policy forgetting` leaves in a run's folder."""
UNKNOWN = "its weights are none that are known by hash"
PATHS = ("start", "instructions")
"""Settings that are paths of the machine."""


def draft_card(
    run: Path, model: SpeechTokenLM, to: str, precision: Precision, made: Provenance
) -> list[list[str]]:
    """Return the card's parts, each of lines, but for the files, which are written after it.

    Args:
        run: the run's folder, or another place of the policy.
        model: the policy.
        to: the form of the export, as `rrpo export --to` names it.
        precision: of its weights.
        made: the trainings that led to it.

    Raises:
        UserError: a file of the run is damaged.
    """
    return [
        _front_matter(made),
        _head(run, model, (to, precision), made),
        *([asked] if (asked := _asking(model, made)) else []),
        _method(made),
        _figures(run, made),
        _licence(made.published),
    ]


def write_card(draft: Sequence[Sequence[str]], files: Sequence[Path], folder: Path) -> Path:
    """Write a drafted card, with the files of the export, into their folder; return where it is.

    A README.md that is there already is left, and the card is called README.rrpo.md.
    """
    target = folder / (BESIDE if (folder / CARD).exists() else CARD)
    parts = [*draft, _files(files)]
    write_text(target, "\n\n".join("\n".join(lines) for lines in parts) + "\n")
    return target


def _front_matter(made: Provenance) -> list[str]:
    settings = [configuration.read(one.run / "config.yaml") for one in made.trainings]
    trained = ["emotional-speech", "post-training"] if made.stages else []
    values: dict[str, Any] = {
        "license": "unknown",
        "library_name": "cosyvoice",
        "pipeline_tag": "text-to-speech",
        "tags": ["text-to-speech", *trained, "rrpo"],
    }
    values |= {"base_model": made.published} if made.published else {}
    spoken = [one["language"] for one in settings if one.get("language")]
    values |= {"language": spoken[-1]} if spoken else {}
    return ["---", *yaml.safe_dump(values, sort_keys=False).splitlines(), "---"]


def _head(
    run: Path, model: SpeechTokenLM, form: tuple[str, Precision], made: Provenance
) -> list[str]:
    config = model.config
    count = sum(one.numel() for one in model.parameters())
    lines = [f"# {run.resolve().name}", ""]
    lines += [
        f"A speech-token language model of CosyVoice{config.version}'s layout, {_what(run, made)}. "
        "It needs the other files of its base.",
        "",
    ]
    rows: list[Row] = [
        ("base", [_base(made)]),
        ("form", [form[0]]),
        ("precision", [form[1]]),
        ("parameters", [f"{count / 1e6:.1f} M in {config.layers} layers, {config.hidden} wide"]),
        ("speech tokens of", [f"`{config.codec.split(' ')[0] or 'not recorded'}`"]),
    ]
    return lines + table("", ["this model"], rows)


def _what(run: Path, made: Provenance) -> str:
    written = f"written by rrpo {__version__}"
    if made.stages:
        return f"post-trained for emotion and {written}"
    if is_ours(run):
        return f"{written}; how it was made is not recorded"
    return f"{written} as it was found: nothing was trained"


def _base(made: Provenance) -> str:
    if not made.base:
        return f"not known, as `{_name(made.stages[0].place)}` is not, see below"
    known = f"{made.published}, by its SHA-256" if made.published else UNKNOWN
    return f"`{_name(made.base)}` ({known})"


def _name(place: str | Path) -> str:
    """Return the last name of a path, so that no folder of the machine is given."""
    return Path(place).name or str(place)


def _asking(model: SpeechTokenLM, made: Provenance) -> list[str]:
    """Return what the policy is told for each emotion, as it was trained; nothing of a base."""
    if model.config.text != "byte_pairs" or not made.stages or made.stages[-1].lost:
        return []
    run = made.stages[-1].run
    settings = configuration.read(run / "config.yaml")
    kept, language = run / KEPT, settings.get("language") or "en"
    if settings.get("instructions") and not kept.is_file():
        return []  # of a run from before they were kept
    told = read_instructions(
        kept if kept.is_file() else INSTRUCTIONS, language, model.config.version
    )
    return [
        "## How to ask for an emotion",
        "",
        "Upstream's `inference_instruct2` takes one of these lines as `instruct_text`, whole:",
        "",
        *(f"- {emotion}: `{line}`" for emotion, line in told.items()),
    ]


def _method(made: Provenance) -> list[str]:
    lines = ["## Data, method and settings"]
    if not made.stages and is_ours(Path(made.base)):
        return [*lines, "", "No training is recorded: how the weights were made is not known."]
    if not made.stages:
        return [*lines, "", "Nothing was trained: the weights are those of the base."]
    for number, stage in enumerate(made.stages, 1):
        if stage.lost:
            lines += ["", f"### {number}. Not known, `{_name(stage.place)}`", ""]
            lines += [f"{stage.lost.capitalize()}."]
        else:
            title = f"### {number}. {kind_of(stage.run)}, `{stage.run.resolve().name}`"
            lines += ["", title, "", *_training(stage)]
    return lines


def _training(stage: Stage) -> list[str]:
    """Return what is known of a training: its length, what it was made from, its settings."""
    lines = [how_far(stage), *([UNSURE] if stage.unsure else []), ""]
    rows: list[Row] = [
        (name, [f"`{_name(place)}`", f"`{digest or _unhashed(place)}`"])
        for name, given in read_object(stage.run / "inputs.json").items()
        if isinstance(given, list)
        for place, digest in given
    ]
    lines += table("made from", ["name", "SHA-256"], rows) if rows else ["Inputs: not recorded"]
    settings = {
        key: _name(value) if key in PATHS and value else _without_folders(value)
        for key, value in configuration.read(stage.run / "config.yaml").items()
    }
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    return [*lines, "", "```yaml", *text.splitlines(), "```"]


def _unhashed(place: str) -> str:
    """Return what stands for the hash of what has none: what is bundled, a reward of one's own."""
    return "bundled" if place in BUNDLED else "not recorded"


def _without_folders(value: Any) -> Any:
    """Return a setting with the last name of each path in it, such as that of a voice."""
    if isinstance(value, dict):
        return {key: _without_folders(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_folders(one) for one in value]
    return _name(value) if isinstance(value, str) and Path(value).is_absolute() else value


def _report(run: Path, made: Provenance, name: str) -> tuple[dict[str, Any], str]:
    """Return a report of exactly these weights, or nothing and why one that is there is not shown.

    A report that does not name its weights is of the run's last.
    """
    if not made.stages or (stage := made.stages[-1]).lost:
        return {}, ""
    found = read_object(stage.run / name)
    recorded = found.get("weights")
    same = is_last(stage) if recorded is None else recorded == weights_hash(run)
    if not found or same:
        return found, ""
    if is_last(stage):
        return {}, "The report that is there is of earlier weights of the run: not shown."
    return {}, "Figures of the run's last weights are not shown, as these are others."


def _figures(run: Path, made: Provenance) -> list[str]:
    """Return the policy's own evaluation, its forgetting report, and what has no figure in them."""
    evaluation, unlike = _report(run, made, "evaluation.json")
    system = section(evaluation, "system")
    lines = ["## Figures", ""]
    if system:
        lines += [
            f"`rrpo evaluate`: {system.get('utterances')} utterances, mean with 95 % interval.",
            "",
        ]
        scores = section(system, "rewards").items()
        rows = [(f"reward, `{_name(name)}`", [cell(read_interval(one))]) for name, one in scores]
        there = measures_in([system])
        rows += [(one.title, [cell(figure_of(system, one.key))]) for one in there]
        lines += table("measure", ["this model"], rows)
    else:
        lines += ["Evaluation: not measured (`rrpo evaluate` was not run on this policy)."]
        lines += ["", unlike] if unlike else []
    report, unlike = _report(run, made, FORGETTING)
    lines += ["", "### What it forgot", ""]
    lines += _forgot(report) if report else ["Not measured (`rrpo policy forgetting`)."]
    lines += ["", unlike] if unlike else []
    missing = [one.title for one in MEASURES if system and figure_of(system, one.key) is None]
    lines += ["", "### Not measured", ""]
    lines += [f"- {name}" for name in missing]
    lines += [] if system else ["- the policy's speech, by any judge"]
    lines += [] if report else ["- other languages, long texts, and whether it reads instructions"]
    return [*lines, "- what people hear: no listening test is recorded here", "- misuse, and bias"]


def _forgot(report: Mapping[str, Any]) -> list[str]:
    columns, rows = forgetting_table(report)
    base = _name(str(report.get("base", "")))
    said = f"`rrpo policy forgetting` against `{base}`; in brackets what the base does."
    return [said, "", *table("texts", columns, rows)]


def _files(files: Sequence[Path]) -> list[str]:
    rows = [(f"`{path.name}`", [f"{path.stat().st_size:,}", f"`{sha256(path)}`"]) for path in files]
    return ["## Files", "", *table("file", ["bytes", "SHA-256"], rows)]


def _licence(base: str | None) -> list[str]:
    said = (
        f"{base} names Apache-2.0 as its licence, which asks that its notices are kept and that "
        "changes are stated, as above."
        if base
        else "Its base is not known by its hash: look at the base's own licence."
    )
    return [
        "## Licence",
        "",
        f"{said} The licences of the data and the consent of its speakers are not recorded by "
        "rrpo: check both, and then write the licence that you choose into the head of this card "
        "in place of `unknown`.",
    ]
