"""One legal int8 operator of every kind, and operators that grow in one dimension."""

from __future__ import annotations

from h4hc.workload import (
    ConvParams,
    ElementwiseParams,
    GenericParams,
    Layout,
    MatmulParams,
    MoveParams,
    OpKind,
    PoolParams,
    ResizeParams,
    VectorParams,
    Workload,
)
from tests.targets.vela_layers import conv_workload, fc_workload, one_op

IMAGE = (1, 16, 14, 14)


def elementwise(kind: OpKind, function: str, shape: tuple[int, ...] = IMAGE, inputs: int = 1) -> Workload:
    """A function of one or several tensors."""
    count = shape[0] * shape[1] * shape[2] * shape[3]
    return one_op(kind, ElementwiseParams("elementwise", function, count, inputs), shape, shape, inputs=inputs)


def pool(
    function: str = "max",
    kernel: int = 2,
    stride: int = 2,
    size: int = 14,
    channels: int = 16,
    pads: tuple[int, int] = (0, 0),
    *,
    counted: bool = False,
) -> Workload:
    """Pooling of a square image with `pads` before and behind each axis; counted: the average counts them."""
    before, behind = pads
    out = (size + before + behind - kernel) // stride + 1
    around = (before, before, behind, behind)
    params = PoolParams(
        "pool", function, 1, channels, (kernel,) * 2, (stride,) * 2, around, (size,) * 2, (out,) * 2, counted
    )
    return one_op(OpKind.POOL, params, (1, channels, size, size), (1, channels, out, out))


def vector(kind: OpKind, function: str, rows: int = 8, length: int = 64) -> Workload:
    """Softmax, norm or reduction along the last axis."""
    out = (1, rows, 1) if kind is OpKind.REDUCE else (1, rows, length)
    layout = Layout.ROW_MAJOR
    return one_op(kind, VectorParams("vector", function, rows, length), (1, rows, length), out, layout=layout)


def outer_vector(kind: OpKind, function: str, rows: int = 16, length: int = 64) -> Workload:
    """The same along the first axis: vectors lie across the memory."""
    out = (1, 1, rows) if kind is OpKind.REDUCE else (1, length, rows)
    params = VectorParams("vector", function, rows, length, innermost=False)
    return one_op(kind, params, (1, length, rows), out, layout=Layout.ROW_MAJOR)


def image_norm(function: str, shape: tuple[int, int, int, int]) -> Workload:
    """Norm of an image, over the positions of each channel or, folded, a scale and a shift."""
    channels, positions = shape[1], shape[2] * shape[3]
    rows, length = (positions, channels) if function == "batch_norm" else (channels, positions)
    params = VectorParams("vector", function, rows, length, function == "batch_norm")
    return one_op(OpKind.NORM, params, shape, shape)


def resize(mode: str = "nearest", coordinates: str = "asymmetric", size: int = 7, out: int = 14) -> Workload:
    """Resize of a square image."""
    params = ResizeParams("resize", mode, coordinates, 16, (size, size), (out, out))
    return one_op(OpKind.RESIZE, params, (1, 16, size, size), (1, 16, out, out))


def move(kind: OpKind, function: str, shape: tuple[int, ...] = IMAGE) -> Workload:
    """Data movement, or a view."""
    count = 1
    for dim in shape:
        count *= dim
    perm = (0, 2, 3, 1) if function == "transpose" else ()
    return one_op(kind, MoveParams("move", function, count, perm), shape, shape)


def transposed(stride: int = 2, out: int = 28) -> Workload:
    """Transposed convolution 14 x 14 -> 28 x 28."""
    params = ConvParams("conv", 1, 16, 8, 1, (2, 2), (stride,) * 2, (1, 1), (0, 0, 0, 0), (14, 14), (out, out))
    return one_op(OpKind.CONV_TRANSPOSE, params, IMAGE, (1, 8, out, out), weights=512, macs=512 * 14 * 14)


def matmul(batch: int = 2, m: int = 16, k: int = 32, n: int = 16) -> Workload:
    """Product of two activations."""
    params = MatmulParams("matmul", batch, m, k, n)
    return one_op(OpKind.MATMUL, params, (batch, m, k), (batch, m, n), macs=batch * m * k * n, inputs=2)


def legal() -> dict[OpKind, Workload]:
    """An operator of each kind that every device with the kind runs."""
    generic = GenericParams("generic", "NonMaxSuppression", "", 1000)
    return {
        OpKind.CONV: conv_workload(16, 32, (14, 14), (3, 3)),
        OpKind.DEPTHWISE: conv_workload(32, 32, (14, 14), (3, 3), groups=32),
        OpKind.GROUPED_CONV: conv_workload(32, 32, (14, 14), (3, 3), groups=4),
        OpKind.CONV_TRANSPOSE: transposed(),
        OpKind.FULLY_CONNECTED: fc_workload(4, 64, 96),
        OpKind.MATMUL: matmul(),
        OpKind.SOFTMAX: vector(OpKind.SOFTMAX, "softmax"),
        OpKind.NORM: vector(OpKind.NORM, "layer_norm"),
        OpKind.ELEMENTWISE: elementwise(OpKind.ELEMENTWISE, "add", inputs=2),
        OpKind.ACTIVATION: elementwise(OpKind.ACTIVATION, "sigmoid"),
        OpKind.POOL: pool(),
        OpKind.REDUCE: vector(OpKind.REDUCE, "mean"),
        OpKind.RESIZE: resize(),
        OpKind.MOVE: move(OpKind.MOVE, "transpose"),
        OpKind.VIEW: move(OpKind.VIEW, "reshape"),
        OpKind.QUANTIZE: elementwise(OpKind.QUANTIZE, "requantize"),
        OpKind.GENERIC: one_op(OpKind.GENERIC, generic, (1, 1000), (1, 1000)),
        OpKind.CONTROL_FLOW: one_op(
            OpKind.CONTROL_FLOW, GenericParams("generic", "Loop", "", 1000), (1, 1000), (1, 1000)
        ),
    }
