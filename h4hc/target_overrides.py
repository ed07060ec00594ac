"""`--set KEY=VALUE`: change one value of a target. Unknown keys are errors that name the known ones."""

from __future__ import annotations

import copy
import difflib
import math
from typing import Any

from h4hc.errors import Problem, UserError
from h4hc.quantity import is_quantity

_NOT_SETTABLE = ("title", "sources", "family", "devices")
_SHOWN = 12
_MOST_DIGITS = 18  # of a whole number in a list; no limit of a target is longer


def settable(data: dict[str, Any]) -> dict[str, Any]:
    """Every key `--set` takes, with its present value (a Quantity as its table).

    Keys of a device start with its name (`cim.macros`); those of the system do not (`bus.bandwidth`).
    """
    out: dict[str, Any] = {}
    own = {k: v for k, v in data.items() if k not in _NOT_SETTABLE and k != "shared"}
    _flatten(own, "", out)
    _flatten(data.get("shared", {}), "", out)
    for device, numbers in sorted(data.get("devices", {}).items()):
        _flatten({k: v for k, v in numbers.items() if k not in _NOT_SETTABLE}, f"{device}.", out)
    return out


def _flatten(node: dict[str, Any], prefix: str, out: dict[str, Any]) -> None:
    for key, value in node.items():
        if isinstance(value, dict) and not is_quantity(value):
            _flatten(value, f"{prefix}{key}.", out)
        else:
            out[f"{prefix}{key}"] = value


def apply_overrides(data: dict[str, Any], sets: tuple[str, ...]) -> dict[str, Any]:
    """A copy of `data` with every override applied; a Quantity becomes that value exactly, with mark `user`.

    Raises UserError with all bad overrides at once.
    """
    data = copy.deepcopy(data)
    problems: list[Problem] = []
    for text in sets:
        problem = _apply(data, text)
        if problem is not None:
            problems.append(problem)
    if problems:
        raise UserError.of(tuple(problems))
    return data


def _apply(data: dict[str, Any], text: str) -> Problem | None:
    key, equals, value = text.partition("=")
    if not equals:
        return Problem(f"--set {text!r} has no '='", (text,), "the form is KEY=VALUE", "for example --set cim.macros=8")
    known = settable(data)
    path = key.removesuffix(".value") if is_quantity(known.get(key.removesuffix(".value"))) else key
    if path not in known:
        return _unknown(key, sorted(known), sorted(data.get("devices", {})))
    parsed = _parse(value, known[path])
    if parsed is None:
        return Problem(f"--set {key}: cannot read {value!r}", (text,), f"expected {_expected(known[path])}")
    _assign(data, path, parsed)
    return None


def _unknown(key: str, known: list[str], devices: list[str]) -> Problem:
    parts = sorted({k.partition(".")[0] for k in known})
    part, dot, _ = key.partition(".")
    strange = bool(dot) and part not in parts and not difflib.get_close_matches(part, parts)
    # a key of a device that is not there: the same key of another device comes close, and is not what was meant
    close = [] if strange else difflib.get_close_matches(key, known, n=5, cutoff=0.5)
    same = [k for k in known if k.partition(".")[0] == part] if part in devices else known
    rest = [k for k in same if k not in close]
    more = f" and {len(rest) - _SHOWN} more" if len(rest) > _SHOWN else ""
    here = f"nothing here is called {part!r}; there are {', '.join(parts)}; " if strange else ""
    return Problem(
        f"--set: there is no key {key!r} in this target",
        (key,),
        f"{here}known keys: {', '.join([*close, *rest[:_SHOWN]])}{more}",
        f"did you mean {close[0]!r}?" if close else "see `h4hc targets show`",
    )


def _expected(present: Any) -> str:
    if is_quantity(present):
        return f"a number in {present.get('unit', 'its unit')}"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a word", list: "words with commas"}
    return names.get(type(present), "a value")


def _parse(text: str, present: Any) -> Any:
    """Text as the type of the present value; None if it is not one."""
    text = text.strip()
    if isinstance(present, bool):
        return {"true": True, "false": False}.get(text.lower())
    if isinstance(present, list):
        items = [t.strip() for t in text.split(",") if t.strip()]
        if all(isinstance(p, int) for p in present) and present:
            fit = all(t.isascii() and t.isdecimal() and len(t) <= _MOST_DIGITS for t in items)
            return [int(t) for t in items] if fit else None
        return items
    if isinstance(present, str):
        return text or None
    try:
        number = float(text)
        if isinstance(present, int):
            return int(text.replace("_", "")) if number.is_integer() and "e" not in text.lower() else _whole(number)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    if is_quantity(present):
        return {
            **dict.fromkeys(("value", "low", "high"), number),
            "unit": present.get("unit", ""),
            "mark": "user",
            "source": "--set",
        }
    return number


def _whole(number: float) -> int | None:
    return int(number) if number.is_integer() else None


def _assign(data: dict[str, Any], path: str, value: Any) -> None:
    parts = path.split(".")
    node: dict[str, Any] = data
    if parts[0] in data.get("devices", {}):
        node = data["devices"][parts[0]]
        parts = parts[1:]
    elif parts[0] in data.get("shared", {}):
        node = data["shared"]
    for part in parts[:-1]:
        node = node[part]
    node[parts[-1]] = value
