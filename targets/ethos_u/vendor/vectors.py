"""Products, softmax, norms and reductions as TFLite operators."""

from __future__ import annotations

from itertools import combinations
from math import prod

from h4hc.workload import FullyConnectedParams, MatmulParams, Op, OpKind, VectorParams
from targets.ethos_u.axes import memory_shape, order_of
from targets.ethos_u.vendor.images import weights_and_bias
from targets.ethos_u.vendor.network import Network, cannot, few_axes
from targets.ethos_u.vendor.tflite import Quant, Ref, Shape
from targets.ethos_u.vendor.values import activated, binary, fusable, scalar

SOFTMAX = Quant.whole(1 / 256, -128)  # the only scale TFLite allows
REDUCERS = {"mean": "MEAN", "sum": "SUM", "max": "REDUCE_MAX", "min": "REDUCE_MIN"}
EPSILON = 1e-5


def emit_fully_connected(net: Network, op: Op, p: FullyConnectedParams) -> None:
    """FULLY_CONNECTED over all positions."""
    data = net.read(op, op.inputs[0], (p.positions, p.in_features))
    weights, bias = weights_and_bias(net, op, data, (p.out_features, p.in_features), 0)
    out = (p.positions, p.out_features)
    options = {"FusedActivationFunction": fusable(net, op)}
    made = net.step(op, "FULLY_CONNECTED", [data, weights, bias], out, net.result_quant(op), options)
    net.finish(op, activated(net, op, made, op.activation))


