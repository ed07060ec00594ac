"""Read a YAML file into a pydantic model: all its faults in one error, each with key path and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from h4hc.errors import Problem, UserError
from nas.overrides import Path_, override, parse_sets

M = TypeVar("M", bound=BaseModel)
WORDS = {"tuple_type": "must be a list, such as [1, 2]"}  # type of a fault -> words for those who write YAML


def read_model(path: Path, kind: type[M]) -> M:
    """The file `path` as a `kind`. Raises UserError with every fault: unreadable, no YAML, key twice, wrong value."""
    return parse_model(read_text(path), kind, str(path))


def read_text(path: Path) -> str:
    """The text of a file. Raises UserError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        lost = isinstance(error, FileNotFoundError) and not path.is_absolute()
        hint = f"a path counts from the folder the command runs in: {path.absolute()}" if lost else ""
        raise UserError("cannot read the file", (str(path),), error.strerror or str(error), hint) from error
    except UnicodeDecodeError as error:
        raise UserError("the file is no text in UTF-8", (str(path),), str(error)) from error


def parse_model(text: str, kind: type[M], where: str, sets: tuple[str, ...] = ()) -> M:
    """YAML text as a `kind`; `where` names its source in errors. sets: changes to the text, see nas.overrides."""
    data, places, problems = _compose(text, where)
    if not isinstance(data, dict):
        raise UserError("the configuration is no mapping of keys to values", (where,), hint="start with `name: ...`")
    for path, value, given in parse_sets(sets):
        problems += override(data, path, value, given)
        _place(places, path, given)
    try:
        found = kind.model_validate(data)
    except ValidationError as error:
        problems += [_problem(dict(fault), places, where) for fault in error.errors()]
    if problems:
        raise UserError.of(tuple(problems))
    return found


def _compose(text: str, where: str) -> tuple[Any, dict[Path_, str], list[Problem]]:
    """Data, file and line of each key path, keys given twice (which YAML readers drop in silence)."""
    places: dict[Path_, str] = {}
    problems: list[Problem] = []

    def walk(node: yaml.Node | None, path: Path_) -> None:
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                here, place = (*path, str(key.value)), f"{where}:{key.start_mark.line + 1}"
                if key.value in seen:
                    problems.append(Problem(f"the key {_dotted(here)} is given twice", (place,)))
                seen.add(key.value)
                places[here] = place
                walk(value, here)
        elif isinstance(node, yaml.SequenceNode):
            for i, item in enumerate(node.value):
                places[(*path, i)] = f"{where}:{item.start_mark.line + 1}"
                walk(item, (*path, i))

    try:
        walk(yaml.compose(text, Loader=yaml.SafeLoader), ())
        return yaml.safe_load(text), places, problems
    except yaml.YAMLError as error:
        raise UserError("the configuration is no YAML", (where,), str(error)) from error


def _place(places: dict[Path_, str], path: Path_, given: str) -> None:
    """What stands at `path`, all of it, comes from `given`; so do the sections that it made."""
    for known in [known for known in places if known[: len(path)] == path]:
        del places[known]
    for length in range(1, len(path) + 1):
        places.setdefault(path[:length], given)


def _problem(fault: dict[str, Any], places: dict[Path_, str], where: str) -> Problem:
    path: Path_ = tuple(fault["loc"])
    known = path
    while known and known not in places:  # a missing key stands nowhere: name the line of what should hold it
        known = known[:-1]
    place = places[known] if known else where
    if fault["type"] == "extra_forbidden":
        return Problem(
            f"there is no key {_dotted(path)}", (place,), hint="mind the spelling; nas/README.md lists the keys"
        )
    message = WORDS.get(fault["type"]) or str(fault["msg"]).removeprefix("Value error, ")
    shown = "" if isinstance(fault["input"], dict | list) else f"the value is {fault['input']!r}"
    return Problem(f"{_dotted(path) or 'the file'}: {message}", (place,), shown)


def _dotted(path: Path_) -> str:
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).removeprefix(".")
