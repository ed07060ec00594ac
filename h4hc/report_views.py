"""The two views of a report: one screen for a terminal, a page of Markdown. Both read the report's JSON alone."""

from h4hc.reporting.markdown import render_markdown
from h4hc.reporting.terminal import render_terminal

__all__ = ["render_markdown", "render_terminal"]
