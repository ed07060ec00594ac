"""The options that say what to compile and for what, shared by `compile` and `classify`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from h4hc.commands.flags import (
    file_problems,
    pair_problems,
    raise_all,
    range_problems,
    repeat_problems,
    target_problems,
)
from h4hc.errors import H4hcError, Problem, UserError
from h4hc.goals import MOST_POINTS, Goal, parse_budget, parse_goals, parse_pair

if TYPE_CHECKING:
    from h4hc.api import CompileOptions

F = TypeVar("F", bound=Callable[..., Any])
MAX_TIME_LIMIT_S = 86_400.0
OVERLAP_GAP = 0.01  # what a plan with overlaps is proved to by default: the last per cent takes most of the time
MAX_POINTS = 10_000
NPU_COSTS = ("model", "vela")
NPU_COST_FILES = (".json", ".csv")  # a calibration, a table of measurements


@dataclass(frozen=True)
class ModelOptions:
    """Values of `model_options` as given, in the spelling of the command line."""

    target: str | None
    sets: tuple[str, ...]
    precision: str
    input_shapes: tuple[str, ...]
    fix_dims: tuple[str, ...]
    passes: str
    limits: tuple[str, ...]
    npu_cost: str = "model"


@dataclass(frozen=True)
class PlanOptions:
    """Values of `plan_options`."""

    objective: str = "latency"
    budgets: tuple[str, ...] = ()
    pareto: str | None = None
    pareto_points: int = MOST_POINTS
    pins: tuple[str, ...] = ()
    forbids: tuple[str, ...] = ()
    gap: float | None = None
    time_limit: float = 60.0
    robust: bool = False
    stability: bool = False
    schema: str = "sequential"


def model_options(function: F) -> F:
    """MODEL, and `system_options`."""
    return click.argument("model", type=click.Path(path_type=Path))(system_options(function))


def system_options(function: F) -> F:
    """--target and what else decides about the costs."""
    decorators = (
        click.option("--target", metavar="T", help="Target: a name of `h4hc targets list`, or a TOML. Required."),
        click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change a number: cim.macros=8."),
        click.option(
            "--npu-cost",
            default="model",
            show_default=True,
            metavar="SOURCE",
            help="Costs of the NPU: model, vela (vendor's compiler), a calibration .json, a .csv of measurements.",
        ),
        click.option(
            "--precision",
            type=click.Choice(["auto-int8", "stored"]),
            default="auto-int8",
            show_default=True,
            help="Plan a float model as int8, or cost the types in the file.",
        ),
        click.option(
            "--input-shape",
            "input_shapes",
            multiple=True,
            metavar="NAME=DIMS",
            help="Shape of an input: x=1,3,224,224.",
        ),
        click.option("--fix-dim", "fix_dims", multiple=True, metavar="DIM=N", help="Value of a free dim: batch=1."),
        click.option("--passes", default="default", show_default=True, help="Pass list; see `h4hc passes`."),
        click.option("--limit", "limits", multiple=True, metavar="NAME=N", help="Raise a limit: model-bytes=4G."),
    )
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


def goal_options(function: F) -> F:
    """What is minimised, one goal after another, and the most that a plan may take."""
    objective = click.option(
        "--objective",
        default="latency",
        show_default=True,
        metavar="GOAL[,GOAL]",
        help="What to minimise: latency, energy, edp (energy x latency), sram (bytes alive at once; alone, then "
        "latency). Of several, each among the plans that are best in those before.",
    )
    budget = click.option(
        "--budget",
        "budgets",
        multiple=True,
        metavar="GOAL=AMOUNT",
        help="The most a plan may take: latency=5ms,sram=256K,energy=1mJ.",
    )
    pareto = click.option(
        "--pareto", metavar="GOAL,GOAL", help="Find the front of two of latency, energy, sram: pareto.json, .csv, .png."
    )
    points = click.option(
        "--pareto-points", type=int, default=MOST_POINTS, show_default=True, help="Most points of the front to find."
    )
    return objective(budget(pareto(points(function))))


def plan_options(function: F) -> F:
    """One objective, and `demand_options`."""
    return click.option(
        "--objective",
        type=click.Choice(["latency", "energy", "edp"]),
        default="latency",
        show_default=True,
        help="What to minimise; edp = energy x latency.",
    )(demand_options(function))


def demand_options(function: F) -> F:
    """What a plan must keep to, and when to stop looking for it."""
    decorators = (
        click.option("--pin", "pins", multiple=True, metavar="NODE|GLOB=DEV", help="Run these nodes on DEV."),
        click.option("--forbid", "forbids", multiple=True, metavar="OP|GLOB=DEV", help="Keep these off DEV."),
        click.option(
            "--gap",
            type=float,
            metavar="FLOAT",
            help="Relative gap to the optimum allowed.  [default: 0; 0.01 where operators may overlap]",
        ),
        click.option("--time-limit", type=float, default=60.0, show_default=True, help="Solver time limit [s]."),
    )
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


def compile_options(
    model: Path | None, given: ModelOptions, plan: PlanOptions | None = None, more: tuple[Problem, ...] = ()
) -> CompileOptions:
    """Check all options at once and put them together; `model` None: its check is elsewhere.

    Raises: UserError with every mistake that shows without reading the model, `more` among them.
    """
    plan = plan or PlanOptions()
    problems = [
        *more,
        *file_problems("such model file", model),
        *target_problems(given.target),
        *pair_problems("--set", given.sets, "KEY=VALUE"),
        *pair_problems("--input-shape", given.input_shapes, "NAME=DIMS"),
        *pair_problems("--fix-dim", given.fix_dims, "DIM=N"),
        *repeat_problems("--set", given.sets),
        *repeat_problems("--input-shape", given.input_shapes),
        *repeat_problems("--fix-dim", given.fix_dims),
        *pair_problems("--pin", plan.pins, "NODE=DEVICE"),
        *pair_problems("--forbid", plan.forbids, "OP=DEVICE"),
        *range_problems("--gap", 0.0 if plan.gap is None else plan.gap, 0.0, 1.0, ""),
        *_schema_problems(plan),
        *range_problems("--time-limit", plan.time_limit, 0.01, MAX_TIME_LIMIT_S, " s"),
        *_limit_problems(given.limits),
        *_pass_problems(given.passes),
        *_npu_cost_problems(given.npu_cost),
        *_goal_problems(plan),
        *range_problems("--pareto-points", plan.pareto_points, 2, MAX_POINTS, ""),
    ]
    raise_all(problems)
    goals, budget = goals_of(plan.objective), parse_budget(plan.budgets)
    from h4hc.api import CompileOptions
    from h4hc.assignment import Objective, Schema

    schema = Schema(plan.schema)
    return CompileOptions(
        target=given.target or "",
        sets=given.sets,
        npu_cost=given.npu_cost,
        objective=next(Objective(goal) for goal in goals if goal is not Goal.SRAM),
        goals=goals if len(goals) > 1 else (),
        budget=budget,
        pareto=None if plan.pareto is None else parse_pair(plan.pareto),
        pareto_points=plan.pareto_points,
        pins=plan.pins,
        forbids=plan.forbids,
        gap=plan.gap if plan.gap is not None else 0.0 if schema is Schema.SEQUENTIAL else OVERLAP_GAP,
        schema=schema,
        time_limit_s=plan.time_limit,
        robust=plan.robust,
        stability=plan.stability,
        precision="stored" if given.precision == "stored" else "auto-int8",
        input_shapes=given.input_shapes,
        fix_dims=given.fix_dims,
        passes=given.passes,
        limits=given.limits,
    )


def _schema_problems(plan: PlanOptions) -> list[Problem]:
    found: list[Problem] = []
    if plan.schema != "sequential":
        several = "," in plan.objective or plan.objective == "sram"
        given = {"--budget": plan.budgets, "--pareto": plan.pareto, f"--objective {plan.objective}": several}
        for option in (name for name, value in given.items() if value):
            why = "goals in order, budgets and fronts are of plans that run one operator at a time"
            found.append(
                Problem(f"{option} is not for --schema {plan.schema}", (option,), why, "leave one of them out")
            )
    if plan.stability and plan.schema != "sequential":
        why = "it asks how wrong a device's costs may be before another sum is the least; a makespan is no sum"
        what = f"--stability is not for --schema {plan.schema}"
        found.append(Problem(what, ("--stability",), why, "leave one of them out"))
    return found


def goals_of(text: str) -> tuple[Goal, ...]:
    """The goals that --objective names. `sram` alone leaves many plans: latency chooses among them."""
    goals = parse_goals(text)
    return (Goal.SRAM, Goal.LATENCY) if goals == (Goal.SRAM,) else goals


def _goal_problems(plan: PlanOptions) -> list[Problem]:
    """What is wrong with --objective and --budget, and with --stability beside them."""
    found: list[Problem] = []
    readings: tuple[Callable[[], object], ...] = (
        lambda: parse_goals(plan.objective),
        lambda: parse_budget(plan.budgets),
        lambda: plan.pareto is None or parse_pair(plan.pareto),
    )
    for read in readings:
        try:
            read()
        except UserError as error:
            found.extend(error.problems)
    if plan.stability and (plan.budgets or plan.objective not in ("latency", "energy", "edp")):
        why = "the range of factors is that of one objective, with nothing else that binds the plan"
        found.append(Problem("--stability takes one objective and no --budget", ("--stability",), why, "leave one out"))
    return found


def _limit_problems(texts: tuple[str, ...]) -> list[Problem]:
    from h4hc.limits import parse

    found: list[Problem] = []
    for text in texts:
        try:
            parse((text,))
        except UserError as error:
            found.extend(error.problems)
    return found


def _npu_cost_problems(choice: str) -> list[Problem]:
    if choice in NPU_COSTS:
        return []
    path = Path(choice)
    if path.suffix.lower() not in NPU_COST_FILES:
        known = f"{', '.join(NPU_COSTS)}, or a file that ends in {' or '.join(NPU_COST_FILES)}"
        return [Problem(f"--npu-cost {choice!r} is not a cost source", ("--npu-cost",), f"known: {known}")]
    return file_problems("--npu-cost file", path)


def _pass_problems(text: str) -> list[Problem]:
    if text == "default":
        return []  # the name of the list that the command uses by itself
    from h4hc.pipeline import parse_pipeline

    try:
        parse_pipeline(text)
    except H4hcError as error:
        return list(error.problems)
    return []
