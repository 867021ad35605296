"""`rrpo report`."""

from collections.abc import Sequence
from pathlib import Path

from rrpo.checkpoint import read_json
from rrpo.errors import UserError
from rrpo.report.page import write_page, write_run_page


def report(folders: Sequence[Path]) -> None:
    """Write the page of each run or demo again."""
    for folder in folders:
        if not (folder / "results.json").is_file():
            raise UserError(f"{folder} holds no results.json: name the folder of a finished run")
        results = read_json(folder / "results.json")
        if not isinstance(results, dict):
            raise UserError(f"{folder / 'results.json'} is not of a run or a demo: run it again")
        is_demo = "systems" in results
        print(write_page(folder) if is_demo else write_run_page(folder))
