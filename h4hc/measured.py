"""Tables of measured layers: a layer table (`h4hc.layer_table`) with what each layer took on silicon.

One column says the time: cycles (or total_cycles), time_ns, time_us or time_ms; energy_pj, energy_nj or energy_uj may
stand beside it, and `activation` where one is fused into the layer (upper and lower case are the same). Every row has a
time; an energy may be missing.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from h4hc.errors import Problem, UserError
from h4hc.layer_table import LayerRow, LayerTable, parse_layers
from h4hc.units import PS_PER_S
from h4hc.workload import (
    ConvParams,
    ElementwiseParams,
    Layout,
    MoveParams,
    Op,
    PoolParams,
    Tensor,
    VectorParams,
    Workload,
)

PS = {"time_ns": 1e3, "time_us": 1e6, "time_ms": 1e9}  # ps in one
CYCLES = ("cycles", "total_cycles")
PJ = {"energy_pj": 1.0, "energy_nj": 1e3, "energy_uj": 1e6}  # pJ in one
UNIT_WORDS = ("time", "latency", "duration", "energy", "cycles", "us", "ms", "ns")
CLAMPS = ("relu", "relu6", "relu_n1_to_1", "clip")  # part of the output stage of every NPU: no time of their own
MOST = 1e18  # ps and pJ: the range in which sums stay exact
LEAST = 1.0


@dataclass(frozen=True)
class Measured:
    """One measured layer. cycles or time_ps, the other is None; energy_pj None where nobody measured it."""

    row: LayerRow
    cycles: float | None
    time_ps: float | None
    energy_pj: float | None

    def latency_ps(self, clock_hz: int) -> float:
        """Its time [ps] on a device of this clock."""
        return self.time_ps if self.time_ps is not None else (self.cycles or 0.0) * PS_PER_S / clock_hz

    @property
    def key(self) -> tuple[object, ...]:
        """Operators with the same key are the same layer."""
        return layer_key(self.row.workload.ops[0], self.row.workload)


def layer_key(op: Op, workload: Workload) -> tuple[object, ...]:
    """What a layer is, whatever it is called and wherever its tensors lie: kind, sizes, fused activation.

    Padding counts through the sizes of input and output only; a fused clamp is none. Where the parameters hold no
    shape, that in memory counts, without axes of length one.
    """
    params = op.params
    if isinstance(params, ConvParams | PoolParams):
        params = replace(params, pads=())
    if isinstance(params, VectorParams):
        params = replace(params, innermost=True)
    shapes: tuple[object, ...] = ()
    if isinstance(params, MoveParams | ElementwiseParams):
        names = (*op.inputs, *op.outputs)
        shapes = tuple(_memory_shape(workload.tensor[name]) for name in names)
    activation = "" if op.activation in CLAMPS else op.activation
    return op.kind, params, shapes, activation, op.rescales


def _memory_shape(tensor: Tensor) -> tuple[int, ...]:
    shape = tensor.shape
    if tensor.layout is Layout.CHANNELS_LAST and len(shape) > 2:
        shape = (shape[0], *shape[2:], shape[1])
    return tuple(d for d in shape if d != 1)


def parse_measured(data: bytes, name: str) -> tuple[Measured, ...]:
    """The table of measurements in `data`, a file called `name`. Raises UserError with every problem and its line."""
    table = parse_layers(data, name)
    problems = _column_problems(table, name)
    if problems:
        raise UserError.of(tuple(problems))
    rows: list[Measured] = []
    for row in table.rows:
        found, faults = _measured(row, table, f"{name}:{row.line}")
        rows += found
        problems += faults
    problems += contradictions(rows, name)
    if problems:
        raise UserError.of(tuple(problems))
    return tuple(rows)


def _column_problems(table: LayerTable, name: str) -> list[Problem]:
    known = (*CYCLES, *PS)
    times = [c for c in table.columns if c in known]
    energies = [c for c in table.columns if c in PJ]
    problems = []
    for column in table.columns:
        word = column.lower().partition("_")[0]
        if word in UNIT_WORDS and column not in known and column not in PJ:
            why = f"known: {', '.join((*known, *PJ))}"
            problems.append(Problem(f"column {column!r} has a unit nobody knows", (name,), why, "convert it"))
    if not times:
        problems.append(Problem("the table has no column with times", (name,), f"one of {', '.join(known)} is needed"))
    for several in (times, energies):
        if len(several) > 1:
            problems.append(Problem(f"columns {', '.join(several)} say the same thing", (name,), hint="keep one"))
    return problems


def _measured(row: LayerRow, table: LayerTable, where: str) -> tuple[list[Measured], list[Problem]]:
    cells = dict(row.cells)
    time = next(c for c in (*CYCLES, *PS) if c in table.columns)
    energy = next((c for c in PJ if c in table.columns), None)
    problems: list[Problem] = []
    spent = _number(cells[time], time, PS.get(time, 1.0), where, problems)
    if spent is None and not problems:
        problems.append(Problem(f"{time} is empty", (where,), hint="fill it, or take the row out"))
    used = _number(cells[energy], energy, PJ[energy], where, problems) if energy else None
    given = cells.get("activation", "")
    activation = activations().get(given.lower()) if given else ""
    if activation is None:
        why = f"known: {', '.join(sorted(activations()))}"
        problems.append(Problem(f"activation {given[:40]!r} is not known", (where,), why, "leave it empty for none"))
    if problems or spent is None or activation is None:
        return [], problems
    row = _with_activation(row, activation)
    return [Measured(row, spent if time in CYCLES else None, spent if time in PS else None, used)], []


def _number(text: str, column: str, unit: float, where: str, problems: list[Problem]) -> float | None:
    """A positive number in ps, pJ or cycles; None for an empty cell."""
    if not text:
        return None
    try:
        value = float(text) * unit
    except ValueError:
        value = math.nan
    if LEAST <= value <= MOST:
        return value
    limits = f"a number from {LEAST / unit:g} to {MOST / unit:g}"
    problems.append(Problem(f"{column} is {text[:40]!r}", (where,), limits))
    return None


@functools.cache
def activations() -> dict[str, str]:
    """Spelling in lower case -> name of a function that a layer may end in."""
    from h4hc.lowering.elementwise import ACTIVATIONS

    functions = {*ACTIVATIONS.values(), *CLAMPS, "gelu_tanh", "prelu"}
    return {name: name for name in functions} | {onnx.lower(): name for onnx, name in ACTIVATIONS.items()}


def _with_activation(row: LayerRow, activation: str) -> LayerRow:
    if not activation:
        return row
    op = replace(row.workload.ops[0], activation=activation)
    return replace(row, workload=replace(row.workload, ops=(op,)))


def contradictions(rows: Sequence[Measured], name: str, one_npu: bool = False) -> list[Problem]:
    """Rows that speak of the same layer and configuration, and say different things. one_npu: all speak of one."""
    first: dict[tuple[object, ...], Measured] = {}
    problems = []
    for one in rows:
        config = None if one_npu else one.row.config
        known = first.setdefault((one.key, config), one)
        if (known.cycles, known.time_ps, known.energy_pj) != (one.cycles, one.time_ps, one.energy_pj):
            where = tuple(f"{name}:{m.row.line}" for m in (known, one))
            why = f"{known.row.layer!r} and {one.row.layer!r} are the same layer with different figures"
            problems.append(Problem("two rows contradict each other", where, why, "keep one row, such as their median"))
    return problems
