"""Single layers as workloads of one operator: what the rows of a layer table (`h4hc.layer_table`) stand for.

Values are int8, batch is 1. Images lie channels-last, token matrices row-major; inputs and outputs are the model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

from h4hc.workload import (
    ConvParams,
    ElementwiseParams,
    FullyConnectedParams,
    Layout,
    MatmulParams,
    MoveParams,
    Op,
    OpKind,
    OpParams,
    PoolParams,
    Tensor,
    VectorParams,
    Workload,
)

ROW = Layout.ROW_MAJOR


@dataclass(frozen=True)
class LayerShape:
    """The columns of a row that say what the layer does. same: SAME padding, else none; mean_over: hw or c."""

    h: int
    w: int
    cin: int
    cout: int
    kh: int = 1
    kw: int = 1
    stride: int = 1
    dil: int = 1
    groups: int = 1
    same: bool = True
    mean_over: str = "hw"

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns of the image that a window covers."""
        return (self.kh - 1) * self.dil + 1, (self.kw - 1) * self.dil + 1


def one_op(
    kind: OpKind,
    params: OpParams,
    in_shape: tuple[int, ...],
    out_shape: tuple[int, ...],
    *,
    second_shape: tuple[int, ...] | None = None,
    weights: int = 0,
    macs: int = 0,
    inputs: int = 1,
    dtype: str = "int8",
    layout: Layout = Layout.CHANNELS_LAST,
    activation: str = "",
    stored_dtype: str = "",
) -> Workload:
    """A workload of one operator whose inputs and outputs are the model's own.

    weights: bytes of int8 weights; dtype: of the activations; second_shape: of all inputs but the first, if another.
    """
    width = {"float32": 4, "int32": 4, "float16": 2}.get(dtype, 1)

    def tensor(name: str, shape: tuple[int, ...]) -> Tensor:
        return Tensor(name, shape, dtype, stored_dtype or dtype, prod(shape) * width, layout)

    names = tuple(f"x{i}" for i in range(inputs))
    shapes = (in_shape, *((second_shape or in_shape,) * (inputs - 1)))
    op = Op(
        id="op",
        kind=kind,
        params=params,
        inputs=names,
        outputs=("y",),
        weights=("w",) if weights else (),
        origin=("op",),
        op_types=("Op",),
        dtype=dtype,
        macs=macs,
        weight_bytes=weights,
        input_bytes=sum(prod(shape) for shape in shapes) * width,
        output_bytes=prod(out_shape) * width,
        activation=activation,
    )
    constants = (Tensor("w", (weights,), "int8", "int8", weights, ROW),) if weights else ()
    tensors = (*(tensor(n, s) for n, s in zip(names, shapes, strict=True)), *constants, tensor("y", out_shape))
    return Workload("one", "as stored", (op,), tensors, names, ("y",))


