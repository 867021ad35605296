"""A hook of mkdocs: links to files outside docs/, which no page of the site can reach."""

import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Name each such file by its path in the repository instead of linking to it."""
    docs = Path(config.docs_dir).resolve()
    folder = Path(page.file.abs_src_path).resolve().parent

    def shown(match: re.Match[str]) -> str:
        text, target = match[1], match[2]
        path = (folder / target).resolve()
        if "://" in target or path.is_relative_to(docs) or not path.exists():
            return match[0]
        return f"{text} (`{path.relative_to(docs.parent)}`)"

    return LINK.sub(shown, markdown)
