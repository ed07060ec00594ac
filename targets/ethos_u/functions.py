"""Functions of one and of several values that the NPU runs, as the vendor's compiler maps them from TFLite.

Facts of Vela 5.2.0: its supported-operators report, and what it left on the CPU when asked: SQRT, DIV, POW, SIN,
LOG_SOFTMAX, GATHER and everything in float.
"""

from __future__ import annotations

CLAMPS = frozenset({"relu", "relu6", "relu_n1_to_1", "clip"})  # in the output stage
TABLES = frozenset(  # 256-entry table behind the output stage
    {"sigmoid", "tanh", "elu", "hard_swish", "gelu", "gelu_tanh", "leaky_relu", "exp", "log", "rsqrt"}
)
GATED = frozenset({"silu", "swish", "quick_gelu"})  # x * sigmoid(a x): a table, then a product
SINGLE = frozenset({"hard_sigmoid", "abs", "neg", "prelu"})  # elementwise passes, most with a constant
ACTIVATIONS = CLAMPS | TABLES | GATED | SINGLE

SUMS = frozenset({"add", "sub", "sum"})
PRODUCTS = frozenset({"mul"})
SELECTIONS = frozenset({"min", "max", "minimum", "maximum"})
ELEMENTWISE = SUMS | PRODUCTS | SELECTIONS | frozenset({"squared_difference", "abs", "neg", "prelu"})

REDUCTIONS = frozenset({"mean", "sum", "max", "min"})
NORMS = frozenset({"layer_norm", "instance_norm", "group_norm", "rms_norm", "batch_norm"})
INNERMOST_ONLY = frozenset({"softmax", "layer_norm", "rms_norm", "sum"})  # no mapping over an outer axis
COPIES = frozenset({"concat", "slice", "split", "pad", "tile"})
MOVES = COPIES | {"transpose"}
