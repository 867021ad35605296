"""What attacks did to two kinds of reward model, over several seeds of their training.

    for n in 0 1 2 3 4; do
      rrpo reward train --plain --set train.seed=$n --out models/$n/plain
      rrpo reward train --preset recommended --set train.seed=$n --out models/$n/hardened
      rrpo reward attack models/$n/plain models/$n/hardened --utterances 60 --seed $n \
        --out attacked/$n
    done
    python scripts/attacked_seeds.py attacked/* --out docs/studies/attacks.json

Each folder is one seed: its `attack.json` has the same models in the same order. For each attack
the figures of each model are averaged over seeds, and so is the difference of the last model and
the first; intervals are Student's, 95 %, over seeds. A table is printed as markdown.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rrpo.errors import UserError
from rrpo.evaluate.matched import run_interval
from rrpo.files import read_json, write_json
from rrpo.interval import Interval, with_intervals
from rrpo.report.markdown import table

MEASURES = ("deceived", "gain", "unheard", "judge_gain")


def joined(seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return for each attack and measure the figure of each model, and the difference.

    Raises:
        UserError: the seeds were attacked differently, or have other models.
    """
    names = [Path(name).name for name in seeds[0]["models"]]
    for one in seeds:
        if [Path(name).name for name in one["models"]] != names:
            raise UserError(f"the seeds have other models than {', '.join(names)}")
        if one["size"] != seeds[0]["size"]:
            raise UserError("the seeds were attacked with other sizes: attack them alike")
    every = [[list(one["models"].values())[place] for one in seeds] for place in range(len(names))]
    rows: dict[str, Any] = {}
    for number, attack in enumerate(every[0][0]["attacks"]):
        for measure in MEASURES:
            if measure not in attack:
                continue
            values = [
                [found["attacks"][number][measure].mean for found in models] for models in every
            ]
            rows.setdefault(attack["name"], {})[measure] = _compared(names, values)
    worst: dict[str, Any] = {}
    for measure, key in (("deceived", "worst"), ("unheard", "worst_unheard")):
        for kind in every[0][0][key]:
            values = [[found[key][kind].mean for found in models] for models in every]
            worst.setdefault(kind, {})[measure] = _compared(names, values)
    return {"attacks": rows, "worst": worst, "warnings": [_warnings(one) for one in seeds]}


def _compared(names: Sequence[str], values: Sequence[Sequence[float]]) -> dict[str, Interval]:
    found = {name: run_interval(own) for name, own in zip(names, values, strict=True)}
    apart = [last - first for first, last in zip(values[0], values[-1], strict=True)]
    return {**found, "difference": run_interval(apart)}


def _warnings(one: Mapping[str, Any]) -> dict[str, list[str]]:
    return {Path(name).name: found["warnings"] for name, found in one["models"].items()}


def page(found: Mapping[str, Any]) -> str:
    """Return a table of the share that is deceived, and of that while the judge does not hear."""
    first = next(iter(found["attacks"].values()))["deceived"]
    names = [name for name in first if name != "difference"]
    rows = []
    worst = {f"worst of {kind}": measures for kind, measures in found["worst"].items()}
    for attack, measures in {**found["attacks"], **worst}.items():
        cells = [
            format(measures[measure][name], "+.2f" if name == "difference" else ".2f")
            if measure in measures
            else "–"
            for measure in ("deceived", "unheard")
            for name in (*names, "difference")
        ]
        rows.append((attack, cells))
    titles = [f"{title}{name}" for title in ("", "not heard, ") for name in (*names, "difference")]
    return "\n".join(table("attack", titles, rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    seeds = [with_intervals(read_json(folder / "attack.json")) for folder in given.folders]
    figures = joined(seeds)
    shared = {name: seeds[0][name] for name in ("machine", "size", "data", "codec")}
    counts = {"utterances": [one["utterances"] for one in seeds]}
    command = f"python scripts/attacked_seeds.py {' '.join(sys.argv[1:])}"
    told = {"seeds": [one["seed"] for one in seeds], "command": command}
    if given.out:
        write_json(given.out, {**told, **shared, **counts, **figures})
    print(page(figures))
