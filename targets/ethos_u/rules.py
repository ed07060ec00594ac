"""What may run on an Ethos-U55 or U65, as sentences with checks. The support table is made from these objects.

Source of the limits: Vela 5.2.0 (Apache-2.0), its report of supported operators for Ethos-U55, and what it left on
the CPU for single int8 operators. Where the report allows several cases, the rule states the condition in full.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from math import prod

from h4hc.costtypes import Rule, Violation
from h4hc.workload import (
    ElementwiseParams,
    MatmulParams,
    MoveParams,
    Op,
    OpKind,
    PoolParams,
    ResizeParams,
    Tensor,
    VectorParams,
    Workload,
)
from targets.ethos_u import functions
from targets.ethos_u.axes import memory_shape, working_layout
from targets.ethos_u.blocks import choose_blocks
from targets.ethos_u.image_rules import CONVOLUTIONS, WEIGHTED
from targets.ethos_u.mapping import passes, shared_operand
from targets.ethos_u.norms import runs_across
from targets.ethos_u.padding import is_padded
from targets.ethos_u.reductions import mean_window, reduction
from targets.ethos_u.work import Arch

TYPES = ("int8", "uint8")
MAX_RANK = 4
MAX_PADDED_WINDOW = 8
MAX_WINDOW_HEIGHT = 256
MAX_WINDOW_AREA = 256 * 256
MAX_AXIS = 65536
MAX_MEAN_AXIS = 4096
MAX_MEAN_ELEMENTS = 16_777_216
RESIZE_FACTORS = (1, 2, 4, 8)

REFUSED = frozenset({OpKind.GENERIC, OpKind.CONTROL_FLOW})
RUN = frozenset(OpKind) - REFUSED
FUSING = WEIGHTED | {OpKind.POOL, OpKind.ELEMENTWISE, OpKind.MATMUL}

Check = Callable[[Op, Workload], Violation | None]


def make_rules(arch: Arch) -> tuple[Rule, ...]:
    """Rules of an NPU of this architecture; the first one an operator breaks is reported."""
    return (*_GENERAL, *CONVOLUTIONS, *_OTHERS, _shram_rule(arch))


def _kind(op: Op, workload: Workload) -> Violation | None:
    seen = ", ".join(op.op_types) or op.kind.value
    return Violation(seen, "operators that the vendor's compiler maps from TFLite")


def _dtype(op: Op, workload: Workload) -> Violation | None:
    if op.dtype in TYPES:
        return None
    return Violation(op.dtype, " or ".join(TYPES), "quantise the operator to int8")


def _results(op: Op, workload: Workload) -> Violation | None:
    wide = sorted({workload.tensor[n].dtype for n in op.outputs} - set(TYPES))
    return (
        Violation(", ".join(wide), " or ".join(TYPES), "requantise the result in the same operator") if wide else None
    )


def _static(op: Op, workload: Workload) -> Violation | None:
    loose = [n for n in (*op.inputs, *op.outputs) if not workload.tensor[n].exact]
    return Violation(f"shape of {loose[0]} depends on data", "shapes known at compile time") if loose else None


def _present(op: Op, workload: Workload) -> Violation | None:
    if op.inputs and op.outputs and all(t.elements for t in _tensors(op, workload)):
        return None
    return Violation("no input, no output, or an empty tensor", "at least one of each, with elements")


def _tensors(op: Op, workload: Workload) -> list[Tensor]:
    return [workload.tensor[n] for n in (*op.inputs, *op.outputs)]


def _rank(op: Op, workload: Workload) -> Violation | None:
    for tensor in _tensors(op, workload):
        dims = list(tensor.shape)
        while len(dims) > MAX_RANK and 1 in dims:
            dims.remove(1)
        if len(dims) > MAX_RANK:
            return Violation(f"{len(dims)} axes in {tensor.name}", f"{MAX_RANK}", "fold axes by a reshape")
    return None


def _axis_length(op: Op, workload: Workload) -> Violation | None:
    if op.kind is OpKind.VIEW and not op.rescales:
        return None  # no pass runs over it
    for tensor in _tensors(op, workload):
        if max(tensor.shape, default=1) > MAX_AXIS:
            return Violation(f"an axis of {max(tensor.shape)} in {tensor.name}", f"{MAX_AXIS}")
    return None


def _pool_function(op: Op, workload: Workload) -> Violation | None:
    p = op.params
    assert isinstance(p, PoolParams), op.id
    return None if p.function in ("max", "average") else Violation(p.function, "max or average")


def _window(op: Op, workload: Workload) -> Violation | None:
    p = op.params
    assert isinstance(p, PoolParams), op.id
    seen = "x".join(map(str, p.kernel))
    if p.function == "average" and is_padded(p) and max(p.kernel) > MAX_PADDED_WINDOW:
        return Violation(f"padded {seen}", f"{MAX_PADDED_WINDOW}x{MAX_PADDED_WINDOW} where padded")
    height = p.kernel[0] if len(p.kernel) == 2 else 1
    if height > MAX_WINDOW_HEIGHT or prod(p.kernel) > MAX_WINDOW_AREA:
        return Violation(seen, f"height {MAX_WINDOW_HEIGHT}, area {MAX_WINDOW_AREA}")
    return None


def _reduction(op: Op, workload: Workload) -> Violation | None:
    p = op.params
    assert isinstance(p, VectorParams), op.id
    if p.function not in functions.REDUCTIONS:
        return Violation(p.function, ", ".join(sorted(functions.REDUCTIONS)))
    known = reduction(op, p, workload)
    if known is None:
        seen = workload.tensor[op.inputs[0]].shape
        return Violation(f"vectors of {p.length} in {seen}", "whole axes of at most four longer than 1")
    if not known[1]:
        return Violation("vectors of 1", "an axis longer than 1", "make a view of the reduction")
    if p.function == "sum" and len(known[1]) > 1:
        return Violation(f"sum over {len(known[1])} axes", "one axis", "reshape the axes to one, or sum one by one")
    return None


def _mean(op: Op, workload: Workload) -> Violation | None:
    p = op.params
    assert isinstance(p, VectorParams), op.id
    if p.function != "mean" or op.kind is not OpKind.REDUCE:
        return None
    known = reduction(op, p, workload)
    assert known is not None, op.id
    (batch, *sizes), axes = known
    if p.length > MAX_MEAN_ELEMENTS or any(sizes[axis - 1] >= MAX_MEAN_AXIS for axis in axes if axis):
        return Violation(f"{p.length} elements", f"axes under {MAX_MEAN_AXIS}, {MAX_MEAN_ELEMENTS} elements in all")
    return None if batch == 1 else Violation(f"batch {batch}", "1")


def _mean_window(op: Op, workload: Workload) -> Violation | None:
    """The window of a mean lies in height and width; channels take the place of an axis of one."""
    p = op.params
    assert isinstance(p, VectorParams), op.id
    if p.function != "mean":
        return None
    known = reduction(op, p, workload)
    assert known is not None, op.id
    if mean_window(*known) is not None:
        return None
    seen = "x".join(map(str, known[0][1:]))
    return Violation(f"the channels of {seen}", "an image with height, width or channels of 1", "fold it to one row")


def _softmax(op: Op, workload: Workload) -> Violation | None:
    p = op.params
    assert isinstance(p, VectorParams), op.id
    if p.function != "softmax":
        return Violation(p.function, "softmax")
    return None if p.rows < MAX_AXIS else Violation(f"{p.rows} rows", f"under {MAX_AXIS}")


def _norm(op: Op, workload: Workload) -> Violation | None:
    p = op.params
    assert isinstance(p, VectorParams), op.id
    if p.function not in functions.NORMS:
        return Violation(p.function, ", ".join(sorted(functions.NORMS)))
    memory = memory_shape(workload.tensor[op.inputs[0]], working_layout(op, workload))
    if p.function in ("group_norm", "instance_norm") and not p.innermost and not runs_across(memory, p):
        return Violation("groups of several channels that lie innermost", "one channel a group, or channels first")
    if p.function != "batch_norm" and not 1 < p.length < MAX_MEAN_AXIS:
        return Violation(f"vectors of {p.length}", f"over 1, under {MAX_MEAN_AXIS}")
    return None


def _resize(op: Op, workload: Workload) -> Violation | None:
    p = op.params
    assert isinstance(p, ResizeParams), op.id
    if p.mode not in ("nearest", "linear"):
        return Violation(p.mode, "nearest or linear")
    if p.coordinates not in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
        return Violation(p.coordinates, "half_pixel, asymmetric or align_corners")
    half = p.mode == "linear" and p.coordinates.endswith("half_pixel")
    if half and len(p.in_spatial) == 1:
        return Violation("half-pixel linear along one axis", "two axes", "resize with asymmetric coordinates")
    less = 1 if p.coordinates == "align_corners" and max(p.in_spatial) > 1 else 0
    ratios = {(o - less) / max(1, i - less) for i, o in zip(p.in_spatial, p.out_spatial, strict=True)}
    allowed = (1, 2) if half else RESIZE_FACTORS
    if len(ratios) == 1 and ratios <= set(allowed):
        return None
    seen = " and ".join(f"{r:g}" for r in sorted(ratios))
    return Violation(f"factor {seen}", f"{', '.join(map(str, allowed[1:]))}, the same on both axes", "resize by 2")


def _elementwise(op: Op, workload: Workload) -> Violation | None:
    p = op.params
    assert isinstance(p, ElementwiseParams), op.id
    return (
        None if p.function in functions.ELEMENTWISE else Violation(p.function, ", ".join(sorted(functions.ELEMENTWISE)))
    )


def _selection(op: Op, workload: Workload) -> Violation | None:
    p = op.params
    assert isinstance(p, ElementwiseParams), op.id
    if p.function not in functions.SELECTIONS or not op.rescales:
        return None
    return Violation("inputs and output differ in scale", "one scale", "quantise inputs and output alike")


def _innermost(op: Op, workload: Workload) -> Violation | None:
    """Softmax and sums run over channels only; a mean, a maximum and a minimum also over positions."""
    p = op.params
    assert isinstance(p, VectorParams), op.id
    if p.innermost or p.length <= 1 or p.function not in functions.INNERMOST_ONLY:
        return None
    return Violation(
        f"{p.function} over an outer axis", "the innermost axis in memory", "transpose before and behind, or leave it"
    )


def _activation(op: Op, workload: Workload) -> Violation | None:
    p = op.params
    assert isinstance(p, ElementwiseParams), op.id
    return (
        None if p.function in functions.ACTIVATIONS else Violation(p.function, ", ".join(sorted(functions.ACTIVATIONS)))
    )


def _fused(op: Op, workload: Workload) -> Violation | None:
    if not op.activation or op.activation in functions.ACTIVATIONS:
        return None
    return Violation(op.activation, ", ".join(sorted(functions.ACTIVATIONS)))


def _matmul(op: Op, workload: Workload) -> Violation | None:
    p = op.params
    assert isinstance(p, MatmulParams), op.id
    longest = max(p.k, p.n)
    if longest > MAX_AXIS:
        return Violation(f"{longest}", f"{MAX_AXIS}")
    if shared_operand(op, p, workload) != "partly":
        return None
    seen = " x ".join(str(workload.tensor[name].shape) for name in op.inputs)
    return Violation(f"{seen}, shared by some of {p.batch} products", "operands of each or of all", "expand it")


def _move(op: Op, workload: Workload) -> Violation | None:
    p = op.params
    assert isinstance(p, MoveParams), op.id
    return None if p.function in functions.MOVES else Violation(p.function, ", ".join(sorted(functions.MOVES)))


def _transpose(op: Op, workload: Workload) -> Violation | None:
    p = op.params
    if not isinstance(p, MoveParams) or p.function != "transpose":
        return None
    shape = [d for d in workload.tensor[op.inputs[0]].shape if d != 1]
    worst = max((prod(c) for c in combinations(shape, max(0, len(shape) - 2))), default=1)
    return None if worst <= MAX_AXIS else Violation(f"{worst}", f"product of all axes but two at most {MAX_AXIS}")


def _rescale(op: Op, workload: Workload) -> Violation | None:
    wide = [t for t in _tensors(op, workload) if t.dtype not in TYPES]
    return Violation(f"{wide[0].name} is {wide[0].dtype}", "int8 or uint8 on both sides") if wide else None


def _shram_rule(arch: Arch) -> Rule:
    def check(op: Op, workload: Workload) -> Violation | None:
        for work in passes(arch, op, workload):
            if choose_blocks(arch, work) is None:
                seen = f"{work.unit} pass with kernel {work.kernel[0]}x{work.kernel[1]}"
                return Violation(seen, f"a block that fits {arch.shram_banks} banks of {arch.bank_bytes} B")
        return None

    return Rule("ethos_u.shram", "some block of each pass fits the NPU's SHRAM", check, RUN)


_GENERAL = (
    Rule("ethos_u.no_mapping", "operators outside the typed classes have no mapping to the NPU", _kind, REFUSED, True),
    Rule("ethos_u.dtype", "values are int8 or uint8", _dtype, RUN),
    Rule("ethos_u.results", "results are int8 or uint8", _results, RUN - {OpKind.QUANTIZE}),
    Rule("ethos_u.static", "all shapes are known at compile time", _static, RUN),
    Rule("ethos_u.present", "there is at least one input and one output, and none is empty", _present, RUN),
    Rule("ethos_u.rank", f"tensors have at most {MAX_RANK} axes longer than 1", _rank, RUN),
    Rule("ethos_u.axis", f"no axis is longer than {MAX_AXIS}", _axis_length, RUN),
)
_OTHERS = (
    Rule("ethos_u.pool", "pooling is max or average", _pool_function, frozenset({OpKind.POOL})),
    Rule(
        "ethos_u.window",
        f"a pooling window is at most {MAX_WINDOW_HEIGHT} high and {MAX_WINDOW_AREA} in area; a padded average 8 x 8",
        _window,
        frozenset({OpKind.POOL}),
    ),
    Rule(
        "ethos_u.innermost",
        "softmax, layer norm, RMS norm and sums run along the innermost axis in memory",
        _innermost,
        frozenset({OpKind.SOFTMAX, OpKind.NORM, OpKind.REDUCE}),
    ),
    Rule(
        "ethos_u.reduction",
        "reductions are mean, sum, max or min over whole axes longer than 1, a sum over one",
        _reduction,
        frozenset({OpKind.REDUCE}),
    ),
    Rule(
        "ethos_u.mean",
        f"a mean has batch 1, axes under {MAX_MEAN_AXIS} and at most {MAX_MEAN_ELEMENTS} elements",
        _mean,
        frozenset({OpKind.REDUCE}),
    ),
    Rule(
        "ethos_u.mean_window",
        "a mean over the innermost axis of an image needs a height, width or depth of 1",
        _mean_window,
        frozenset({OpKind.REDUCE}),
    ),
    Rule(
        "ethos_u.softmax",
        f"softmax has under {MAX_AXIS} rows and is no log-softmax",
        _softmax,
        frozenset({OpKind.SOFTMAX}),
    ),
    Rule(
        "ethos_u.norm",
        f"norms are layer, RMS, instance, group or batch norm, of 2 to {MAX_MEAN_AXIS - 1} values; groups lie together",
        _norm,
        frozenset({OpKind.NORM}),
    ),
    Rule(
        "ethos_u.resize",
        "a resize is nearest or linear by 2, 4 or 8 on all axes; half-pixel linear by 2 on two axes",
        _resize,
        frozenset({OpKind.RESIZE}),
    ),
    Rule(
        "ethos_u.elementwise",
        "elementwise functions are those of the NPU",
        _elementwise,
        frozenset({OpKind.ELEMENTWISE}),
    ),
    Rule("ethos_u.selection", "minimum and maximum keep their scale", _selection, frozenset({OpKind.ELEMENTWISE})),
    Rule(
        "ethos_u.activation",
        "a function of one value is one the vendor's compiler has a table for",
        _activation,
        frozenset({OpKind.ACTIVATION}),
    ),
    Rule("ethos_u.fused", "a fused activation is a clamp or a table of the NPU", _fused, FUSING),
    Rule(
        "ethos_u.matmul",
        f"products of activations have k and n up to {MAX_AXIS}; all of a batch share an operand, or none does",
        _matmul,
        frozenset({OpKind.MATMUL}),
    ),
    Rule(
        "ethos_u.move", "data movement is transpose, concat, slice, split, pad or tile", _move, frozenset({OpKind.MOVE})
    ),
    Rule(
        "ethos_u.transpose",
        f"all axes but two of a transpose have a product up to {MAX_AXIS}",
        _transpose,
        frozenset({OpKind.MOVE}),
    ),
    Rule("ethos_u.rescale", "rescaling is between 8-bit types", _rescale, frozenset({OpKind.QUANTIZE})),
)
