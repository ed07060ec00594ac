"""What the tests of the rewriting passes share: build, run a pass, and hold the result against onnxruntime."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from h4hc.annotations import all_origins, stamp_origins
from h4hc.passbase import Pass, PassResult

BIT_EQUAL = 0.0


def load(text: str, opset: int = 17, ir_version: int = 10, *, shapes: bool = True) -> ir.Model:
    """A model out of ONNX's text form without its header, as the compiler has it after load (and inference)."""
    imports = f'["" : {opset}, "local" : 1, "com.microsoft" : 1]'
    proto = onnx.parser.parse_model(f"<ir_version: {ir_version}, opset_import: {imports}>\n{text}")
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto, data_prop=True) if shapes else proto)
    stamp_origins(model)
    return model


def add_weights(model: ir.Model, **arrays: np.ndarray) -> ir.Model:
    """Turn the named model inputs into initialisers."""
    for name, array in arrays.items():
        value = next(v for v in model.graph.inputs if v.name == name)
        value.const_value = ir.tensor(array, name=name)
        value.shape, value.type = ir.Shape(array.shape), ir.TensorType(value.const_value.dtype)
        model.graph.inputs.remove(value)
        model.graph.register_initializer(value)
    return model


def apply(model: ir.Model, *passes: Pass) -> tuple[ir.Model, PassResult]:
    """Run the passes on a clone and check the laws all obey; gives the new model and the last pass's result.

    Weights of the model given are untouched, the result is valid ONNX with unique node names, origins are
    conserved or accounted for, and a second run of the last pass changes nothing.
    """
    weights = _fingerprints(model)
    out, result = model.clone(), PassResult()
    for item in passes:
        out = out.clone()
        before = all_origins(out)
        result = item.run(out)
        after = all_origins(out)
        assert before == after | set(result.removed)
        assert not after & set(result.removed)
    assert _fingerprints(model) == weights
    assert max(Counter(node.name for node in out.graph).values(), default=1) == 1
    onnx.checker.check_model(ir.to_proto(out), full_check=True)
    again = passes[-1].run(out.clone())
    assert again.changed == 0
    assert again.removed == {}
    return out, result


def _fingerprints(model: ir.Model) -> dict[str, str]:
    return {
        name: hashlib.sha256(v.const_value.tobytes()).hexdigest()
        for name, v in model.graph.initializers.items()
        if v.const_value is not None
    }


def run_model(model: ir.Model, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs of onnxruntime without optimisations."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, ["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(None, feeds)
    return outputs


def assert_same(
    before: ir.Model, after: ir.Model, shapes: Mapping[str, Sequence[int]], tolerance: float = BIT_EQUAL, seed: int = 0
) -> None:
    """Same outputs on seeded inputs: |d| <= tolerance * max|y|; 0 means bit-equal. Output names and order are kept."""
    rng = np.random.default_rng(seed)
    feeds: dict[str, np.ndarray] = {}
    for value in after.graph.inputs:
        assert value.dtype is not None
        kind = value.dtype.numpy()
        drawn = rng.standard_normal(tuple(shapes[str(value.name)])) * 3
        feeds[str(value.name)] = np.asarray(drawn > 0 if kind == np.bool_ else drawn, kind)
    assert [v.name for v in before.graph.outputs] == [v.name for v in after.graph.outputs]
    for old, new in zip(run_model(before, feeds), run_model(after, feeds), strict=True):
        assert old.shape == new.shape
        assert old.dtype == new.dtype
        if tolerance == BIT_EQUAL:
            assert old.tobytes() == new.tobytes()
        else:
            assert np.max(np.abs(old.astype(np.float64) - new)) <= tolerance * np.max(np.abs(old.astype(np.float64)))


def ops(model: ir.Model) -> list[str]:
    """Operator types in graph order."""
    return [node.op_type for node in model.graph]


def why(result: PassResult, node: str) -> str:
    """The reason a pass gave for leaving `node` alone."""
    return " / ".join(skip.why for skip in result.skipped if skip.node == node)
