"""Where the NPU's costs come from: `--npu-cost model | vela | FILE.json | FILE.csv`.

model  the analytic model of the device's family, unchanged.
vela   the vendor's compiler, asked for each operator by itself in this process; an optional extra.
JSON   a calibration (`h4hc targets calibrate`): model * ratio, with the spread of its residuals as interval.
CSV    a table of measured layers: an operator in it takes its measured figures, the others the model times the ratio
       that the table's layers of their kind show.
What was chosen, with the version or the sha256 of the file, is part of the system's own sha256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from h4hc import registry
from h4hc.calibration import KindFit, Pair, fit, fit_problems, parse_calibration
from h4hc.cost import device_rejection
from h4hc.costtypes import DeviceModel
from h4hc.diagnostics import Diagnostic
from h4hc.errors import H4hcError, Problem, UserError
from h4hc.files import read_file
from h4hc.layer_table import LayerRow
from h4hc.sourced_devices import ScaledDevice, Scaling, TableDevice, VendorCosts, VendorDevice
from h4hc.vendor_names import NPU_FAMILY, Config, configured, npu
from h4hc.workload import Workload

if TYPE_CHECKING:
    from h4hc.measured import Measured

MODEL, VENDOR = "model", "vela"
OPTION = "npu-cost"
CHECK_UNITS = "check the units and figures of these rows"
SHOWN_ROWS = 5
SHOWN_SHA = 16  # hex digits for people; the identity has all
# columns of a table -> what they say in the summary of a device
FACTS = {"accel": ("product", "macs"), "sysconf": ("clock_hz",), "memmode": ("memory_mode",)}


@dataclass(frozen=True)
class Sourced:
    """Devices of a system, its NPUs with their costs from another source.

    identity: what goes into the system's sha256; shown: the same for people.
    """

    devices: tuple[DeviceModel, ...]
    identity: str
    shown: str


def with_source(devices: tuple[DeviceModel, ...], choice: str) -> Sourced:
    """The devices of a system with `choice` as cost source of its NPUs.

    Raises UserError for a choice or a file that is wrong, MissingToolError (exit 10) without the vendor's tool.
    """
    npus = [d for d in devices if d.family == NPU_FAMILY]
    if not npus:
        raise UserError(f"--{OPTION} {choice}: the target has no NPU", hint=f"leave it out, or --{OPTION} {MODEL}")
    wrapped: dict[str, DeviceModel] = {}
    if choice == VENDOR:
        wrapped = {d.name: VendorDevice(d, vendor_costs(d)) for d in npus}
        identity = shown = vendor_costs(npus[0]).name
    else:
        path = Path(choice)
        make = {".json": _calibrated, ".csv": _from_table}.get(path.suffix.lower())
        if make is None:
            known = f"known: {MODEL}, {VENDOR}, a calibration .json, a table of measurements .csv"
            raise UserError(f"--{OPTION} {choice!r} is not a cost source", (choice,), known)
        data = read_file(path, f"--{OPTION} file")
        digest = hashlib.sha256(data).hexdigest()
        identity, shown = f"{path.suffix.lower()} {digest}", f"{path.name} sha256 {digest[:SHOWN_SHA]}"
        wrapped = {d.name: make(d, path.name, data) for d in npus}
    return Sourced(tuple(wrapped.get(d.name, d) for d in devices), identity, shown)


def vendor_costs(device: DeviceModel) -> VendorCosts:
    """The vendor's answers for a device. Raises UserError where its family has none, MissingToolError."""
    maker = registry.VENDOR_COSTS.get(device.family)
    if maker is None:
        known = ", ".join(sorted(registry.VENDOR_COSTS))
        raise UserError(f"there is no vendor's tool for {device.name}", (device.family,), f"families with one: {known}")
    answers: VendorCosts = registry.resolve(maker)(device)
    return answers


def remarks(devices: Iterable[DeviceModel], workload: Workload) -> tuple[Diagnostic, ...]:
    """What there is to say of the cost sources for this workload."""
    return tuple(d for device in devices if isinstance(device, ScaledDevice) for d in device.remarks(workload))


def facts(device: DeviceModel) -> tuple[tuple[str, str], ...]:
    """What a calibration of the device depends on: its family, and product, MACs, clock and memory mode of an NPU."""
    told = dict(device.summary())
    names = [name for found in FACTS.values() for name in found if name in told]
    return (("family", device.family), *((name, told[name]) for name in names))


def _calibrated(device: DeviceModel, name: str, data: bytes) -> DeviceModel:
    found = parse_calibration(data, name)
    fitted, mine = dict(found.facts), dict(facts(device))
    problems = [
        Problem(
            f"the calibration is for another device than {device.name}",
            (name, f"facts.{fact}"),
            f"fitted with {fact} {fitted.get(fact, 'unknown')}, used with {mine.get(fact, 'unknown')}",
            f"fit one for this device: h4hc targets calibrate {device.name}",
        )
        for fact in sorted({*fitted, *mine})
        if fitted.get(fact) != mine.get(fact)
    ]
    if problems:
        raise UserError.of(tuple(problems))
    return ScaledDevice(device, Scaling(found.latency_of, found.energy_of, found.source == "measured"))


