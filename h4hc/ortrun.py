"""Runs a model on stock onnxruntime, in this process, the same way every time: one thread, CPU, no arena, no log.

Deterministic settings: one intra-op and one inter-op thread, sequential execution, deterministic compute. The
memory arena and memory patterns are off, so that a run gives its memory back. Element types that numpy or
onnxruntime's Python binding do not know (bfloat16, float8) go through OrtValue.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import onnx

MESSAGE_LIMIT = 400  # characters of an onnxruntime message that a user gets to see


class Level(StrEnum):
    """onnxruntime's graph optimisation levels that h4hc uses, by their session names."""

    DISABLE_ALL = "ORT_DISABLE_ALL"
    ENABLE_BASIC = "ORT_ENABLE_BASIC"


class OrtError(Exception):
    """onnxruntime refused a model (`stage` "load") or failed while running it ("run").

    Never reaches a user: who runs a model knows whose fault it is and raises an H4hcError with this text.
    """

    def __init__(self, stage: Literal["load", "run"], message: str) -> None:
        self.stage = stage
        self.message = message
        super().__init__(f"{stage}: {message}")


class Runner:
    """One model loaded for running. `inputs` and `outputs`: name -> onnxruntime type such as `tensor(float)`."""

    def __init__(self, model: bytes, level: Level) -> None:
        import onnxruntime as ort

        try:
            self._session = ort.InferenceSession(model, _options(level), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's classes share no base but Exception
            raise OrtError("load", clean_message(str(error))) from error
        self.inputs = {arg.name: str(arg.type) for arg in self._session.get_inputs()}
        self.outputs = {arg.name: str(arg.type) for arg in self._session.get_outputs()}
        self.shapes = {arg.name: arg.shape for arg in (*self._session.get_inputs(), *self._session.get_outputs())}

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Values of all outputs by name: arrays, lists (sequences), None (empty optionals) or maps.

        Feeds for inputs the model does not have are left out. Raises OrtError.
        """
        mine = {name: _plain(value) for name, value in feeds.items() if name in self.inputs}
        try:
            if any(_needs_ortvalue(t) for t in (*self.inputs.values(), *self.outputs.values())):
                return self._run_ortvalues(mine)
            return dict(zip(self.outputs, self._session.run(list(self.outputs), mine), strict=True))
        except Exception as error:
            raise OrtError("run", clean_message(str(error))) from error

    def _run_ortvalues(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: _to_ortvalue(value, self.inputs[name]) for name, value in feeds.items()}
        values = self._session.run_with_ort_values(list(self.outputs), given)
        made = zip(self.outputs.items(), values, strict=True)
        return {name: _from_ortvalue(value, kind) for (name, kind), value in made}


def _plain(value: Any) -> Any:
    """onnxruntime takes arrays, not numpy's scalar objects."""
    import numpy as np

    return np.asarray(value) if isinstance(value, np.generic) else value


def _options(level: Level) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level.value)
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.use_deterministic_compute = True
    options.log_severity_level = 4  # fatal only: what goes wrong comes back as an exception
    return options


def clean_message(text: str) -> str:
    """onnxruntime's message without its source paths, error prefix and line breaks, cut to a bounded length."""
    from h4hc.text import clip

    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : ", "", text)
    text = re.sub(r"/\S*?/?onnxruntime/\S+:\d+ [^\n]{0,300}?(?= was false|Status Message|$)", "", text)
    return clip(" ".join(text.split()), MESSAGE_LIMIT)


def value_types(model: onnx.ModelProto, names: Iterable[str]) -> dict[str, onnx.ValueInfoProto]:
    """Types and shapes that onnxruntime infers for values of the main graph; what it cannot load stays unknown."""
    import onnx

    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    wanted = list(names)
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    try:
        runner = Runner(probe.SerializeToString(), Level.DISABLE_ALL)
    except OrtError:
        return {}  # the caller names the values that stay unknown
    found = {}
    for name in wanted:
        info = onnx.ValueInfoProto(name=name)
        if _parse_type(runner.outputs[name], runner.shapes[name], info.type):
            found[name] = info
    return found


def _parse_type(text: str, shape: list[Any] | None, out: onnx.TypeProto) -> bool:
    """Fill `out` from onnxruntime's spelling of a type; False for one it cannot express."""
    outer, _, rest = text.partition("(")
    inner = rest.removesuffix(")")
    if outer == "tensor":
        code = element_type(inner)
        if code is None:
            return False
        out.tensor_type.elem_type = code
        for dim in shape or ():  # empty: a scalar or of unknown rank, onnxruntime does not tell which
            if isinstance(dim, int):
                out.tensor_type.shape.dim.add(dim_value=dim)
            else:
                out.tensor_type.shape.dim.add(dim_param=dim or "")
        return True
    if outer == "seq":
        return _parse_type(inner, None, out.sequence_type.elem_type)
    if outer == "optional":
        return _parse_type(inner, None, out.optional_type.elem_type)
    return False


def element_type(text: str) -> int | None:
    """onnxruntime's name of an element type -> ONNX' number of it."""
    import onnx

    name = {"double": "DOUBLE", "float": "FLOAT"}.get(text, text.upper())
    return int(onnx.TensorProto.DataType.Value(name)) if name in onnx.TensorProto.DataType.keys() else None  # noqa: SIM118


def _needs_ortvalue(type_text: str) -> bool:
    return "bfloat16" in type_text or "float8" in type_text or "float4" in type_text


def _numpy_type(type_text: str) -> Any:
    """numpy (ml_dtypes) type of `tensor(...)`."""
    from onnx import helper

    code = element_type(type_text.removeprefix("tensor(").removesuffix(")"))
    assert code is not None
    return helper.tensor_dtype_to_np_dtype(code)


def _to_ortvalue(value: Any, type_text: str) -> Any:
    import numpy as np
    import onnxruntime as ort

    if not _needs_ortvalue(type_text):
        return ort.OrtValue.ortvalue_from_numpy(np.asarray(value))
    dtype = _numpy_type(type_text)
    raw = {1: np.uint8, 2: np.uint16}[dtype.itemsize]
    code = element_type(type_text.removeprefix("tensor(").removesuffix(")"))
    array = np.ascontiguousarray(np.asarray(value, dtype)).reshape(np.shape(value)).view(raw)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, code)


def _from_ortvalue(value: Any, type_text: str) -> Any:
    import ctypes

    import numpy as np

    if not _needs_ortvalue(type_text):
        return value.numpy()
    size = value.tensor_size_in_bytes()
    data = ctypes.string_at(value.data_ptr(), size) if size else b""
    return np.frombuffer(data, _numpy_type(type_text)).reshape(value.shape())
