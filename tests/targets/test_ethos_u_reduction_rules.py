"""Which reductions and products of activations the NPU runs, each kind of them inside and outside of its rule."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest

from h4hc.cost import device_rejection
from h4hc.target_file import load_system
from h4hc.workload import Layout, MatmulParams, OpKind, VectorParams, Workload
from targets.ethos_u.axes import order_of
from targets.ethos_u.device import EthosU
from targets.ethos_u.vendor.estimates import operator_estimate
from tests.targets import samples
from tests.targets.vela_layers import one_op

NPU = load_system("npu").device("npu")
IMAGE, CHANNELS_LAST = (1, 16, 14, 14), Layout.CHANNELS_LAST


def _reduced(function: str, shape: tuple[int, ...], *axes: int, layout: Layout = Layout.ROW_MAJOR) -> Workload:
    """Over axes of ONNX, which stay as ones."""
    order = order_of(len(shape), layout)
    length = prod(shape[axis] for axis in axes)
    innermost = set(order[len(order) - len(axes) :]) == set(axes)
    params = VectorParams("vector", function, prod(shape) // length, length, innermost)
    out = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return one_op(OpKind.REDUCE, params, shape, out, layout=layout)


def _reduction_of(length: int) -> Workload:
    """Maxima of vectors of a length that is none of the axes'."""
    workload = samples.vector(OpKind.REDUCE, "max", 8, 64)
    params = VectorParams("vector", "max", 8, length)
    return replace(workload, ops=(replace(workload.ops[0], params=params),))


def _matmul(batch: int, left: tuple[int, ...], right: tuple[int, ...]) -> Workload:
    """Products of 16 x 32 and 32 x 24."""
    params = MatmulParams("matmul", batch, 16, 32, 24)
    out = (batch, 16, 24)
    return one_op(OpKind.MATMUL, params, left, out, second_shape=right, inputs=2, layout=Layout.ROW_MAJOR)


CASES: list[tuple[str, Workload, str]] = [
    ("mean over the channels of an image", _reduced("mean", IMAGE, 1, layout=CHANNELS_LAST), "mean_window"),
    ("mean over axis 1 of an image, row-major", _reduced("mean", IMAGE, 1), ""),
    ("mean over the last axis of an image", _reduced("mean", IMAGE, 3), "mean_window"),
    ("mean over channels and rows", _reduced("mean", IMAGE, 1, 2, layout=CHANNELS_LAST), "mean_window"),
    ("mean over all of an image", _reduced("mean", IMAGE, 1, 2, 3, layout=CHANNELS_LAST), "mean_window"),
    ("mean over all of an image, row-major", _reduced("mean", IMAGE, 1, 2, 3), "mean_window"),
    ("mean over channels of one row", _reduced("mean", (1, 16, 1, 14), 1, layout=CHANNELS_LAST), ""),
    ("mean over channels of one column", _reduced("mean", (1, 16, 14, 1), 1, layout=CHANNELS_LAST), ""),
    ("mean over all of one channel", _reduced("mean", (1, 1, 14, 14), 1, 2, 3, layout=CHANNELS_LAST), ""),
    ("mean over the last axis of three", _reduced("mean", (16, 14, 12), 2), "mean_window"),
    ("mean over the last axis of one row", _reduced("mean", (1, 14, 12), 2), ""),
    ("mean over the first axis of three", _reduced("mean", (16, 14, 12), 0), ""),
    ("mean over an axis of 4095 of two", _reduced("mean", (1, 16, 1, 4095), 1, 3), ""),
    ("mean over an axis of 4097 of two", _reduced("mean", (1, 16, 1, 4097), 1, 3), "mean"),
    ("mean beside an axis of 4096", _reduced("mean", (1, 16, 1, 4096), 1), ""),
    ("sum over one axis", _reduced("sum", IMAGE, 3), ""),
    ("sum over two axes", _reduced("sum", IMAGE, 2, 3), "reduction"),
    ("maximum over two axes", _reduced("max", IMAGE, 1, 3), ""),
    ("maximum over the images of a batch", _reduced("max", (3, 16, 14, 14), 0), ""),
    ("vectors of no whole axes", _reduction_of(48), "reduction"),
    ("maximum over an axis of 1", _reduced("max", (1, 1, 14, 14), 1), "reduction"),
    ("mean over an axis of 1", _reduced("mean", (1, 16, 1, 14), 2), "reduction"),
    ("sum over the last axis, of 1", _reduced("sum", (1, 14, 1), 2), "reduction"),
    ("layer norm of vectors of 1", samples.vector(OpKind.NORM, "layer_norm", 8, 1), "norm"),
    ("instance norm of one position", samples.image_norm("instance_norm", (1, 16, 1, 1)), "norm"),
    ("products that share the second operand", _matmul(6, (2, 3, 16, 32), (32, 24)), ""),
    ("products that share the first operand", _matmul(6, (16, 32), (2, 3, 32, 24)), ""),
    ("products that share an operand in part", _matmul(6, (2, 3, 16, 32), (2, 1, 32, 24)), "matmul"),
    ("products that share each an operand", _matmul(6, (2, 1, 16, 32), (1, 3, 32, 24)), "matmul"),
    ("group norm of batch 2", samples.image_norm("group_norm", (2, 16, 14, 14)), "norm"),
]


@pytest.mark.parametrize(("workload", "code"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_rule(workload: Workload, code: str) -> None:
    rejection = device_rejection(workload.ops[0], NPU, workload)
    assert (rejection.code if rejection else "") == (f"ethos_u.{code}" if code else "")
    if rejection is None:
        assert NPU.cost(workload.ops[0], NPU.modes()[0], workload).latency.low > 0
    else:
        assert rejection.value
        assert rejection.limit


def test_the_tool_reduces_the_axis_that_the_model_counts() -> None:
    """Of three axes that are as long, the one that the result keeps as a one; each costs something else."""
    assert isinstance(NPU, EthosU)
    seen = set()
    for axis in (1, 2, 3):
        workload = _reduced("max", (1, 16, 16, 16), axis)
        told = operator_estimate(NPU.spec, workload.ops[0], workload).cycles.total
        cycles = NPU.cost(workload.ops[0], NPU.modes()[0], workload).cycles
        assert cycles == pytest.approx(told, rel=0.005)
        seen.add(told)
    assert len(seen) == 3


@pytest.mark.slow
def test_means_are_refused_where_the_tool_leaves_them_to_the_host() -> None:
    """Every mean of the list: on the NPU by the tool as by the rules. (Of 4096 its report says no, and it does it.)"""
    assert isinstance(NPU, EthosU)
    seen = set()
    for name, workload, code in CASES:
        if name.startswith("mean") and code != "reduction":
            told = operator_estimate(NPU.spec, workload.ops[0], workload)
            assert (told.cpu_ops > 0) == bool(code), name
            seen.add(code)
    assert seen == {"", "mean", "mean_window"}
