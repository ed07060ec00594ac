"""Area, cycle time and energy of a digital CIM macro from its structure: gate counts times constants of a process.

The gate is a NAND2. With G gates, D gate delays on the longest path of a cycle and S switched gates a MAC:
  area   [um2] = G * gate_area + cells * cell_area
  cycle  [ns]  = D * gate_delay
  energy [fJ]  = S * gate_energy a MAC
gate_area, gate_delay and gate_energy are fitted on published macros (`fit`); the counts below and the ratios in
silicon.toml are not. From one node to another: area by its square, delay and energy linearly, energy by supply squared.
Ratios of gates: KU Leuven's IMC cost model. `tools/bench_silicon` holds the model against silicon.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Annotated, Literal

from pydantic import Field

from h4hc.quantity import Quantity, Schema, Sourced, quantities, unit, validated
from h4hc.units import ceil_div

Bounds = tuple[float, float, float]
Figure = Literal["area", "cycle", "energy"]
FIGURES: tuple[Figure, ...] = ("area", "cycle", "energy")
Ratio = Annotated[Quantity, unit("ratio", positive=True)]
Count = Annotated[int, Field(ge=0, le=2**40)]


class Constants(Sourced):
    """silicon.toml: gates, delays and switched gates of the parts in NAND2.

    *_error: silicon over model for a macro that was not fitted on, 1 in the middle; node_error on top, at another node.
    """

    node_nm: Annotated[int, Field(gt=0, le=1000)]
    supply_v: Annotated[float, Field(gt=0, le=10)]
    stage_fanout: Annotated[int, Field(ge=2, le=64)]
    gate_area: Annotated[Quantity, unit("um2", positive=True)]
    gate_delay: Annotated[Quantity, unit("ns", positive=True)]
    gate_energy: Annotated[Quantity, unit("fJ", positive=True)]
    cell_area: Annotated[Quantity, unit("um2", positive=True)]
    adder_gates: Ratio
    register_gates: Ratio
    booth_gates: Ratio
    word_line_gates: Ratio
    column_gates: Ratio
    adder_switched: Ratio
    register_switched: Ratio
    sum_delay: Ratio
    carry_delay: Ratio
    booth_delay: Ratio
    register_delay: Ratio
    stage_delay: Ratio
    area_error: Ratio
    cycle_error: Ratio
    energy_error: Ratio
    node_error: Ratio


class Structure(Schema):
    """What a macro is built of.

    Each of `macros` x `outputs` sums `rows` products by `trees` adder trees of `tree_bits` wide inputs (several: one a
    weight bit, merged by a last tree), in a tree or a `chain` of adders, `cycles` times a MAC; accumulators of
    `adder_bits` and `register_bits` stand behind each tree, or at each row before it. product_bits: gates of a
    product (AND, or Booth selector). fanout: gates that one input bit drives. extra_*: bits of adders and registers a
    macro has beside (floating point). activity: share of gates that switch in a cycle.
    """

    node_nm: Annotated[int, Field(gt=0, le=1000)]
    supply_v: Annotated[float, Field(gt=0, le=10)]
    macros: Annotated[int, Field(gt=0, le=2**20)]
    rows: Annotated[int, Field(gt=1, le=2**20)]
    outputs: Annotated[int, Field(gt=0, le=2**20)]
    trees: Annotated[int, Field(gt=0, le=64)]
    tree_bits: Annotated[int, Field(gt=0, le=64)]
    product_bits: Annotated[int, Field(gt=0, le=64)]
    booth: bool
    chain: bool
    accumulate: Literal["output", "row"]
    adder_bits: Count
    register_bits: Count
    pipeline_bits: Count
    extra_adder_bits: Count
    extra_register_bits: Count
    cells: Count
    word_lines: Count
    bit_columns: Count
    fanout: Annotated[int, Field(gt=0, le=2**20)]
    cycles: Annotated[int, Field(gt=0, le=1024)]
    activity: Ratio
    activity_published: bool
    notes: Annotated[str, Field(min_length=5)]


@dataclass(frozen=True)
class Chip:
    """A structure and its silicon figures: area [mm2], cycle [ns], energy [fJ/MAC]; None where not published."""

    name: str
    structure: Structure
    silicon: dict[Figure, float | None]


@dataclass(frozen=True)
class Prediction:
    """A figure of a chip from a fit on `fitted_on`.

    least, most: over the bounds of each constant, fitted again; low, high: those, widened by activity and error.
    """

    chip: str
    figure: Figure
    silicon: float | None
    value: float
    least: float
    most: float
    low: float
    high: float
    fitted_on: tuple[str, ...]
    scored: bool

    @property
    def error(self) -> float | None:
        """value / silicon - 1."""
        return None if self.silicon is None else self.value / self.silicon - 1

    @property
    def contains(self) -> bool | None:
        """Whether the interval holds the silicon figure."""
        return None if self.silicon is None else self.low <= self.silicon <= self.high


def load_constants() -> Constants:
    """silicon.toml, checked. Raises TargetError."""
    text = (resources.files("targets.cim") / "silicon.toml").read_text(encoding="utf-8")
    return validated(Constants, tomllib.loads(text), "silicon.toml")


def load_structure(numbers: dict[str, object], where: str) -> Structure:
    """A structure out of a table. Raises TargetError with all faults."""
    return validated(Structure, numbers, where)


# --- counts ----------------------------------------------------------------------------------------------------


def tree_adders(inputs: int, bits: int) -> int:
    """Full adders of a tree of ripple-carry adders over `inputs` numbers of `bits`, one bit wider a level.

    >>> tree_adders(4, 8)
    25
    """
    count = 0
    while inputs > 1:
        count += inputs // 2 * bits
        inputs, bits = ceil_div(inputs, 2), bits + 1
    return count


def _levels(inputs: int) -> int:
    return math.ceil(math.log2(inputs))


def _merge_bits(s: Structure) -> int:
    """Width of a tree's result, which the merging tree takes."""
    return s.tree_bits + _levels(s.rows)


