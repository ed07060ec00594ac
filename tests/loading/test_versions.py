"""The versions that the loader takes are those that the installed onnxruntime takes."""

from __future__ import annotations

import onnxruntime as ort
import pytest
from onnx import helper

from h4hc.errors import ModelFileError
from h4hc.limits import Limits
from h4hc.load import load_bytes
from h4hc.loading.versions import MAX_IR_VERSION, MAX_OPSET
from tests.loading import build


def _data(opset: int, ir_version: int) -> bytes:
    relu = helper.make_node("Relu", ["x"], ["y"])
    return bytes(build.model([relu], opset=opset, ir_version=ir_version).SerializeToString())


def _runs(data: bytes) -> bool:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception:  # whatever its class, onnxruntime does not run this one
        return False
    return True


@pytest.mark.parametrize("opset", [6, 7, 8, 9, 11, 13, 17, 20, 25, MAX_OPSET, MAX_OPSET + 1, MAX_OPSET + 2])
def test_opset(opset: int) -> None:
    data = _data(opset, 10)
    assert _runs(data) == (opset <= MAX_OPSET)
    _loads_or_not(data, opset <= MAX_OPSET)


@pytest.mark.parametrize("version", [3, 4, 8, 10, MAX_IR_VERSION, MAX_IR_VERSION + 1])
def test_ir_version(version: int) -> None:
    data = _data(13, version)
    assert _runs(data) == (version <= MAX_IR_VERSION)
    _loads_or_not(data, version <= MAX_IR_VERSION)


def _loads_or_not(data: bytes, expected: bool) -> None:
    if expected:
        load_bytes(data, None, Limits(), "m")
        return
    with pytest.raises(ModelFileError, match="take 1 to"):
        load_bytes(data, None, Limits(), "m")
