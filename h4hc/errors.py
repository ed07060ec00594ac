"""Every error a user can meet: what, where, why, what to do, and the exit code.

Only the CLI prints and exits; everything else raises one of these. An error carries *all* the
problems found, not the first only, and names the user's own ONNX nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Self


class ExitCode(IntEnum):
    """Stable exit codes of the command line."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    MODEL = 3
    UNSUPPORTED = 4
    INFEASIBLE = 5
    TARGET = 6
    NUMERICS = 7
    GATE = 8
    LIMIT = 9
    TOOL_MISSING = 10
    INTEGRITY = 11
    NOT_REPRODUCIBLE = 12
    INTERRUPTED = 130


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    what: one sentence; where: names of the user's nodes, tensors, files or options;
    why: the rule or limit with the value seen; hint: what the user can do.
    """

    what: str
    where: tuple[str, ...] = ()
    why: str = ""
    hint: str = ""

    def lines(self) -> list[str]:
        """Render for a terminal; the first line is the sentence, the rest is indented."""
        out = [self.what]
        if self.where:
            shown = ", ".join(repr(w) for w in self.where[:4])
            more = f" and {len(self.where) - 4} more" if len(self.where) > 4 else ""
            out.append(f"  where  {shown}{more}")
        if self.why:
            out.append(f"  why    {self.why}")
        if self.hint:
            out.append(f"  do     {self.hint}")
        return out


class H4hcError(Exception):
    """Base of all errors meant for the user.

    `code` is stable and documented; `exit_code` is what the command line returns.
    """

    code: ClassVar[str] = "H4E100"
    exit_code: ClassVar[ExitCode] = ExitCode.INTERNAL

    def __init__(
        self,
        what: str,
        where: tuple[str, ...] = (),
        why: str = "",
        hint: str = "",
    ) -> None:
        self.problems: tuple[Problem, ...] = (Problem(what, where, why, hint),)
        super().__init__(what)

    @classmethod
    def of(cls, problems: tuple[Problem, ...]) -> Self:
        """Build one error out of all the problems found (at least one)."""
        first = problems[0]
        error = cls(first.what, first.where, first.why, first.hint)
        error.problems = problems
        return error

    def __str__(self) -> str:
        return "\n".join(line for p in self.problems for line in p.lines())


class InternalError(H4hcError):
    """A bug of h4hc."""

    code = "H4E100"
    exit_code = ExitCode.INTERNAL


class UserError(H4hcError):
    """A wrong option, argument or configuration."""

    code = "H4E200"
    exit_code = ExitCode.USAGE


class ModelFileError(H4hcError):
    """The model file is malformed, unsafe or over a limit."""

    code = "H4E300"
    exit_code = ExitCode.MODEL


class GraphError(ModelFileError):
    """The graph contradicts itself: shapes, types or names."""

    code = "H4E310"


class UnsupportedOpError(H4hcError):
    """Operators that nothing can run; lists all of them."""

    code = "H4E400"
    exit_code = ExitCode.UNSUPPORTED


class PassError(H4hcError):
    """A pass broke its own contract (order, origin law, validity of the result)."""

    code = "H4E110"
    exit_code = ExitCode.INTERNAL


class CostModelError(H4hcError):
    """A cost model was asked for something outside its range of validity."""

    code = "H4E120"
    exit_code = ExitCode.INTERNAL


class PlanError(H4hcError):
    """A plan that breaks a rule of plans (order, coverage, capacity)."""

    code = "H4E130"
    exit_code = ExitCode.INTERNAL


class InfeasibleError(H4hcError):
    """No legal plan exists: resource, demand, bound and the levers are in the problems."""

    code = "H4E500"
    exit_code = ExitCode.INFEASIBLE


class TargetError(H4hcError):
    """A target or system file is invalid, or does not exist."""

    code = "H4E600"
    exit_code = ExitCode.TARGET


class NumericsError(H4hcError):
    """Outputs differ by more than the stated tolerance."""

    code = "H4E700"
    exit_code = ExitCode.NUMERICS


class LimitError(H4hcError):
    """A time or resource limit was reached."""

    code = "H4E900"
    exit_code = ExitCode.LIMIT


class MissingToolError(H4hcError):
    """An optional tool or package is not installed, or in another version than needed."""

    code = "H4EA00"
    exit_code = ExitCode.TOOL_MISSING


class IntegrityError(H4hcError):
    """An output folder does not match its own manifest or schema."""

    code = "H4EB00"
    exit_code = ExitCode.INTEGRITY
