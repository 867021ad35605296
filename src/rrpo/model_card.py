"""The model card of an exported policy: a README.md in Hugging Face's form, of what its runs left.

It says what was done and what was measured, from the runs' own files, and names what was not.
Folders of the machine are given by their last name alone.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from rrpo import __version__
from rrpo import config as configuration
from rrpo.checkpoint import read_json, sha256, write_text
from rrpo.errors import UserError
from rrpo.interval import cell, read_interval
from rrpo.measures import MEASURES, figure_of, measures_in, section
from rrpo.policy import SpeechTokenLM
from rrpo.policy.precision import Precision
from rrpo.report.forgetting import forgetting_table
from rrpo.report.markdown import Row, table

CARD, BESIDE = "README.md", "README.rrpo.md"
"""Names of the card; the second where a folder has a README.md of its own."""
FORGETTING = "forgetting.json"
"""What `rrpo policy forgetting` leaves in a run's folder."""
PUBLISHED = {
    "b144ef55b51ce8cfb79a73c90dbba0bdaba4e451c0ebcfab20f769264f84a608": (
        "FunAudioLLM/CosyVoice2-0.5B"
    ),
    "69f43bd545131c30e98947fb360ea8b4dc9916d8e83dded7757c7ea4f5a24970": (
        "FunAudioLLM/Fun-CosyVoice3-0.5B-2512"
    ),
    "74d34b01a80c7154670ae75ac372d1b1712c78bceae9f467eb9f1f6f61ec764f": (
        "FunAudioLLM/Fun-CosyVoice3-0.5B-2512"
    ),
}
"""SHA-256 of a published llm.pt or llm.rl.pt → its model; the licence named there is Apache-2.0."""
PATHS = ("start", "instructions")
"""Settings that are paths of the machine."""


def draft_card(run: Path, model: SpeechTokenLM, to: str, precision: Precision) -> list[list[str]]:
    """Return the card's parts, each of lines, but for the files, which are written after it.

    Args:
        run: the run's folder, or another place of the policy.
        model: the policy.
        to: the form of the export, as `rrpo export --to` names it.
        precision: of its weights.

    Raises:
        UserError: a file of the run is damaged.
    """
    runs = chain(run)
    first = _start(runs[0]) if runs else str(run)
    base = _published(runs[0] if runs else None, Path(first))
    return [
        _front_matter(base, runs),
        _head(run, model, (to, precision), first, base),
        _method(runs),
        _figures(runs[-1] if runs else None),
        _licence(base),
    ]


def write_card(draft: Sequence[Sequence[str]], files: Sequence[Path], folder: Path) -> Path:
    """Write a drafted card, with the files of the export, into their folder; return where it is.

    A README.md that is there already is left, and the card is called README.rrpo.md.
    """
    target = folder / (BESIDE if (folder / CARD).exists() else CARD)
    parts = [*draft, _files(files)]
    write_text(target, "\n\n".join("\n".join(lines) for lines in parts) + "\n")
    return target


def chain(run: Path) -> list[Path]:
    """Return the folders of the trainings that led to a policy, the first of them first."""
    found: list[Path] = []
    path = run.parent if run.name.startswith("checkpoint") else run
    while (path / "config.yaml").is_file() and path not in found:
        found.insert(0, path)
        path = Path(_start(path))
    return found


def _start(run: Path) -> str:
    return str(configuration.read(run / "config.yaml").get("start", ""))


