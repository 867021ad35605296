"""What the administrator is shown and takes away: counts, and all that is kept as CSV or JSON.

Neither names a system, so that nobody sees who is ahead before the test is over.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rrpo.listen.design import Design
from rrpo.listen.ratings import Listener, Ratings

COLUMNS = (
    *("listener", "order", "finished", "panel_id"),
    *("page", "role", "question", "value", "seconds", "plays"),
)


def state(
    design: Design, listeners: Sequence[tuple[Listener, int]], pages: Mapping[str, int]
) -> dict[str, Any]:
    """Return how far a test is, as JSON.

    Args:
        design: of the test.
        listeners: each with the number of pages that were answered.
        pages: by how many listeners each page was answered, by its id.
    """
    return {
        "title": design.title,
        "panel": design.panel,
        "started": len(listeners),
        "finished": sum(one.finished for one, _ in listeners),
        "answered": sum(pages.values()),
        "listeners": [
            {**asdict(one), "answered": count, "pages": len(set(design.orders[one.order]))}
            for one, count in listeners
        ],
        "pages": [
            {
                "id": page.id,
                "role": page.role,
                "emotion": page.emotion,
                "answered": pages.get(page.id, 0),
            }
            for page in design.pages
        ],
    }


def as_json(ratings: Ratings) -> str:
    """Return all that is kept as JSON."""
    return json.dumps(asdict(ratings), indent=1) + "\n"


def as_csv(design: Design, ratings: Ratings) -> str:
    """Return the answers as CSV, one a line; marked places are divided by spaces."""
    listeners = {one.id: one for one in ratings.listeners}
    roles = {page.id: page.role for page in design.pages}
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for answer in ratings.answers:
        one, value = listeners[answer.listener], answer.value
        table.writerow(
            [
                *(one.id, one.order, int(one.finished), one.panel_id or ""),
                *(answer.page, roles[answer.page], answer.question),
                " ".join(map(str, value)) if isinstance(value, tuple) else value,
                *(answer.seconds, answer.plays),
            ]
        )
    return text.getvalue()
