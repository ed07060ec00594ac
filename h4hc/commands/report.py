"""`h4hc report OUT`: a view of a report that was written before."""

from __future__ import annotations

from pathlib import Path

import click

from h4hc.commands.flags import global_flags, pass_console
from h4hc.console import Console


@click.command("report", help="Show the report of the output folder OUT.")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["terminal", "markdown"]),
    default="terminal",
    show_default=True,
    help="One screen, or the whole report; --json gives all of it.",
)
@global_flags
@pass_console
def command(console: Console, out: Path, form: str) -> None:
    from h4hc.reporting.markdown import render_markdown
    from h4hc.reporting.saved import load_report
    from h4hc.reporting.terminal import render_terminal

    report = load_report(out)
    console.result(
        report, lambda: render_markdown(report) if form == "markdown" else render_terminal(report, console.width)
    )
