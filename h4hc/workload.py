"""Level 2 of the IR: the typed operators of a model, with their MACs and bytes. Frozen; no ONNX object inside.

`lower` makes a Workload out of a legalised ONNX model: one Op for each operator group (see
`h4hc.annotations`), in an execution order that respects all dependencies. From here on the model is
read only. JSON in and out through `to_json` and `from_json`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from h4hc.diagnostics import Diagnostic


class OpKind(StrEnum):
    """What class of work an operator is; decides which rules and which cost formula apply."""

    CONV = "conv"  # groups == 1
    DEPTHWISE = "depthwise"  # groups == in_channels
    GROUPED_CONV = "grouped_conv"  # 1 < groups < in_channels
    CONV_TRANSPOSE = "conv_transpose"
    FULLY_CONNECTED = "fully_connected"  # activation x constant weights
    MATMUL = "matmul"  # activation x activation, batched
    SOFTMAX = "softmax"
    NORM = "norm"  # layer, instance, group, RMS, local response, unfolded batch norm
    ELEMENTWISE = "elementwise"  # one result per element from one or more tensors
    ACTIVATION = "activation"  # a function of one value: a 256-entry table in int8
    POOL = "pool"
    REDUCE = "reduce"
    RESIZE = "resize"
    MOVE = "move"  # bytes change place: transpose, concat, slice, pad, gather ...
    VIEW = "view"  # bytes stay where they are, only the shape changes
    QUANTIZE = "quantize"  # QuantizeLinear, DequantizeLinear and integer rescaling at a border
    GENERIC = "generic"  # anything else; host only, cost from its bytes
    CONTROL_FLOW = "control_flow"  # If, Loop, Scan: one host op


class Layout(StrEnum):
    """Physical order of a tensor's axes in memory, relative to its ONNX shape."""

    ROW_MAJOR = "row_major"  # as the ONNX shape says: NCHW for an image
    CHANNELS_LAST = "channels_last"  # axis 1 moved to the end: NHWC for an image


@dataclass(frozen=True)
class ConvParams:
    """conv, depthwise, grouped_conv, conv_transpose. Spatial tuples run over the spatial axes (1, 2 or 3)."""

    form: Literal["conv"]
    batch: int
    in_channels: int
    out_channels: int
    groups: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[int, ...]  # begin of each axis, then end of each axis, as ONNX
    in_spatial: tuple[int, ...]
    out_spatial: tuple[int, ...]


@dataclass(frozen=True)
class FullyConnectedParams:
    """y[p, o] = sum_i x[p, i] w[o, i]; `positions` counts all vectors (batch x tokens)."""

    form: Literal["fully_connected"]
    positions: int
    in_features: int
    out_features: int


@dataclass(frozen=True)
class MatmulParams:
    """batch products of (m, k) x (k, n), both operands activations."""

    form: Literal["matmul"]
    batch: int
    m: int
    k: int
    n: int


@dataclass(frozen=True)
class PoolParams:
    """function: max, average, lp; window sizes over the spatial axes; global pooling has kernel == in_spatial.

    count_include_pad: an average divides by the whole window, its padding included.
    """

    form: Literal["pool"]
    function: str
    batch: int
    channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pads: tuple[int, ...]
    in_spatial: tuple[int, ...]
    out_spatial: tuple[int, ...]
    count_include_pad: bool = False


@dataclass(frozen=True)
class VectorParams:
    """softmax, norm, reduce: `rows` independent vectors of `length` elements each.

    function: softmax, log_softmax, layer_norm, rms_norm, instance_norm, batch_norm, mean, sum, max ...
    innermost: the vectors run along the last axis of the operator's physical order.
    """

    form: Literal["vector"]
    function: str
    rows: int
    length: int
    innermost: bool = True


@dataclass(frozen=True)
class ElementwiseParams:
    """elementwise, activation, quantize: `elements` results, each of `operands` values; function: add, relu ....

    broadcast: none, scalar, channel (one operand is per channel or scalar) or general.
    """

    form: Literal["elementwise"]
    function: str
    elements: int
    operands: int
    broadcast: Literal["none", "scalar", "channel", "general"] = "none"


@dataclass(frozen=True)
class ResizeParams:
    """resize: mode nearest, linear, cubic; scales over the spatial axes; `coordinates` as ONNX names it."""

    form: Literal["resize"]
    mode: str
    coordinates: str
    channels: int
    in_spatial: tuple[int, ...]
    out_spatial: tuple[int, ...]


@dataclass(frozen=True)
class MoveParams:
    """move, view: function transpose, concat, slice, split, pad, gather, reshape ...; perm for transpose only."""

    form: Literal["move"]
    function: str
    elements: int
    perm: tuple[int, ...] = ()


@dataclass(frozen=True)
class GenericParams:
    """generic, control_flow: the ONNX operator as the user wrote it.

    elements: of the largest input or output; for control flow all that its bodies write, as often as they run.
    """

    form: Literal["generic"]
    op_type: str
    domain: str
    elements: int


