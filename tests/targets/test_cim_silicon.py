"""The physical model of digital macros against published silicon, leave-one-out, and its counts by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from h4hc.errors import TargetError
from h4hc.quantity import quantities
from targets.cim.chips import read_chips, read_published
from targets.cim.silicon import (
    FIGURES,
    Chip,
    Constants,
    Figure,
    estimate,
    fit,
    gates,
    lane_area_um2,
    load_constants,
    load_structure,
    path,
    predict,
    scale,
    switched,
    tree_adders,
)
from tests.targets.bounds import with_quantity

DATA = Path(__file__).parents[1] / "data"
PUBLISHED = read_published(DATA / "cim_macros.csv")
CHIPS = read_chips(PUBLISHED, DATA / "cim_structures.toml")
CONSTANTS = load_constants()
BY_NAME = {chip.name: chip for chip in CHIPS}
SCORED: list[tuple[str, Figure]] = [
    (name, figure)
    for name in ("dimc1", "dimc2", "dimc3")
    for figure in FIGURES
    if (name, figure) != ("dimc2", "energy")  # its activity is not published
]


@pytest.mark.parametrize(("name", "figure"), SCORED)
def test_leave_one_out_within_15_per_cent(name: str, figure: Figure) -> None:
    result = predict(BY_NAME[name], CHIPS, CONSTANTS, figure)
    assert result.scored
    assert name not in result.fitted_on
    assert result.error is not None
    assert abs(result.error) <= 0.15


@pytest.mark.parametrize("name", sorted(BY_NAME))
@pytest.mark.parametrize("figure", FIGURES)
def test_interval_holds_the_silicon(name: str, figure: Figure) -> None:
    result = predict(BY_NAME[name], CHIPS, CONSTANTS, figure)
    assert result.low < result.least <= result.value <= result.most < result.high
    assert result.contains is not False
    assert (result.contains is None) == (BY_NAME[name].silicon[figure] is None)


def test_a_macro_cannot_see_its_own_figure() -> None:
    """Truly left out: a tenfold silicon figure does not move its own prediction, and moves the others'."""
    for figure in FIGURES:
        chip = BY_NAME["dimc3"]
        known = chip.silicon[figure]
        assert known is not None
        false = replace(chip, silicon={**chip.silicon, figure: 10 * known})
        chips = [false if c.name == "dimc3" else c for c in CHIPS]
        honest = predict(chip, CHIPS, CONSTANTS, figure).value
        assert predict(false, chips, CONSTANTS, figure).value == honest
        other = BY_NAME["dimc1"]
        assert predict(other, chips, CONSTANTS, figure).value > 1.5 * predict(other, CHIPS, CONSTANTS, figure).value


def test_sparse_figures_are_kept_out(tmp_path: Path) -> None:
    assert [p.id for p in PUBLISHED if not p.dense] == ["dimc4"]
    assert "dimc4" not in BY_NAME
    file = tmp_path / "structures.toml"
    file.write_text((DATA / "cim_structures.toml").read_text() + "\n[dimc4]\n")
    with pytest.raises(TargetError, match="names no dense macro"):
        read_chips(PUBLISHED, file)


def test_what_is_not_scored_is_missed_and_said_so() -> None:
    """The honest part: unknown activity and another node are beyond the model; their intervals are wide instead."""
    for name, figure in (("dimc2", "energy"), ("colonnade", "area"), ("colonnade", "energy")):
        result = predict(BY_NAME[name], CHIPS, CONSTANTS, figure)  # type: ignore[arg-type]
        assert not result.scored
        assert result.error is not None
        assert abs(result.error) > 0.15
        assert result.high / result.low > 5


def test_shipped_constants_are_the_fit() -> None:
    """gate_area, gate_delay, gate_energy are those of all macros, with the least and greatest as bounds."""
    for figure, quantity in zip(
        FIGURES, (CONSTANTS.gate_area, CONSTANTS.gate_delay, CONSTANTS.gate_energy), strict=True
    ):
        used = [c for c in CHIPS if (c.name, figure) in SCORED]
        each = [fit([c], CONSTANTS, figure) for c in used]
        assert quantity.value == pytest.approx(fit(used, CONSTANTS, figure), rel=0.01)
        assert quantity.low == pytest.approx(min(each), rel=0.02)
        assert quantity.high == pytest.approx(max(each), rel=0.02)


def test_shipped_constants_hold_every_macro_they_rest_on() -> None:
    """Without a fit, by the constants' own bounds and the errors."""
    for name, figure in SCORED:
        low, nominal, high = estimate(BY_NAME[name].structure, CONSTANTS, figure)
        silicon = BY_NAME[name].silicon[figure]
        assert silicon is not None
        assert low < silicon < high
        assert low < nominal < high


def test_every_bound_of_the_constants_widens_an_interval() -> None:
    """By itself: of all constants together the one that matters most sets the extremes."""

    def intervals(constants: Constants) -> list[object]:
        found: list[object] = [estimate(c.structure, constants, figure) for c in CHIPS for figure in FIGURES]
        return found + [predict(chip, CHIPS, constants, figure) for chip in CHIPS for figure in FIGURES]

    exact = CONSTANTS
    for name, quantity in quantities(CONSTANTS):
        point = quantity.model_copy(update={"low": quantity.value, "high": quantity.value})
        exact = with_quantity(exact, name, point)
    before = intervals(exact)
    for name, quantity in quantities(CONSTANTS):
        assert quantity.low < quantity.value < quantity.high, name
        for bound in ("low", "high"):
            one = dict(quantities(exact))[name].model_copy(update={bound: getattr(quantity, bound)})
            assert intervals(with_quantity(exact, name, one)) != before, (name, bound)


