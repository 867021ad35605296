"""The templates of pages, and the style that all pages share."""

import functools
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rrpo.measures import system_label

TEMPLATES = Path(__file__).parent


@functools.cache
def templates(folder: Path = TEMPLATES) -> Environment:
    """Return the templates of a folder; a page that grows is rendered often."""
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["system_label"] = system_label
    return environment
