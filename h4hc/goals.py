"""What a plan is to reach: goals in order (`--objective latency,energy`) and budgets (`--budget sram=256K`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from h4hc.errors import Problem, UserError
from h4hc.units import ENERGY_UNITS, SIZE_UNITS, TIME_UNITS, format_bytes, format_energy, format_time, parse_amount


class Goal(StrEnum):
    """What can be minimised. edp = energy x latency; sram = the most bytes alive at once in the shared SRAM."""

    LATENCY = "latency"
    ENERGY = "energy"
    EDP = "edp"
    SRAM = "sram"

    def text(self, value: int) -> str:
        """A value for people."""
        if self is Goal.LATENCY:
            return format_time(value)
        if self is Goal.ENERGY:
            return format_energy(value)
        return format_bytes(value) if self is Goal.SRAM else f"{value:.4g} ps x pJ"

    def exact(self, value: int) -> str:
        """A value as an option takes it, to the last ps, pJ or byte."""
        return f"{value}{ {Goal.LATENCY: 'ps', Goal.ENERGY: 'pJ', Goal.SRAM: 'B'}[self] }"


UNITS: Mapping[Goal, Mapping[str, int]] = {Goal.LATENCY: TIME_UNITS, Goal.ENERGY: ENERGY_UNITS, Goal.SRAM: SIZE_UNITS}
LIMITABLE = tuple(UNITS)
MOST_POINTS = 25  # of a front, unless the user says how many
EXAMPLE = "--budget latency=5ms,sram=256K,energy=1mJ"


@dataclass(frozen=True)
class Budget:
    """The most that a plan may take, in the case that is planned for; None = any amount."""

    latency_ps: int | None = None
    energy_pj: int | None = None
    sram_bytes: int | None = None

    def limit(self, goal: Goal) -> int | None:
        """The most of one goal; there is none on edp."""
        known = {Goal.LATENCY: self.latency_ps, Goal.ENERGY: self.energy_pj, Goal.SRAM: self.sram_bytes}
        return known.get(goal)

    def with_limit(self, goal: Goal, value: int | None) -> Budget:
        """The same with another limit on one goal."""
        field = {Goal.LATENCY: "latency_ps", Goal.ENERGY: "energy_pj", Goal.SRAM: "sram_bytes"}[goal]
        return replace(self, **{field: value})

    def within(self, goal: Goal, value: int) -> Budget:
        """The same with at most `value` of one goal."""
        old = self.limit(goal)
        return self.with_limit(goal, value if old is None else min(old, value))

    @property
    def limits(self) -> tuple[tuple[Goal, int], ...]:
        """What is limited."""
        return tuple((goal, limit) for goal in LIMITABLE if (limit := self.limit(goal)) is not None)


NO_BUDGET = Budget()


def parse_goals(text: str) -> tuple[Goal, ...]:
    """Goals in the order given, most important first.

    Raises: UserError with every mistake. edp must be the last: what is left after it is bound by a product, for which
    there is no linear row.
    """
    names = [name.strip() for name in text.split(",")]
    known = ", ".join(Goal)
    problems = [
        Problem(f"--objective {text!r}: there is no objective {name!r}", ("--objective",), f"known: {known}")
        for name in dict.fromkeys(names)
        if name not in list(Goal)
    ]
    problems += [
        Problem(f"--objective {text!r} names {name} {names.count(name)} times", ("--objective",), hint="name it once")
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    if "edp" in names[:-1]:
        why = "plans of equal edp are no set that linear rows describe"
        problems.append(Problem(f"--objective {text!r}: edp is not the last", ("--objective",), why, "put it last"))
    if problems:
        raise UserError.of(tuple(problems))
    return tuple(Goal(name) for name in names)


def parse_budget(texts: Iterable[str]) -> Budget:
    """Budgets out of comma lists of NAME=AMOUNT.

    >>> parse_budget(["latency=5ms,sram=256K", "energy=1mJ"])
    Budget(latency_ps=5000000000, energy_pj=1000000000, sram_bytes=262144)

    Raises: UserError with every bad entry.
    """
    budget, problems = Budget(), []
    for entry in [part.strip() for text in texts for part in text.split(",")]:
        name, equals, amount = (part.strip() for part in entry.partition("="))
        if not equals or name not in [str(goal) for goal in LIMITABLE]:
            why = f"what can be limited: {', '.join(LIMITABLE)}"
            problems.append(Problem(f"--budget {entry!r} is not NAME=AMOUNT", ("--budget",), why, EXAMPLE))
            continue
        goal = Goal(name)
        value = parse_amount(amount, UNITS[goal])
        if value is None:
            why = f"it takes a number above 0 with one of the units {', '.join(UNITS[goal])}"
            problems.append(Problem(f"--budget {entry!r}: not an amount of {name}", ("--budget",), why, EXAMPLE))
        elif budget.limit(goal) is not None:
            problems.append(Problem(f"--budget limits {name} twice", ("--budget",), hint="give it once"))
        else:
            budget = budget.with_limit(goal, value)
    if problems:
        raise UserError.of(tuple(problems))
    return budget


def parse_pair(text: str) -> tuple[Goal, Goal]:
    """Two different goals of `--pareto`. Raises: UserError."""
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2 or names[0] == names[1] or not set(names) <= {str(goal) for goal in LIMITABLE}:
        why = f"it takes two of {', '.join(LIMITABLE)}"
        raise UserError(f"--pareto {text!r} is no pair of goals", ("--pareto",), why, "--pareto latency,energy")
    return Goal(names[0]), Goal(names[1])