def _adders(s: Structure) -> int:
    """Full adders of one output, accumulators apart."""
    one = s.rows * s.tree_bits if s.chain else tree_adders(s.rows, s.tree_bits)
    return s.trees * one + (tree_adders(s.trees, _merge_bits(s)) if s.trees > 1 else 0)


def gates(s: Structure, c: Constants) -> float:
    """G: gates of all macros."""
    product = c.booth_gates.value if s.booth else 1.0
    accumulators = s.rows if s.accumulate == "row" else 1
    registers = accumulators * (s.register_bits + s.pipeline_bits)
    one = s.trees * s.rows * s.product_bits * product
    one += (_adders(s) + accumulators * s.adder_bits) * c.adder_gates.value + registers * c.register_gates.value
    extra = s.extra_adder_bits * c.adder_gates.value + s.extra_register_bits * c.register_gates.value
    periphery = s.word_lines * c.word_line_gates.value + s.bit_columns * c.column_gates.value
    return s.macros * (s.outputs * one + extra) + periphery


def path(s: Structure, c: Constants) -> float:
    """D: gate delays of a cycle. Register, input buffers, product, tree, merge, accumulator; a cut where pipelined."""
    ripple, add = c.carry_delay.value, c.sum_delay.value
    tree = s.rows * add if s.chain else ripple * s.tree_bits + _levels(s.rows) * add
    if s.accumulate == "row":  # the tree has a cycle of its own, after the accumulators
        front = _front(s, c) + ripple * s.adder_bits + add
        return c.register_delay.value + max(front, tree)
    shift = s.trees - 1  # bits that merging weight slices adds to a result
    merge = _levels(s.trees) * add + ripple * shift if s.trees > 1 else 0.0
    rest = max(0, s.adder_bits - _merge_bits(s) - shift)  # carries beyond the width of the sum
    return c.register_delay.value + _front(s, c) + tree + merge + add + ripple * rest


def _front(s: Structure, c: Constants) -> float:
    """Buffers that bring one input bit to `fanout` gates, and the product itself."""
    buffers = c.stage_delay.value * math.log(s.fanout, c.stage_fanout) if s.fanout > 1 else 0.0
    return buffers + (c.booth_delay.value if s.booth else 1.0)


def switched(s: Structure, c: Constants) -> float:
    """S: gates that switch a MAC. A tree behind accumulators at the rows works once a MAC, all else each cycle."""
    product = c.booth_gates.value if s.booth else 1.0
    products = s.trees * s.rows * s.product_bits * product
    tree = _adders(s) * c.adder_switched.value
    one = s.adder_bits * c.adder_switched.value + (s.register_bits + s.pipeline_bits) * c.register_switched.value
    if s.accumulate == "row":
        return s.activity.value * (s.cycles * (products + s.rows * one) + tree) / s.rows
    return s.activity.value * s.cycles * (products + tree + one) / s.rows


# --- process ---------------------------------------------------------------------------------------------------


def scale(s: Structure, c: Constants, figure: Figure) -> float:
    """What a constant of the reference node is worth at the node and supply of `s`."""
    ratio = s.node_nm / c.node_nm
    return {"area": ratio**2, "cycle": ratio, "energy": ratio * (s.supply_v / c.supply_v) ** 2}[figure]


