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
SCALAR_STEPS = {"hard_sigmoid": 2, "abs": 1, "neg": 1, "prelu": 4}  # elementwise passes with a constant
ACTIVATIONS = CLAMPS | TABLES | GATED | frozenset(SCALAR_STEPS)

SUMS = frozenset({"add", "sub", "sum"})
PRODUCTS = frozenset({"mul"})
SELECTIONS = frozenset({"min", "max", "minimum", "maximum"})
SQUARED_DIFFERENCE_PASSES = 7
ELEMENTWISE = SUMS | PRODUCTS | SELECTIONS | frozenset({"squared_difference", "abs", "neg", "prelu"})

REDUCTIONS = frozenset({"mean", "sum", "max", "min"})
NORMS = {  # passes over all elements: (sums, products), each with a mean or two in front
    "layer_norm": (2, 3),
    "instance_norm": (2, 3),
    "group_norm": (2, 3),
    "rms_norm": (0, 3),
    "batch_norm": (1, 1),
}
NORM_MEANS = {"layer_norm": 2, "instance_norm": 2, "group_norm": 2, "rms_norm": 1, "batch_norm": 0}
INNERMOST_ONLY = frozenset({"softmax", "layer_norm", "rms_norm", "sum"})  # no mapping over an outer axis
COPIES = frozenset({"concat", "slice", "split", "pad", "tile"})
MOVES = COPIES | {"transpose"}
