"""What all commands share: the global flags, and checks of options that collect every mistake."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from h4hc.console import Console
from h4hc.errors import Problem, UserError

F = TypeVar("F", bound=Callable[..., Any])


def global_flags(function: F) -> F:
    """--json, -q, -v. `cli.run` has read them already; here they are named for the parser and the help."""
    for option in (
        click.option("-v", "--verbose", is_flag=True, expose_value=False, help="Log, notes, tracebacks of bugs."),
        click.option("-q", "--quiet", is_flag=True, expose_value=False, help="No warnings and no log."),
        click.option("--json", is_flag=True, expose_value=False, help="One JSON value on stdout, nothing else there."),
    ):
        function = option(function)
    return function


def pass_console(function: F) -> F:
    """Give the command its Console as first argument."""
    return cast(F, click.make_pass_decorator(Console)(function))


def target_problems(target: str | None) -> list[Problem]:
    """A missing --target, with the known ones: there is no default."""
    if target:
        return []
    from h4hc.target_file import list_targets

    known = ", ".join(t.name for t in list_targets() if t.kind == "system")
    return [
        Problem("--target is missing", why="there is no default target", hint=f"one of {known}, or a path to a TOML")
    ]


def pair_problems(flag: str, texts: tuple[str, ...], form: str) -> list[Problem]:
    """Values that are not LEFT=RIGHT with both sides filled."""
    return [
        Problem(f"{flag} {text!r} is not {form}", (flag,), hint=f"write {flag} {form}")
        for text in texts
        if not all(text.rpartition("=")[::2])
    ]


def repeat_problems(flag: str, texts: tuple[str, ...]) -> list[Problem]:
    """Values of one flag that set the same thing twice: which of them counts must not depend on their order."""
    keys = [text.rpartition("=")[0] if flag != "--set" else text.partition("=")[0] for text in texts]
    return [
        Problem(f"{flag} {key} is given {keys.count(key)} times", (flag,), hint="give it once")
        for key in dict.fromkeys(keys)
        if keys.count(key) > 1
    ]


def set_problems(sets: tuple[str, ...]) -> list[Problem]:
    """What is wrong with the values of --set, before any target is read."""
    return [*pair_problems("--set", sets, "KEY=VALUE"), *repeat_problems("--set", sets)]


def range_problems(flag: str, value: float, low: float, high: float, unit: str) -> list[Problem]:
    """A number outside [low, high] or not a number."""
    if math.isfinite(value) and low <= value <= high:
        return []
    return [Problem(f"{flag} {value:g} is out of range", (flag,), f"{low:g} to {high:g}{unit} is allowed")]


def file_problems(flag: str, path: Path | None) -> list[Problem]:
    """A file or folder that does not exist."""
    if path is None or path.exists():
        return []
    return [Problem(f"there is no {flag}", (str(path),), hint="check the path")]


def raise_all(problems: list[Problem]) -> None:
    """Raise UserError with all problems, if there are any."""
    if problems:
        raise UserError.of(tuple(problems))


def new_file_problems(path: Path | None, force: bool) -> list[Problem]:
    """Why a file cannot be written there, as far as it shows before the work that makes it."""
    if path is None:
        return []
    where = (str(path),)
    if path.is_dir():
        return [Problem("this is a folder", where, hint="name a file")]
    if path.exists() and not force:
        return [Problem("the file exists", where, hint="--force replaces it")]
    if not path.parent.is_dir():
        return [Problem("cannot write the file", where, f"there is no folder {path.parent}", f"mkdir -p {path.parent}")]
    return []


def write_new(path: Path, data: bytes, force: bool) -> None:
    """Write a file as a whole or not at all. Raises UserError when it exists (without force) or cannot be written."""
    import os
    import tempfile

    raise_all(new_file_problems(path, force))
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(data)
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise UserError("cannot write the file", (str(path),), str(error.strerror)) from error
