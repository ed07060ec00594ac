"""Tables of single layers: CSV rows <-> workloads of one operator.

The format is that of studies of single layers with the NPU vendor's compiler: columns layer, kind, h, w, cin, cout, kh,
kw, stride, dil, pad, accel, sysconf, memmode. The first six must be there, the others may be missing, and columns of
other names are kept as they are. Every row fills h, w and cin, and of cout, kh and kw those that its kind uses (a
depthwise layer without cout has cin). What else is empty or missing counts as 1 (sizes), SAME (pad) or not given (the
rest). `axes` = hw or c says what a mean runs over. A column that the kind of a row does not use is empty there or says
nothing: 1 (sizes), SAME (pad), cin (cout). Lines that begin with # are comments.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from h4hc.errors import Problem, UserError
from h4hc.files import read_file
from h4hc.layer_kinds import DEPTHWISE, KINDS, USES, WINDOWED, LayerShape, unused
from h4hc.vendor_names import Config
from h4hc.workload import Workload

NEEDED = ("layer", "kind", "h", "w", "cin", "cout")
SIZES = ("h", "w", "cin", "cout", "kh", "kw", "stride", "dil", "groups")
REFERENCES = {  # resource -> columns of the table that add up to its busy cycles
    "npu": ("npu_cycles",),
    "sram": ("sram_cycles",),
    "flash": ("dram_cycles", "onflash_cycles", "offflash_cycles"),  # whatever the second port leads to
    "total": ("total_cycles",),
}
MOST_CYCLES = 1e15
MOST_SIZE = 65_536  # of one column
MOST_ELEMENTS = 2**40  # of one tensor
MOST_MACS = 2**60
MOST_ROWS = 100_000
PADDINGS = ("SAME", "VALID", "")
MEANS = ("hw", "c", "")


@dataclass(frozen=True)
class LayerRow:
    """One layer of a table. line: in the file, from 1; cells: all columns as text, in the file's order.

    accel, sysconf, memmode: the vendor's names of an NPU configuration, "" where the table names none.
    """

    line: int
    cells: tuple[tuple[str, str], ...]
    workload: Workload
    layer: str
    kind: str
    accel: str = ""
    sysconf: str = ""
    memmode: str = ""

    @property
    def named(self) -> bool:
        """Whether the row names an NPU configuration."""
        return bool(self.config.text)

    @property
    def config(self) -> Config:
        """The NPU configuration that the row names."""
        return Config(self.accel, self.sysconf, self.memmode)

    def reference(self, lane: str) -> float | None:
        """Cycles that the table gives for `total`, `npu`, `sram`, `flash` ...; None where it gives none."""
        cells = dict(self.cells)
        given = [cells[c] for c in REFERENCES.get(lane, ()) if cells.get(c)]
        return sum(float(text) for text in given) if given else None


@dataclass(frozen=True)
class LayerTable:
    """A table that was read as a whole: its columns in order and its rows."""

    columns: tuple[str, ...]
    rows: tuple[LayerRow, ...]


# --- reading -----------------------------------------------------------------------------------------------


def read_layers(path: Path) -> LayerTable:
    """Read a CSV of layers. Raises UserError with every problem of the file, each with its line."""
    return parse_layers(read_file(path, "table"), path.name)


def parse_layers(data: bytes, name: str) -> LayerTable:
    """The layers of a CSV called `name`. Raises UserError with every problem, each with its line."""
    records = list(_records(_text(data, name), name))
    if not records:
        raise UserError("the table is empty", (name,), hint=f"its first line names {', '.join(NEEDED)}, ...")
    line, head = records[0]
    columns = tuple(name.strip() for name in head)
    problems = _head_problems(columns, f"{name}:{line}")
    if len(records) < 2:
        problems.append(Problem("the table has no layers", (name,)))
    if problems:
        raise UserError.of(tuple(problems))
    rows: list[LayerRow] = []
    for line, cells in records[1:]:
        row = _row(line, columns, cells, f"{name}:{line}")
        if isinstance(row, LayerRow):
            rows.append(row)
        else:
            problems += row
    if problems:
        raise UserError.of(tuple(problems))
    return LayerTable(columns, tuple(rows))


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError("the table is not UTF-8 text", (name,), f"byte {error.start}") from error


def _records(text: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of the header and of each row; comments and empty lines are passed over."""
    line = 0

    def lines() -> Iterator[str]:
        nonlocal line
        for at, content in enumerate(io.StringIO(text, newline=""), 1):
            line = at
            if content.strip() and not content.startswith("#"):
                yield content

    try:
        for count, cells in enumerate(csv.reader(lines(), strict=True)):
            if count > MOST_ROWS:
                raise UserError("the table has too many rows", (f"{name}:{line}",), f"at most {MOST_ROWS}")
            yield line, cells
    except csv.Error as error:
        raise UserError("the table is not valid CSV", (f"{name}:{line}",), str(error)) from error


def _head_problems(columns: tuple[str, ...], where: str) -> list[Problem]:
    missing = [c for c in NEEDED if c not in columns]
    twice = sorted({c for c in columns if columns.count(c) > 1})
    found = [Problem(f"the table has no column {c!r}", (where,), f"needed: {', '.join(NEEDED)}") for c in missing]
    return found + [Problem(f"column {c!r} is there twice", (where,), hint="name each column once") for c in twice]


