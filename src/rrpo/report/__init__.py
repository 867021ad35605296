"""Pages that show a run: figures in words, tables, curves and sound in one offline file."""

from rrpo.report.page import write_page, write_run_page
from rrpo.report.plots import figure
from rrpo.report.summary import summarize

__all__ = ["figure", "summarize", "write_page", "write_run_page"]
