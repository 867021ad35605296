"""Copy what a finished seed of `rrpo study seeds` leaves that its figures need, a few 100 kB.

    python scripts/seed_parts.py seeds/seed-0 research/seeds/seed-0

Weights and sounds stay behind. Copied back into another folder, the seed counts as done there: on
another machine the study goes on with the others, and pools all.
"""

import argparse
import json
from pathlib import Path

from rrpo.files import write_text

PARTS = (
    "plan.json",
    "seconds.json",
    "samples/*/rows.json",
    "samples/*/spoken.json",
    "systems/*/results.json",
    "reward_models/*/results.json",
    "reward_tests/*.json",
)


def copy(seed: Path, out: Path) -> int:
    """Copy the parts of a seed's folder, without spaces; return how many bytes."""
    size = 0
    for pattern in PARTS:
        for path in sorted(seed.glob(pattern)):
            text = json.dumps(json.loads(path.read_text(encoding="utf-8")), separators=(",", ":"))
            write_text(out / path.relative_to(seed), text + "\n")
            size += len(text)
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("seed", type=Path, help="Folder of a finished seed.")
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    if not (given.seed / "results.json").is_file():
        parser.error(f"{given.seed} holds no finished seed")
    print(f"{given.out}: {copy(given.seed, given.out)} bytes")


if __name__ == "__main__":
    main()
