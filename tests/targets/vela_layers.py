"""The single layers of tests/data/ethos_u55_layers.csv as workloads of one operator."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from math import prod
from pathlib import Path

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

CSV = Path(__file__).parents[1] / "data" / "ethos_u55_layers.csv"
Row = dict[str, str]


def rows() -> Iterator[Row]:
    """Rows of the file, behind its comment line."""
    with CSV.open(newline="") as file:
        yield from csv.DictReader(line for line in file if not line.startswith("#"))


def one_op(
    kind: OpKind,
    params: OpParams,
    in_shape: tuple[int, ...],
    out_shape: tuple[int, ...],
    *,
    weights: int = 0,
    macs: int = 0,
    inputs: int = 1,
    dtype: str = "int8",
    layout: Layout = Layout.CHANNELS_LAST,
    activation: str = "",
    stored_dtype: str = "",
) -> Workload:
    """A workload of one operator whose inputs and outputs are the model's own."""
    width = {"float32": 4, "int32": 4, "float16": 2}.get(dtype, 1)

    def tensor(name: str, shape: tuple[int, ...]) -> Tensor:
        return Tensor(name, shape, dtype, stored_dtype or dtype, prod(shape) * width, layout)

    names = tuple(f"x{i}" for i in range(inputs))
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
        input_bytes=prod(in_shape) * width * inputs,
        output_bytes=prod(out_shape) * width,
        activation=activation,
    )
    constants = (Tensor("w", (weights,), "int8", "int8", weights, Layout.ROW_MAJOR),) if weights else ()
    tensors = (*(tensor(n, in_shape) for n in names), *constants, tensor("y", out_shape))
    return Workload("one", "as stored", (op,), tensors, names, ("y",))


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
    """A convolution with SAME or no padding."""
    reach = tuple((k - 1) * dilation + 1 for k in kernel)
    out = tuple(-(-s // stride) if same else (s - r) // stride + 1 for s, r in zip(size, reach, strict=True))
    total = tuple(max(0, (o - 1) * stride + r - s) if same else 0 for o, r, s in zip(out, reach, size, strict=True))
    pads = (*(t // 2 for t in total), *(t - t // 2 for t in total))
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
        layout=Layout.ROW_MAJOR,
        activation=activation,
        dtype=dtype,
    )


def workload_of(row: Row) -> Workload:
    """The layer of a row."""
    h, w, cin, cout, kh, kw, stride, dil = (
        int(row[c] or 1) for c in ("h", "w", "cin", "cout", "kh", "kw", "stride", "dil")
    )
    kind = row["kind"]
    image = (1, cin, h, w)
    match kind:
        case "conv" | "dwconv":
            groups, outs = (1, cout) if kind == "conv" else (cin, cin)
            return conv_workload(cin, outs, (h, w), (kh, kw), stride, groups, dil, same=row["pad"] != "VALID")
        case "fc":
            return fc_workload(h * w, cin, cout)
        case "batch_matmul":
            params = MatmulParams("matmul", h, w, cin, cout)
            return one_op(
                OpKind.MATMUL,
                params,
                (h, w, cin),
                (h, w, cout),
                macs=h * w * cin * cout,
                inputs=2,
                layout=Layout.ROW_MAJOR,
            )
        case "softmax":
            return one_op(
                OpKind.SOFTMAX,
                VectorParams("vector", "softmax", h * w, cin),
                (h, w, cin),
                (h, w, cin),
                layout=Layout.ROW_MAJOR,
            )
        case "add" | "sub" | "mul":
            params_ = ElementwiseParams("elementwise", kind, h * w * cin, 2)
            return one_op(OpKind.ELEMENTWISE, params_, image, image, inputs=2)
        case "avgpool" | "maxpool":
            same = row["pad"] != "VALID"
            sizes = ((h, kh), (w, kw))
            out = tuple(-(-s // stride) if same else (s - k) // stride + 1 for s, k in sizes)
            over = [max(0, (o - 1) * stride + k - s) if same else 0 for o, (s, k) in zip(out, sizes, strict=True)]
            pool = PoolParams(
                "pool",
                "max" if kind == "maxpool" else "average",
                1,
                cin,
                (kh, kw),
                (stride, stride),
                (*(t // 2 for t in over), *(t - t // 2 for t in over)),
                (h, w),
                out,
            )
            return one_op(OpKind.POOL, pool, image, (1, cin, *out))
        case "lut":
            act = ElementwiseParams("elementwise", "sigmoid", h * w * cin, 1)
            return one_op(OpKind.ACTIVATION, act, image, image)
        case "mean":
            over_channels = row["layer"].startswith("mean_c")
            vector = (
                VectorParams("vector", "mean", h * w, cin)
                if over_channels
                else VectorParams("vector", "mean", cin, h * w)
            )
            out_shape = (1, 1, h, w) if over_channels else (1, cin, 1, 1)
            return one_op(OpKind.REDUCE, vector, image, out_shape)
        case _:
            assert kind == "transpose", kind
            return one_op(
                OpKind.MOVE,
                MoveParams("move", "transpose", h * w * cin, (0, 2, 1)),
                (h, w, cin),
                (w, h, cin),
                layout=Layout.ROW_MAJOR,
            )
