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
from h4hc.calibration import KindFit, Pair, fit, parse_calibration, read_file
from h4hc.cost import device_rejection
from h4hc.costtypes import DeviceModel
from h4hc.diagnostics import Diagnostic
from h4hc.errors import H4hcError, Problem, UserError
from h4hc.sourced_devices import ScaledDevice, Scaling, TableDevice, VendorCosts, VendorDevice, clock
from h4hc.vendor_names import NPU_FAMILY, Config, configured, npu
from h4hc.workload import Workload

if TYPE_CHECKING:
    from h4hc.measured import Measured

MODEL, VENDOR = "model", "vela"
OPTION = "npu-cost"
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
        wrapped = {d.name: make(d, path, data) for d in npus}
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


def _calibrated(device: DeviceModel, path: Path, data: bytes) -> DeviceModel:
    found = parse_calibration(data, path.name)
    return ScaledDevice(device, Scaling(found.latency_of, found.energy_of, found.source == "measured"))


def _from_table(device: DeviceModel, path: Path, data: bytes) -> DeviceModel:
    from h4hc.measured import read_measured

    rows = applying(read_measured(path), device, path.name)
    latency, energy = fits(rows, device)
    scaling = Scaling({f.kind: f for f in latency}, {f.kind: f for f in energy}, measured=True)
    return TableDevice(device, scaling, {row.key: row for row in rows})


def applying(rows: Sequence[Measured], device: DeviceModel, name: str) -> tuple[Measured, ...]:
    """Rows that name no configuration, or that of the device.

    Raises UserError for configurations that nobody knows, with their lines, when no row is left, and when the
    rows left contradict each other.
    """
    from h4hc.measured import contradictions

    mine = dict(device.summary())
    agrees: dict[Config, bool] = {}
    problems: list[Problem] = []
    for row in rows:
        config = _config(row)
        if config in agrees:
            continue
        try:
            named = dict(npu(configured(config, "npu", ())).summary()) if config.text else mine
        except H4hcError as error:
            problems += [replace(p, where=(f"{name}:{row.row.line}", *p.where)) for p in error.problems]
            named = mine
        facts = [fact for column, found in FACTS.items() if getattr(config, column) for fact in found]
        agrees[config] = all(named[fact] == mine[fact] for fact in facts)
    if problems:
        raise UserError.of(tuple(problems))
    kept = tuple(row for row in rows if agrees[_config(row)])
    if not kept:
        seen = "; ".join(sorted(config.text for config in agrees))
        raise UserError(f"no row of the table is for {device.name}", (name,), f"its rows are for {seen}")
    problems = contradictions(kept, name, one_npu=True)
    if problems:
        raise UserError.of(tuple(problems))
    return kept


def _config(row: Measured) -> Config:
    return Config(row.row.accel, row.row.sysconf, row.row.memmode)


def fits(rows: Sequence[Measured], device: DeviceModel) -> tuple[tuple[KindFit, ...], tuple[KindFit, ...]]:
    """Fits of latency and of energy, from the rows that the device runs."""
    latency, energy = [], []
    for row in rows:
        op, workload = row.row.workload.ops[0], row.row.workload
        if device_rejection(op, device, workload) is not None:
            continue
        cost = device.cost(op, device.modes()[0], workload)
        latency.append(Pair(op.kind, cost.latency.nominal, row.latency_ps(clock(cost))))
        if row.energy_pj is not None and cost.energy.nominal:
            energy.append(Pair(op.kind, cost.energy.nominal, row.energy_pj))
    return fit(latency), fit(energy)