def _row(line: int, columns: tuple[str, ...], cells: list[str], where: str) -> LayerRow | list[Problem]:
    if len(cells) != len(columns):
        return [Problem(f"{len(cells)} cells in a row of a table with {len(columns)} columns", (where,))]
    named = {c: cell.strip() for c, cell in zip(columns, cells, strict=True)}
    problems = _cell_problems(named, where)
    if problems:
        return problems
    shape = _shape(named)
    problems = _shape_problems(named, shape, where)
    if problems:
        return problems
    workload = KINDS[named["kind"]](shape)
    if max(t.elements for t in workload.tensors) > MOST_ELEMENTS or workload.ops[0].macs > MOST_MACS:
        return [Problem("the layer is too large", (where,), f"{MOST_ELEMENTS} elements, {MOST_MACS} MACs at most")]
    config = {c: named.get(c, "") for c in ("accel", "sysconf", "memmode")}
    return LayerRow(line, tuple(named.items()), workload, named["layer"], named["kind"], **config)


def _cell_problems(named: dict[str, str], where: str) -> list[Problem]:
    """Cells that are wrong by themselves, or that the kind of the row does not use."""
    problems = [p for c in SIZES for p in _size_problem(c, named.get(c, ""), where)]
    empty = [c for c in _filled(named["kind"]) if named.get(c) == ""]
    problems += [Problem(f"{c} is empty", (where,), hint="fill it, or take the row out") for c in empty]
    given = [c for columns in REFERENCES.values() for c in columns if named.get(c)]
    problems += [p for c in given for p in _reference_problem(c, named[c], where)]
    kind = named["kind"]
    if kind not in KINDS:
        problems.append(Problem(f"there is no layer kind {kind!r}", (where,), f"known: {', '.join(KINDS)}"))
    if not named["layer"]:
        problems.append(Problem("the layer has no name", (where,), hint="fill column 'layer'"))
    if named.get("pad", "") not in PADDINGS:
        problems.append(Problem(f"pad {named['pad']!r} is neither SAME nor VALID", (where,)))
    if named.get("axes", "") not in MEANS:
        problems.append(Problem(f"axes {named['axes']!r} is neither hw nor c", (where,)))
    if kind in KINDS:
        problems += [_unused_problem(named, c, where) for c in unused(kind, named)]
    return problems


def _filled(kind: str) -> tuple[str, ...]:
    """Columns that a row of this kind must fill: a size that somebody forgot is not 1."""
    used = USES.get(kind, frozenset()) - ({"cout"} if kind in DEPTHWISE else set())
    return ("h", "w", "cin", *(c for c in ("cout", "kh", "kw") if c in used))


def _shape_problems(named: dict[str, str], shape: LayerShape, where: str) -> list[Problem]:
    """Sizes that do not fit each other."""
    kind = named["kind"]
    if not shape.same and kind in WINDOWED and (shape.reach[0] > shape.h or shape.reach[1] > shape.w):
        seen = f"{shape.reach[0]}x{shape.reach[1]} on {shape.h}x{shape.w}"
        return [Problem("the window is larger than the image", (where,), seen, "pad SAME, or a larger image")]
    if shape.cin % shape.groups or shape.cout % shape.groups:
        return [Problem(f"{shape.groups} groups do not divide {shape.cin} and {shape.cout} channels", (where,))]
    if kind in DEPTHWISE and named["cout"] and shape.cout % shape.cin:
        return [Problem(f"{shape.cout} outputs of a depthwise layer are no multiple of {shape.cin} channels", (where,))]
    return []


def _size_problem(column: str, text: str, where: str) -> list[Problem]:
    if not text:
        return []
    if text.isascii() and text.isdecimal() and len(text) <= len(str(MOST_SIZE)) and 1 <= int(text) <= MOST_SIZE:
        return []
    why = f"a whole number from 1 to {MOST_SIZE}"
    return [Problem(f"{column} is {text[:40]!r}", (where,), why)]


def _unused_problem(cells: dict[str, str], column: str, where: str) -> Problem:
    hint = {"cout": "leave it empty, or cin", "pad": "leave it empty", "axes": "leave it empty"}
    do = "kind grouped_conv" if (cells["kind"], column) == ("conv", "groups") else hint.get(column, "1, or empty")
    return Problem(f"{cells['kind']} has no {column}", (where,), f"it is {cells[column][:40]!r}", do)


def _reference_problem(column: str, text: str, where: str) -> list[Problem]:
    try:
        if 0 <= float(text) <= MOST_CYCLES:
            return []
    except ValueError:
        pass
    return [Problem(f"{column} is {text[:40]!r}", (where,), f"a number of cycles from 0 to {MOST_CYCLES:g}, or empty")]


def _shape(cells: dict[str, str]) -> LayerShape:
    sizes = {c: int(cells.get(c) or 1) for c in SIZES}
    return LayerShape(**sizes, same=cells.get("pad", "") != "VALID", mean_over=_mean_over(cells))


def _mean_over(cells: dict[str, str]) -> str:
    """hw or c, as `axes` says; without it a mean is over hw, save one that is called mean_c_...

    The vendor study's tables have no column for it: a layer's name is the only place where they say it.
    """
    by_name = "c" if cells["layer"].startswith("mean_c_") else "hw"
    return cells.get("axes") or by_name
