"""Where output goes: results to stdout, everything else to stderr; with --json one JSON value on stdout.

Only this file and cli.py print.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from h4hc.diagnostics import Diagnostic
from h4hc.errors import H4hcError, Problem
from h4hc.text import printable, shorten

MIN_WIDTH = 60
MAX_WIDTH = 120
SHOWN_PROBLEMS = 20
SHOWN_WARNINGS = 10
LINE_LIMIT = 600  # columns of one line of an error; --json has it whole


@dataclass
class Console:
    """as_json: one JSON value on stdout and nothing else there. level: -1 quiet, 0 normal, 1 verbose."""

    as_json: bool = False
    level: int = 0
    exit_code: int = 0  # of the error shown, so that it survives a reader who closes the pipe

    @property
    def width(self) -> int:
        """Columns to fill: those of the terminal or of $COLUMNS, 100 when unknown; between 60 and 120."""
        return max(MIN_WIDTH, min(MAX_WIDTH, shutil.get_terminal_size((100, 24)).columns))

    @property
    def debug(self) -> bool:
        """Whether to show tracebacks of unexpected errors."""
        return self.level > 0 or os.environ.get("H4HC_DEBUG", "") not in ("", "0")

    def result(self, value: Any, text: Callable[[], str]) -> None:
        """Print the result of a command: the JSON value, or the text made by `text`."""
        if self.as_json:
            sys.stdout.write(json.dumps(value, sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False) + "\n")
        else:
            sys.stdout.write(text())
        sys.stdout.flush()

    def raw(self, data: bytes) -> None:
        """Print a result that is JSON already."""
        sys.stdout.write(data.decode("utf-8", "backslashreplace").rstrip("\n") + "\n")
        sys.stdout.flush()

    def log(self, line: str) -> None:
        """A line of progress; shown with -v."""
        if self.level > 0:
            self._aside(line)

    def say(self, line: str) -> None:
        """A line about what was done; hidden by -q."""
        if self.level >= 0:
            self._aside(line)

    def diagnostics(self, found: Iterable[Diagnostic]) -> None:
        """Warnings, and with -v the notes; -q hides both. At most ten without -v."""
        if self.level < 0:
            return
        shown = [d for d in found if d.severity == "warning" or self.level > 0]
        limit = len(shown) if self.level > 0 else SHOWN_WARNINGS
        for d in shown[:limit]:
            first, *rest = Problem(d.what, d.where, "", d.hint).lines()
            self._aside(f"{d.severity}[{d.code}]: {first}")
            for line in rest:
                self._aside(line)
        if shown[limit:]:
            self._aside(f"and {len(shown) - limit} more; -v shows all")

    def error(self, error: H4hcError) -> None:
        """All problems of an error, to stderr; with --json as an object on stdout."""
        self.exit_code = int(error.exit_code)
        if self.as_json:
            self._error_json(error.code, int(error.exit_code), error.problems)
            return
        for problem in error.problems[:SHOWN_PROBLEMS]:
            first, *rest = problem.lines()
            self._aside(f"error[{error.code}]: {first}")
            for line in rest:
                self._aside(line)
        if error.problems[SHOWN_PROBLEMS:]:
            self._aside(f"and {len(error.problems) - SHOWN_PROBLEMS} more; --json lists all")

    def failure(self, code: str, exit_code: int, lines: Sequence[str]) -> None:
        """An error that is no H4hcError: the sentence and further lines."""
        self.exit_code = exit_code
        if self.as_json:
            self._error_json(code, exit_code, (Problem(lines[0], hint=" ".join(lines[1:])),))
            return
        self._aside(f"error[{code}]: {lines[0]}")
        for line in lines[1:]:
            self._aside(f"  {line}")

    def _error_json(self, code: str, exit_code: int, problems: Iterable[Problem]) -> None:
        rows = [{"what": p.what, "where": list(p.where), "why": p.why, "hint": p.hint} for p in problems]
        value = {"error": {"code": code, "exit_code": exit_code, "problems": rows}}
        sys.stdout.write(json.dumps(value, sort_keys=True, indent=1, ensure_ascii=True) + "\n")
        sys.stdout.flush()

    def _aside(self, line: str) -> None:
        for part in line.split("\n"):
            sys.stderr.write(shorten(printable(part), LINE_LIMIT) + "\n")
        sys.stderr.flush()
