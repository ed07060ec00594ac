"""The grid: its order, its size, and every mistake in `--over`."""

from __future__ import annotations

import pytest

from h4hc.compilation import CompileOptions
from h4hc.sweep.grid import Axis, coordinates, grid_points, grid_size, parse_axes


def test_models_are_outermost_and_the_last_axis_is_fastest() -> None:
    axes = (Axis("cim.macros", ("4", "1")), Axis("npu.memory_mode", ("Sram_Only", "Shared_Sram")))
    base = CompileOptions("npu+cim", sets=("cim.cus=2",))
    points = grid_points(("b", "a"), axes, base)
    expected = []
    for model in ("b", "a"):
        for macros in ("4", "1"):
            for mode in ("Sram_Only", "Shared_Sram"):
                expected.append((model, ("cim.cus=2", f"cim.macros={macros}", f"npu.memory_mode={mode}")))
    assert [(p.model, p.sets) for p in points] == expected
    assert len(points) == grid_size(("b", "a"), axes)


def test_points_carry_every_option_and_their_place() -> None:
    base = CompileOptions("npu", sets=("cim.cus=2",), pins=("a=npu",), gap=0.5, passes="minimal", fix_dims=("n=1",))
    (first, second) = grid_points(("m",), (Axis("x.y", ("1", "2")),), base)
    assert (first.target, first.pins, first.gap, first.passes, first.fix_dims) == (
        "npu",
        ("a=npu",),
        0.5,
        "minimal",
        ("n=1",),
    )
    assert coordinates(second, (Axis("x.y", ("1", "2")),)) == {"x.y": "2"}


def test_a_grid_without_axes_is_the_system_itself() -> None:
    (point,) = grid_points(("m",), (), CompileOptions("npu", sets=("a=1",)))
    assert point.sets == ("a=1",)
    assert coordinates(point, ()) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cim.macros", "is not KEY=V1,V2,..."),
        ("cim.macros=", "is not KEY=V1,V2,..."),
        ("cim.macros=1,,2", "is not KEY=V1,V2,..."),
        ("=1,2", "is not KEY=V1,V2,..."),
        ("cim.macros=1,2,1", "the value 1 is there twice"),
    ],
)
def test_a_list_that_cannot_be_read(text: str, said: str) -> None:
    _, problems = parse_axes((text,))
    assert [said in p.what for p in problems] == [True]


def test_all_mistakes_are_found_at_once() -> None:
    _, problems = parse_axes(("a=", "b=1", "b=2", "c=1,1", "d=3"), sets=("d=4",))
    assert len(problems) == 4


def test_blanks_around_values_do_not_count() -> None:
    axes, problems = parse_axes((" cim.macros = 1, 2 ",))
    assert axes == (Axis("cim.macros", ("1", "2")),)
    assert not problems