def test_fit_recovers_a_known_process() -> None:
    """Chips made by the model with a known constant give that constant back."""
    for figure in FIGURES:
        made = []
        for chip in CHIPS[:3]:
            count = {"area": gates, "cycle": path, "energy": switched}[figure](chip.structure, CONSTANTS)
            cells = chip.structure.cells * CONSTANTS.cell_area.value / 1e6 if figure == "area" else 0.0
            value = 0.4 * count * scale(chip.structure, CONSTANTS, figure) / (1e6 if figure == "area" else 1) + cells
            made.append(Chip(chip.name, chip.structure, {**chip.silicon, figure: value}))
        assert fit(made, CONSTANTS, figure) == pytest.approx(0.4)


# --- counts by hand --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", [2, 4, 8, 32, 128])
@pytest.mark.parametrize("bits", [1, 2, 9])
def test_tree_adders_equal_a_tree_built_adder_by_adder(inputs: int, bits: int) -> None:
    widths, adders = [bits] * inputs, 0
    while len(widths) > 1:
        left, right = widths.pop(0), widths.pop(0)
        adders += max(left, right)
        widths.append(max(left, right) + 1)
    assert tree_adders(inputs, bits) == adders


def test_gates_and_path_of_a_small_macro_by_hand() -> None:
    """Two rows of one bit, one output: 2 ANDs, 1 adder in the tree, 3 + 3 bits of accumulator, 1 line, 1 column."""
    small = BY_NAME["dimc3"].structure.model_copy(
        update={
            "macros": 1, "rows": 2, "outputs": 1, "trees": 1, "tree_bits": 1, "product_bits": 1, "adder_bits": 3,
            "register_bits": 3, "word_lines": 1, "bit_columns": 1, "fanout": 1, "cycles": 2,
        }
    )  # fmt: skip
    assert gates(small, CONSTANTS) == pytest.approx(2 + (1 + 3) * 7.8 + 3 * 6 + 5 + 10)
    # register 3, product 1, ripple 2 x 1 and one sum, accumulator sum and one carry beyond the two bits of the sum
    assert path(small, CONSTANTS) == pytest.approx(3 + 1 + 2 + 4.8 + 4.8 + 2)
    assert switched(small, CONSTANTS) == pytest.approx(0.25 * 2 * (2 + 6 + 3 * 6 + 3 * 3) / 2)


def test_scaling_of_nodes_and_supply() -> None:
    half = BY_NAME["dimc1"].structure.model_copy(update={"node_nm": 14, "supply_v": 0.45})
    assert [scale(half, CONSTANTS, f) for f in FIGURES] == pytest.approx([1 / 4, 1 / 2, 1 / 8])


def test_more_structure_costs_more() -> None:
    base = BY_NAME["dimc3"].structure
    for key in ("rows", "tree_bits", "trees"):
        grown = base.model_copy(update={key: 2 * getattr(base, key), "adder_bits": 64, "register_bits": 64})
        wide = base.model_copy(update={"adder_bits": 64, "register_bits": 64})
        assert gates(grown, CONSTANTS) > gates(wide, CONSTANTS)


def test_lane_area_of_the_default_device() -> None:
    """The preset's lane is what the model gives for an 8 x 8 multiplier in a tree over 128 rows at 22 nm."""
    numbers = BY_NAME["dimc3"].structure.model_dump() | {
        "node_nm": 22, "macros": 1, "outputs": 1, "trees": 8, "tree_bits": 8, "product_bits": 8, "adder_bits": 32,
        "register_bits": 32, "cells": 0, "word_lines": 0, "bit_columns": 0,
    }  # fmt: skip
    from tests.targets.test_cim import cim_device

    lane = cim_device().spec.lane_area
    model = lane_area_um2(load_structure(numbers, "lane"), CONSTANTS)
    assert (lane.low, lane.value, lane.high) == pytest.approx(model, rel=0.02)


def test_faults_of_a_structure_are_named() -> None:
    numbers = BY_NAME["dimc1"].structure.model_dump() | {"rows": 0, "wings": 2}
    with pytest.raises(TargetError) as caught:
        load_structure(numbers, "here")
    assert "'rows'" in str(caught.value)
    assert "'wings'" in str(caught.value)


def test_faults_of_a_table_are_named(tmp_path: Path) -> None:
    file = tmp_path / "macros.csv"
    file.write_text("id,name,node_nm\nx,y,z\n")
    with pytest.raises(TargetError, match=r"macro of macros\.csv"):
        read_published(file)


def test_errors_are_logarithmic_means() -> None:
    """The constant of two chips is the geometric mean of their own."""
    pair = [BY_NAME["dimc1"], BY_NAME["dimc3"]]
    own = [fit([c], CONSTANTS, "cycle") for c in pair]
    assert fit(pair, CONSTANTS, "cycle") == pytest.approx(math.sqrt(own[0] * own[1]))
