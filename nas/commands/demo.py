"""`h4hc nas demo`: train, search, export, compile and verify on a CPU in minutes; one table at the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from h4hc.api import CompileOptions, Objective, compile_model, verify_folder, write_folder, write_whole
from nas.checks import check_config
from nas.commands.export import Head, export
from nas.commands.search import search
from nas.commands.train import fit
from nas.config import load_config
from nas.runs import EXPORT, Run, begin, check_new
from nas.training.checkpoint import newest
from nas.training.trainer import CHECKPOINTS

Tree = dict[str, Any]
COMPILED, RESULT = "compiled", "demo.json"


def demo(
    folder: Path,
    sets: tuple[str, ...],
    segmentation: bool,
    show: bool,
    say: Callable[[str], None],
    count: Callable[[str, int, int], None],
) -> Tree:
    """The shipped configuration `demo`, with changes, in `folder`. The same call again goes on where it stopped.

    Raises what the parts raise; NumericsError where a compiled network does not verify.
    """
    config = load_config("demo", sets)
    check_config(config)
    check_new(folder)
    run = begin(folder, config)
    say(f"1/4 train a supernet of the space {config.space.name!r} on {config.data.name!r}")
    trained = fit(run, newest(folder / CHECKPOINTS) is not None, show, say)
    say(f"2/4 search for {config.hardware.target}")
    found = search(folder, None, (), say, count)
    say(f"3/4 export {min(config.export.top, len(found['front']))} networks of {len(found['front'])} on the front")
    head: Head = "segmentation" if segmentation else "none"
    networks = export(folder, (), None, None, (), head, False, say)["networks"]
    say(f"4/4 compile and verify them for {config.hardware.target}")
    tree = {
        "folder": str(folder), "seed": config.seed, "target": config.hardware.target,
        "accuracy_val": trained["accuracy_val"], "steps": trained["steps"],
        "evaluated": found["evaluated"], "front": found["front"],
        "networks": [{**report, "verified": _verified(run, i, segmentation)} for i, report in enumerate(networks)],
    }  # fmt: skip
    write_whole(folder / RESULT, json.dumps(tree, indent=1).encode() + b"\n")
    return tree


def _verified(run: Run, number: int, segmentation: bool) -> dict[str, str]:
    """Compile the files of one network for the system searched for, and run all forms against one another."""
    hardware = run.config.hardware
    options = CompileOptions(hardware.target, hardware.sets, objective=Objective(hardware.objective))
    status = {}
    for name in ("model", *(["segmentation"] if segmentation else [])):
        out = run.folder / COMPILED / f"{number:02d}-{name}"
        out.parent.mkdir(exist_ok=True)
        done = compile_model(run.folder / EXPORT / f"{number:02d}" / f"{name}.onnx", options)
        write_folder(done, out)
        status[name] = str(verify_folder(out).status)
    return status
