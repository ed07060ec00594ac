"""`h4hc targets list` and `h4hc targets show T [--ops]`."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import click

from h4hc.commands.flags import global_flags, pass_console, raise_all, set_problems
from h4hc.commands.targets_calibrate import calibrate_command
from h4hc.commands.targets_cost import cost_command
from h4hc.console import Console
from h4hc.text import clip, table

if TYPE_CHECKING:
    from h4hc.target_show import Description, Support


@click.group("targets", help="List the targets, or show one with its numbers and supported operators.")
@global_flags
def command() -> None: ...


command.add_command(calibrate_command)
command.add_command(cost_command)


@command.command("list", help="All systems that --target takes, and the device presets they are made of.")
@global_flags
@pass_console
def list_command(console: Console) -> None:
    from h4hc.target_file import list_targets

    entries = list_targets()
    rows = [(e.name, e.kind, e.title) for e in entries]
    console.result(
        [{"name": e.name, "kind": e.kind, "title": e.title} for e in entries],
        lambda: "\n".join(table(("name", "kind", "what it is"), rows, console.width, shrink=2)) + "\n",
    )


@command.command("show", help="The numbers of target T with unit and evidence mark; with --ops what runs where.")
@click.argument("target", metavar="T")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change a number, as `compile --set` does.")
@click.option("--ops", is_flag=True, help="The table of operator kinds and devices, with the rules.")
@global_flags
@pass_console
def show_command(console: Console, target: str, sets: tuple[str, ...], ops: bool) -> None:
    raise_all(set_problems(sets))
    from h4hc.target_file import load_system
    from h4hc.target_show import describe, support_table

    system = load_system(target, sets)
    about = describe(system)
    value: dict[str, Any] = {
        "name": about.name,
        "title": about.title,
        "sha256": about.sha256,
        "numbers": [{"part": part, "name": name, "value": text} for part, name, text in about.rows],
    }
    support = support_table(system) if ops else ()
    if ops:
        value["support"] = [
            {"kind": str(s.kind), "device": s.device, "runs": s.runs, "conditions": list(s.conditions)} for s in support
        ]
    console.result(value, lambda: _ops_text(support, console.width) if ops else _text(about, console.width))


def _text(about: Description, width: int) -> str:
    lines = [clip(f"{about.name}: {about.title}", width), f"sha256 {about.sha256[:16]} (--json has all of it)", ""]
    return "\n".join([*lines, *table(("part", "name", "value"), about.rows, width, shrink=2)]) + "\n"


def _ops_text(support: tuple[Support, ...], width: int) -> str:
    """A table of yes, if and no, then each device's rules with the kinds they apply to."""
    devices = list(dict.fromkeys(s.device for s in support))
    answers: dict[str, list[str]] = {}
    for s in support:
        answers.setdefault(str(s.kind), []).append("no" if not s.runs else "if" if s.conditions else "yes")
    lines = table(("kind", *devices), [(kind, *cells) for kind, cells in answers.items()], width)
    lines += ["", "if: when it meets its rules below; no: one of them refuses"]
    for device in devices:
        rules: dict[str, list[str]] = {}
        for s in support:
            for sentence in s.conditions if s.device == device else ():
                rules.setdefault(sentence, []).append(str(s.kind))
        lines += ["", f"{device}: {len(rules)} rules"]
        for sentence, kinds in rules.items():
            which = "all kinds" if len(kinds) == len(answers) else ", ".join(kinds)
            lines.append(textwrap.fill(f"  {sentence} ({which})", width, subsequent_indent="      "))
    return "\n".join(lines) + "\n"
