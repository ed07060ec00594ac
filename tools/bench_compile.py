"""CPU seconds of `h4hc` commands as whole processes from a cold start, children included: a table, no verdict.

The title gives the time of a fixed Python loop on this machine, so that tables of different machines (or of one whose
clock drifts) can be compared. Rows: `--help`; compile of every zoo model (float and int8) for npu+cim; compile of a
2,000-operator graph. `solver` is the stage "partition" of the compile (model building, HiGHS, baselines), wall time on
one thread. Median of the runs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

from h4hc.zoo.models import MODELS

H4HC = [sys.executable, "-m", "h4hc"]


def block_graph(operators: int, channels: int = 64, size: int = 14) -> onnx.ModelProto:
    """A chain of inverted-residual blocks, four operators each: 1x1, depthwise 3x3, 1x1, add (with two Relus fused)."""
    rng = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for block in range(operators // 4):
        value = last
        for part, (kernel, groups) in enumerate(((1, 1), (3, channels), (1, 1))):
            name = f"/blocks.{block}/conv{part}"
            shape = (channels, channels // groups, kernel, kernel)
            array = rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)
            weights.append(numpy_helper.from_array(array, f"{name}.weight"))
            sides = [kernel // 2] * 4
            nodes.append(
                helper.make_node("Conv", [value, f"{name}.weight"], [f"{name}_out"], name, group=groups, pads=sides)
            )
            value = f"{name}_out"
            if part < 2:
                nodes.append(helper.make_node("Relu", [value], [f"{value}_relu"], f"{name}/Relu"))
                value = f"{value}_relu"
        nodes.append(helper.make_node("Add", [last, value], [f"b{block}"], f"/blocks.{block}/Add"))
        last = f"b{block}"
    image = [1, channels, size, size]
    value_info = helper.make_tensor_value_info
    inputs, outputs = [value_info("x", TensorProto.FLOAT, image)], [value_info(last, TensorProto.FLOAT, image)]
    graph = helper.make_graph(nodes, "blocks", inputs, outputs, weights)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])


def measure(command: list[str]) -> tuple[float, float, str]:
    """CPU seconds (user + system, with children), wall seconds, and what it printed to stderr."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall, done.stderr


def stage(log: str, name: str) -> float | None:
    """Seconds of a stage in the -v log."""
    found = re.search(rf"\b{name}: ([0-9.e+-]+) (ps|ns|us|ms|s)\b", log)
    scale = {"ps": 1e-12, "ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
    return float(found[1]) * scale[found[2]] if found else None


def bench(title: str, command: list[str], runs: int) -> tuple[str, str, str, str]:
    """One row: medians over the runs."""
    results = [measure(command) for _ in range(runs)]
    solver = [s for s in (stage(log, "partition") for _, _, log in results) if s is not None]
    cpu, wall = statistics.median(r[0] for r in results), statistics.median(r[1] for r in results)
    return title, f"{cpu:.2f}", f"{wall:.2f}", f"{statistics.median(solver):.2f}" if solver else "-"


def main() -> None:
    """Parse arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="zoo models, `name` or `name-int8` (default: all, both forms)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    given = parser.parse_args()
    names = given.models or [f"{name}{form}" for name in sorted(MODELS) for form in ("", "-int8")]
    rows = [bench("--help", [*H4HC, "--help"], given.runs)]
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            path, form = Path(folder) / f"{name}.onnx", ["--int8"] if name.endswith("-int8") else []
            measure([*H4HC, "zoo", name.removesuffix("-int8"), *form, "-o", str(path)])
            rows.append(bench(name, compile_command(path), given.runs))
        path = Path(folder) / "blocks-2000.onnx"
        onnx.save(block_graph(2000), path)
        rows.append(bench("2,000 operators", compile_command(path), given.runs))
    show(rows, given.json)


def compile_command(path: Path) -> list[str]:
    """Compile for npu+cim into a fresh folder beside the model."""
    return [*H4HC, "compile", str(path), "--target", "npu+cim", "-o", str(path.with_suffix("")), "--force", "-v"]


def reference_loop_s() -> float:
    """CPU seconds of the loop in the title."""
    begun = time.process_time()
    sum(i * i for i in range(10**7))
    return time.process_time() - begun


def show(rows: list[tuple[str, str, str, str]], as_json: bool) -> None:
    """Print the table."""
    if as_json:
        keys = ("command", "cpu_s", "wall_s", "solver_s")
        print(json.dumps([dict(zip(keys, row, strict=True)) for row in rows], indent=1))
        return
    speed = f"{os.cpu_count()} cores; sum(i * i for i in range(10**7)) takes {reference_loop_s():.2f} s of CPU here"
    table = Table("command", "CPU [s]", "wall [s]", "solver [s]", title=f"h4hc on {speed}")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
