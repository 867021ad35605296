"""Is the reward of what policies say in their audio, or in their tokens alone?

    for n in 0 1 2 3 4; do
      rrpo reward train --plain --set train.seed=$n --out models/$n/plain
      rrpo reward train --preset recommended --set train.seed=$n --out models/$n/hardened
    done
    python scripts/recodec_gap.py research/seeds --models models --out docs/studies/recodec.json

The first folder is that of `rrpo study seeds`, or its figures alone, with the tokens that each
system said (`seed-N/samples/SYSTEM/spoken.json`); the other has reward models of the same seeds.
What was said is rendered, encoded again, and read by each reward model (`rrpo.evaluate.recodec`).
Of each system the gap in nats is a mean over utterances, then over seeds, with Student's 95 %
interval over seeds; beside it the gap less that of the real tokens of the same sentences.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rrpo.cores import machine
from rrpo.errors import UserError
from rrpo.evaluate.matched import run_interval
from rrpo.evaluate.recodec import gaps, tokens_back
from rrpo.files import read_json, write_json
from rrpo.loading import load_reward_model
from rrpo.mini.codec import MiniCodec
from rrpo.mini.world import World
from rrpo.report.markdown import table
from rrpo.reward import RewardModel

REAL = "reference"
"""The system of real tokens."""
BACK = "tokens back"


def measured(seed: Path, models: Mapping[str, RewardModel], codec: MiniCodec) -> dict[str, Any]:
    """Return of each system its mean gap under each reward model, and the share of tokens back."""
    found: dict[str, Any] = {}
    for path in sorted(seed.glob("samples/*/spoken.json")):
        rows = read_json(path)
        drawn = [torch.tensor(row["tokens"]) for row in rows]
        again = [codec.encode(audio) for audio in codec.decode_batch(drawn)]
        emotions = [row["emotion"] for row in rows]
        figures = {
            name: float(gaps(model, emotions, drawn, again).mean())
            for name, model in models.items()
        }
        back = [tokens_back(one, other) for one, other in zip(drawn, again, strict=True)]
        found[path.parent.name] = {**figures, BACK: float(np.mean(back))}
        print(seed.name, path.parent.name, found[path.parent.name], file=sys.stderr)
    return found


def joined(seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return for each system and figure its mean over seeds, and that less the real tokens'."""
    systems = [name for name in seeds[0] if all(name in one for one in seeds)]
    return {
        system: {
            name: {
                "value": run_interval([one[system][name] for one in seeds]),
                "less_real": run_interval([one[system][name] - one[REAL][name] for one in seeds]),
            }
            for name in seeds[0][system]
        }
        for system in systems
    }


def page(found: Mapping[str, Any]) -> str:
    """Return the figures as a table."""
    names = list(found[REAL])
    rows = [
        (
            system,
            [
                *(format(figures[name]["value"], ".2f") for name in names),
                *(format(figures[name]["less_real"], "+.2f") for name in names if name != BACK),
            ],
        )
        for system, figures in found.items()
    ]
    less = [f"{name}, less real tokens'" for name in names if name != BACK]
    return "\n".join(table("system", [*names, *less], rows))


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    numbers = sorted(int(path.name) for path in given.models.iterdir() if path.name.isdigit())
    if len(numbers) < 2:
        raise UserError(f"{given.models} holds reward models of {len(numbers)} seeds: make two")
    codec = World().codec()
    seeds = []
    for number in numbers:
        folder = given.models / str(number)
        places = sorted((one for one in folder.iterdir() if one.is_dir()), reverse=True)
        models = {place.name: load_reward_model(place) for place in places}
        seeds.append(measured(given.folder / f"seed-{number}", models, codec))
    found = joined(seeds)
    if given.out:
        told = {"command": f"python scripts/recodec_gap.py {' '.join(sys.argv[1:])}"}
        told |= {"machine": machine()}
        write_json(given.out, {**told, "seeds": numbers, "systems": found})
    print(page(found))


if __name__ == "__main__":
    main()
