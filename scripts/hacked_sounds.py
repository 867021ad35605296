"""Bundle what a finished `rrpo study planted` lets be heard, for the second act of the demo's page.

    python scripts/hacked_sounds.py planted --out src/rrpo/mini/assets/hacked.json

Taken are the first sentences that seed 0's policies say in the planted emotion, whatever they sound
like, and the figures of all seeds; the command is that of the study.
"""

import argparse
from pathlib import Path
from typing import Any

from rrpo.checkpoint import read_json, write_json
from rrpo.errors import UserError
from rrpo.interval import Interval
from rrpo.mini.world import World
from rrpo.studies.planted.figures import CONTROL, FIRST_POLICY
from rrpo.studies.planted.page import BEST
from rrpo.studies.planted.plan import EMOTION
from rrpo.studies.planted.recipes import POLICIES

SHOWN = (CONTROL, FIRST_POLICY, "rrpo", BEST)
SENTENCES = 2


def figure(rows: list[dict[str, Any]], policy: str, measure: str, seeds: int) -> str:
    """Return a policy's figure with its interval over seeds."""
    row = next(one for one in rows if (one["policy"], one["measure"]) == (policy, measure))
    if row["seeds"] != seeds or seeds < 2:
        raise UserError(f"{policy}: {row['seeds']} of {seeds} seeds are done")
    return format(Interval(row["mean"], row["low"], row["high"]), ".2f")


def bundle(study: Path) -> dict[str, Any]:
    """Return what the demo shows of a planted study of clicks."""
    told = read_json(study / "planted.json")
    rows = [one for one in told["rows"] if one["artifact"] == "click" and one["policy"]]
    rho, seeds = told["plan"]["policy_rho"], told["plan"]["seeds"]
    said = {
        name: read_json(study / "policy" / f"click-{rho:g}-{name}-0" / "figures.json")["said"]
        for name in SHOWN
    }
    texts = list(said[SHOWN[0]]["start"])[:SENTENCES]
    start = figure(rows, SHOWN[0], "planted, at the start", seeds)
    acts = [
        {
            "title": "Before",
            "figures": f"{start} clicks an utterance",
            "tokens": [said[SHOWN[0]]["start"][text] for text in texts],
        }
    ]
    for name in SHOWN:
        clicks, judge = (figure(rows, name, one, seeds) for one in ("planted", "judge"))
        acts.append(
            {
                "title": POLICIES[name].title,
                "figures": f"{clicks} clicks an utterance, judge {judge}",
                "tokens": [said[name]["end"][text] for text in texts],
            }
        )
    return {
        "told": "Nothing above was hacked on purpose. In a study, five clicks were planted in "
        f"nearly all speech labelled {EMOTION} and hardly any other, reward models learned from "
        "it, and policies were trained against them; the control’s reward model learned from "
        "speech in which clicks tell nothing. Hear what the policies of one training say, asked "
        f"to be {EMOTION}; the figures are means over {seeds} trainings with 95 % intervals.",
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
