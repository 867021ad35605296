"""Reward models tested as recognisers of emotion: `rrpo reward eval`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from rrpo import config as configuration
from rrpo import detector_eval, spelling
from rrpo.codec_identity import require_one_codec
from rrpo.data.manifest import TEST
from rrpo.data.shards import Utterance, for_tests, shard_codec, shard_insert
from rrpo.errors import UserError
from rrpo.evaluate import robustness, ser
from rrpo.evaluate.tasks import symbol_error
from rrpo.files import read_json, write_json
from rrpo.interval import Interval
from rrpo.loading import codec_identity, describe, load_reward_model
from rrpo.measures import plain_name, reward_model_label
from rrpo.mini.world import BUNDLED, MINI, World
from rrpo.notes import note
from rrpo.provenance import read_object
from rrpo.report.page import write_run_page
from rrpo.report.recognition import print_reports
from rrpo.report.table2 import print_differences, print_table2
from rrpo.reward import RewardModel
from rrpo.reward.config import RewardRun, subset_name, subsets


def evaluate(
    folders: Sequence[str],
    data: Sequence[Path],
    partition: str | None = None,
    codec_of: str | None = None,
) -> None:
    """Print reward models' figures as recognisers and, in run folders, add them to the results.

    Of detectors `rrpo.detector_eval.evaluate` does that.

    Args:
        folders: runs, or `mini`.
        data: token shards; without any, the bundled test sets.
        partition: of `data` (`for_tests`).
        codec_of: which codec the tokens are of, where shards or models do not say it.
    """
    if partition is not None and not data:
        raise UserError("--partition chooses among the utterances of --data: give that, too")
    models = {folder: load_reward_model(folder) for folder in folders}
    known = {f"the reward model {folder}": one.config.codec for folder, one in models.items()}
    known |= {str(one): shard_codec(one) for one in data}
    if not data:
        known["the bundled test sets"] = World().codec_identity
    require_one_codec(known, codec_identity(codec_of))
    if _are_detectors(models):
        sets = _test_sets(data, partition, tell_sounds=True) if data else {}
        _keep(detector_eval.evaluate(models, sets))
        return
    tests = _test_sets(data, partition) if data else World().tests()
    if not any(row.partition == TEST for rows in tests.values() for row in rows):
        _tell_trained_on(folders, data)
    found = {folder: _recognitions(folder, model, tests) for folder, model in models.items()}
    read = {folder: _symbol_errors(folder, model, tests) for folder, model in models.items()}
    evaluations = {
        folder: {
            **_evaluation(found[folder]),
            "robustness": robustness.figures(model, next(iter(tests.values()))),
            **({"symbol_error": read[folder]} if read[folder] else {}),
        }
        for folder, model in models.items()
    }
    _print(folders, evaluations, found, read)
    _keep(evaluations)


def _tell_trained_on(folders: Sequence[str], data: Sequence[Path]) -> None:
    """Say so where a reward model was trained on what it is tested on."""
    tested = {digest: place for place, digest in describe(data=data).get("data", [])}
    for folder in folders:
        for _, digest in read_object(Path(folder) / "inputs.json").get("data", []):
            if digest in tested:
                note(
                    f"{folder} was trained on {tested[digest]}, nothing of which is held out: its "
                    "figures there say little about other speech"
                )


def _keep(evaluations: Mapping[str, Mapping[str, Any]]) -> None:
    """Write evaluations into run folders, in place of those before."""
    for folder, evaluation in evaluations.items():
        results = Path(folder) / "results.json"
        if folder not in BUNDLED and results.is_file():
            write_json(results, {**read_json(results), "evaluation": evaluation})
            print(f"page: {write_run_page(Path(folder))}")


def _print(
    folders: Sequence[str],
    evaluations: Mapping[str, Mapping[str, Any]],
    found: Mapping[str, Mapping[str, ser.Recognition]],
    read: Mapping[str, Mapping[str, Interval]],
) -> None:
    """Print the tables: of several reward models the paper's Table 2 and their differences."""
    console = Console()
    labels = _hardening_labels(folders)
    reports = {label: evaluations[folder]["reports"] for folder, label in labels.items()}
    if len(reports) > 1:
        print_table2(reports, console)
        first, *others = labels
        paired = {labels[other]: _differences(found[other], found[first]) for other in others}
        if any(paired.values()):
            print_differences(labels[first], paired, console)
    for label, each in reports.items():
        print_reports(label, each, console, details=len(reports) == 1)
    for folder, label in labels.items():
        for name, error in read[folder].items():
            print(f"{label}: symbol error of the content head on {name}: {error}")


