"""Bundle what a finished `rrpo study planted` lets be heard, for the second act of the demo's page.

    python scripts/hacked_sounds.py planted --out src/rrpo/mini/assets/hacked.json

Taken are the first sentences that the policies of one seed say in the planted emotion, whatever
they sound like, and the figures of all seeds. The seed is that whose artifacts are nearest to the
means. The command is that of the study.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from rrpo.errors import UserError
from rrpo.files import read_json, write_json
from rrpo.interval import Interval
from rrpo.mini.world import World
from rrpo_studies.planted.figures import CONTROL, FIRST_POLICY, late
from rrpo_studies.planted.plan import EMOTION

CURE = "rrpo_cured_words_odds"
SHOWN = {
    CONTROL: "DiffRO where clicks tell nothing",
    FIRST_POLICY: "DiffRO, plain reward model",
    "rrpo": "RRPO, hardened reward model",
    CURE: "RRPO, cured",
}
"""Policies by name, and how the demo's page calls them."""
SENTENCES = 2


def figure(rows: list[dict[str, Any]], policy: str, measure: str, seeds: int) -> str:
    """Return a policy's figure with its interval over seeds."""
    row = next(one for one in rows if (one["policy"], one["measure"]) == (policy, measure))
    if row["seeds"] != seeds or seeds < 2:
        raise UserError(f"{policy}: {row['seeds']} of {seeds} seeds are done")
    return format(Interval(row["mean"], row["low"], row["high"]), ".2f")


def typical(found: dict[str, list[dict[str, Any]]]) -> int:
    """Return the seed whose late artifacts are nearest to the means, each as a share of its mean.

    Args:
        found: of each policy its figures, seed by seed.
    """
    said = np.array([[late(one["looks"])["planted"] for one in seeds] for seeds in found.values()])
    return int(np.abs(said / said.mean(1, keepdims=True) - 1).sum(0).argmin())


def bundle(study: Path) -> dict[str, Any]:
    """Return what the demo shows of a planted study of clicks."""
    told = read_json(study / "planted.json")
    rows = [one for one in told["rows"] if one["artifact"] == "click" and one["policy"]]
    rho, seeds = told["plan"]["policy_rho"], told["plan"]["seeds"]
    first = told["plan"]["first_seed"]
    found = {
        name: [
            read_json(study / "policy" / f"click-{rho:g}-{name}-{seed}" / "figures.json")
            for seed in range(first, first + seeds)
        ]
        for name in SHOWN
    }
    seed = typical(found)
    said = {name: figures[seed]["said"] for name, figures in found.items()}
    texts = list(said[CONTROL]["start"])[:SENTENCES]
    start = figure(rows, CONTROL, "planted, at the start", seeds)
    acts = [
        {
            "title": "Before",
            "figures": f"{start} clicks an utterance",
            "tokens": [said[CONTROL]["start"][text] for text in texts],
        }
    ]
    for name, title in SHOWN.items():
        clicks, judge = (figure(rows, name, one, seeds) for one in ("planted", "judge"))
        acts.append(
            {
                "title": title,
                "figures": f"{clicks} clicks an utterance, judge {judge}",
                "tokens": [said[name]["end"][text] for text in texts],
            }
        )
    return {
        "told": "Nothing above was hacked on purpose. In a study, five clicks were planted in "
        f"nearly all speech labelled {EMOTION} and hardly any other, reward models learned from "
        "it, and policies were trained against them; the control’s reward model learned from "
        "speech in which clicks tell nothing. The last policy’s reward model has clicks in half of "
        "the speech of every emotion, a detector of clicks and the words stand in its reward, and "
        "it takes twice the steps. Hear what the policies of the training that is nearest to the "
        f"means say, asked to be {EMOTION}; the figures are means over {seeds} trainings with 95 % "
        "intervals.",
        "command": told["command"],
        "codec": World().codec_identity,
        "texts": texts,
        "acts": acts,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", type=Path, help="Folder of `rrpo study planted`.")
    parser.add_argument("--out", type=Path, required=True, help="JSON to be written.")
    asked = parser.parse_args()
    write_json(asked.out, bundle(asked.study))


if __name__ == "__main__":
    main()
