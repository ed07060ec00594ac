"""Damaged models: whatever bytes change, the loader gives a model or a clear error, never another exception."""

from __future__ import annotations

import random

import onnx
import onnx.onnx_cpp2py_export as extension
import pytest
from onnx import helper

from h4hc import sandbox
from h4hc.errors import ModelFileError, UnsupportedOpError
from h4hc.limits import Limits
from h4hc.load import load_bytes
from h4hc.loading import child
from tests.loading import build


def _seed_models() -> list[bytes]:
    conv = build.model(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
            helper.make_node("Reshape", ["c", "shape"], ["y"], name="reshape"),
        ],
        [build.value("x", ("N", 1, 4, 4))],
        initializers=[build.tensor("w", [[[[1.0] * 3] * 3]]), build.tensor("shape", [0, -1], "int64")],
        value_info=[build.value("c", ("N", 1, 4, 4))],
    )
    made = [conv, build.nested_if(2), build.function_chain(2), build.quantize(0.5)]
    return [m.SerializeToString() for m in made]


def _mutate(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(len(out))
        kind = rng.randrange(5)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif kind == 2:
            del out[at : at + rng.randrange(1, 9)]
        elif kind == 3:
            other = rng.randrange(len(out))
            out[at:at] = out[other : other + rng.randrange(1, 24)]
        else:
            out[at] = rng.randrange(256)
        if not out:
            break
    return bytes(out)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run what the child runs in this process: 3000 processes would take minutes, and the code is the same."""
    monkeypatch.setattr(sandbox, "_call", lambda _path, request, _limits: child._run(extension, request))


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("seed", range(4))
def test_mutated_bytes(seed: int) -> None:
    rng = random.Random(seed)
    data = _seed_models()[seed]
    loaded = refused = 0
    for _ in range(750):
        try:
            load_bytes(_mutate(data, rng), None, Limits(), "fuzz")
            loaded += 1
        except (ModelFileError, UnsupportedOpError):
            refused += 1
    assert loaded > 20  # both ways must be taken, or the mutations are too wild to test anything
    assert refused > 20


@pytest.mark.usefixtures("in_process")
def test_mutated_fields() -> None:
    """One field of the parsed message at a time: gets deeper than bytes do, as the file stays well-formed."""
    rng = random.Random(7)
    refused = 0
    for data in _seed_models():
        for _ in range(150):
            made = onnx.ModelProto.FromString(data)
            _change_a_field(made, rng)
            try:
                load_bytes(made.SerializeToString(), None, Limits(), "fuzz")
            except (ModelFileError, UnsupportedOpError):
                refused += 1
    assert refused > 100


def _change_a_field(message: object, rng: random.Random) -> None:
    """Walk down at random, then clear, duplicate or change what is there."""
    while True:
        fields = message.ListFields()  # type: ignore[attr-defined]
        if not fields:
            return
        field, value = rng.choice(fields)
        many = hasattr(value, "append") and not isinstance(value, str | bytes)
        below = rng.choice(list(value)) if many and len(value) else value
        if field.message_type is not None and rng.random() < 0.8:
            message = below
            continue
        if field.message_type is not None or rng.random() < 0.3:
            message.ClearField(field.name)  # type: ignore[attr-defined]
        elif isinstance(below, int):
            wild = rng.choice((0, 1, 2, 7, 127, 2**31 - 1, -1))
            _assign(message, field.name, wild, many)
        elif isinstance(below, str | bytes):
            wild_text = rng.choice(("", "x", "y", "w", "Constant", "Range", "h4hc"))
            _assign(message, field.name, wild_text if isinstance(below, str) else wild_text.encode(), many)
        return


def _assign(message: object, name: str, value: object, many: bool) -> None:
    if many:
        getattr(message, name)[0] = value
    else:
        try:
            setattr(message, name, value)
        except ValueError:  # an enum or a 32-bit field refuses the value: leave it
            message.ClearField(name)  # type: ignore[attr-defined]
