"""Published macros as tables: their figures, their structures, and which of them are dense enough to be fitted on."""

from __future__ import annotations

import csv
import tomllib
from dataclasses import dataclass
from pathlib import Path

from h4hc.errors import TargetError
from targets.cim.silicon import FIGURES, Chip, Figure, load_structure

COLUMNS: dict[Figure, str] = {"area": "area_mm2", "cycle": "cycle_ns", "energy": "energy_fj_per_mac"}
SPARSE = "sparse"


@dataclass(frozen=True)
class Published:
    """A row: name, kind, node [nm], evidence mark, figures (None where not published), whole row as text."""

    id: str
    name: str
    kind: str
    node_nm: int
    mark: str
    silicon: dict[Figure, float | None]
    row: dict[str, str]

    @property
    def dense(self) -> bool:
        """Whether the figures hold for dense data. Sparse ones are never fitted on and never planned with."""
        return self.mark != SPARSE


def read_published(path: Path) -> tuple[Published, ...]:
    """The rows of a macro table (CSV; lines that begin with # are comments). Raises TargetError."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    rows = []
    for row in csv.DictReader(lines):
        try:
            silicon: dict[Figure, float | None] = {f: float(v) if (v := row[COLUMNS[f]]) else None for f in FIGURES}
            rows.append(
                Published(row["id"], row["name"], row["kind"], int(row["node_nm"]), row["mark"], silicon, dict(row))
            )
        except (KeyError, ValueError, TypeError) as error:
            raise TargetError(f"cannot read a macro of {path.name}", (str(row.get("id")),), str(error)) from None
    return tuple(rows)


def read_chips(published: tuple[Published, ...], structures: Path) -> tuple[Chip, ...]:
    """The dense macros whose structure is known. Raises TargetError for a structure of no dense macro."""
    tables = tomllib.loads(structures.read_text(encoding="utf-8"))
    known = {p.id: p for p in published if p.dense}
    unknown = sorted(set(tables) - set(known))
    if unknown:
        raise TargetError("a structure names no dense macro", tuple(unknown), f"dense: {', '.join(sorted(known))}")
    return tuple(Chip(n, load_structure(t, f"{structures.name}: {n}"), known[n].silicon) for n, t in tables.items())


def at_precision(chip: Published, input_bits: int, weight_bits: int, input_cycles: int) -> dict[Figure, float | None]:
    """Published figures brought from their native precision to another; None where not published.

    Energy by the product of the bits (from TOPS/W where fJ/MAC is missing: 2000 / TOPS/W); a cycle by the input bits
    where one cycle takes all of them; area as it is.
    """
    act, weight = chip.row["act_bits"], chip.row["weight_bits"]
    energy, cycle = chip.silicon["energy"], chip.silicon["cycle"]
    if energy is None and chip.row["tops_per_w"]:
        energy = FJ_PER_MAC_AT_1_TOPS_W / float(chip.row["tops_per_w"])
    if act and weight:
        ratio = input_bits / int(act)
        energy = None if energy is None else energy * ratio * weight_bits / int(weight)
        cycle = cycle * ratio if cycle is not None and input_cycles == 1 else cycle
    return {"area": chip.silicon["area"], "cycle": cycle, "energy": energy}


FJ_PER_MAC_AT_1_TOPS_W = 2000.0  # 1 MAC = 2 operations
