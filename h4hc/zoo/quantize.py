"""Static int8 quantisation with onnxruntime's QDQ quantiser, per channel.

Weights are symmetric int8 by output channel, biases int32, activations asymmetric int8. Every operator of
the zoo that has an int8 form is quantised; composite functions (GELU, LayerNorm in parts) are quantised at
their border. Softmax and Sigmoid give scale 1/256 and zero point -128: what integer kernels (onnxruntime's
QLinearSoftmax, TFLite Micro, Ethos-U) take for granted.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from h4hc.zoo.fold import fold_constants_and_norms
from h4hc.zoo.run import run_model

QUANTIZED_OPS = (
    "Add",
    "AveragePool",
    "Clip",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Div",
    "Flatten",
    "Gather",
    "Gemm",
    "GlobalAveragePool",
    "HardSigmoid",
    "HardSwish",
    "LayerNormalization",
    "MatMul",
    "MaxPool",
    "Mul",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Resize",
    "Sigmoid",
    "Softmax",
    "Split",
    "Squeeze",
    "Transpose",
)
_UNIT_RANGE_OPS = ("Sigmoid", "Softmax")  # results in 0 .. 1


def quantize(model: onnx.ModelProto, images: NDArray[np.float32], keep_float: Sequence[str] = ()) -> onnx.ModelProto:
    """The int8 QDQ form of a float zoo model, calibrated on `images` (first axis: samples).

    keep_float: names of nodes to leave alone, whose inputs and outputs are still quantised by their
    neighbours. Prints and logs nothing, writes no file.
    """
    with _silent():
        folded = onnx.shape_inference.infer_shapes(fold_constants_and_norms(model), data_prop=True)
        quantized = _run_quantizer(folded, _ranges(folded, images), keep_float)
    return _tidy(quantized, model)


def _ranges(model: onnx.ModelProto, images: NDArray[np.float32]) -> dict[str, tuple[float, float]]:
    """Smallest and largest value of every float tensor over the images, rounded outwards.

    The rounding (to 1/256 of the power of two at or below the range) keeps the last digits of a machine's
    sums out of the model's bytes.
    """
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    known = {v.name: v for v in model.graph.value_info}
    types = {n: known[n].type.tensor_type.elem_type for n in known}
    own = {o.name for o in model.graph.output}
    names = [v for n in model.graph.node for v in n.output if v in own or types.get(v) == TensorProto.FLOAT]
    watched.graph.output.extend(known[name] for name in names if name not in own)
    found: dict[str, tuple[float, float]] = {}
    for image in images:
        values = run_model(watched, image[None], names)
        for name, value in zip((model.graph.input[0].name, *names), (image, *values), strict=True):
            low, high = float(value.min()), float(value.max())
            before = found.get(name, (low, high))
            found[name] = (min(low, before[0]), max(high, before[1]))
    return {name: _outwards(low, high) for name, (low, high) in found.items()}


def _outwards(low: float, high: float) -> tuple[float, float]:
    if high <= low:
        return low, high
    step = float(np.exp2(np.floor(np.log2(high - low)) - 8))
    return float(np.floor(low / step) * step), float(np.ceil(high / step) * step)


def _run_quantizer(
    model: onnx.ModelProto, ranges: dict[str, tuple[float, float]], keep_float: Sequence[str]
) -> onnx.ModelProto:
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    unit = [n.output[0] for n in model.graph.node if n.op_type in _UNIT_RANGE_OPS]
    fixed = {"scale": np.array(1 / 256, dtype=np.float32), "zero_point": np.array(-128, dtype=np.int8)}
    options = {
        "ActivationSymmetric": False,
        "WeightSymmetric": True,
        "ForceQuantizeNoInputCheck": True,  # moves after a composite function, too
        "TensorQuantOverrides": {name: [dict(fixed)] for name in unit},
    }
    data: dict[str, Any] = {n: (np.float32(low), np.float32(high)) for n, (low, high) in ranges.items()}
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, data),
        nodes_to_quantize=[],
        nodes_to_exclude=list(keep_float),
        op_types_to_quantize=list(QUANTIZED_OPS),
        extra_options=options,
    )
    result: onnx.ModelProto = quantizer.quantize_model()
    return result


def _tidy(quantized: onnx.ModelProto, original: onnx.ModelProto) -> onnx.ModelProto:
    """Each node right before the first that needs it, no leftover shapes, the header of the float model."""
    graph = quantized.graph
    producer = {v: n for n in graph.node for v in n.output}
    ordered: dict[str, onnx.NodeProto] = {}

    def place(node: onnx.NodeProto) -> None:  # a few levels deep: the quantiser keeps the order of the user's nodes
        if node.name in ordered:
            return
        for value in node.input:
            if value in producer:
                place(producer[value])
        ordered[node.name] = node

    for node in graph.node:
        place(node)
    nodes = list(ordered.values())
    assert len(nodes) == len(graph.node), "the quantiser used a node name twice"
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    quantized.producer_name, quantized.producer_version = original.producer_name, ""
    quantized.doc_string = f"{original.doc_string}. Int8 QDQ by onnxruntime"
    return quantized


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Mute onnxruntime's quantiser, which warns through the root logger and would install a handler there."""
    root, handler, disabled = logging.getLogger(), logging.NullHandler(), logging.root.manager.disable
    root.addHandler(handler)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
        root.removeHandler(handler)
