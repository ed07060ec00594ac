"""check: JSON value against one of our schemas -> list of faults. So the shipped command needs no jsonschema.

Knows exactly the keywords our schemas use, as JSON Schema 2020-12 defines them, and refuses any other; the
tests hold it against the jsonschema package.
"""

from __future__ import annotations

import functools
import json
import re
from importlib import resources
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}
_ANNOTATIONS = {"$schema", "$id", "$defs", "title", "description"}
MAX_FAULTS = 20


@functools.cache
def load_schema(name: str) -> dict[str, Any]:
    """The shipped schema `name`.schema.json."""
    text = resources.files("h4hc.schemas").joinpath(f"{name}.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def check(value: Any, schema: dict[str, Any]) -> list[str]:
    """Where and how `value` departs from `schema`: at most MAX_FAULTS sentences, empty when it is valid."""
    faults: list[str] = []
    _check(value, schema, schema, "", faults)
    return faults


def _check(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str, faults: list[str]) -> None:
    if len(faults) >= MAX_FAULTS:
        return
    if "type" in schema and not _has_type(value, schema["type"]):
        faults.append(f"{path or '/'}: not of type {schema['type']}")
        return
    for keyword, rule in schema.items():
        if keyword in _ANNOTATIONS or keyword == "type":
            continue
        if keyword == "$ref":
            _check(value, root["$defs"][rule.removeprefix("#/$defs/")], root, path, faults)
        elif keyword == "enum":
            _need(value in rule, f"{path}: not one of {rule}", faults)
        elif keyword == "const":
            _need(value == rule and type(value) is type(rule), f"{path}: is not {rule}", faults)
        elif keyword == "minimum":
            _need(value is None or value >= rule, f"{path}: below {rule}", faults)
        elif keyword == "pattern":
            _need(re.search(rule, value) is not None, f"{path}: does not match {rule}", faults)
        elif keyword == "items":
            for index, item in enumerate(value):
                _check(item, rule, root, f"{path}/{index}", faults)
        elif keyword == "properties":
            for key in _keys(value, rule):
                _check(value[key], rule[key], root, f"{path}/{key}", faults)
        elif keyword == "required":
            for key in rule if isinstance(value, dict) else ():
                _need(key in value, f"{path or '/'}: lacks {key!r}", faults)
        elif keyword == "additionalProperties" and rule is False:
            for key in value if isinstance(value, dict) else ():
                _need(key in schema["properties"], f"{path or '/'}: has {key!r}, which the schema does not", faults)
        else:
            raise NotImplementedError(f"schema keyword {keyword!r}")


def _keys(value: Any, described: dict[str, Any]) -> list[str]:
    """Described keys that are there; a null where an object or null may be has none."""
    return [key for key in described if key in value] if isinstance(value, dict) else []


def _has_type(value: Any, wanted: str | list[str]) -> bool:
    names = [wanted] if isinstance(wanted, str) else wanted
    if isinstance(value, bool):
        return False  # our schemas have no booleans, and True is not an integer in JSON
    return any(isinstance(value, _TYPES[name]) for name in names)


def _need(holds: bool, fault: str, faults: list[str]) -> None:
    if not holds and len(faults) < MAX_FAULTS:
        faults.append(fault)
