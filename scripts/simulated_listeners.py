"""Analyse a listening test as if simulated listeners had taken it, whose opinion is known.

    rrpo listen build base=mini sft=mini diffro=mini rrpo=mini --out heard
    python scripts/simulated_listeners.py heard --careless 2 --out simulated

They do not hear the sounds: their ratings are drawn around the means given for the systems,
by default those of the paper's Table 1, with the variances that `rrpo listen build` assumes. So the
analysis can be looked at before anybody has listened, and the truth beside it.
"""

import argparse
from pathlib import Path

from rich.console import Console

from rrpo.listen.analysis import analyze
from rrpo.listen.design import read_design
from rrpo.listen.power import ASSUMED
from rrpo.listen.terminal import print_analysis
from rrpo_studies.simulated_listeners import Crowd, Opinion, expected_rating

TABLE_1 = {"emotion": [3.27, 3.52, 3.65, 3.78], "naturalness": [3.65, 3.72, 3.61, 3.81]}
"""Of CosyVoice2, and after SFT, DiffRO and RRPO."""


def main() -> None:
    """Simulate, analyse, print the table and the truth."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("test", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--listeners", type=int, default=20)
    parser.add_argument("--careless", type=int, default=0, help="of them, who answer anything")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    design = read_design(given.test)
    means = {
        question: dict(zip(design.systems, values, strict=False))
        for question, values in TABLE_1.items()
    }
    crowd = Crowd(design, Opinion(means), given.seed)
    ratings = crowd.ratings(given.listeners, given.careless)
    figures = analyze(given.test, ratings, judges=False, out=given.out)
    print_analysis(figures, Console(width=80))
    for name, of_systems in means.items():
        truth = [
            f"{system} {expected_rating(mean, ASSUMED, design.question(name)):.2f}"
            for system, mean in of_systems.items()
        ]
        print(f"truth, {name}: {', '.join(truth)}")


if __name__ == "__main__":
    main()
