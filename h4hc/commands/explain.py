"""`h4hc explain OUT NODE`."""

from __future__ import annotations

from pathlib import Path

import click

from h4hc.commands.flags import global_flags, pass_console
from h4hc.console import Console
from h4hc.text import shorten

MAX_LISTED = 40
MAX_NAME = 1024


@click.command(
    "explain",
    help="Say why NODE of the output folder OUT runs where it does, what it costs, what each other device would cost, "
    "and which rule refused it. NODE is a node of your model, a part of its name, or a glob; of several, a list.",
)
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("node")
@global_flags
@pass_console
def command(console: Console, out: Path, node: str) -> None:
    from h4hc.explain import explain, find_nodes, render
    from h4hc.reporting.saved import load_report

    report = load_report(out)
    names = find_nodes(report, node)
    if len(names) > 1:
        console.result({"matches": names, "answers": []}, lambda: _listed(names, node))
        return
    answer = explain(report, names[0])
    console.result({"matches": names, "answers": [answer]}, lambda: render(report, answer, console.width))


def _listed(names: list[str], node: str) -> str:
    """Whole names, whatever the width: they are there to be copied."""
    lines = [f"{len(names)} operators match {shorten(node, 40)!r}; name one:"]
    lines += [f"  {shorten(n, MAX_NAME)}" for n in names[:MAX_LISTED]]
    if names[MAX_LISTED:]:
        lines.append(f"  and {len(names) - MAX_LISTED} more")
    return "\n".join(lines) + "\n"
