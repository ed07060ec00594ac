"""Models of others: everything that onnxruntime loads must load here.

The nine models and the small ones that onnx ships, the three trained ones of rapidocr if it is installed, and all
single-node models of the ONNX backend test suite.
"""

from __future__ import annotations

import collections
import importlib.util
from pathlib import Path

import onnx
import onnx.onnx_cpp2py_export as extension
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx.backend.test import loader

from h4hc import sandbox
from h4hc.errors import H4hcError
from h4hc.limits import Limits
from h4hc.load import load_bytes, load_model
from h4hc.loading import child

_DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
_LIGHT = sorted((_DATA / "light").glob("*.onnx"))
_SMALL = sorted(
    p for kind in ("simple", "pytorch-converted", "pytorch-operator") for p in (_DATA / kind).rglob("*.onnx")
)


def _rapidocr() -> list[Path]:
    spec = importlib.util.find_spec("rapidocr")
    return sorted(Path(p) for p in (Path(spec.origin).parent / "models").glob("*.onnx")) if spec and spec.origin else []


def _runs(data: bytes) -> bool:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception:  # whatever its class, onnxruntime does not run this one
        return False
    return True


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run what the child runs in this process: 1900 processes would take minutes, and the code is the same."""
    monkeypatch.setattr(sandbox, "_call", lambda _path, request, _limits: child._run(extension, request))


@pytest.mark.parametrize("path", [*_LIGHT, *_rapidocr()], ids=lambda p: p.stem)
def test_real_model(path: Path) -> None:
    loaded = load_model(path, Limits())
    assert loaded.original == path.read_bytes()
    assert len(loaded.model.graph) == len(onnx.load(path).graph.node)
    assert not loaded.diagnostics


def test_there_are_nine_light_models() -> None:
    assert len(_LIGHT) == 9


@pytest.mark.usefixtures("in_process")
def test_small_models_of_the_onnx_package() -> None:
    runs = [p for p in _SMALL if _runs(p.read_bytes())]
    assert len(runs) > 90
    for path in runs:
        loaded = load_model(path, Limits())
        assert _runs(ir.to_proto(loaded.model).SerializeToString()), path.parent.name


@pytest.mark.slow
@pytest.mark.usefixtures("in_process")
@pytest.mark.filterwarnings("ignore")  # numpy warns while onnx computes the expected outputs
def test_backend_node_models() -> None:
    """A model that is refused must be one that onnxruntime refuses, too."""
    counts: collections.Counter[str] = collections.Counter()
    refused: list[str] = []
    for case in loader.load_model_tests(kind="node"):
        assert case.model is not None
        data = case.model.SerializeToString()
        try:
            load_bytes(data, None, Limits(), case.name)
            counts["loaded"] += 1
        except H4hcError as error:
            counts["refused"] += 1
            if _runs(data):
                refused.append(f"{case.name}: {error}")
    print(f"backend node models: {dict(counts)}; refused although onnxruntime loads them: {len(refused)}")
    assert not refused
    assert counts["loaded"] > 1500
