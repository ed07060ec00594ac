"""Ask the vendor's compiler, in this process, what a TFLite file costs on an NPU.

The figures are the compiler's own estimates: cycles of the array and of each memory for every step it schedules, an
operator's total the largest of them, a network's total the sum. It prints to C's stdout and stderr, which are caught.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from h4hc.errors import CostModelError
from targets.ethos_u.vendor.machine import Machine
from targets.ethos_u.vendor.tool import regor

_STDIO = threading.Lock()  # the file descriptors belong to the whole process
_SHOWN = 600  # characters of what the tool printed
T = TypeVar("T")


@dataclass(frozen=True)
class Cycles:
    """total: as the tool sums it. npu: the array; sram, dram, flash: accesses of each memory."""

    total: int
    npu: int
    sram: int
    dram: int
    flash: int


@dataclass(frozen=True)
class Step:
    """One step that the tool scheduled: `source` counts the file's operators, -1 where the tool made it up."""

    source: int
    operator: str
    name: str
    cycles: Cycles
    macs: int


@dataclass(frozen=True)
class Estimate:
    """What the tool says of a file. cpu_ops: operators it left to the host, which cost nothing in its figures.

    memory_bytes: bytes read and written by memory (sram, dram, flash); said: what it printed.
    """

    cycles: Cycles
    steps: tuple[Step, ...]
    npu_ops: int
    cpu_ops: int
    macs: int
    original_weight_bytes: int
    encoded_weight_bytes: int
    sram_peak_bytes: int
    memory_bytes: tuple[tuple[str, int], ...]
    compiled: bytes
    said: str


def estimate(tflite: bytes, machine: Machine) -> Estimate:
    """Compile a TFLite file for an NPU (see machine.py).

    Raises CostModelError with what the tool said when it refuses the file; MissingToolError without the tool.
    """
    compiler = regor()

    def compile_it() -> Any:
        return compiler.compile(
            machine.product, tflite, "TFLITE", machine.configuration, options=machine.options, verbose=False
        )

    try:
        made, said = _caught(compile_it)
    except (RuntimeError, ValueError) as error:
        raise CostModelError("the vendor's compiler refuses the file", (), str(error)[:_SHOWN]) from None
    report = made.perf_report
    memories = _by_memory(report.memories)
    cycles = Cycles(
        int(report.totalCycles),
        int(report.npuCycles),
        *(sum(int(m.totalAccessCycles) for m in memories[name]) for name in ("sram", "dram", "flash")),
    )
    return Estimate(
        cycles=cycles,
        steps=_steps(made.opt_database.tables),
        npu_ops=int(report.npuOps),
        cpu_ops=int(report.cpuOps),
        macs=int(report.macCount),
        original_weight_bytes=int(report.originalWeights),
        encoded_weight_bytes=int(report.encodedWeights),
        sram_peak_bytes=sum(int(m.peakUsage) for m in memories["sram"]),
        memory_bytes=tuple((name, sum(map(_moved, found))) for name, found in sorted(memories.items()) if found),
        compiled=bytes(made.model),
        said=said.strip(),
    )


def _kind(memory: str) -> str:
    """sram, dram or flash, from the tool's name of a memory."""
    name = memory.lower()
    return "flash" if "flash" in name else name


def _by_memory(memories: dict[str, Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {"sram": [], "dram": [], "flash": []}
    for name, memory in memories.items():
        if _kind(name) in found:
            found[_kind(name)].append(memory)
    return found


def _moved(memory: Any) -> int:
    return sum(int(a.bytesRead) + int(a.bytesWritten) for a in memory.accesses.values())


def _steps(tables: dict[str, Any]) -> tuple[Step, ...]:
    """Rows of the tool's table `perf`, joined with `source` for the operator of the file that each came from."""
    source, perf = tables["source"], tables["perf"]
    key, identity = source.header.index("ext_key"), source.header.index("id")
    origin = {row[identity]: int(row[key]) for row in source.data}
    column = {name: i for i, name in enumerate(perf.header)}
    access = [(_kind(name.removesuffix("_ac")), i) for name, i in column.items() if name.endswith("_ac")]
    steps = []
    for row in perf.data:
        memory = {kind: sum(int(row[i] or 0) for k, i in access if k == kind) for kind in ("sram", "dram", "flash")}
        cycles = Cycles(int(row[column["op_cycles"]] or 0), int(row[column["npu_cycles"]] or 0), **memory)
        steps.append(
            Step(
                origin.get(row[column["source_id"]], -1),
                row[column["operator"]],
                row[column["name"]],
                cycles,
                int(row[column["mac_count"]] or 0),
            )
        )
    return tuple(steps)


def _caught(work: Callable[[], T]) -> tuple[T, str]:
    """Run `work` with C's stdout and stderr turned into a file; its result, and what was printed."""
    with _STDIO, tempfile.TemporaryFile() as file:
        sys.stdout.flush()
        sys.stderr.flush()
        saved = [os.dup(1), os.dup(2)]
        try:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            result = work()
        finally:
            for number, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, number)
                os.close(copy)
        file.seek(0)
        return result, file.read().decode("utf-8", "replace")
