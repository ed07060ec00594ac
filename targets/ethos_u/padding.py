"""Which padding a pooling really reads, and whether it is one of the two kinds that the NPU's pooling has."""

from __future__ import annotations

from h4hc.workload import PoolParams

Side = tuple[int, int]  # positions before and behind the image


def read_padding(p: PoolParams) -> tuple[Side, ...]:
    """Padding that windows reach, axis by axis: what ONNX declares less what no window reads, plus what ceil_mode adds.

    behind = max(0, (out - 1) * stride + kernel - in - before)
    """
    sides = []
    for axis, kernel in enumerate(p.kernel):
        before = p.pads[axis]
        reach = (p.out_spatial[axis] - 1) * p.stride[axis] + kernel
        sides.append((before, max(0, reach - p.in_spatial[axis] - before)))
    return tuple(sides)


def is_padded(p: PoolParams) -> bool:
    """Whether any window reads padding."""
    return any(map(any, read_padding(p)))


def is_same(p: PoolParams) -> bool:
    """Whether out = ceil(in / stride) on each axis, with the smaller half of the padding before, as in TFLite."""
    for axis, (before, behind) in enumerate(read_padding(p)):
        total = max(0, (p.out_spatial[axis] - 1) * p.stride[axis] + p.kernel[axis] - p.in_spatial[axis])
        if p.out_spatial[axis] != -(-p.in_spatial[axis] // p.stride[axis]):
            return False
        if (before, behind) != (total // 2, total - total // 2):
            return False
    return True


def needs_copy(p: PoolParams) -> bool:
    """Whether the image must be padded by a pass of its own before it is pooled."""
    return is_padded(p) and not is_same(p)
