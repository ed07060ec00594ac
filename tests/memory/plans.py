"""Random networks with views, element-wise work, copies in another layout and weights, and a schedule of each."""

from __future__ import annotations

import random

from h4hc.costtypes import ZERO
from h4hc.schedule import Schedule, Step, StepKind
from h4hc.system import System
from h4hc.workload import ElementwiseParams, GenericParams, Layout, MoveParams, Op, OpKind, OpParams, Tensor, Workload
from tests.fake_compilation import FakeDevice, FakeInterconnect

ROW, LAST = Layout.ROW_MAJOR, Layout.CHANNELS_LAST


class SramDevice(FakeDevice):
    """A device that reads its weights from the SRAM."""

    def weights_in_sram(self) -> bool:
        return True


def small_system(sram_bytes: int = 1 << 20, line_bytes: int = 16) -> System:
    """`fast` reads weights from the SRAM, `host` does not."""
    devices = (SramDevice("fast", 64, 200), FakeDevice("host", 1, 10))
    return System("small", "for tests", "ab" * 32, devices, FakeInterconnect(), sram_bytes, (), line_bytes)


def tensor(name: str, size: int, layout: Layout = ROW) -> Tensor:
    """int8, 1 x size."""
    return Tensor(name, (1, size), "int8", "int8", size, layout)


def op(
    name: str,
    kind: OpKind,
    inputs: tuple[str, ...],
    output: str,
    layout: Layout | None = None,
    weights: tuple[str, ...] = (),
) -> Op:
    """An operator with one output; its byte counts play no part here."""
    params: OpParams = GenericParams("generic", "Test", "", 1)
    if kind is OpKind.VIEW:
        params = MoveParams("move", "reshape", 1)
    elif kind in (OpKind.ELEMENTWISE, OpKind.ACTIVATION):
        params = ElementwiseParams("elementwise", "add", 1, len(inputs))
    return Op(name, kind, params, inputs, (output,), weights, (name,), ("Test",), "int8", 0, 0, 0, 0, layout)


def steps_of(workload: Workload, devices: dict[str, str]) -> Schedule:
    """The operators in order; a layout step before each that wants an input in the layout it has not."""
    steps: list[Step] = []
    seen: set[tuple[str, str]] = set()

    def add(kind: StepKind, device: str, subject: str) -> None:
        steps.append(Step(len(steps), kind, device, subject, "", (), 0, 0, ZERO, ZERO))

    for name in workload.inputs:
        add("quantize", "host", name)
    for one in workload.ops:
        device = devices[one.id]
        wanted = one.layout or workload.tensor[one.inputs[0]].layout
        for name in dict.fromkeys(one.inputs):
            if workload.tensor[name].layout is not wanted and (name, device) not in seen:
                seen.add((name, device))
                add("layout", device, name)
            add("cache", "host", name)
        add("op", device, one.id)
    for name in workload.outputs:
        if workload.tensor[name].layout is LAST:
            add("layout", "host", name)
    return Schedule(tuple(steps), ())


def random_plan(seed: int, most: int) -> tuple[Workload, Schedule]:
    """A network of up to `most` operators on two devices."""
    rng = random.Random(seed)
    sizes = [8, 24, 24, 24, 100]
    tensors = [tensor("x", rng.choice(sizes)), tensor("w0", 40), tensor("w1", 3)]
    made = ["x"]
    ops: list[Op] = []
    layouts = {"x": ROW}
    for at in range(rng.randint(1, most)):
        kind = rng.choice([OpKind.VIEW, OpKind.ELEMENTWISE, OpKind.ACTIVATION, OpKind.CONV, OpKind.SOFTMAX])
        inputs = tuple(rng.choice(made[-4:]) for _ in range(2 if kind is OpKind.ELEMENTWISE else 1))
        first = next(t for t in tensors if t.name == inputs[0])
        layout = rng.choice([ROW, LAST]) if kind is OpKind.CONV else None
        same = kind in (OpKind.VIEW, OpKind.ACTIVATION) or (kind is OpKind.ELEMENTWISE and rng.random() < 0.8)
        order = layout or layouts[inputs[0]]
        name = f"t{at}"
        tensors.append(tensor(name, first.size_bytes if same else rng.choice(sizes), order))
        layouts[name] = order
        weights = (rng.choice(["w0", "w1"]),) if kind is OpKind.CONV else ()
        ops.append(op(f"op{at}", kind, inputs, name, layout, weights))
        made.append(name)
    read = {name for one in ops for name in one.inputs}
    outputs = tuple(n for n in made[1:] if n not in read or rng.random() < 0.1) or (made[-1],)
    workload = Workload("random", "as stored", tuple(ops), tuple(tensors), ("x",), outputs)
    return workload, steps_of(workload, {one.id: rng.choice(["fast", "host"]) for one in ops})
