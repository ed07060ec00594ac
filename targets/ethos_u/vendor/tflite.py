"""Write an int8 TFLite flatbuffer, operator by operator, with the schema classes that come with the vendor's tool.

Facts of the format that matter: file id TFL3; buffer 0 is empty; buffers are aligned to 16 bytes; a tensor without
buffer data is an activation. Weights are int8 with zero point 0, biases int32 with the scale of input times weight.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from h4hc.errors import InternalError
from targets.ethos_u.vendor.tool import schema_missing

SCHEMA = "ethosu.vela.tflite"
FILE_ID = b"TFL3"
ALIGNMENT = 16
SCHEMA_VERSION = 3
BYTE_CODES = 127  # operator codes above are stored in the newer field only

Shape = tuple[int, ...]
Array = npt.NDArray[Any]
Option = int | float | bool

TYPES = {"int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64", "uint8": "UINT8"}

# operator -> (version, options table; "" = none). Versions are those of int8 kernels.
OPERATORS: dict[str, tuple[int, str]] = {
    "ABS": (2, "AbsOptions"),
    "ADD": (2, "AddOptions"),
    "AVERAGE_POOL_2D": (2, "Pool2DOptions"),
    "BATCH_MATMUL": (2, "BatchMatMulOptions"),
    "CONCATENATION": (2, "ConcatenationOptions"),
    "CONV_2D": (3, "Conv2DOptions"),
    "DEPTHWISE_CONV_2D": (3, "DepthwiseConv2DOptions"),
    "ELU": (1, ""),
    "EXP": (2, "ExpOptions"),
    "FULLY_CONNECTED": (5, "FullyConnectedOptions"),
    "GELU": (2, "GeluOptions"),
    "HARD_SWISH": (1, "HardSwishOptions"),
    "LEAKY_RELU": (2, "LeakyReluOptions"),
    "LOG": (2, ""),
    "LOGISTIC": (2, ""),
    "MAXIMUM": (2, "MaximumMinimumOptions"),
    "MAX_POOL_2D": (2, "Pool2DOptions"),
    "MEAN": (2, "ReducerOptions"),
    "MINIMUM": (2, "MaximumMinimumOptions"),
    "MUL": (2, "MulOptions"),
    "NEG": (1, "NegOptions"),
    "PAD": (2, "PadOptions"),
    "PADV2": (2, "PadV2Options"),
    "PRELU": (1, ""),
    "QUANTIZE": (2, "QuantizeOptions"),
    "REDUCE_MAX": (2, "ReducerOptions"),
    "REDUCE_MIN": (2, "ReducerOptions"),
    "RELU": (2, ""),
    "RELU6": (2, ""),
    "RELU_N1_TO_1": (1, ""),
    "RESHAPE": (1, "ReshapeOptions"),
    "RESIZE_BILINEAR": (3, "ResizeBilinearOptions"),
    "RESIZE_NEAREST_NEIGHBOR": (3, "ResizeNearestNeighborOptions"),
    "RSQRT": (2, ""),
    "SLICE": (2, "SliceOptions"),
    "SOFTMAX": (2, "SoftmaxOptions"),
    "SPLIT_V": (2, "SplitVOptions"),
    "SQUARED_DIFFERENCE": (2, "SquaredDifferenceOptions"),
    "STRIDED_SLICE": (2, "StridedSliceOptions"),
    "SUB": (2, "SubOptions"),
    "SUM": (2, "ReducerOptions"),
    "TANH": (2, ""),
    "TILE": (2, "TileOptions"),
    "TRANSPOSE": (2, "TransposeOptions"),
    "TRANSPOSE_CONV": (3, "TransposeConvOptions"),
}


@dataclass(frozen=True)
class Quant:
    """real = scale * (stored - zero_point), one pair for the tensor or one for each index of `axis`."""

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int = 0

    @staticmethod
    def whole(scale: float, zero_point: int = 0) -> Quant:
        """One scale and zero point for the whole tensor."""
        return Quant((scale,), (zero_point,))


@dataclass(frozen=True)
class Ref:
    """A tensor of the file: index, shape in memory order, element type, quantisation."""

    index: int
    shape: Shape
    dtype: str
    quant: Quant | None


@dataclass
class TfliteModel:
    """A TFLite model of one subgraph under construction; `pack` gives its bytes, the same for the same calls."""

    name: str
    _tensors: list[tuple[str, Ref, int]] = field(default_factory=list)  # name, tensor, buffer
    _buffers: list[bytes] = field(default_factory=lambda: [b""])
    _codes: list[str] = field(default_factory=list)
    _operators: list[tuple[int, tuple[int, ...], tuple[int, ...], str, dict[str, Option]]] = field(default_factory=list)
    _ints: dict[tuple[int, ...], Ref] = field(default_factory=dict)

    @property
    def operator_count(self) -> int:
        """Operators written so far; the next one has this index."""
        return len(self._operators)

    def activation(self, name: str, shape: Shape, quant: Quant, dtype: str = "int8") -> Ref:
        """A tensor that an operator, or the caller, fills at run time."""
        return self._add(name, shape, dtype, quant, 0)

    def constant(self, name: str, values: Array, quant: Quant | None = None) -> Ref:
        """A tensor with contents; its type is that of `values`."""
        self._buffers.append(np.ascontiguousarray(values).tobytes())
        shape = tuple(int(d) for d in values.shape)
        return self._add(name, shape, str(values.dtype), quant, len(self._buffers) - 1)

    def ints(self, values: Sequence[int]) -> Ref:
        """A vector of int32 that says how an operator works: a shape, axes, begins."""
        key = tuple(int(v) for v in values)
        if key not in self._ints:
            self._ints[key] = self.constant(f"ints{len(self._ints)}", np.array(key, np.int32))
        return self._ints[key]

    def operator(
        self,
        kind: str,
        inputs: Sequence[Ref | None],
        outputs: Sequence[Ref],
        options: Mapping[str, Option] | None = None,
    ) -> None:
        """An operator; `options`: fields of its options table, spelled as in the schema (StrideW). None: absent."""
        if kind not in OPERATORS:
            raise InternalError(f"the TFLite writer has no operator {kind!r}")
        if kind not in self._codes:
            self._codes.append(kind)
        code = self._codes.index(kind)
        ins = tuple(-1 if ref is None else ref.index for ref in inputs)
        self._operators.append((code, ins, tuple(ref.index for ref in outputs), kind, dict(options or {})))

    def _add(self, name: str, shape: Shape, dtype: str, quant: Quant | None, buffer: int) -> Ref:
        if dtype not in TYPES:
            raise InternalError(f"the TFLite writer has no element type {dtype!r}", (name,))
        ref = Ref(len(self._tensors), shape, dtype, quant)
        self._tensors.append((name, ref, buffer))
        return ref

    def pack(self, inputs: Sequence[Ref], outputs: Sequence[Ref]) -> bytes:
        """The file. inputs, outputs: the model's own tensors, in order. Raises MissingToolError without the extra."""
        return _Packer().model(self, [r.index for r in inputs], [r.index for r in outputs])


