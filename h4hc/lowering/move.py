"""Data movement: bytes change place (move), or only the shape changes (view)."""

from __future__ import annotations

import math

from h4hc.lowering.generic import generic
from h4hc.lowering.site import Lowered, Order, Site
from h4hc.workload import MoveParams, OpKind

# Along axes: the same work in any physical order, as long as the number of axes stays.
ALONG_AXES: dict[str, str] = {
    "CenterCropPad": "center_crop_pad",
    "Concat": "concat",
    "Expand": "expand",
    "Gather": "gather",
    "GatherElements": "gather_elements",
    "Pad": "pad",
    "QLinearConcat": "concat",
    "ReverseSequence": "reverse_sequence",
    "Slice": "slice",
    "Split": "split",
    "Tile": "tile",
}

# Addressed by the ONNX order of the axes.
BY_INDEX: dict[str, str] = {
    "ConstantOfShape": "fill",
    "EyeLike": "eye",
    "GatherND": "gather_nd",
    "OneHot": "one_hot",
    "Range": "range",
    "Scatter": "scatter",
    "ScatterElements": "scatter",
    "ScatterND": "scatter",
    "Shape": "shape",
    "Size": "size",
    "TensorScatter": "scatter",
    "Trilu": "trilu",
}

BLOCKS: dict[str, str] = {"DepthToSpace": "depth_to_space", "SpaceToDepth": "space_to_depth"}

RESHAPES: dict[str, str] = {
    "ExpandDims": "unsqueeze",
    "Flatten": "flatten",
    "Reshape": "reshape",
    "Squeeze": "squeeze",
    "Unsqueeze": "unsqueeze",
}


def along_axes(site: Site) -> Lowered:
    """Concat, Slice, Split, Pad, Gather ...; row-major where the number of axes changes."""
    lowered = _move(site, ALONG_AXES[site.node.op_type], Order.EITHER)
    return lowered if _same_rank(site) else Lowered(lowered.kind, lowered.params, 0, Order.ROW_MAJOR)


def by_index(site: Site) -> Lowered:
    """Scatter, GatherND, OneHot, Shape ...: row-major."""
    return _move(site, BY_INDEX[site.node.op_type], Order.ROW_MAJOR)


def blocks(site: Site) -> Lowered:
    """DepthToSpace, SpaceToDepth."""
    return _move(site, BLOCKS[site.node.op_type], Order.CHANNELS_LAST)


def transpose(site: Site) -> Lowered:
    """Transpose; whether bytes move is told by the physical orders, in `layouts.py`."""
    rank = len(site.shape(0))
    perm = site.ints("perm") or tuple(reversed(range(rank)))
    if sorted(perm) != list(range(rank)):
        raise site.refuse("Transpose by something that is no permutation", f"perm {list(perm)} of {rank} axes")
    params = MoveParams("move", "transpose", math.prod(site.out()), perm)
    return Lowered(OpKind.MOVE, params, 0, Order.TRANSPOSE, perm)


def reshape(site: Site) -> Lowered:
    """Reshape, Flatten, Squeeze, Unsqueeze: the same bytes under another shape."""
    if math.prod(site.shape(0)) != math.prod(site.out()):
        raise site.refuse(
            f"{site.node.op_type} changes the number of elements", f"{list(site.shape(0))} to {list(site.out())}"
        )
    params = MoveParams("move", RESHAPES[site.node.op_type], math.prod(site.out()))
    return Lowered(OpKind.VIEW, params, 0, Order.RESHAPE)


def identity(site: Site) -> Lowered:
    """Identity, where a pass had to keep it; a host operator for sequences and optionals."""
    if not site.facts[site.node.outputs[0]].exact:
        return generic(site)
    return Lowered(OpKind.VIEW, MoveParams("move", "identity", math.prod(site.out())), 0, Order.EITHER)


def _move(site: Site, function: str, order: Order) -> Lowered:
    elements = sum(site.facts[v].elements for v in site.group.outputs) or math.prod(site.out())
    return Lowered(OpKind.MOVE, MoveParams("move", function, elements), 0, order)


def _same_rank(site: Site) -> bool:
    ranks = {len(site.facts[v].shape) for v in (*site.group.inputs, *site.group.outputs)}
    return len(ranks) == 1