def emit_matmul(net: Network, op: Op, p: MatmulParams) -> None:
    """BATCH_MATMUL of rank 3. An operand that all products share makes them one taller product."""
    a, b = op.inputs[0], op.inputs[-1]
    tensor = net.workload.tensor
    left, right = tensor[a].elements, tensor[b].elements
    batch, rows = p.batch, p.m
    if batch > 1 and right == p.k * p.n and left == batch * p.m * p.k:
        batch, rows = 1, batch * p.m
    first = net.read(op, a, (left // (rows * p.k), rows, p.k) if left % (rows * p.k) == 0 else (batch, rows, p.k))
    second = _second(net, op, b, batch, p) if not (net.alone and right != batch * p.k * p.n) else None
    if second is None:  # a lone operator whose second operand is written with the shape of the first
        second = net.values[b] = net.inputs[b] = net.model.activation(b, (batch, p.k, p.n), net.result_quant(op, b))
    made = net.step(op, "BATCH_MATMUL", [first, second], (batch, rows, p.n), net.result_quant(op))
    net.finish(op, activated(net, op, made, op.activation))


def _second(net: Network, op: Op, name: str, batch: int, p: MatmulParams) -> Ref:
    return net.read(op, name, (batch, p.k, p.n))


def emit_softmax(net: Network, op: Op, p: VectorParams) -> None:
    """SOFTMAX along the last axis of memory."""
    if p.function != "softmax" or not p.innermost:
        raise cannot(op, f"{p.function} over an outer axis")
    shape = few_axes(memory_shape(net.workload.tensor[op.inputs[0]], net.order(op)))
    made = net.step(op, "SOFTMAX", [net.read(op, op.inputs[0], shape)], shape, SOFTMAX, {"Beta": 1.0})
    net.finish(op, made)


def emit_vector(net: Network, op: Op, p: VectorParams) -> None:
    """Reductions and norms."""
    if op.kind is OpKind.REDUCE:
        _reduce(net, op, p)
    else:
        _norm(net, op, p)


def _reduce(net: Network, op: Op, p: VectorParams) -> None:
    shape = memory_shape(net.workload.tensor[op.inputs[0]], net.order(op))
    axes = net.numbers.attribute(op, "axes") or reduced_axes(net, op, p)
    data = net.read(op, op.inputs[0])
    kind = REDUCERS.get(p.function)
    if kind is None:
        raise cannot(op, f"reduction {p.function}")
    out = tuple(1 if i in axes else d for i, d in enumerate(shape))
    quant = data.quant if kind.startswith("REDUCE") else net.result_quant(op)
    made = net.step(op, kind, [data, net.model.ints(axes)], out, quant, {"KeepDims": True})
    net.finish(op, activated(net, op, made, op.activation))


def reduced_axes(net: Network, op: Op, p: VectorParams) -> tuple[int, ...]:
    """Axes in memory order that a reduction runs over, told by its shapes: their product is the vectors' length.

    Of several choices the one that agrees with `innermost` counts. Raises CostModelError when none fits.
    """
    tensor = net.workload.tensor[op.inputs[0]]
    order = order_of(len(tensor.shape), net.order(op))
    output = [d for d in net.workload.tensor[op.outputs[0]].shape if d != 1]
    wide = [i for i in range(len(order)) if tensor.shape[order[i]] != 1]
    found: list[tuple[int, ...]] = []
    for count in range(len(wide) + 1):
        for axes in combinations(reversed(wide), count):
            onnx = {order[i] for i in axes}
            left = [d for a, d in enumerate(tensor.shape) if a not in onnx and d != 1]
            if prod(tensor.shape[a] for a in onnx) == p.length and left == output:
                found.append(tuple(sorted(axes)) or (len(order) - 1,))
    if not found:
        raise cannot(op, f"no axes of {tensor.shape} have {p.length} elements")
    return next((axes for axes in found if (wide[-1:] == [axes[-1]]) is p.innermost), found[0])


def _norm(net: Network, op: Op, p: VectorParams) -> None:
    """x - mean, over the root of the mean square, times scale, plus shift; what of it the norm has.

    layer, instance, group: all; rms: no mean and no shift; batch: only scale and shift, the rest is folded into them.
    """
    shape, axes, channel = _norm_shape(net, op, p)
    data = net.read(op, op.inputs[0], shape)
    quant = net.result_quant(op)
    if p.function != "batch_norm":
        centred = data if p.function == "rms_norm" else binary(net, op, "SUB", data, _mean(net, op, data, axes), quant)
        spread = _mean(net, op, binary(net, op, "MUL", centred, centred, quant), axes)
        eps = binary(net, op, "ADD", spread, scalar(net, op, spread, EPSILON), quant)
        data = binary(net, op, "MUL", centred, net.step(op, "RSQRT", [eps], eps.shape, quant), quant)
    names = (*op.weights, "", "")
    data = binary(net, op, "MUL", data, _factor(net, op, names[0], channel), quant)
    if p.function != "rms_norm":
        data = binary(net, op, "ADD", data, _factor(net, op, names[1], channel), quant)
    net.finish(op, activated(net, op, data, op.activation))


def _norm_shape(net: Network, op: Op, p: VectorParams) -> tuple[Shape, tuple[int, ...], Shape]:
    """Shape to work in, axes of the means in it, and the shape of scale and shift."""
    shape = memory_shape(net.workload.tensor[op.inputs[0]], net.order(op))
    if p.function == "batch_norm":
        shape = few_axes(shape)
        return shape, (), (1,) * (len(shape) - 1) + shape[-1:]
    if p.function in ("layer_norm", "rms_norm"):
        if not p.innermost:
            raise cannot(op, f"{p.function} over an outer axis")
        return (1, p.rows, p.length), (2,), (1, 1, p.length)
    batch, channels = shape[0], shape[-1]
    groups = p.rows // batch
    if p.innermost or channels % groups:
        return (1, p.rows, p.length), (2,), (1, p.rows, 1)
    each, positions = channels // groups, prod(shape[1:-1])
    if each == 1:
        return (batch, positions, channels), (1,), (1, 1, channels)
    return (batch, positions, groups, each), (1, 3), (1, 1, groups, each)


def _mean(net: Network, op: Op, data: Ref, axes: tuple[int, ...]) -> Ref:
    out = tuple(1 if i in axes else d for i, d in enumerate(data.shape))
    return net.step(op, "MEAN", [data, net.model.ints(axes)], out, net.result_quant(op), {"KeepDims": True})


def _factor(net: Network, op: Op, name: str, shape: Shape) -> Ref:
    values, quant = net.numbers.constant(op, name, shape)
    return net.constant(op, values, quant)
