"""When a node hands its input on unchanged: one rule an operator, each gives why and the value that stands for it."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from passes.values import axes_of, constant, int_attribute, ints_attribute, is_standard, node_input, rank, static_shape

Found = tuple[str, ir.Value] | None

_INTEGERS = frozenset(
    {
        *(ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64),
        *(ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64),
    }
)
# Every value of the first type is a value of the second, and comes back the same.
_WIDENING = frozenset(
    {
        (ir.DataType.FLOAT16, ir.DataType.FLOAT),
        (ir.DataType.BFLOAT16, ir.DataType.FLOAT),
        (ir.DataType.FLOAT16, ir.DataType.DOUBLE),
        (ir.DataType.FLOAT, ir.DataType.DOUBLE),
        (ir.DataType.INT8, ir.DataType.INT32),
        (ir.DataType.UINT8, ir.DataType.INT32),
        (ir.DataType.INT32, ir.DataType.INT64),
        (ir.DataType.BOOL, ir.DataType.INT32),
        (ir.DataType.BOOL, ir.DataType.INT64),
    }
)


def _first(node: ir.Node) -> ir.Value | None:
    return node_input(node, 0)


def _same_shape(node: ir.Node) -> bool:
    shape = static_shape(_first(node))
    return shape is not None and shape == static_shape(node.outputs[0])


def _identity(node: ir.Node) -> Found:
    source = _first(node)
    return None if source is None else ("Identity", source)


def _dropout(node: ir.Node) -> Found:
    source, mode = _first(node), node_input(node, 2)
    if source is None or (len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output())):
        return None
    if mode is not None:
        array = constant(mode)
        if array is None or bool(array):
            return None
    return "Dropout does nothing at inference", source


def _cast(node: ir.Node) -> Found:
    source = _first(node)
    if source is None or source.dtype is None:
        return None
    to = node.outputs[0].dtype if node.op_type == "CastLike" else ir.DataType(int_attribute(node, "to", 0))
    if source.dtype == to:
        return "a cast to the type the value has already", source
    inner = source.producer()
    if inner is None or not is_standard(inner, "Cast"):
        return None
    first = inner.inputs[0]
    if first is not None and first.dtype == to and (to, source.dtype) in _WIDENING:
        return "casts to a wider type and back", first
    return None


def _same_elements(node: ir.Node) -> Found:
    """Operators that keep the elements in order whenever they keep the shape."""
    source = _first(node)
    return ("the shape stays the same", source) if source is not None and _same_shape(node) else None


def _blocks(node: ir.Node) -> Found:
    return _same_elements(node) if int_attribute(node, "blocksize", 0) == 1 else None


def _perm(node: ir.Node) -> tuple[int, ...] | None:
    given = ints_attribute(node, "perm")
    if given is not None:
        return given
    dims = rank(_first(node))
    return None if dims is None else tuple(reversed(range(dims)))


def _transpose(node: ir.Node) -> Found:
    source, perm = _first(node), _perm(node)
    if source is None or perm is None:
        return None
    if perm == tuple(range(len(perm))):
        return "the axes stay in order", source
    inner = source.producer()
    if inner is None or not is_standard(inner, "Transpose"):
        return None
    first, before = inner.inputs[0], _perm(inner)
    if first is None or before is None or len(before) != len(perm):
        return None
    if tuple(before[p] for p in perm) == tuple(range(len(perm))):
        return "two Transposes that undo each other", first
    return None


def _slice(node: ir.Node) -> Found:
    source = _first(node)
    steps = node_input(node, 4)
    if source is None or not _same_shape(node):
        return None
    if steps is not None:
        array = constant(steps)
        if array is None or bool((array < 0).any()):
            return None
    return "the slice is the whole tensor", source


def _pad(node: ir.Node) -> Found:
    source = _first(node)
    attribute = ints_attribute(node, "pads") or ints_attribute(node, "paddings")
    pads = attribute if attribute is not None else _constant_ints(node_input(node, 1))
    if source is None or pads is None or any(pads):
        return None
    return "nothing is padded", source


def _constant_ints(value: ir.Value | None) -> tuple[int, ...] | None:
    array = constant(value)
    return None if array is None else tuple(int(v) for v in array.ravel())


def _single_input(node: ir.Node) -> Found:
    source = _first(node)
    if source is None or len([v for v in node.inputs if v is not None]) != 1:
        return None
    return f"{node.op_type} of one input", source


def _split(node: ir.Node) -> Found:
    return _same_elements(node) if len(node.outputs) == 1 else None


def _resize(node: ir.Node) -> Found:
    """Same size with scale 1: every sampling point falls on an element, but for two coordinate modes."""
    source = _first(node)
    mode = node.attributes.get("coordinate_transformation_mode")
    if source is None or not _same_shape(node):
        return None
    if mode is not None and mode.as_string() in ("tf_crop_and_resize", "tf_half_pixel_for_nn"):
        return None
    sizes = node_input(node, 3)
    if sizes is None:
        index = 1 if node.op_type == "Upsample" or len(node.inputs) == 2 else 2
        attribute = node.attributes.get("scales")
        scales = attribute.as_floats() if attribute is not None else constant(node_input(node, index))
        if scales is None or any(float(s) != 1.0 for s in scales):
            return None
    return "resized to the size it has", source


def _neutral(node: ir.Node) -> Found:
    """x * 1, x / 1, x - 0, x ** 1; x + 0 for integers only."""
    first, second = _first(node), node_input(node, 1)
    options = [(first, second)]
    if node.op_type in ("Mul", "Add"):
        options.append((second, first))
    neutral = 1 if node.op_type in ("Mul", "Div", "Pow") else 0
    for source, other in options:
        array = constant(other)
        if source is None or array is None or array.size == 0 or array.dtype.kind not in "iuf":
            continue
        if node.op_type == "Add" and source.dtype not in _INTEGERS:
            continue
        if not bool((array == neutral).all()) or (node.op_type == "Sub" and _negative_zero(array)):
            continue
        shape = static_shape(source)
        if shape is not None and shape == static_shape(node.outputs[0]) and source.dtype == node.outputs[0].dtype:
            return f"{node.op_type} with {neutral}", source
    return None


def _negative_zero(array: object) -> bool:
    import numpy as np

    return bool(np.signbit(np.asarray(array, np.float64)).any())


def _single_element_axes(node: ir.Node) -> Found:
    """Product, minimum or maximum over axes of size 1 that keeps the axes; a sum or mean would turn -0 into +0."""
    return _same_elements(node) if static_shape(_first(node)) is not None and axes_of(node) is not None else None


RULES: dict[str, Callable[[ir.Node], Found]] = {
    "Add": _neutral,
    "Cast": _cast,
    "CastLike": _cast,
    "Concat": _single_input,
    "DepthToSpace": _blocks,
    "Div": _neutral,
    "Dropout": _dropout,
    "Expand": _same_elements,
    "Flatten": _same_elements,
    "GlobalMaxPool": _same_elements,
    "Identity": _identity,
    "Max": _single_input,
    "Mean": _single_input,
    "Min": _single_input,
    "Mul": _neutral,
    "Pad": _pad,
    "Pow": _neutral,
    "ReduceMax": _single_element_axes,
    "ReduceMin": _single_element_axes,
    "ReduceProd": _single_element_axes,
    "Reshape": _same_elements,
    "Resize": _resize,
    "Slice": _slice,
    "SpaceToDepth": _blocks,
    "Split": _split,
    "Squeeze": _same_elements,
    "Sub": _neutral,
    "Sum": _single_input,
    "Tile": _same_elements,
    "Transpose": _transpose,
    "Unsqueeze": _same_elements,
    "Upsample": _resize,
}
