"""Which inputs of an operator are structure, biases, scales; explicit, by operator type.

*Structural* inputs (shapes, axes, pads, clip bounds ...) shape the work and are no data of it: when they are
constants they are compiled into the operator and count as no weight. When they are not constant they are
inputs like any other, and the shape of the result depends on data.
*Biases* are added to an accumulator: a plan in int8 holds them as int32.
"""

from __future__ import annotations

import onnx_ir as ir

STANDARD_DOMAINS = ("", "ai.onnx")
MICROSOFT = "com.microsoft"

STRUCTURAL: dict[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "CenterCropPad": (1,),
    "Clip": (1, 2),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "CropAndResize": (3,),
    "CumProd": (1,),
    "CumSum": (1,),
    "DFT": (1, 2),
    "Dropout": (1, 2),
    "Expand": (1,),
    "ExpandDims": (1,),
    "MaxUnpool": (2,),
    "NonMaxSuppression": (2, 3, 4),
    "OneHot": (1,),
    "Pad": (1, 2, 3),
    "Range": (0, 1, 2),
    "ReduceL1": (1,),
    "ReduceL2": (1,),
    "ReduceLogSum": (1,),
    "ReduceLogSumExp": (1,),
    "ReduceMax": (1,),
    "ReduceMean": (1,),
    "ReduceMin": (1,),
    "ReduceProd": (1,),
    "ReduceSum": (1,),
    "ReduceSumSquare": (1,),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "STFT": (1, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "SplitToSequence": (1,),
    "Squeeze": (1,),
    "Tile": (1, 2),
    "TopK": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}

BIAS: dict[str, tuple[int, ...]] = {
    "Conv": (2,),
    "ConvTranspose": (2,),
    "DeformConv": (3,),
    "FusedConv": (2,),
    "FusedGemm": (2,),
    "GRU": (3,),
    "Gemm": (2,),
    "LSTM": (3,),
    "QGemm": (6,),
    "QLinearConv": (8,),
    "RNN": (3,),
}

# Scales and zero points of integer products.
QUANTISATION: dict[str, tuple[int, ...]] = {
    "ConvInteger": (2, 3),
    "MatMulInteger": (2, 3),
    "QGemm": (1, 2, 4, 5, 7, 8),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
}


def is_standard(node: ir.Node) -> bool:
    """Whether the node is an operator of the ONNX standard's main domain."""
    return node.domain in STANDARD_DOMAINS


def structural(node: ir.Node) -> tuple[int, ...]:
    """Indices of the structural inputs of a node; none for operators of unknown domains."""
    return STRUCTURAL.get(node.op_type, ()) if is_standard(node) or node.domain == MICROSOFT else ()


def biases(node: ir.Node) -> tuple[int, ...]:
    """Indices of the bias inputs of a node."""
    return BIAS.get(node.op_type, ()) if is_standard(node) or node.domain == MICROSOFT else ()