def _count(s: Structure, c: Constants, figure: Figure) -> float:
    counts: dict[Figure, Callable[[Structure, Constants], float]] = {"area": gates, "cycle": path, "energy": switched}
    return counts[figure](s, c) * scale(s, c, figure)


def _fixed(s: Structure, c: Constants, figure: Figure) -> float:
    """The part of a figure that no fitted constant scales: the cells, in mm2."""
    return s.cells * c.cell_area.value * scale(s, c, figure) / UM2_PER_MM2 if figure == "area" else 0.0


UM2_PER_MM2 = 10**6


def _to_unit(figure: Figure) -> float:
    return UM2_PER_MM2 if figure == "area" else 1.0


def fit(chips: Sequence[Chip], c: Constants, figure: Figure) -> float:
    """The constant [um2, ns or fJ] that makes the mean logarithm of model / silicon zero over `chips`."""
    logs = []
    for chip in chips:
        silicon = chip.silicon[figure]
        assert silicon is not None, (chip.name, figure)
        own = (silicon - _fixed(chip.structure, c, figure)) * _to_unit(figure)
        logs.append(math.log(own / _count(chip.structure, c, figure)))
    return math.exp(sum(logs) / len(logs))


def figure_of(s: Structure, c: Constants, figure: Figure, constant: float) -> float:
    """Area [mm2], cycle [ns] or energy [fJ/MAC] of a structure, with that constant of the process."""
    return constant * _count(s, c, figure) / _to_unit(figure) + _fixed(s, c, figure)


def estimate(s: Structure, c: Constants, figure: Figure) -> Bounds:
    """A figure of a new structure (low, nominal, high), with the shipped constants, their bounds and the errors."""
    constant = {"area": c.gate_area, "cycle": c.gate_delay, "energy": c.gate_energy}[figure]
    down, up = _errors(s, c, figure)
    low, nominal, high = (figure_of(s, c, figure, value) for value in (constant.low, constant.value, constant.high))
    return low * down, nominal, high * up


def lane_area_um2(s: Structure, c: Constants) -> Bounds:
    """Area [um2] of one multiplier lane of a structure (low, nominal, high): its gates, cells left out."""
    lanes = s.macros * s.outputs * s.rows
    low, nominal, high = estimate(s.model_copy(update={"cells": 0}), c, "area")
    return low * UM2_PER_MM2 / lanes, nominal * UM2_PER_MM2 / lanes, high * UM2_PER_MM2 / lanes


def _errors(s: Structure, c: Constants, figure: Figure) -> tuple[float, float]:
    """Least and greatest silicon over model: activity (of energy), what the counts leave out, another node."""
    error = {"area": c.area_error, "cycle": c.cycle_error, "energy": c.energy_error}[figure]
    low, high = error.low, error.high
    if figure == "energy":
        low, high = low * s.activity.low / s.activity.value, high * s.activity.high / s.activity.value
    if s.node_nm != c.node_nm:
        low, high = low * c.node_error.low, high * c.node_error.high
    return low, high


def predict(chip: Chip, chips: Sequence[Chip], c: Constants, figure: Figure) -> Prediction:
    """A figure of `chip` from the others of the reference node: leave-one-out, or another node's prediction.

    Only macros with that figure, and for energy a published activity, are fitted on. The interval varies each constant
    of silicon.toml (and the activity) to either bound, fits again, and widens the extremes by the error.
    """
    others = [o for o in chips if o.name != chip.name and _usable(o, c, figure)]
    value = figure_of(chip.structure, c, figure, fit(others, c, figure))
    seen = [value]
    for varied in _variations(c):
        seen.append(figure_of(chip.structure, varied, figure, fit(others, varied, figure)))
    down, up = _errors(chip.structure, c, figure)
    same_node = chip.structure.node_nm == c.node_nm
    return Prediction(
        chip.name,
        figure,
        chip.silicon[figure],
        value,
        min(seen),
        max(seen),
        min(seen) * down,
        max(seen) * up,
        tuple(o.name for o in others),
        same_node and (figure != "energy" or chip.structure.activity_published),
    )


def _usable(chip: Chip, c: Constants, figure: Figure) -> bool:
    known = figure != "energy" or chip.structure.activity_published
    return known and chip.silicon[figure] is not None and chip.structure.node_nm == c.node_nm


def _variations(c: Constants) -> list[Constants]:
    """The constants with one of them at its low or high bound, for each that has a width."""
    out = []
    for name, quantity in quantities(c):
        if name.endswith("_error") or name in ("gate_area", "gate_delay", "gate_energy"):
            continue
        for bound in (quantity.low, quantity.high):
            if bound != quantity.value:
                out.append(c.model_copy(update={name: quantity.model_copy(update={"value": bound})}))
    return out
