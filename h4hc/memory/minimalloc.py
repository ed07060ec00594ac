"""Allocation problems and solutions as CSV in the format of MiniMalloc (github.com/google/minimalloc).

The header names the columns, in any order: id (or buffer, buffer_id), lower (or start, begin), upper, size, and
optionally alignment, offset, hint, gaps. `upper` is the first moment after the life; a column `end` in its place is the
last moment of it.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from h4hc.errors import Problem, UserError
from h4hc.memory.problem import Item

_SAME = {"buffer": "id", "buffer_id": "id", "start": "lower", "begin": "lower"}
_KNOWN = ("id", "lower", "upper", "end", "size", "alignment", "offset", "hint", "gaps")
_LARGEST = 2**62
SHOWN = 20


@dataclass(frozen=True)
class Table:
    """A problem and, where the file has them, its offsets [bytes]."""

    items: tuple[Item, ...]
    offsets: tuple[int, ...] | None


def read_csv(data: bytes, where: str) -> Table:
    """Read a problem or a solution. Raises UserError with every fault and its line.

    `hint` is ignored; `gaps` (times within a life in which a buffer is not in use) are refused unless empty.
    """
    try:
        rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig")), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError("this is no CSV", (where,), str(error)) from error
    lines = [(number, [cell.strip() for cell in row]) for number, row in enumerate(rows, 1) if any(row)]
    if not lines:
        raise UserError("the CSV is empty", (where,), hint="its first line names the columns: id,lower,upper,size")
    head = _head(lines[0][1], where)
    problems: list[Problem] = []
    items, offsets = [], []
    for number, row in lines[1:]:
        cells = dict(zip(head, row, strict=False))
        fault = "" if len(row) == len(head) else f"{len(row)} cells for {len(head)} columns"
        numbers: dict[str, int] = {}
        if not fault:
            numbers, fault = _numbers(cells)
        if fault:
            problems.append(Problem("a row is not valid", (f"{where}:{number}",), fault))
            continue
        upper = numbers["upper"] if "upper" in numbers else numbers["end"] + 1
        items.append(Item(cells["id"], numbers["lower"], upper, numbers["size"], numbers["alignment"]))
        offsets.append(numbers.get("offset", 0))
    count = Counter(item.name for item in items)
    problems += [Problem(f"the id {name!r} is there twice", (where,)) for name, times in count.items() if times > 1]
    if problems:
        raise UserError.of(tuple(problems[:SHOWN]))
    return Table(tuple(items), tuple(offsets) if "offset" in head else None)


def _head(cells: list[str], where: str) -> list[str]:
    head = [_SAME.get(cell, cell) for cell in cells]
    faults = [f"unknown column {cell!r}" for cell in head if cell not in _KNOWN]
    faults += [f"column {cell!r} twice" for cell in dict.fromkeys(head) if head.count(cell) > 1]
    faults += [f"no column {cell!r}" for cell in ("id", "lower", "size") if cell not in head]
    if ("upper" in head) == ("end" in head):
        faults.append("one of the columns 'upper' and 'end' is needed")
    if faults:
        raise UserError.of(tuple(Problem("the header is not valid", (where,), fault) for fault in faults))
    return head


def _numbers(cells: dict[str, str]) -> tuple[dict[str, int], str]:
    """The numbers of a row, or what is wrong with it."""
    found = {"alignment": 1}
    for name in ("lower", "upper", "end", "size", "alignment", "offset"):
        if name not in cells:
            continue
        if not re.fullmatch(r"-?[0-9]{1,19}", cells[name]) or abs(int(cells[name])) > _LARGEST:
            return {}, f"{name} {cells[name]!r} is not a whole number of at most {_LARGEST}"
        found[name] = int(cells[name])
    upper = found["upper"] if "upper" in found else found["end"] + 1
    if not cells["id"]:
        return {}, "the id is empty"
    if found["lower"] >= upper:
        return {}, f"the life [{found['lower']}, {upper}) is empty"
    if found["size"] < 0 or found["alignment"] < 1:
        return {}, f"size {found['size']} and alignment {found['alignment']}: at least 0 and 1 are needed"
    if cells.get("gaps"):
        return {}, f"gaps {cells['gaps']!r} are not supported; without them the buffer is in use all its life"
    return found, ""


def write_csv(items: Sequence[Item], offsets: Sequence[int] | None) -> bytes:
    """A problem, or with offsets a solution; `alignment` only where one is not 1, as MiniMalloc writes it."""
    with_alignment = any(item.align_bytes != 1 for item in items)
    lines = ["id,lower,upper,size" + ",alignment" * with_alignment + ",offset" * (offsets is not None)]
    for at, (name, item) in enumerate(zip(plain_ids(items), items, strict=True)):
        cells = [name, item.start, item.end, item.size_bytes]
        cells += [item.align_bytes] if with_alignment else []
        cells += [offsets[at]] if offsets is not None else []
        lines.append(",".join(map(str, cells)))
    return ("\n".join(lines) + "\n").encode()


def plain_ids(items: Sequence[Item]) -> list[str]:
    """Names without what a plain reader of CSV trips over (commas, quotes, blanks, control characters), each once."""
    taken: set[str] = set()
    found = []
    for item in items:
        name = plain = re.sub(r"[^!#-+\--~]", "_", item.name).lstrip("=+-@") or "_"
        number = 1
        while plain in taken:
            number += 1
            plain = f"{name}_{number}"
        taken.add(plain)
        found.append(plain)
    return found


def check_packing(items: Sequence[Item], offsets: Sequence[int], capacity_bytes: int | None) -> list[Problem]:
    """What is wrong with a solution: overlap, misaligned, out of region. Sweeps over the offsets; no allocator code."""
    problems = []
    for item, offset in zip(items, offsets, strict=True):
        if offset < 0 or (capacity_bytes is not None and offset + item.size_bytes > capacity_bytes):
            limit = "" if capacity_bytes is None else f" of {capacity_bytes} bytes"
            problems.append(Problem("out of region", (item.name,), f"{item.size_bytes} bytes from {offset}{limit}"))
        if offset % item.align_bytes:
            problems.append(Problem("misaligned", (item.name,), f"offset {offset}, alignment {item.align_bytes}"))
    order = sorted(range(len(items)), key=lambda i: offsets[i])
    for at, i in enumerate(order):
        one = items[i]
        for j in order[at + 1 :]:
            other = items[j]
            if offsets[j] >= offsets[i] + one.size_bytes:
                break
            if other.size_bytes and one.start < other.end and other.start < one.end:
                why = (
                    f"[{offsets[i]}, {offsets[i] + one.size_bytes}) and [{offsets[j]}, {offsets[j] + other.size_bytes})"
                )
                problems.append(Problem("overlap", (one.name, other.name), f"both alive, on bytes {why}"))
    return problems
