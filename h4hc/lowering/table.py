"""Which function lowers which operator: explicit, by domain and operator type. Everything else is generic."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from h4hc.lowering import (
    attention,
    conv,
    einsum,
    elementwise,
    matmul,
    move,
    pool,
    quantize,
    recurrent,
    vector,
)
from h4hc.lowering.generic import generic
from h4hc.lowering.inputs import MICROSOFT, is_standard
from h4hc.lowering.site import Lowered, Site

Function = Callable[[Site], Lowered]
MacFunction = Callable[[Site], int]

# Spelled alike, with the same meaning, in the standard and in onnxruntime's own domain.
_SHARED: dict[str, Function] = {
    **dict.fromkeys(quantize.FUNCTIONS, quantize.quantize),
    **dict.fromkeys(vector.REDUCTIONS, vector.reduce),
    "Gelu": elementwise.activation,
    "LayerNormalization": vector.layer_norm,
    "SimplifiedLayerNormalization": vector.layer_norm,
    "Trilu": move.by_index,
}

STANDARD: dict[str, Function] = {
    **_SHARED,
    **dict.fromkeys(elementwise.ACTIVATIONS, elementwise.activation),
    **dict.fromkeys(elementwise.ARITHMETIC, elementwise.arithmetic),
    **dict.fromkeys(move.ALONG_AXES, move.along_axes),
    **dict.fromkeys(move.BLOCKS, move.blocks),
    **dict.fromkeys(move.BY_INDEX, move.by_index),
    **dict.fromkeys(move.RESHAPES, move.reshape),
    "Attention": attention.attention,
    "AveragePool": pool.pool,
    "BatchNormalization": vector.batch_norm,
    "CastLike": elementwise.cast_like,
    "Clip": elementwise.clip,
    "Conv": conv.conv,
    "ConvInteger": conv.conv,
    "ConvTranspose": conv.conv_transpose,
    "DeformConv": conv.deform_conv,
    "Dropout": elementwise.dropout,
    "Einsum": einsum.einsum,
    "GRU": recurrent.recurrent,
    "Gemm": matmul.matmul,
    "GlobalAveragePool": pool.global_pool,
    "GlobalLpPool": pool.global_pool,
    "GlobalMaxPool": pool.global_pool,
    "GroupNormalization": vector.group_norm,
    "Identity": move.identity,
    "InstanceNormalization": vector.instance_norm,
    "LRN": vector.local_response_norm,
    "LSTM": recurrent.recurrent,
    "LinearAttention": attention.linear_attention,
    "LogSoftmax": vector.softmax,
    "LpNormalization": vector.lp_norm,
    "LpPool": pool.pool,
    "MatMul": matmul.matmul,
    "MatMulInteger": matmul.matmul,
    "MaxPool": pool.pool,
    "MeanVarianceNormalization": vector.mean_variance_norm,
    "QLinearConv": conv.conv,
    "QLinearMatMul": matmul.matmul,
    "RMSNormalization": vector.layer_norm,
    "RNN": recurrent.recurrent,
    "Resize": pool.resize,
    "Softmax": vector.softmax,
    "Transpose": move.transpose,
    "Upsample": pool.resize,
}

MICROSOFT_OPS: dict[str, Function] = {
    **_SHARED,
    **dict.fromkeys(elementwise.QUANTISED, elementwise.quantised),
    "Attention": attention.packed_attention,
    "AttnLSTM": recurrent.recurrent,
    "BiasGelu": elementwise.arithmetic,
    "DecoderMaskedMultiHeadAttention": attention.multi_head_attention,
    "DynamicQuantizeLSTM": recurrent.recurrent,
    "DynamicQuantizeMatMul": matmul.matmul,
    "ExpandDims": move.reshape,
    "FastGelu": elementwise.activation,
    "FusedConv": conv.conv,
    "FusedGemm": matmul.matmul,
    "FusedMatMul": matmul.matmul,
    "GroupQueryAttention": attention.multi_head_attention,
    "MatMulBnb4": matmul.matmul_n_bits,
    "MatMulFpQ4": matmul.matmul_n_bits,
    "MatMulInteger16": matmul.matmul,
    "MatMulIntegerToFloat": matmul.matmul,
    "MatMulNBits": matmul.matmul_n_bits,
    "MultiHeadAttention": attention.multi_head_attention,
    "NhwcConv": conv.conv,
    "NhwcFusedConv": conv.conv,
    "QAttention": attention.packed_attention,
    "QGemm": matmul.matmul,
    "QLinearAveragePool": pool.pool,
    "QLinearConcat": move.along_axes,
    "QLinearConv": conv.conv,
    "QLinearGlobalAveragePool": pool.global_pool,
    "QLinearLeakyRelu": elementwise.activation,
    "QLinearSigmoid": elementwise.activation,
    "QLinearSoftmax": vector.softmax,
    "QuickGelu": elementwise.activation,
    "ScaledSiLU": elementwise.activation,
    "TransposeMatMul": matmul.matmul,
}

# MACs of operators whose shapes depend on data, where the typed function would refuse.
MACS: dict[str, MacFunction] = {
    **dict.fromkeys(conv.SLOTS, conv.conv_macs),
    **dict.fromkeys(matmul.SLOTS, matmul.matmul_macs),
    "ConvTranspose": conv.conv_transpose_macs,
    "Einsum": einsum.einsum_macs,
    "GRU": recurrent.recurrent_macs,
    "LSTM": recurrent.recurrent_macs,
    "RNN": recurrent.recurrent_macs,
}


def function_of(node: ir.Node) -> Function:
    """The function that lowers this node."""
    if is_standard(node):
        return STANDARD.get(node.op_type, generic)
    return MICROSOFT_OPS.get(node.op_type, generic) if node.domain == MICROSOFT else generic


def macs_of(site: Site) -> int:
    """MACs by the shapes known or bounded, without checking them; 0 for what does not multiply."""
    function = MACS.get(site.node.op_type) if is_standard(site.node) or site.node.domain == MICROSOFT else None
    return 0 if function is None else function(site)
