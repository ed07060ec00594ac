"""Collects everything that is wrong with a model file, so that the user sees it all at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from h4hc.errors import ModelFileError, Problem

SHOWN_PROBLEMS = 50  # a damaged file can break every node; nobody reads more than this
_SHOWN_NAME = 96


def shown(name: str) -> str:
    """A name as it goes into a message: cut when it is very long."""
    if len(name) <= _SHOWN_NAME:
        return name
    return f"{name[:_SHOWN_NAME]}... ({len(name)} characters)"


@dataclass
class Findings:
    """Problems found so far; only the first `SHOWN_PROBLEMS` are kept, all are counted."""

    problems: list[Problem] = field(default_factory=list)
    count: int = 0

    def add(self, what: str, where: tuple[str, ...] = (), why: str = "", hint: str = "") -> None:
        """Note one problem."""
        self.count += 1
        if len(self.problems) < SHOWN_PROBLEMS:
            self.problems.append(Problem(what, tuple(shown(w) for w in where), why, hint))

    def raise_if_any(self, error: type[ModelFileError] = ModelFileError) -> None:
        """Raise `error` with all problems, if there are any."""
        if not self.problems:
            return
        rest = self.count - len(self.problems)
        more = (Problem(f"and {rest} more problems of this file"),) if rest else ()
        raise error.of((*self.problems, *more))
