"""The NPU's cycles where images are odd: few channels, one row, one position, one channel a filter, parts of an image.

The reference is Vela 5.2.0, of whole chains of operators where maps between them matter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from h4hc.cost import device_rejection
from h4hc.costtypes import DeviceModel
from h4hc.workload import ConvParams, MoveParams, OpKind, PoolParams, Workload
from targets.ethos_u.device import EthosU
from targets.ethos_u.vendor.estimates import network_estimate, operator_estimate
from tests.targets.cost_sources import npu as sourced
from tests.targets.vela_layers import conv_workload, inside, npu, one_op

MACHINES = (("ethos-u55-256", "Sram_Only"), ("ethos-u55-128", "Sram_Only"), ("ethos-u55-32", "Sram_Only"))
REACHED = 0.01
REACHED_TINY = 0.03  # under a thousand cycles, where a burst more shows


def _chain(*links: Workload) -> Workload:
    """Operators of one input and one output, one behind the other."""
    ops, tensors, read = [], [replace(links[0].tensor["x0"], name="x")], "x"
    for number, link in enumerate(links):
        names = {"x0": read, "y": f"y{number}", "w": f"w{number}"}
        ops.append(
            replace(
                link.ops[0],
                id=f"op{number}",
                inputs=(read,),
                outputs=(names["y"],),
                weights=tuple(names[w] for w in link.ops[0].weights),
            )
        )
        tensors += [replace(t, name=names[t.name]) for t in link.tensors if t.name != "x0"]
        read = names["y"]
    return Workload("chain", "as stored", tuple(ops), tuple(tensors), ("x",), (read,))


def _errors(workload: Workload, device: DeviceModel) -> Iterable[tuple[str, float, int]]:
    """Operator, our cycles over the tool's - 1, the tool's, in a network."""
    assert isinstance(device, EthosU)
    told = dict(network_estimate(device.spec, workload).by_op)
    for op in workload.ops:
        assert device_rejection(op, device, workload) is None, op.id
        yield op.id, device.cost(op, device.modes()[0], workload).cycles / told[op.id].total - 1, told[op.id].total


def _depthwise(channels: int, size: tuple[int, ...], kernel: tuple[int, ...]) -> Workload:
    return conv_workload(channels, channels, size, kernel, groups=channels)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("channels", [2, 3, 5, 7, 8])
def test_an_image_of_few_channels_lies_in_bricks_to_model_and_tool_alike(
    machine: tuple[str, str], channels: int
) -> None:
    """Between convolutions. What the tool is asked of one operator must be what it says of it in the network."""
    device = npu(machine[0], "", machine[1])
    assert isinstance(device, EthosU)
    middle = _depthwise(channels, (56, 56), (3, 3))
    chain = _chain(conv_workload(16, channels, (56, 56), (1, 1)), middle, conv_workload(channels, 16, (56, 56), (3, 3)))
    for op, error, _ in _errors(chain, device):
        assert abs(error) <= REACHED, op
    told = dict(network_estimate(device.spec, chain).by_op)["op1"].total
    alone = inside(middle)
    assert operator_estimate(device.spec, alone.ops[0], alone).cycles.total == told


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("length", "channels", "kernel"), [(1000, 64, 5), (4000, 8, 9), (1000, 17, 3)])
def test_rows_of_one_spatial_axis_lie_in_bricks_too(
    machine: tuple[str, str], length: int, channels: int, kernel: int
) -> None:
    device, size = npu(machine[0], "", machine[1]), (length,)
    links = [_depthwise(channels, size, (kernel,)), conv_workload(channels, 32, size, (kernel,))]
    chain = _chain(conv_workload(16, channels, size, (3,)), *links, conv_workload(32, 16, size, (1,)))
    for op, error, _ in _errors(chain, device):
        assert abs(error) <= REACHED, op


def _pool(size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], channels: int) -> Workload:
    out = tuple((n - k) // s + 1 for n, k, s in zip(size, kernel, stride, strict=True))
    params = PoolParams("pool", "max", 1, channels, kernel, stride, (0,) * 4, size, out)
    return one_op(OpKind.POOL, params, (1, channels, *size), (1, channels, *out))


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "channels"),
    [
        ((7, 33), (5, 7), (4, 1), 8),
        ((5, 56), (3, 2), (4, 1), 33),
        ((14, 5), (1, 2), (1, 4), 8),
        ((5, 7), (4, 5), (4, 1), 8),
    ],
)
def test_a_long_stride_along_an_axis_of_one_position_is_none(
    machine: tuple[str, str], size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], channels: int
) -> None:
    """One pass, not one for each position: up to seven times as fast."""
    device, workload = npu(machine[0], "", machine[1]), _pool(size, kernel, stride, channels)
    assert isinstance(device, EthosU)
    op = workload.ops[0]
    told = operator_estimate(device.spec, op, workload).cycles.total
    assert device.cost(op, device.modes()[0], workload).cycles == pytest.approx(told, rel=REACHED_TINY)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("outs", "size", "kernel"), [(8, 56, 3), (96, 28, 3), (24, 100, 5)])
def test_filters_of_one_channel_are_a_convolution(machine: tuple[str, str], outs: int, size: int, kernel: int) -> None:
    """Several filters of a depthwise layer that all read the one channel: it is fetched once, not once a filter."""
    device = npu(machine[0], "", machine[1])
    assert isinstance(device, EthosU)
    workload = conv_workload(1, outs, (size, size), (kernel, kernel), kind=OpKind.DEPTHWISE)
    op = workload.ops[0]
    assert isinstance(op.params, ConvParams)
    told = operator_estimate(device.spec, op, workload).cycles.total
    assert device.cost(op, device.modes()[0], workload).cycles == pytest.approx(told, rel=REACHED)


@pytest.mark.parametrize("parts", [1, 2])
def test_a_part_of_an_inner_image_is_not_refused_because_its_neighbour_could_read_it_in_its_place(parts: int) -> None:
    """The tool schedules nothing for a slice between operators that read it in its place; asked of it alone, a copy."""
    whole, part = (1, 32, 28, 28), (1, 16, 28, 28)
    function = "slice" if parts == 1 else "split"
    workload = one_op(OpKind.MOVE, MoveParams("move", function, 32 * 28 * 28), whole, part)
    names = tuple(f"y{i}" for i in range(parts))
    made = (replace(workload.tensor["y"], name=name) for name in names)
    op = replace(workload.ops[0], outputs=names)
    inner = inside(replace(workload, ops=(op,), tensors=(workload.tensor["x0"], *made), outputs=names))
    cycles = []
    for device in (sourced("model"), sourced("vela")):
        assert device_rejection(op, device, inner) is None
        cycles.append(device.cost(op, device.modes()[0], inner).cycles)
    assert cycles[0] == pytest.approx(cycles[1], rel=0.02)