def _are_detectors(models: Mapping[str, RewardModel]) -> bool:
    """Say whether reward models are detectors, of which another table is made.

    Raises:
        UserError: some of them are.
    """
    found = [folder for folder, model in models.items() if model.is_detector]
    if 0 < len(found) < len(models):
        others = ", ".join(folder for folder in models if folder not in found)
        raise UserError(
            f"{', '.join(found)}: a detector of sounds, which {others} is not: test them in two "
            "commands"
        )
    return bool(found)


def _test_sets(
    data: Sequence[Path], partition: str | None, tell_sounds: bool = False
) -> dict[str, list[Utterance]]:
    """Read token shards, named by as few last parts of their paths as are unique.

    Args:
        data: the shards.
        partition: as of `for_tests`.
        tell_sounds: name the sound that was put into them, too.
    """
    places = list(dict.fromkeys(path.resolve() for path in data))
    parts = [place.with_suffix("").parts if place.is_file() else place.parts for place in places]
    sounds = [shard_insert(place) if tell_sounds else "" for place in places]
    told = [f", with {sound}" if sound else "" for sound in sounds]
    names: list[str] = []
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-depth:]) + more for one, more in zip(parts, told, strict=True)]
        if len({plain_name(name) for name in names}) == len(names):
            break
    else:
        names = [f"{place}{more}" for place, more in zip(places, told, strict=True)]
    return {name: for_tests(place, partition) for name, place in zip(names, places, strict=True)}


def _recognitions(
    name: str, model: RewardModel, tests: Mapping[str, Sequence[Utterance]]
) -> dict[str, ser.Recognition]:
    """Let a reward model recognise every test set."""
    found = {}
    for test, rows in tests.items():
        try:
            found[test] = ser.recognise(model, rows)
        except UserError as error:
            raise UserError(f"{name} on {test}: {error}") from None
    return found


def _symbol_errors(
    folder: str, model: RewardModel, tests: Mapping[str, Sequence[Utterance]]
) -> dict[str, Interval]:
    """Return the content head's symbol error on each test set whose texts it can read."""
    try:
        known = spelling.spelling_of(folder, model)
    except UserError as error:
        print(f"{folder}: its content head is not tested: {error}")
        return {}
    if known is None:
        return {}
    found = {}
    for name, rows in tests.items():
        texts, _ = spelling.spell(rows, known.spell)
        kept = [(row, text) for row, text in zip(rows, texts, strict=True) if text.numel()]
        if kept:
            found[name] = symbol_error(model, [row for row, _ in kept], [text for _, text in kept])
    return found


def _evaluation(found: Mapping[str, ser.Recognition]) -> dict[str, Any]:
    """Return a reward model's figures by measure, and its reports by test set."""
    reports = {test: ser.report(one) for test, one in found.items()}
    return {**ser.by_measure(reports), "reports": reports}


def _differences(
    found: Mapping[str, ser.Recognition], others: Mapping[str, ser.Recognition]
) -> dict[str, Interval]:
    """Return paired differences on the test sets where both score the same emotions."""
    return {
        test: ser.difference(one, others[test])
        for test, one in found.items()
        if one.classes == others[test].classes
    }


def _hardening_labels(folders: Sequence[str]) -> dict[str, str]:
    """Return the rows of Table 2: each folder's regularizers, or its name, in the table's order."""
    order = ["pretrained", *subsets()]
    names = {}
    for folder in folders:
        if folder == MINI:
            names[folder] = "pretrained"
            continue
        try:
            names[folder] = subset_name(
                configuration.load(RewardRun, Path(folder) / "config.yaml").fit
            )
        except UserError:  # not a run of ours, or one of another kind: its own name has to do
            names[folder] = ""
    known = Counter(name for name in names.values() if name)
    labels = {}
    for folder in sorted(names, key=lambda one: order.index(names[one]) if names[one] else 99):
        own = Path(folder).name or folder
        label = reward_model_label(names[folder]) if names[folder] else own
        labels[folder] = f"{label} ({folder})" if known[names[folder]] > 1 else label
    if len(set(labels.values())) < len(labels):
        return {folder: folder for folder in labels}
    return labels
