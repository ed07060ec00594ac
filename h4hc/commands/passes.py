"""`h4hc passes`: what there is; `h4hc passes MODEL -o FILE`: run a list on a model and write the result."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h4hc.commands.flags import file_problems, global_flags, pass_console, raise_all, write_new
from h4hc.console import Console
from h4hc.errors import Problem
from h4hc.text import table

if TYPE_CHECKING:
    from h4hc.pipeline import PipelineRun


@click.command(
    "passes",
    help="Without MODEL: list the passes with their options, and the named pass lists. With MODEL: run --passes on it "
    "and write the ONNX file, without planning anything.",
)
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option(
    "--passes", "text", default="default", show_default=True, help="A named list, or PASS{OPTION=VALUE},PASS."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="ONNX file to write.")
@click.option("--limit", "limits", multiple=True, metavar="NAME=N", help="Raise a limit: model-bytes=4G.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@global_flags
@pass_console
def command(
    console: Console, model: Path | None, text: str, output: Path | None, limits: tuple[str, ...], force: bool
) -> None:
    if model is None:
        _list(console)
        return
    problems = file_problems("such model file", model)
    if output is None:
        problems.append(Problem("-o FILE is missing", hint=f"h4hc passes {model} -o legal.onnx"))
    raise_all(problems)
    assert output is not None
    from h4hc.limits import parse
    from h4hc.load import load_model
    from h4hc.partitioned import legalised_model, model_bytes
    from h4hc.pipeline import parse_pipeline, run_pipeline

    passes = parse_pipeline(text)
    loaded = load_model(model, parse(limits))
    done = run_pipeline(loaded.model, passes)
    console.diagnostics((*loaded.diagnostics, *done.diagnostics))
    write_new(output, model_bytes(legalised_model(done.model)), force)
    console.say(f"wrote {output}")
    console.result({"steps": _steps(done)}, lambda: _run_text(done, console.width))


def _steps(done: PipelineRun) -> list[dict[str, Any]]:
    from h4hc.report import pass_row

    return [pass_row(step) for step in done.steps]


def _run_text(done: PipelineRun, width: int) -> str:
    rows = [
        (s.name, str(s.changed), str(s.nodes_before), str(s.nodes_after), str(len(s.removed)), str(len(s.skipped)))
        for s in done.steps
    ]
    head = ("pass", "rewrites", "nodes before", "after", "dropped", "left alone")
    return "\n".join(table(head, rows, width)) + "\n"


def _list(console: Console) -> None:
    from h4hc.registry import PASSES, pass_class, pipelines

    rows = []
    for name in sorted(PASSES):
        cls = pass_class(name)
        options = {f.name.replace("_", "-"): f.default for f in dataclasses.fields(cls)}
        plain = {k: v for k, v in options.items() if isinstance(v, bool | int | float | str)}
        rows.append(
            {
                "name": name,
                "what": (cls.__doc__ or "").strip().split("\n")[0],
                "options": plain,
                "after": list(cls.after),
            }
        )
    lists = [{"name": name, "passes": text.split(",")} for name, text in sorted(pipelines().items())]
    console.result({"passes": rows, "lists": lists}, lambda: _list_text(rows, lists, console.width))


def _list_text(rows: list[dict[str, Any]], lists: list[dict[str, Any]], width: int) -> str:
    import textwrap

    lines = table(("pass", "what it does"), [(r["name"], r["what"]) for r in rows], width, shrink=1)
    with_options = [r for r in rows if r["options"]]
    if with_options:
        lines += ["", "options, as in fold-constants{NAME=VALUE}"]
        for r in with_options:
            shown = " ".join(f"{k}={v}" for k, v in r["options"].items())
            lines.append(textwrap.fill(f"  {r['name']}: {shown}", width, subsequent_indent="    "))
    lines += ["", "named lists for --passes"]
    for item in lists:
        lines.append(textwrap.fill(f"  {item['name']}: {', '.join(item['passes'])}", width, subsequent_indent="    "))
    return "\n".join(lines) + "\n"
