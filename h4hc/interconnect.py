"""What lies between the devices of a system: cache maintenance, copies, layout changes, border quantisation, switches.

All devices reach one SRAM, so handing a tensor over copies nothing, unless `[link]` says that a device has a memory
of its own. The host has a data cache: lines are cleaned before another device reads, invalidated before the host
reads what another device wrote. Layout changes and border (de)quantisation cost what the device that does them
answers for such an operator, so they follow `--set` like everything else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from h4hc.costtypes import ZERO, Cost, DeviceModel
from h4hc.quantity import Quantity, quantities, whole
from h4hc.system import HOST, MoveStep, Switch
from h4hc.system_spec import SystemSpec
from h4hc.units import PS_PER_S, ceil_div
from h4hc.workload import ElementwiseParams, Layout, MoveParams, Op, OpKind, OpParams, Tensor, Workload

PS_PER_NS = 1000
PS_PER_US = 1000_000


_WIDTH_BYTES = {  # element types that ONNX stores; anything else is as wide as the widest
    **dict.fromkeys(("bool", "int8", "uint8", "float8e4m3fn", "float8e5m2"), 1),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 2),
    **dict.fromkeys(("float32", "float", "int32", "uint32"), 4),
}
_WIDEST_BYTES = 8


class SharedMemoryInterconnect:
    """Interconnect of a system whose devices share one SRAM; see the module's text."""

    def __init__(self, spec: SystemSpec, devices: tuple[DeviceModel, ...]) -> None:
        self._spec = spec
        self._devices = {d.name: d for d in devices}

    def switch(self, device: str) -> Switch:
        """Entry and return of one stay; the host costs nothing, it is where everything starts."""
        if device == HOST:
            return Switch(HOST, ZERO, ZERO, ())
        spec = self._spec.switch[device]
        marks = _marks(spec.latency, spec.energy)
        return Switch(device, whole(spec.latency.times(PS_PER_US)), whole(spec.energy.times(1)), marks)

    def moves(self, tensor: Tensor, src: str, dst: str, have: Layout, want: Layout) -> tuple[MoveStep, ...]:
        """Steps that bring `tensor` from `src` in order `have` to `dst` in order `want`, in the order of execution."""
        if tensor.size_bytes == 0:
            return ()
        steps = self._copies(tensor, src, dst)
        if _orders_differ(tensor, have, want):
            work = _reordering(tensor, have, want)
            engine = self._layout_engine(work, src, dst)
            steps += self._cache(tensor, src, engine)
            steps.append(self._reorder(tensor, work, src, dst, engine))
            steps += self._cache(tensor, engine, dst)
        else:
            steps += self._cache(tensor, src, dst)
        return tuple(steps)

    def border(self, tensor: Tensor, direction: Literal["quantize", "dequantize"]) -> tuple[MoveStep, ...]:
        """The host's conversion of a model input or output that is stored in another type than it is planned in."""
        if tensor.size_bytes == 0 or tensor.stored_dtype == tensor.dtype:
            return ()
        return (self._convert(tensor, direction),)

    def summary(self) -> tuple[tuple[str, str], ...]:
        """Names, as `--set` takes them, and values for `targets show`."""
        spec = self._spec
        link = ", ".join(spec.link.devices) or "none: all devices share the SRAM"
        plain = [
            ("sram.size_bytes", f"{spec.shared.sram.size_bytes} B"),
            ("cache.line_bytes", f"{spec.cache.line_bytes} B"),
            ("link.devices", link),
        ]
        return tuple(plain + [(path.removeprefix("shared."), q.text()) for path, q in quantities(spec)])

    def _copies(self, tensor: Tensor, src: str, dst: str) -> list[MoveStep]:
        """One copy for each end of the way that lies behind the link: t = setup + bytes / bandwidth."""
        link = self._spec.link
        if src == dst:
            return []
        low, nominal, high = link.bandwidth.divide(tensor.size_bytes * PS_PER_S)
        setup = whole(link.setup.times(PS_PER_NS))
        latency = whole((low, nominal, high)) + setup
        energy = whole(link.energy.times(tensor.size_bytes))
        marks = _marks(link.bandwidth, link.setup, link.energy)
        behind = [d for d in (src, dst) if d in link.devices]
        return [MoveStep("transfer", "dma", tensor.size_bytes, latency, energy, marks) for _ in behind]

    def _cache(self, tensor: Tensor, src: str, dst: str) -> list[MoveStep]:
        """Clean what the host wrote, or invalidate what it will read: a call and so much a line, time and energy."""
        if src == dst or HOST not in (src, dst):
            return []
        cache = self._spec.cache
        per_line = cache.clean_per_line if src == HOST else cache.invalidate_per_line
        lines = ceil_div(tensor.size_bytes, cache.line_bytes)
        latency = whole(cache.call.times(PS_PER_NS)) + whole(per_line.times(lines * PS_PER_NS))
        energy = whole(cache.call_energy.times(1)) + whole(cache.energy_per_line.times(lines))
        marks = _marks(cache.call, per_line, cache.call_energy, cache.energy_per_line)
        return [MoveStep("cache", HOST, tensor.size_bytes, latency, energy, marks)]

    def _layout_engine(self, work: tuple[Op, Workload], src: str, dst: str) -> str:
        """The device at either end that runs this transpose and is not the host, else the host."""
        op, workload = work
        for name in (dst, src):
            device = self._devices[name]
            if name != HOST and not _refused(device, op, workload):
                return name
        return HOST

    def _reorder(self, tensor: Tensor, work: tuple[Op, Workload], src: str, dst: str, engine: str) -> MoveStep:
        """A layout change, costed as the transpose operator of its engine.

        When neither end can do it, a stay on one device is interrupted: the host must be woken and the device
        started again, so the step carries one more switch.
        """
        cost = self._ask(engine, *work)
        latency, energy, marks = cost.latency, cost.energy, set(cost.marks)
        if engine not in (src, dst) and src == dst:
            switch = self.switch(dst)
            latency, energy, marks = latency + switch.latency, energy + switch.energy, marks | set(switch.marks)
        return MoveStep("layout", engine, tensor.size_bytes, latency, energy, tuple(sorted(marks)))

    def _convert(self, tensor: Tensor, kind: Literal["quantize", "dequantize"]) -> MoveStep:
        """Border conversion between stored and planned element type, on the host."""
        params = ElementwiseParams("elementwise", kind, tensor.elements, 1)
        stored_bytes = tensor.elements * _WIDTH_BYTES.get(tensor.stored_dtype, _WIDEST_BYTES)
        op, workload = _synthetic(tensor, OpKind.QUANTIZE, params, tensor.stored_dtype, stored_bytes)
        cost = self._ask(HOST, op, workload)
        return MoveStep(kind, HOST, tensor.size_bytes, cost.latency, cost.energy, cost.marks)

    def _ask(self, name: str, op: Op, workload: Workload) -> Cost:
        device = self._devices[name]
        return device.cost(op, device.modes()[0], workload)