def _published(run: Path | None, start: Path) -> str | None:
    """Return the published model whose weights a first run, or a policy without one, is of."""
    if run is None:
        return PUBLISHED.get(sha256(start)) if start.is_file() else None
    (_, digest), *_ = _read(run / "inputs.json").get("start") or [["", ""]]
    known = {hashlib.sha256(one.encode()).hexdigest(): name for one, name in PUBLISHED.items()}
    return known.get(digest)


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON object of a run; an empty one where there is none."""
    found = read_json(path) if path.is_file() else {}
    if not isinstance(found, dict):
        raise UserError(f"{path} is not a JSON object: make it again")
    return found


def _front_matter(base: str | None, runs: Sequence[Path]) -> list[str]:
    languages = [configuration.read(one / "config.yaml").get("language") for one in runs]
    values: dict[str, Any] = {
        "license": "unknown",
        "library_name": "cosyvoice",
        "pipeline_tag": "text-to-speech",
        "tags": ["text-to-speech", "emotional-speech", "post-training", "rrpo"],
    }
    values |= {"base_model": base} if base else {}
    spoken = [one for one in languages if one]
    values |= {"language": spoken[-1]} if spoken else {}
    return ["---", *yaml.safe_dump(values, sort_keys=False).splitlines(), "---"]


def _head(
    run: Path, model: SpeechTokenLM, form: tuple[str, Precision], first: str, base: str | None
) -> list[str]:
    config = model.config
    count = sum(one.numel() for one in model.parameters())
    known = f"{base}, by its SHA-256" if base else "its weights are none that are known by hash"
    lines = [f"# {run.resolve().name}", ""]
    lines += [
        f"A speech-token language model of CosyVoice{config.version}'s layout, post-trained for "
        f"emotion and written by rrpo {__version__}. It needs the other files of its base.",
        "",
    ]
    rows: list[Row] = [
        ("base", [f"`{Path(first).name or first}` ({known})"]),
        ("form", [form[0]]),
        ("precision", [form[1]]),
        ("parameters", [f"{count / 1e6:.1f} M in {config.layers} layers, {config.hidden} wide"]),
        ("speech tokens of", [f"`{config.codec.split(' ')[0] or 'not recorded'}`"]),
    ]
    return lines + table("", ["this model"], rows)


def _method(runs: Sequence[Path]) -> list[str]:
    lines = ["## Data, method and settings"]
    if not runs:
        return [*lines, "", "No training is recorded: the policy is no run of rrpo."]
    for number, run in enumerate(runs, 1):
        results, inputs = _read(run / "results.json"), _read(run / "inputs.json")
        steps = results.get("stopped_at", "an unknown number of")
        lines += ["", f"### {number}. {results.get('kind', 'a training')}, `{run.name}`", ""]
        best = results.get("best_step")
        kept = "" if best is None else f", weights of step {best} kept"
        lines += [f"{steps} steps{kept}, {results.get('seconds', 'unknown')} s.", ""]
        rows = [
            (name, [f"`{Path(place).name or place}`", f"`{digest or 'bundled'}`"])
            for name, given in inputs.items()
            if isinstance(given, list)
            for place, digest in given
        ]
        lines += table("made from", ["name", "SHA-256"], rows) if rows else ["Inputs: not recorded"]
        settings = configuration.read(run / "config.yaml")
        named = {
            key: Path(value).name if key in PATHS and value else value
            for key, value in settings.items()
        }
        text = yaml.safe_dump(named, sort_keys=False, allow_unicode=True)
        lines += ["", "```yaml", *text.splitlines(), "```"]
    return lines


def _figures(run: Path | None) -> list[str]:
    """Return the run's own evaluation, its forgetting report, and what has no figure in them."""
    evaluation = {} if run is None else _read(run / "evaluation.json")
    system = section(evaluation, "system")
    lines = ["## Figures", ""]
    if system:
        lines += [
            f"`rrpo evaluate`: {system.get('utterances')} utterances, mean with 95 % interval.",
            "",
        ]
        scores = section(system, "rewards").items()
        rows = [
            (f"reward, `{Path(name).name}`", [cell(read_interval(one))]) for name, one in scores
        ]
        there = measures_in([system])
        rows += [(one.title, [cell(figure_of(system, one.key))]) for one in there]
        lines += table("measure", ["this model"], rows)
    else:
        lines += ["Evaluation: not measured (`rrpo evaluate` was not run on this policy)."]
    report = {} if run is None else _read(run / FORGETTING)
    lines += ["", "### What it forgot", ""]
    lines += _forgot(report) if report else ["Not measured (`rrpo policy forgetting`)."]
    missing = [one.title for one in MEASURES if system and figure_of(system, one.key) is None]
    lines += ["", "### Not measured", ""]
    lines += [f"- {name}" for name in missing]
    lines += [] if system else ["- the policy's speech, by any judge"]
    lines += [] if report else ["- other languages, long texts, and whether it reads instructions"]
    return [*lines, "- what people hear: no listening test is recorded here", "- misuse, and bias"]


def _forgot(report: Mapping[str, Any]) -> list[str]:
    columns, rows = forgetting_table(report)
    base = Path(str(report.get("base", ""))).name
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
