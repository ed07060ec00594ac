"""Costs with the vendor's cycles in the place of the model's: what `--npu-cost vela` asks.

Latency: the vendor's estimate of the operator by itself, lane by lane. Energy: the model's, since the vendor has none,
for as many cycles as the vendor says.
The bounds are those of `calibration`, which says how far silicon was from such estimates.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from h4hc.costtypes import CLOCK, ZERO, Bound, Cost, DeviceModel, Interval, Mode, Rule, Term, Violation
from h4hc.errors import CostModelError
from h4hc.quantity import at_clock
from h4hc.workload import MoveParams, Op, OpKind, Workload
from targets.ethos_u.axes import transposition
from targets.ethos_u.cost import clock_term
from targets.ethos_u.device import EthosU
from targets.ethos_u.vendor.estimates import likeness, operator_estimate
from targets.ethos_u.vendor.oracle import Cycles, Estimate
from targets.ethos_u.vendor.tool import PACKAGE, VERSION, regor

MODEL = "ethos_u.vendor"  # what a cost says it was made with
MARK = "vendor"
RESOURCES = ("mac_array", "sram", "flash")  # of the array, of SRAM, and of what is behind the second port
WAIT = "wait"


@dataclass(frozen=True)
class VendorCosts:
    """Answers of the vendor's compiler for one NPU, each asked for once. Raises MissingToolError where it is made."""

    device: EthosU
    _known: dict[tuple[object, ...], Estimate] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        """Tool and version, as they go into the identity of a system."""
        return f"{PACKAGE} {VERSION}"

    def rules(self) -> tuple[Rule, ...]:
        """What the tool leaves to the host does not run here, whatever the other rules say."""
        sentence = "the vendor's compiler maps the operator to the NPU"
        return (Rule("ethos_u.vendor", sentence, self._left, frozenset(OpKind)),)

    def _left(self, op: Op, workload: Workload) -> Violation | None:
        if _is_free(op, workload):
            return None
        try:
            found = self._ask(op, workload)
        except CostModelError as error:
            return Violation(error.problems[0].why or error.problems[0].what, "a TFLite operator", "")
        if not found.steps:
            return Violation("nothing is scheduled for it", "a step of the NPU")
        if found.cpu_ops:
            return Violation(f"{found.cpu_ops} of its steps left to the host", "none")
        return None

    def cost(self, op: Op, mode: Mode, workload: Workload) -> Cost:
        """Cost of an operator that passes the rules."""
        base = self.device.cost(op, mode, workload)
        if _is_free(op, workload):
            return base  # by itself the tool would copy it; in a network it moves nothing
        return priced(self.device, base, self._ask(op, workload).cycles)

    def _ask(self, op: Op, workload: Workload) -> Estimate:
        key = likeness(op, workload)
        if key not in self._known:
            self._known[key] = operator_estimate(self.device.spec, op, workload)
        return self._known[key]


def _is_free(op: Op, workload: Workload) -> bool:
    """A view, or a transpose that only exchanges axes of length one."""
    p = op.params
    if not isinstance(p, MoveParams) or op.rescales:
        return False
    if op.kind is OpKind.MOVE and p.function == "transpose":
        _, perm = transposition(op, p, workload)
        return perm == tuple(range(len(perm)))
    return op.kind is OpKind.VIEW


def vendor_costs(device: DeviceModel) -> VendorCosts:
    """For a device of this family. Raises MissingToolError (exit 10) without the extra."""
    assert isinstance(device, EthosU), device.name
    regor()
    return VendorCosts(device)


def priced(device: EthosU, base: Cost, cycles: Cycles) -> Cost:
    """`base` with the vendor's cycles: each lane in parallel, and what the total is above the longest as a wait."""
    spec = device.spec

    def time(count: int) -> Interval:
        return at_clock(spec.calibration.times(count), spec.clock_hz)

    left = dict(zip(RESOURCES, (cycles.npu, cycles.sram, cycles.dram + cycles.flash), strict=True))
    longest = max(left.values())
    terms = []
    for term in base.terms:
        if term.resource == CLOCK:
            terms.append(clock_term(spec, spec.calibration.times(cycles.total)))
            continue
        lane = left.pop(term.resource, 0) if term.role == "parallel" else 0
        terms.append(replace(term, latency=time(lane) if lane else ZERO))
    terms += [Term(resource, "parallel", time(count), ZERO, resource) for resource, count in left.items() if count]
    terms.append(Term(WAIT, "serial", time(max(0, cycles.total - longest)), ZERO, "sram"))
    kept = tuple(t for t in terms if t.latency != ZERO or t.energy != ZERO)
    return Cost.from_terms(
        base.mode,
        kept,
        cycles=max(1, round(spec.calibration.value * cycles.total)),
        bound=Bound.COMPUTE if cycles.npu * 2 >= cycles.total else Bound.MEMORY,
        bytes_moved=base.bytes_moved,
        model=MODEL,
        marks=tuple(sorted({*base.marks, MARK})),
        clock_hz=spec.clock_hz,
    )
