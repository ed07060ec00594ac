"""grid: models x every combination of the `--over` values -> points, in a fixed order."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from h4hc.compilation import CompileOptions
from h4hc.errors import Problem
from h4hc.sweep.row import Point

MAX_POINTS = 100_000  # more is a slip of the keyboard: at a tenth of a second each it is hours


@dataclass(frozen=True)
class Axis:
    """One key of the target and the values it takes, as texts, in the order given."""

    key: str
    values: tuple[str, ...]


def parse_axes(texts: Sequence[str], sets: Sequence[str] = ()) -> tuple[tuple[Axis, ...], list[Problem]]:
    """`cim.macros=1,2,4` as an Axis; and every mistake that shows without the target.

    sets: the `--set` options of the same run, which must not name a key that varies.
    """
    axes: list[Axis] = []
    problems: list[Problem] = []
    fixed = {text.partition("=")[0].strip() for text in sets}
    for text in texts:
        key, equals, given = (part.strip() for part in text.partition("="))
        values = tuple(value.strip() for value in given.split(","))
        if not equals or not key or "" in values:
            hint = "for example --over cim.macros=1,2,4"
            problems.append(Problem(f"--over {text!r} is not KEY=V1,V2,...", ("--over",), "a value is missing", hint))
            continue
        twice = [value for value in dict.fromkeys(values) if values.count(value) > 1]
        problems += [Problem(f"--over {key}: the value {v} is there twice", ("--over",)) for v in twice]
        if key in {axis.key for axis in axes}:
            problems.append(Problem(f"--over {key} is given twice", ("--over",), hint="put all values in one list"))
        if key in fixed:
            problems.append(Problem(f"{key} is both varied and set", ("--over", "--set"), hint="drop one of the two"))
        axes.append(Axis(key, values))
    return tuple(axes), problems


def grid_points(models: Sequence[str], axes: Sequence[Axis], base: CompileOptions) -> tuple[Point, ...]:
    """The full grid: models outermost, then the axes as given, the last one fastest."""
    options = {f.name: getattr(base, f.name) for f in dataclasses.fields(base)}
    return tuple(
        Point(**{**options, "sets": (*base.sets, *_sets(axes, values))}, model=model)
        for model in models
        for values in itertools.product(*(axis.values for axis in axes))
    )


def grid_size(models: Sequence[str], axes: Sequence[Axis]) -> int:
    """Number of points, counted without making them."""
    size = len(models)
    for axis in axes:
        size *= len(axis.values)
    return size


def coordinates(point: Point, axes: Sequence[Axis]) -> dict[str, str]:
    """Value of each axis at a point of its grid."""
    values = dict(text.split("=", 1) for text in point.sets[len(point.sets) - len(axes) :])
    return {axis.key: values[axis.key] for axis in axes}


def _sets(axes: Sequence[Axis], values: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{axis.key}={value}" for axis, value in zip(axes, values, strict=True))