def _from_table(device: DeviceModel, name: str, data: bytes) -> DeviceModel:
    from h4hc.measured import parse_measured

    rows = timed(applying(parse_measured(data, name), device, name), device, name)
    runs = tuple(row for row in rows if not row.refused)
    refused = tuple(f"{name}:{row.measured.row.line} {row.refused}" for row in rows if row.refused)
    if not runs:
        raise UserError(f"{device.name} runs no layer of the table", (name,), "; ".join(refused[:SHOWN_ROWS]))
    latency, energy = fits(runs, device)
    problems = fit_problems(latency, "latency", name, CHECK_UNITS)
    problems += fit_problems(energy, "energy", name, CHECK_UNITS)
    if problems:
        raise UserError.of(tuple(problems))
    scaling = Scaling({f.kind: f for f in latency}, {f.kind: f for f in energy}, measured=True)
    return TableDevice(device, scaling, {row.measured.key: row.measured for row in runs}, refused)


def applying(rows: Sequence[Measured], device: DeviceModel, name: str) -> tuple[Measured, ...]:
    """Rows that name no configuration, or that of the device.

    Raises what `agreeing` does, and UserError when the rows left contradict each other.
    """
    from h4hc.measured import contradictions

    lines = {row.line for row in agreeing([m.row for m in rows], device, name)}
    kept = tuple(m for m in rows if m.row.line in lines)
    problems = contradictions(kept, name, one_npu=True)
    if problems:
        raise UserError.of(tuple(problems))
    return kept


def agreeing(rows: Sequence[LayerRow], device: DeviceModel, name: str) -> tuple[LayerRow, ...]:
    """Rows that name no configuration, or that of the device.

    Raises UserError for configurations that nobody knows, and for any where the device is no NPU, with their lines;
    and when no row is left.
    """
    agrees: dict[Config, bool] = {}
    problems: list[Problem] = []
    for row in rows:
        config = row.config
        if config in agrees:
            continue
        try:
            agrees[config] = _agrees(config, device)
        except H4hcError as error:
            agrees[config] = False
            problems += [replace(p, where=(f"{name}:{row.line}", *p.where)) for p in error.problems]
    if problems:
        raise UserError.of(tuple(problems))
    kept = tuple(row for row in rows if agrees[row.config])
    if not kept:
        seen = "; ".join(sorted(config.text for config in agrees))
        raise UserError(f"no row of the table is for {device.name}", (name,), f"its rows are for {seen}")
    return kept


def _agrees(config: Config, device: DeviceModel) -> bool:
    if not config.text:
        return True
    if device.family != NPU_FAMILY:
        hint = f"leave {', '.join(FACTS)} empty for this device"
        raise UserError(f"the row is for an NPU, {device.name} is none", (), f"it names {config.text}", hint)
    named, mine = dict(npu(configured(config, "npu", ())).summary()), dict(device.summary())
    return all(named[f] == mine[f] for column, found in FACTS.items() if getattr(config, column) for f in found)


@dataclass(frozen=True)
class Timed:
    """A measured layer on a device. refused: why the device does not run it; then latency_ps is None."""

    measured: Measured
    latency_ps: float | None
    refused: str = ""


def timed(rows: Sequence[Measured], device: DeviceModel, name: str) -> tuple[Timed, ...]:
    """The rows in ps. Raises UserError, with all lines, for cycles where the device has no clock and for times that
    are too long."""
    from h4hc.measured import MOST

    found: list[Timed] = []
    problems: list[Problem] = []
    for one in rows:
        op, workload, where = one.row.workload.ops[0], one.row.workload, (f"{name}:{one.row.line}",)
        rejected = device_rejection(op, device, workload)
        if rejected is not None:
            found.append(Timed(one, None, f"{rejected.rule} ({rejected.value}) [{rejected.code}]"))
            continue
        hz = device.cost(op, device.modes()[0], workload).clock_hz
        if one.time_ps is None and not hz:
            what = f"{device.name} has no clock in which cycles could be counted"
            problems.append(Problem(what, where, hint="give the times in time_ns, time_us or time_ms"))
        elif one.latency_ps(hz) > MOST:
            problems.append(Problem(f"{one.cycles:g} cycles are too long", where, f"{MOST:g} ps at most, at {hz} Hz"))
        else:
            found.append(Timed(one, one.latency_ps(hz)))
    if problems:
        raise UserError.of(tuple(problems))
    return tuple(found)


def fits(rows: Sequence[Timed], device: DeviceModel) -> tuple[tuple[KindFit, ...], tuple[KindFit, ...]]:
    """Fits of latency and of energy, from rows that the device runs; none where the model's figure is zero."""
    latency, energy = [], []
    for row in rows:
        workload = row.measured.row.workload
        op = workload.ops[0]
        cost = device.cost(op, device.modes()[0], workload)
        if row.latency_ps and cost.latency.nominal:
            latency.append(Pair(op.kind, cost.latency.nominal, row.latency_ps))
        if row.measured.energy_pj is not None and cost.energy.nominal:
            energy.append(Pair(op.kind, cost.energy.nominal, row.measured.energy_pj))
    return fit(latency), fit(energy)