def _window(size: int, kernel: int, stride: int, dilation: int, same: bool) -> tuple[int, int]:
    """Outputs along one axis, and elements of padding on both sides together."""
    reach = (kernel - 1) * dilation + 1
    out = -(-size // stride) if same else (size - reach) // stride + 1
    return out, max(0, (out - 1) * stride + reach - size) if same else 0


def _pads(over: tuple[int, ...]) -> tuple[int, ...]:
    """TFLite puts the odd element of SAME padding behind."""
    return (*(t // 2 for t in over), *(t - t // 2 for t in over))


def conv_workload(
    cin: int,
    cout: int,
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
    *,
    same: bool = True,
    kind: OpKind | None = None,
    activation: str = "",
    dtype: str = "int8",
    batch: int = 1,
) -> Workload:
    """A convolution with SAME or no padding. Without a kind, that which lowering gives one of so many groups."""
    axes = [_window(s, k, stride, dilation, same) for s, k in zip(size, kernel, strict=True)]
    out, pads = tuple(o for o, _ in axes), _pads(tuple(over for _, over in axes))
    n = len(kernel)
    params = ConvParams("conv", batch, cin, cout, groups, kernel, (stride,) * n, (dilation,) * n, pads, size, out)
    if kind is None:
        kind = OpKind.CONV if groups == 1 else OpKind.DEPTHWISE if groups == cin else OpKind.GROUPED_CONV
    weights = cin // groups * prod(kernel) * cout
    return one_op(
        kind,
        params,
        (batch, cin, *size),
        (batch, cout, *out),
        weights=weights,
        macs=weights * prod(out) * batch,
        activation=activation,
        dtype=dtype,
    )


def fc_workload(positions: int, ins: int, outs: int, activation: str = "", dtype: str = "int8") -> Workload:
    """A fully connected layer over `positions` vectors."""
    return one_op(
        OpKind.FULLY_CONNECTED,
        FullyConnectedParams("fully_connected", positions, ins, outs),
        (positions, ins),
        (positions, outs),
        weights=ins * outs,
        macs=positions * ins * outs,
        layout=ROW,
        activation=activation,
        dtype=dtype,
    )


def _conv(s: LayerShape) -> Workload:
    return conv_workload(s.cin, s.cout, (s.h, s.w), (s.kh, s.kw), s.stride, 1, s.dil, same=s.same, kind=OpKind.CONV)


def _grouped(s: LayerShape) -> Workload:
    return conv_workload(s.cin, s.cout, (s.h, s.w), (s.kh, s.kw), s.stride, s.groups, s.dil, same=s.same)


def _depthwise(s: LayerShape) -> Workload:
    """cout / cin filters a channel; cout 1, an empty cell, is one filter a channel."""
    outs = s.cout if s.cout > 1 else s.cin
    return conv_workload(s.cin, outs, (s.h, s.w), (s.kh, s.kw), s.stride, s.cin, s.dil, same=s.same)


def _pool(function: str) -> Callable[[LayerShape], Workload]:
    def make(s: LayerShape) -> Workload:
        axes = [_window(size, k, s.stride, 1, s.same) for size, k in ((s.h, s.kh), (s.w, s.kw))]
        out, pads = tuple(o for o, _ in axes), _pads(tuple(over for _, over in axes))
        window, steps = (s.kh, s.kw), (s.stride, s.stride)
        params = PoolParams("pool", function, 1, s.cin, window, steps, pads, (s.h, s.w), out)
        return one_op(OpKind.POOL, params, (1, s.cin, s.h, s.w), (1, s.cin, *out))

    return make


def _elementwise(function: str, kind: OpKind, operands: int) -> Callable[[LayerShape], Workload]:
    def make(s: LayerShape) -> Workload:
        params = ElementwiseParams("elementwise", function, s.h * s.w * s.cin, operands)
        image = (1, s.cin, s.h, s.w)
        return one_op(kind, params, image, image, inputs=operands)

    return make


def _vectors(kind: OpKind, function: str) -> Callable[[LayerShape], Workload]:
    def make(s: LayerShape) -> Workload:
        params, shape = VectorParams("vector", function, s.h * s.w, s.cin), (s.h, s.w, s.cin)
        return one_op(kind, params, shape, shape, layout=ROW)

    return make


def _mean(s: LayerShape) -> Workload:
    """Over the positions, or with `axes` c over the channels."""
    over_channels = s.mean_over == "c"
    rows, length = (s.h * s.w, s.cin) if over_channels else (s.cin, s.h * s.w)
    out = (1, 1, s.h, s.w) if over_channels else (1, s.cin, 1, 1)
    params = VectorParams("vector", "mean", rows, length, innermost=over_channels)
    return one_op(OpKind.REDUCE, params, (1, s.cin, s.h, s.w), out)


def _matmul(s: LayerShape) -> Workload:
    """h products (batch x heads) of w x cin and cin x cout."""
    params, macs = MatmulParams("matmul", s.h, s.w, s.cin, s.cout), s.h * s.w * s.cin * s.cout
    left, right, out = (s.h, s.w, s.cin), (s.h, s.cin, s.cout), (s.h, s.w, s.cout)
    return one_op(OpKind.MATMUL, params, left, out, second_shape=right, macs=macs, inputs=2, layout=ROW)


def _transpose(s: LayerShape) -> Workload:
    """The axes h and w change places; w and cin where h is 1."""
    perm = (1, 0, 2) if s.h > 1 else (0, 2, 1)
    shape = (s.h, s.w, s.cin)
    params = MoveParams("move", "transpose", s.h * s.w * s.cin, perm)
    return one_op(OpKind.MOVE, params, shape, tuple(shape[axis] for axis in perm), layout=ROW)


KINDS: dict[str, Callable[[LayerShape], Workload]] = {
    "conv": _conv,
    "dw": _depthwise,
    "dwconv": _depthwise,
    "grouped_conv": _grouped,
    "fc": lambda s: fc_workload(s.h * s.w, s.cin, s.cout),
    "bmm": _matmul,
    "batch_matmul": _matmul,
    "softmax": _vectors(OpKind.SOFTMAX, "softmax"),
    "layer_norm": _vectors(OpKind.NORM, "layer_norm"),
    "mean": _mean,
    "add": _elementwise("add", OpKind.ELEMENTWISE, 2),
    "sub": _elementwise("sub", OpKind.ELEMENTWISE, 2),
    "mul": _elementwise("mul", OpKind.ELEMENTWISE, 2),
    "minimum": _elementwise("minimum", OpKind.ELEMENTWISE, 2),
    "maximum": _elementwise("maximum", OpKind.ELEMENTWISE, 2),
    "relu": _elementwise("relu", OpKind.ACTIVATION, 1),
    "lut": _elementwise("sigmoid", OpKind.ACTIVATION, 1),
    "avgpool": _pool("average"),
    "maxpool": _pool("max"),
    "transpose": _transpose,
}

_WINDOW = frozenset({"kh", "kw", "stride", "pad"})
_CONV = _WINDOW | {"cout", "dil"}
DEPTHWISE = frozenset({"dw", "dwconv"})
WINDOWED = DEPTHWISE | {"conv", "grouped_conv", "avgpool", "maxpool"}
USES: dict[str, frozenset[str]] = {  # kind -> columns that say something about it, beside h, w and cin
    **dict.fromkeys(("conv", "dw", "dwconv"), _CONV),
    "grouped_conv": _CONV | {"groups"},
    **dict.fromkeys(("avgpool", "maxpool"), _WINDOW),
    **dict.fromkeys(("fc", "bmm", "batch_matmul"), frozenset({"cout"})),
    "mean": frozenset({"axes"}),
}


def unused(kind: str, cells: Mapping[str, str]) -> tuple[str, ...]:
    """Columns that say something which the kind does not have: not empty, nor 1 (sizes), SAME (pad) or cin (cout)."""
    plain = {"cout": cells["cin"], "pad": "SAME", "axes": ""} | dict.fromkeys(
        ("kh", "kw", "stride", "dil", "groups"), "1"
    )
    others = (c for c in plain if c not in USES.get(kind, frozenset()))
    return tuple(c for c in others if cells.get(c, "").lstrip("0") not in ("", plain[c].lstrip("0")))
