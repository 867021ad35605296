"""Pages that show a run: tables, curves and sound in one offline file."""

from rrpo.report.page import write_page, write_run_page
from rrpo.report.plots import figure

__all__ = ["figure", "write_page", "write_run_page"]
