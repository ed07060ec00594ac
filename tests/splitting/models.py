"""Random small models of one product, float or quantised, and random splits of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper

from h4hc.annotations import stamp_origins
from h4hc.pipeline import parse_pipeline, run_pipeline
from h4hc.splits import Split, fault
from h4hc.workload import Cut, Op
from tests.lowering.building import Array, graph_model

KINDS = ("conv", "grouped", "depthwise", "transposed", "gemm", "right", "left", "both")
ACTIVATIONS = ("", "Relu", "Sigmoid", "Clip", "PRelu", "HardSwish", "swish by parts")


class Maker:
    """Collects the nodes and constants of one product `n`, with what stands around it."""

    def __init__(self, rng: np.random.Generator, quantised: bool) -> None:
        self.rng, self.quantised = rng, quantised
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: dict[str, Any] = {}

    def pick(self, *values: Any) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def node(self, op_type: str, inputs: list[str], output: str, name: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=name or f"make_{output}", **attributes))
        return output

    def constant(self, name: str, array: Array) -> str:
        self.inputs[name] = array
        return name

    def number(self, name: str, value: float, dtype: Any = np.float32) -> str:
        return self.constant(name, np.array(value, dtype))

    def activation_in(self, name: str, shape: tuple[int, ...]) -> str:
        self.inputs[name] = ("float", shape)
        if not self.quantised:
            return name
        zero = int(self.rng.integers(-20, 20))
        scale = [self.number(f"{name}_s", 0.05), self.number(f"{name}_z", zero, np.int8)]
        self.node("QuantizeLinear", [name, *scale], f"{name}_q")
        return self.node("DequantizeLinear", [f"{name}_q", *scale], f"{name}_d")

    def weights(self, name: str, shape: tuple[int, ...], axis: int) -> str:
        if not self.quantised:
            return self.constant(name, self.rng.standard_normal(shape, dtype=np.float32))
        self.constant(f"{name}_q", self.rng.integers(-127, 128, shape).astype(np.int8))
        count = shape[axis] if self.rng.random() < 0.7 else None
        scale = self.rng.uniform(0.001, 0.02, count or ()).astype(np.float32)
        zero = np.zeros(count or (), np.int8)
        names = [self.constant(f"{name}_s", np.asarray(scale)), self.constant(f"{name}_z", zero)]
        attributes: dict[str, Any] = {"axis": axis} if count else {}
        return self.node("DequantizeLinear", [f"{name}_q", *names], name, **attributes)

    def bias(self, name: str, shape: tuple[int, ...]) -> str:
        if not self.quantised or self.rng.random() < 0.3:
            return self.constant(name, self.rng.standard_normal(shape, dtype=np.float32))
        self.constant(f"{name}_q", self.rng.integers(-4000, 4000, shape).astype(np.int32))
        count = max(shape)
        scale = self.rng.uniform(1e-4, 1e-3, count).astype(np.float32)
        names = [self.constant(f"{name}_s", scale), self.constant(f"{name}_z", np.zeros(count, np.int32))]
        return self.node("DequantizeLinear", [f"{name}_q", *names], name, axis=shape.index(count))

    def behind(self, value: str, channels: tuple[int, ...]) -> str:
        """An activation, and QuantizeLinear in a quantised model; `channels`: shape of a constant of one a channel."""
        what = self.pick(*ACTIVATIONS)
        if what == "swish by parts":
            self.node("Sigmoid", [value], "act_s")
            value = self.node("Mul", [value, "act_s"], "act")
        elif what == "Clip":
            value = self.node("Clip", [value, self.number("low", 0.0), self.number("high", 6.0)], "act")
        elif what == "PRelu":
            value = self.node("PRelu", [value, self.constant("slope", np.full(channels, 0.1, np.float32))], "act")
        elif what:
            value = self.node(what, [value], "act")
        if not self.quantised:
            return value
        return self.node("QuantizeLinear", [value, self.number("y_s", 0.11), self.number("y_z", 3, np.int8)], "y_q")


def random_model(seed: int, kind: str, quantised: bool) -> ir.Model:
    """A legalised model of one product of this kind."""
    make = Maker(np.random.default_rng(seed), quantised)
    result = _PRODUCTS[kind](make)
    output = helper.make_tensor_value_info(result, TensorProto.INT8 if quantised else TensorProto.FLOAT, None)
    return legal(graph_model(make.nodes, make.inputs, [output]))


def legal(proto: onnx.ModelProto) -> ir.Model:
    """A model after the default passes."""
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto, data_prop=True))
    stamp_origins(model)
    return run_pipeline(model, parse_pipeline("default")).model


def _convolution(make: Maker, groups: int, inner: int, outer: int, transposed: bool = False) -> str:
    rank = make.pick(1, 2, 2)
    kernel = tuple(int(make.rng.integers(1, 4)) for _ in range(rank))
    size = tuple(int(make.rng.integers(6, 11)) for _ in range(rank)) if make.rng.random() < 0.8 else kernel
    attributes: dict[str, Any] = {"strides": [make.pick(1, 2)] * rank, "group": groups}
    if size != kernel:
        attributes["dilations"] = [make.pick(1, 2)] * rank
        attributes["pads"] = [make.pick(0, 1) for _ in range(2 * rank)]
    shape = (groups * inner, outer // groups if transposed else outer, *kernel)
    if not transposed:
        shape = (outer, inner, *kernel)
    inputs = [make.activation_in("x", (make.pick(1, 2), groups * inner, *size))]
    inputs.append(make.weights("w", shape, 1 if transposed else 0))
    where = make.pick("none", "input", "add")
    if where == "input":
        inputs.append(make.bias("b", (outer,)))
    value = make.node("ConvTranspose" if transposed else "Conv", inputs, "c", "n", **attributes)
    if where == "add":
        value = make.node("Add", [value, make.bias("b", (outer, *(1,) * rank))], "cb")
    return make.behind(value, (outer, *(1,) * rank))


def _gemm(make: Maker) -> str:
    m, k, n = make.pick(1, 1, 3, 17), make.pick(5, 40, 200, 300), make.pick(6, 40, 132, 200)
    flags = {"transA": make.pick(0, 0, 1), "transB": make.pick(0, 1), "alpha": make.pick(1.0, 0.5)}
    x = make.activation_in("x", (k, m) if flags["transA"] else (m, k))
    w = make.weights("w", (n, k) if flags["transB"] else (k, n), 0 if flags["transB"] else 1)
    shape = make.pick(None, (n,), (1, n))
    inputs = [x, w, *([] if shape is None else [make.bias("b", shape)])]
    return make.behind(make.node("Gemm", inputs, "c", "n", **flags), (n,))


def _right(make: Maker) -> str:
    batch = make.pick((), (1,), (2, 3))
    m, k, n = make.pick(1, 7, 20), make.pick(5, 40, 200, 300), make.pick(6, 40, 130, 200)
    value = make.node("MatMul", [make.activation_in("x", (*batch, m, k)), make.weights("w", (k, n), 1)], "c", "n")
    if make.rng.random() < 0.5:
        value = make.node("Add", [value, make.bias("b", (n,))], "cb")
    return make.behind(value, (n,))


def _left(make: Maker) -> str:
    batch = make.pick((), (2,))
    m, k, n = make.pick(6, 40), make.pick(5, 40, 200), make.pick(1, 6, 50)
    value = make.node("MatMul", [make.weights("w", (m, k), 0), make.activation_in("x", (*batch, k, n))], "c", "n")
    return make.behind(value, (m, 1))


def _both(make: Maker) -> str:
    m, k, n = make.pick(1, 9), make.pick(5, 40, 200), make.pick(6, 40, 200)
    left, right = make.activation_in("x", (2, m, k)), make.activation_in("z", make.pick((2, k, n), (k, n)))
    return make.behind(make.node("MatMul", [left, right], "c", "n"), (n,))


_PRODUCTS = {
    "conv": lambda make: _convolution(make, 1, int(make.rng.integers(2, 20)), int(make.rng.integers(4, 40))),
    "grouped": lambda make: _convolution(make, 4, int(make.rng.integers(2, 5)), 4 * int(make.rng.integers(1, 4))),
    "depthwise": lambda make: _convolution(make, 12, 1, 12 * int(make.rng.integers(1, 3))),
    "transposed": lambda make: _convolution(make, 1, int(make.rng.integers(2, 9)), int(make.rng.integers(4, 20)), True),
    "gemm": _gemm,
    "right": _right,
    "left": _left,
    "both": _both,
}


def random_split(rng: np.random.Generator, op: Op, axis: Any) -> Split | None:
    """A split that the operator takes, of two or three parts; None where none is found."""
    cut = op.by_output if axis == "output" else op.by_input
    if not isinstance(cut, Cut):
        return None
    for _ in range(50):
        inner = sorted(int(i) * cut.unit for i in rng.integers(1, cut.count // cut.unit + 1, 1 + (axis == "output")))
        ends = sorted({0, *inner, cut.count})
        split = Split(op.id, axis, tuple(int(n) for n in np.diff(ends)))
        if not fault(split, cut):
            return split
    return None


def feeds(model: ir.Model, seed: int) -> dict[str, Array]:
    """Random inputs."""
    rng = np.random.default_rng(seed)
    return {str(v.name): rng.standard_normal(v.shape.numpy(), dtype=np.float32) for v in model.graph.inputs}  # type: ignore[union-attr]
