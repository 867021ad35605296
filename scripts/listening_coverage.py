"""How often does an interval of `rrpo listen analyze` hold the truth? Simulated listeners say.

    python scripts/listening_coverage.py --out docs/studies/listening_coverage.json

In each simulation new listeners and items are drawn: what a listener thinks of all sounds, of a
system and of an item, what an item is like in all systems and in one, and a rest, with the
variances that `rrpo listen build` assumes, and without what is of one system alone. Ratings are
rounded to the steps of the scale and cut at its ends, and the truth is the mean of such ratings,
which is known exactly. Counted are the 95 % intervals that hold it, of the means of two systems and
of two differences.
"""

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from rrpo.cores import machine
from rrpo.evaluate.two_way import ratio, ratio_difference, two_way_interval
from rrpo.files import write_json
from rrpo.listen.orders import Hear
from rrpo.listen.power import ASSUMED, Variances
from rrpo_studies.simulated_listeners import SCALE, expected_rating, simulated_counts

MEANS = (3.27, 3.52, 3.65, 3.78)
"""Of four systems: the E-MOS of the paper's Table 1."""
SIZES = ((20, 50), (8, 20))
VARIANCES = {"assumed": ASSUMED, "no preferences": Variances(listener_system=0.0, item_system=0.0)}
RESAMPLES = 1000


def coverage(
    size: tuple[int, int], hear: Hear, variances: Variances, simulations: int, seed: int
) -> dict[str, Any]:
    """Return which share of intervals holds the truth, and how wide they are."""
    truth = [expected_rating(mean, variances, SCALE) for mean in MEANS]
    held: dict[str, list[float]] = {"mean": [], "difference": []}
    width: dict[str, list[float]] = {"mean": [], "difference": []}
    for number in range(simulations):
        rng = np.random.default_rng([seed, number])
        counts = simulated_counts(MEANS, *size, hear, variances, rng)
        for name, systems in (("mean", [0]), ("mean", [3]), ("difference", [3, 0]),
                              ("difference", [3, 2])):  # fmt: skip
            if name == "mean":
                found = two_way_interval(counts[:, :, systems[0]], ratio, number, RESAMPLES)
                true = truth[systems[0]]
            else:
                chosen = counts[:, :, systems]
                found = two_way_interval(chosen, ratio_difference, number, RESAMPLES)
                true = truth[systems[0]] - truth[systems[1]]
            held[name].append(float(found.low <= true <= found.high))
            width[name].append(found.high - found.low)
    error = 1.96 * math.sqrt(0.95 * 0.05 / simulations)
    return {
        "listeners": size[0],
        "items": size[1],
        "hear": hear,
        "coverage": {name: float(np.mean(values)) for name, values in held.items()},
        "width": {name: float(np.mean(values)) for name, values in width.items()},
        "error": error,
    }


def main() -> None:
    """Simulate, print a line for each size, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = []
    began = time.monotonic()
    for name, variances in VARIANCES.items():
        for size in SIZES:
            for hear in ("one", "all"):
                row = coverage(size, hear, variances, given.simulations, given.seed)
                rows.append({"variances": name, **row})
                held = ", ".join(f"{key} {share:.3f}" for key, share in row["coverage"].items())
                print(f"{name}: {size[0]} × {size[1]}, hear {hear}: {held}", flush=True)
    if given.out:
        result = {
            "command": f"python scripts/listening_coverage.py {' '.join(sys.argv[1:])}",
            "seed": given.seed,
            "simulations": given.simulations,
            "resamples": RESAMPLES,
            "machine": machine(),
            "seconds": round(time.monotonic() - began),
            "variances": {name: vars(one) for name, one in VARIANCES.items()},
            "rows": rows,
        }
        write_json(given.out, result)


if __name__ == "__main__":
    main()
