"""Put the figures of several planted studies into one file, each row with its study.

    python scripts/planted_rows.py "clicks=planted/planted.json" \\
      "clicks, seeds 7 to 16=ten/planted.json" --out docs/studies/planted.json
    python scripts/planted_rows.py "clicks, seeds 7 to 16=ten_words.json" \\
      --out docs/studies/planted_words.json

Each is NAME=FILE, a file that `rrpo study planted` or `scripts/planted_words.py` wrote. Studies of
other names that the file has stay in it; one of the same name is replaced.

A file of rows has "studies", what is told of each by its name, and "rows", each with its "study".
A file of words has "studies" alone.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rrpo.errors import UserError
from rrpo.files import read_json, write_json

ROWS = "rows"


def joined(file: Mapping[str, Any], name: str, study: Mapping[str, Any]) -> dict[str, Any]:
    """Return a joined file with a study added, or replaced where its name is there."""
    told = {key: value for key, value in study.items() if key != ROWS}
    found = {"studies": {**file.get("studies", {}), name: told}}
    if ROWS in study:
        others = [row for row in file.get(ROWS, []) if row["study"] != name]
        found[ROWS] = [*others, *({"study": name, **row} for row in study[ROWS])]
    return found


def main() -> None:
    """Join what is given into the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    file = read_json(given.out) if given.out.is_file() else {}
    if file and "studies" not in file:
        raise UserError(f"{given.out} is of one study alone: name another --out")
    for one in given.studies:
        name, _, path = one.partition("=")
        study = read_json(Path(path))
        if (ROWS in study) != (ROWS in file) and file:
            raise UserError(f"{path} and {given.out} are not of one kind, rows or words")
        file = joined(file, name, study)
    write_json(given.out, file)


if __name__ == "__main__":
    main()
