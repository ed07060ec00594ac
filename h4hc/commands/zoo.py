"""`h4hc zoo list` and `h4hc zoo NAME -o FILE`."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click

from h4hc.commands.flags import global_flags, pass_console, write_new
from h4hc.console import Console
from h4hc.errors import UserError
from h4hc.reporting.terminal import count
from h4hc.text import table


@click.command("zoo", help="List the built-in models (`h4hc zoo list`), or write the model NAME to a file.")
@click.argument("name", metavar="list|NAME")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="ONNX file to write.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the weights.")
@click.option("--int8", is_flag=True, help="Quantised with QuantizeLinear and DequantizeLinear, per channel.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@global_flags
@pass_console
def command(console: Console, name: str, output: Path | None, seed: int, int8: bool, force: bool) -> None:
    from h4hc.zoo.models import MODELS

    if name == "list":
        _list(console)
        return
    if name not in MODELS:
        import difflib

        close = difflib.get_close_matches(name, MODELS, n=1)
        raise UserError(
            f"there is no zoo model {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""),
            why=f"known models: {', '.join(MODELS)}",
            hint="see `h4hc zoo list`",
        )
    if output is None:
        raise UserError("-o FILE is missing", hint=f"h4hc zoo {name} -o {name}.onnx")
    if output.exists() and not force:
        raise UserError("the file exists", (str(output),), hint="--force replaces it")
    from h4hc.zoo.build import build_model

    data = build_model(name, seed, int8).SerializeToString(deterministic=True)
    write_new(output, data, force)
    value = {
        "name": name,
        "seed": seed,
        "int8": int8,
        "file": str(output),
        "size_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    console.result(value, lambda: f"wrote {output}: {len(data)} bytes, sha256 {value['sha256']}\n")


def _list(console: Console) -> None:
    from h4hc.zoo.models import MODELS

    models = list(MODELS.values())
    rows = [
        (m.name, "x".join(map(str, m.input_shape)), count(m.macs, "MAC"), count(m.parameters, ""), m.title)
        for m in models
    ]
    head = ("name", "input", "MACs", "parameters", "what it is")
    value = [
        {
            "name": m.name,
            "title": m.title,
            "task": m.task,
            "input_shape": list(m.input_shape),
            "macs": m.macs,
            "parameters": m.parameters,
            "source": m.source,
        }
        for m in models
    ]
    console.result(value, lambda: "\n".join(table(head, rows, console.width, shrink=4)) + "\n")
