"""What a model file may cost the compiler before it is refused.

Every number is a policy of h4hc, not a property of ONNX: it keeps a hostile file from taking the machine, and is wide
enough for every model the compiler can use. A user raises one with `--limit name=value`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from h4hc.errors import UserError
from h4hc.units import KIB, MIB

_GIB = 1024 * MIB
_SUFFIXES = {"": 1, "K": KIB, "M": MIB, "G": _GIB}
_VALUE = re.compile(r"([0-9]{1,18})([KMG]?)\Z", re.ASCII)
_LARGEST = 2**62  # keeps every product of a limit with a small factor inside 64 bits in the child process


@dataclass(frozen=True)
class Limits:
    """Bounds of the loader; `_bytes` in bytes, `_seconds` in seconds, the rest are counts."""

    model_bytes: int = 2 * _GIB  # size of the model file; protobuf itself stops at 2 GiB
    messages: int = 3_000_000  # protobuf messages in the file; 2 bytes of file can make 150 bytes of memory
    nodes: int = 200_000  # nodes as written: main graph, subgraphs and function bodies together
    expanded_nodes: int = 200_000  # nodes after all model-local functions are written out
    graph_nesting: int = 16  # depth of graphs inside If, Loop and Scan
    functions: int = 10_000  # model-local functions
    function_nesting: int = 64  # depth of functions that call functions
    attribute_bytes: int = 64 * MIB  # numbers and strings in node attributes, tensors not counted
    name_length: int = 1024  # characters of one name
    rank: int = 8  # dimensions of one tensor
    tensors: int = 200_000  # initialisers and tensors in attributes
    initializer_bytes: int = _GIB  # data of all initialisers, tensors in attributes and external data
    static_bytes: int = 4 * _GIB  # sum over all tensors of the graph, free dims counted as 1
    shape_seconds: int = 20  # CPU time of one run of the ONNX checker and shape inference
    shape_memory_bytes: int = 400 * MIB  # address space of that run, besides 8 x the bytes sent to it


def _option(name: str) -> str:
    return name.replace("_", "-")


def parse(items: Iterable[str]) -> Limits:
    """Limits with the `name=value` items applied; the last one wins. K, M and G stand for powers of 1024.

    >>> parse(("model-bytes=64M", "nodes=10")).model_bytes
    67108864

    Raises UserError, naming the known limits, for an unknown name or a value that is not a positive integer.
    """
    known = {_option(f.name): f.name for f in fields(Limits)}
    changes: dict[str, int] = {}
    for item in items:
        key, equals, text = item.partition("=")
        key = _option(key.strip())
        if not equals or key not in known:
            raise UserError(
                f"there is no limit {key!r}",
                where=(f"--limit {item}",),
                why=f"known limits: {', '.join(sorted(known))}",
                hint="write it as --limit name=value, for example --limit model-bytes=64M",
            )
        match = _VALUE.match(text.strip())
        value = int(match[1]) * _SUFFIXES[match[2]] if match else 0
        if not 0 < value <= _LARGEST:
            raise UserError(
                f"the limit {key} cannot be {text.strip()!r}",
                where=(f"--limit {item}",),
                why=f"a limit is an integer from 1 to 2^62, with K, M or G for powers of 1024; "
                f"known limits: {', '.join(sorted(known))}",
                hint=f"the default is {key}={getattr(Limits(), known[key])}",
            )
        changes[known[key]] = value
    return replace(Limits(), **changes)
