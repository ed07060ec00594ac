"""tasks: (points) -> what is to be computed, with its address in the cache. Finds all mistakes before anything runs."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from typing import Any

import h4hc
from h4hc.errors import H4hcError, InternalError, MissingToolError, Problem, TargetError, UserError
from h4hc.planning.demands import matches
from h4hc.sweep.evaluate import Prepared, prepare
from h4hc.sweep.row import Point

SOURCES = ("h4hc", "passes", "targets")  # packages whose code decides about a result
LIBRARIES = ("highspy", "numpy", "onnx", "onnx-ir", "onnxruntime", "pulp")
Asked = tuple[str, tuple[str, ...], str]  # target, sets, npu_cost: all that a system depends on
_BY_CONTENT = ("model", "target", "sets", "npu_cost")  # fields of a Point that the two hashes stand for


@dataclass(frozen=True)
class SystemFacts:
    """What is kept of a system until its turn: its hash, and where operators may run: `npu`, `cim`, `cim*2`, ..."""

    sha256: str
    places: frozenset[str]


Systems = dict[Asked, SystemFacts]


@dataclass(frozen=True)
class Task:
    """One point to compute. key: hex address of its answer, made of all that the answer depends on."""

    point: Point
    prepared: Prepared
    system_sha256: str
    key: str


def make_tasks(
    points: Sequence[Point],
    systems: Systems,
    prepare: Callable[[Point], Prepared] = prepare,
    log: Callable[[str], None] = lambda line: None,
) -> tuple[Task, ...]:
    """Prepare every model and give each point its address; `systems` are those of `load_systems`.

    Raises one error with the problems of all models, or one with those of all pins and forbids.
    """
    prepared = _models(points, prepare, log)
    _check_demands(points, systems, prepared)
    program = program_sha256()
    tasks = []
    for point in points:
        model, system = prepared[_front(point)], systems[_asked(point)]
        tasks.append(Task(point, model, system.sha256, _key(point, model.model_sha256, system.sha256, program)))
    return tuple(tasks)


def load_systems(points: Sequence[Point]) -> Systems:
    """The systems of all points. Raises one error with the problems of all of them."""
    from h4hc.target_file import load_system

    systems: Systems = {}
    errors: list[H4hcError] = []
    for asked in dict.fromkeys(_asked(point) for point in points):
        try:
            system = load_system(*asked)
            places = (name for d in system.devices for name in (d.name, *(mode.name for mode in d.modes())))
            systems[asked] = SystemFacts(system.sha256, frozenset(places))
        except (UserError, TargetError, MissingToolError) as error:
            errors.append(error)
    raise_all(errors)
    return systems


def _asked(point: Point) -> Asked:
    return point.target, point.sets, point.npu_cost


def _front(point: Point) -> tuple[Any, ...]:
    """All that the operators of a model depend on."""
    return point.model, point.precision, point.input_shapes, point.fix_dims, point.passes, point.limits


def _models(
    points: Sequence[Point], prepare: Callable[[Point], Prepared], log: Callable[[str], None]
) -> dict[tuple[Any, ...], Prepared]:
    prepared: dict[tuple[Any, ...], Prepared] = {}
    errors: list[H4hcError] = []
    for front, point in {_front(point): point for point in points}.items():
        log(f"reading {point.model}")
        try:
            prepared[front] = prepare(point)
        except H4hcError as error:
            named = tuple(dataclasses.replace(p, where=(point.model, *p.where)) for p in error.problems)
            errors.append(type(error).of(named))
    raise_all(errors)
    return prepared


def _check_demands(
    points: Sequence[Point],
    systems: Systems,
    prepared: dict[tuple[Any, ...], Prepared],
) -> None:
    """Pins and forbids must name an operator of each model, and a device or mode of each system."""
    problems: list[Problem] = []
    for flag, demand, front in dict.fromkeys(
        (flag, demand, _front(p))
        for p in points
        for flag, demands in (("--pin", p.pins), ("--forbid", p.forbids))
        for demand in demands
    ):
        if not any(matches(demand.rpartition("=")[0], op) for op in prepared[front].workload.ops):
            hint = "`h4hc classify` lists the operators"
            problems.append(Problem(f"{flag} {demand!r} matches no operator", (front[0],), hint=hint))
    for asked, demand in dict.fromkeys((_asked(p), demand) for p in points for demand in (*p.pins, *p.forbids)):
        places = systems[asked].places
        if demand.rpartition("=")[2] not in places:
            where, why = (asked[0], *asked[1]), f"known: {', '.join(sorted(places))}"
            problems.append(Problem(f"{demand!r}: there is no such device or mode", where, why))
    if problems:
        raise UserError.of(tuple(problems))


def raise_all(errors: Sequence[H4hcError]) -> None:
    """One error of the kind with the lowest exit code, with every problem once."""
    if errors:
        problems = dict.fromkeys(problem for error in errors for problem in error.problems)
        raise type(min(errors, key=lambda e: e.exit_code)).of(tuple(problems))


# --- addresses ---------------------------------------------------------------------------------------------


def _key(point: Point, model_sha256: str, system_sha256: str, program: str) -> str:
    options = {f.name: getattr(point, f.name) for f in dataclasses.fields(point) if f.name not in _BY_CONTENT}
    tree = {"model": model_sha256, "system": system_sha256, "program": program, "options": options}
    return hashlib.sha256(
        json.dumps(tree, sort_keys=True, ensure_ascii=True, default=dataclasses.asdict).encode()
    ).hexdigest()


@functools.cache
def program_sha256() -> str:
    """What the answers depend on besides the question: h4hc's version and code, and the versions of its libraries."""
    digest = hashlib.sha256(h4hc.__version__.encode())
    for package in SOURCES:
        for name, text in _files(resources.files(package), package):
            digest.update(name.encode() + b"\0" + hashlib.sha256(text).digest())
    for library in LIBRARIES:
        digest.update(f"{library} {metadata.version(library)}\0".encode())
    return digest.hexdigest()


def _files(folder: Any, name: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for entry in sorted(folder.iterdir(), key=lambda e: str(e.name)):
        path = f"{name}/{entry.name}"
        if entry.is_dir():
            found += _files(entry, path)
        elif entry.name.endswith((".py", ".toml", ".json")):
            found.append((path, entry.read_bytes()))
    if not found and "/" not in name:
        raise InternalError(f"the code of {name} cannot be read", hint="install h4hc from its wheel")
    return found