OpParams = (
    ConvParams
    | FullyConnectedParams
    | MatmulParams
    | PoolParams
    | VectorParams
    | ElementwiseParams
    | ResizeParams
    | MoveParams
    | GenericParams
)


@dataclass(frozen=True)
class Tensor:
    """A value that flows between operators, or a constant they read.

    shape: as in ONNX (NCHW), all positive or zero. dtype: element type the plan costs (int8 for a float
    model planned as int8); stored_dtype: the one in the ONNX file. size_bytes belongs to dtype.
    layout: the order its producer leaves it in. exact is False when the shape depends on data and
    size_bytes is a bound, which a diagnostic says.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    stored_dtype: str
    size_bytes: int
    layout: Layout
    exact: bool = True

    @property
    def elements(self) -> int:
        """Number of elements; 1 for a scalar."""
        count = 1
        for dim in self.shape:
            count *= dim
        return count


EVERY, FIRST, BEHIND = 0, 1, 2  # see Cut.stages


@dataclass(frozen=True)
class Cut:
    """How a product can be split along its output channels (or its input channels). An axis of -1: read whole.

    count: channels there are; unit: every part but the last has a multiple of it (the outputs of one group of a
    convolution); least: channels of the smallest part. axis: of the result along which the channels lie, -1 where
    results are summed.
    inputs, weights: for each of the operator's inputs and weights, the axis along which a part reads its share.
    stages, homes: for each ONNX node of the operator, and for each of its weights, where it goes when results are
    summed: to EVERY part, the FIRST part (a bias) or BEHIND the sum (an activation); all to every part where empty.
    """

    count: int
    unit: int
    least: int
    axis: int
    inputs: tuple[int, ...]
    weights: tuple[int, ...]
    stages: tuple[int, ...] = ()
    homes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Op:
    """One operator of the plan: the unit that is placed on a device.

    id is unique and equal to the `h4hc.op` of its ONNX nodes. origin names the user's ONNX nodes, never
    empty. inputs and outputs are activation tensors; weights are the constants it reads. `layout` is the
    order in which it wants its inputs and leaves its outputs; None means it works in either and keeps the
    order of its first input. activation: fused function ("" if none). dtype: what it computes in.
    region: the attention block it belongs to ("" if none). op_types: its ONNX operator types.
    weight_types: element type, in the plan, of each constant that is multiplied (int8, float32, ...; a zero point
    other than 0 is written behind it: "int8 asymmetric"). rescales: a data movement or pooling whose output has
    another scale than its input, so that each element is requantised on the way. by_output, by_input: how its channels
    can be cut, or why they cannot; "" for what is no product.
    """

    id: str
    kind: OpKind
    params: OpParams
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[str, ...]
    origin: tuple[str, ...]
    op_types: tuple[str, ...]
    dtype: str
    macs: int
    weight_bytes: int
    input_bytes: int
    output_bytes: int
    layout: Layout | None = None
    activation: str = ""
    region: str = ""
    weight_types: tuple[str, ...] = ()
    rescales: bool = False
    by_output: Cut | str = ""
    by_input: Cut | str = ""


@dataclass(frozen=True)
class Workload:
    """All operators of a model in execution order, with the tensors they exchange.

    precision: "as stored" for a quantised model; "planned int8" for a float model costed as if quantised.
    inputs, outputs: names of the model's own tensors, as the user has them.
    """

    name: str
    precision: Literal["as stored", "planned int8"]
    ops: tuple[Op, ...]
    tensors: tuple[Tensor, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    diagnostics: tuple[Diagnostic, ...] = ()

    @functools.cached_property
    def tensor(self) -> dict[str, Tensor]:
        """Tensors by name."""
        return {t.name: t for t in self.tensors}

    @functools.cached_property
    def producer(self) -> dict[str, str]:
        """Tensor name -> id of the op that makes it; model inputs are absent."""
        return {name: op.id for op in self.ops for name in op.outputs}

    @functools.cached_property
    def op(self) -> dict[str, Op]:
        """Operators by id."""
        return {op.id: op for op in self.ops}

    @functools.cached_property
    def readers(self) -> dict[str, tuple[str, ...]]:
        """Tensor name -> ids of the operators that read it; absent if none does."""
        found: dict[str, list[str]] = {}
        for op in self.ops:
            for name in op.inputs:
                found.setdefault(name, []).append(op.id)
        return {name: tuple(ids) for name, ids in found.items()}

    def to_json(self) -> bytes:
        """Canonical JSON, the same bytes for the same workload."""
        return bytes(_adapter().dump_json(self, indent=1))

    @staticmethod
    def from_json(data: bytes) -> Workload:
        """Inverse of `to_json`; raises pydantic.ValidationError on anything else."""
        workload = _adapter().validate_json(data)
        assert isinstance(workload, Workload)
        return workload


@functools.cache
def _adapter() -> Any:
    from pydantic import TypeAdapter  # 60 ms: only where JSON is needed

    return TypeAdapter(Workload)