class _Packer:
    """Flatbuffers are written from the leaves up: vectors and strings first, then the tables that point to them."""

    def __init__(self) -> None:
        try:
            import flatbuffers
        except ImportError as error:
            raise schema_missing(error) from None
        self._builder = flatbuffers.Builder(1 << 16)

    def model(self, model: TfliteModel, inputs: list[int], outputs: list[int]) -> bytes:
        buffers = self._offsets([self._buffer(data) for data in model._buffers])
        codes = self._offsets([self._code(kind) for kind in model._codes])
        graph = self._offsets([self._graph(model, inputs, outputs)])
        fields = {
            "Version": SCHEMA_VERSION,
            "OperatorCodes": codes,
            "Subgraphs": graph,
            "Description": self._builder.CreateString("h4hc"),
            "Buffers": buffers,
        }
        self._builder.Finish(self._table("Model", fields), FILE_ID)
        return bytes(self._builder.Output())

    def _table(self, name: str, fields: Mapping[str, Any]) -> int:
        """Write a table of the schema by its name; an absent field keeps its default."""
        try:
            module = importlib.import_module(f"{SCHEMA}.{name}")
        except ImportError as error:
            raise schema_missing(error) from None
        getattr(module, f"{name}Start")(self._builder)
        for key, value in fields.items():
            getattr(module, f"{name}Add{key}")(self._builder, value)
        return int(getattr(module, f"{name}End")(self._builder))

    def _enum(self, name: str, member: str) -> int:
        module = importlib.import_module(f"{SCHEMA}.{name}")
        return int(getattr(getattr(module, name), member))

    def _offsets(self, offsets: list[int]) -> int:
        self._builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._builder.PrependUOffsetTRelative(offset)
        return int(self._builder.EndVector())

    def _vector(self, values: Sequence[int | float], dtype: str) -> int:
        return int(self._builder.CreateNumpyVector(np.array(values, dtype)))

    def _buffer(self, data: bytes) -> int:
        if not data:
            return self._table("Buffer", {})
        self._builder.StartVector(1, len(data), ALIGNMENT)
        self._builder.head = self._builder.Head() - len(data)
        self._builder.Bytes[self._builder.Head() : self._builder.Head() + len(data)] = data
        return self._table("Buffer", {"Data": self._builder.EndVector()})

    def _code(self, kind: str) -> int:
        code = self._enum("BuiltinOperator", kind)
        fields = {"DeprecatedBuiltinCode": min(code, BYTE_CODES), "Version": OPERATORS[kind][0], "BuiltinCode": code}
        return self._table("OperatorCode", fields)

    def _graph(self, model: TfliteModel, inputs: list[int], outputs: list[int]) -> int:
        tensors = self._offsets([self._tensor(*entry) for entry in model._tensors])
        operators = self._offsets([self._operator(*entry) for entry in model._operators])
        fields = {
            "Tensors": tensors,
            "Inputs": self._vector(inputs, "<i4"),
            "Outputs": self._vector(outputs, "<i4"),
            "Operators": operators,
            "Name": self._builder.CreateString(model.name),
        }
        return self._table("SubGraph", fields)

    def _tensor(self, name: str, ref: Ref, buffer: int) -> int:
        fields = {
            "Shape": self._vector(ref.shape, "<i4"),
            "Type": self._enum("TensorType", TYPES[ref.dtype]),
            "Buffer": buffer,
            "Name": self._builder.CreateString(name),
        }
        if ref.quant is not None:
            fields["Quantization"] = self._quant(ref.quant)
        return self._table("Tensor", fields)

    def _quant(self, quant: Quant) -> int:
        fields = {
            "Scale": self._vector(quant.scales, "<f4"),
            "ZeroPoint": self._vector(quant.zero_points, "<i8"),
            "QuantizedDimension": quant.axis,
        }
        return self._table("QuantizationParameters", fields)

    def _operator(
        self, code: int, inputs: tuple[int, ...], outputs: tuple[int, ...], kind: str, options: dict[str, Option]
    ) -> int:
        fields: dict[str, Any] = {
            "OpcodeIndex": code,
            "Inputs": self._vector(inputs, "<i4"),
            "Outputs": self._vector(outputs, "<i4"),
        }
        table = OPERATORS[kind][1]
        if table:
            fields["BuiltinOptionsType"] = self._enum("BuiltinOptions", table)
            fields["BuiltinOptions"] = self._table(table, options)
        return self._table("Operator", fields)