def _marks(*used: Quantity) -> tuple[str, ...]:
    return tuple(sorted({q.mark for q in used}))


def _orders_differ(tensor: Tensor, have: Layout, want: Layout) -> bool:
    """Whether two orders put the bytes in different places: not with one channel, nor with one position."""
    if have == want or len(tensor.shape) < 3:
        return False
    positions = 1
    for dim in tensor.shape[2:]:
        positions *= dim
    return tensor.shape[1] > 1 and positions > 1


def _reordering(tensor: Tensor, have: Layout, want: Layout) -> tuple[Op, Workload]:
    """A layout change as an operator: every axis keeps its name, the bytes go from one order of memory to the other."""
    params = MoveParams("move", "transpose", tensor.elements, tuple(range(len(tensor.shape))))
    op, _ = _synthetic(tensor, OpKind.MOVE, params, tensor.dtype)
    before, after = replace(tensor, layout=have), replace(tensor, name=f"{tensor.name} reordered", layout=want)
    op = replace(op, outputs=(after.name,), layout=have)
    return op, Workload("", "as stored", (op,), (before, after), (before.name,), (after.name,))


def _refused(device: DeviceModel, op: Op, workload: Workload) -> bool:
    rules = (r for r in device.rules() if r.kinds is None or op.kind in r.kinds)
    return any(r.check(op, workload) is not None for r in rules)


def _synthetic(
    tensor: Tensor, kind: OpKind, params: OpParams, dtype: str, input_bytes: int | None = None
) -> tuple[Op, Workload]:
    """A one-operator workload tensor -> tensor, to ask a device what such work costs."""
    op = Op(
        id=f"{kind} of {tensor.name}",
        kind=kind,
        params=params,
        inputs=(tensor.name,),
        outputs=(tensor.name,),
        weights=(),
        origin=(tensor.name,),
        op_types=(),
        dtype=dtype,
        macs=0,
        weight_bytes=0,
        input_bytes=tensor.size_bytes if input_bytes is None else input_bytes,
        output_bytes=tensor.size_bytes,
    )
    return op, Workload("", "as stored", (op,), (tensor,), (tensor.name,), (tensor.name,))
